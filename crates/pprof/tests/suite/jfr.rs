//! Recordings written here: each event, encoding and layout, and what damage does.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use scoria_model::part::mapping_flags;
use scoria_model::{ByteBudget, DiscardReason};
use scoria_pprof::DraftTerms;
use scoria_pprof::jfr::{Conversion, JfrError, Recording, Snapshot};

use crate::jfr_writer::{
    Chunk, Encoding, RUNNABLE, SLEEPING, Value, array, class, constant, plain, varint,
};

const MEMORY: u64 = 1 << 30;
const NO_TAG: [u64; 3] = [0; 3];

/// `{context 3: {1: 2}}, {1: "thread", 2: "pool-1", 9: "GET /"}`
const LABELS: &[u8] = b"\x0a\x0a\x08\x03\x12\x06\x0a\x04\x08\x01\x10\x02\x12\x0a\x08\x01\x12\x06thread\x12\x0a\x08\x02\x12\x06pool-1\x12\x09\x08\x09\x12\x05GET /";

fn read(bytes: &[u8]) -> Result<Recording, JfrError> {
    Recording::read(bytes, 1, &ByteBudget::new("test", MEMORY))
}

fn conversion<'a>(snapshot: &'a Snapshot<'a>) -> Conversion<'a> {
    Conversion {
        time_ns: 1_000,
        duration_ns: 50,
        sample_rate: 100,
        snapshot,
        max_samples: 0,
    }
}

/// Lines of `name type/unit period{labels} leaf:line;…;root:line = value`.
fn lines_of(recording: &Recording, conversion: Conversion<'_>, max_bytes: u64) -> Vec<String> {
    let terms = DraftTerms {
        seed: 1,
        memory: ByteBudget::new("test", MEMORY),
        max_bytes,
    };
    let mut profiles = recording.profiles(conversion, terms);
    let mut lines = Vec::new();
    while let Some(mut profile) = profiles.next_profile().expect("it is well-formed") {
        let raw = profile.draft.raw();
        let columns = &raw.columns;
        assert_eq!((columns.time_ns, columns.duration_ns), (1_000, 50));
        let text = |at| String::from_utf8_lossy(raw.text(at)).into_owned();
        for at in 0..columns.samples.len() {
            let sample = raw.sample(at);
            let frames: Vec<String> = columns
                .frames
                .slice(sample.frames())
                .iter()
                .map(|id| {
                    let line = raw.lines_of(id as usize - 1).next().unwrap();
                    let function = columns.functions.get(line.function as usize - 1);
                    format!("{}:{}", text(function.name), line.line)
                })
                .collect();
            let labels = columns.labels.slice(sample.labels());
            let labels: Vec<String> = labels
                .map(|label| format!("{}={}", text(label.key), text(label.text)))
                .collect();
            let values = columns.values.slice(sample.values());
            for (kind, value) in columns.sample_types.iter().zip(values) {
                let (name, of, unit) = (profile.name, text(kind.kind), text(kind.unit));
                let (frames, labels) = (frames.join(";"), labels.join(","));
                lines.push(format!(
                    "{name} {of}/{unit} {{{labels}}} {frames} = {value}"
                ));
            }
        }
    }
    lines.sort();
    lines
}

fn lines(bytes: &[u8]) -> Vec<String> {
    let recording = read(bytes).expect("it is well-formed");
    let memory = ByteBudget::new("test", MEMORY);
    let snapshot = Snapshot::read(LABELS, 1, &memory).expect("it is well-formed");
    lines_of(&recording, conversion(&snapshot), 0)
}

fn text(value: &str) -> Value<'_> {
    Value::Text(value)
}

