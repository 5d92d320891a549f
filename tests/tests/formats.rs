//! Every text and tree format at the built binary: the flame graph that comes back, and that a
//! resend counts once, also across kill -9.

use std::collections::BTreeMap;

use scoria_tests::process::{ServerProcess, now_ns};

const GROUPS: &str = "main;work 3\nmain;rest 4\n";

/// A node of a tree or trie; every number here fits in one byte.
fn node(name: &str, own: u8, n_children: u8) -> Vec<u8> {
    let mut out = vec![name.len() as u8];
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&[own, n_children]);
    out
}

/// The stacks of [`GROUPS`] in every format: service, parameters, body.
fn bodies() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let tree = |first: &str| {
        let nodes = [
            node("", 0, 1),
            node(first, 0, 2),
            node("work", 3, 0),
            node("rest", 4, 0),
        ];
        nodes.concat()
    };
    let speedscope = r#"{"$schema": "https://www.speedscope.app/file-format-schema.json",
        "shared": {"frames": [{"name": "main"}, {"name": "work"}, {"name": "rest"}]},
        "profiles": [{"type": "sampled", "name": "p", "unit": "milliseconds", "startValue": 0,
                      "samples": [[0, 1], [0, 2]], "weights": [30, 40.0]}]}"#;
    let lines = "main;work\n".repeat(3) + &"main;rest\n".repeat(4);
    vec![
        ("groups", "", GROUPS.into()),
        ("folded", "&format=folded&spyName=ebpfspy", GROUPS.into()),
        ("lines", "&format=lines", lines.into()),
        ("tree", "&format=tree", tree("main")),
        ("trie", "&format=trie", tree("main;")),
        ("speedscope", "&format=speedscope", speedscope.into()),
    ]
}

#[test]
fn every_format_becomes_a_flame_graph_and_its_resend_counts_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let from = now_ns() / 1_000_000_000 - 10;
    let expected = BTreeMap::from([
        ("work".to_owned(), 30_000_000),
        ("rest".to_owned(), 40_000_000),
    ]);
    let send_all = |server: &ServerProcess| {
        for (service, parameters, body) in bodies() {
            let path = format!(
                "/ingest?name={service}.cpu&from={from}&until={}{parameters}",
                from + 10
            );
            let reply = server.post(&path, &[], body);
            let text = String::from_utf8_lossy(&reply.body);
            assert_eq!((reply.status, &*text), (200, ""), "{service}");
        }
    };
    let check = |server: &ServerProcess| {
        for (service, ..) in bodies() {
            assert_eq!(server.self_by_function(service), expected, "{service}");
        }
    };

    let server = ServerProcess::start(&data, &[]);
    send_all(&server);
    send_all(&server);
    check(&server);
    server.kill();

    let server = ServerProcess::start(&data, &[]);
    send_all(&server);
    check(&server);
    assert!(server.terminate().success());
}
