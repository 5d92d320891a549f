//! A tenant's settings: names with values that only the client understands.
//!
//! # Invariants
//! - Names are unique and sorted.
//! - A change that is older than what is stored is refused.

use std::collections::BTreeMap;

use scoria_model::{TenantId, Timestamp};
use scoria_storage::{Change, DocumentKind, Documents};
use serde::{Deserialize, Serialize};

use crate::error::CabinetError;

/// Most settings of one tenant.
pub const SETTINGS_MAX: usize = 100;
/// Longest name.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest value.
pub const VALUE_BYTES_MAX: usize = 128 << 10;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: String,
    /// Unix milliseconds.
    pub modified_at_ms: i64,
}

/// What is stored under a name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    value: String,
    modified_at_ms: i64,
}

type All = BTreeMap<String, Stored>;

/// The settings of every tenant.
#[derive(Debug, Clone)]
pub struct Settings(Documents);

impl Settings {
    pub fn new(documents: Documents) -> Self {
        Self(documents)
    }

    /// All settings of a tenant, sorted by name.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn get(&self, tenant: &TenantId) -> Result<Vec<Setting>, CabinetError> {
        let body = self.0.read(tenant, DocumentKind::Settings).await?;
        let all = parse(body.as_deref())?.into_iter();
        Ok(all
            .map(|(name, stored)| Setting {
                name,
                value: stored.value,
                modified_at_ms: stored.modified_at_ms,
            })
            .collect())
    }

    /// Stores one; a time that is not positive is taken as now. What was stored.
    ///
    /// # Errors
    /// It has no name, is too large, one too many, or older than the one that is there.
    pub async fn set(
        &self,
        tenant: &TenantId,
        mut setting: Setting,
        now: Timestamp,
    ) -> Result<Setting, CabinetError> {
        check(&setting)?;
        if setting.modified_at_ms <= 0 {
            setting.modified_at_ms = now.millis();
        }
        let change = |body: Option<&[u8]>| {
            let mut all = parse(body)?;
            if let Some(stored) = all.get(&setting.name) {
                refuse_older(&setting.name, stored, setting.modified_at_ms)?;
            } else if all.len() >= SETTINGS_MAX {
                return Err(CabinetError::limit(format!(
                    "the tenant has {SETTINGS_MAX} settings already, which is the limit; delete one before setting {:?}",
                    setting.name
                )));
            }
            let stored = Stored {
                value: setting.value.clone(),
                modified_at_ms: setting.modified_at_ms,
            };
            all.insert(setting.name.clone(), stored);
            Ok(Change::Write(text(&all)?, ()))
        };
        self.0
            .update(tenant, DocumentKind::Settings, change)
            .await?;
        Ok(setting)
    }

    /// Removes one; a name that is not there is no error.
    ///
    /// # Errors
    /// No name, or the one that is there is from after `now`.
    pub async fn delete(
        &self,
        tenant: &TenantId,
        name: &str,
        now: Timestamp,
    ) -> Result<(), CabinetError> {
        if name.is_empty() {
            return Err(CabinetError::invalid("no name of a setting is given"));
        }
        let change = |body: Option<&[u8]>| {
            let mut all = parse(body)?;
            let Some(stored) = all.remove(name) else {
                return Ok(Change::Keep(()));
            };
            refuse_older(name, &stored, now.millis())?;
            Ok(Change::Write(text(&all)?, ()))
        };
        self.0.update(tenant, DocumentKind::Settings, change).await
    }
}

fn check(setting: &Setting) -> Result<(), CabinetError> {
    if setting.name.is_empty() {
        return Err(CabinetError::invalid("the setting has no name"));
    }
    for (what, actual, limit) in [
        ("name", setting.name.len(), NAME_BYTES_MAX),
        ("value", setting.value.len(), VALUE_BYTES_MAX),
    ] {
        if actual > limit {
            return Err(CabinetError::invalid(format!(
                "the setting's {what} is {actual} bytes long; the limit is {limit}"
            )));
        }
    }
    Ok(())
}

