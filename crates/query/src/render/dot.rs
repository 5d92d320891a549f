//! Call graphs as Graphviz text, in the style of `go tool pprof -dot`, which clients take apart
//! with patterns.

use std::collections::BTreeMap;
use std::fmt::Write;

use scoria_model::ProfileType;
use scoria_model::part::NONE;

use super::top::{Step, TopRow, walk};
use super::units::{percentage, scaled};
use crate::merge::TreePartial;

/// Functions that a graph shows when the request names no number.
const NODES_DEFAULT: usize = 100;

/// How many functions a graph shows at most.
pub(super) const fn nodes_shown(max_nodes: usize) -> usize {
    match max_nodes {
        0 => NODES_DEFAULT,
        most => most,
    }
}

/// The functions and calls of a tree that was not cut: the `max_nodes` functions (0 = 100) with
/// the largest totals. Calls through functions that are left out are dotted. A tree without values
/// is an empty text.
pub fn dot(tree: &TreePartial, kind: &ProfileType, max_nodes: usize) -> String {
    let max_nodes = nodes_shown(max_nodes);
    let total = tree.total();
    if total == 0 {
        return String::new();
    }
    let mut rows = super::top(tree);
    let n_functions = rows.len();
    rows.sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.name.cmp(&b.name)));
    rows.truncate(max_nodes);
    rows.sort_by(|a, b| {
        let key = |row: &TopRow| (row.own, row.total);
        key(b).cmp(&key(a)).then_with(|| a.name.cmp(&b.name))
    });
    let graph = Graph {
        rows: &rows,
        unit: &kind.sample_unit,
        total,
    };
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = graph.write(&mut out, kind, n_functions, &calls(tree, &rows));
    out
}

/// A call between two shown functions.
#[derive(Debug, Clone, Copy, Default)]
struct Call {
    weight: i64,
    /// Some of it went through functions that are not shown.
    residual: bool,
}

/// Weights of calls by (caller, callee), which index `rows`.
fn calls(tree: &TreePartial, rows: &[TopRow]) -> BTreeMap<(u32, u32), Call> {
    let by_name: BTreeMap<&str, u32> = rows
        .iter()
        .enumerate()
        .map(|(at, row)| (row.name.as_str(), at as u32))
        .collect();
    let row_of: Vec<u32> = tree
        .names()
        .iter()
        .map(|name| by_name.get(name).copied().unwrap_or(NONE))
        .collect();
    let totals = tree.totals();
    let mut found: BTreeMap<(u32, u32), Call> = BTreeMap::new();
    // How often each call is on the path: a stacktrace counts once for each.
    let mut on_path: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    let mut path: Vec<u32> = Vec::new();
    // The nearest shown function on the path, and whether some are left out since.
    let caller = |path: &[u32]| {
        let skipped = path.iter().rev().take_while(|&&row| row == NONE).count();
        let at = path.len().checked_sub(skipped + 1)?;
        Some((path[at], skipped > 0))
    };
    walk(tree, &totals, |step| match step {
        Step::Enter(node) => {
            let row = row_of[tree.name_ids()[node as usize] as usize];
            if let Some((from, skipped)) = caller(&path)
                && row != NONE
                && row != from
            {
                let times = on_path.entry((from, row)).or_default();
                *times += 1;
                if *times == 1 {
                    let call = found.entry((from, row)).or_default();
                    call.weight = call.weight.saturating_add(totals[node as usize]);
                    call.residual |= skipped;
                }
            }
            path.push(row);
        }
        Step::Leave(_) => {
            let row = path.pop().unwrap_or(NONE);
            if let Some((from, _)) = caller(&path)
                && row != NONE
                && row != from
                && let Some(times) = on_path.get_mut(&(from, row))
            {
                *times -= 1;
            }
        }
    });
    found
}

struct Graph<'a> {
    rows: &'a [TopRow],
    unit: &'a str,
    total: i64,
}

