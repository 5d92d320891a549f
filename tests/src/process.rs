//! The built binary as a process: started on a free port, killed, capped, asked over HTTP.
//!
//! `make build` (part of `make test`) puts the binary beside the test executables; a missing one
//! is a failure with that advice, never a skipped test.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::pprof_bytes::TestProfile;

/// How long a start may take, with damage to replay on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    pub url: String,
    log: PathBuf,
    client: reqwest::blocking::Client,
}

/// What a push was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: String,
}

/// What a post was answered, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// By their names in lower case; what is no text is left out.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// Nanoseconds since the epoch.
pub fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as i64)
}

/// The binary under test.
///
/// # Panics
/// When it has not been built.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SCORIA_BIN") {
        return path.into();
    }
    let exe = std::env::current_exe().expect("the test knows where it lies");
    let path = exe
        .ancestors()
        .nth(2)
        .map(|dir| dir.join("scoria"))
        .unwrap_or_default();
    assert!(
        path.exists(),
        "{} is missing: run `make build` first",
        path.display()
    );
    path
}

/// A client without anything special.
///
/// # Panics
/// When there is no TLS.
pub fn client() -> reqwest::blocking::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // A second install is refused, and then the first one serves.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
    reqwest::blocking::Client::builder()
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a plain client")
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

impl ServerProcess {
    /// Starts `scoria server` on `data_dir` and waits until it is ready.
    ///
    /// # Panics
    /// With the end of its log when it does not become ready.
    pub fn start(data_dir: &Path, arguments: &[&str]) -> Self {
        let server = Self::spawn(data_dir, arguments, None);
        server.wait_until_ready();
        server
    }

    /// Starts it without waiting; `wrapper` is a program that is given the command line.
    pub fn spawn(data_dir: &Path, arguments: &[&str], wrapper: Option<&[&str]>) -> Self {
        std::fs::create_dir_all(data_dir).expect("a data directory");
        let log = data_dir.with_extension("log");
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");
        let address = format!("127.0.0.1:{}", free_port());
        let binary = binary();
        let mut command = match wrapper {
            Some([program, rest @ ..]) => {
                let mut command = Command::new(program);
                command.args(rest).arg(binary);
                command
            }
            _ => Command::new(binary),
        };
        let child = command
            .args(["server", "--listen", &address, "--data-dir"])
            .arg(data_dir)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .expect("the binary starts");
        Self {
            child,
            url: format!("http://{address}"),
            log,
            client: client(),
        }
    }

    /// # Panics
    /// When it ends or stays red for [`START`].
    pub fn wait_until_ready(&self) {
        let reached = self.wait_for(START, || self.ready().is_some_and(|a| a.status == 200));
        assert!(
            reached,
            "the server did not become ready; its log ends:\n{}",
            self.log_end()
        );
    }

    /// Polls until `done`; whether it came in time.
    pub fn wait_for(&self, patience: Duration, mut done: impl FnMut() -> bool) -> bool {
        let tries = patience.as_millis() / 20;
        (0..tries).any(|_| {
            let reached = done();
            if !reached {
                std::thread::sleep(Duration::from_millis(20));
            }
            reached
        })
    }

    /// The answer of `/ready`, if there is one.
    pub fn ready(&self) -> Option<Answer> {
        self.client
            .get(format!("{}/ready", self.url))
            .send()
            .ok()
            .map(answer)
    }

