//! What the distributor counts. The registry is the caller's.
//!
//! Names that start with `pyroscope_` are those that existing dashboards read. In them a "sample"
//! of `discarded_samples` is a whole profile.
//!
//! # Invariants
//! - No label value is a client's free text: names of profiles and scopes that are not known ones
//!   are folded into one.

use std::fmt::{self, Write as _};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use scoria_model::labels::names;
use scoria_model::{DiscardReason, TenantId};

use crate::incoming::{IncomingProfile, SentAs};
use crate::otlp::OtlpMetrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Tenant(TenantId);

impl EncodeLabelValue for Tenant {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.write_str(self.0.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Discarded {
    reason: &'static str,
    tenant: Tenant,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByType {
    r#type: &'static str,
    tenant: Tenant,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupReceived {
    r#type: &'static str,
    tenant: Tenant,
    usage_group: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupDiscarded {
    reason: &'static str,
    tenant: Tenant,
    usage_group: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStage {
    tenant: Tenant,
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByScope {
    tenant: Tenant,
    scope_name: &'static str,
    scope_version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTenant {
    tenant: Tenant,
}

/// Exponential buckets: the first bound, the factor to the next, their number.
#[derive(Debug, Clone, Copy)]
struct Buckets(f64, f64, u16);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(self.0, self.1, self.2))
    }
}

type Histograms<L> = Family<L, Histogram, Buckets>;

/// 1 KiB to 256 MiB.
const BYTES: Buckets = Buckets(1024.0, 4.0, 10);
const SAMPLES: Buckets = Buckets(10.0, 4.0, 9);
/// A tenth of a millisecond to three seconds.
const SECONDS: Buckets = Buckets(0.0001, 4.0, 8);
const SERIES: Buckets = Buckets(1.0, 4.0, 7);

/// How far a profile got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its size is known.
    Received,
    /// It was let in, and not sampled out.
    Sampled,
    /// It is what goes on to the ingester.
    Normalised,
}

/// What is known of one profile once it is decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    /// The `__name__` it has or was given.
    pub(crate) name: &'a str,
    /// As it came, and as what.
    pub(crate) compressed: u64,
    pub(crate) sent_as: SentAs,
    /// With its labels; what limits charge.
    pub(crate) decompressed: u64,
    pub(crate) samples: u64,
    pub(crate) samples_bytes: u64,
    pub(crate) symbols_bytes: u64,
    /// What goes on to the ingester.
    pub(crate) normalised: u64,
    pub(crate) parsed_in: Duration,
}

/// The distributor's metrics; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    discarded_profiles: Family<Discarded, Counter>,
    discarded_bytes: Family<Discarded, Counter>,
    dropped_samples: Family<Discarded, Counter>,
    group_received: Family<GroupReceived, Counter>,
    group_discarded: Family<GroupDiscarded, Counter>,
    rejections_held: Gauge,
    compressed_bytes: Histograms<ByType>,
    decompressed_bytes: Histograms<ByType>,
    samples: Histograms<ByType>,
    samples_bytes: Histograms<ByType>,
    symbols_bytes: Histograms<ByType>,
    stage_bytes: Histograms<ByStage>,
    profiles: Family<ByScope, Counter>,
    parse_seconds: Histograms<ByType>,
    batch_series: Histograms<ByTenant>,
    push_seconds: Histograms<ByTenant>,
    pub(crate) otlp: OtlpMetrics,
}

impl Metrics {
    /// Registers every metric under its full name.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            discarded_profiles: Family::default(),
            discarded_bytes: Family::default(),
            dropped_samples: Family::default(),
            group_received: Family::default(),
            group_discarded: Family::default(),
            rejections_held: Gauge::default(),
            compressed_bytes: Family::new_with_constructor(BYTES),
            decompressed_bytes: Family::new_with_constructor(BYTES),
            samples: Family::new_with_constructor(SAMPLES),
            samples_bytes: Family::new_with_constructor(BYTES),
            symbols_bytes: Family::new_with_constructor(BYTES),
            stage_bytes: Family::new_with_constructor(BYTES),
            profiles: Family::default(),
            parse_seconds: Family::new_with_constructor(SECONDS),
            batch_series: Family::new_with_constructor(SERIES),
            push_seconds: Family::new_with_constructor(SECONDS),
            otlp: OtlpMetrics::register(registry),
        };
        metrics.register_discards(registry);
        metrics.register_receipts(registry);
        metrics
    }

