//! Memory that drawing takes beside what is drawn, so that it can be asked for before.
//!
//! Each figure is what is held at the peak at most, roughly: the answer as values, its making, and
//! its encodings up to the text that is sent. `tests/memory.rs`, and for messages that of the
//! server, hold them to what the allocator says.
//!
//! # What it must not know
//! Whose memory it is, and who waits for it.

use scoria_model::part::NONE;
use scoria_model::{Label, Labels};

use super::dot::nodes_shown;
use super::series::ValuePoint;
use crate::merge::{
    Exemplar, LabelsPartial, Point, ProfilePartial, SeriesPartial, SortedTexts, TreePartial,
    ValuesPartial,
};
use crate::request::Cells;
use crate::scan::Exemplars;

/// A string of its own: where it is, and what the allocator rounds up.
const TEXT: u64 = 40;
/// Text in JSON, quoted, while the buffer that it is written to grows.
const JSON: u64 = 3;

/// A node among its siblings, and on the way of a walk.
const CHILD: u64 = 36;

/// What there is of a tree's names.
struct Names {
    n: u64,
    bytes: u64,
}

impl Names {
    fn of(tree: &TreePartial) -> Self {
        Self {
            n: tree.names().len() as u64,
            bytes: tree.names().text_bytes() as u64,
        }
    }

    /// Copies of them as values, as a message there and back, and as text.
    fn in_all_forms(&self) -> u64 {
        (3 * TEXT + 4 * JSON) * self.n + (4 + JSON) * self.bytes
    }

    /// Their order, where siblings stand in it.
    const fn sorted(&self) -> u64 {
        8 * self.n
    }
}

/// Of a tree's nodes the `max_nodes` largest (0 = all), and the tree of these.
pub fn cutting(tree: &TreePartial, max_nodes: usize) -> u64 {
    /// A node that stays: while the largest are looked for, and in the tree that is made.
    const KEPT: u64 = 120;
    if max_nodes == 0 || tree.len() <= max_nodes {
        return 0;
    }
    let all = tree.len() as u64;
    // A total for each, and a mark.
    9 * all + KEPT * all.min(max_nodes as u64) + 2 * tree.names().bytes()
}

/// A flame graph of all nodes of a tree.
pub fn flamegraph(cut: &TreePartial) -> u64 {
    /// Values, children, levels; then four numbers as a message there and back and as text.
    const BAR: u64 = 280;
    let names = Names::of(cut);
    BAR * cut.len() as u64 + names.in_all_forms() + names.sorted()
}

/// A difference of two trees that were cut, in one of which all nodes of both may stand.
pub fn diff(left: &TreePartial, right: &TreePartial) -> u64 {
    /// The united tree, cut once more, and its bars, which have seven numbers each.
    const BAR: u64 = 440;
    [left, right]
        .map(|tree| {
            let names = Names::of(tree);
            // Only these are united.
            BAR * tree.used().len() as u64 + 2 * names.in_all_forms() + names.sorted()
        })
        .iter()
        .sum()
}

/// A tree as bytes, in which each node repeats its name.
pub fn tree_bytes(cut: &TreePartial) -> u64 {
    /// Total, children, lengths and value.
    const NODE: u64 = 8 + CHILD;
    /// The bytes while they grow, as a message, and as text in JSON.
    const FORMS: u64 = 3 + 1 + 2 * JSON;
    /// Beside its name.
    const WRITTEN: u64 = 8;
    let written: u64 = cut.name_ids()[1..]
        .iter()
        .map(|&name| WRITTEN + cut.names().get(name).len() as u64)
        .sum();
    NODE * cut.len() as u64 + FORMS * written + Names::of(cut).sorted()
}

/// The table of all functions of a tree, as values and as text.
pub fn top(tree: &TreePartial) -> u64 {
    /// Names and figures of a row, on the path or not, and its text beside the name.
    const ROW: u64 = TEXT + 24 + 64 * JSON;
    let names = Names::of(tree);
    walked(tree) + ROW * names.n + (1 + JSON) * names.bytes + names.sorted()
}

/// A walk over all nodes with a value.
fn walked(tree: &TreePartial) -> u64 {
    (8 + CHILD) * tree.len() as u64
}

/// A call graph of the `max_nodes` largest functions.
pub fn dot(tree: &TreePartial, max_nodes: usize) -> u64 {
    /// A function, or a call, as text beside its names, and what is known of it.
    const ENTRY: u64 = 400;
    /// The text while it grows, as a message and in JSON.
    const FORMS: u64 = 3 + 2 + JSON;
    let names = Names::of(tree);
    let shown = names.n.min(nodes_shown(max_nodes) as u64);
    // Each node below another function is one call at most.
    let calls = tree
        .parents()
        .iter()
        .filter(|&&above| above != 0 && above != NONE);
    let entries = shown + shown.saturating_mul(shown).min(calls.count() as u64);
    let named = 4 * names.bytes / names.n.max(1);
    let rows = (TEXT + 40) * names.n + names.bytes + names.sorted();
    walked(tree) + rows + FORMS * entries * (ENTRY / 4 + named)
}

