//! The compactor of this process.

use std::sync::Arc;
use std::time::Duration;

use scoria_compactor::{
    Compactor, Components, Metrics, PlanSettings, RetentionOf, RunningCompactor, Settings,
};
use scoria_model::{Clock, TenantId};

use super::Parts;
use super::storage::Storage;
use crate::config::units::Millis;

/// The least that a merge works with.
const MEMORY_MIN: u64 = 8 << 20;

pub(super) fn start(
    parts: &mut Parts<'_>,
    storage: &Storage,
    clock: &Arc<dyn Clock>,
) -> RunningCompactor {
    let config = &parts.config.compactor;
    match parts.config.limits.retention_ms {
        Millis(0) => tracing::info!("profiles are kept for ever; limits.retention_ms changes that"),
        length => tracing::info!(
            "profiles are kept for {length}; limits.retention_ms changes that, also by tenant, and 0 keeps them for ever"
        ),
    }
    for (tenant, rule) in parts.limits.retention_rules() {
        let (of, period) = (
            tenant.as_ref().map_or("every tenant", |t| t.as_str()),
            Millis(rule.period_ms),
        );
        let selector = &rule.selector;
        tracing::info!(
            "profiles of {of} that {selector} finds are kept for {period}; limits.retention_rules changes that"
        );
    }
    let limits = parts.limits.clone();
    let rules = parts.limits.clone();
    let retention = move |tenant: &TenantId| match limits.of(tenant).retention_ms {
        0 => None,
        length => Some(Duration::from_millis(length)),
    };
    let settings = Settings {
        plan: PlanSettings {
            settle: config.settle.0,
            small_bytes: config.small_tenant.0,
            ..PlanSettings::default()
        },
        interval: config.interval.0,
        memory_bytes: config.memory.0.min(parts.memory.limit / 12).max(MEMORY_MIN),
        // A query may have pinned its version just before, and an answer may take that long.
        garbage_grace: config
            .garbage_grace
            .0
            .max(parts.config.server.request_timeout.0 * 2),
        orphan_grace: config.orphan_grace.0,
        retention: RetentionOf::new(retention)
            .with_rules(move |tenant| Arc::clone(&rules.of(tenant).retention_rules)),
        rollup_labels: config
            .rollup_labels
            .0
            .0
            .iter()
            .map(|label| label.as_str().into())
            .collect(),
        ..Settings::default()
    };
    let components = Components {
        catalogue: storage.catalogue.clone(),
        blocks: storage.blocks.uncached(),
        clock: Arc::clone(clock),
        metrics: Metrics::new(parts.registry),
    };
    Compactor::new(settings, components).start()
}