/// A little of everything.
fn small() -> Chunk {
    let mut chunk = Chunk::new();
    let hot = chunk.stack(&[("shop/Cart", "total", 7), ("shop/Main", "main", 3)]);
    let cold = chunk.stack(&[("", "stub", 0)]);
    chunk.event(class::SETTING, &[text("event"), text("itimer")]);
    for _ in 0..3 {
        chunk.sample(class::EXECUTION_SAMPLE, hot, RUNNABLE, NO_TAG, None);
    }
    chunk.sample(class::EXECUTION_SAMPLE, hot, RUNNABLE, [3, 0xabcd, 9], None);
    chunk.sample(class::EXECUTION_SAMPLE, cold, SLEEPING, NO_TAG, None);
    let allocation = [1, hot, 16, 1024].map(Value::Integer);
    chunk.event(class::IN_NEW_TLAB, &allocation);
    chunk.event(class::IN_NEW_TLAB, &allocation);
    chunk.event(class::MONITOR_ENTER, &[1, 500, cold].map(Value::Integer));
    chunk
}

const SMALL: [&str; 6] = [
    "memory alloc_in_new_tlab_bytes/bytes {} shop/Cart.total:7;shop/Main.main:3 = 2048",
    "memory alloc_in_new_tlab_objects/count {} shop/Cart.total:7;shop/Main.main:3 = 2",
    "mutex contentions/count {} .stub:0 = 1",
    "mutex delay/nanoseconds {} .stub:0 = 500",
    "process_cpu cpu/nanoseconds {thread=pool-1,profile_id=000000000000abcd,span_name=GET /} shop/Cart.total:7;shop/Main.main:3 = 10000000",
    "process_cpu cpu/nanoseconds {} shop/Cart.total:7;shop/Main.main:3 = 30000000",
];

#[test]
fn events_become_profiles_of_their_kinds() {
    let bytes = small().finish();
    assert_eq!(lines(&bytes), SMALL);
    let recording = read(&bytes).expect("it is well-formed");
    assert_eq!(recording.event(), "itimer");
    assert_eq!(recording.n_events(), 8);
    assert_eq!(recording.dropped().iter().count(), 0);
}

#[test]
fn texts_of_every_encoding_are_the_same() {
    for encoding in [Encoding::Latin1, Encoding::Utf16] {
        let mut chunk = small();
        chunk.encoding = encoding;
        assert_eq!(lines(&chunk.finish()), SMALL, "{encoding:?}");
    }
}

#[test]
fn chunks_add_up_and_have_keys_and_clocks_of_their_own() {
    let mut other = Chunk::new();
    other.ticks_per_second = 500_000_000;
    let cold = other.stack(&[("", "stub", 0)]);
    other.stack(&[("never", "asked", 1)]);
    other.event(class::MONITOR_ENTER, &[1, 500, cold].map(Value::Integer));
    let bytes = [small().finish(), other.finish(), small().finish()].concat();
    let expected = [
        "memory alloc_in_new_tlab_bytes/bytes {} shop/Cart.total:7;shop/Main.main:3 = 4096",
        "memory alloc_in_new_tlab_objects/count {} shop/Cart.total:7;shop/Main.main:3 = 4",
        "mutex contentions/count {} .stub:0 = 3",
        "mutex delay/nanoseconds {} .stub:0 = 2000",
    ];
    assert_eq!(lines(&bytes)[..4], expected);
}

#[test]
fn the_wall_clock() {
    let mut chunk = Chunk::new();
    let stack = chunk.stack(&[("A", "a", 1)]);
    let wall = class::WALL_CLOCK_SAMPLE;
    chunk.sample(wall, stack, RUNNABLE, NO_TAG, Some(5));
    chunk.sample(wall, stack, SLEEPING, NO_TAG, Some(2));
    chunk.sample(class::EXECUTION_SAMPLE, stack, SLEEPING, NO_TAG, None);
    let other = chunk.finish();
    assert_eq!(lines(&other), ["wall wall/nanoseconds {} A.a:1 = 70000000"]);
    // Behind the samples: the setting counts wherever it stands.
    chunk.event(class::SETTING, &[text("interval"), text("10")]);
    chunk.event(class::SETTING, &[text("event"), text("wall")]);
    let expected = [
        "process_cpu cpu/nanoseconds {} A.a:1 = 50000000",
        "wall wall/nanoseconds {} A.a:1 = 80000000",
    ];
    assert_eq!(lines(&chunk.finish()), expected);
}

