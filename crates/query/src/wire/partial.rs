//! Partials as bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use scoria_model::part::{Function, Line, Mapping, NONE};
use scoria_model::varint::{Reader, put_bytes, put_i64, put_u64};
use scoria_model::{Label, Labels, ProfileId, Timestamp};
use scoria_symbols::{Strings, SymbolTables};

use super::{VERSION, WireError, check_end, check_version, fixed, index, many, own, text};
use crate::merge::{
    Exemplar, LabelsPartial, Partial, Period, Point, ProfilePartial, SeriesPartial, SortedTexts,
    StatsPartial, Subject, TreeBuilder, TreePartial, Value, ValuesPartial,
};

/// A partial as bytes.
///
/// # Errors
/// [`WireError::Symbols`] if symbols contradict themselves.
pub fn encode_partial(partial: &Partial) -> Result<Vec<u8>, WireError> {
    let mut out = vec![VERSION];
    match partial {
        Partial::Labels(labels) => {
            out.push(0);
            put_u64(&mut out, labels.texts.len() as u64);
            for text in labels.texts.iter() {
                put_bytes(&mut out, text.as_bytes());
            }
            put_u64(&mut out, labels.sets.len() as u64);
            labels
                .sets
                .iter()
                .for_each(|set| put_labels(&mut out, set.iter()));
        }
        Partial::Tree(tree) => {
            out.push(1);
            put_tree(&mut out, tree);
        }
        Partial::Profile(profile) => {
            out.push(2);
            // Heads lend all their symbols; only those in use travel.
            put_profile(&mut out, &profile.compacted()?);
        }
        Partial::Series(series) => {
            out.push(3);
            put_series(&mut out, series);
        }
        Partial::Values(values) => {
            out.push(5);
            put_values(&mut out, values);
        }
        Partial::Stats(stats) => {
            out.push(4);
            match stats.times {
                None => out.push(0),
                Some((oldest, newest)) => {
                    out.push(1);
                    put_i64(&mut out, oldest.0);
                    put_i64(&mut out, newest.0);
                }
            }
        }
    }
    Ok(out)
}

/// The partial that [`encode_partial`] wrote.
///
/// # Errors
/// See [`WireError`].
pub fn decode_partial(bytes: &[u8]) -> Result<Partial, WireError> {
    let mut from = Reader::new(bytes);
    check_version(&mut from)?;
    let partial = match from.u8()? {
        0 => Partial::Labels(LabelsPartial {
            texts: SortedTexts::of(many(&mut from, |r| text(r, "a label"))?),
            sets: many(&mut from, label_set)?.into_iter().collect(),
        }),
        1 => Partial::Tree(tree(&mut from)?),
        2 => Partial::Profile(profile(&mut from)?),
        3 => Partial::Series(series(&mut from)?),
        4 => Partial::Stats(StatsPartial {
            times: match from.u8()? {
                0 => None,
                _ => Some((Timestamp(from.i64()?), Timestamp(from.i64()?))),
            },
        }),
        5 => Partial::Values(values(&mut from)?),
        actual => {
            return Err(WireError::Kind {
                what: "partial",
                actual: u64::from(actual),
            });
        }
    };
    check_end(&from)?;
    Ok(partial)
}

fn put_labels<'a>(out: &mut Vec<u8>, labels: impl ExactSizeIterator<Item = &'a Label>) {
    put_u64(out, labels.len() as u64);
    for label in labels {
        put_bytes(out, label.name.as_bytes());
        put_bytes(out, label.value.as_bytes());
    }
}

fn labels(from: &mut Reader<'_>) -> Result<Vec<Label>, WireError> {
    many(from, |r| {
        Ok(Label {
            name: Arc::from(text(r, "a label name")?),
            value: Arc::from(text(r, "a label value")?),
        })
    })
}

/// The nodes of a tree that are used, and their names.
fn put_tree(out: &mut Vec<u8>, tree: &TreePartial) {
    let used = tree.used().numbered();
    let nodes = || (1..tree.len()).filter(|&at| used.contains(at));
    let mut new_name = vec![NONE; tree.names().len()];
    let mut names = Vec::new();
    for at in nodes() {
        let name = tree.name_ids()[at];
        if new_name[name as usize] == NONE {
            new_name[name as usize] = names.len() as u32;
            names.push(name);
        }
    }
    put_u64(out, names.len() as u64);
    for name in names {
        put_bytes(out, tree.names().get(name).as_bytes());
    }
    put_i64(out, tree.own()[0]);
    put_u64(out, used.len() as u64 - 1);
    for (at, number) in nodes().zip(1u64..) {
        let parent = used.number(tree.parents()[at]);
        put_u64(out, number - u64::from(parent) - 1);
        put_u64(out, u64::from(new_name[tree.name_ids()[at] as usize]));
        put_i64(out, tree.own()[at]);
    }
}

