//! What a tenant may send and ask. Names are those of the YAML keys under `limits:`; 0 switches a
//! limit off unless its line says otherwise.

/// Some of a tenant's profiles that are kept for less time than the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRule {
    /// As in queries.
    pub selector: String,
    pub period_ms: u64,
}

/// The limits of one tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes per second of decompressed profiles.
    pub ingestion_rate_bytes: u64,
    /// Burst above the rate; never less than the largest allowed profile.
    pub ingestion_burst_bytes: u64,
    /// Largest request body, before and after decompression, and largest sum of the decompressed
    /// profiles of one request.
    pub ingestion_body_limit_bytes: u64,
    /// Largest decompressed profile.
    pub max_profile_size_bytes: u64,
    /// Largest decompressed JFR recording; it holds many profiles.
    pub max_jfr_size_bytes: u64,
    /// Most samples in one profile.
    pub max_profile_stacktrace_samples: u64,
    /// Most labels on one sample.
    pub max_profile_stacktrace_sample_labels: u64,
    /// Deepest stacktrace; leaf-side frames beyond it are cut, the root side is kept.
    pub max_profile_stacktrace_depth: u64,
    /// Longest entry of a profile's string table; longer ones keep their tail.
    pub max_profile_symbol_value_length: u64,
    pub max_label_name_length: u64,
    pub max_label_value_length: u64,
    /// Counts promoted sample labels and `__name__`, not what the server derives.
    pub max_label_names_per_series: u64,
    /// Most sample labels that become labels of one series; more are left out, the first by name
    /// stay. As many as fit under `max_label_names_per_series` in any case.
    pub max_promoted_labels_per_series: u64,
    /// Most series that the sample labels of one profile make of it; if there would be more, the
    /// labels with the most values are left out.
    pub max_promoted_series_per_profile: u64,
    /// How far in the past a profile may start.
    pub reject_older_than_ms: u64,
    /// How far in the future a profile may start.
    pub reject_newer_than_ms: u64,
    /// Most ids that `__session_id__` is reduced to; 0 drops the label.
    pub max_sessions_per_series: u64,
    /// Whether a resend without a client's id is recognised by its content.
    pub deduplicate_by_content: bool,
    /// How long profiles are kept, by their own time; 0 keeps them for ever.
    pub retention_ms: u64,
    /// Profiles that are kept for less time than that.
    pub retention_rules: std::sync::Arc<[RetentionRule]>,
    /// How far back a query may reach; older ranges answer empty.
    pub max_query_lookback_ms: u64,
    /// Longest range of one query.
    pub max_query_length_ms: u64,
    /// Nodes of a flame graph when a query names none. Never 0.
    pub max_flamegraph_nodes_default: u64,
    /// Most nodes that a query may ask for.
    pub max_flamegraph_nodes_max: u64,
    /// Whether the two limits above hold for pprof answers too.
    pub max_flamegraph_nodes_on_select_merge_profile: bool,
    /// Whether time series count profiles that were sampled out and of which only the totals were
    /// kept.
    pub include_stripped_profiles: bool,
    /// Stored bytes that one query may read, as its plan says.
    pub max_query_bytes: u64,
    /// Memory that the tenant's queries may hold together.
    pub max_query_memory_bytes: u64,
    /// The tenant's share of query slots and memory in relation to others' while queries wait; 0
    /// counts as 1.
    pub query_weight: u64,
    /// Queries that may run in the background at a time.
    pub max_async_query_concurrency: u64,
}

const MIB: u64 = 1024 * 1024;
const HOUR_MS: u64 = 3_600_000;

impl Default for Limits {
    fn default() -> Self {
        Self {
            ingestion_rate_bytes: 64 * MIB,
            ingestion_burst_bytes: 256 * MIB,
            ingestion_body_limit_bytes: 256 * MIB,
            max_profile_size_bytes: 4 * MIB,
            max_jfr_size_bytes: 64 * MIB,
            max_profile_stacktrace_samples: 16_000,
            max_profile_stacktrace_sample_labels: 100,
            max_profile_stacktrace_depth: 1000,
            max_profile_symbol_value_length: 65_535,
            max_label_name_length: 1024,
            max_label_value_length: 2048,
            max_label_names_per_series: 30,
            max_promoted_labels_per_series: 0,
            max_promoted_series_per_profile: 1024,
            reject_older_than_ms: HOUR_MS,
            reject_newer_than_ms: HOUR_MS / 6,
            max_sessions_per_series: 0,
            deduplicate_by_content: true,
            retention_ms: 30 * 24 * HOUR_MS,
            retention_rules: std::sync::Arc::from([]),
            max_query_lookback_ms: 31 * 24 * HOUR_MS,
            max_query_length_ms: 31 * 24 * HOUR_MS,
            max_flamegraph_nodes_default: 8192,
            max_flamegraph_nodes_max: 1_048_576,
            max_flamegraph_nodes_on_select_merge_profile: false,
            include_stripped_profiles: false,
            max_query_bytes: 0,
            max_query_memory_bytes: 0,
            query_weight: 1,
            max_async_query_concurrency: 5,
        }
    }
}

impl Limits {
    /// A limit of 0 means none.
    pub const fn exceeded(actual: u64, limit: u64) -> bool {
        limit != 0 && actual > limit
    }
}
