//! The JSON of `/pyroscope/render` and `/pyroscope/render-diff`: plain numbers, not the strings
//! that the JSON of Connect has.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use scoria_model::{ProfileType, TimeRange};

use super::{Flamegraph, FlamegraphDiff, SeriesPoints};
use crate::timeline::Timeline;

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub enum Graph<'a> {
    Single(&'a Flamegraph),
    Double(&'a FlamegraphDiff),
}

/// The key of profiles that lack the first label of `groupBy`.
const NO_GROUP: &str = "*";

/// Timelines beside a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timelines {
    /// All profiles together.
    pub all: Timeline,
    /// By the value of the first label of `groupBy`, if there is one.
    pub groups: Option<BTreeMap<Arc<str>, Timeline>>,
}

impl Timelines {
    /// Of the series of a query that was grouped by `group_by`: the timeline of all is filled only
    /// if there is exactly one series.
    pub fn of(series: &[SeriesPoints], group_by: &[String], range: TimeRange, step_s: i64) -> Self {
        let all = match series {
            [one] => Timeline::of(one, range, step_s),
            _ => Timeline::empty(range, step_s),
        };
        let groups = group_by.first().map(|by| {
            let mut groups: BTreeMap<Arc<str>, Timeline> = BTreeMap::new();
            for one in series {
                let label = one.labels.iter().find(|label| *label.name == **by);
                let key = label.map_or_else(|| Arc::from(NO_GROUP), |l| Arc::clone(&l.value));
                let timeline = Timeline::of(one, range, step_s);
                match groups.get_mut(&key) {
                    None => {
                        groups.insert(key, timeline);
                    }
                    // Further labels of `groupBy` split a value into several series.
                    Some(sum) => {
                        for (into, value) in sum.samples.iter_mut().zip(timeline.samples) {
                            *into = into.saturating_add(value);
                        }
                    }
                }
            }
            groups
        });
        Self { all, groups }
    }
}

/// Writes the reply.
pub fn json(graph: Graph<'_>, kind: &ProfileType, timelines: Option<&Timelines>) -> String {
    let mut out = String::from("{\"version\":1,\"flamebearer\":{\"names\":[");
    let (names, levels, total, max_self, format) = match graph {
        Graph::Single(g) => (&g.names, &g.levels, g.total, g.max_self, "single"),
        Graph::Double(g) => (&g.names, &g.levels, g.total, g.max_self, "double"),
    };
    list(&mut out, names, |out, name| text(out, name));
    out.push_str("],\"levels\":[");
    list(&mut out, levels, |out, level| {
        out.push('[');
        list(out, level, number);
        out.push(']');
    });
    let (units, rate) = units(kind);
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "],\"numTicks\":{total},\"maxSelf\":{max_self}}},\"metadata\":{{\"format\":\"{format}\",\"spyName\":\"\",\"sampleRate\":{rate},\"units\":"
    );
    text(&mut out, units);
    out.push_str(",\"name\":");
    text(&mut out, &kind.sample_type);
    out.push_str("},\"timeline\":");
    match timelines {
        None => out.push_str("null"),
        Some(timelines) => timeline(&mut out, &timelines.all),
    }
    out.push_str(",\"groups\":");
    match timelines.and_then(|timelines| timelines.groups.as_ref()) {
        None => out.push_str("null"),
        Some(groups) => {
            out.push('{');
            list(&mut out, groups, |out, (key, group)| {
                text(out, key);
                out.push(':');
                timeline(out, group);
            });
            out.push('}');
        }
    }
    out.push_str(",\"heatmap\":null");
    if let Graph::Double(diff) = graph {
        let _ = write!(
            out,
            ",\"leftTicks\":{},\"rightTicks\":{}",
            diff.left_ticks, diff.right_ticks
        );
    }
    out.push('}');
    out
}

/// What a viewer makes of the values, and by what it divides them.
fn units(kind: &ProfileType) -> (&str, u64) {
    match &*kind.sample_type {
        "inuse_objects" | "alloc_objects" | "goroutine" | "samples" => ("objects", 100),
        "cpu" => ("samples", 1_000_000_000),
        _ => (&kind.sample_unit, 100),
    }
}

fn timeline(out: &mut String, timeline: &Timeline) {
    let _ = write!(out, "{{\"startTime\":{},\"samples\":[", timeline.start_s);
    list(out, &timeline.samples, number);
    let _ = write!(
        out,
        "],\"durationDelta\":{},\"watermarks\":null}}",
        timeline.step_s
    );
}

fn list<T>(out: &mut String, items: impl IntoIterator<Item = T>, write: impl Fn(&mut String, T)) {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, item);
    }
}

fn number(out: &mut String, number: impl std::fmt::Display) {
    let _ = write!(out, "{number}");
}

/// A JSON string, safe inside an HTML page as well.
fn text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use scoria_model::Label;

    use super::*;
    use crate::merge::TreePartial;
    use crate::render::{ValuePoint, diff, flamegraph};

    fn kind() -> ProfileType {
        "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
            .parse()
            .unwrap()
    }

    fn one(pod: Option<&str>, value: f64) -> SeriesPoints {
        let label = |value: &str| Label {
            name: Arc::from("pod"),
            value: Arc::from(value),
        };
        SeriesPoints {
            labels: pod.map(label).into_iter().collect(),
            points: vec![ValuePoint {
                timestamp_ms: 15_000,
                value,
                n_stripped: 0,
                exemplar: None,
            }],
        }
    }

    const RANGE: TimeRange = TimeRange {
        start_ms: 1000,
        end_ms: 20_000,
    };

    #[test]
    fn a_single_graph() {
        let tree = TreePartial::from_folded([("a\"<b", 2)]);
        let timelines = Timelines::of(&[one(None, 7.0)], &[], RANGE, 15);
        let json = json(
            Graph::Single(&flamegraph(&tree, 0)),
            &kind(),
            Some(&timelines),
        );
        assert_eq!(
            json,
            concat!(
                r#"{"version":1,"flamebearer":{"names":["total","a\"\u003cb"],"levels":[[0,2,0,0],[0,2,2,1]],"#,
                r#""numTicks":2,"maxSelf":2},"metadata":{"format":"single","spyName":"","sampleRate":1000000000,"#,
                r#""units":"samples","name":"cpu"},"timeline":{"startTime":0,"samples":[0,7],"durationDelta":15,"#,
                r#""watermarks":null},"groups":null,"heatmap":null}"#
            )
        );
    }

    #[test]
    fn groups_by_the_first_label_only() {
        let series = [one(Some("x"), 1.0), one(Some("x"), 2.0), one(None, 4.0)];
        let timelines = Timelines::of(&series, &["pod".to_owned()], RANGE, 15);
        assert_eq!(timelines.all.samples, [0, 0]);
        let groups = timelines.groups.unwrap();
        let found: Vec<(&str, u64)> = groups.iter().map(|(k, t)| (&**k, t.samples[1])).collect();
        assert_eq!(found, [("*", 4), ("x", 3)]);
    }

    #[test]
    fn a_double_graph_has_ticks_and_no_timeline() {
        let tree = TreePartial::from_folded([("a", 2)]);
        let both = diff(&tree, &TreePartial::default(), 0).unwrap();
        let json = json(Graph::Double(&both), &kind(), None);
        assert!(json.contains(r#""timeline":null,"groups":null"#), "{json}");
        assert!(json.ends_with(r#""leftTicks":2,"rightTicks":0}"#), "{json}");
    }
}
