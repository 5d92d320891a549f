//! The old HTTP API's formats other than pprof: what is stored of them, what is refused and how.

use bytes::Bytes;
use scoria_distributor::rejections::Treatment;
use scoria_distributor::{IngestError, IngestRequest, Outcome, RefusalKind};
use scoria_model::varint::{put_bytes, put_u64};
use scoria_model::{DiscardReason, Limits};

use crate::ingest::send;
use crate::support::{House, gzip, tenant};

const GROUPS: &str = "main;work 3\nmain;rest 4\n";
const STORED: &str = r#"{__name__="process_cpu", pyroscope_spy="unknown", service_name="app"} process_cpu:cpu:nanoseconds:cpu:nanoseconds = 70000000"#;

fn node(name: &str, own: u64, n_children: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, name.as_bytes());
    put_u64(&mut out, own);
    put_u64(&mut out, n_children);
    out
}

/// The stacks of [`GROUPS`] in every format: query, Content-Type, body.
fn shapes() -> Vec<(&'static str, Option<&'static str>, Vec<u8>)> {
    let tree = [
        node("", 0, 1),
        node("main", 0, 2),
        node("work", 3, 0),
        node("rest", 4, 0),
    ]
    .concat();
    let trie = [
        node("", 0, 1),
        node("main;", 0, 2),
        node("work", 3, 0),
        node("rest", 4, 0),
    ]
    .concat();
    let lines = "main;work\n".repeat(3) + &"main;rest\n".repeat(4);
    vec![
        ("name=app", None, GROUPS.into()),
        (
            "name=app.cpu&format=groups",
            Some("text/plain"),
            GROUPS.into(),
        ),
        ("name=app.itimer&format=folded", None, GROUPS.into()),
        ("name=app&format=nonsense&units=bytes", None, GROUPS.into()),
        ("name=app&format=folded", None, gzip(GROUPS.as_bytes())),
        ("name=app&format=lines", None, lines.into()),
        ("name=app&format=tree", None, tree.clone()),
        ("name=app", Some("binary/octet-stream+tree"), tree),
        ("name=app&format=trie", None, trie.clone()),
        ("name=app", Some("binary/octet-stream+trie"), trie),
        ("name=app&format=speedscope", None, speedscope(&["none"])),
        ("name=app", Some("application/json"), speedscope(&["none"])),
    ]
}

/// A profile for each unit.
fn speedscope(units: &[&str]) -> Vec<u8> {
    let profile = |(unit, at): (&&str, usize)| {
        format!(
            r#"{{"type":"sampled","name":"p{at}","unit":"{unit}","startValue":0,"samples":[[0,1],[0,2]],"weights":[3,4]}}"#
        )
    };
    let profiles: Vec<String> = units.iter().zip(0..).map(profile).collect();
    let text = format!(
        r#"{{"$schema":"https://www.speedscope.app/file-format-schema.json","shared":{{"frames":[{{"name":"main"}},{{"name":"work"}},{{"name":"rest"}}]}},"profiles":[{}]}}"#,
        profiles.join(",")
    );
    text.into_bytes()
}

fn invalid(error: &IngestError) -> DiscardReason {
    match error.kind() {
        RefusalKind::Invalid { reason } => reason,
        kind => panic!("{kind:?}: {error}"),
    }
}

#[tokio::test]
async fn every_format_is_stored_alike_and_its_resend_is_recognised() {
    for (query, content_type, body) in shapes() {
        let house = House::new(Limits::default());
        let summary = send(&house, query, content_type, body.clone()).await;
        assert_eq!(summary.unwrap().outcomes, [Outcome::Stored], "{query}");
        let stored = house.ingester.stored().join("\n");
        assert_eq!(
            stored.replace("profile_name=\"p0\", ", ""),
            STORED,
            "{query}"
        );
        let again = send(&house, query, content_type, body.clone()).await;
        assert_eq!(again.unwrap().outcomes, [Outcome::Duplicate], "{query}");
        let house = House::new(Limits::default());
        let request = IngestRequest {
            query,
            content_type,
            content_encoding: Some("gzip"),
            body: Bytes::from(gzip(&body)),
        };
        house.distributor.ingest(&tenant(), request).await.unwrap();
        assert_eq!(house.ingester.stored().len(), 1, "{query}");
        assert_eq!(house.bodies.used(), 0);
    }
}

