//! The rules among a tenant's limits as they are written: relabelling, lists of names, usage
//! groups, sampling and quotas.
//!
//! # Invariants
//! - What is read has been compiled once: an expression that is none is refused with its place.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use scoria_distributor::policy::{IngestLimit, SampledOut, SamplingRule, UsageGroup};
use scoria_model::labels::names;
use scoria_model::limits::RetentionRule;
use scoria_model::regexp;
use scoria_pprof::policy::DefaultRules;
use scoria_pprof::relabel::{Rule, RuleText};
use scoria_query::selector::Matchers;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::units::{Millis, Span};

/// Most rules of one kind.
const RULES_MAX: usize = 256;
/// Most rules of retention of a tenant; each adds a deletion a day.
const RETENTION_RULES_MAX: usize = 16;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Most usage groups of a tenant, each of which has its own metrics.
const GROUPS_MAX: usize = 50;
/// Stands for the profiles of no group.
const GROUP_RESERVED: &str = "other";

/// A rule with the fields of Prometheus's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleConfig {
    pub source_labels: Vec<String>,
    pub separator: String,
    pub regex: String,
    pub modulus: u64,
    pub target_label: String,
    pub replacement: String,
    pub action: String,
}

impl Default for RuleConfig {
    fn default() -> Self {
        let text = RuleText::default();
        Self {
            source_labels: Vec::new(),
            separator: text.separator.to_owned(),
            regex: text.regex.to_owned(),
            modulus: text.modulus,
            target_label: text.target_label.to_owned(),
            replacement: text.replacement.to_owned(),
            action: text.action.to_owned(),
        }
    }
}

/// Compiles rules.
///
/// # Errors
/// Names the rule by its place, from 1.
pub(super) fn compile(rules: &[RuleConfig]) -> Result<Vec<Rule>, String> {
    if rules.len() > RULES_MAX {
        return Err(format!("{} rules; the limit is {RULES_MAX}", rules.len()));
    }
    let compiled = rules.iter().enumerate().map(|(at, rule)| {
        let text = RuleText {
            source_labels: &rule.source_labels,
            separator: &rule.separator,
            regex: &rule.regex,
            modulus: rule.modulus,
            target_label: &rule.target_label,
            replacement: &rule.replacement,
            action: &rule.action,
        };
        Rule::new(&text).map_err(|error| format!("rule {}: {error}", at + 1))
    });
    compiled.collect()
}

/// Compiles rules that may only keep and drop.
pub(super) fn compile_selecting(rules: &[RuleConfig]) -> Result<Vec<Rule>, String> {
    let compiled = compile(rules)?;
    match compiled.iter().position(|rule| !rule.only_selects()) {
        Some(at) => Err(format!("rule {}: only keep and drop are allowed", at + 1)),
        None => Ok(compiled),
    }
}

pub(super) fn rules<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<RuleConfig>, D::Error> {
    let rules = Option::<Vec<RuleConfig>>::deserialize(d)?.unwrap_or_default();
    compile(&rules).map_err(D::Error::custom)?;
    Ok(rules)
}

pub(super) fn selecting_rules<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Vec<RuleConfig>, D::Error> {
    let rules = Option::<Vec<RuleConfig>>::deserialize(d)?.unwrap_or_default();
    compile_selecting(&rules).map_err(D::Error::custom)?;
    Ok(rules)
}

/// Some profiles that are kept for less time than the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionRuleConfig {
    pub selector: String,
    pub period: Span,
}

pub(super) fn retention_rules<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Vec<RetentionRuleConfig>, D::Error> {
    let rules = Option::<Vec<RetentionRuleConfig>>::deserialize(d)?.unwrap_or_default();
    check_retention(&rules, Millis(0)).map_err(D::Error::custom)?;
    Ok(rules)
}

/// # Errors
/// Names the rule that cannot be read, or that does nothing beside `retention`.
pub(super) fn check_retention(
    rules: &[RetentionRuleConfig],
    retention: Millis,
) -> Result<(), String> {
    if rules.len() > RETENTION_RULES_MAX {
        let n = rules.len();
        return Err(format!("{n} rules; the limit is {RETENTION_RULES_MAX}"));
    }
    for (at, rule) in rules.iter().enumerate() {
        let refuse = |why: String| Err(format!("rule {}: {why}", at + 1));
        let selector = &rule.selector;
        match Matchers::parse(selector) {
            Err(error) => return refuse(format!("the selector {selector:?}: {error}")),
            Ok(matchers) if matchers.is_empty() => {
                return refuse(
                    "a selector that takes everything is what retention_ms is for".into(),
                );
            }
            Ok(_) => {}
        }
        if rule.period.0 < DAY {
            let period = rule.period;
            return refuse(format!("the period {period} is shorter than 1d, the least"));
        }
        if retention.0 != 0 && rule.period.0 >= Duration::from_millis(retention.0) {
            let period = rule.period;
            return refuse(format!(
                "the period {period} is not shorter than retention_ms, {retention}: raise that, and \
                 shorten the rest by rules"
            ));
        }
    }
    Ok(())
}

/// The rules as the compactor takes them.
pub(super) fn rules_kept(rules: &[RetentionRuleConfig]) -> Arc<[RetentionRule]> {
    let kept = rules.iter().map(|rule| RetentionRule {
        selector: rule.selector.clone(),
        period_ms: u64::try_from(rule.period.0.as_millis()).unwrap_or(u64::MAX),
    });
    kept.collect()
}

/// Where the rules that repair what known clients send stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RulesPosition {
    #[default]
    First,
    Last,
    Disabled,
}

impl From<RulesPosition> for DefaultRules {
    fn from(position: RulesPosition) -> Self {
        match position {
            RulesPosition::First => Self::First,
            RulesPosition::Last => Self::Last,
            RulesPosition::Disabled => Self::Disabled,
        }
    }
}