    // Counters get their `_total` when they are written out.
    fn register_discards(&self, registry: &mut Registry) {
        registry.register(
            "pyroscope_discarded_samples",
            "Profiles that were refused or dropped whole, by reason",
            self.discarded_profiles.clone(),
        );
        registry.register(
            "pyroscope_discarded_bytes",
            "Decompressed bytes of profiles that were refused or dropped whole, by reason",
            self.discarded_bytes.clone(),
        );
        registry.register(
            "scoria_dropped_samples",
            "What was left out or cut in profiles that were stored, by reason: samples, labels or symbols",
            self.dropped_samples.clone(),
        );
        registry.register(
            "pyroscope_usage_group_received_decompressed",
            "Decompressed bytes of profiles that came in, by usage group",
            self.group_received.clone(),
        );
        registry.register(
            "pyroscope_usage_group_discarded_bytes",
            "Decompressed bytes of profiles that a usage group's quota or sampling kept out",
            self.group_discarded.clone(),
        );
        registry.register(
            "scoria_distributor_rejections_held_bytes",
            "Memory of what tenants can read about profiles that were not stored",
            self.rejections_held.clone(),
        );
    }

    /// Shows the memory of what tenants can read.
    pub(crate) fn rejections_held(&self) -> Gauge {
        self.rejections_held.clone()
    }

    /// A profile of a usage group came in.
    pub(crate) fn group_received(
        &self,
        tenant: &TenantId,
        (group, name): (&str, &str),
        bytes: u64,
    ) {
        let labels = GroupReceived {
            r#type: known(&PROFILE_NAMES, name).unwrap_or(OTHER),
            tenant: Tenant(tenant.clone()),
            usage_group: group.to_owned(),
        };
        self.group_received.get_or_create(&labels).inc_by(bytes);
    }

    /// A profile of a usage group was kept out, or only its totals were kept.
    pub(crate) fn group_discarded(
        &self,
        tenant: &TenantId,
        (group, reason): (&str, DiscardReason),
        bytes: u64,
    ) {
        let labels = GroupDiscarded {
            reason: reason.as_str(),
            tenant: Tenant(tenant.clone()),
            usage_group: group.to_owned(),
        };
        self.group_discarded.get_or_create(&labels).inc_by(bytes);
    }

    fn register_receipts(&self, registry: &mut Registry) {
        let mut by_type = |name: &str, help: &str, family: &Histograms<ByType>| {
            registry.register(
                format!("pyroscope_distributor_{name}"),
                help,
                family.clone(),
            );
        };
        by_type(
            "received_compressed_bytes",
            "Size of each profile as it came",
            &self.compressed_bytes,
        );
        by_type(
            "received_decompressed_bytes",
            "Size of each profile with its labels, decompressed",
            &self.decompressed_bytes,
        );
        by_type("received_samples", "Samples of each profile", &self.samples);
        by_type(
            "received_samples_bytes",
            "Bytes that samples take in each profile",
            &self.samples_bytes,
        );
        by_type(
            "received_symbols_bytes",
            "Bytes that symbols take in each profile",
            &self.symbols_bytes,
        );
        by_type(
            "parse_duration_seconds",
            "Time to decompress, decode and normalise each profile",
            &self.parse_seconds,
        );
        registry.register(
            "pyroscope_distributor_received_decompressed_bytes_total",
            "Size of each profile at each stage of its way",
            self.stage_bytes.clone(),
        );
        registry.register(
            "pyroscope_distributor_profiles_received",
            "Profiles received, by the instrumentation that made them",
            self.profiles.clone(),
        );
        registry.register(
            "pyroscope_distributor_push_batch_series",
            "Profiles in each request",
            self.batch_series.clone(),
        );
        registry.register(
            "scoria_distributor_store_duration_seconds",
            "Time from sending a request's profiles to the ingesters until all have answered",
            self.push_seconds.clone(),
        );
    }

