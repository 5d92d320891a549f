//! The querier of this process.

use std::sync::Arc;

use scoria_querier::{Components, LimitsOf, Querier, Settings};

use super::storage::Storage;
use super::{Cluster, Parts};

pub(super) fn start(parts: &mut Parts<'_>, cluster: &Cluster, storage: Storage) -> Querier {
    let mut settings = Settings::default();
    settings.decoded_cache_bytes = parts.memory.cache_bytes(settings.decoded_cache_bytes);
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