/// async-profiler writes its settings into the first chunk of a recording only.
#[test]
fn the_setting_holds_for_the_chunks_behind_it() {
    let chunk = |event: Option<&str>| {
        let mut chunk = Chunk::new();
        if let Some(event) = event {
            chunk.event(class::SETTING, &[text("event"), text(event)]);
        }
        let stack = chunk.stack(&[("A", "a", 1)]);
        chunk.sample(class::EXECUTION_SAMPLE, stack, RUNNABLE, NO_TAG, None);
        chunk.finish()
    };
    let wall = [chunk(Some("wall")), chunk(None)].concat();
    let expected = [
        "process_cpu cpu/nanoseconds {} A.a:1 = 20000000",
        "wall wall/nanoseconds {} A.a:1 = 20000000",
    ];
    assert_eq!(lines(&wall), expected);
    let ended = [chunk(Some("wall")), chunk(Some("cpu")), chunk(None)].concat();
    let expected = [
        "process_cpu cpu/nanoseconds {} A.a:1 = 30000000",
        "wall wall/nanoseconds {} A.a:1 = 10000000",
    ];
    assert_eq!(lines(&ended), expected);
}

/// A thread that is neither known to run nor to sleep counts as one that runs.
#[test]
fn only_threads_that_sleep_take_no_time_of_the_processor() {
    const UNHEARD_OF: u64 = 77;
    let mut chunk = Chunk::new();
    let stack = chunk.stack(&[("A", "a", 1)]);
    for state in [RUNNABLE, SLEEPING, UNHEARD_OF] {
        chunk.sample(class::EXECUTION_SAMPLE, stack, state, NO_TAG, None);
    }
    let expected = ["process_cpu cpu/nanoseconds {} A.a:1 = 20000000"];
    assert_eq!(lines(&chunk.finish()), expected);
    // Of the wall clock only what is known to run does.
    let mut chunk = Chunk::new();
    chunk.event(class::SETTING, &[text("event"), text("wall")]);
    let stack = chunk.stack(&[("A", "a", 1)]);
    for state in [RUNNABLE, SLEEPING, UNHEARD_OF] {
        let wall = class::WALL_CLOCK_SAMPLE;
        chunk.sample(wall, stack, state, NO_TAG, Some(state));
    }
    let expected = [
        "process_cpu cpu/nanoseconds {} A.a:1 = 10000000",
        "wall wall/nanoseconds {} A.a:1 = 800000000",
    ];
    assert_eq!(lines(&chunk.finish()), expected);
}

/// Of every event that names a context and a span, and of none that says 0.
#[test]
fn contexts_and_spans_of_every_event() {
    /// `{context 0: {9: 9}, context 3: {1: 2}}, {0: "none", 1: "thread", 2: "pool-1", 9: "GET /"}`
    const WITH_ZEROS: &[u8] =
        b"\x0a\x0a\x08\x00\x12\x06\x0a\x04\x08\x09\x10\x09\x12\x08\x08\x00\x12\x04none";
    let memory = ByteBudget::new("test", MEMORY);
    let labels = [WITH_ZEROS, LABELS].concat();
    let snapshot = Snapshot::read(&labels, 1, &memory).expect("it is well-formed");
    for (id, name, own) in [
        (101, "jdk.ExecutionSample", "state"),
        (105, "profiler.WallClockSample", "samples"),
        (102, "jdk.ObjectAllocationInNewTLAB", "tlabSize"),
        (200, "jdk.ObjectAllocationOutsideTLAB", "allocationSize"),
        (103, "jdk.JavaMonitorEnter", "duration"),
    ] {
        let mut chunk = Chunk::new();
        let fields = vec![
            constant("stackTrace", class::STACK_TRACE),
            plain(own, class::LONG),
            plain("contextId", class::LONG),
            plain("spanId", class::LONG),
            plain("spanName", class::LONG),
        ];
        chunk.class(id, name, fields);
        let stack = chunk.stack(&[("A", "a", 1)]);
        for tag in [[3, 0xabcd, 9], [0; 3], [99, 1, 99]] {
            let numbers = [stack, 1, tag[0], tag[1], tag[2]];
            chunk.event(id, &numbers.map(Value::Integer));
        }
        let recording = read(&chunk.finish()).expect("it is well-formed");
        let lines = lines_of(&recording, conversion(&snapshot), 0);
        let found: BTreeSet<&str> = lines
            .iter()
            .filter_map(|line| line.split_once('{')?.1.split_once('}'))
            .map(|(labels, _)| labels)
            .collect();
        let expected = [
            "",
            "profile_id=0000000000000001",
            "thread=pool-1,profile_id=000000000000abcd,span_name=GET /",
        ];
        assert_eq!(found, BTreeSet::from(expected), "{name}");
    }
}

