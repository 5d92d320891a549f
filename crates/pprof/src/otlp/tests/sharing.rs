//! Profiles of an export in one part: each says what it says alone, and what they share is moved
//! there once.

use std::borrow::Cow;
use std::cell::Cell;

use scoria_model::part::{NONE, Part, PartView};
use scoria_model::{DiscardReason, Limits, RetryKey, Timestamp};

use super::*;
use crate::raw::{RawFunction, RawLine, RawMapping};
use crate::tables::Counts;
use crate::{About, Joined, Normaliser, Origin, Rejection, Room, Told};

const NOW: Timestamp = Timestamp(1_000_000_000);

/// What each write of a part says, in words.
fn told(part: &Part) -> Vec<String> {
    let mut bytes = Vec::new();
    part.encode(&mut bytes);
    let view = PartView::parse(&bytes).expect("the part is sound");
    let frame = |at: usize| {
        let location = view.frame.get(at) as usize;
        let mapping = view.location_mapping.get(location);
        let mapping = match mapping {
            NONE => String::new(),
            at => view
                .string(view.mapping_build_id.get(at as usize))
                .to_owned(),
        };
        let lines = view.location_lines_end.span(location);
        let names = lines.map(|line| {
            let function = view.line_function.get(line) as usize;
            let name = view.string(view.function_name.get(function));
            format!("{name}:{}", view.line_number.get(line))
        });
        let names: Vec<String> = names.collect();
        format!("{mapping}[{}]", names.join(","))
    };
    let sample = |at: usize| {
        let stack = view.stack_end.span(view.sample_stack.get(at) as usize);
        let frames: Vec<String> = stack.map(frame).collect();
        let value = view.sample_value.get(at);
        let (span, trace) = (view.span(at), view.trace(at));
        format!("{} {value} {span} {trace:?}", frames.join(";"))
    };
    let writes = view.keys().enumerate().flat_map(|(write, key)| {
        view.write_end.span(write).map(move |row| {
            let samples = view.profile_samples_end.span(row).map(sample);
            let samples: Vec<String> = samples.collect();
            let labels = view.series_labels(view.profile_series.get(row));
            let kind = view.profile_type(view.profile_kind.get(row));
            let time = view.profile_time.get(row);
            format!("{key:?} {labels} {kind} {time} {samples:?}")
        })
    });
    writes.collect()
}

/// Normalises one converted profile.
fn normalise(
    normaliser: &mut Normaliser,
    (joined, stacks): (&mut Joined, Option<&dyn Stacks>),
    (nth, converted): (u8, Converted),
    limits: &Limits,
) -> Result<Told, Rejection> {
    let pairs = converted.labels.iter();
    let labels: Vec<(&str, &str)> = pairs.map(|(n, v)| (&**n, &**v)).collect();
    let about = About {
        labels: &labels,
        origin: Origin::Push,
        key: RetryKey([nth; 16]),
        now: NOW,
    };
    normaliser.normalise_from(joined, (converted.draft, stacks), &about, limits)
}

/// The profiles of an export, each in a part of its own or all in one, and what became of each.
fn normalised(body: &[u8], limits: &Limits, is_shared: bool) -> (Vec<String>, Vec<String>) {
    let way = if is_shared { Way::Shared } else { Way::Alone };
    normalised_by(body, limits, way)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Alone,
    Shared,
    /// Shared, and the stacktraces of each are moved before, where that can be.
    MovedFirst,
}

fn normalised_by(body: &[u8], limits: &Limits, way: Way) -> (Vec<String>, Vec<String>) {
    let terms = terms();
    let mut export = Export::read(body, &terms.memory).expect("it is an export");
    export.cut_symbols(limits.max_profile_symbol_value_length);
    let mut converter = export.converter();
    let mut normaliser = Normaliser::new(3);
    let mut joined = Joined::new(3, export.room());
    let (mut all, mut outcomes) = (Vec::new(), Vec::new());
    for at in 0..export.n_profiles() {
        for mut converted in converter.profile(at, &terms).expect("it is whole") {
            if way == Way::Alone {
                all.extend(told(joined.part()));
                joined = Joined::new(3, Room::default());
            }
            if way == Way::MovedFirst {
                let pairs = converted.labels.iter();
                let labels: Vec<(&str, &str)> = pairs.map(|(n, v)| (&**n, &**v)).collect();
                joined.move_stacks(&mut converted.draft, &export, (&labels, limits));
            }
            let stacks = (!converted.draft.is_moved()).then_some(&export as &dyn Stacks);
            let into = (&mut joined, stacks);
            let outcome = normalise(&mut normaliser, into, (at as u8, converted), limits);
            outcomes.push(match outcome {
                Ok(told) => format!("{:?} {:?}", told.dropped, told.stats),
                Err(rejection) => rejection.message,
            });
        }
    }
    all.extend(told(joined.part()));
    (all, outcomes)
}

fn limits() -> Limits {
    Limits {
        reject_older_than_ms: 0,
        reject_newer_than_ms: 0,
        ..Limits::default()
    }
}

