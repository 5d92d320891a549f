//! The querier of this process.

use std::sync::Arc;

use scoria_querier::{Components, LimitsOf, Querier, Settings};

use super::storage::Storage;
use super::{Cluster, Parts};

pub(super) fn start(parts: &mut Parts<'_>, cluster: &Cluster, storage: Storage) -> Querier {
    let config = &parts.config.querier;
    let mut settings = Settings {
        decoded_cache_bytes: parts.memory.cache_bytes(config.decoded_cache.0),
        result_cache_bytes: parts.memory.cache_bytes(config.result_cache.0),
        threads: Arc::clone(&parts.query_threads),
        ..Settings::default()
    };
    settings.admission.waiting_max = config.waiting_max;
    settings.admission.wait_max = config.wait_max.0;
    if config.running_max > 0 {
        settings.admission.running_max = config.running_max;
    }
    let limits = cluster.limits.clone();
    let ingesters = cluster.ingesters.iter();
    let components = Components {
        catalogue: storage.catalogue,
        blocks: storage.blocks,
        ingesters: ingesters
            .map(|(node, channel)| (node.clone(), channel.clone()))
            .collect(),
        memory: parts.memory.queries.clone(),
        limits: LimitsOf::new(move |tenant| limits.of(tenant)),
        clock: Arc::clone(&cluster.clock),
    };
    Querier::new(settings, components, parts.registry)
}
