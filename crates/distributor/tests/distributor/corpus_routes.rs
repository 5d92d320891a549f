//! Every real profile by every way in: under which types it is stored, with which totals and flame
//! graphs, and that sending it again stores nothing.
//!
//! What is expected is added up from the columns of the file itself, whole stacks. Where it is not
//! what is stored, [`DEVIATIONS`] and [`REPAIRED`] say why.

use std::collections::{BTreeMap, HashMap};

use scoria_distributor::{Outcome, RefusalKind};
use scoria_model::DiscardReason;
use scoria_pprof::{Decompressor, RawProfile};

use crate::corpus::{FILES, FORMS, File, corpus, expected, from_push, kinds, limits};
use crate::ingest::{FORM, form, send};
use crate::support::{House, gzip};

/// Files of which not all is stored, with the reason by which the rest is counted.
const DEVIATIONS: [(&str, &str); 1] = [
    // Its locations have neither lines nor an address: there is nothing to show of them.
    ("no_addr_no_line.pb.gz", "broken_reference"),
];

/// Files of Go programs with stacks that the runtime cut, at 64 frames of a CPU sample and 32 of an
/// allocation. What is cut off is given back where other samples of the file tell what it was, by
/// every way in; `cut_stacktraces_are_repaired_at_least_as_well_as_expected` of the decoder's tests
/// holds it against what the other server gives back.
const REPAIRED: [&str; 6] = [
    "pkg/pprof/testdata/heap",
    "pkg/pprof/testdata/heap_delta",
    "pkg/og/convert/pprof/testdata/heap.pb",
    "pkg/og/convert/pprof/testdata/heap.pb.gz",
    "gotruncatefix/cpu_go_truncated_1.pb.gz",
    "gotruncatefix/heap_go_truncated_1.pb.gz",
];

/// Whether stacks of a file have more than came with it if and only if it is one of [`REPAIRED`].
pub(crate) fn repaired_if_known(path: &str, n_given_back: usize) {
    let is_known = REPAIRED.iter().any(|known| path.ends_with(known));
    assert_eq!(n_given_back > 0, is_known, "{path}: {n_given_back}");
}

/// Type and unit of each sample type with the sum of its values, as they stand in the file.
fn totals_of(raw: &[u8]) -> BTreeMap<String, i64> {
    let mut decompressor = Decompressor::new();
    let plain = decompressor
        .decompress(raw, 1 << 26)
        .expect("it decompresses");
    let raw = RawProfile::decode(plain).expect("it is a pprof");
    let text = |at| String::from_utf8_lossy(raw.text(at)).replace('-', "_");
    let types = raw.columns.sample_types.iter();
    let names: Vec<String> = types
        .map(|kind| format!("{}:{}", text(kind.kind), text(kind.unit)))
        .collect();
    let mut totals = BTreeMap::new();
    for at in 0..raw.columns.samples.len() {
        let values = raw.columns.values.slice(raw.sample(at).values());
        if values.iter().any(|value| value < 0) {
            continue;
        }
        for (name, value) in names.iter().zip(values) {
            *totals.entry(name.clone()).or_default() += value;
        }
    }
    totals.retain(|_, total| *total != 0);
    totals
}

fn stored_totals(house: &House) -> BTreeMap<String, i64> {
    let mut totals = BTreeMap::new();
    for row in house.ingester.rows() {
        let mut parts = row.kind.split(':').skip(1);
        let (kind, unit) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        *totals.entry(format!("{kind}:{unit}")).or_default() += row.total;
    }
    totals.retain(|_, total| *total != 0);
    totals
}

/// By type and unit: functions from root to leaf, with the sum of the samples.
pub(crate) type Flames = BTreeMap<String, BTreeMap<String, i64>>;

/// The flame graphs that stand in a file. `named` says what a function is called.
pub(crate) fn flames_of(raw: &[u8], named: impl Fn(&str, &str) -> String) -> Flames {
    let mut decompressor = Decompressor::new();
    let plain = decompressor
        .decompress(raw, 1 << 26)
        .expect("it decompresses");
    let raw = RawProfile::decode(plain).expect("it is a pprof");
    let text = |at| String::from_utf8_lossy(raw.text(at)).into_owned();
    let columns = &raw.columns;
    let functions: HashMap<u64, String> = columns
        .functions
        .iter()
        .map(|f| (f.id, named(&text(f.name), &text(f.filename))))
        .collect();
    let names = (0..columns.locations.len()).map(|at| {
        let location = columns.locations.get(at);
        let lines = raw.lines_of(at);
        let mut names: Vec<&str> = lines.map(|line| &*functions[&line.function]).collect();
        let address = format!("{:#x}", location.address);
        if names.is_empty() {
            names.push(&address);
        }
        names.reverse();
        (location.id, names.join(";"))
    });
    let names: HashMap<u64, String> = names.collect();
    let mut flames = Flames::new();
    for at in 0..columns.samples.len() {
        let sample = raw.sample(at);
        let values = columns.values.slice(sample.values());
        if values.iter().any(|value| value < 0) {
            continue;
        }
        let frames = columns.frames.slice(sample.frames()).iter().rev();
        let stack: Vec<&str> = frames
            .map(|frame| &*names[&raw.location_id(frame)])
            .collect();
        for (kind, value) in columns.sample_types.iter().zip(values) {
            if value != 0 {
                let kind = format!("{}:{}", text(kind.kind).replace('-', "_"), text(kind.unit));
                let flame = flames.entry(kind).or_default();
                *flame.entry(stack.join(";")).or_default() += value;
            }
        }
    }
    flames
}