/// An export in which neighbours need different things done to what they share.
fn mixed() -> Vec<u8> {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let build_id = encoder.attribute(
        "process.executable.build_id.gnu",
        &AttributeValue::Text("abc"),
    );
    let mapping = encoder.mapping("/bin/app", (0x1000, 0x2000), &[build_id]);
    let native = encoder.location(mapping, 0x1500, &[]);
    let long = "x".repeat(300);
    let names = [
        "a.Sort[go.shape.int]",
        "a.Sort[go.shape.string]",
        "b",
        &long,
    ];
    let in_go = names.map(|name| {
        let function = encoder.function(name, "/src/a.go");
        encoder.location(mapping, 0x10, &[(function, 7)])
    });
    let in_python = names.map(|name| {
        let function = encoder.function(name, "/src/a.py");
        encoder.location(0, 0, &[(function, 7)])
    });
    let broken = encoder.location(0, 0, &[]);
    let deep: Vec<u32> = (0..200).map(|n| in_go[n % 4]).collect();
    let threads =
        ["t1", "t2"].map(|name| encoder.attribute("thread.name", &AttributeValue::Text(name)));
    let link = encoder.link([7; 16], [9; 8]);
    let stacks = [
        encoder.stack(&[native, in_go[0], in_go[2]]),
        encoder.stack(&[native, in_go[1], in_go[2]]),
        encoder.stack(&[in_python[0], in_python[3]]),
        encoder.stack(&deep),
        encoder.stack(&[native, broken]),
        encoder.stack(&[]),
    ];
    for (profile, time_ns) in PROFILES.iter().zip(1..) {
        let rows = (0..).zip(profile.stacks).map(|(at, &stack)| SampleRow {
            stack: stacks[stack],
            attributes: std::slice::from_ref(&threads[at % 2]),
            link: if time_ns == 3 { link } else { 0 },
            values: std::slice::from_ref(&profile.value),
            times_ns: &[],
        });
        profile.write(&mut encoder, time_ns, &rows.collect::<Vec<_>>());
    }
    encoder.finish()
}

/// One of the profiles of that export.
struct Written {
    /// Where its source is; empty if it does not say.
    source: &'static str,
    stacks: &'static [usize],
    value: i64,
}

const fn written(source: &'static str, stacks: &'static [usize], value: i64) -> Written {
    Written {
        source,
        stacks,
        value,
    }
}

const PROFILES: [Written; 8] = [
    written("", &[0, 1, 4], 1),
    written("", &[2, 5], 2),
    written("https://example.org", &[0, 3], 3),
    written("", &[0, 1, 2], 4),
    written("https://example.net", &[1, 2], 5),
    // The first and the last are the same once their names are short, and too much together.
    written("", &[0, 2, 1], i64::MAX / 5 * 3),
    written("https://example.org", &[1, 3, 4], 7),
    written("", &[4], 8),
];

impl Written {
    fn write(&self, encoder: &mut ExportEncoder, time_ns: u64, rows: &[SampleRow<'_>]) {
        let mut resource = vec![("service.name", AttributeValue::Text("shop"))];
        if !self.source.is_empty() {
            resource.push(("service_repository", AttributeValue::Text(self.source)));
        }
        encoder.resource(&resource);
        encoder.scope("scope", &[]);
        let header = ProfileHeader {
            sample_type: ("samples", "count"),
            period_type: ("cpu", "nanoseconds"),
            period: 1,
            time_ns,
            duration_ns: 500,
            ..ProfileHeader::default()
        };
        encoder.profile(&header, rows);
    }
}

#[test]
fn a_profile_says_in_a_shared_part_what_it_says_alone() {
    let limits = Limits {
        max_profile_symbol_value_length: 100,
        ..limits()
    };
    let body = mixed();
    let (alone, outcomes) = normalised(&body, &limits, false);
    let (shared, outcomes_shared) = normalised(&body, &limits, true);
    assert_eq!(outcomes, outcomes_shared);
    assert_eq!(alone, shared);
    let moved = normalised_by(&body, &limits, Way::MovedFirst);
    assert_eq!((&alone, &outcomes), (&moved.0, &moved.1));
    let overflows = outcomes
        .iter()
        .filter(|outcome| outcome.contains("overflow"));
    assert_eq!(overflows.count(), 1, "{outcomes:#?}");
    let all = shared.join("\n");
    for part in [
        "a.Sort[...]:7",
        "a.Sort[go.shape.int]:7",
        r#"{"repository":"https://example.org","git_ref":"","build_id":"abc","root_path":""}"#,
        r#"\"repository\":\"https://example.net\""#,
        "abc[]",
        &"x".repeat(100),
    ] {
        let debugged = part.replace('"', "\\\"");
        assert!(
            all.contains(part) || all.contains(&debugged),
            "{part}\n{all}"
        );
    }
    assert!(!all.contains(&"x".repeat(101)), "{all}");
}

#[test]
fn a_profile_that_is_refused_leaves_no_rows() {
    let limits = Limits {
        max_profile_stacktrace_samples: 2,
        ..limits()
    };
    let body = mixed();
    let (alone, outcomes) = normalised(&body, &limits, false);
    let (shared, outcomes_shared) = normalised(&body, &limits, true);
    assert_eq!(alone, shared);
    assert_eq!(outcomes, outcomes_shared);
    let refused = outcomes
        .iter()
        .filter(|outcome| outcome.contains("max_profile_stacktrace_samples"));
    assert_eq!(refused.count(), 4, "{outcomes:#?}");
}

#[test]
fn too_many_series_begin_again_without_a_trace() {
    let limits = Limits {
        max_promoted_series_per_profile: 1,
        ..limits()
    };
    let body = mixed();
    let (alone, outcomes) = normalised(&body, &limits, false);
    let (shared, outcomes_shared) = normalised(&body, &limits, true);
    assert_eq!((&alone, &outcomes), (&shared, &outcomes_shared));
    assert!(!shared.join("").contains("thread.name"), "{shared:#?}");
}

/// Counts what is asked of an export's symbols.
struct Counting<'e> {
    export: &'e Export<'e>,
    n_locations: Cell<usize>,
    n_functions: Cell<usize>,
    n_mappings: Cell<usize>,
    n_stacks: Cell<usize>,
    n_texts: Cell<usize>,
}

