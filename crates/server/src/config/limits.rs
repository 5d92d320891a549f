//! Section `limits`: what a tenant may send and ask. 0 switches a limit off unless its line says
//! otherwise. The keys are the names by which errors call the limits.

use std::time::Duration;

use scoria_distributor::TenantPolicy;
use scoria_model::Limits;
use scoria_pprof::Policy;
use scoria_pprof::policy::{Keep, LabelNames, Promotion, WithoutDelta};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::distance::nearest;
use super::limit_names;
use super::policies::{
    self, IngestLimitConfig, NameList, RetentionRuleConfig, RuleConfig, RulesPosition,
    SamplingConfig, UsageGroupTexts,
};
use super::units::{ByteSize, Millis};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsConfig {
    /// Decompressed profile bytes per second.
    pub ingestion_rate_bytes: ByteSize,
    /// Burst above the rate; never less than the largest allowed profile.
    pub ingestion_burst_bytes: ByteSize,
    /// Largest request body, before and after decompression, and largest sum of the decompressed
    /// profiles of one request.
    pub ingestion_body_limit_bytes: ByteSize,
    /// Largest decompressed profile.
    pub max_profile_size_bytes: ByteSize,
    /// Largest decompressed JFR recording; it holds many profiles.
    pub max_jfr_size_bytes: ByteSize,
    /// Most samples in one profile.
    pub max_profile_stacktrace_samples: u64,
    /// Most labels on one sample.
    pub max_profile_stacktrace_sample_labels: u64,
    /// Deepest stacktrace; leaf-side frames beyond it are cut, the root side is kept.
    pub max_profile_stacktrace_depth: u64,
    /// Longest symbol of a profile; longer ones keep their tail.
    pub max_profile_symbol_value_length: u64,
    /// Longest label name, in bytes.
    pub max_label_name_length: u64,
    /// Longest label value, in bytes.
    pub max_label_value_length: u64,
    /// Most labels of one series, promoted sample labels included.
    pub max_label_names_per_series: u64,
    /// Most sample labels that become labels of one series; more are left out of the profile,
    /// whose samples stay, and counted as label_demoted.
    pub max_promoted_labels_per_series: u64,
    /// Most series that the sample labels of one profile make of it; if there would be more, the
    /// labels with the most values are left out.
    pub max_promoted_series_per_profile: u64,
    /// Sample labels that may become labels of a series: regular expressions that match the whole
    /// name. Empty takes all.
    pub promoted_labels_allow: NameList,
    /// Sample labels that never become labels of a series; they are left out of the profile.
    pub promoted_labels_deny: NameList,
    /// Off, label names may hold letters, digits, `_` and `.`, of which dots become `_`, and others
    /// are refused. On, any name is taken as it is.
    pub disable_label_sanitization: bool,
    /// Rules that rewrite or drop each series, with the fields and the meaning of Prometheus's.
    #[serde(deserialize_with = "policies::rules")]
    pub ingestion_relabeling_rules: Vec<RuleConfig>,
    /// Whether the rules that repair what known clients send run `first`, `last` or are `disabled`.
    pub ingestion_relabeling_default_rules_position: RulesPosition,
    /// Rules that keep or drop sample types by `__type__`, `__unit__` and the labels of the upload.
    #[serde(deserialize_with = "policies::selecting_rules")]
    pub sample_type_relabeling_rules: Vec<RuleConfig>,
    /// Selectors by the name of a usage group; its profiles have metrics, sampling and quotas of
    /// their own. At most 50.
    #[serde(deserialize_with = "policies::usage_groups")]
    pub distributor_usage_groups: UsageGroupTexts,
    /// Which part of each usage group is kept: `usage_groups: {name: {probability: 0.1}}`; with
    /// `keep_stripped_profiles` the totals of the rest stay, in series marked `__sampled__`.
    pub distributor_sampling: SamplingConfig,
    /// A quota that something outside keeps account of: `limit_reached` refuses what comes in until
    /// `limit_reset_time`, for the tenant or some of its `usage_groups`.
    pub ingestion_limit: Option<IngestLimitConfig>,
    /// For how long each answer to a write is held back.
    pub ingestion_artificial_delay: Millis,
    /// Whether profiles pushed without `__delta__` hold what happened in their interval. Off, their
    /// allocations, contentions and delays are taken to count from the start of the process, and
    /// queries answer with the mean of such profiles.
    pub trust_missing_delta: bool,
    /// How far in the past a profile may start.
    pub reject_older_than_ms: Millis,
    /// How far in the future a profile may start.
    pub reject_newer_than_ms: Millis,
    /// Most ids that the label `__session_id__` is reduced to; 0 drops the label.
    pub max_sessions_per_series: u64,
    /// Whether a resend without a client's id is recognised by its content.
    pub deduplicate_by_content: bool,
    /// How long profiles are kept, by their own time; 0 keeps them for ever.
    pub retention_ms: Millis,
    /// Profiles that are kept for less time than that, in whole days by UTC:
    /// `[{selector: '{__profile_type__="..."}', period: 7d}]`.
    #[serde(deserialize_with = "policies::retention_rules")]
    pub retention_rules: Vec<RetentionRuleConfig>,
    /// How far back a query may reach; older ranges answer empty.
    pub max_query_lookback_ms: Millis,
    /// Longest range of one query.
    pub max_query_length_ms: Millis,
    /// Nodes of a flame graph when a query names none. Never 0.
    pub max_flamegraph_nodes_default: u64,
    /// Most nodes that a query may ask for.
    pub max_flamegraph_nodes_max: u64,
    /// Whether the two limits above hold for pprof answers too.
    pub max_flamegraph_nodes_on_select_merge_profile: bool,
    /// Whether time series count profiles that were sampled out and of which only the totals were
    /// kept; their points carry a note that says so. Flame graphs never do.
    pub include_stripped_profiles: bool,
    /// Stored bytes that one query may read, as its plan says.
    pub max_query_bytes: ByteSize,
    /// Memory that the tenant's queries may hold together.
    pub max_query_memory_bytes: ByteSize,
    /// The tenant's share of query slots and memory in relation to others' while queries wait; 0
    /// counts as 1.
    pub query_weight: u64,
    /// Queries that may run in the background at a time.
    pub max_async_query_concurrency: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let l = Limits::default();
        Self {
            ingestion_rate_bytes: ByteSize(l.ingestion_rate_bytes),
            ingestion_burst_bytes: ByteSize(l.ingestion_burst_bytes),
            ingestion_body_limit_bytes: ByteSize(l.ingestion_body_limit_bytes),
            max_profile_size_bytes: ByteSize(l.max_profile_size_bytes),
            max_jfr_size_bytes: ByteSize(l.max_jfr_size_bytes),
            max_profile_stacktrace_samples: l.max_profile_stacktrace_samples,
            max_profile_stacktrace_sample_labels: l.max_profile_stacktrace_sample_labels,
            max_profile_stacktrace_depth: l.max_profile_stacktrace_depth,
            max_profile_symbol_value_length: l.max_profile_symbol_value_length,
            max_label_name_length: l.max_label_name_length,
            max_label_value_length: l.max_label_value_length,
            max_label_names_per_series: l.max_label_names_per_series,
            max_promoted_labels_per_series: l.max_promoted_labels_per_series,
            max_promoted_series_per_profile: l.max_promoted_series_per_profile,
            promoted_labels_allow: NameList::default(),
            promoted_labels_deny: NameList::default(),
            disable_label_sanitization: true,
            ingestion_relabeling_rules: Vec::new(),
            ingestion_relabeling_default_rules_position: RulesPosition::First,
            sample_type_relabeling_rules: Vec::new(),
            distributor_usage_groups: UsageGroupTexts::new(),
            distributor_sampling: SamplingConfig::default(),
            ingestion_limit: None,
            ingestion_artificial_delay: Millis(0),
            trust_missing_delta: false,
            reject_older_than_ms: Millis(l.reject_older_than_ms),
            reject_newer_than_ms: Millis(l.reject_newer_than_ms),
            max_sessions_per_series: l.max_sessions_per_series,
            deduplicate_by_content: l.deduplicate_by_content,
            retention_ms: Millis(l.retention_ms),
            retention_rules: Vec::new(),
            max_query_lookback_ms: Millis(l.max_query_lookback_ms),
            max_query_length_ms: Millis(l.max_query_length_ms),
            max_flamegraph_nodes_default: l.max_flamegraph_nodes_default,
            max_flamegraph_nodes_max: l.max_flamegraph_nodes_max,
            max_flamegraph_nodes_on_select_merge_profile: l
                .max_flamegraph_nodes_on_select_merge_profile,
            include_stripped_profiles: l.include_stripped_profiles,
            max_query_bytes: ByteSize(l.max_query_bytes),
            max_query_memory_bytes: ByteSize(l.max_query_memory_bytes),
            query_weight: l.query_weight,
            max_async_query_concurrency: l.max_async_query_concurrency,
        }
    }
}