fn stored_flames(house: &House) -> Flames {
    let mut flames = Flames::new();
    for (kind, stacks) in house.ingester.flames() {
        let parts: Vec<&str> = kind.split(':').collect();
        let flame = flames.entry(parts[1..3].join(":")).or_default();
        for (stack, value) in stacks {
            *flame.entry(stack).or_default() += value;
        }
    }
    flames.retain(|_, flame| !flame.is_empty());
    flames
}

/// As the functions of a file are called when it came from this profiler at `/ingest`.
fn renamed(spy: &str, name: &str, filename: &str) -> String {
    match spy {
        "pyspy" if filename.starts_with('/') => name.to_owned(),
        "pyspy" | "rbspy" | "scripting" => format!("{filename} {name}"),
        _ => without_shapes(name),
    }
}

/// Without the compiler's type parameters, which go whatever the way in.
pub(crate) fn without_shapes(name: &str) -> String {
    let Some((before, rest)) = name.split_once("[go.shape.") else {
        return name.to_owned();
    };
    let mut depth = 1;
    let end = rest.find(|character| {
        depth += match character {
            '[' => 1,
            ']' => -1,
            _ => 0,
        };
        depth == 0
    });
    let after = end.map_or("", |end| &rest[end + 1..]);
    format!("{before}[...]{}", without_shapes(after))
}

/// Frames from which on Go's runtime may have cut a stack: those of a heap profile, less hidden ones.
const CUT_FROM: usize = 24;

/// Whether the stacks found are those expected, whole, but for such as Go's runtime cut: these may
/// have a root side that they did not come with. How many have one.
pub(crate) fn given_back(
    found: &BTreeMap<String, i64>,
    expected: &BTreeMap<String, i64>,
) -> Result<usize, String> {
    let beyond = |of: &BTreeMap<String, i64>, other: &BTreeMap<String, i64>| {
        let values = of.iter().map(|(stack, value)| {
            let there = other.get(stack).copied().unwrap_or_default();
            (stack.clone(), value - there)
        });
        values.filter(|(_, more)| *more > 0).collect::<Vec<_>>()
    };
    let mut longer = beyond(found, expected);
    let mut cut = beyond(expected, found);
    // A stack that ends like another one is the other's only if nobody longer claims it.
    cut.sort_by_key(|(stack, _)| std::cmp::Reverse(stack.len()));
    for (stack, missing) in &mut cut {
        if stack.split(';').count() < CUT_FROM {
            return Err(format!("{missing} of {stack} are missing"));
        }
        let end = format!(";{stack}");
        for (_, left) in longer.iter_mut().filter(|(stack, _)| stack.ends_with(&end)) {
            let taken = (*left).min(*missing);
            *left -= taken;
            *missing -= taken;
        }
        if *missing > 0 {
            return Err(format!("{missing} of {stack} went nowhere"));
        }
    }
    match longer.iter().find(|(_, left)| *left > 0) {
        Some((stack, left)) => Err(format!("{left} of {stack} came from nowhere")),
        None => Ok(cut.len()),
    }
}

/// As [`given_back`], of every type.
pub(crate) fn all_given_back(found: &Flames, expected: &Flames) -> Result<usize, String> {
    let kinds = |flames: &Flames| flames.keys().cloned().collect::<Vec<_>>();
    if kinds(found) != kinds(expected) {
        return Err(format!("types {:?}", kinds(found)));
    }
    let counts = expected.iter().map(|(kind, stacks)| {
        given_back(&found[kind], stacks).map_err(|error| format!("{kind}: {error}"))
    });
    counts.sum()
}

/// The same profile, plain if it is gzip and as gzip if it is not.
fn packed_otherwise(raw: &[u8]) -> Vec<u8> {
    if scoria_pprof::gunzip::is_gzip(raw) {
        let mut decompressor = Decompressor::new();
        let plain = decompressor.decompress(raw, 1 << 26);
        return plain.expect("it decompresses").to_vec();
    }
    gzip(raw)
}

