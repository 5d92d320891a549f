//! A tenant's recording rules: which profiles are to be made metrics of, and under what names.
//! They are kept and checked here; nothing is evaluated here.
//!
//! # Invariants
//! - A stored rule names exactly one profile type, and a metric that no other kind of metric is
//!   named like.
//! - A rule is replaced only by somebody who has seen its newest generation.

use std::collections::BTreeSet;

use scoria_model::labels::names;
use scoria_model::{ProfileType, TenantId};
use scoria_query::selector::{Condition, Matchers, is_plain_name};
use scoria_storage::{Change, DocumentKind, Documents};
use serde::{Deserialize, Serialize};

use crate::error::CabinetError;

/// Most rules of one tenant.
pub const RULES_MAX: usize = 25;
/// What every metric's name starts with.
pub const METRIC_PREFIX: &str = "profiles_recorded_";
/// Most matchers, labels to group by, and external labels of one rule, each.
const LIST_MAX: usize = 30;
/// Longest text inside a rule.
const TEXT_BYTES_MAX: usize = 2048;
/// Letters of an id that is made here.
const ID_LETTERS: usize = 10;

/// What a client asks to be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleDraft {
    /// Letters only; empty for a new rule.
    pub id: String,
    pub metric_name: String,
    /// Selectors; all of them must hold.
    pub matchers: Vec<String>,
    pub group_by: Vec<String>,
    /// Names and values that the metric gets beside.
    pub external_labels: Vec<(String, String)>,
    /// That of the rule to be replaced.
    pub generation: i64,
    /// Only stacktraces that hold this function count.
    pub function_name: Option<String>,
}

/// A rule as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingRule {
    pub id: String,
    pub metric_name: String,
    pub profile_type: String,
    pub matchers: Vec<String>,
    pub group_by: Vec<String>,
    pub external_labels: Vec<(String, String)>,
    /// 1 when it is new; one more with each change.
    pub generation: i64,
    pub function_name: Option<String>,
}

/// The recording rules of every tenant.
#[derive(Debug, Clone)]
pub struct RecordingRules(Documents);

impl RecordingRules {
    pub fn new(documents: Documents) -> Self {
        Self(documents)
    }

    /// All rules of a tenant, oldest first.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn list(&self, tenant: &TenantId) -> Result<Vec<RecordingRule>, CabinetError> {
        let body = self.0.read(tenant, DocumentKind::RecordingRules).await?;
        parse(body.as_deref())
    }

    /// # Errors
    /// There is none with this id.
    pub async fn get(&self, tenant: &TenantId, id: &str) -> Result<RecordingRule, CabinetError> {
        check_id(id)?;
        let rules = self.list(tenant).await?;
        let found = rules.into_iter().find(|rule| rule.id == id);
        found.ok_or_else(|| missing(id))
    }

    /// Stores a rule: a new one, or in place of the one with its id. What was stored.
    ///
    /// # Errors
    /// The rule breaks a rule, there are too many, or its generation is not the newest.
    pub async fn upsert(
        &self,
        tenant: &TenantId,
        draft: RuleDraft,
    ) -> Result<RecordingRule, CabinetError> {
        let mut rule = check(draft)?;
        let asked = rule.generation;
        if rule.id.is_empty() {
            rule.id = new_id();
        }
        let change = |body: Option<&[u8]>| {
            let mut rules = parse(body)?;
            let mut rule = rule.clone();
            let full = rules.len() >= RULES_MAX;
            match rules.iter_mut().find(|stored| stored.id == rule.id) {
                Some(stored) if stored.generation != asked => {
                    return Err(CabinetError::outdated(format!(
                        "the recording rule {} is of generation {}, and this change is made of generation {asked}; read it again",
                        stored.id, stored.generation
                    )));
                }
                Some(stored) => {
                    rule.generation = stored.generation.saturating_add(1);
                    *stored = rule.clone();
                }
                None if full => {
                    return Err(CabinetError::limit(format!(
                        "the tenant has {RULES_MAX} recording rules already, which is the limit; delete one first"
                    )));
                }
                None => {
                    rule.generation = 1;
                    rules.push(rule.clone());
                }
            }
            Ok(Change::Write(text(&rules)?, rule))
        };
        self.0
            .update(tenant, DocumentKind::RecordingRules, change)
            .await
    }

    /// # Errors
    /// There is none with this id.
    pub async fn delete(&self, tenant: &TenantId, id: &str) -> Result<(), CabinetError> {
        check_id(id)?;
        let change = |body: Option<&[u8]>| {
            let mut rules = parse(body)?;
            let before = rules.len();
            rules.retain(|rule| rule.id != id);
            if rules.len() == before {
                return Err(missing(id));
            }
            Ok(Change::Write(text(&rules)?, ()))
        };
        self.0
            .update(tenant, DocumentKind::RecordingRules, change)
            .await
    }
}

