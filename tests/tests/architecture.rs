//! The crate graph and the tidiness rules, as the architecture page states them.
//!
//! The allowed edges stand here as a table; everything else is read from `cargo metadata` and
//! from the sources, so that a rule that is broken fails with the file and the rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Crate and what it may depend on, in the order of the architecture page.
const EDGES: [(&str, &[&str]); 16] = [
    ("allocator", &[]),
    ("model", &[]),
    ("pprof", &["model"]),
    ("symbols", &["model"]),
    ("block", &["model", "symbols"]),
    ("query", &["model", "symbols", "block", "pprof"]),
    ("proto", &["model"]),
    ("storage", &["model", "block"]),
    ("cluster", &["model"]),
    ("distributor", &["model", "pprof", "cluster", "proto"]),
    (
        "ingester",
        &[
            "model", "symbols", "block", "query", "storage", "cluster", "proto",
        ],
    ),
    (
        "querier",
        &[
            "model", "symbols", "query", "block", "storage", "cluster", "proto",
        ],
    ),
    ("cabinet", &["model", "pprof", "query", "storage"]),
    (
        "compactor",
        &["model", "block", "query", "storage", "cluster"],
    ),
    (
        "server",
        &[
            "model",
            "pprof",
            "symbols",
            "block",
            "query",
            "proto",
            "storage",
            "cluster",
            "distributor",
            "ingester",
            "querier",
            "compactor",
            "cabinet",
            "allocator",
        ],
    ),
    (
        "tests",
        &[
            "model", "symbols", "block", "query", "storage", "ingester", "pprof", "proto",
        ],
    ),
];

/// Crates without IO, clocks, randomness or logging.
const PURE: [&str; 5] = ["model", "pprof", "symbols", "block", "query"];

/// What a pure crate must not be built on.
const IMPURE: [&str; 14] = [
    "tokio",
    "tokio-util",
    "futures",
    "async-trait",
    "tonic",
    "axum",
    "hyper",
    "reqwest",
    "object_store",
    "tracing",
    "log",
    "rand",
    "prometheus-client",
    "rustix",
];

/// Text that only a clock, a file or a socket needs.
const IMPURE_TEXT: [&str; 6] = [
    "std::fs",
    "std::net",
    "SystemTime::now",
    "Instant::now",
    "std::thread::spawn",
    "println!",
];

const LINES_PER_FILE_MAX: usize = 700;

const REFUSED_FILE_NAMES: [&str; 6] = ["common", "utils", "util", "helpers", "manager", "misc"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .into()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata answers")
}

/// Package name to the packages it depends on; development dependencies apart.
fn dependencies(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    metadata
        .packages
        .iter()
        .map(|package| {
            let names = package
                .dependencies
                .iter()
                .filter(|d| d.kind != DependencyKind::Development);
            (
                package.name.to_string(),
                names.map(|d| d.name.clone()).collect(),
            )
        })
        .collect()
}

#[test]
fn crates_depend_only_in_the_allowed_direction() {
    let graph = dependencies(&metadata());
    let allowed: BTreeMap<&str, &[&str]> = EDGES.into_iter().collect();
    let mut broken = Vec::new();
    for (package, names) in &graph {
        let short = package
            .strip_prefix("scoria-")
            .expect("packages are named scoria-…");
        let may = allowed
            .get(short)
            .unwrap_or_else(|| panic!("{package} is not in the table"));
        for name in names.iter().filter_map(|name| name.strip_prefix("scoria-")) {
            if !may.contains(&name) {
                broken.push(format!("{short} -> {name}"));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "edges that the architecture does not allow: {broken:?}"
    );
    assert_eq!(graph.len(), EDGES.len(), "every crate of the table exists");
}

#[test]
fn pure_crates_are_built_on_nothing_impure() {
    let graph = dependencies(&metadata());
    for name in PURE {
        let found: Vec<_> = graph[&format!("scoria-{name}")]
            .iter()
            .filter(|dependency| IMPURE.contains(&dependency.as_str()))
            .collect();
        assert!(found.is_empty(), "{name} depends on {found:?}");
    }
}

/// Every Rust source under `dir`, generated code apart.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                if !path.ends_with("src/gen") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn crate_sources() -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    for (name, _) in EDGES {
        let dir = if name == "tests" {
            root().join("tests/src")
        } else {
            root().join("crates").join(name).join("src")
        };
        for path in sources(&dir) {
            let text = fs::read_to_string(&path).expect("a readable source");
            all.push((path, text));
        }
    }
    assert!(all.len() > EDGES.len(), "the sources were found");
    all
}

/// The part of a file before its inline tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

#[test]
fn every_module_opens_with_its_page() {
    let bare: Vec<_> = crate_sources()
        .into_iter()
        .filter(|(path, text)| !path.ends_with("tests.rs") && !text.starts_with("//!"))
        .map(|(path, _)| path)
        .collect();
    assert!(bare.is_empty(), "modules without a //! page: {bare:?}");
}

#[test]
fn pure_crates_name_no_clock_file_or_socket() {
    let mut found = Vec::new();
    for (path, text) in crate_sources() {
        let pure = PURE
            .iter()
            .any(|name| path.starts_with(root().join("crates").join(name)));
        let test =
            path.ends_with("tests.rs") || path.components().any(|c| c.as_os_str() == "tests");
        if pure && !test {
            let body = without_tests(&text);
            found.extend(
                IMPURE_TEXT
                    .iter()
                    .filter(|word| body.contains(**word))
                    .map(|word| (path.clone(), *word)),
            );
        }
    }
    assert!(
        found.is_empty(),
        "pure crates that reach outside: {found:?}"
    );
}

#[test]
fn files_stay_short_and_well_named() {
    let mut found = Vec::new();
    for (path, text) in crate_sources() {
        let lines = without_tests(&text).lines().count();
        if lines > LINES_PER_FILE_MAX {
            found.push(format!(
                "{}: {lines} lines, the limit is {LINES_PER_FILE_MAX}",
                path.display()
            ));
        }
        let stem = path
            .file_stem()
            .and_then(|s| s.to_str())
            .unwrap_or_default();
        if REFUSED_FILE_NAMES.contains(&stem) {
            found.push(format!("{}: a name that says nothing", path.display()));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn nothing_unfinished_is_left_in_the_sources() {
    let words = ["todo!(", "unimplemented!(", "FIXME", "XXX", "dbg!("];
    let found: Vec<_> = crate_sources()
        .into_iter()
        .flat_map(|(path, text)| {
            words
                .into_iter()
                .filter(|w| text.contains(w))
                .map(|w| (path.clone(), w))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "{found:?}");
}