#[tokio::test]
async fn another_interval_rate_or_app_is_another_upload() {
    let house = House::new(Limits::default());
    for query in [
        "name=app&from=1795350600&until=1795350610",
        "name=app&from=1795350610&until=1795350620",
        "name=app&from=1795350610&until=1795350620&sampleRate=97",
        "name=app.wall&from=1795350610&until=1795350620&sampleRate=97",
        "name=app&from=1795350610&until=1795350620&spyName=ebpfspy",
    ] {
        let summary = send(&house, query, None, GROUPS.into()).await.unwrap();
        assert_eq!(summary.outcomes, [Outcome::Stored], "{query}");
    }
}

#[tokio::test]
async fn the_name_decides_type_service_and_scale() {
    let table = [
        (
            "name=shop.api.alloc_space",
            "shop.api",
            "memory",
            "alloc_space:bytes::",
            7,
        ),
        (
            "name=app.goroutines",
            "app",
            "goroutine",
            "goroutines:count::",
            7,
        ),
        (
            "name=app.wall&sampleRate=1000",
            "app",
            "wall",
            "wall:nanoseconds:cpu:nanoseconds",
            7_000_000,
        ),
        (
            "name=app&sampleRate=0",
            "app",
            "process_cpu",
            "samples:count::",
            7,
        ),
    ];
    for (query, service, name, kind, total) in table {
        let house = House::new(Limits::default());
        send(&house, query, None, GROUPS.into()).await.unwrap();
        let expected = format!(
            "{{__name__=\"{name}\", pyroscope_spy=\"unknown\", service_name=\"{service}\"}} {name}:{kind} = {total}"
        );
        assert_eq!(house.ingester.stored(), [expected]);
    }
}

#[tokio::test]
async fn a_service_that_the_client_names_leaves_the_app_a_label_of_its_own() {
    let house = House::new(Limits::default());
    let query = "name=app.cpu%7Bservice_name%3Dmine%2Cregion%3Deu%7D&spyName=ebpfspy";
    send(&house, query, None, GROUPS.into()).await.unwrap();
    let stored = house.ingester.stored().join("\n");
    let labels = r#"{__name__="process_cpu", app_name="app", pyroscope_spy="ebpfspy", region="eu", service_name="mine"}"#;
    assert!(stored.starts_with(labels), "{stored}");
    let house = House::new(Limits::default());
    let query = "name=app.cpu%7Bservice_name%3Dmine%2Capp_name%3Dx%7D";
    send(&house, query, None, GROUPS.into()).await.unwrap();
    let stored = house.ingester.stored().join("\n");
    assert!(stored.contains(r#"app_name="x""#), "{stored}");
}

#[tokio::test]
async fn profiles_of_a_speedscope_file_are_stored_by_their_units() {
    let house = House::new(Limits::default());
    let body = speedscope(&["seconds", "bytes", "nanoseconds"]);
    let summary = send(&house, "name=my.app&format=speedscope", None, body).await;
    assert_eq!(summary.unwrap().outcomes, [Outcome::Stored; 3]);
    assert_eq!(house.ingester.calls(), [3]);
    let line = |name: &str, profile: &str, kind: &str, total: i64| {
        format!(
            "{{__name__=\"{name}\", profile_name=\"{profile}\", pyroscope_spy=\"unknown\", service_name=\"my.app\"}} {name}:{kind} = {total}"
        )
    };
    let wall = "wall:nanoseconds:cpu:nanoseconds";
    let expected = [
        line("memory", "p1", "samples:bytes::", 7),
        line("wall", "p0", wall, 7_000_000_000),
        line("wall", "p2", wall, 7),
    ];
    assert_eq!(house.ingester.stored(), expected);
    let body = speedscope(&["seconds", "none"]);
    let error = send(&house, "name=app&format=speedscope", None, body).await;
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("unknown profile type: none"),
        "{error}"
    );
    assert!(error.is_about_body());
}

/// One profile goes by the name as any other body does; times are times whatever the rate.
#[tokio::test]
async fn a_speedscope_file_of_one_profile_goes_by_the_name() {
    const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
    const WALL: &str = "wall:wall:nanoseconds:cpu:nanoseconds";
    let twice_alike = || {
        let text = String::from_utf8(speedscope(&["seconds", "seconds"])).unwrap();
        text.replace("\"p1\"", "\"p0\"").into_bytes()
    };
    let one = |unit: &str| speedscope(&[unit]);
    let table = [
        ("name=app", one("seconds"), CPU, 7_000_000_000_i64),
        ("name=app", one("milliseconds"), CPU, 7_000_000),
        ("name=app", one("microseconds"), CPU, 7_000),
        ("name=app", one("nanoseconds"), CPU, 7),
        (
            "name=app.cpu&sampleRate=97",
            one("seconds"),
            CPU,
            7_000_000_000,
        ),
        ("name=app&sampleRate=0", one("seconds"), CPU, 7_000_000_000),
        ("name=app.wall", one("milliseconds"), WALL, 7_000_000),
        ("name=app", one("none"), CPU, 70_000_000),
        ("name=app&sampleRate=1000", one("none"), CPU, 7_000_000),
        (
            "name=app.wall&sampleRate=0",
            one("none"),
            "wall:samples:count::",
            7,
        ),
        ("name=app.bytes", one("bytes"), "memory:samples:bytes::", 7),
        ("name=app", one("bytes"), "process_cpu:samples:count::", 7),
        ("name=app", twice_alike(), CPU, 14_000_000_000),
    ];
    for (query, body, kind, total) in table {
        let house = House::new(Limits::default());
        let query = format!("{query}&format=speedscope&units=objects");
        send(&house, &query, None, body).await.unwrap();
        let name = kind.split(':').next().unwrap();
        let expected = format!(
            "{{__name__=\"{name}\", profile_name=\"p0\", pyroscope_spy=\"unknown\", service_name=\"app\"}} {kind} = {total}"
        );
        assert_eq!(house.ingester.stored(), [expected], "{query}");
    }
    let house = House::new(Limits::default());
    let query = "name=my.app&format=speedscope";
    let error = send(&house, query, None, one("seconds")).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("unknown profile type: app"), "{text}");
    assert!(error.is_about_body(), "422 here, 400 for text");
}