impl Graph<'_> {
    fn write(
        &self,
        out: &mut String,
        kind: &ProfileType,
        n_functions: usize,
        calls: &BTreeMap<(u32, u32), Call>,
    ) -> std::fmt::Result {
        let shown: i64 = self.rows.iter().map(|row| row.own).sum();
        let title = escape(&kind.sample_type);
        out.push_str("digraph \"unnamed\" {\nnode [style=filled fillcolor=\"#f8f8f8\"]\n");
        write!(
            out,
            "subgraph cluster_L {{ \"Type: {title}\" [shape=box fontsize=16 label=\"Type: {title}\\l\
             Showing nodes accounting for {}, {} of {} total\\l",
            scaled(shown, self.unit),
            percentage(shown, self.total),
            scaled(self.total, self.unit),
        )?;
        if n_functions > self.rows.len() {
            write!(
                out,
                "Showing top {} nodes out of {n_functions}\\l",
                self.rows.len()
            )?;
        }
        out.push_str("\" tooltip=\"unnamed\"] }\n");
        for at in 0..self.rows.len() {
            self.node(out, at)?;
        }
        let mut calls: Vec<(&(u32, u32), &Call)> = calls.iter().collect();
        calls.sort_by_key(|(ends, call)| (std::cmp::Reverse(call.weight), **ends));
        for (&ends, &call) in calls {
            self.call(out, ends, call)?;
        }
        out.push_str("}\n");
        Ok(())
    }

    fn node(&self, out: &mut String, at: usize) -> std::fmt::Result {
        let row = &self.rows[at];
        let n = at + 1;
        let largest = self
            .rows
            .iter()
            .map(|row| row.own)
            .max()
            .unwrap_or_default();
        let growth = match largest {
            0 => 0.0,
            largest => (16.0 * (row.own as f64 / largest as f64).sqrt()).ceil(),
        };
        let mut label = String::new();
        write!(label, "{}\\n", lines(&row.name))?;
        let own = scaled(row.own, self.unit);
        match row.own {
            0 => label.push('0'),
            own_value => write!(label, "{own} ({})", percentage(own_value, self.total))?,
        }
        let cumulative = scaled(row.total, self.unit);
        if row.own != row.total {
            label.push_str(if row.own == 0 { " " } else { "\\n" });
            write!(
                label,
                "of {cumulative} ({})",
                percentage(row.total, self.total)
            )?;
        }
        let share = row.total as f64 / self.total as f64;
        writeln!(
            out,
            "N{n} [label=\"{label}\" id=\"node{n}\" fontsize={} shape=box tooltip=\"{} ({cumulative})\" color=\"{}\" fillcolor=\"{}\"]",
            8 + growth as i64,
            escape(&row.name),
            color(share, Ink::Line),
            color(share, Ink::Ground),
        )
    }

    fn call(&self, out: &mut String, (from, to): (u32, u32), call: Call) -> std::fmt::Result {
        let weight = scaled(call.weight, self.unit);
        let share = call.weight as f64 / self.total as f64;
        write!(out, "N{} -> N{} [label=\" {weight}\"", from + 1, to + 1)?;
        let thickness = 1 + (share * 100.0) as i64;
        if thickness > 1 {
            write!(out, " weight={thickness}")?;
        }
        let width = 1 + (share * 5.0) as i64;
        if width > 1 {
            write!(out, " penwidth={width}")?;
        }
        let arrow = if call.residual { "..." } else { "->" };
        let tip = format!(
            "{} {arrow} {} ({weight})",
            escape(&self.rows[from as usize].name),
            escape(&self.rows[to as usize].name),
        );
        write!(
            out,
            " color=\"{}\" tooltip=\"{tip}\" labeltooltip=\"{tip}\"",
            color(share, Ink::Line)
        )?;
        if call.residual {
            out.push_str(" style=\"dotted\"");
        }
        out.push_str("]\n");
        Ok(())
    }
}

