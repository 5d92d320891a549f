//! The old HTTP API: what its requests become, row by row.

use bytes::Bytes;
use scoria_distributor::{IngestError, IngestRequest, Outcome, PushSummary, RefusalKind};
use scoria_model::{DiscardReason, Limits};

use crate::support::{House, NOW_S, cpu_profile, gzip, profile, tenant};

pub(crate) const FORM: &str = "multipart/form-data; boundary=limit";

fn good() -> Vec<u8> {
    cpu_profile(&[(&["main", "work"], 7)])
}

pub(crate) fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, content) in parts {
        let head = format!(
            "--limit\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--limit--\r\n");
    body
}

pub(crate) async fn send(
    house: &House,
    query: &str,
    content_type: Option<&str>,
    body: Vec<u8>,
) -> Result<PushSummary, IngestError> {
    let request = IngestRequest {
        query,
        content_type,
        content_encoding: None,
        body: Bytes::from(body),
    };
    house.distributor.ingest(&tenant(), request).await
}

const STORED: &str = r#"{pyroscope_spy="gospy", service_name="app"} process_cpu:cpu:nanoseconds:cpu:nanoseconds = 7"#;

fn stored_as_cpu(house: &House) {
    let stored = house.ingester.stored();
    let expected = STORED.replace('{', "{__name__=\"process_cpu\", ");
    assert_eq!(stored, [expected]);
}

#[tokio::test]
async fn every_shape_of_a_pprof_is_taken() {
    let raw = "name=app&spyName=gospy&format=pprof";
    let bare = "name=app&spyName=gospy";
    let shapes: [(&str, Option<&str>, Vec<u8>); 7] = [
        (raw, None, good()),
        (raw, Some("binary/octet-stream"), gzip(&good())),
        (raw, Some(FORM), gzip(&good())),
        (raw, Some(FORM), form(&[("profile", &good())])),
        (bare, Some(FORM), form(&[("profile", &gzip(&good()))])),
        (
            bare,
            Some(FORM),
            form(&[("x", b"y"), ("prev_profile", b""), ("profile", &good())]),
        ),
        (bare, None, gzip(&good())),
    ];
    for (query, content_type, body) in shapes {
        let house = House::new(Limits::default());
        let summary = send(&house, query, content_type, body).await.unwrap();
        assert_eq!(
            summary.outcomes,
            [Outcome::Stored],
            "{query} {content_type:?}"
        );
        stored_as_cpu(&house);
    }
}

#[tokio::test]
async fn a_gzipped_request_is_taken_whether_or_not_its_profile_is_gzipped_too() {
    for inner in [good(), gzip(&good())] {
        let house = House::new(Limits::default());
        let request = IngestRequest {
            query: "name=app&spyName=gospy&format=pprof",
            content_type: None,
            content_encoding: Some("gzip"),
            body: Bytes::from(gzip(&inner)),
        };
        house.distributor.ingest(&tenant(), request).await.unwrap();
        stored_as_cpu(&house);
        assert_eq!(house.bodies.used(), 0);
    }
}

#[tokio::test]
async fn the_name_is_chosen_by_display_names_if_there_are_any() {
    let table: [(&str, &str, &str); 6] = [
        ("contentions", "", "mutex"),
        (
            "contentions",
            r#"{"contentions":{"display-name":"block_count"}}"#,
            "block",
        ),
        ("goroutine", "", "goroutines"),
        ("inuse_space", "", "memory"),
        ("wall", "", "wall"),
        ("events", "{}", "events"),
    ];
    for (sample_type, config, expected) in table {
        let house = House::new(Limits::default());
        let raw = profile((sample_type, "count"), &[(&["main"], 1)]);
        let mut parts: Vec<(&str, &[u8])> = vec![("profile", &raw)];
        if !config.is_empty() {
            parts.push(("sample_type_config", config.as_bytes()));
        }
        send(&house, "name=app", Some(FORM), form(&parts))
            .await
            .unwrap();
        let kind = &house.ingester.rows()[0].kind;
        let expected = format!("{expected}:{sample_type}:count:cpu:nanoseconds");
        assert_eq!(*kind, expected, "{config}");
    }
}

