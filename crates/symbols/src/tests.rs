//! Parts for the tests of this crate, and what holds across its modules.

use proptest::collection::vec;
use proptest::prelude::*;
use scoria_model::part::{Part, PartView, ProfileRow};
use scoria_model::{Labels, RetryKey, Timestamp};

use crate::*;

/// A stack's content without ids: (mapping start, address, [(name, filename, start line, line)]).
pub(crate) type Frame = (Option<u64>, u64, Vec<(Option<(String, String, i64)>, i64)>);

/// Any part: few names, so that much repeats.
pub(crate) fn any_part() -> impl Strategy<Value = Part> {
    let name = "[a-cé]{0,3}|runtime/internal/[a-z]{1,9}";
    (
        vec(name, 1..12),
        vec((any::<u8>(), any::<u8>(), any::<u8>(), -2..40i64), 1..10),
        vec((0..5u64, any::<u8>()), 0..3),
        vec(
            (
                any::<u8>(),
                prop_oneof![Just(0u64), any::<u64>()],
                vec((any::<u8>(), -3..90i64), 0..4),
            ),
            1..20,
        ),
        vec(vec(any::<u8>(), 0..12), 1..15),
        vec(any::<u8>(), 0..20),
    )
        .prop_map(|(names, functions, mappings, locations, stacks, samples)| {
            build(&names, &functions, &mappings, &locations, &stacks, &samples)
        })
}

type RawLocation = (u8, u64, Vec<(u8, i64)>);

fn build(
    names: &[String],
    functions: &[(u8, u8, u8, i64)],
    mappings: &[(u64, u8)],
    locations: &[RawLocation],
    stacks: &[Vec<u8>],
    samples: &[u8],
) -> Part {
    let mut part = Part::default();
    for name in names {
        part.strings.push(name);
    }
    let pick = |byte: u8, n: usize| u32::from(byte) % n as u32;
    let or_none = |byte: u8, n: usize| match pick(byte, n + 1) {
        0 => NONE,
        id => id - 1,
    };
    let strings = part.strings.len();
    for &(name, system_name, filename, start_line) in functions {
        part.functions.push(Function {
            name: pick(name, strings),
            system_name: pick(system_name, strings),
            filename: pick(filename, strings),
            start_line: start_line.max(0),
        });
    }
    for &(start, filename) in mappings {
        part.mappings.push(Mapping {
            start,
            limit: start / 2,
            filename: pick(filename, strings),
            ..Mapping::default()
        });
    }
    for (mapping, address, lines) in locations {
        let lines = lines.iter().map(|&(function, line)| Line {
            function: or_none(function, functions.len()),
            line,
        });
        part.push_location((or_none(*mapping, mappings.len()), *address), lines);
    }
    for stack in stacks {
        part.frames
            .extend(stack.iter().map(|&f| pick(f, locations.len())));
        part.stack_ends.push(part.frames.len() as u32);
    }
    part.sample_stack = samples.iter().map(|&s| pick(s, stacks.len())).collect();
    part.sample_value = samples.iter().map(|_| 1).collect();
    let series = part.push_series(&Labels::from_pairs([("service_name", "api")]));
    let kind = part.push_type(&"cpu:cpu:ns:cpu:ns".parse().unwrap());
    part.profiles.push(ProfileRow {
        series,
        kind,
        time: Timestamp(0),
        duration_ns: 0,
        period: 0,
        samples_end: part.sample_stack.len() as u32,
    });
    part.end_write(RetryKey([0; 16]));
    part
}

pub(crate) fn encoded(part: &Part) -> Vec<u8> {
    let mut bytes = Vec::new();
    part.encode(&mut bytes);
    bytes
}

/// Interns everything into a new dictionary; the nodes of each part's stacks.
pub(crate) fn interned(parts: &[Part]) -> (Dictionary, Vec<Vec<u32>>) {
    let mut dictionary = Dictionary::new();
    let mut scratch = InternScratch::default();
    let nodes = parts
        .iter()
        .map(|part| {
            let bytes = encoded(part);
            dictionary.intern(&PartView::parse(&bytes).unwrap(), &mut scratch);
            scratch.stack_nodes.clone()
        })
        .collect();
    (dictionary, nodes)
}

/// What the part says a stack is, leaf first.
fn told(part: &Part, stack: usize) -> Vec<Frame> {
    let text = |id| String::from_utf8(part.strings.get(id).to_vec()).unwrap();
    part.frames
        .slice(part.stack_ends.as_slice().span(stack))
        .iter()
        .map(|frame| {
            let (location, lines) = part.location(frame);
            let lines = lines
                .map(|at| {
                    let line = part.lines.get(at);
                    let function = (line.function != NONE).then(|| {
                        let function = part.functions.get(line.function as usize);
                        let [name, filename] = [function.name, function.filename].map(text);
                        (name, filename, function.start_line)
                    });
                    (function, line.line)
                })
                .collect();
            let mapping = part.mappings.get(location.mapping as usize);
            (mapping.map(|m| m.start), location.address, lines)
        })
        .collect()
}