fn missing(id: &str) -> CabinetError {
    CabinetError::not_found(format!("there is no recording rule {id}"))
}

/// A random word.
fn new_id() -> String {
    let mut rest = uuid::Uuid::new_v4().as_u128();
    (0..ID_LETTERS)
        .map(|_| {
            let letter = b'a' + (rest % 26) as u8;
            rest /= 26;
            char::from(letter)
        })
        .collect()
}

fn check_id(id: &str) -> Result<(), CabinetError> {
    let letters = id.bytes().all(|b| b.is_ascii_alphabetic());
    if id.is_empty() || id.len() > TEXT_BYTES_MAX || !letters {
        return Err(CabinetError::invalid(format!(
            "{:?} is no id of a recording rule: ids are letters only",
            id.get(..64).unwrap_or(id)
        )));
    }
    Ok(())
}

/// Checks what a client sends; the rule with its profile type read out of the matchers.
fn check(draft: RuleDraft) -> Result<RecordingRule, CabinetError> {
    if !draft.id.is_empty() {
        check_id(&draft.id)?;
    }
    check_sizes(&draft)?;
    check_metric_name(&draft.metric_name)?;
    let profile_type = profile_type(&draft.matchers)?;
    for name in &draft.group_by {
        if name.is_empty() {
            return Err(CabinetError::invalid("group_by has an empty label name"));
        }
    }
    let mut seen = BTreeSet::new();
    for (name, _) in &draft.external_labels {
        if !is_plain_name(name) || name.starts_with("__") {
            return Err(CabinetError::invalid(format!(
                "{name:?} cannot name an external label: names are letters, digits and _, and those that start with __ are taken"
            )));
        }
        if !seen.insert(name.as_str()) {
            return Err(CabinetError::invalid(format!(
                "the external label {name:?} is given twice"
            )));
        }
    }
    if draft.function_name.as_deref() == Some("") {
        return Err(CabinetError::invalid(
            "the stacktrace filter names an empty function",
        ));
    }
    Ok(RecordingRule {
        id: draft.id,
        metric_name: draft.metric_name,
        profile_type,
        matchers: draft.matchers,
        group_by: draft.group_by,
        external_labels: draft.external_labels,
        generation: draft.generation,
        function_name: draft.function_name,
    })
}

fn check_sizes(draft: &RuleDraft) -> Result<(), CabinetError> {
    for (what, actual) in [
        ("matchers", draft.matchers.len()),
        ("group_by", draft.group_by.len()),
        ("external_labels", draft.external_labels.len()),
    ] {
        if actual > LIST_MAX {
            return Err(CabinetError::invalid(format!(
                "the rule has {actual} {what}; the limit is {LIST_MAX}"
            )));
        }
    }
    let labels = draft.external_labels.iter().flat_map(|(n, v)| [n, v]);
    let mut texts = draft.matchers.iter().chain(&draft.group_by).chain(labels);
    let single = [Some(&draft.metric_name), draft.function_name.as_ref()];
    let longest = texts.by_ref().chain(single.into_iter().flatten());
    match longest.map(String::len).max() {
        Some(actual) if actual > TEXT_BYTES_MAX => Err(CabinetError::invalid(format!(
            "the rule holds a text of {actual} bytes; the limit is {TEXT_BYTES_MAX}"
        ))),
        _ => Ok(()),
    }
}

fn check_metric_name(name: &str) -> Result<(), CabinetError> {
    let legal = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':');
    if !legal || name.len() <= METRIC_PREFIX.len() || !name.starts_with(METRIC_PREFIX) {
        return Err(CabinetError::invalid(format!(
            "metric_name {name:?} must start with {METRIC_PREFIX} and go on with letters, digits, _ or :"
        )));
    }
    Ok(())
}

/// The profile type that the matchers name.
fn profile_type(matchers: &[String]) -> Result<String, CabinetError> {
    let parsed = Matchers::parse_all(matchers)
        .map_err(|error| CabinetError::invalid(format!("matchers: {error}")))?;
    let mut about = parsed
        .iter()
        .filter(|matcher| &*matcher.name == names::PROFILE_TYPE);
    let (Some(matcher), None) = (about.next(), about.next()) else {
        return Err(CabinetError::invalid(
            "the matchers must name exactly one profile type, as __profile_type__=\"…\"",
        ));
    };
    let Condition::Equal(value) = &matcher.condition else {
        return Err(CabinetError::invalid(
            "the matcher of __profile_type__ must be an equality",
        ));
    };
    let kind: ProfileType =
        value
            .parse()
            .map_err(|error: scoria_model::profile_type::ProfileTypeError| {
                CabinetError::invalid(error.to_string())
            })?;
    Ok(kind.to_string())
}

