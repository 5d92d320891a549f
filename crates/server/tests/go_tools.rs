//! Go's own tools on what the server hands out by address. Without Go on the machine these pass.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use scoria_pprof::ProfileEncoder;
use scoria_pprof::encode::FunctionRow;
use support::{Running, now_ns};

const QUERY: &str = "query=process_cpu:cpu:nanoseconds:cpu:nanoseconds%7Bservice_name%3D%22shop%22%7D&from=now-1h&until=now%2B1h";

/// Names, stacks and values without meaning but the same each time: recursion, inlined calls, a
/// function whose name is `other`, and more functions than a cut flame graph would show.
fn busy() -> Vec<u8> {
    let mut profile = ProfileEncoder::new();
    profile.sample_type("cpu", "nanoseconds");
    profile.period("cpu", "nanoseconds", 10_000_000);
    profile.time(now_ns(), 10_000_000_000);
    let functions: Vec<u64> = (0..400)
        .map(|at| {
            let name = match at {
                7 => "other".to_owned(),
                at => format!("main.function{at}"),
            };
            profile.function(&FunctionRow {
                name: &name,
                filename: "main.go",
                start_line: at + 1,
                ..FunctionRow::default()
            })
        })
        .collect();
    let locations: Vec<u64> = (0..400usize)
        .map(|at| {
            let line = at as i64 + 2;
            if at % 5 == 0 {
                let inlined = functions[(at + 3) % 400];
                return profile.location(0, 0, &[(inlined, line), (functions[at], line)]);
            }
            profile.location(0, 0, &[(functions[at], line)])
        })
        .collect();
    let mut random = 1u64;
    for _ in 0..1500 {
        let mut stack = Vec::new();
        for _ in 0..12 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            stack.push(locations[(random >> 33) as usize % 400]);
        }
        // Recursion.
        stack.push(stack[3]);
        stack.push(locations[0]);
        profile.sample(stack, &[10_000_000 + (random >> 40) as i64], &[]);
    }
    profile.finish()
}

async fn served() -> Option<Running> {
    let go = Command::new("go").arg("version").output();
    if !go.is_ok_and(|output| output.status.success()) {
        eprintln!("no Go on this machine: nothing is tested");
        return None;
    }
    let server = Running::start(&[]).await;
    let request = server.post("/ingest?name=shop&format=pprof&spyName=gospy");
    let answer = request.body(busy()).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    Some(server)
}

async fn go(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("go");
    command
        .args(arguments)
        .current_dir(directory)
        .env("PPROF_TMPDIR", directory)
        .env("GOFLAGS", "")
        .env("GO111MODULE", "off");
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{}", text(output.stderr));
    text(output.stdout)
}

/// Own value and total of each function in the text of `pprof -top -unit=ns`.
fn table(text: &str) -> BTreeMap<String, (i64, i64)> {
    let rows = text.lines().skip_while(|line| !line.contains("flat%"));
    let number = |text: &str| -> i64 { text.trim_end_matches("ns").parse().unwrap() };
    let mut table = BTreeMap::new();
    for row in rows.skip(1) {
        let mut fields = row.split_whitespace();
        let own = number(fields.next().unwrap());
        let total = number(fields.nth(2).unwrap());
        let name = fields.nth(1).unwrap();
        table.insert(name.to_owned(), (own, total));
    }
    table
}

#[tokio::test]
async fn pprof_opens_the_address_and_the_top_table_says_the_same() {
    let Some(server) = served().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let url = format!("{}/pprof?{QUERY}", server.url);
    let arguments = [
        "tool",
        "pprof",
        "-top",
        "-unit=ns",
        "-nodecount=100000",
        "-nodefraction=0",
        "-edgefraction=0",
        &url,
    ];
    let wanted = table(&go(directory.path(), &arguments).await);
    assert!(wanted.len() >= 400, "{}", wanted.len());

    let path = format!("/api/v1/top?{QUERY}&limit=0");
    let answer = server.get(&path).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("x-scoria-samples"));
    let answer: serde_json::Value = answer.json().await.unwrap();
    let rows = answer["functions"].as_array().unwrap();
    let ours: BTreeMap<String, (i64, i64)> = rows
        .iter()
        .map(|row| {
            let number = |key: &str| row[key].as_i64().unwrap();
            let name = row["name"].as_str().unwrap();
            (name.to_owned(), (number("self"), number("total")))
        })
        .collect();
    assert_eq!(ours, wanted);
    assert_eq!(
        answer["total"].as_i64().unwrap(),
        wanted.values().map(|(own, _)| own).sum::<i64>()
    );
    server.stop().await;
}

#[tokio::test]
async fn the_compiler_takes_what_is_meant_for_it() {
    let Some(server) = served().await else {
        return;
    };
    let path = "/pgo/go?service=shop&from=now-1h&until=now%2B1h";
    let answer = server.get(path).await;
    assert_eq!(answer.status(), 200);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("default.pgo"), answer.bytes().await.unwrap()).unwrap();
    std::fs::write(
        file("main.go"),
        "package main\n\nfunc function1() {}\n\nfunc main() { function1() }\n",
    )
    .unwrap();
    // What `go build -pgo` does with the profile, without building the standard library anew.
    let convert = ["tool", "preprofile", "-i", "default.pgo", "-o", "graph"];
    go(directory.path(), &convert).await;
    let graph = std::fs::read_to_string(file("graph")).unwrap();
    assert!(graph.contains("main.function1"), "{graph}");
    let compile = [
        "tool",
        "compile",
        "-pgoprofile=graph",
        "-p",
        "main",
        "main.go",
    ];
    go(directory.path(), &compile).await;

    for (path, status) in [
        ("/pgo/go", 400),
        ("/pgo/go?service=nobody", 404),
        ("/pprof", 400),
        ("/pprof?query=%7B%7D", 400),
        ("/api/v1/top", 400),
    ] {
        assert_eq!(server.get(path).await.status(), status, "{path}");
    }
    let plan = server.get(&format!("{path}&dry_run=true")).await;
    assert_eq!(plan.headers()["x-scoria-dry-run"], "true");
    let plan: serde_json::Value = plan.json().await.unwrap();
    assert_eq!(plan["ingesters"], 1);
    server.stop().await;
}
