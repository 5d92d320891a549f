//! JFR recordings at the old HTTP API: what is stored of them, what is refused and how.

use std::collections::BTreeMap;

use scoria_distributor::{Outcome, RefusalKind};
use scoria_model::{DiscardReason, Limits};

use crate::corpus::corpus;
use crate::ingest::{FORM, form, send};
use crate::support::{House, NOW_S, gzip, tenant};

/// The fuzzer's seed: the length of the labels, the labels, the recording.
const SEED: &[u8] = include_bytes!("../../../../fuzz/seeds/jfr/small");
const QUERY: &str = "name=shop.api{region=eu}&format=jfr&spyName=javaspy&sampleRate=100";

fn labels() -> &'static [u8] {
    &SEED[2..2 + usize::from(SEED[1])]
}

fn recording() -> &'static [u8] {
    &SEED[2 + usize::from(SEED[1])..]
}

/// What is stored of the recording, without and with its labels.
fn expected(context: &str) -> Vec<String> {
    let base = |name: &str| {
        format!(
            r#"{{__name__="{name}", jfr_event="itimer", pyroscope_spy="javaspy", region="eu", service_name="shop.api"}} {name}"#
        )
    };
    let cpu = base("process_cpu") + ":cpu:nanoseconds:cpu:nanoseconds";
    let mut rows = vec![
        base("memory") + ":alloc_in_new_tlab_bytes:bytes:space:bytes = 2048",
        base("memory") + ":alloc_in_new_tlab_objects:count:space:bytes = 2",
        base("mutex") + ":contentions:count:mutex:count = 1",
        base("mutex") + ":delay:nanoseconds:mutex:count = 500",
    ];
    if context.is_empty() {
        rows.push(cpu + " = 40000000");
    } else {
        rows.push(cpu.clone() + " = 30000000");
        let with = format!("service_name=\"shop.api\", {context}");
        rows.push(cpu.replace("service_name=\"shop.api\"", &with) + " = 10000000");
    }
    rows.sort();
    rows
}

#[tokio::test]
async fn every_shape_of_a_recording_is_taken_and_its_resend_recognised() {
    let context = r#"span_name="GET /", thread="pool-1""#;
    let (plain, zipped) = (recording(), gzip(recording()));
    let shapes = [
        (None, plain.to_vec(), ""),
        (None, zipped.clone(), ""),
        (Some(FORM), form(&[("jfr", plain)]), ""),
        (Some(FORM), form(&[("jfr", &zipped), ("labels", b"")]), ""),
        (
            Some(FORM),
            form(&[("labels", labels()), ("jfr", plain)]),
            context,
        ),
        (
            Some(FORM),
            form(&[("jfr", &zipped), ("labels", &gzip(labels()))]),
            context,
        ),
    ];
    for (content_type, body, context) in shapes {
        let house = House::new(Limits::default());
        let summary = send(&house, QUERY, content_type, body.clone()).await;
        let summary = summary.unwrap();
        assert!(summary.outcomes.iter().all(|o| *o == Outcome::Stored));
        let mut stored = house.ingester.stored();
        stored.sort();
        assert_eq!(stored, expected(context));
        assert_eq!(house.ingester.calls().len(), 1);
        let again = send(&house, QUERY, content_type, body).await.unwrap();
        assert!(again.outcomes.iter().all(|o| *o == Outcome::Duplicate));
        assert_eq!(house.bodies.used(), 0);
    }
}