/// A profile as the bytes of its message, cut to `max_nodes` (0 = all); [`pprof_in_json`] comes on
/// top.
pub fn pprof(profile: &ProfilePartial, max_nodes: usize) -> u64 {
    /// Totals, where each node is cut to, and what was cut.
    const NODE: u64 = 24;
    /// A stacktrace on its way, and a sample as bytes that grow and are copied.
    const STACK: u64 = 140;
    /// A frame of it, and its location's id.
    const FRAME: u64 = 20;
    /// Tables as values and as bytes that grow and are copied.
    const SYMBOLS: u64 = 5;
    let nodes = profile.own().len() as u64;
    let (mut stacks, mut frames) = stacks_of(profile);
    if max_nodes > 0 {
        let shown = stacks.min(max_nodes as u64);
        frames = frames / stacks.max(1) * shown;
        stacks = shown;
    }
    NODE * nodes + STACK * stacks + FRAME * frames + SYMBOLS * profile.symbols().bytes()
}

/// The message and the text that the bytes of a profile become for those who read JSON.
pub fn pprof_in_json(bytes: u64) -> u64 {
    /// A sample of one frame is 12 bytes; its lists, as values, and its numbers, quoted, are 300.
    const TIMES: u64 = 27;
    TIMES * bytes
}

/// Stacktraces with a value, and their frames together.
fn stacks_of(profile: &ProfilePartial) -> (u64, u64) {
    let (mut stacks, mut frames) = (0, 0);
    let mut depth: Vec<u32> = Vec::with_capacity(profile.own().len());
    for ((parent, _), &own) in profile.symbols().nodes().zip(profile.own()) {
        let above = match parent {
            NONE => 0,
            parent => depth.get(parent as usize).map_or(0, |above| above + 1),
        };
        depth.push(above);
        if own != 0 {
            stacks += 1;
            frames += u64::from(above);
        }
    }
    (stacks, frames)
}

/// A label as a message and as text; as a value it is shared with the data.
fn label(label: &Label) -> u64 {
    /// Two texts, and what JSON writes around them.
    const PAIR: u64 = 2 * TEXT + 26 * JSON;
    PAIR + (2 + JSON) * (label.name.len() + label.value.len()) as u64
}

fn pairs<'a>(labels: impl IntoIterator<Item = &'a Label>) -> u64 {
    labels.into_iter().map(label).sum()
}

/// A profile or a span that stands for a point or a cell.
fn exemplar(labels: &Labels) -> u64 {
    /// As a value, and as a message with three ids.
    const VALUES: u64 = size_of::<Exemplar>() as u64 + 320;
    /// Its ids and numbers by their names.
    const WRITTEN: u64 = 220;
    VALUES + JSON * WRITTEN + pairs(labels)
}

/// Points over time.
pub fn series(partial: &SeriesPartial) -> u64 {
    /// As a value, as a message and as text.
    const POINT: u64 = size_of::<ValuePoint>() as u64 + 110 + 64 * JSON;
    /// That profiles were sampled out, in words.
    const NOTE: u64 = 360 + 260 * JSON;
    const SERIES: u64 = 200;
    let point = |point: &Point| {
        let exemplar = point.exemplar.as_ref().map_or(0, |e| exemplar(&e.labels));
        let note = if point.n_stripped > 0 { NOTE } else { 0 };
        POINT + exemplar + note
    };
    let groups = partial.groups.iter().map(|(labels, points)| {
        let points: u64 = points.values().map(point).sum();
        SERIES + pairs(labels) + points
    });
    groups.sum()
}

/// Columns of a heatmap: no more than there are values, or columns in the range.
pub fn heatmap(partial: &ValuesPartial, cells: &Cells) -> u64 {
    const ROWS: u64 = 20;
    /// Edge and count of a cell as values and as text, and its largest value while it is looked for.
    const CELL: u64 = 8 + 4 + 28 * JSON + 96;
    const COLUMN: u64 = ROWS * CELL + 320;
    const SERIES: u64 = 200;
    let length = cells.scan.range.end_ms.saturating_sub(cells.first_ms);
    let columns = 2 + length.max(0) as u64 / cells.step_ms.max(1) as u64;
    let groups = partial.groups.iter().map(|(labels, values)| {
        let n = values.len() as u64;
        let columns = n.min(columns);
        let exemplars = match cells.exemplars {
            Exemplars::None => 0,
            // Any of them may be the largest of its cell.
            _ => {
                let largest = values.values().map(|value| exemplar(&value.labels)).max();
                n.min(ROWS * columns) * largest.unwrap_or_default()
            }
        };
        SERIES + pairs(labels) + COLUMN * columns + exemplars
    });
    groups.sum()
}

/// Names, values or label sets.
pub fn labels(partial: &LabelsPartial) -> u64 {
    /// As values, as a message and as text.
    const FORMS: u64 = 2 + JSON;
    const SET: u64 = 64 + 12 * JSON;
    let texts = partial.texts.len() as u64;
    let sets = partial.sets.iter().map(|set| SET + pairs(set));
    FORMS * partial.texts.bytes() + 3 * TEXT * texts + sets.sum::<u64>()
}

/// Profile types, told as six texts each, beside [`labels`] of their ids.
pub fn profile_types(ids: &SortedTexts) -> u64 {
    /// Five texts as a value, six as a message, and their names in JSON.
    const KIND: u64 = 11 * TEXT + 100 * JSON;
    KIND * ids.len() as u64 + (1 + 2 + 2 * JSON) * ids.bytes()
}