/// What each kind of event becomes: name, types, period, and what stands around its frames.
#[test]
fn the_profiles_of_each_kind_look_like_this() {
    const FIRST: u64 = 200;
    let names = [
        "jdk.ExecutionSample",
        "profiler.WallClockSample",
        "jdk.ObjectAllocationInNewTLAB",
        "jdk.ObjectAllocationOutsideTLAB",
        "jdk.ObjectAllocationSample",
        "profiler.LiveObject",
        "profiler.Malloc",
        "jdk.JavaMonitorEnter",
        "jdk.ThreadPark",
    ];
    let mut chunk = Chunk::new();
    let stack = chunk.stack(&[("A", "a", 1)]);
    for (id, name) in (FIRST..).zip(names) {
        chunk.class(id, name, vec![constant("stackTrace", class::STACK_TRACE)]);
        chunk.event(id, &[Value::Integer(stack)]);
    }
    let recording = read(&chunk.finish()).expect("it is well-formed");
    let memory = ByteBudget::new("test", MEMORY);
    let snapshot = Snapshot::read(b"", 1, &memory).expect("it is well-formed");
    let terms = DraftTerms {
        seed: 1,
        memory: memory.clone(),
        max_bytes: 0,
    };
    let mut profiles = recording.profiles(conversion(&snapshot), terms);
    let mut shapes = Vec::new();
    while let Some(mut profile) = profiles.next_profile().expect("it is well-formed") {
        let raw = profile.draft.raw();
        let columns = &raw.columns;
        let text = |at| String::from_utf8_lossy(raw.text(at)).into_owned();
        let types = columns.sample_types.iter();
        let types: Vec<String> = types
            .map(|kind| format!("{}/{}", text(kind.kind), text(kind.unit)))
            .collect();
        let period = columns.period_type;
        shapes.push(format!(
            "{} {} per {} {}/{}",
            profile.name,
            types.join(" "),
            columns.period,
            text(period.kind),
            text(period.unit)
        ));
        let [mapping] = columns.mappings[..] else {
            panic!("one mapping: {:?}", columns.mappings);
        };
        assert_eq!(mapping.flags, mapping_flags::HAS_FUNCTIONS);
        let mut locations = columns.locations.iter();
        assert!(locations.all(|location| location.mapping == mapping.id));
        let mut functions = columns.functions.iter();
        assert!(functions.all(|function| text(function.filename).is_empty()));
    }
    let expected = [
        "process_cpu cpu/nanoseconds per 10000000 cpu/nanoseconds",
        "wall wall/nanoseconds per 10000000 wall/nanoseconds",
        "memory alloc_in_new_tlab_objects/count alloc_in_new_tlab_bytes/bytes per 0 space/bytes",
        "memory alloc_outside_tlab_objects/count alloc_outside_tlab_bytes/bytes per 0 space/bytes",
        "memory alloc_sample_objects/count alloc_sample_bytes/bytes per 0 space/bytes",
        "memory live/count per 0 objects/count",
        "memory malloc_objects/count malloc_bytes/bytes per 0 /",
        "mutex contentions/count delay/nanoseconds per 0 mutex/count",
        "block contentions/count delay/nanoseconds per 0 block/count",
    ];
    assert_eq!(shapes, expected);
}

