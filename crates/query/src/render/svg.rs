//! A flame graph as a picture that stands on its own.

use std::fmt::Write;

use scoria_model::ProfileType;

use super::flamegraph::Flamegraph;
use super::units::{percentage, scaled};

const WIDTH: f64 = 1200.0;
const ROW: f64 = 17.0;
const HEAD: f64 = 34.0;
const MARGIN: f64 = 8.0;
/// About how wide a character of the labels is.
const CHARACTER: f64 = 6.6;
/// Narrower bars are not drawn.
const NARROWEST: f64 = 0.3;

/// Draws a flame graph, root on top; each bar says its name and value when pointed at.
pub fn svg(graph: &Flamegraph, kind: &ProfileType, title: &str) -> String {
    let height = HEAD + ROW * graph.levels.len() as f64 + MARGIN;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"ui-monospace,Menlo,Consolas,monospace\" font-size=\"11\">\n\
         <style>g:hover rect{{stroke:#222;stroke-width:1}}text{{pointer-events:none}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fffdf9\"/>\n\
         <text x=\"{MARGIN}\" y=\"21\" font-size=\"14\" fill=\"#222\">{} ({})</text>\n",
        escape(title),
        scaled(graph.total, &kind.sample_unit),
    );
    let scale = (WIDTH - 2.0 * MARGIN) / graph.total.max(1) as f64;
    for (depth, level) in graph.levels.iter().enumerate() {
        let mut end = 0i64;
        for bar in level.chunks_exact(4) {
            let x = end.saturating_add(bar[0]);
            end = x.saturating_add(bar[1]);
            let name = usize::try_from(bar[3])
                .ok()
                .and_then(|at| graph.names.get(at));
            let place = Place {
                x: MARGIN + x as f64 * scale,
                y: HEAD + ROW * depth as f64,
                width: bar[1] as f64 * scale,
            };
            let value = format!(
                "{} ({})",
                scaled(bar[1], &kind.sample_unit),
                percentage(bar[1], graph.total)
            );
            draw(&mut out, &place, name.map_or("", String::as_str), &value);
        }
    }
    out.push_str("</svg>\n");
    out
}

struct Place {
    x: f64,
    y: f64,
    width: f64,
}

fn draw(out: &mut String, place: &Place, name: &str, value: &str) {
    let Place { x, y, width } = place;
    if *width < NARROWEST {
        return;
    }
    let _ = write!(
        out,
        "<g><title>{}: {value}</title><rect x=\"{x:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" rx=\"1.5\" fill=\"{}\"/>",
        escape(name),
        (width - 0.5).max(NARROWEST),
        ROW - 1.0,
        color(name),
    );
    let room = (width / CHARACTER) as usize;
    if room >= 4 {
        let shown: String = if name.chars().count() < room {
            name.to_owned()
        } else {
            name.chars()
                .take(room - 2)
                .chain(std::iter::once('\u{2026}'))
                .collect()
        };
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#2b1a0e\">{}</text>",
            x + 3.0,
            y + 12.0,
            escape(&shown)
        );
    }
    out.push_str("</g>\n");
}

/// A warm colour that belongs to the package of a function, so that neighbours can be told apart.
fn color(name: &str) -> String {
    if matches!(name, "total" | "other") {
        return "#d9d4cc".to_owned();
    }
    let package = name.rsplit_once('.').map_or(name, |(package, _)| package);
    let hash = |text: &str, seed: u32| {
        text.bytes()
            .fold(seed, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
    };
    let hue = 8 + hash(package, 0x811c_9dc5) % 44;
    let light = 62 + hash(name, 0x811c_9dc5) % 14;
    format!("hsl({hue},85%,{light}%)")
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // XML has no way to write the others.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::TreePartial;
    use crate::render::flamegraph;

    #[test]
    fn bars_have_titles_and_names_are_escaped() {
        let tree = TreePartial::from_folded([("main;std::vec<int>", 3), ("main", 1)]);
        let kind: ProfileType = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
            .parse()
            .unwrap();
        let text = svg(&flamegraph(&tree, 0), &kind, "cpu of <api>");
        assert!(text.contains("<title>std::vec&lt;int&gt;: 3ns (75.00%)</title>"));
        assert!(text.contains("cpu of &lt;api&gt; (4ns)"));
        assert_eq!(text.matches("<g>").count(), 3);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
    }
}