fn tree(from: &mut Reader<'_>) -> Result<TreePartial, WireError> {
    let mut tree = TreeBuilder::default();
    for at in 0..from.count()? {
        if tree.names.intern(text(from, "a function name")?) as usize != at {
            let what = "the function name";
            return Err(WireError::Repeated { what, at });
        }
    }
    tree.own[0] = own(from, 0)?;
    for at in 1..=from.count()? {
        let parent = at as u32 - 1 - index(from, ("the parent of node", at), at)?;
        let name = index(from, ("the name of node", at), tree.names.len())?;
        let own = own(from, at)?;
        tree.push(parent, name, own);
    }
    Ok(tree.finish())
}

fn put_profile(out: &mut Vec<u8>, profile: &ProfilePartial) {
    let tables = profile.symbols().to_tables();
    let optional = |id: u32| u64::from(id.wrapping_add(1));
    put_u64(out, tables.strings.len() as u64);
    (0..tables.strings.len() as u32).for_each(|id| put_bytes(out, tables.strings.get(id)));
    put_u64(out, tables.mappings.len() as u64);
    for m in &tables.mappings {
        for n in [m.start, m.limit, m.offset] {
            put_u64(out, n);
        }
        for n in [m.filename, m.build_id, m.flags] {
            put_u64(out, u64::from(n));
        }
    }
    put_u64(out, tables.functions.len() as u64);
    for f in &tables.functions {
        for n in [f.name, f.system_name, f.filename] {
            put_u64(out, u64::from(n));
        }
        put_i64(out, f.start_line);
    }
    put_u64(out, tables.location_mapping.len() as u64);
    let mut start = 0;
    for at in 0..tables.location_mapping.len() {
        put_u64(out, optional(tables.location_mapping[at]));
        put_u64(out, tables.location_address[at]);
        let end = tables.location_lines_end[at] as usize;
        put_u64(out, (end - start) as u64);
        for line in &tables.lines[start..end] {
            put_u64(out, optional(line.function));
            put_i64(out, line.line);
        }
        start = end;
    }
    put_u64(out, tables.node_parent.len() as u64 - 1);
    for at in 1..tables.node_parent.len() {
        put_u64(out, at as u64 - u64::from(tables.node_parent[at]) - 1);
        put_u64(out, u64::from(tables.node_location[at]));
        put_i64(out, profile.own()[at]);
    }
    put_i64(out, profile.own()[0]);
    match profile.period() {
        Period::Unknown => out.push(0),
        Period::Known(period) => {
            out.push(1);
            put_i64(out, period);
        }
        Period::Mixed => out.push(2),
    }
}

fn profile(from: &mut Reader<'_>) -> Result<ProfilePartial, WireError> {
    let mut tables = SymbolTables {
        strings: Strings::default(),
        ..SymbolTables::default()
    };
    for _ in 0..from.count()? {
        tables.strings.push(text(from, "a string")?);
    }
    for _ in 0..from.count()? {
        tables.mappings.push(Mapping {
            start: from.u64()?,
            limit: from.u64()?,
            offset: from.u64()?,
            filename: from.u32()?,
            build_id: from.u32()?,
            flags: from.u32()?,
        });
    }
    for _ in 0..from.count()? {
        tables.functions.push(Function {
            name: from.u32()?,
            system_name: from.u32()?,
            filename: from.u32()?,
            start_line: from.i64()?,
        });
    }
    for _ in 0..from.count()? {
        location(from, &mut tables)?;
    }
    let mut values = vec![0];
    for at in 1..=from.count()? {
        let parent = at as u32 - 1 - index(from, ("the parent of node", at), at)?;
        tables.node_parent.push(parent);
        tables.node_location.push(from.u32()?);
        values.push(own(from, at)?);
    }
    values[0] = own(from, 0)?;
    let period = match from.u8()? {
        0 => Period::Unknown,
        1 => Period::Known(from.i64()?),
        _ => Period::Mixed,
    };
    // Every other reference is checked where symbols are made of tables.
    Ok(ProfilePartial::from_tables(tables, values, period)?)
}

fn location(from: &mut Reader<'_>, tables: &mut SymbolTables) -> Result<(), WireError> {
    let optional = |id: u32| id.checked_sub(1).unwrap_or(NONE);
    tables.location_mapping.push(optional(from.u32()?));
    tables.location_address.push(from.u64()?);
    for _ in 0..from.count()? {
        tables.lines.push(Line {
            function: optional(from.u32()?),
            line: from.i64()?,
        });
    }
    tables.location_lines_end.push(tables.lines.len() as u32);
    Ok(())
}