/// Events weigh as samples do, and what the client calls its profile stays.
#[tokio::test]
async fn speedscope_events_and_labels_of_the_client() {
    let events = r#""unit":"milliseconds","startValue":0,"endValue":9,"events":[
        {"type":"O","at":0,"frame":0},{"type":"O","at":2.5,"frame":1},
        {"type":"C","at":6.5,"frame":1},{"type":"C","at":9,"frame":0}]"#;
    let text = String::from_utf8(speedscope(&[])).unwrap();
    let profile = format!(r#""profiles":[{{"type":"evented","name":"e",{events}}}]"#);
    let body = text.replace(r#""profiles":[]"#, &profile);
    let house = House::new(Limits::default());
    let query = "name=app.wall{profile_name=mine,service_name=shop}&format=speedscope";
    send(&house, query, None, body.into_bytes()).await.unwrap();
    let labels = r#"{__name__="wall", app_name="app", profile_name="mine", pyroscope_spy="unknown", service_name="shop"}"#;
    let kind = "wall:wall:nanoseconds:cpu:nanoseconds";
    assert_eq!(
        house.ingester.stored(),
        [format!("{labels} {kind} = 9000000")]
    );
    let flame = house.ingester.flames().remove(kind).unwrap();
    let expected = [("main", 5_000_000), ("main;work", 4_000_000)];
    let expected = expected.map(|(stack, value)| (stack.to_owned(), value));
    assert_eq!(flame, expected.into_iter().collect());
}

#[tokio::test]
async fn refusals_say_what_is_wrong_and_by_which_status() {
    let table: [(&str, &[u8], &str, bool); 10] = [
        ("name=my.app", b"a 1", "unknown profile type: app;", false),
        (
            "name=app",
            b"a 1\nb 1.5",
            "groups (folded text): line 2: what follows",
            true,
        ),
        ("name=app", b"a -1", "the count is negative", true),
        (
            "name=app",
            b"\x00\x01\x02",
            "is no text; send a pprof",
            true,
        ),
        (
            "name=app&format=tree",
            b"\x00\x00\x09",
            "not tree: the body ends inside the tree: 9",
            true,
        ),
        (
            "name=app&format=trie",
            b"\x00\x00\x01\x01",
            "not trie: node 2",
            true,
        ),
        (
            "name=app&format=speedscope",
            b"[]",
            "not a speedscope file",
            true,
        ),
        (
            "name=app&format=groups",
            b"\x1f\x8b\x08",
            "does not decompress",
            true,
        ),
        ("name=app", b"a\xff 1", "not valid UTF-8", false),
        (
            "name=app&from=1000000000",
            b"a 1",
            "outside of the ingestion window",
            false,
        ),
    ];
    for (query, body, problem, is_about_body) in table {
        let house = House::new(Limits::default());
        let error = send(&house, query, None, body.to_vec()).await.unwrap_err();
        assert!(error.to_string().contains(problem), "{query}: {error}");
        assert_eq!(error.is_about_body(), is_about_body, "{error}");
        let reason = invalid(&error).as_str();
        assert_eq!(house.discarded(reason), 1, "{error}");
        assert_eq!(house.bodies.used(), 0);
    }
}

#[tokio::test]
async fn what_is_left_out_is_counted() {
    let house = House::new(Limits::default());
    let summary = send(&house, "name=app", None, b"x\ny\na 1\n".to_vec()).await;
    assert_eq!(summary.unwrap().outcomes, [Outcome::Stored]);
    assert_eq!(house.dropped("malformed_line"), 2);
    let query = "name=app%7Bprofile_id%3Dabc%7D";
    let summary = send(&house, query, None, GROUPS.into()).await.unwrap();
    assert_eq!(summary.outcomes, [Outcome::Empty]);
    assert_eq!(house.discarded("exemplar_profile"), 1);
    for body in ["", "\n\n"] {
        let summary = send(&house, "name=app", None, body.into()).await.unwrap();
        assert_eq!(summary.outcomes, [Outcome::Empty]);
    }
    assert_eq!(house.discarded("empty_profile"), 2);
}

/// Whatever becomes of a body, its tenant can read it, by the service that it would be stored as.
#[tokio::test]
async fn what_is_refused_or_left_out_of_a_body_can_be_read_afterwards() {
    let table: [(&str, &[u8], &str, Treatment, &str); 8] = [
        (
            "name=shop.api.cpu",
            b"x\na 1\n",
            "malformed_line",
            Treatment::LeftOut,
            "shop.api",
        ),
        (
            "name=shop.cpu",
            b"",
            "empty_profile",
            Treatment::LeftOut,
            "shop",
        ),
        (
            "name=shop&format=pprof",
            b"",
            "empty_profile",
            Treatment::LeftOut,
            "shop",
        ),
        (
            "name=shop{profile_id=x}",
            b"a 1",
            "exemplar_profile",
            Treatment::LeftOut,
            "shop",
        ),
        (
            "name=shop.cpu",
            b"a b",
            "malformed_profile",
            Treatment::Refused,
            "shop",
        ),
        (
            "name=x{service_name=shop}&format=jfr",
            b"FLR\0",
            "malformed_profile",
            Treatment::Refused,
            "shop",
        ),
        (
            "name=shop&format=pprof",
            b"\x1f\x8b",
            "malformed_profile",
            Treatment::Refused,
            "shop",
        ),
        (
            "name=shop.else",
            b"a 1",
            "invalid_labels",
            Treatment::Refused,
            "shop.else",
        ),
    ];
    for (query, body, reason, treatment, service) in table {
        let house = House::new(Limits::default());
        drop(send(&house, query, None, body.to_vec()).await);
        let told = house.distributor.rejections(&tenant());
        let [entry] = &told[..] else {
            panic!("{query}: {told:?}");
        };
        let found = (
            entry.reason.as_str(),
            entry.treatment,
            &*entry.service,
            entry.count,
        );
        assert_eq!(found, (reason, treatment, service, 1), "{query}");
        assert!(!entry.remedy().is_empty());
    }
}

#[tokio::test]
async fn without_a_name_there_is_nobody_to_tell_of_but_still_what_was_wrong() {
    let house = House::new(Limits::default());
    send(&house, "name=", None, b"a 1".to_vec())
        .await
        .unwrap_err();
    let told = house.distributor.rejections(&tenant());
    assert_eq!((told.len(), &*told[0].service), (1, ""));
    assert!(told[0].message.starts_with("name: "), "{told:?}");
}

#[tokio::test]
async fn a_body_is_held_against_memory_and_the_size_of_a_profile() {
    let stacks = (0..20_000).map(|n| format!("main;function_number_{n} 1\n"));
    let body: Vec<u8> = stacks.collect::<String>().into_bytes();
    let house = House::with_memory(Limits::default(), 600_000);
    let error = send(&house, "name=app", None, body.clone())
        .await
        .unwrap_err();
    assert!(
        matches!(error.kind(), RefusalKind::Overloaded { .. }),
        "{error}"
    );
    assert_eq!(house.bodies.used(), 0);
    let house = House::new(Limits {
        max_profile_size_bytes: 100_000,
        ..Limits::default()
    });
    let error = send(&house, "name=app", None, body).await.unwrap_err();
    assert_eq!(invalid(&error), DiscardReason::ProfileSizeLimit);
    assert!(
        error.to_string().contains("max_profile_size_bytes"),
        "{error}"
    );
    assert!(!error.is_about_body());
}
