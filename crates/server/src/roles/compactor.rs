//! The compactor of this process.

use std::sync::Arc;
use std::time::Duration;

use scoria_compactor::{
    Compactor, Components, Metrics, PlanSettings, RetentionOf, RunningCompactor, Settings,
};
use scoria_model::Clock;

use super::Parts;
use super::storage::Storage;

/// The least that a merge works with.
const MEMORY_MIN: u64 = 8 << 20;

pub(super) fn start(
    parts: &mut Parts<'_>,
    storage: &Storage,
    clock: &Arc<dyn Clock>,
) -> RunningCompactor {
    let config = &parts.config.compactor;
    let retention = (config.retention.0 > Duration::ZERO).then_some(config.retention.0);
    match retention {
        Some(_) => tracing::info!(
            "profiles are kept for {}; compactor.retention changes that, 0 keeps them for ever",
            config.retention
        ),
        None => tracing::info!("profiles are kept for ever; compactor.retention changes that"),
    }
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
        retention: RetentionOf::fixed(retention),
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
