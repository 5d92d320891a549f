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
use std::time::{Duration, Instant};

use scoria_tests::process::{ServerProcess, now_ns, self_values};
use serde_json::{Value, json};

/// Long enough for each SDK to push once by its own clock and again at its end.
const SECONDS: u32 = 18;
/// What a client may need beyond that on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Of all samples; the rest is the SDK itself and the program's start.
const SHARE_MIN: f64 = 0.4;

/// One SDK.
struct Client {
    name: &'static str,
    /// Programs without which it is skipped, each with arguments that make it answer.
    needs: &'static [&'static [&'static str]],
    /// Installs or builds it; the command that takes server, service and seconds.
    prepare: fn(&Place) -> Result<Vec<PathBuf>, String>,
    profile_type: &'static str,
    /// What one unit of its values is.
    value_ns: f64,
    /// Stands in the names of the busy function's frames.
    function: &'static str,
}

const CLIENTS: [Client; 7] = [
    Client {
        name: "python",
        needs: &[&["python3", "-c", "import venv, ensurepip"]],
        prepare: python,
        profile_type: "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
        value_ns: 1.0,
        function: "busy_python",
    },
    Client {
        name: "node",
        needs: &[&["node", "--version"], &["npm", "--version"]],
        prepare: node,
        profile_type: "wall:cpu:nanoseconds:wall:nanoseconds",
        value_ns: 1.0,
        function: "busyNode",
    },
    Client {
        name: "rust",
        needs: &[&["cargo", "--version"]],
        prepare: rust,
        profile_type: "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
        value_ns: 1.0,
        function: "busy_rust",
    },
    Client {
        name: "go",
        needs: &[&["go", "version"]],
        prepare: go,
        profile_type: "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
        value_ns: 1.0,
        function: "main.busyGo",
    },
    Client {
        name: "python-otlp",
        needs: &[&["python3", "-c", "import venv, ensurepip"]],
        prepare: python,
        profile_type: "wall:samples:count:wall:nanoseconds",
        value_ns: 10_000_000.0,
        function: "busy_python",
    },
    Client {
        name: "go-otlp",
        needs: &[&["go", "version"]],
        prepare: go,
        profile_type: "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
        value_ns: 1.0,
        function: "main.busyGo",
    },
    Client {
        name: "java",
        needs: &[
            &["java", "-version"],
            &["javac", "-version"],
            &["mvn", "--version"],
        ],
        prepare: java,
        profile_type: "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
        value_ns: 1.0,
        function: "Busy.busyJava",
    },
];

/// Where a client's sources lie and where its packages go.
struct Place {
    sources: PathBuf,
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
    fn of(client: &str, lockfile: &str) -> Self {
        let sources = root().join("tests/clients").join(client);
        let mut hasher = DefaultHasher::new();
        fs::read(sources.join(lockfile))
            .expect("lockfiles are checked in")
            .hash(&mut hasher);
        let cache = std::env::var_os("SCORIA_CLIENTS_DIR")
            .map_or_else(|| root().join("target/clients"), PathBuf::from);
        let installed = cache.join(format!("{client}-{:016x}", hasher.finish()));
        fs::create_dir_all(&installed).expect("a directory for packages");
        let installed = installed.canonicalize().expect("it was just made");
        Self { sources, installed }
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

fn lockfile(client: &str) -> &'static str {
    match client {
        "python" | "python-otlp" => "requirements.txt",
        "node" => "package-lock.json",
        "rust" => "Cargo.lock",
        "java" => "agent.sha256",
        _ => "go.sum",
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
    let requirements = place.sources.join("requirements.txt");
    place.once(|| {
        let make = ["-m", "venv", "--clear"].map(OsStr::new);
        run(
            "python3",
            &[&make[..], &[venv.as_os_str()]].concat(),
            &place.sources,
        )?;
        let install = ["-m", "pip", "install", "--quiet", "--require-hashes", "-r"].map(OsStr::new);
        let install = [&install[..], &[requirements.as_os_str()]].concat();
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
    Ok(vec![target.join("debug/scoria-client-rust")])
}

fn go(place: &Place) -> Result<Vec<PathBuf>, String> {
    let program = place.installed.join("busy");
    let build = ["build", "-mod=readonly", "-o"].map(OsStr::new);
    let build = [&build[..], &[program.as_os_str(), OsStr::new(".")]].concat();
    run("go", &build, &place.sources)?;
    Ok(vec![program])
}

/// Sends JFR recordings of async-profiler, with labels beside them.
fn java(place: &Place) -> Result<Vec<PathBuf>, String> {
    const AGENT: &str = "-Dartifact=io.pyroscope:agent:2.9.2";
    const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy";
    let agent = place.installed.join("agent-2.9.2.jar");
    place.once(|| {
        let into = format!("-DoutputDirectory={}", place.installed.display());
        let copy = ["-q", "-B", COPY, AGENT, &into].map(OsStr::new);
        run("mvn", &copy, &place.installed)?;
        let sums = place.sources.join("agent.sha256");
        let check = [OsStr::new("--check"), sums.as_os_str()];
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

fn service_of(client: &Client) -> String {
    format!("client-{}", client.name)
}

/// Lets the client profile itself; how long it ran.
fn let_push(client: &Client, server: &ServerProcess) -> Result<Duration, String> {
    let place = Place::of(client.name, lockfile(client.name));
    let command = (client.prepare)(&place)?;
    let log = place.installed.join("log");
    let output = File::create(&log).map_err(|error| error.to_string())?;
    let errors = output.try_clone().map_err(|error| error.to_string())?;
    let started = Instant::now();
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .arg(&server.url)
        .arg(service_of(client))
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

fn shown(client: &Client, server: &ServerProcess) -> Result<Shown, String> {
    let end = now_ns() / 1_000_000 + 60_000;
    let service = service_of(client);
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
    let found = let_push(client, server).and_then(|ran| Ok((ran, shown(client, server)?)));
    let (ran, shown) = match found {
        Ok(found) => found,
        Err(why) => return Verdict::Failed { why },
    };
    let share = shown.busy as f64 / shown.total as f64;
    let seconds = shown.total as f64 * client.value_ns / 1e9;
    // One thread is busy; runtimes have others. More than that is counted double.
    let plausible = 1.0..=ran.as_secs_f64() * 1.8;
    if share > SHARE_MIN && share <= 1.0 && plausible.contains(&seconds) {
        Verdict::Found { share, seconds }
    } else {
        let why = format!(
            "{} has {:.0} % of {seconds:.1} s in {:.1} s; by function: {:?}",
            client.function,
            100.0 * share,
            ran.as_secs_f64(),
            shown.values
        );
        Verdict::Failed { why }
    }
}

#[test]
#[ignore = "installs packages and takes half a minute: tests/clients/run.sh"]
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
