//! What normalisation keeps, merges, splits, drops and refuses, on profiles small enough to read.

#![allow(
    dead_code,
    reason = "each test file uses its part of the shared support"
)]

use crate::support::{LABELS, NOW, Row, any_time, folded, normalise, push, small};
use scoria_model::DiscardReason as Reason;
use scoria_model::Limits;
use scoria_pprof::encode::{FunctionRow, MappingRow};
use scoria_pprof::{Normalised, ProfileEncoder};

const CPU: &[(&str, &str)] = &[("samples", "count"), ("cpu", "nanoseconds")];
const COUNT: &[(&str, &str)] = &[("samples", "count")];

fn of(types: &[(&str, &str)], rows: &[Row<'_>]) -> Normalised {
    let bytes = small(types, rows);
    normalise(&push(&bytes, LABELS), &any_time()).expect("accepted")
}

fn refused(bytes: &[u8], labels: &[(&str, &str)], limits: &Limits) -> (Reason, String) {
    let rejection = normalise(&push(bytes, labels), limits).expect_err("refused");
    (rejection.reason, rejection.message)
}

/// The folded stacks of the only profile.
fn only(normalised: &Normalised) -> Vec<String> {
    let profiles = folded(normalised);
    assert_eq!(profiles.len(), 1, "{profiles:?}");
    profiles.into_values().next().unwrap_or_default()
}

#[test]
fn each_sample_type_is_a_profile_without_the_zeros() {
    let rows: [Row<'_>; 2] = [(&["b", "a"], &[1, 10], &[]), (&["a"], &[0, 20], &[])];
    let profiles = folded(&of(CPU, &rows));
    let labels = r#"{__name__="process_cpu", service_name="api"}"#;
    let samples = &profiles[&format!("{labels} process_cpu:samples:count:cpu:nanoseconds")];
    let cpu = &profiles[&format!("{labels} process_cpu:cpu:nanoseconds:cpu:nanoseconds")];
    assert_eq!(samples, &["a;b 1"]);
    assert_eq!(cpu, &["a 20", "a;b 10"]);
}

#[test]
fn a_type_whose_values_are_all_zero_is_a_type_still() {
    let normalised = of(CPU, &[(&["a"], &[1, 0], &[])]);
    assert_eq!(normalised.part.profiles.len(), 2);
    assert_eq!(normalised.part.sample_value, [1]);
}

#[test]
fn equal_stacktraces_are_added_up() {
    let rows: [Row<'_>; 3] = [
        (&["b", "a"], &[1], &[]),
        (&["a"], &[5], &[]),
        (&["b", "a"], &[2], &[]),
    ];
    assert_eq!(only(&of(COUNT, &rows)), ["a 5", "a;b 3"]);
}

#[test]
fn a_sum_that_does_not_fit_is_malformed() {
    let rows: [Row<'_>; 2] = [(&["a"], &[i64::MAX], &[]), (&["a"], &[1], &[])];
    let (reason, message) = refused(&small(COUNT, &rows), LABELS, &any_time());
    assert_eq!(reason, Reason::MalformedProfile);
    assert!(message.contains("overflow"), "{message}");
}

#[test]
fn negative_and_zero_samples_are_dropped_and_counted() {
    let rows: [Row<'_>; 3] = [
        (&["a"], &[0, 0], &[]),
        (&["b"], &[5, -1], &[]),
        (&["c"], &[0, 2], &[]),
    ];
    let normalised = of(CPU, &rows);
    assert_eq!(normalised.told.dropped.get(Reason::ZeroValue), 1);
    assert_eq!(normalised.told.dropped.get(Reason::NegativeValue), 1);
    assert_eq!(normalised.told.stats.entries, 1);
    assert_eq!(normalised.part.functions.len(), 1, "only what is used");
}

#[test]
fn nothing_left_is_an_empty_profile_and_no_error() {
    for rows in [&[][..], &[(&["a"][..], &[0i64][..], &[][..])]] {
        let normalised = of(COUNT, rows);
        assert!(normalised.part.profiles.is_empty());
        assert_eq!(normalised.told.dropped.get(Reason::EmptyProfile), 1);
    }
}

#[test]
fn text_labels_make_series_and_the_series_label_wins() {
    let rows: [Row<'_>; 4] = [
        (&["a"], &[1], &[("thread", "t1"), ("service_name", "other")]),
        (&["a"], &[2], &[("thread", "t2")]),
        (&["b"], &[4], &[("thread", "t1")]),
        (&["b"], &[8], &[]),
    ];
    let profiles = folded(&of(COUNT, &rows));
    let seen: Vec<_> = profiles
        .iter()
        .map(|(key, lines)| {
            let labels = key.split(' ').take(3).collect::<Vec<_>>().join(" ");
            (labels, lines.join(" | "))
        })
        .collect();
    let expected = [
        (r#"service_name="api", thread="t1"}"#, "a 1 | b 4"),
        (r#"service_name="api", thread="t2"}"#, "a 2"),
        (r#"service_name="api"}"#, "b 8"),
    ];
    assert_eq!(seen.len(), expected.len());
    for (labels, lines) in expected {
        let found = seen.iter().find(|(key, _)| key.contains(labels));
        assert_eq!(found.map(|(_, l)| l.as_str()), Some(lines), "{labels}");
    }
}

#[test]
fn span_and_trace_stay_with_the_sample() {
    const SPAN: &str = "00f067aa0ba902b7";
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let rows: [Row<'_>; 5] = [
        (&["a"], &[1], &[("span_id", SPAN), ("trace_id", TRACE)]),
        (&["a"], &[2], &[("profile_id", SPAN), ("trace_id", TRACE)]),
        (&["a"], &[4], &[]),
        (&["a"], &[8], &[("span_id", "xyz")]),
        (&["a"], &[16], &[("trace_id", "0123")]),
    ];
    let normalised = of(COUNT, &rows);
    assert_eq!(
        only(&normalised),
        ["a 28".to_owned(), format!("a 3 span={SPAN} trace={TRACE}"),]
    );
    assert_eq!(normalised.told.dropped.get(Reason::MalformedSpanId), 2);
    let little_endian = u64::from_le_bytes([0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    assert!(normalised.part.sample_span.contains(&little_endian));
}

#[test]
fn one_bad_label_group_leaves_the_others() {
    let long = "x".repeat(3000);
    let rows: [Row<'_>; 3] = [
        (&["a"], &[1], &[("tag", &long)]),
        (&["b"], &[2], &[("tag", "fine")]),
        (&["c"], &[4], &[("tag", &long)]),
    ];
    let normalised = of(COUNT, &rows);
    assert_eq!(only(&normalised), ["b 2"]);
    let [refusal] = &normalised.told.refused[..] else {
        panic!("{:?}", normalised.told.refused);
    };
    assert_eq!(refusal.rejection.reason, Reason::LabelValueTooLong);
    assert_eq!((refusal.groups, refusal.samples), (1, 2));
    assert!(refusal.rejection.message.contains("limit: 2048"));
}

#[test]
fn a_profile_whose_groups_are_all_bad_is_refused() {
    let long = "x".repeat(3000);
    let bytes = small(COUNT, &[(&["a"], &[1], &[("tag", &long)])]);
    let (reason, _) = refused(&bytes, LABELS, &any_time());
    assert_eq!(reason, Reason::LabelValueTooLong);
}

#[test]
fn deep_stacks_lose_their_leaf_side() {
    let bytes = small(COUNT, &[(&["leaf", "mid", "root"], &[1], &[])]);
    let limits = Limits {
        max_profile_stacktrace_depth: 2,
        ..any_time()
    };
    let normalised = normalise(&push(&bytes, LABELS), &limits).unwrap();
    assert_eq!(only(&normalised), ["root;mid 1"]);
    assert_eq!(normalised.told.dropped.get(Reason::DepthTruncated), 1);
}

#[test]
fn a_root_that_comes_back_counts_for_the_depth() {
    let names: Vec<String> = (1..=50).map(|n| format!("f{n}")).collect();
    let frames = |range: std::ops::RangeInclusive<usize>| -> Vec<&str> {
        range.map(|n| &*names[n - 1]).collect()
    };
    let (cut, middle, whole) = (frames(1..=30), frames(10..=40), frames(20..=50));
    let rows: [Row<'_>; 3] = [
        (&cut, &[1], &[]),
        (&middle, &[10], &[]),
        (&whole, &[100], &[]),
    ];
    let bytes = small(&[("inuse_space", "bytes")], &rows);
    let labels = [LABELS, &[("spy_name", "gospy")]].concat();
    let stacks = |max_profile_stacktrace_depth| {
        let limits = Limits {
            max_profile_stacktrace_depth,
            ..any_time()
        };
        let normalised = normalise(&push(&bytes, &labels), &limits).unwrap();
        let n_cut = normalised.told.dropped.get(Reason::DepthTruncated);
        (only(&normalised), n_cut)
    };
    let rooted = |from: usize, value: u64| {
        let path: Vec<&str> = frames(from..=50).into_iter().rev().collect();
        format!("{} {value}", path.join(";"))
    };
    let all = vec![rooted(20, 100), rooted(10, 10), rooted(1, 1)];
    assert_eq!(stacks(0), (all, 0));
    // Stacktraces that differ in what is beyond the depth are the same.
    let cut = vec![rooted(20, 100), rooted(16, 11)];
    assert_eq!(stacks(35), (cut, 2));
    assert_eq!(stacks(25), (vec![rooted(26, 111)], 3));
}

#[test]
fn long_symbols_keep_their_tail_at_a_character() {
    let bytes = small(COUNT, &[(&["aaaaaaaaaaaéééééé"], &[1], &[])]);
    let limits = Limits {
        max_profile_symbol_value_length: 11,
        ..any_time()
    };
    let normalised = normalise(&push(&bytes, LABELS), &limits).unwrap();
    assert_eq!(only(&normalised), ["ééééé 1"]);
    assert_eq!(normalised.told.dropped.get(Reason::SymbolTruncated), 1);
}

#[test]
fn addresses_of_symbolised_mappings_do_not_keep_frames_apart() {
    let profile = |flags| {
        let mut encoder = ProfileEncoder::new();
        encoder.sample_type("samples", "count");
        encoder.time(NOW.0, 1);
        let mapping = encoder.mapping(&MappingRow {
            start: 0x1000,
            limit: 0x9000,
            filename: "/bin/x",
            build_id: "ab12",
            flags,
            ..MappingRow::default()
        });
        let function = encoder.function(&FunctionRow {
            name: "f",
            ..FunctionRow::default()
        });
        for address in [0x1010, 0x1020] {
            let location = encoder.location(mapping, address, &[(function, 5)]);
            encoder.sample([location], &[1], &[]);
        }
        encoder.finish()
    };
    let merged = normalise(&push(&profile(1), LABELS), &any_time()).unwrap();
    let addresses = |of: &Normalised| -> Vec<u64> {
        of.part
            .locations
            .iter()
            .map(|location| location.address)
            .collect()
    };
    assert_eq!(addresses(&merged), [0]);
    assert_eq!(merged.part.mappings[0].start, 0);
    assert_eq!(only(&merged), ["f 2"]);
    let apart = normalise(&push(&profile(0), LABELS), &any_time()).unwrap();
    assert_eq!(addresses(&apart), [0x1010, 0x1020]);
    assert_eq!(apart.part.mappings[0].limit, 0x9000);
}

#[test]
fn broken_references_drop_their_samples_and_a_missing_mapping_does_not() {
    let mut encoder = ProfileEncoder::new();
    encoder.sample_type("samples", "count");
    encoder.time(NOW.0, 1);
    let function = encoder.function(&FunctionRow {
        name: "f",
        ..FunctionRow::default()
    });
    let good = encoder.location(77, 0x10, &[(function, 1)]);
    let native = encoder.location(0, 0x20, &[]);
    let empty = encoder.location(0, 0, &[]);
    let lost = encoder.location(0, 0, &[(99, 1)]);
    for (location, value) in [(good, 1), (native, 2), (empty, 4), (lost, 8), (1000, 16)] {
        encoder.sample([location], &[value], &[]);
    }
    let bytes = encoder.finish();
    let normalised = normalise(&push(&bytes, LABELS), &any_time()).unwrap();
    assert_eq!(only(&normalised), ["0x20 2", "f 1"]);
    assert_eq!(normalised.told.dropped.get(Reason::BrokenReference), 3);
    let mut locations = normalised.part.locations.iter();
    assert!(locations.all(|location| location.mapping == u32::MAX));
}

#[test]
fn type_parameters_of_go_functions_go() {
    let rows: [Row<'_>; 2] = [
        (&["slices.Sort[go.shape.int]", "main.main"], &[1], &[]),
        (&["slices.Sort[go.shape.string]", "main.main"], &[2], &[]),
    ];
    let normalised = of(COUNT, &rows);
    assert_eq!(normalised.told.stats.language.as_str(), "go");
    assert_eq!(only(&normalised), ["main.main;slices.Sort[...] 3"]);
}

#[test]
fn the_ingestion_window_and_the_missing_time() {
    let at = |time_ns: i64| {
        let mut encoder = ProfileEncoder::new();
        encoder.sample_type("samples", "count");
        encoder.time(time_ns, 1);
        let function = encoder.function(&FunctionRow::default());
        let location = encoder.location(0, 0, &[(function, 1)]);
        encoder.sample([location], &[1], &[]);
        encoder.finish()
    };
    let hour = 3_600_000_000_000;
    let limits = Limits::default();
    for (time, key) in [
        (NOW.0 - hour - 1, "reject_older_than"),
        (NOW.0 + hour / 6 + 1, "reject_newer_than"),
        (-1, "reject_older_than"),
    ] {
        let (reason, message) = refused(&at(time), LABELS, &limits);
        assert_eq!(reason, Reason::NotInIngestionWindow);
        assert!(message.contains(key), "{message}");
    }
    for (time, stored) in [(NOW.0 - hour + 1, NOW.0 - hour + 1), (0, NOW.0)] {
        let bytes = at(time);
        let normalised = normalise(&push(&bytes, LABELS), &limits).unwrap();
        assert_eq!(normalised.part.profiles[0].time.0, stored);
    }
}

#[test]
fn limits_name_themselves_and_the_numbers() {
    let rows: Vec<Row<'_>> = vec![(&["a"], &[1], &[("l", "1"), ("m", "2")]); 4];
    let bytes = small(COUNT, &rows);
    let size = bytes.len() as u64;
    let cases = [
        (
            Limits {
                max_profile_size_bytes: size - 1,
                ..any_time()
            },
            Reason::ProfileSizeLimit,
            format!(
                "(max_profile_size_bytes, actual: {size}, limit: {})",
                size - 1
            ),
        ),
        (
            Limits {
                max_profile_stacktrace_samples: 3,
                ..any_time()
            },
            Reason::SamplesLimit,
            "(max_profile_stacktrace_samples, actual: 4, limit: 3)".to_owned(),
        ),
        (
            Limits {
                max_profile_stacktrace_sample_labels: 1,
                ..any_time()
            },
            Reason::SampleLabelsLimit,
            "(max_profile_stacktrace_sample_labels, actual: 2, limit: 1)".to_owned(),
        ),
    ];
    for (limits, expected, text) in cases {
        let (reason, message) = refused(&bytes, LABELS, &limits);
        assert_eq!(reason, expected);
        let start = "the profile with labels '{__name__=\"process_cpu\", service_name=\"api\"}' exceeds the ";
        assert!(message.starts_with(start), "{message}");
        assert!(message.contains(&text), "{message}");
    }
}

#[test]
fn label_rules_in_their_order() {
    let bytes = small(COUNT, &[(&["a"], &[1], &[])]);
    let many: Vec<(String, String)> = (0..31)
        .map(|n| (format!("label{n}"), "v".to_owned()))
        .collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let (name, value) = ("n".repeat(1025), "v".repeat(2049));
    let cases: [(&[(&str, &str)], Reason); 6] = [
        (&many, Reason::MaxLabelNamesPerSeries),
        (&[("service_name", "x")], Reason::InvalidLabels),
        (&[("__name__", "x"), (&name, "v")], Reason::LabelNameTooLong),
        (
            &[("__name__", "x"), ("n", &value)],
            Reason::LabelValueTooLong,
        ),
        (&[("__name__", "x"), ("", "v")], Reason::InvalidLabels),
        (
            &[("__name__", "x"), ("a", "1"), ("a", "2")],
            Reason::DuplicateLabelNames,
        ),
    ];
    for (labels, expected) in cases {
        assert_eq!(refused(&bytes, labels, &any_time()).0, expected);
    }
}

#[test]
fn special_labels() {
    let bytes = small(COUNT, &[(&["a"], &[1], &[])]);
    let labels = [
        ("__name__", "godeltaprof_memory"),
        ("__session_id__", "0200000000000000"),
        ("__order__", "x"),
        ("__type__", "lie"),
        ("__kept__", "yes"),
    ];
    let series = |limits: &Limits| {
        let normalised = normalise(&push(&bytes, &labels), limits).unwrap();
        let profiles = folded(&normalised);
        profiles.into_keys().next().unwrap_or_default()
    };
    assert_eq!(
        series(&any_time()),
        r#"{__kept__="yes", __name__="memory", __name_replaced__="godeltaprof_memory", service_name="unknown_service"} memory:samples:count:cpu:nanoseconds"#
    );
    let limits = Limits {
        max_sessions_per_series: 2,
        ..any_time()
    };
    assert!(series(&limits).contains(r#"__session_id__="0000000000000000""#));
}

#[test]
fn the_part_carries_time_duration_period_and_key() {
    let normalised = of(COUNT, &[(&["a"], &[1], &[])]);
    let row = normalised.part.profiles[0];
    assert_eq!(row.time, NOW);
    assert_eq!(row.duration_ns, 10_000_000_000);
    assert_eq!(row.period, 10_000_000);
    assert_eq!(normalised.part.writes[0].key.0, [3; 16]);
}
