//! What stands behind the `?` of the old HTTP API: the grammar of names, and times, which never fail.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scoria_distributor::ingest::query::IngestQuery;
use scoria_distributor::ingest::time_form;
use scoria_model::Timestamp;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

fuzz_target!(|text: &str| {
    time_form::parse(text, NOW);
    let Ok(query) = IngestQuery::parse(text, NOW) else {
        return;
    };
    let mut names: Vec<&String> = query.name.labels.iter().map(|(name, _)| name).collect();
    for name in &names {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        assert!(!name.is_empty() && name.chars().all(allowed), "{name:?}");
        assert!(
            !name.starts_with("__") || *name == "__session_id__",
            "{name:?}"
        );
    }
    for (_, value) in &query.name.labels {
        assert!(!value.contains([',', '}']), "{value:?}");
    }
    let n = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), n, "{:?}", query.name);
});