/// A function name over several lines, without the path of its package.
fn lines(name: &str) -> String {
    let short = match name.rsplit_once('/') {
        Some((_, last)) if last.contains('.') && !name.starts_with('/') => last,
        _ => name,
    };
    escape(short)
        .replace("::", "\\n")
        .replace("[...]", "[\u{2026}]")
        .replace('.', "\\n")
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\l")
}

/// What a colour is for.
#[derive(Clone, Copy)]
enum Ink {
    Line,
    Ground,
}

/// From grey to red, as pprof paints shares of a total.
fn color(share: f64, ink: Ink) -> String {
    const SHIFT: f64 = 0.7;
    let (mut saturation, value) = match ink {
        Ink::Line => (1.0, 0.7),
        Ink::Ground => (0.1, 0.93),
    };
    let mut share = share.clamp(0.0, 1.0);
    if share < 0.2 {
        saturation *= share / 0.2;
    }
    if share > 0.0 {
        share = share.powf(1.0 - SHIFT);
    }
    let byte = |part: f64| (part * 255.0) as u8;
    format!(
        "#{:02x}{:02x}{:02x}",
        byte(value),
        byte(value * (1.0 - saturation * share)),
        byte(value * (1.0 - saturation)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(stacks: &[(&str, i64)], max_nodes: usize) -> String {
        let kind: ProfileType = "a:b:count:c:d".parse().unwrap();
        dot(
            &TreePartial::from_folded(stacks.iter().copied()),
            &kind,
            max_nodes,
        )
    }

    #[test]
    fn nodes_and_calls_look_as_pprof_writes_them() {
        let text = graph(
            &[
                ("main", 10),
                ("main;x/y.work", 30),
                ("main;x/y.work;leaf", 60),
            ],
            0,
        );
        let expected = [
            "N1 [label=\"leaf\\n60 (60.00%)\" id=\"node1\" fontsize=24 shape=box tooltip=\"leaf (60)\" color=\"#b21900\" fillcolor=\"#edd8d5\"]",
            "N2 [label=\"y\\nwork\\n30 (30.00%)\\nof 90 (90.00%)\" id=\"node2\" fontsize=20 shape=box tooltip=\"x/y.work (90)\" color=\"#b20500\" fillcolor=\"#edd6d5\"]",
            "N3 [label=\"main\\n10 (10.00%)\\nof 100 (100%)\" id=\"node3\" fontsize=15 shape=box tooltip=\"main (100)\" color=\"#b20000\" fillcolor=\"#edd5d5\"]",
            "N3 -> N2 [label=\" 90\" weight=91 penwidth=5 color=\"#b20500\" tooltip=\"main -> x/y.work (90)\" labeltooltip=\"main -> x/y.work (90)\"]",
            "N2 -> N1 [label=\" 60\" weight=61 penwidth=4 color=\"#b21900\" tooltip=\"x/y.work -> leaf (60)\" labeltooltip=\"x/y.work -> leaf (60)\"]",
        ];
        let found: Vec<&str> = text.lines().filter(|line| line.starts_with('N')).collect();
        assert_eq!(found, expected);
        assert!(text.starts_with("digraph \"unnamed\" {\n"));
        assert!(text.ends_with("}\n"));
    }

    #[test]
    fn left_out_functions_make_dotted_calls() {
        let text = graph(&[("a;b;c", 5), ("a;x", 4), ("c", 3)], 2);
        assert!(text.contains("a ... c (5)"), "{text}");
        assert!(text.contains("style=\"dotted\""), "{text}");
        assert!(text.contains("Showing top 2 nodes out of 4"), "{text}");
    }

    #[test]
    fn recursion_is_one_call_and_no_data_is_no_text() {
        let text = graph(&[("a;b;a;b", 5)], 0);
        assert!(text.contains("N2 -> N1 [label=\" 5\""), "{text}");
        assert!(text.contains("N1 -> N2 [label=\" 5\""), "{text}");
        assert_eq!(graph(&[], 0), "");
    }
}