/// A limit that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct LimitError {
    /// As it was given.
    pub name: String,
    pub reason: String,
}

impl LimitsConfig {
    /// These limits with some of them replaced, under any name that is known for them.
    ///
    /// # Errors
    /// Names the limit that does not exist, cannot be read, or is given twice under two names.
    pub fn with(&self, given: &Map<String, Value>) -> Result<Self, LimitError> {
        let mut keys = self.keys();
        let mut named: Map<String, Value> = Map::new();
        for (name, value) in given {
            let refuse = |reason: String| LimitError {
                name: name.clone(),
                reason,
            };
            let resolved = limit_names::resolve(name, value.clone()).map_err(refuse)?;
            let Some((key, value)) = resolved else {
                continue;
            };
            if !keys.contains_key(&key) {
                let hint = nearest(&key, keys.keys().map(String::as_str))
                    .map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
                return Err(refuse(format!("there is no such limit{hint}")));
            }
            if let Some(other) = named.insert(key.clone(), Value::String(name.clone())) {
                return Err(refuse(format!("is the same limit as {other}")));
            }
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            serde_json::from_value::<Self>(Value::Object(alone))
                .map_err(|error| refuse(error.to_string()))?;
            keys.insert(key, value);
        }
        serde_json::from_value(Value::Object(keys)).map_err(|error| LimitError {
            name: "limits".to_owned(),
            reason: error.to_string(),
        })
    }