/// Events that have no fixture above, with fields in another order and of kinds nobody reads.
#[test]
fn fields_are_found_by_name_whatever_stands_between_them() {
    const EVENT: u64 = 200;
    const POINT: u64 = 201;
    for (name, field, expected) in [
        (
            "jdk.ObjectAllocationOutsideTLAB",
            "allocationSize",
            [
                "memory alloc_outside_tlab_bytes/bytes",
                "memory alloc_outside_tlab_objects/count",
            ],
        ),
        (
            "jdk.ObjectAllocationSample",
            "weight",
            [
                "memory alloc_sample_bytes/bytes",
                "memory alloc_sample_objects/count",
            ],
        ),
        (
            "profiler.Malloc",
            "size",
            ["memory malloc_bytes/bytes", "memory malloc_objects/count"],
        ),
        (
            "jdk.ThreadPark",
            "duration",
            ["block delay/nanoseconds", "block contentions/count"],
        ),
        (
            "profiler.LiveObject",
            "allocationTime",
            ["", "memory live/count"],
        ),
    ] {
        let mut chunk = Chunk::new();
        chunk.class(
            POINT,
            "Point",
            vec![plain("x", class::DOUBLE), plain("y", class::BYTE)],
        );
        let fields = vec![
            plain("ratio", class::FLOAT),
            plain(field, class::LONG),
            array("numbers", class::LONG),
            plain("point", POINT),
            plain("note", class::STRING),
            constant("stackTrace", class::STACK_TRACE),
            array("points", POINT),
        ];
        chunk.class(EVENT, name, fields);
        let stack = chunk.stack(&[("A", "a", 1)]);
        let point = [&[0; 8][..], &[1]].concat();
        let values = [
            Value::Fixed(&[0; 4]),
            Value::Integer(300),
            Value::Integers(&[1, 1 << 40]),
            Value::Fixed(&point[..8]),
            Value::Byte(point[8]),
            text("é"),
            Value::Integer(stack),
            Value::Integer(1),
            Value::Fixed(&point),
        ];
        chunk.event(EVENT, &values);
        let expected: Vec<String> = [(expected[0], 300), (expected[1], 1)]
            .into_iter()
            .filter(|(kind, _)| !kind.is_empty())
            .map(|(kind, value)| format!("{kind} {{}} A.a:1 = {value}"))
            .collect();
        let mut found = lines(&chunk.finish());
        found.sort_by_key(|line| !line.contains("300"));
        assert_eq!(found, expected);
    }
}

#[test]
fn a_rate_of_zero_makes_times_zero_and_nothing_else() {
    let recording = read(&small().finish()).expect("it is well-formed");
    let memory = ByteBudget::new("test", MEMORY);
    let snapshot = Snapshot::read(b"", 1, &memory).expect("it is well-formed");
    let conversion = Conversion {
        sample_rate: 0,
        ..conversion(&snapshot)
    };
    let lines = lines_of(&recording, conversion, 0);
    let zero = lines.iter().filter(|line| line.ends_with(" = 0")).count();
    assert_eq!((lines.len(), zero), (6, 2));
}

#[test]
fn a_sample_stands_for_whole_nanoseconds_and_one_at_least() {
    let mut chunk = Chunk::new();
    let stack = chunk.stack(&[("A", "a", 1)]);
    for _ in 0..3 {
        chunk.sample(class::EXECUTION_SAMPLE, stack, RUNNABLE, NO_TAG, None);
    }
    let recording = read(&chunk.finish()).expect("it is well-formed");
    let memory = ByteBudget::new("test", MEMORY);
    let snapshot = Snapshot::read(b"", 1, &memory).expect("it is well-formed");
    for (sample_rate, expected) in [(97, 3 * 10_309_278), (1_000_000_000, 3), (u32::MAX, 3)] {
        let conversion = Conversion {
            sample_rate,
            ..conversion(&snapshot)
        };
        let expected = format!("process_cpu cpu/nanoseconds {{}} A.a:1 = {expected}");
        assert_eq!(lines_of(&recording, conversion, 0), [expected]);
    }
}

