//! How the program starts and ends: its exit codes, draining, and the second signal.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn scoria(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scoria"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Killed when dropped, so that a failed test leaves no server behind.
struct Process {
    child: Child,
    address: SocketAddr,
    _data: tempfile::TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Tries until it works; how often says how long at most.
fn poll<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(found) = attempt() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it did not happen within 20 s");
}

impl Process {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let address = free_address();
        let text = address.to_string();
        let child = scoria(&["server", "--listen", &text, "--store-url", "memory:"])
            .arg("--data-dir")
            .arg(data.path())
            .spawn()
            .unwrap();
        let process = Self {
            child,
            address,
            _data: data,
        };
        poll(|| {
            process
                .exchange("GET /ready")
                .filter(|a| a.contains(" 200 "))
        });
        process
    }

    /// A request without a body, on a connection of its own.
    fn exchange(&self, what: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        let head = format!("{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// A push of which only the head and a few bytes are sent; the rest of the body.
    fn begin_push(&self) -> (TcpStream, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut body = support::pprof();
        let length = body.len();
        let head = format!(
            "POST /ingest?name=app&format=pprof HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
        );
        let rest = body.split_off(10);
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        // Another exchange on the same listener says that this one has been accepted by now.
        self.exchange("GET /ready").unwrap();
        (stream, rest)
    }

    fn terminate(&self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
    }

    fn refuses_connections(&self) -> Option<()> {
        TcpStream::connect(self.address).is_err().then_some(())
    }

    fn exit_code(&mut self) -> Option<i32> {
        poll(|| self.child.try_wait().unwrap()).code()
    }
}

#[test]
fn a_stop_finishes_what_is_under_way() {
    let mut process = Process::start();
    let (mut stream, rest) = process.begin_push();
    process.terminate();
    poll(|| process.refuses_connections());
    stream.write_all(&rest).unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert_eq!(process.exit_code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut process = Process::start();
    let (stream, _) = process.begin_push();
    process.terminate();
    poll(|| process.refuses_connections());
    process.terminate();
    assert_eq!(process.exit_code(), Some(130));
    drop(stream);
}

#[test]
fn exit_codes() {
    let code = |arguments: &[&str]| scoria(arguments).output().unwrap().status.code();
    assert_eq!(code(&["server", "--dump-config"]), Some(0));
    assert_eq!(code(&["server", "--set", "server.listn=x"]), Some(2));
    assert_eq!(code(&["server", "--target", "querier"]), Some(2));
    assert_eq!(code(&["server", "--config", "/does/not/exist"]), Some(2));
    assert_eq!(code(&["fly"]), Some(2));
    assert_eq!(
        code(&["server", "--set", "memory.queries_percent=101"]),
        Some(2)
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_eq!(code(&["server", "--listen", &address]), Some(3));
    let nobody = format!("http://{}", free_address());
    assert_eq!(code(&["query", "types", "--url", &nobody]), Some(1));
    assert_eq!(
        code(&["push", "/does/not/exist", "--url", &nobody]),
        Some(1)
    );
}

#[test]
fn files_are_pushed_and_shown() {
    let process = Process::start();
    let url = format!("http://{}", process.address);
    let files = tempfile::tempdir().unwrap();
    let good = files.path().join("cpu.pprof");
    let bad = files.path().join("bad.pprof");
    std::fs::write(&good, support::pprof()).unwrap();
    std::fs::write(&bad, b"nonsense").unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let run = |arguments: &[&str]| {
        let mut command = scoria(arguments);
        let output = command.args(["--url", &url]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text)
    };
    let label = ["--label", "service_name=files"];
    assert_eq!(run(&[&["push", good], &label[..]].concat()).0, Some(0));
    assert_eq!(run(&[&["push", good, bad], &label[..]].concat()).0, Some(4));

    let (code, top) = run(&["query", "top", "--selector", "{service_name=\"files\"}"]);
    assert_eq!(code, Some(0));
    // Two files of 20 ms each, dated when they were pushed.
    assert!(top.contains("40ms  66.67%  40ms   66.67%  work"), "{top}");
    assert_eq!(run(&["query", "labels", "service_name"]).1, "files\n");
    let types = run(&["query", "types"]).1;
    assert_eq!(types, "process_cpu:cpu:nanoseconds:cpu:nanoseconds\n");
    let series = run(&["query", "series", "--label", "service_name"]).1;
    assert_eq!(series, "{service_name=\"files\"}\n");
    assert!(run(&["query", "flamegraph"]).1.contains("  work"));
    for (name, begins) in [("out.svg", &b"<svg"[..]), ("out.pb.gz", &[0x1f, 0x8b])] {
        let path = files.path().join(name);
        assert_eq!(
            run(&["query", "flamegraph", "-o", path.to_str().unwrap()]).0,
            Some(0)
        );
        assert!(std::fs::read(path).unwrap().starts_with(begins), "{name}");
    }
    assert_eq!(run(&["query", "flamegraph", "-o", "out.gif"]).0, Some(1));
    let none = run(&["query", "top", "--selector", "{service_name=\"none\"}"]);
    assert_eq!(none.0, Some(1));
}