    /// Every limit by its key, as it is written in a file.
    pub fn keys(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(keys)) => keys,
            _ => Map::new(),
        }
    }

    /// All that is done with a tenant's profiles, as the distributor takes it.
    ///
    /// # Errors
    /// Names the limit that cannot be compiled, or that speaks of a usage group that is not there.
    pub fn to_policy(&self) -> Result<TenantPolicy, LimitError> {
        let of = |name: &'static str| {
            move |reason: String| LimitError {
                name: name.to_owned(),
                reason,
            }
        };
        policies::check_retention(&self.retention_rules, self.retention_ms)
            .map_err(of("retention_rules"))?;
        let groups = &self.distributor_usage_groups;
        let profiles = Policy {
            relabelling: policies::compile(&self.ingestion_relabeling_rules)
                .map_err(of("ingestion_relabeling_rules"))?,
            default_rules: self.ingestion_relabeling_default_rules_position.into(),
            sample_types: policies::compile_selecting(&self.sample_type_relabeling_rules)
                .map_err(of("sample_type_relabeling_rules"))?,
            promotion: Promotion {
                allow: self
                    .promoted_labels_allow
                    .compile()
                    .map_err(of("promoted_labels_allow"))?,
                deny: self
                    .promoted_labels_deny
                    .compile()
                    .map_err(of("promoted_labels_deny"))?,
            },
            label_names: if self.disable_label_sanitization {
                LabelNames::Any
            } else {
                LabelNames::Plain
            },
            keep: Keep::Whole,
            without_delta: if self.trust_missing_delta {
                WithoutDelta::OfInterval
            } else {
                WithoutDelta::Cumulative
            },
        };
        let ingest_limit = self.ingestion_limit.as_ref();
        let mut policy = TenantPolicy::new(self.to_limits(), profiles);
        policy.usage_groups =
            policies::compile_groups(groups).map_err(of("distributor_usage_groups"))?;
        policy.sampling = self
            .distributor_sampling
            .compile(groups)
            .map_err(of("distributor_sampling"))?;
        policy.sampled_out = self.distributor_sampling.sampled_out();
        policy.ingest_limit = ingest_limit
            .map(|limit| limit.compile(groups))
            .transpose()
            .map_err(of("ingestion_limit"))?;
        policy.artificial_delay = Duration::from_millis(self.ingestion_artificial_delay.0);
        Ok(policy)
    }

    /// The numbers alone.
    pub fn to_limits(&self) -> Limits {
        Limits {
            ingestion_rate_bytes: self.ingestion_rate_bytes.0,
            // A burst below the largest profile would refuse that profile for ever.
            ingestion_burst_bytes: self
                .ingestion_burst_bytes
                .max(self.max_profile_size_bytes)
                .0,
            ingestion_body_limit_bytes: self.ingestion_body_limit_bytes.0,
            max_profile_size_bytes: self.max_profile_size_bytes.0,
            max_jfr_size_bytes: self.max_jfr_size_bytes.0,
            max_profile_stacktrace_samples: self.max_profile_stacktrace_samples,
            max_profile_stacktrace_sample_labels: self.max_profile_stacktrace_sample_labels,
            max_profile_stacktrace_depth: self.max_profile_stacktrace_depth,
            max_profile_symbol_value_length: self.max_profile_symbol_value_length,
            max_label_name_length: self.max_label_name_length,
            max_label_value_length: self.max_label_value_length,
            max_label_names_per_series: self.max_label_names_per_series,
            max_promoted_labels_per_series: self.max_promoted_labels_per_series,
            max_promoted_series_per_profile: self.max_promoted_series_per_profile,
            reject_older_than_ms: self.reject_older_than_ms.0,
            reject_newer_than_ms: self.reject_newer_than_ms.0,
            max_sessions_per_series: self.max_sessions_per_series,
            deduplicate_by_content: self.deduplicate_by_content,
            retention_ms: self.retention_ms.0,
            retention_rules: policies::rules_kept(&self.retention_rules),
            max_query_lookback_ms: self.max_query_lookback_ms.0,
            max_query_length_ms: self.max_query_length_ms.0,
            max_flamegraph_nodes_default: self.max_flamegraph_nodes_default.max(1),
            max_flamegraph_nodes_max: self.max_flamegraph_nodes_max,
            max_flamegraph_nodes_on_select_merge_profile: self
                .max_flamegraph_nodes_on_select_merge_profile,
            include_stripped_profiles: self.include_stripped_profiles,
            max_query_bytes: self.max_query_bytes.0,
            max_query_memory_bytes: self.max_query_memory_bytes.0,
            query_weight: self.query_weight,
            max_async_query_concurrency: self.max_async_query_concurrency,
        }
    }
}
