//! What is counted of exports, beside what is counted of every profile.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use scoria_model::TenantId;

use super::Encoding;
use super::answer::Tally;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByForm {
    tenant: String,
    version: &'static str,
    encoding: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTenant {
    tenant: String,
}

/// The metrics; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct OtlpMetrics {
    exports: Family<ByForm, Counter>,
    nameless: Family<ByTenant, Counter>,
}

impl OtlpMetrics {
    // Counters get their `_total` when they are written out.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "scoria_otlp_exports",
            "Exports of OTLP profiles that were understood, by the version of the message and its encoding",
            metrics.exports.clone(),
        );
        registry.register(
            "scoria_otlp_profiles_without_service",
            "Profiles of OTLP exports that name no service and are stored under unknown_service",
            metrics.nameless.clone(),
        );
        metrics
    }

    pub(super) fn exported(
        &self,
        tenant: &TenantId,
        version: &'static str,
        encoding: Encoding,
        tally: &Tally,
    ) {
        let tenant = tenant.as_str();
        let form = ByForm {
            tenant: tenant.to_owned(),
            version,
            encoding: encoding.as_str(),
        };
        self.exports.get_or_create(&form).inc();
        if tally.n_nameless() > 0 {
            let tenant = tenant.to_owned();
            let nameless = self.nameless.get_or_create(&ByTenant { tenant });
            nameless.inc_by(tally.n_nameless());
        }
    }
}