fn parse(body: Option<&[u8]>) -> Result<Vec<RecordingRule>, CabinetError> {
    body.map_or_else(
        || Ok(Vec::new()),
        |body| {
            serde_json::from_slice(body)
                .map_err(|error| CabinetError::unreadable("recording rules", &error))
        },
    )
}

fn text(rules: &[RecordingRule]) -> Result<Vec<u8>, CabinetError> {
    serde_json::to_vec(rules).map_err(|error| CabinetError::unreadable("recording rules", &error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use scoria_storage::Metrics;

    use super::*;
    use crate::error::CabinetErrorKind;

    fn rules() -> RecordingRules {
        let store = Arc::new(InMemory::new());
        RecordingRules::new(Documents::new(store, Metrics::unregistered()))
    }

    fn draft() -> RuleDraft {
        RuleDraft {
            metric_name: "profiles_recorded_cpu".into(),
            matchers: vec![
                r#"{__profile_type__="process_cpu:cpu:nanoseconds:cpu:nanoseconds"}"#.into(),
                r#"{service_name="shop",}"#.into(),
            ],
            group_by: vec!["pod".into()],
            external_labels: vec![("team".into(), "a".into())],
            ..RuleDraft::default()
        }
    }

    #[tokio::test]
    async fn a_rule_is_made_replaced_and_deleted() {
        let rules = rules();
        let tenant = TenantId::anonymous();
        assert!(rules.list(&tenant).await.unwrap().is_empty());
        let made = rules.upsert(&tenant, draft()).await.unwrap();
        assert_eq!(made.generation, 1);
        assert_eq!(made.id.len(), ID_LETTERS);
        assert_eq!(
            made.profile_type,
            "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
        );
        let again = |generation| RuleDraft {
            id: made.id.clone(),
            generation,
            function_name: Some("main.work".into()),
            ..draft()
        };
        let stale = rules.upsert(&tenant, again(0)).await.unwrap_err();
        assert_eq!(stale.kind, CabinetErrorKind::Outdated);
        let replaced = rules.upsert(&tenant, again(1)).await.unwrap();
        assert_eq!(replaced.generation, 2);
        assert_eq!(rules.get(&tenant, &made.id).await.unwrap(), replaced);
        let other = TenantId::parse("other").unwrap();
        let hidden = rules.get(&other, &made.id).await.unwrap_err();
        assert_eq!(hidden.kind, CabinetErrorKind::NotFound);
        rules.delete(&tenant, &made.id).await.unwrap();
        let gone = rules.delete(&tenant, &made.id).await.unwrap_err();
        assert_eq!(gone.kind, CabinetErrorKind::NotFound);
    }

    #[tokio::test]
    async fn only_so_many() {
        let rules = rules();
        let tenant = TenantId::anonymous();
        for _ in 0..RULES_MAX {
            rules.upsert(&tenant, draft()).await.unwrap();
        }
        let more = rules.upsert(&tenant, draft()).await.unwrap_err();
        assert_eq!(more.kind, CabinetErrorKind::LimitExceeded);
        let first = rules.list(&tenant).await.unwrap().swap_remove(0);
        let change = RuleDraft {
            id: first.id,
            generation: first.generation,
            ..draft()
        };
        rules.upsert(&tenant, change).await.unwrap();
    }

    #[test]
    fn what_is_refused() {
        let with = |change: fn(&mut RuleDraft)| {
            let mut draft = draft();
            change(&mut draft);
            draft
        };
        let bad = [
            with(|d| d.id = "a1".into()),
            with(|d| d.id = "../x".into()),
            with(|d| d.metric_name = "cpu".into()),
            with(|d| d.metric_name = METRIC_PREFIX.into()),
            with(|d| d.metric_name = "profiles_recorded_a-b".into()),
            with(|d| d.matchers.clear()),
            with(|d| d.matchers.push("{".into())),
            with(|d| d.matchers.push(d.matchers[0].clone())),
            with(|d| d.matchers[0] = r#"{__profile_type__="cpu"}"#.into()),
            with(|d| d.matchers[0] = r#"{__profile_type__=~".*"}"#.into()),
            with(|d| d.matchers = vec!["{}".into(); LIST_MAX + 1]),
            with(|d| d.group_by.push(String::new())),
            with(|d| d.group_by.push("x".repeat(TEXT_BYTES_MAX + 1))),
            with(|d| d.external_labels.push(("__x".into(), "a".into()))),
            with(|d| d.external_labels.push(("a.b".into(), "a".into()))),
            with(|d| d.external_labels.push(("team".into(), "b".into()))),
            with(|d| d.function_name = Some(String::new())),
        ];
        for draft in bad {
            let error = check(draft.clone()).unwrap_err();
            assert_eq!(error.kind, CabinetErrorKind::Invalid, "{draft:?}: {error}");
        }
        check(draft()).unwrap();
    }
}