    /// A POST of any body with any headers.
    ///
    /// # Panics
    /// When the connection fails.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
        self.post_by(&self.client, path, headers, body)
    }

    /// As [`post`](Self::post), over HTTP/2 in clear text.
    ///
    /// # Panics
    /// When the connection fails.
    pub fn post_http2(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
        let client = reqwest::blocking::Client::builder().http2_prior_knowledge();
        let client = client.build().expect("a plain client");
        self.post_by(&client, path, headers, body)
    }

    /// As [`post_http2`](Self::post_http2), for an answer that comes little by little and without an
    /// end of its own.
    ///
    /// # Panics
    /// When the connection fails.
    pub fn begin_http2(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> reqwest::blocking::Response {
        let client = reqwest::blocking::Client::builder().http2_prior_knowledge();
        let client = client.timeout(START).build().expect("a plain client");
        let request = client.post(format!("{}{path}", self.url)).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        request.send().expect("an answer")
    }

    fn post_by(
        &self,
        client: &reqwest::blocking::Client,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Reply {
        let request = client.post(format!("{}{path}", self.url)).body(body);
        reply(request, headers)
    }

    /// A GET of any path with any headers.
    ///
    /// # Panics
    /// When the connection fails.
    pub fn fetch(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        reply(self.client.get(format!("{}{path}", self.url)), headers)
    }

    /// A GET of any path; `None` when the connection fails.
    pub fn get(&self, path: &str) -> Option<Answer> {
        self.client
            .get(format!("{}{path}", self.url))
            .send()
            .ok()
            .map(answer)
    }

    /// Pushes one profile over `/ingest`; `None` when the connection broke before an answer.
    pub fn ingest(&self, service: &str, profile: &TestProfile) -> Option<Answer> {
        self.ingest_bytes(service, profile.encode())
    }

    /// Pushes a body over `/ingest?format=pprof`.
    pub fn ingest_bytes(&self, service: &str, body: Vec<u8>) -> Option<Answer> {
        let url = format!(
            "{}/ingest?name={service}&format=pprof&spyName=gospy",
            self.url
        );
        self.client.post(url).body(body).send().ok().map(answer)
    }

    /// A Connect JSON call.
    pub fn call(&self, method: &str, request: &serde_json::Value) -> (u16, serde_json::Value) {
        let url = format!("{}/querier.v1.QuerierService/{method}", self.url);
        let reply = self
            .client
            .post(url)
            .json(request)
            .send()
            .expect("the server answers");
        let status = reply.status().as_u16();
        (status, reply.json().unwrap_or_default())
    }

    /// Self values of every function of a service's CPU flame graph over the last two hours.
    ///
    /// # Panics
    /// When the query is not answered 200.
    pub fn self_by_function(&self, service: &str) -> BTreeMap<String, i64> {
        let (status, reply) = self.call("SelectMergeStacktraces", &everything(service));
        assert_eq!(status, 200, "{reply}");
        self_values(&reply["flamegraph"])
    }

    /// The sum of a service's CPU samples over the last two hours, by a question that takes hardly
    /// any memory.
    ///
    /// # Panics
    /// When the query is not answered 200.
    pub fn total(&self, service: &str) -> f64 {
        let (status, reply) = self.call("SelectSeries", &everything(service));
        assert_eq!(status, 200, "{reply}");
        let series = reply["series"].as_array().into_iter().flatten();
        let points = series.flat_map(|series| series["points"].as_array().into_iter().flatten());
        points.filter_map(|point| point["value"].as_f64()).sum()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("and reaped");
    }

    /// SIGTERM, and the exit status.
    pub fn terminate(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
        self.child.wait().expect("and reaped")
    }

    /// Waits until it ends by itself; its exit code, or `None` when it still runs.
    pub fn wait_for_end(&mut self, patience: Duration) -> Option<i32> {
        for _ in 0..patience.as_millis() / 20 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Already gone after kill or terminate; else the test failed and nothing should stay.
        if self.alive() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn reply(request: reqwest::blocking::RequestBuilder, headers: &[(&str, &str)]) -> Reply {
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    let reply = request.send().expect("the server answers");
    let headers = reply
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    Reply {
        status: reply.status().as_u16(),
        headers: headers.collect(),
        body: reply.bytes().expect("the answer is whole").to_vec(),
    }
}

fn answer(response: reqwest::blocking::Response) -> Answer {
    let header = |name| {
        response
            .headers()
            .get(name)
            .and_then(|v: &reqwest::header::HeaderValue| v.to_str().ok())
    };
    Answer {
        status: response.status().as_u16(),
        retry_after: header("retry-after").map(str::to_owned),
        body: response.text().unwrap_or_default(),
    }
}

/// Runs a verb on a data directory: exit code, standard output, standard error.
///
/// # Panics
/// When the binary cannot be run.
pub fn tool(data: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(binary())
        .args(arguments)
        .arg("--data-dir")
        .arg(data)
        .output()
        .expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A question for all CPU profiles of a service over the last two hours, uncut.
pub fn everything(service: &str) -> serde_json::Value {
    let end = now_ns() / 1_000_000 + 60_000;
    serde_json::json!({
        "profileTypeID": "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
        "labelSelector": format!("{{service_name=\"{service}\"}}"),
        "start": end - 7_200_000,
        "end": end,
        "maxNodes": 1_000_000,
        "step": 3600.0,
    })
}

/// Sums of self by name out of a flame graph in Connect JSON.
pub fn self_values(flamegraph: &serde_json::Value) -> BTreeMap<String, i64> {
    let names: Vec<&str> = flamegraph["names"]
        .as_array()
        .map(|names| names.iter().filter_map(|n| n.as_str()).collect())
        .unwrap_or_default();
    let mut sums = BTreeMap::new();
    for level in flamegraph["levels"].as_array().into_iter().flatten() {
        let values: Vec<i64> = level["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().and_then(|s| s.parse().ok()))
            .collect();
        for bar in values.chunks_exact(4) {
            let name = names.get(bar[3] as usize).copied().unwrap_or_default();
            *sums.entry(name.to_owned()).or_default() += bar[2];
        }
    }
    sums.retain(|_, value| *value != 0);
    sums
}