    pub(crate) fn batch(&self, tenant: &TenantId, profiles: usize) {
        self.batch_series
            .get_or_create(&by_tenant(tenant))
            .observe(profiles as f64);
    }

    pub(crate) fn stored_in(&self, tenant: &TenantId, took: Duration) {
        self.push_seconds
            .get_or_create(&by_tenant(tenant))
            .observe(took.as_secs_f64());
    }

    /// A profile is refused or dropped whole.
    pub(crate) fn discarded(&self, tenant: &TenantId, reason: DiscardReason, bytes: u64) {
        let labels = discarded(tenant, reason);
        self.discarded_profiles.get_or_create(&labels).inc();
        self.discarded_bytes.get_or_create(&labels).inc_by(bytes);
    }

    /// Something is left out of a profile that is stored.
    pub(crate) fn dropped(&self, tenant: &TenantId, reason: DiscardReason, count: u64) {
        self.dropped_samples
            .get_or_create(&discarded(tenant, reason))
            .inc_by(count);
    }

    /// A profile came in, well or ill.
    pub(crate) fn arrived(&self, tenant: &TenantId, profile: &IncomingProfile) {
        let label = |wanted: &str| {
            let mut labels = profile.labels.iter();
            labels.find(|(name, _)| name == wanted).map(|(_, v)| &**v)
        };
        let (scope_name, scope_version) = scope(
            label("otel.scope.name").unwrap_or_default(),
            label("otel.scope.version").unwrap_or_default(),
        );
        self.profiles
            .get_or_create(&ByScope {
                tenant: Tenant(tenant.clone()),
                scope_name,
                scope_version,
            })
            .inc();
    }

    /// A profile was decoded.
    pub(crate) fn received(&self, tenant: &TenantId, received: &Received<'_>) {
        let labels = ByType {
            r#type: known(&PROFILE_NAMES, received.name).unwrap_or(OTHER),
            tenant: Tenant(tenant.clone()),
        };
        let observe = |family: &Histograms<ByType>, value: u64| {
            family.get_or_create(&labels).observe(value as f64);
        };
        let sent_as = ByType {
            r#type: match received.sent_as {
                SentAs::Text => labels.r#type,
                SentAs::Jfr => "jfr",
                SentAs::Otlp => "otel",
            },
            tenant: labels.tenant.clone(),
        };
        self.compressed_bytes
            .get_or_create(&sent_as)
            .observe(received.compressed as f64);
        observe(&self.decompressed_bytes, received.decompressed);
        observe(&self.samples, received.samples);
        observe(&self.samples_bytes, received.samples_bytes);
        observe(&self.symbols_bytes, received.symbols_bytes);
        self.parse_seconds
            .get_or_create(&labels)
            .observe(received.parsed_in.as_secs_f64());
        self.stage(tenant, Stage::Normalised, received.normalised);
    }

    /// A profile got so far on its way, at this size.
    pub(crate) fn stage(&self, tenant: &TenantId, stage: Stage, bytes: u64) {
        let labels = ByStage {
            tenant: Tenant(tenant.clone()),
            stage: match stage {
                Stage::Received => "received",
                Stage::Sampled => "sampled",
                Stage::Normalised => "normalized",
            },
        };
        self.stage_bytes
            .get_or_create(&labels)
            .observe(bytes as f64);
    }
}

fn by_tenant(tenant: &TenantId) -> ByTenant {
    ByTenant {
        tenant: Tenant(tenant.clone()),
    }
}

fn discarded(tenant: &TenantId, reason: DiscardReason) -> Discarded {
    Discarded {
        reason: reason.as_str(),
        tenant: Tenant(tenant.clone()),
    }
}

const OTHER: &str = "other";
const UNKNOWN: &str = "unknown";

const PROFILE_NAMES: [&str; 15] = [
    "process_cpu",
    "memory",
    "mutex",
    "block",
    "goroutine",
    "goroutines",
    "wall",
    "offcpu",
    "off_cpu",
    "lock",
    "exception",
    "exceptions",
    "gc",
    "network",
    "thread_lifetime",
];