fn count(cell: &Cell<usize>) {
    cell.set(cell.get() + 1);
}

impl Symbols for Counting<'_> {
    fn text(&self, at: u32) -> &[u8] {
        count(&self.n_texts);
        self.export.text(at)
    }

    fn location_id(&self, frame: u32) -> u64 {
        self.export.location_id(frame)
    }

    fn location(&self, at: usize, lines: &mut Vec<RawLine>) -> (u64, u64) {
        count(&self.n_locations);
        self.export.location(at, lines)
    }

    fn function(&self, at: usize) -> RawFunction {
        count(&self.n_functions);
        self.export.function(at)
    }

    fn mapping(&self, at: usize) -> RawMapping {
        count(&self.n_mappings);
        self.export.mapping(at)
    }

    fn build_id(&self, at: usize) -> Cow<'_, [u8]> {
        self.export.build_id(at)
    }
}

impl Stacks for Counting<'_> {
    fn counts(&self) -> Counts {
        self.export.counts()
    }

    fn frames(&self, at: usize, frames: &mut Vec<u32>) {
        count(&self.n_stacks);
        self.export.frames(at, frames);
    }

    fn may_have_type_parameters(&self) -> bool {
        self.export.may_have_type_parameters()
    }
}

#[test]
fn each_entry_of_the_dictionary_is_converted_once_an_export() {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let mapping = encoder.mapping("/bin/app", (0x1000, 0x2000), &[]);
    let locations: Vec<u32> = (0..20)
        .map(|n| {
            let function = encoder.function(&format!("f{n}"), "/src/a.py");
            encoder.location(mapping, 0x10 + n, &[(function, 7)])
        })
        .collect();
    let stacks: Vec<u32> = (0..10)
        .map(|n| encoder.stack(&locations[n..n + 10]))
        .collect();
    for profile in 0..100 {
        let name = format!("service-{}", profile % 7);
        encoder.resource(&[("service.name", AttributeValue::Text(&name))]);
        encoder.scope("scope", &[]);
        let rows = stacks.iter().map(|&stack| SampleRow {
            stack,
            values: &[1],
            ..SampleRow::default()
        });
        let header = ProfileHeader {
            sample_type: ("samples", "count"),
            period_type: ("cpu", "nanoseconds"),
            period: 1,
            time_ns: 5,
            ..ProfileHeader::default()
        };
        encoder.profile(&header, &rows.collect::<Vec<_>>());
    }
    let body = encoder.finish();
    let terms = terms();
    let export = Export::read(&body, &terms.memory).unwrap();
    let counting = Counting {
        export: &export,
        n_locations: Cell::default(),
        n_functions: Cell::default(),
        n_mappings: Cell::default(),
        n_stacks: Cell::default(),
        n_texts: Cell::default(),
    };
    let mut converter = export.converter();
    let mut normaliser = Normaliser::new(3);
    let mut joined = Joined::new(3, export.room());
    for at in 0..export.n_profiles() {
        for converted in converter.profile(at, &terms).unwrap() {
            let into = (&mut joined, Some(&counting as &dyn Stacks));
            let told = normalise(&mut normaliser, into, (at as u8, converted), &limits()).unwrap();
            assert_eq!(told.dropped.get(DiscardReason::BrokenReference), 0);
        }
    }
    let part = joined.into_part();
    assert_eq!((part.writes.len(), part.sample_value.len()), (100, 1000));
    assert_eq!(part.types.len(), 1, "equal types are one");
    let counts = [
        &counting.n_stacks,
        &counting.n_locations,
        &counting.n_functions,
        &counting.n_mappings,
    ];
    assert_eq!(counts.map(Cell::get), [10, 19, 19, 1]);
    // Names, and the file of each, of which the first alone is read; the empty text is one too.
    assert_eq!(counting.n_texts.get(), 19 + 1 + 1 + 1);
}