#[tokio::test]
async fn times_service_and_event() {
    let house = House::new(Limits::default());
    let query = format!(
        "name=shop.cpu{{service_name=mine,jfr_event=own,__name__=shop}}&format=jfr&from={}&until={NOW_S}",
        NOW_S - 10
    );
    send(&house, &query, None, recording().to_vec())
        .await
        .unwrap();
    for row in house.ingester.rows() {
        assert_eq!(row.time.0, (NOW_S - 10) * 1_000_000_000);
        assert_eq!(row.duration_ns, 10_000_000_000);
        let labels = row.labels;
        assert!(labels.contains(r#"service_name="mine""#), "{labels}");
        assert!(labels.contains(r#"app_name="shop""#), "{labels}");
        assert!(labels.contains(r#"jfr_event="own""#), "{labels}");
    }
}

/// Without times it is now, and an end before the start is no duration.
#[tokio::test]
async fn times_that_are_missing_or_the_wrong_way_round() {
    for (times, start_s) in [
        (String::new(), NOW_S),
        (
            format!("&from={}&until={}", NOW_S - 5, NOW_S - 9),
            NOW_S - 5,
        ),
    ] {
        let house = House::new(Limits::default());
        let query = format!("{QUERY}{times}");
        let sent = send(&house, &query, None, recording().to_vec()).await;
        sent.unwrap();
        for row in house.ingester.rows() {
            assert_eq!(row.time.0, start_s * 1_000_000_000, "{times}");
            assert_eq!(row.duration_ns, 0, "{times}");
        }
    }
}

#[tokio::test]
async fn the_span_of_an_event_stays_with_its_sample() {
    let house = House::new(Limits::default());
    let body = form(&[("jfr", recording()), ("labels", labels())]);
    send(&house, QUERY, Some(FORM), body).await.unwrap();
    let rows = house.ingester.rows();
    let spans: Vec<u64> = rows.iter().flat_map(|row| row.spans.clone()).collect();
    // 16 digits in hexadecimal, whose bytes are the number's, the lowest first.
    assert_eq!(spans, [0xabcd_u64.swap_bytes()]);
    assert!(rows.iter().all(|row| !row.labels.contains("profile_id")));
}

/// The recording with its samples renamed to events that nobody reads.
fn without_samples() -> Vec<u8> {
    let mut bytes = recording().to_vec();
    for name in [
        &b"jdk.ExecutionSample"[..],
        b"jdk.ObjectAllocationInNewTLAB",
        b"jdk.JavaMonitorEnter",
    ] {
        let at = memchr::memmem::find(&bytes, name).expect("the metadata names it");
        bytes[at] = b'x';
    }
    bytes
}

#[tokio::test]
async fn a_recording_without_samples_is_a_success_and_counted() {
    let house = House::new(Limits::default());
    let summary = send(&house, QUERY, None, without_samples()).await.unwrap();
    assert_eq!(summary.outcomes, [Outcome::Empty]);
    assert!(house.ingester.stored().is_empty());
    assert_eq!(house.discarded("empty_profile"), 1);
}

#[tokio::test]
async fn samples_without_a_stacktrace_can_be_read_of_afterwards() {
    let house = House::new(Limits::default());
    // What stands for the stacktraces is not found under another name.
    let mut bytes = recording().to_vec();
    let name = b"jdk.types.StackTrace";
    let at = memchr::memmem::find(&bytes, name).expect("the metadata names it");
    bytes[at] = b'x';
    let summary = send(&house, QUERY, None, bytes).await.unwrap();
    assert_eq!(summary.outcomes, [Outcome::Empty]);
    let told = house.distributor.rejections(&tenant());
    let mut told: Vec<_> = told
        .iter()
        .map(|entry| (entry.reason.as_str(), &*entry.service, entry.count))
        .collect();
    told.sort_unstable();
    let expected = [
        ("broken_reference", "shop.api", 8),
        ("empty_profile", "shop.api", 1),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn the_size_of_a_recording_is_counted_as_that_of_one() {
    let house = House::new(Limits::default());
    let sent = send(&house, QUERY, None, gzip(recording())).await;
    assert_eq!(sent.unwrap().outcomes.len(), 3);
    let by = |kind: &str| {
        let name = "pyroscope_distributor_received_compressed_bytes_sum";
        house.metric(&format!("{name}{{type=\"{kind}\",tenant=\"anonymous\"}}"))
    };
    assert_eq!(by("jfr"), gzip(recording()).len() as u64);
    assert_eq!((by("process_cpu"), by("memory")), (0, 0));
}

/// Parts of a form by the name alone: what is no file is taken as well.
#[tokio::test]
async fn parts_without_a_file_name_and_a_recording_without_a_limit() {
    let house = House::new(Limits {
        max_jfr_size_bytes: 0,
        max_profile_size_bytes: 0,
        ..Limits::default()
    });
    let body = form(&[("jfr", &gzip(recording())), ("labels", labels())]);
    let with = b"; filename=\"jfr\"";
    let at = memchr::memmem::find(&body, with).unwrap();
    let body = [&body[..at], &body[at + with.len()..]].concat();
    send(&house, QUERY, Some(FORM), body).await.unwrap();
    let mut stored = house.ingester.stored();
    stored.sort();
    let context = r#"span_name="GET /", thread="pool-1""#;
    assert_eq!(stored, expected(context));
}

#[tokio::test]
async fn without_a_rate_times_are_nothing_and_the_rest_is_stored() {
    let house = House::new(Limits::default());
    let query = QUERY.replace("=100", "=0");
    let sent = send(&house, &query, None, recording().to_vec()).await;
    let outcomes = sent.unwrap().outcomes;
    assert_eq!(outcomes[0], Outcome::Empty);
    assert_eq!(house.ingester.stored().len(), 4);
    // With a context and without.
    assert_eq!(house.dropped("zero_value"), 2);
}

/// Limits, Content-Type, body, reason, and what the error says.
type Refused<'a> = (&'a Limits, Option<&'a str>, Vec<u8>, DiscardReason, &'a str);

async fn refused(table: &[Refused<'_>]) {
    for (limits, content_type, body, reason, says) in table {
        let house = House::new((*limits).clone());
        let sent = send(&house, QUERY, *content_type, body.clone()).await;
        let error = sent.expect_err("it is refused");
        assert_eq!(
            error.kind(),
            RefusalKind::Invalid { reason: *reason },
            "{error}"
        );
        assert!(error.is_about_body(), "{error}");
        assert!(error.to_string().contains(*says), "{error}");
        assert_eq!(house.discarded(reason.as_str()), 1, "{error}");
        assert_eq!(house.bodies.used(), 0);
    }
}

#[tokio::test]
async fn refusals_of_the_labels_beside_a_recording() {
    let tiny = Limits {
        max_jfr_size_bytes: 100,
        ..Limits::default()
    };
    let malformed = DiscardReason::MalformedProfile;
    refused(&[
        (
            &Limits::default(),
            Some(FORM),
            form(&[("jfr", recording()), ("labels", b"\x0a\x05")]),
            malformed,
            "LabelsSnapshot",
        ),
        (
            &tiny,
            Some(FORM),
            form(&[("jfr", b"FLR\0"), ("labels", &[0; 101])]),
            DiscardReason::ProfileSizeLimit,
            "the labels of the JFR recording exceed the size limit (max_jfr_size_bytes, actual: 101 ",
        ),
        (
            &Limits::default(),
            Some(FORM),
            form(&[("jfr", recording()), ("labels", b"x")]),
            malformed,
            "LabelsSnapshot",
        ),
    ])
    .await;
}

#[tokio::test]
async fn refusals() {
    let small = Limits {
        max_jfr_size_bytes: 1_000,
        ..Limits::default()
    };
    let malformed = DiscardReason::MalformedProfile;
    let table: [Refused<'_>; 7] = [
        (
            &Limits::default(),
            None,
            Vec::new(),
            malformed,
            "not a JFR recording",
        ),
        (
            &Limits::default(),
            None,
            recording()[..900].to_vec(),
            malformed,
            "900 are left",
        ),
        (
            &Limits::default(),
            None,
            gzip(recording())[..300].to_vec(),
            malformed,
            "decompress",
        ),
        (
            &Limits::default(),
            Some(FORM),
            form(&[("labels", labels())]),
            malformed,
            "no part \"jfr\"",
        ),
        (
            &Limits::default(),
            Some(FORM),
            b"nothing".to_vec(),
            malformed,
            "boundary",
        ),
        (
            &small,
            None,
            recording().to_vec(),
            DiscardReason::ProfileSizeLimit,
            "max_jfr_size_bytes, actual: ",
        ),
        (
            &small,
            Some(FORM),
            form(&[("jfr", &gzip(recording()))]),
            DiscardReason::ProfileSizeLimit,
            "max_jfr_size_bytes, actual: more than 1000",
        ),
    ];
    refused(&table).await;
    let house = House::with_memory(Limits::default(), 10_000);
    let sent = send(&house, QUERY, None, recording().to_vec()).await;
    let kind = sent.unwrap_err().kind();
    assert_eq!(kind, RefusalKind::TooLarge, "no waiting helps");
    let house = House::with_memory(Limits::default(), 10_000_000);
    let _others = house.bodies.try_acquire(9_990_000).unwrap();
    let sent = send(&house, QUERY, None, recording().to_vec()).await;
    let kind = sent.unwrap_err().kind();
    assert!(matches!(kind, RefusalKind::Overloaded { .. }), "{kind:?}");
}

/// Totals by profile type, and how many series there are of them.
fn totals(house: &House) -> BTreeMap<String, (usize, i64)> {
    let mut totals: BTreeMap<String, (usize, i64)> = BTreeMap::new();
    for row in house.ingester.rows() {
        let total = totals.entry(row.kind).or_default();
        *total = (total.0 + 1, total.1 + row.total);
    }
    totals
}

/// Real recordings: what the flame graphs of the corpus add up to.
#[tokio::test]
async fn real_recordings() {
    let folder = corpus().map(|folder| folder.join("pyroscope/pkg/og/convert/jfr/testdata"));
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        eprintln!("skipped: no corpus of JFR recordings");
        return;
    };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
    let house = House::new(Limits::default());
    let body = form(&[
        ("jfr", &read("dump1.jfr.gz")),
        ("labels", &read("dump1.labels.pb.gz")),
    ]);
    send(&house, QUERY, Some(FORM), body).await.unwrap();
    let expected = [(CPU.to_owned(), (5, 21_880_000_000))];
    assert_eq!(totals(&house), BTreeMap::from(expected));

    let house = House::new(Limits::default());
    let body = read("cortex-dev-01__kafka-0__cpu_lock0_alloc0__0.jfr.gz");
    send(&house, QUERY, None, body).await.unwrap();
    let expected = [
        ("block:contentions:count:block:count", 435),
        ("block:delay:nanoseconds:block:count", 36_035_783),
        (
            "memory:alloc_in_new_tlab_bytes:bytes:space:bytes",
            1_598_335_640,
        ),
        ("memory:alloc_in_new_tlab_objects:count:space:bytes", 7_972),
        (
            "memory:alloc_outside_tlab_bytes:bytes:space:bytes",
            43_715_768,
        ),
        ("memory:alloc_outside_tlab_objects:count:space:bytes", 2_238),
        ("mutex:contentions:count:mutex:count", 1_773),
        ("mutex:delay:nanoseconds:mutex:count", 1_395_726_533),
        (CPU, 5_820_000_000),
    ];
    let expected = expected.map(|(kind, total)| (kind.to_owned(), (1, total)));
    assert_eq!(totals(&house), BTreeMap::from(expected));
}