fn put_series(out: &mut Vec<u8>, series: &SeriesPartial) {
    put_u64(out, series.groups.len() as u64);
    for (key, points) in &series.groups {
        put_labels(out, key.iter());
        put_u64(out, points.len() as u64);
        let mut last = 0i64;
        for (&edge, point) in points {
            put_i64(out, edge.wrapping_sub(last));
            last = edge;
            put_i64(out, point.sum);
            put_u64(out, point.n);
            put_u64(out, point.n_stripped);
            match &point.exemplar {
                None => out.push(0),
                Some(exemplar) => {
                    put_subject(out, exemplar.of);
                    put_i64(out, exemplar.time_ms);
                    put_i64(out, exemplar.value);
                    put_labels(out, exemplar.labels.iter());
                }
            }
        }
    }
}

fn series(from: &mut Reader<'_>) -> Result<SeriesPartial, WireError> {
    let mut series = SeriesPartial::default();
    for _ in 0..from.count()? {
        let key = labels(from)?;
        let mut points = BTreeMap::new();
        let mut edge = 0i64;
        for _ in 0..from.count()? {
            edge = edge.wrapping_add(from.i64()?);
            points.insert(
                edge,
                Point {
                    sum: from.i64()?,
                    n: from.u64()?,
                    n_stripped: from.u64()?,
                    exemplar: exemplar(from)?,
                },
            );
        }
        series.groups.insert(key, points);
    }
    Ok(series)
}

fn exemplar(from: &mut Reader<'_>) -> Result<Option<Exemplar>, WireError> {
    let Some(of) = subject(from)? else {
        return Ok(None);
    };
    Ok(Some(Exemplar {
        of,
        time_ms: from.i64()?,
        value: from.i64()?,
        labels: label_set(from)?,
    }))
}

/// 1 and a profile's id, or 2 and the ids of span and trace.
fn put_subject(out: &mut Vec<u8>, subject: Subject) {
    match subject {
        Subject::Profile(profile) => {
            out.push(1);
            out.extend_from_slice(&profile.0.to_le_bytes());
        }
        Subject::Span { span, trace } => {
            out.push(2);
            out.extend_from_slice(&span.to_le_bytes());
            out.extend_from_slice(&trace);
        }
    }
}

/// As [`put_subject`] wrote it; 0 stands for none.
fn subject(from: &mut Reader<'_>) -> Result<Option<Subject>, WireError> {
    match from.u8()? {
        0 => Ok(None),
        1 => {
            let id = ProfileId(u128::from_le_bytes(fixed(from)?));
            Ok(Some(Subject::Profile(id)))
        }
        2 => Ok(Some(Subject::Span {
            span: u64::from_le_bytes(fixed(from)?),
            trace: fixed(from)?,
        })),
        actual => Err(WireError::Kind {
            what: "subject",
            actual: u64::from(actual),
        }),
    }
}

fn put_values(out: &mut Vec<u8>, values: &ValuesPartial) {
    put_u64(out, values.groups.len() as u64);
    for (key, values) in &values.groups {
        put_labels(out, key.iter());
        // Many values have the same few label sets.
        let mut sets: Vec<&Labels> = values.values().map(|value| &value.labels).collect();
        sets.sort_unstable();
        sets.dedup();
        put_u64(out, sets.len() as u64);
        sets.iter().for_each(|set| put_labels(out, set.iter()));
        put_u64(out, values.len() as u64);
        let mut last = 0i64;
        for (&(time_ms, of), value) in values {
            put_subject(out, of);
            put_i64(out, time_ms.wrapping_sub(last));
            last = time_ms;
            put_i64(out, value.value);
            let set = sets.partition_point(|set| **set < value.labels);
            put_u64(out, set as u64);
        }
    }
}

fn values(from: &mut Reader<'_>) -> Result<ValuesPartial, WireError> {
    let mut partial = ValuesPartial::default();
    for _ in 0..from.count()? {
        let key = labels(from)?;
        let sets = many(from, label_set)?;
        let mut values = BTreeMap::new();
        let mut time_ms = 0i64;
        for at in 0..from.count()? {
            let of = subject(from)?.ok_or(WireError::Kind {
                what: "subject",
                actual: 0,
            })?;
            time_ms = time_ms.wrapping_add(from.i64()?);
            let value = from.i64()?;
            let set = index(from, ("the labels of value", at), sets.len())?;
            let labels = sets[set as usize].clone();
            values.insert((time_ms, of), Value { value, labels });
        }
        partial.groups.insert(key, values);
    }
    Ok(partial)
}

fn label_set(from: &mut Reader<'_>) -> Result<Labels, WireError> {
    let pairs = labels(from)?;
    let pairs = pairs.iter().map(|label| (&label.name, &label.value));
    Ok(Labels::from_pairs(pairs))
}