/// The requests of the old HTTP API by which a file can come: query, Content-Type, body.
fn requests(
    file: &File,
    raw: &[u8],
    config: Option<&[u8]>,
) -> Vec<(String, Option<&'static str>, Vec<u8>)> {
    let query = format!("name=app&from=1&until=2&spyName={}", file.spy);
    let mut parts: Vec<(&str, &[u8])> = vec![("profile", raw)];
    parts.extend(config.map(|config| ("sample_type_config", config)));
    let mut requests = vec![
        (query.clone(), Some(FORM), form(&parts)),
        (format!("{query}&format=pprof"), Some(FORM), form(&parts)),
    ];
    // Outside of a form there is no place for a config, which may decide the name.
    if config.is_none() {
        let format = format!("{query}&format=pprof");
        requests.push((format.clone(), None, raw.to_vec()));
        requests.push((format, None, packed_otherwise(raw)));
        requests.push((query, None, raw.to_vec()));
    }
    requests
}

/// Sends a request, lets `check` look at what is stored, and sends it again.
async fn twice(
    house: &House,
    (query, content_type, body): (String, Option<&'static str>, Vec<u8>),
    check: impl FnOnce(),
) {
    let first = send(house, &query, content_type, body.clone()).await;
    let first = first.unwrap_or_else(|error| panic!("{query}: {error}"));
    assert_eq!(first.outcomes, [Outcome::Stored], "{query}");
    check();
    let second = send(house, &query, content_type, body).await;
    let second = second.unwrap_or_else(|error| panic!("{query}: {error}"));
    assert_eq!(second.outcomes, [Outcome::Duplicate], "{query}");
}

#[tokio::test]
async fn each_file_by_each_route() {
    let Some(root) = corpus() else { return };
    for file in FILES {
        let raw = std::fs::read(root.join(file.path)).expect("the file is in the corpus");
        let config = file.config.map(|name| root.join(FORMS).join(name));
        let config = config.map(|path| std::fs::read(path).expect("the config is in the corpus"));
        let deviation = DEVIATIONS
            .iter()
            .find(|(name, _)| file.path.ends_with(name));
        let totals = totals_of(&raw);
        let flames = [
            flames_of(&raw, |name, filename| renamed(file.spy, name, filename)),
            flames_of(&raw, |name, _| without_shapes(name)),
        ];
        let check = |house: &House, name: &str, route: &str| {
            let at = format!("{} by {route}", file.path);
            assert_eq!(kinds(house), expected(name, file.types), "{at}");
            match deviation {
                None => {
                    assert_eq!(stored_totals(house), totals, "{at}");
                    let expected = &flames[usize::from(route == "push")];
                    let n = all_given_back(&stored_flames(house), expected);
                    repaired_if_known(file.path, n.unwrap_or_else(|error| panic!("{at}: {error}")));
                }
                Some((_, reason)) => assert!(house.dropped(reason) > 0, "{at}"),
            }
            assert_eq!(house.bodies.used(), 0, "{at}");
        };
        for request in requests(&file, &raw, config.as_deref()) {
            let house = House::new(limits());
            let route = request.0.clone();
            twice(&house, request, || check(&house, file.name, &route)).await;
        }
        let house = House::new(limits());
        let other = packed_otherwise(&raw);
        house.push(vec![from_push(other)]).await.unwrap();
        check(&house, "named_by_client", "push");
        let house = House::new(limits());
        house.push(vec![from_push(raw.clone())]).await.unwrap();
        check(&house, "named_by_client", "push");
        let again = house.push(vec![from_push(raw.clone())]).await.unwrap();
        assert_eq!(again.outcomes, [Outcome::Duplicate], "{}", file.path);

        let with_base = form(&[("profile", &raw), ("prev_profile", &raw)]);
        let refused = send(&house, "name=app", Some(FORM), with_base).await;
        let malformed = RefusalKind::Invalid {
            reason: DiscardReason::MalformedProfile,
        };
        let error = refused.expect_err("there is no subtraction any more");
        assert_eq!(error.kind(), malformed, "{}", file.path);
        assert!(error.is_about_body());
    }
}

#[tokio::test]
async fn speedscope_files() {
    const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
    let Some(root) = corpus() else { return };
    let folder = root.join("pyroscope/pkg/og/convert/speedscope/testdata");
    // 14 samples at 100 Hz; three profiles of 14 s, alike and so added up. The weights that the
    // other server's tests expect are a hundred times less for opening events.
    let table = [
        ("simple", "simple.txt", 140_000_000),
        ("duplicates", "one", 42_000_000_000_i64),
    ];
    for (file, profile, total) in table {
        let path = folder.join(format!("{file}.speedscope.json"));
        let body = std::fs::read(path).expect("the file is in the corpus");
        for query in ["name=app&format=speedscope", "name=app"] {
            let house = House::new(limits());
            let request = (query.to_owned(), None, body.clone());
            let expected = format!(
                "{{__name__=\"process_cpu\", profile_name=\"{profile}\", pyroscope_spy=\"unknown\", service_name=\"app\"}} {CPU} = {total}"
            );
            twice(&house, request, || {
                assert_eq!(house.ingester.stored(), [expected], "{file}");
            })
            .await;
        }
    }
}
