//! The names by which people know limits from Pyroscope's configuration, and what becomes of each.
//!
//! # Invariants
//! - A limit that is not enforced here is refused with a reason, unless its value switches it off:
//!   nobody believes in a limit that does nothing.

use serde_json::Value;

/// What a name stands for.
enum Meaning {
    /// One of our own keys, given the same value.
    Same(&'static str),
    /// One of our own keys, which counts bytes; the value is in MiB.
    Mebibytes(&'static str),
    /// Nothing here.
    Absent(&'static str),
}

use Meaning::{Absent, Mebibytes, Same};

const PLACEMENT: &str = "the ring places the series of a service side by side; nothing to tune";
const WRITE_PATH: &str = "there is one write path, durable before it answers";
const SERIES: &str = "the number of series is not limited; max_promoted_labels_per_series, \
                      promoted_labels_deny and relabelling rules bound what profiles make of it";
const COMPACTION: &str = "compaction is set for the whole store";
const READ_PATH: &str = "queries are planned by the bytes that they read, not by this";

/// Names that are not our own keys. One that ends in `*` stands for all that begin so.
const FOREIGN: [(&str, Meaning); 35] = [
    ("ingestion_rate_mb", Mebibytes("ingestion_rate_bytes")),
    (
        "ingestion_burst_size_mb",
        Mebibytes("ingestion_burst_bytes"),
    ),
    (
        "ingestion_body_limit_mb",
        Mebibytes("ingestion_body_limit_bytes"),
    ),
    ("reject_older_than", Same("reject_older_than_ms")),
    ("reject_newer_than", Same("reject_newer_than_ms")),
    ("compactor_blocks_retention_period", Same("retention_ms")),
    ("max_query_lookback", Same("max_query_lookback_ms")),
    ("max_query_length", Same("max_query_length_ms")),
    (
        "push_max_concurrency",
        Absent("profiles are decoded by as many threads as the machine has, for all tenants"),
    ),
    ("ingestion_tenant_shard_size", Absent(PLACEMENT)),
    (
        "enforce_labels_order",
        Absent("labels are always stored in the order of their names"),
    ),
    ("max_global_series_per_tenant", Absent(SERIES)),
    ("max_local_series_per_tenant", Absent(SERIES)),
    (
        "distributor_aggregation_*",
        Absent("a profile is answered for only when it is stored, so none is held back"),
    ),
    ("write_path", Absent(WRITE_PATH)),
    ("write_path_*", Absent(WRITE_PATH)),
    ("async_ingest", Absent(WRITE_PATH)),
    ("adaptive_placement_*", Absent(PLACEMENT)),
    ("compactor_split*", Absent(COMPACTION)),
    ("compactor_tenant_shard_size", Absent(COMPACTION)),
    (
        "compactor_partial_block_deletion_delay",
        Absent("a block without its manifest is never in the catalogue"),
    ),
    ("compactor_downsampler_enabled", Absent(COMPACTION)),
    (
        "store_gateway_tenant_shard_size",
        Absent("there is no store gateway"),
    ),
    ("max_query_parallelism", Absent(READ_PATH)),
    ("max_queriers_per_tenant", Absent(READ_PATH)),
    ("split_queries_by_interval", Absent(READ_PATH)),
    ("query_sanitize_on_merge", Absent(READ_PATH)),
    ("query_pprof_flat_plan_enabled", Absent(READ_PATH)),
    ("query_analysis_*", Absent(READ_PATH)),
    ("enable_query_backend*", Absent(READ_PATH)),
    ("query_backend*", Absent(READ_PATH)),
    ("read_path*", Absent(READ_PATH)),
    (
        "s3_sse_*",
        Absent("encryption is set for the whole store, by its URL"),
    ),
    (
        "recording_rules",
        Absent("rules are kept by their own service, not among limits"),
    ),
    (
        "symbolizer",
        Absent("native frames are not symbolised by this server"),
    ),
];

/// A limit under any name as one under our own.
///
/// `None` says that there is nothing to set: the limit does not exist here, and the value switches
/// it off.
///
/// # Errors
/// The limit does not exist here and the value asks for it; says why it does not.
pub(super) fn resolve(name: &str, value: Value) -> Result<Option<(String, Value)>, String> {
    let stands_for = |known: &&(&str, Meaning)| match known.0.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => known.0 == name,
    };
    match FOREIGN.iter().find(stands_for) {
        None => Ok(Some((name.to_owned(), value))),
        Some((_, Same(key))) => Ok(Some(((*key).to_owned(), value))),
        Some((_, Mebibytes(key))) => Ok(Some(((*key).to_owned(), mebibytes(value)))),
        Some((_, Absent(_))) if is_off(&value) => Ok(None),
        Some((_, Absent(why))) => Err(format!("not available: {why}")),
    }
}

/// A bare number of MiB with its unit; anything else stays, for its own type to read or refuse.
fn mebibytes(value: Value) -> Value {
    let number = match &value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return value,
    };
    match number.parse::<f64>() {
        Ok(_) => Value::String(format!("{number}MiB")),
        Err(_) => value,
    }
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => matches!(text.trim(), "" | "0" | "0s" | "false"),
        Value::Array(items) => items.is_empty(),
        Value::Object(keys) => keys.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::LimitsConfig;
    use super::*;

    #[test]
    fn names_from_elsewhere_become_our_own() {
        let table = [
            (
                "ingestion_rate_mb",
                json!(4),
                "ingestion_rate_bytes",
                json!("4MiB"),
            ),
            (
                "ingestion_rate_mb",
                json!("0.5"),
                "ingestion_rate_bytes",
                json!("0.5MiB"),
            ),
            (
                "ingestion_burst_size_mb",
                json!("7MiB"),
                "ingestion_burst_bytes",
                json!("7MiB"),
            ),
            (
                "reject_older_than",
                json!("2h"),
                "reject_older_than_ms",
                json!("2h"),
            ),
            ("anything", json!(1), "anything", json!(1)),
        ];
        for (name, value, key, read) in table {
            assert_eq!(resolve(name, value), Ok(Some((key.to_owned(), read))));
        }
    }

    #[test]
    fn what_is_not_here_is_refused_unless_it_is_switched_off() {
        for name in ["write_path", "adaptive_placement_tenant_shards"] {
            for off in [json!(0), json!("0s"), json!(false), json!(null), json!("")] {
                assert_eq!(resolve(name, off), Ok(None));
            }
            let refused = resolve(name, json!("combined")).unwrap_err();
            assert!(refused.starts_with("not available: "), "{refused}");
        }
    }

    #[test]
    fn every_name_leads_to_a_key_and_hides_none() {
        let keys = serde_json::to_value(LimitsConfig::default()).unwrap();
        for (name, meaning) in &FOREIGN {
            assert!(keys.get(name).is_none(), "{name} is a key of our own");
            if let Same(key) | Mebibytes(key) = meaning {
                assert!(keys.get(key).is_some(), "{name} leads nowhere");
            }
        }
        for (key, value) in keys.as_object().unwrap() {
            let same = Ok(Some((key.clone(), value.clone())));
            assert_eq!(resolve(key, value.clone()), same);
        }
    }
}
