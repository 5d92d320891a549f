//! The distributor of this process.

use scoria_distributor::{Components, Distributor, RejectionSettings, Settings};

use super::{Cluster, Parts};
use crate::config::units::ByteSize;

pub(super) fn start(parts: &mut Parts<'_>, cluster: &Cluster) -> Distributor {
    let settings = Settings {
        decoders: std::thread::available_parallelism().map_or(2, usize::from),
        rejections: RejectionSettings {
            tenant_bytes: bytes(parts.config.distributor.rejections_of_tenant),
            total_bytes: bytes(parts.config.distributor.rejections),
        },
        ..Settings::default()
    };
    let components = Components {
        membership: cluster.membership.clone(),
        ingesters: cluster.ingesters.clone(),
        limits: cluster.limits.clone(),
        clock: std::sync::Arc::clone(&cluster.clock),
        bodies: parts.memory.bodies.clone(),
        seed: uuid::Uuid::new_v4().into_bytes(),
    };
    Distributor::new(settings, components, parts.registry)
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}
