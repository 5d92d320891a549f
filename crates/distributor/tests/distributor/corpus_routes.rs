//! Every real profile by every way in: under which types it is stored, with which totals, and that
//! sending it again stores nothing.
//!
//! What is expected of a total is added up from the columns of the file itself. Where it is not
//! what is stored, [`DEVIATIONS`] says why.

use std::collections::BTreeMap;

use scoria_distributor::{Outcome, RefusalKind};
use scoria_model::DiscardReason;
use scoria_pprof::{Decompressor, RawProfile};

use crate::corpus::{FILES, FORMS, File, corpus, expected, from_push, kinds, limits};
use crate::ingest::{FORM, form, send};
use crate::support::House;

/// Files of which not all is stored, with the reason by which the rest is counted.
const DEVIATIONS: [(&str, &str); 1] = [
    // Its locations have neither lines nor an address: there is nothing to show of them.
    ("no_addr_no_line.pb.gz", "broken_reference"),
];

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
        let values = &raw.columns.values[raw.sample(at).values()];
        if values.iter().any(|&value| value < 0) {
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
        requests.push((format!("{query}&format=pprof"), None, raw.to_vec()));
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
        let check = |house: &House, name: &str, route: &str| {
            let at = format!("{} by {route}", file.path);
            assert_eq!(kinds(house), expected(name, file.types), "{at}");
            match deviation {
                None => assert_eq!(stored_totals(house), totals, "{at}"),
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
