//! The text of the runtime file.
//!
//! ```text
//! overrides:
//!   tenant-a:
//!     ingestion_rate_mb: 16
//!     max_label_names_per_series: 40
//! ```
//!
//! # Invariants
//! - A tenant's limits are those of the section `limits` but for the ones it names; tenants have
//!   nothing of each other.
//! - What is not understood is an error that names the tenant and the limit; nothing is passed
//!   over.

use std::collections::BTreeMap;

use scoria_model::TenantId;
use serde_json::{Map, Value};

use crate::config::{LimitError, LimitsConfig};

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FileError {
    #[error("not YAML: {0}")]
    Yaml(String),
    #[error("there is no section {0}; the only one is overrides")]
    Section(String),
    #[error("{0} must be a map of {1}")]
    NoMap(String, &'static str),
    #[error("overrides.{tenant}: {reason}")]
    Tenant { tenant: String, reason: String },
    #[error("overrides.{tenant}.{error}")]
    Limit { tenant: String, error: LimitError },
}

/// Limits of the tenants that have some of their own.
pub(super) type Overrides = BTreeMap<TenantId, LimitsConfig>;

/// Reads the text; `defaults` are in force for what a tenant does not name. An empty text names
/// nobody.
pub(super) fn parse(text: &str, defaults: &LimitsConfig) -> Result<Overrides, FileError> {
    let sections: Option<Map<String, Value>> = if text.trim().is_empty() {
        None
    } else {
        serde_saphyr::from_str(text).map_err(|error| FileError::Yaml(error.to_string()))?
    };
    let mut tenants = Overrides::new();
    for (section, value) in sections.unwrap_or_default() {
        if section != "overrides" {
            return Err(FileError::Section(section));
        }
        for (tenant, given) in map(section, value, "tenants")? {
            let place = format!("overrides.{tenant}");
            let given = map(place, given, "limits")?;
            let (tenant, limits) = one(tenant, &given, defaults)?;
            tenants.insert(tenant, limits);
        }
    }
    Ok(tenants)
}

fn map(name: String, value: Value, holds: &'static str) -> Result<Map<String, Value>, FileError> {
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(FileError::NoMap(name, holds)),
    }
}

fn one(
    name: String,
    given: &Map<String, Value>,
    defaults: &LimitsConfig,
) -> Result<(TenantId, LimitsConfig), FileError> {
    let refuse = |reason: String| FileError::Tenant {
        tenant: name.clone(),
        reason,
    };
    let tenant = TenantId::parse(&name).map_err(|error| refuse(error.to_string()))?;
    if tenant.as_str() != name {
        return Err(refuse(format!("the tenant's id is {tenant}")));
    }
    let limits = defaults.with(given).map_err(|error| FileError::Limit {
        tenant: name.clone(),
        error,
    })?;
    let largest = defaults.ingestion_body_limit_bytes;
    let wanted = limits.ingestion_body_limit_bytes;
    if largest.0 != 0 && (wanted.0 == 0 || wanted > largest) {
        return Err(refuse(format!(
            "ingestion_body_limit_bytes ({wanted}) is above limits.ingestion_body_limit_bytes ({largest}), which guards the server's memory; raise that one first"
        )));
    }
    Ok((tenant, limits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::{ByteSize, Millis};

    fn read(text: &str) -> Result<Overrides, String> {
        parse(text, &LimitsConfig::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_tenant_has_the_defaults_but_for_what_it_names() {
        let text = "overrides:\n  a:\n    ingestion_rate_mb: 16\n    reject_older_than: 2h\n  b:\n    max_label_names_per_series: 3\n  c:\n";
        let tenants = read(text).unwrap();
        let of = |name: &str| tenants[&TenantId::parse(name).unwrap()].clone();
        let expected = LimitsConfig {
            ingestion_rate_bytes: ByteSize(16 << 20),
            reject_older_than_ms: Millis(7_200_000),
            ..LimitsConfig::default()
        };
        assert_eq!(of("a"), expected);
        assert_eq!(of("b").max_label_names_per_series, 3);
        assert_eq!(of("b").ingestion_rate_bytes, ByteSize(64 << 20));
        assert_eq!(of("c"), LimitsConfig::default());
    }

    #[test]
    fn empty_texts_name_nobody() {
        for text in ["", "\n", "# nothing\n", "overrides:\n", "overrides: {}"] {
            assert_eq!(read(text), Ok(Overrides::new()), "{text:?}");
        }
    }

    #[test]
    fn rules_of_retention_are_read_and_bounded() {
        let text =
            "overrides:\n  a:\n    retention_rules:\n    - {selector: '{pod=\"x\"}', period: 2w}\n";
        let tenants = read(text).unwrap();
        let limits = tenants[&TenantId::parse("a").unwrap()].clone();
        let policy = limits.to_policy().unwrap();
        let rule = &policy.limits.retention_rules[0];
        assert_eq!(
            (rule.selector.as_str(), rule.period_ms),
            ("{pod=\"x\"}", 14 * 86_400_000)
        );
        let longer = LimitsConfig {
            retention_ms: Millis(10 * 86_400_000),
            ..limits
        };
        let told = longer.to_policy().unwrap_err().to_string();
        assert!(
            told.contains("not shorter than retention_ms, 10d"),
            "{told}"
        );
    }

    #[test]
    fn errors_name_the_place() {
        let table = [
            ("overrides: [", "not YAML: "),
            ("override:\n  a: {}", "there is no section override"),
            ("overrides: 3", "overrides must be a map of tenants"),
            ("overrides:\n  a: 3", "overrides.a must be a map of limits"),
            ("overrides:\n  a/b: {}", "overrides.a/b: tenant id"),
            ("overrides:\n  \"a:x=y\": {}", "the tenant's id is a"),
            (
                "overrides:\n  a: {max_label_name_lenght: 3}",
                "overrides.a.max_label_name_lenght: there is no such limit; did you mean max_label_name_length?",
            ),
            (
                "overrides:\n  a: {max_label_name_length: many}",
                "overrides.a.max_label_name_length: ",
            ),
            (
                "overrides:\n  a: {reject_older_than: 1h, reject_older_than_ms: 1h}",
                "is the same limit as",
            ),
            (
                "overrides:\n  a: {retention_rules: [{selector: '{', period: 7d}]}",
                "overrides.a.retention_rules: rule 1: the selector \"{\": ",
            ),
            (
                "overrides:\n  a: {retention_rules: [{selector: '{}', period: 7d}]}",
                "is what retention_ms is for",
            ),
            (
                "overrides:\n  a: {retention_rules: [{selector: '{a=\"b\"}', period: 7h}]}",
                "the period 7h is shorter than 1d",
            ),
            (
                "overrides:\n  a: {write_path: combined}",
                "overrides.a.write_path: not available: ",
            ),
            (
                "overrides:\n  a: {ingestion_body_limit_mb: 300}",
                "limits.ingestion_body_limit_bytes (256MiB)",
            ),
            (
                "overrides:\n  a: {ingestion_body_limit_mb: 0}",
                "limits.ingestion_body_limit_bytes (256MiB)",
            ),
        ];
        for (text, says) in table {
            let told = read(text).unwrap_err();
            assert!(told.contains(says), "{text}: {told}");
        }
    }
}
