use std::collections::BTreeSet;

use scoria_model::part::{Function, Line, Mapping};
use scoria_pprof::RawProfile;
use scoria_symbols::SymbolTables;

use super::*;

/// main;work (with work2 inlined into it);leaf and main;small.
fn profile() -> ProfilePartial {
    let mut tables = SymbolTables::default();
    tables.mappings.push(Mapping {
        start: 0x1000,
        limit: 0x2000,
        ..Mapping::default()
    });
    for name in ["main", "work", "work2", "leaf", "small"] {
        let name = tables.strings.push(name);
        tables.functions.push(Function {
            name,
            ..Function::default()
        });
    }
    for functions in [&[0][..], &[2, 1], &[3], &[4]] {
        tables.location_mapping.push(0);
        tables
            .location_address
            .push(0x1000 + tables.location_mapping.len() as u64);
        for &function in functions {
            tables.lines.push(Line { function, line: 7 });
        }
        tables.location_lines_end.push(tables.lines.len() as u32);
    }
    tables.node_parent = vec![NONE, 0, 1, 2, 1];
    tables.node_location = vec![NONE, 0, 1, 2, 3];
    let own = vec![0, 1, 10, 100, 5];
    ProfilePartial::from_tables(tables, own, Period::Known(10)).unwrap()
}

fn kind() -> ProfileType {
    "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
        .parse()
        .unwrap()
}

fn written(change: impl Fn(&mut PprofOptions<'_>)) -> Vec<u8> {
    let kind = kind();
    let mut options = PprofOptions {
        kind: &kind,
        end_ms: 5,
        max_nodes: 0,
        go_pgo: None,
    };
    change(&mut options);
    pprof(&profile(), &options)
}

/// (names leaf first joined, value), having checked that every id is there.
fn samples(bytes: &[u8]) -> Vec<(String, i64)> {
    let raw = RawProfile::decode(bytes).unwrap();
    let columns = &raw.columns;
    let text = |id: u32| String::from_utf8(raw.text(id).to_vec()).unwrap();
    let (mut frames, mut values, mut found) = (0, 0, Vec::new());
    let mut ids = BTreeSet::new();
    for sample in columns.samples.iter() {
        let mut names = Vec::new();
        for id in columns.frames.slice(frames..sample.frames as usize) {
            ids.insert(id);
            let at = id as usize - 1;
            for line in raw.lines_of(at) {
                names.push(text(columns.functions.get(line.function as usize - 1).name));
            }
        }
        frames = sample.frames as usize;
        found.push((names.join(";"), columns.values.get(values)));
        values = sample.values as usize;
    }
    assert_eq!(ids.len(), columns.locations.len());
    found.sort();
    found
}

fn owned(stacks: &[(&str, i64)]) -> Vec<(String, i64)> {
    stacks.iter().map(|&(s, v)| (s.to_owned(), v)).collect()
}

#[test]
fn everything_is_kept() {
    let bytes = written(|_| {});
    assert_eq!(
        samples(&bytes),
        owned(&[
            ("leaf;work2;work;main", 100),
            ("main", 1),
            ("small;main", 5),
            ("work2;work;main", 10)
        ])
    );
    let raw = RawProfile::decode(&bytes).unwrap();
    let columns = &raw.columns;
    assert_eq!(
        (columns.time_ns, columns.duration_ns, columns.period),
        (5_000_000, 0, 10)
    );
    assert_eq!(columns.mappings.len(), 1);
}

#[test]
fn small_stacks_get_a_leaf_named_other() {
    let bytes = written(|options| options.max_nodes = 2);
    assert_eq!(
        samples(&bytes),
        owned(&[
            ("main", 1),
            ("other;main", 5),
            ("other;work2;work;main", 100),
            ("work2;work;main", 10)
        ])
    );
}

#[test]
fn what_a_go_compiler_wants() {
    let keep = |keep_locations, callees| {
        let bytes = written(|options| {
            options.go_pgo = Some(GoPgo {
                keep_locations,
                callees,
            });
        });
        samples(&bytes)
    };
    let expected = owned(&[("leaf", 100), ("main", 1), ("small", 5), ("work2;work", 10)]);
    assert_eq!(keep(1, Callees::Apart), expected);
    let bytes = written(|options| {
        options.go_pgo = Some(GoPgo {
            keep_locations: 1,
            callees: Callees::Aggregated,
        });
    });
    let raw = RawProfile::decode(&bytes).unwrap();
    let lines = (0..raw.columns.locations.len()).flat_map(|at| raw.lines_of(at));
    let lines: Vec<i64> = lines.map(|line| line.line).collect();
    assert_eq!(lines.iter().filter(|&&line| line == 0).count(), 4);
    assert_eq!(lines.len(), 5);
}

#[test]
fn no_values_are_no_bytes() {
    let kind = kind();
    let options = PprofOptions {
        kind: &kind,
        end_ms: 5,
        max_nodes: 0,
        go_pgo: None,
    };
    assert!(pprof(&ProfilePartial::default(), &options).is_empty());
}