#[test]
fn what_is_beyond_the_limits_of_a_profile_goes_into_the_next() {
    let mut chunk = Chunk::new();
    for n in 0..100 {
        let stack = chunk.stack(&[("shop/Cart", &format!("method{n}"), n)]);
        chunk.sample(class::EXECUTION_SAMPLE, stack, RUNNABLE, [3, 0, 0], None);
    }
    let recording = read(&chunk.finish()).expect("it is well-formed");
    let memory = ByteBudget::new("test", MEMORY);
    let snapshot = Snapshot::read(LABELS, 1, &memory).expect("it is well-formed");
    let all = lines_of(&recording, conversion(&snapshot), 0);
    assert_eq!(all.len(), 100);
    assert_eq!(lines_of(&recording, conversion(&snapshot), 800), all);
    let few = Conversion {
        max_samples: 7,
        ..conversion(&snapshot)
    };
    assert_eq!(lines_of(&recording, few, 0), all);
}

#[test]
fn what_is_not_in_the_recording_is_left_out_and_counted() {
    let mut chunk = small();
    chunk.sample(class::EXECUTION_SAMPLE, 99, RUNNABLE, NO_TAG, None);
    chunk.sample(class::EXECUTION_SAMPLE, 0, RUNNABLE, NO_TAG, None);
    chunk.event(class::MONITOR_ENTER, &[1, u64::MAX, 1].map(Value::Integer));
    let recording = read(&chunk.finish()).expect("it is well-formed");
    let dropped: BTreeMap<String, u64> = recording
        .dropped()
        .iter()
        .map(|(reason, n)| (reason.as_str().to_owned(), n))
        .collect();
    let expected = [
        (DiscardReason::BrokenReference.as_str().to_owned(), 2),
        (DiscardReason::NegativeValue.as_str().to_owned(), 1),
    ];
    assert_eq!(dropped, BTreeMap::from(expected));
    assert_eq!(lines(&chunk.finish()), SMALL);
}

#[test]
fn damage_is_named_with_its_place() {
    let bytes = small().finish();
    let error = |bytes: &[u8]| read(bytes).unwrap_err();
    assert_eq!(error(b""), JfrError::Signature { at: 0 });
    assert_eq!(error(b"\x1f\x8b\x08"), JfrError::Signature { at: 0 });
    let mut old = bytes.clone();
    old[5] = 1;
    assert!(matches!(
        error(&old),
        JfrError::Version {
            at: 0,
            major: 1,
            ..
        }
    ));
    for cut in [3, 67, 68, bytes.len() - 1] {
        assert!(read(&bytes[..cut]).is_err(), "{cut}");
    }
    let two = [&bytes[..], &bytes[..100]].concat();
    assert!(matches!(error(&two), JfrError::ChunkSize { at, .. } if at == bytes.len()));
    let behind = [&bytes[..], b"x"].concat();
    assert_eq!(error(&behind), JfrError::Signature { at: bytes.len() });
}

#[test]
fn classes_inside_each_other_end() {
    // Each class has the one before twice: a layout of 2^40 fields.
    let mut chunk = Chunk::new();
    for id in 300..340 {
        let inner = if id == 300 { class::LONG } else { id - 1 };
        chunk.class(id, "Nested", vec![plain("a", inner), plain("b", inner)]);
    }
    chunk.class(
        102,
        "jdk.ObjectAllocationInNewTLAB",
        vec![plain("deep", 339)],
    );
    chunk.event(102, &[]);
    assert!(matches!(
        read(&chunk.finish()),
        Err(JfrError::TooMany { .. })
    ));
    // Elements of no bytes, as many as can be counted.
    let mut chunk = Chunk::new();
    chunk.class(300, "Nothing", vec![]);
    chunk.class(
        102,
        "jdk.ObjectAllocationInNewTLAB",
        vec![array("nothings", 300)],
    );
    chunk.event(102, &[Value::Integer(u64::MAX)]);
    assert!(matches!(
        read(&chunk.finish()),
        Err(JfrError::Damaged { .. })
    ));
    // A class inside of itself.
    let mut chunk = Chunk::new();
    chunk.class(
        300,
        "jdk.ObjectAllocationInNewTLAB",
        vec![plain("self", 300)],
    );
    chunk.event(300, &[]);
    assert!(matches!(
        read(&chunk.finish()),
        Err(JfrError::TooMany { .. })
    ));
}