const SCOPES: [&str; 9] = [
    "com.grafana.pyroscope/go",
    "com.grafana.pyroscope/godeltaprof",
    "com.grafana.pyroscope/java",
    "com.grafana.pyroscope/python",
    "com.grafana.pyroscope/rust",
    "com.grafana.pyroscope/nodejs",
    "com.grafana.alloy/pyroscope.scrape",
    "com.grafana.alloy/pyroscope.ebpf",
    "com.grafana.alloy/pyroscope.java",
];

fn known(list: &[&'static str], text: &str) -> Option<&'static str> {
    list.iter().find(|&&name| name == text).copied()
}

/// Versions are free text too: only a short one of a known scope is taken.
fn scope(name: &str, version: &str) -> (&'static str, String) {
    const VERSION_BYTES_MAX: usize = 32;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+');
    match known(&SCOPES, name) {
        Some(scope) if version.len() <= VERSION_BYTES_MAX && version.bytes().all(plain) => {
            (scope, version.to_owned())
        }
        Some(scope) => (scope, UNKNOWN.to_owned()),
        None => (UNKNOWN, UNKNOWN.to_owned()),
    }
}

/// The `__name__` among a profile's labels; empty if it has none yet.
pub(crate) fn name_of(profile: &IncomingProfile) -> &str {
    let mut labels = profile.labels.iter();
    labels
        .find(|(name, _)| name == names::NAME)
        .map_or("", |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::incoming::{Origin, Payload};

    #[test]
    fn names_are_the_ones_that_dashboards_read() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let tenant = TenantId::anonymous();
        metrics.discarded(&tenant, DiscardReason::RateLimited, 7);
        metrics.dropped(&tenant, DiscardReason::ZeroValue, 3);
        metrics.batch(&tenant, 2);
        metrics.stored_in(&tenant, Duration::from_millis(2));
        metrics.arrived(
            &tenant,
            &IncomingProfile {
                series: 0,
                labels: vec![("otel.scope.name".to_owned(), "mine".to_owned())],
                payload: Payload::Pprof(Bytes::new()),
                id: String::new(),
                origin: Origin::Push,
            },
        );
        metrics.received(
            &tenant,
            &Received {
                name: "nobody knows it",
                compressed: 1,
                sent_as: SentAs::Text,
                decompressed: 2,
                samples: 3,
                samples_bytes: 4,
                symbols_bytes: 5,
                normalised: 6,
                parsed_in: Duration::from_millis(1),
            },
        );
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"pyroscope_discarded_samples_total{reason="rate_limited",tenant="anonymous"} 1"#,
            r#"pyroscope_discarded_bytes_total{reason="rate_limited",tenant="anonymous"} 7"#,
            r#"scoria_dropped_samples_total{reason="zero_value",tenant="anonymous"} 3"#,
            r#"pyroscope_distributor_received_compressed_bytes_sum{type="other",tenant="anonymous"} 1.0"#,
            r#"pyroscope_distributor_received_decompressed_bytes_sum{type="other",tenant="anonymous"} 2.0"#,
            r#"pyroscope_distributor_received_samples_sum{type="other",tenant="anonymous"} 3.0"#,
            r#"pyroscope_distributor_received_samples_bytes_sum{type="other",tenant="anonymous"} 4.0"#,
            r#"pyroscope_distributor_received_symbols_bytes_sum{type="other",tenant="anonymous"} 5.0"#,
            r#"pyroscope_distributor_parse_duration_seconds_sum{type="other",tenant="anonymous"} 0.001"#,
            r#"pyroscope_distributor_received_decompressed_bytes_total_sum{tenant="anonymous",stage="normalized"} 6.0"#,
            r#"pyroscope_distributor_profiles_received_total{tenant="anonymous",scope_name="unknown",scope_version="unknown"} 1"#,
            r#"pyroscope_distributor_push_batch_series_sum{tenant="anonymous"} 2.0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn versions_of_known_scopes_only() {
        let go = "com.grafana.pyroscope/go";
        assert_eq!(scope(go, "v1.2.7"), (go, "v1.2.7".to_owned()));
        assert_eq!(scope(go, "x y"), (go, UNKNOWN.to_owned()));
        assert_eq!(scope(go, &"1".repeat(33)), (go, UNKNOWN.to_owned()));
        assert_eq!(scope("else", "1"), (UNKNOWN, UNKNOWN.to_owned()));
    }
}