#[tokio::test]
async fn labels_of_the_name_are_the_series() {
    let house = House::new(Limits::default());
    let name = "app.cpu%7Bregion%3Deu%20west%2C__session_id__%3D8b9c000000000000%2C__x%3Dy%2Cotel.scope.name%3Ds%7D";
    send(&house, &format!("name={name}&format=pprof"), None, good())
        .await
        .unwrap();
    assert_eq!(
        house.ingester.rows()[0].labels,
        r#"{__name__="process_cpu", otel.scope.name="s", pyroscope_spy="unknown", region="eu west", service_name="app.cpu"}"#
    );
}

#[tokio::test]
async fn scripting_profilers_get_their_files_into_the_names() {
    let house = House::new(Limits::default());
    send(&house, "name=app&format=pprof&spyName=rbspy", None, good())
        .await
        .unwrap();
    assert_eq!(
        house.ingester.rows()[0].functions,
        ["main.c main", "main.c work"]
    );
}

#[tokio::test]
async fn an_impossible_time_is_replaced_by_from() {
    let house = House::new(Limits::default());
    let mut encoder = scoria_pprof::ProfileEncoder::new();
    encoder.sample_type("cpu", "nanoseconds");
    // Microseconds where nanoseconds belong: a time in 1970.
    encoder.time(NOW_S * 1_000_000, 0);
    let main = encoder.function(&scoria_pprof::encode::FunctionRow {
        name: "main",
        ..Default::default()
    });
    let location = encoder.location(0, 0, &[(main, 1)]);
    encoder.sample([location], &[1], &[]);
    let query = format!("name=app&format=pprof&from={}&until={NOW_S}", NOW_S - 15);
    send(&house, &query, None, encoder.finish()).await.unwrap();
    assert_eq!(
        house.ingester.rows()[0].time.0,
        (NOW_S - 15) * 1_000_000_000
    );
}

#[tokio::test]
async fn nothing_to_store_is_a_success_and_counted() {
    let house = House::new(Limits::default());
    let nothing = [
        ("name=app&format=pprof", None, Vec::new()),
        ("name=app", Some(FORM), form(&[])),
        ("name=app", Some(FORM), form(&[("profile", b"")])),
        ("name=app&format=pprof", None, cpu_profile(&[])),
    ];
    let n = nothing.len() as u64;
    for (query, content_type, body) in nothing {
        let summary = send(&house, query, content_type, body).await.unwrap();
        assert_eq!(summary.outcomes, [Outcome::Empty]);
    }
    assert_eq!(house.discarded("empty_profile"), n);
}

#[tokio::test]
async fn a_resent_form_is_stored_once_whatever_its_boundary() {
    let house = House::new(Limits::default());
    let config: &[u8] = br#"{"cpu":{"display-name":"cpu"}}"#;
    let body = form(&[("profile", &good()), ("sample_type_config", config)]);
    let query = format!("name=app&from={}&until={NOW_S}", NOW_S - 15);
    let mut other = body.clone();
    while let Some(at) = other.windows(5).position(|bytes| bytes == b"limit") {
        other[at..at + 5].copy_from_slice(b"other");
    }
    let shapes = [
        (FORM, body, Outcome::Stored),
        (
            "multipart/form-data; boundary=other",
            other,
            Outcome::Duplicate,
        ),
    ];
    for (content_type, body, outcome) in shapes {
        let summary = send(&house, &query, Some(content_type), body).await;
        assert_eq!(summary.unwrap().outcomes, [outcome]);
    }
}