/// Names, each an anchored regular expression: a list, or a text with commas between them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct NameList(pub Vec<String>);

impl NameList {
    pub(super) fn compile(&self) -> Result<Vec<regex::Regex>, String> {
        let compiled = self
            .0
            .iter()
            .map(|name| regexp::compile(name).map_err(|error| format!("{name}: {error}")));
        compiled.collect()
    }
}

impl FromStr for NameList {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = text.split(',').map(str::trim);
        let names = names.filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Self(names.collect()))
    }
}

impl<'de> Deserialize<'de> for NameList {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = NameList;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of names, or names with commas between them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<NameList, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<NameList, E> {
                Ok(NameList::default())
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut items: A,
            ) -> Result<NameList, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = items.next_element()? {
                    names.push(name);
                }
                Ok(NameList(names))
            }
        }
        let names = d.deserialize_any(Names)?;
        names.compile().map_err(D::Error::custom)?;
        Ok(names)
    }
}

/// Selectors by the name of their usage group.
pub(super) type UsageGroupTexts = BTreeMap<String, String>;

pub(super) fn usage_groups<'de, D: Deserializer<'de>>(d: D) -> Result<UsageGroupTexts, D::Error> {
    let texts = Option::<UsageGroupTexts>::deserialize(d)?.unwrap_or_default();
    compile_groups(&texts).map_err(D::Error::custom)?;
    Ok(texts)
}

/// # Errors
/// Names the group whose name or selector is refused.
pub(super) fn compile_groups(texts: &UsageGroupTexts) -> Result<Vec<UsageGroup>, String> {
    if texts.len() > GROUPS_MAX {
        let n = texts.len();
        return Err(format!("{n} usage groups; the limit is {GROUPS_MAX}"));
    }
    let groups = texts.iter().map(|(name, selector)| {
        let refuse = |why: String| format!("usage group {name:?}: {why}");
        if name.is_empty() || name == GROUP_RESERVED {
            return Err(refuse("the name is taken".to_owned()));
        }
        if name.contains("${") {
            let why = "a name made of label values is not available: it would make metrics without number";
            return Err(refuse(why.to_owned()));
        }
        let matchers = Matchers::parse(selector).map_err(|error| refuse(error.to_string()))?;
        Ok(UsageGroup::new(name, move |labels| {
            matchers.matches(|name| value_of(labels, name))
        }))
    });
    groups.collect()
}

fn value_of<'l>(labels: &[(&'l str, &'l str)], name: &str) -> Option<&'l str> {
    let found = labels.iter().find(|label| label.0 == name);
    match found.map(|(_, value)| *value) {
        None | Some("") if name == names::SERVICE_NAME => Some("unknown_service"),
        value => value,
    }
}

/// How much of each usage group is kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// By the name of the group.
    pub usage_groups: BTreeMap<String, GroupSamplingConfig>,
    /// Whether the totals of profiles that are sampled out are kept, without stacktraces.
    pub keep_stripped_profiles: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSamplingConfig {
    /// From 0, none, to 1, all.
    #[serde(deserialize_with = "probability")]
    pub probability: f64,
}

fn probability<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    let given = f64::deserialize(d)?;
    if (0.0..=1.0).contains(&given) {
        return Ok(given);
    }
    Err(D::Error::custom(format!(
        "the probability {given} is not between 0 and 1"
    )))
}

impl SamplingConfig {
    pub(super) fn sampled_out(&self) -> SampledOut {
        if self.keep_stripped_profiles {
            SampledOut::KeepTotals
        } else {
            SampledOut::Drop
        }
    }

    /// # Errors
    /// Names a group that does not exist.
    pub(super) fn compile(&self, groups: &UsageGroupTexts) -> Result<Vec<SamplingRule>, String> {
        let rules = self.usage_groups.iter().map(|(group, sampling)| {
            exists(groups, group)?;
            Ok(SamplingRule {
                group: Arc::from(group.as_str()),
                probability: sampling.probability,
            })
        });
        rules.collect()
    }
}

fn exists(groups: &UsageGroupTexts, name: &str) -> Result<(), String> {
    if groups.contains_key(name) {
        return Ok(());
    }
    Err(format!(
        "there is no usage group {name:?} in distributor_usage_groups"
    ))
}

/// A quota that something outside keeps account of and writes here when it is used up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestLimitConfig {
    pub period_type: String,
    pub period_limit_mb: u64,
    /// Seconds since the epoch.
    pub limit_reset_time: i64,
    pub limit_reached: bool,
    pub sampling: TrickleConfig,
    pub usage_groups: BTreeMap<String, GroupLimitConfig>,
}

/// Profiles that are let through nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrickleConfig {
    pub num_requests: u64,
    pub period: Span,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupLimitConfig {
    pub period_limit_mb: u64,
    pub limit_reached: bool,
}

impl IngestLimitConfig {
    /// # Errors
    /// Names a group that does not exist.
    pub(super) fn compile(&self, groups: &UsageGroupTexts) -> Result<IngestLimit, String> {
        let mut groups_reached = Vec::new();
        for (name, limit) in &self.usage_groups {
            exists(groups, name)?;
            if limit.limit_reached {
                groups_reached.push((Arc::from(name.as_str()), limit.period_limit_mb));
            }
        }
        let TrickleConfig {
            num_requests,
            period: Span(period),
        } = self.sampling;
        Ok(IngestLimit {
            reached: self.limit_reached,
            limit_mib: self.period_limit_mb,
            period: self.period_type.clone(),
            resets_at: self.limit_reset_time,
            groups_reached,
            trickle: (num_requests > 0 && period > Duration::ZERO)
                .then_some((num_requests, period)),
        })
    }
}
