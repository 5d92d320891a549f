//! Real clients: each SDK profiles a busy function, pushes to the built binary as it does by
//! default, and the function is found there with the share and the time that it really had.
//!
//! `tests/clients/run.sh` runs this; it installs packages, so a plain `cargo test` leaves it out.
//! A client whose runtime is not on the machine is skipped, and that is said and counted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use scoria_tests::process::{ServerProcess, now_ns, self_values};
use serde_json::{Value, json};

/// Long enough for each SDK to push once by its own clock and again at its end.
const SECONDS: u32 = 18;
/// What a client may need beyond that on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Of all samples; the rest is the SDK itself and the program's start.
const SHARE_MIN: f64 = 0.4;

/// Clients that are busy at a time: of a machine with two processors each gets enough to be seen.
const AT_A_TIME: usize = 4;
/// Those that may be.
static FREE: (Mutex<usize>, Condvar) = (Mutex::new(AT_A_TIME), Condvar::new());

/// One SDK in one version.
struct Client {
    name: &'static str,
    /// Where its sources lie, and the file there that pins the versions of what it needs.
    sources: &'static str,
    pins: &'static str,
    /// Programs without which it is skipped, each with arguments that make it answer.
    needs: &'static [&'static [&'static str]],
    /// Installs or builds it; the command that takes server, service and seconds.
    prepare: fn(&Place) -> Result<Vec<PathBuf>, String>,
    /// What it appends to the service's name, one after the other.
    services: &'static [&'static str],
    profile_type: &'static str,
    /// What one unit of its values is.
    value_ns: f64,
    /// Stands in the names of the busy function's frames.
    function: &'static str,
}

const PYTHON: Client = Client {
    name: "python",
    sources: "python",
    pins: "requirements.txt",
    needs: &[&["python3", "-c", "import venv, ensurepip"]],
    prepare: python,
    services: &[""],
    profile_type: "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
    value_ns: 1.0,
    function: "busy_python",
};

const NODE: Client = Client {
    name: "node",
    sources: "node",
    pins: "package-lock.json",
    needs: &[&["node", "--version"], &["npm", "--version"]],
    prepare: node,
    profile_type: "wall:cpu:nanoseconds:wall:nanoseconds",
    function: "busyNode",
    ..PYTHON
};

const RUST: Client = Client {
    name: "rust",
    sources: "rust",
    pins: "Cargo.lock",
    needs: &[&["cargo", "--version"]],
    prepare: rust,
    function: "busy_rust",
    ..PYTHON
};

const GO: Client = Client {
    name: "go",
    sources: "go",
    pins: "go.sum",
    needs: &[&["go", "version"]],
    prepare: go,
    function: "main.busyGo",
    ..PYTHON
};

const JAVA: Client = Client {
    name: "java",
    sources: "java",
    pins: "agent.sha256",
    needs: &[
        &["java", "-version"],
        &["javac", "-version"],
        &["mvn", "--version"],
    ],
    prepare: java,
    function: "Busy.busyJava",
    ..PYTHON
};

/// Each SDK at its newest version and at an older one, which speaks to another route or in another
/// form; then OpenTelemetry's.
const CLIENTS: [Client; 13] = [
    PYTHON,
    Client {
        name: "python-0.8",
        pins: "requirements-old.txt",
        ..PYTHON
    },
    NODE,
    Client {
        name: "node-0.4",
        sources: "node-old",
        ..NODE
    },
    RUST,
    Client {
        name: "rust-0.5",
        sources: "rust-old",
        ..RUST
    },
    GO,
    Client {
        name: "go-1.2",
        pins: "old.sum",
        ..GO
    },
    JAVA,
    Client {
        name: "java-2.1",
        pins: "old.sha256",
        ..JAVA
    },
    Client {
        name: "python-otlp",
        sources: "python-otlp",
        profile_type: "wall:samples:count:wall:nanoseconds",
        value_ns: 10_000_000.0,
        ..PYTHON
    },
    Client {
        name: "go-otlp",
        sources: "go-otlp",
        function: "send.busyGo",
        ..GO
    },
    // OpenTelemetry's Collector, between the program above and the server.
    Client {
        name: "collector",
        sources: "collector",
        services: &["-grpc", "-http"],
        function: "send.busyGo",
        ..GO
    },
];