/// What the symbols say a node's stack is, leaf first.
pub(crate) fn shown(symbols: &Symbols, node: u32) -> Vec<Frame> {
    symbols
        .stack(node)
        .map(|id| {
            let location = symbols.location(id);
            let lines = location
                .lines
                .iter()
                .map(|line| {
                    let function = (line.function != NONE).then(|| {
                        let f = symbols.function(line.function);
                        let text = |id| symbols.string(id).to_owned();
                        (text(f.name), text(f.filename), f.start_line)
                    });
                    (function, line.line)
                })
                .collect();
            let mapping =
                (location.mapping != NONE).then(|| symbols.mapping(location.mapping).start);
            (mapping, location.address, lines)
        })
        .collect()
}

/// Damages bytes in every way that flips a bit or cuts the end off.
pub(crate) fn damages(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let flips = (0..bytes.len() * 8).map(|bit| {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        damaged
    });
    flips.chain((0..bytes.len()).map(|length| bytes[..length].to_vec()))
}

proptest! {
    #[test]
    fn nodes_stand_for_the_stacks_that_samples_use(parts in vec(any_part(), 1..5)) {
        let (dictionary, nodes) = interned(&parts);
        let symbols = dictionary.snapshot();
        for (part, nodes) in parts.iter().zip(&nodes) {
            for (stack, &node) in nodes.iter().enumerate() {
                let used = part.sample_stack.iter().any(|at| at == stack as u32);
                prop_assert_eq!(node != NONE, used);
                if used {
                    prop_assert_eq!(told(part, stack), shown(&symbols, node));
                }
            }
        }
    }

    #[test]
    fn what_comes_again_adds_nothing(parts in vec(any_part(), 1..4)) {
        let (dictionary, once) = interned(&parts);
        let twice: Vec<Part> = parts.iter().chain(&parts).cloned().collect();
        let (again, nodes) = interned(&twice);
        prop_assert_eq!(dictionary.mark(), again.mark());
        prop_assert_eq!(&nodes[parts.len()..], &once[..]);
        prop_assert_eq!(dictionary.snapshot().to_tables(), again.snapshot().to_tables());
    }

    #[test]
    fn tables_come_back_as_they_were(parts in vec(any_part(), 0..4)) {
        let tables = interned(&parts).0.snapshot().to_tables();
        let symbols = Symbols::from_tables(tables.clone()).unwrap();
        prop_assert_eq!(symbols.to_tables(), tables);
    }

    #[test]
    fn tables_from_outside_are_checked(
        parts in vec(any_part(), 1..4),
        place in (0..9usize, any::<u16>()),
        value in prop_oneof![0..40u32, Just(NONE), any::<u32>()],
    ) {
        let mut tables = interned(&parts).0.snapshot().to_tables();
        damage(&mut tables, place, value);
        if let Ok(symbols) = Symbols::from_tables(tables) {
            for node in 0..symbols.nodes_len() as u32 {
                shown(&symbols, node);
            }
        }
    }
}

fn damage(tables: &mut SymbolTables, (column, at): (usize, u16), value: u32) {
    let column = match column {
        0 => &mut tables.strings.ends,
        1 => &mut tables.location_mapping,
        2 => &mut tables.location_lines_end,
        3 => &mut tables.node_parent,
        4 => &mut tables.node_location,
        5 => {
            tables.node_parent.truncate(at as usize);
            return;
        }
        6 => {
            if let Some(line) = tables.lines.first_mut() {
                line.function = value;
            }
            return;
        }
        7 => {
            if let Some(function) = tables.functions.first_mut() {
                function.filename = value;
            }
            return;
        }
        _ => {
            if let Some(byte) = tables.strings.bytes.first_mut() {
                *byte = value as u8;
            }
            return;
        }
    };
    if !column.is_empty() {
        let at = usize::from(at) % column.len();
        column[at] = value;
    }
}

#[test]
fn a_snapshot_does_not_see_what_comes_later() {
    let mut dictionary = Dictionary::new();
    dictionary.string_id("before");
    let symbols = dictionary.snapshot();
    let held = dictionary.bytes();
    for n in 0..100_000 {
        dictionary.string_id(&format!("later {n}"));
    }
    assert_eq!(symbols.strings_len(), 2);
    assert_eq!(symbols.string(1), "before");
    assert_eq!(dictionary.mark().strings, 100_002);
    assert!(dictionary.bytes() > held + 1_500_000);
}

#[test]
fn the_empty_stack_is_the_root() {
    let mut part = build(
        &[String::from("x")],
        &[(0, 0, 0, 0)],
        &[],
        &[(0, 1, vec![])],
        &[vec![]],
        &[0],
    );
    part.sample_value = [5].into();
    assert_eq!(interned(&[part]).1, [[ROOT]]);
}