#[test]
fn memory_is_bounded_by_the_budget_and_given_back() {
    let mut chunk = Chunk::new();
    for n in 0..20_000 {
        let stack = chunk.stack(&[("A", "a", n)]);
        chunk.sample(
            class::EXECUTION_SAMPLE,
            stack,
            RUNNABLE,
            [u64::from(n), 0, 0],
            None,
        );
    }
    let bytes = chunk.finish();
    let memory = ByteBudget::new("test", 256 * 1024);
    let refused = Recording::read(&bytes, 1, &memory);
    assert!(matches!(refused, Err(JfrError::Memory(_))));
    assert_eq!(memory.used(), 0);
    let memory = ByteBudget::new("test", MEMORY);
    let recording = Recording::read(&bytes, 1, &memory).expect("it is well-formed");
    assert!(memory.used() > 0);
    drop(recording);
    assert_eq!(memory.used(), 0);
}

/// A little recording where the fuzzer starts; `cargo test -- --ignored` writes it anew.
#[test]
#[ignore = "writes into the repository"]
fn write_the_seed_of_the_fuzzer() {
    let mut seed = (LABELS.len() as u16).to_be_bytes().to_vec();
    seed.extend_from_slice(LABELS);
    seed.extend(small().finish());
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/jfr");
    std::fs::create_dir_all(folder).expect("it is well-formed");
    std::fs::write(format!("{folder}/small"), seed).expect("it is well-formed");
}

/// A recording either is read or is not; both end, since every step is counted.
fn survives(bytes: &[u8]) {
    if let Ok(recording) = read(bytes) {
        let memory = ByteBudget::new("test", MEMORY);
        let snapshot = Snapshot::read(LABELS, 1, &memory).expect("it is well-formed");
        let terms = DraftTerms {
            seed: 1,
            memory,
            max_bytes: 0,
        };
        let mut profiles = recording.profiles(conversion(&snapshot), terms);
        while let Ok(Some(_)) = profiles.next_profile() {}
    }
}

#[test]
fn every_byte_of_a_recording_can_be_anything() {
    let bytes = small().finish();
    for at in 0..bytes.len() {
        for value in [
            0,
            1,
            2,
            0x7f,
            0x80,
            0xff,
            bytes[at] ^ 1,
            bytes[at].wrapping_add(1),
        ] {
            let mut copy = bytes.clone();
            copy[at] = value;
            survives(&copy);
        }
        survives(&bytes[..at]);
    }
}

proptest! {
    #[test]
    fn several_bytes_can_be_anything(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        chunks in 1_usize..3,
    ) {
        let mut bytes = small().finish().repeat(chunks);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        survives(&bytes);
    }

    #[test]
    fn integers_of_any_size_are_read_back(values in proptest::collection::vec(any::<u32>(), 1..50)) {
        let mut chunk = Chunk::new();
        let stack = chunk.stack(&[("A", "a", 1)]);
        for &value in &values {
            let fields = [1, stack, 5, u64::from(value)].map(Value::Integer);
            chunk.event(class::IN_NEW_TLAB, &fields);
        }
        let sum: u64 = values.iter().map(|&value| u64::from(value)).sum();
        let mut padding = Vec::new();
        varint(&mut padding, sum);
        let found = lines(&chunk.finish());
        if sum > 0 {
            prop_assert!(found[0].ends_with(&format!(" = {sum}")), "{:?}", found);
        }
    }
}