/// Where a client's sources lie and where its packages go.
struct Place {
    sources: PathBuf,
    /// The lockfile.
    pins: PathBuf,
    /// Another one for each content of the lockfile.
    installed: PathBuf,
}

enum Verdict {
    Found { share: f64, seconds: f64 },
    Skipped { missing: String },
    Failed { why: String },
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Place {
    fn of(client: &Client) -> Self {
        let sources = root().join("tests/clients").join(client.sources);
        let pins = sources.join(client.pins);
        let mut hasher = DefaultHasher::new();
        fs::read(&pins)
            .expect("lockfiles are checked in")
            .hash(&mut hasher);
        let cache = std::env::var_os("SCORIA_CLIENTS_DIR")
            .map_or_else(|| root().join("target/clients"), PathBuf::from);
        let installed = cache.join(format!("{}-{:016x}", client.name, hasher.finish()));
        fs::create_dir_all(&installed).expect("a directory for packages");
        let installed = installed.canonicalize().expect("it was just made");
        Self {
            sources,
            pins,
            installed,
        }
    }

    /// Runs `install` unless it has succeeded before.
    fn once(&self, install: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        let done = self.installed.join("installed");
        if !done.exists() {
            install()?;
            File::create(done).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn run(program: impl AsRef<OsStr>, arguments: &[&OsStr], dir: &Path) -> Result<(), String> {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(format!(
        "{} {:?} ended with {}:\n{}",
        program.display(),
        arguments,
        output.status,
        last_lines(&String::from_utf8_lossy(&text))
    ))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn python(place: &Place) -> Result<Vec<PathBuf>, String> {
    let venv = place.installed.join("venv");
    let python = venv.join("bin/python");
    place.once(|| {
        let make = ["-m", "venv", "--clear"].map(OsStr::new);
        run(
            "python3",
            &[&make[..], &[venv.as_os_str()]].concat(),
            &place.sources,
        )?;
        let install = ["-m", "pip", "install", "--quiet", "--require-hashes", "-r"].map(OsStr::new);
        let install = [&install[..], &[place.pins.as_os_str()]].concat();
        run(&python, &install, &place.sources)
    })?;
    Ok(vec![python, place.sources.join("busy.py")])
}

fn node(place: &Place) -> Result<Vec<PathBuf>, String> {
    // Packages are found from where the program lies, so it goes beside them.
    let program = place.installed.join("busy.js");
    for file in ["package.json", "package-lock.json", "busy.js"] {
        fs::copy(place.sources.join(file), place.installed.join(file))
            .map_err(|error| format!("{file}: {error}"))?;
    }
    place.once(|| {
        let install = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"].map(OsStr::new);
        run("npm", &install, &place.installed)
    })?;
    Ok(vec![PathBuf::from("node"), program])
}

fn rust(place: &Place) -> Result<Vec<PathBuf>, String> {
    let target = place.installed.join("target");
    let build = ["build", "--quiet", "--locked", "--target-dir"].map(OsStr::new);
    let build = [&build[..], &[target.as_os_str()]].concat();
    run("cargo", &build, &place.sources)?;
    let program = format!("debug/scoria-client-{}", last_name(&place.sources));
    Ok(vec![target.join(program)])
}

fn go(place: &Place) -> Result<Vec<PathBuf>, String> {
    let program = place.installed.join("busy");
    let module = format!("-modfile={}", place.pins.with_extension("mod").display());
    let build = ["build", "-mod=readonly", &module, "-o"].map(OsStr::new);
    let build = [&build[..], &[program.as_os_str(), OsStr::new(".")]].concat();
    run("go", &build, &place.sources)?;
    Ok(vec![program])
}

/// Sends JFR recordings of async-profiler, with labels beside them.
fn java(place: &Place) -> Result<Vec<PathBuf>, String> {
    const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy";
    let sums = fs::read_to_string(&place.pins).map_err(|error| error.to_string())?;
    let agent = sums.split_whitespace().next_back().unwrap_or_default();
    let version = agent.trim_start_matches("agent-").trim_end_matches(".jar");
    let artifact = format!("-Dartifact=io.pyroscope:agent:{version}");
    let agent = place.installed.join(agent);
    place.once(|| {
        let into = format!("-DoutputDirectory={}", place.installed.display());
        let copy = ["-q", "-B", COPY, &artifact, &into].map(OsStr::new);
        run("mvn", &copy, &place.installed)?;
        let check = [OsStr::new("--check"), place.pins.as_os_str()];
        run("sha256sum", &check, &place.installed)
    })?;
    let program = place.sources.join("Busy.java");
    let path = [OsStr::new("-cp"), agent.as_os_str()];
    let into = [OsStr::new("-d"), place.installed.as_os_str()];
    let compile = [&path[..], &into, &[program.as_os_str()]].concat();
    run("javac", &compile, &place.installed)?;
    let path = format!("{}:{}", agent.display(), place.installed.display());
    Ok(["java", "-cp", &path, "Busy"].map(PathBuf::from).into())
}

fn last_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The first program that the client needs and that does not answer.
fn missing(client: &Client) -> Option<String> {
    let answers = |command: &[&str]| {
        Command::new(command[0])
            .args(&command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    client
        .needs
        .iter()
        .find(|command| !answers(command))
        .map(|command| command.join(" "))
}

fn service_of(client: &Client, of: &str) -> String {
    format!("client-{}{of}", client.name)
}

/// Lets the client profile itself; how long it ran.
fn let_push(
    client: &Client,
    command: &[PathBuf],
    server: &ServerProcess,
) -> Result<Duration, String> {
    let place = Place::of(client);
    let log = place.installed.join("log");
    let output = File::create(&log).map_err(|error| error.to_string())?;
    let errors = output.try_clone().map_err(|error| error.to_string())?;
    let started = Instant::now();
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .arg(&server.url)
        .arg(service_of(client, ""))
        .arg(SECONDS.to_string())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("{}: {error}", command[0].display()))?;
    let told = || last_lines(&fs::read_to_string(&log).unwrap_or_default());
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(started.elapsed()),
            Some(status) => return Err(format!("it ended with {status}:\n{}", told())),
            None if started.elapsed() > PATIENCE => {
                drop(child.kill());
                drop(child.wait());
                return Err(format!("it did not end in time:\n{}", told()));
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// What the server shows of the client's busy function.
struct Shown {
    /// Of the whole flame graph, in nanoseconds.
    total: i64,
    /// Of the function with all it calls.
    busy: i64,
    /// By function, without what it calls.
    values: BTreeMap<String, i64>,
}

fn shown(client: &Client, of: &str, server: &ServerProcess) -> Result<Shown, String> {
    let end = now_ns() / 1_000_000 + 60_000;
    let service = service_of(client, of);
    let range = json!({ "start": end - 3_600_000, "end": end });
    let request = json!({
        "profileTypeID": client.profile_type,
        "labelSelector": format!("{{service_name=\"{service}\", region=\"test\"}}"),
        "start": range["start"],
        "end": range["end"],
        "maxNodes": 100_000,
    });
    let (status, reply) = server.call("SelectMergeStacktraces", &request);
    if status != 200 {
        return Err(format!("the query was answered {status}: {reply}"));
    }
    let flamegraph = &reply["flamegraph"];
    let values = self_values(flamegraph);
    if values.is_empty() {
        let (_, types) = server.call("ProfileTypes", &range);
        return Err(format!(
            "nothing is stored as {} of {service}; stored are {types}",
            client.profile_type
        ));
    }
    Ok(Shown {
        total: values.values().sum(),
        busy: total_of(flamegraph, client.function),
        values,
    })
}

/// The width of a function's bars; it never calls itself, so that none lies on another.
fn total_of(flamegraph: &Value, function: &str) -> i64 {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let names = list(&flamegraph["names"]);
    let is_it = |at: &i64| {
        let name = usize::try_from(*at).ok().and_then(|at| names.get(at));
        name.is_some_and(|name| name.as_str().unwrap_or_default().contains(function))
    };
    let levels = list(&flamegraph["levels"]);
    let bars = levels.iter().flat_map(|level| list(&level["values"]));
    let numbers: Vec<i64> = bars
        .filter_map(|value| value.as_str()?.parse().ok())
        .collect();
    let (bars, _) = numbers.as_chunks::<4>();
    let widths = bars.iter().filter(|[_, _, _, name]| is_it(name));
    widths.map(|[_, width, _, _]| width).sum()
}

fn judge(client: &Client, server: &ServerProcess) -> Verdict {
    if let Some(missing) = missing(client) {
        return Verdict::Skipped { missing };
    }
    let (free, freed) = &FREE;
    let command = match (client.prepare)(&Place::of(client)) {
        Ok(command) => command,
        Err(why) => return Verdict::Failed { why },
    };
    let mut turns = freed
        .wait_while(free.lock().expect("no one panics with it"), |n| *n == 0)
        .expect("no one panics with it");
    *turns -= 1;
    drop(turns);
    let ran = let_push(client, &command, server);
    *free.lock().expect("no one panics with it") += 1;
    freed.notify_one();
    let ran = match ran {
        Ok(ran) => ran,
        Err(why) => return Verdict::Failed { why },
    };
    let (mut least, mut sum) = (1.0_f64, 0.0);
    for of in client.services {
        match weigh(client, of, server, ran) {
            Ok((share, seconds)) => {
                least = least.min(share);
                sum += seconds;
            }
            Err(why) => return Verdict::Failed { why },
        }
    }
    Verdict::Found {
        share: least,
        seconds: sum,
    }
}

/// The busy function's share of what a service has, and how many seconds that is; why they cannot
/// be right.
fn weigh(
    client: &Client,
    of: &str,
    server: &ServerProcess,
    ran: Duration,
) -> Result<(f64, f64), String> {
    let shown = shown(client, of, server)?;
    let share = shown.busy as f64 / shown.total as f64;
    let seconds = shown.total as f64 * client.value_ns / 1e9;
    // One thread is busy; runtimes have others. More than that is counted double.
    let least = 1.0 / client.services.len() as f64;
    let plausible = least..=ran.as_secs_f64() * 1.8;
    if share > SHARE_MIN && share <= 1.0 && plausible.contains(&seconds) {
        return Ok((share, seconds));
    }
    Err(format!(
        "{} has {:.0} % of {seconds:.1} s in {:.1} s; by function: {:?}",
        client.function,
        100.0 * share,
        ran.as_secs_f64(),
        shown.values
    ))
}

#[test]
#[ignore = "installs packages and takes two minutes: tests/clients/run.sh"]
fn each_sdk_is_understood() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = ServerProcess::start(&dir.path().join("data"), &[]);
    let verdicts: Vec<Verdict> = std::thread::scope(|scope| {
        let running = CLIENTS
            .each_ref()
            .map(|client| scope.spawn(|| judge(client, &server)));
        running
            .map(|thread| thread.join().expect("a verdict"))
            .into()
    });

    let required = std::env::var("SCORIA_CLIENTS_REQUIRED").unwrap_or_default();
    let (mut failed, mut skipped) = (Vec::new(), 0);
    for (client, verdict) in CLIENTS.iter().zip(verdicts) {
        let name = client.name;
        match verdict {
            Verdict::Found { share, seconds } => {
                let (function, percent) = (client.function, 100.0 * share);
                eprintln!("ok: {name}: {function} has {percent:.1} % of {seconds:.1} s");
            }
            Verdict::Skipped { missing } => {
                eprintln!("SKIPPED: {name}: this machine does not answer `{missing}`");
                skipped += 1;
                if required.split_whitespace().any(|required| required == name) {
                    failed.push(name);
                }
            }
            Verdict::Failed { why } => {
                eprintln!("FAILED: {name}: {why}");
                failed.push(name);
            }
        }
    }
    eprintln!("{skipped} of {} clients SKIPPED", CLIENTS.len());
    assert!(
        failed.is_empty(),
        "failed: {failed:?}; the server's log ends:\n{}",
        server.log_end()
    );
    assert!(server.terminate().success());
}