fn refuse_older(name: &str, stored: &Stored, modified_at_ms: i64) -> Result<(), CabinetError> {
    if stored.modified_at_ms > modified_at_ms {
        return Err(CabinetError::outdated(format!(
            "the setting {name:?} was changed at {} ms, which is after this change of {modified_at_ms} ms; read it again",
            stored.modified_at_ms
        )));
    }
    Ok(())
}

fn parse(body: Option<&[u8]>) -> Result<All, CabinetError> {
    body.map_or_else(
        || Ok(All::new()),
        |body| {
            serde_json::from_slice(body)
                .map_err(|error| CabinetError::unreadable("settings", &error))
        },
    )
}

fn text(all: &All) -> Result<Vec<u8>, CabinetError> {
    serde_json::to_vec(all).map_err(|error| CabinetError::unreadable("settings", &error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use scoria_storage::Metrics;

    use super::*;
    use crate::error::CabinetErrorKind;

    const NOW: Timestamp = Timestamp(5_000_000_000);

    fn settings() -> Settings {
        let store = Arc::new(InMemory::new());
        Settings::new(Documents::new(store, Metrics::unregistered()))
    }

    fn setting(name: &str, value: &str, modified_at_ms: i64) -> Setting {
        Setting {
            name: name.to_owned(),
            value: value.to_owned(),
            modified_at_ms,
        }
    }

    #[tokio::test]
    async fn what_is_newer_stays() {
        let settings = settings();
        let tenant = TenantId::anonymous();
        assert!(settings.get(&tenant).await.unwrap().is_empty());
        let set = async |name: &str, value: &str, at| {
            settings.set(&tenant, setting(name, value, at), NOW).await
        };
        assert_eq!(set("b", "1", 0).await.unwrap().modified_at_ms, 5000);
        assert_eq!(set("a", "1", 7000).await.unwrap().modified_at_ms, 7000);
        let older = set("a", "2", 6999).await.unwrap_err();
        assert_eq!(older.kind, CabinetErrorKind::Outdated);
        set("a", "3", 7000).await.unwrap();
        let all = settings.get(&tenant).await.unwrap();
        assert_eq!(all, [setting("a", "3", 7000), setting("b", "1", 5000)]);

        let newer = settings.delete(&tenant, "a", NOW).await.unwrap_err();
        assert_eq!(newer.kind, CabinetErrorKind::Outdated);
        settings.delete(&tenant, "b", NOW).await.unwrap();
        settings.delete(&tenant, "b", NOW).await.unwrap();
        assert_eq!(settings.get(&tenant).await.unwrap().len(), 1);
        let other = TenantId::parse("other").unwrap();
        assert!(settings.get(&other).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn names_values_and_their_number_are_bounded() {
        let settings = settings();
        let tenant = TenantId::anonymous();
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        for bad in [
            setting("", "x", 1),
            setting(&long[..NAME_BYTES_MAX + 1], "x", 1),
            setting("a", &long, 1),
        ] {
            let error = settings.set(&tenant, bad, NOW).await.unwrap_err();
            assert_eq!(error.kind, CabinetErrorKind::Invalid, "{error}");
        }
        let error = settings.delete(&tenant, "", NOW).await.unwrap_err();
        assert_eq!(error.kind, CabinetErrorKind::Invalid);
        for n in 0..SETTINGS_MAX {
            let one = setting(&n.to_string(), "x", 1);
            settings.set(&tenant, one, NOW).await.unwrap();
        }
        settings
            .set(&tenant, setting("0", "y", 1), NOW)
            .await
            .unwrap();
        let more = settings.set(&tenant, setting("more", "y", 1), NOW).await;
        assert_eq!(more.unwrap_err().kind, CabinetErrorKind::LimitExceeded);
    }
}