#[tokio::test]
async fn a_resend_is_stored_once_and_the_next_interval_is_another() {
    let house = House::new(Limits::default());
    let at = |from: i64| format!("name=app&format=pprof&from={from}&until={NOW_S}");
    for (from, outcome) in [
        (1, Outcome::Stored),
        (1, Outcome::Duplicate),
        (2, Outcome::Stored),
    ] {
        let summary = send(&house, &at(NOW_S - from), None, good()).await.unwrap();
        assert_eq!(summary.outcomes, [outcome]);
    }
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let malformed = RefusalKind::Invalid {
        reason: DiscardReason::MalformedProfile,
    };
    type Row = (
        &'static str,
        Option<&'static str>,
        Vec<u8>,
        RefusalKind,
        &'static str,
    );
    let table: [Row; 8] = [
        (
            "format=pprof",
            None,
            good(),
            RefusalKind::Invalid {
                reason: DiscardReason::InvalidLabels,
            },
            "name: the parameter is missing",
        ),
        (
            "name=app&format=speedscope",
            None,
            b"{}".to_vec(),
            malformed,
            "speedscope",
        ),
        (
            "name=app&format=jfr",
            None,
            b"FLR\0".to_vec(),
            malformed,
            "the JFR recording is damaged at byte 4",
        ),
        (
            "name=app",
            None,
            b"main;work\n".to_vec(),
            malformed,
            "format=pprof",
        ),
        (
            "name=app",
            Some(FORM),
            b"nothing".to_vec(),
            malformed,
            "boundary",
        ),
        (
            "name=app",
            Some(FORM),
            form(&[("profile", b"x"), ("prev_profile", b"y")]),
            malformed,
            "unsupported client version",
        ),
        (
            "name=app",
            Some(FORM),
            form(&[("profile", b"x"), ("sample_type_config", b"[]")]),
            malformed,
            "sample_type_config",
        ),
        (
            "name=app&format=pprof",
            None,
            b"no profile".to_vec(),
            malformed,
            "send folded stacks with format=groups",
        ),
    ];
    let n_malformed = table.len() as u64 - 1;
    let house = House::new(Limits::default());
    for (query, content_type, body, kind, told) in table {
        let error = send(&house, query, content_type, body).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(told), "{told} is not in {error}");
    }
    assert_eq!(house.discarded("malformed_profile"), n_malformed);
    assert_eq!(house.discarded("invalid_labels"), 1);
}

#[tokio::test]
async fn a_gzip_bomb_as_a_body_is_refused_by_its_limit() {
    let house = House::new(Limits {
        ingestion_body_limit_bytes: 1 << 20,
        ..Limits::default()
    });
    let request = IngestRequest {
        query: "name=app&format=pprof",
        content_type: None,
        content_encoding: Some("gzip"),
        body: Bytes::from(gzip(&vec![0; 2 << 20])),
    };
    let error = house
        .distributor
        .ingest(&tenant(), request)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), RefusalKind::TooLarge);
    assert_eq!(house.bodies.used(), 0);
}

#[tokio::test]
async fn damage_anywhere_is_answered_and_leaves_no_memory_behind() {
    let house = House::new(Limits {
        ingestion_rate_bytes: 0,
        ..Limits::default()
    });
    let raw = "name=app&spyName=rbspy&format=pprof";
    let config = br#"{"cpu":{"display-name":"cpu"}}"#;
    let whole_form = form(&[("profile", &gzip(&good())), ("sample_type_config", config)]);
    let bodies: [(Option<&str>, Vec<u8>); 3] = [
        (None, good()),
        (None, gzip(&good())),
        (Some(FORM), whole_form),
    ];
    // A walk through positions and values that is the same at every run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for (content_type, body) in &bodies {
        for _ in 0..400 {
            let mut damaged = body.clone();
            for _ in 0..=next(3) {
                let at = next(damaged.len());
                match next(4) {
                    0 => damaged.truncate(at + 1),
                    1 => damaged[at] = next(256) as u8,
                    2 => damaged[at] ^= 1 << next(8),
                    _ => damaged.insert(at, next(256) as u8),
                }
            }
            // Whether it is taken depends on what was hit; that it is answered does not.
            drop(send(&house, raw, *content_type, damaged).await);
            assert_eq!(house.bodies.used(), 0);
        }
    }
}
