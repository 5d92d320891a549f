//! What a request has for each ingester, on its way from the preparation to the call.
//!
//! # Invariants
//! - The profiles of a parcel are in the order of the writes in its parts, which is the order of the
//!   ingester's answers.
//!
//! # What it must not know
//! How an ingester is reached.

use std::sync::Arc;

use bytes::Bytes;
use scoria_cluster::{Place, View};
use scoria_model::{Labels, NodeId, Permit, TenantId};

use crate::incoming::IncomingProfile;
use crate::outcome::Refusal;
use crate::prepare::{Prepared, Stop, service_of};

/// Finds the ingester of a profile, by one version of the membership.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) view: Arc<View>,
    /// On how many of the ring the series of one service spread.
    pub(crate) neighbours: usize,
}

impl Router {
    /// `None` if no member takes writes.
    pub(crate) fn target(&self, tenant: &TenantId, profile: &IncomingProfile) -> Option<&NodeId> {
        let ring = self.view.ring();
        let place = Place::of_service(tenant.as_str(), service_of(profile));
        // Among one neighbour there is nothing to choose.
        let fingerprint = if self.neighbours > 1 && ring.members().len() > 1 {
            let pairs = profile.labels.iter().map(|(name, value)| (name, value));
            Labels::from_pairs(pairs).fingerprint()
        } else {
            0
        };
        ring.target(place, fingerprint, self.neighbours)
    }
}

/// A profile that is in a parcel.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// What was charged for it.
    pub(crate) bytes: u64,
    /// Some of its label groups were refused; the others are in the parcel.
    pub(crate) refused: Option<Box<Refusal>>,
}

/// What one ingester gets of a request.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    /// `None` if no member takes writes.
    pub(crate) target: Option<NodeId>,
    /// As `Part::encode` writes them.
    pub(crate) parts: Vec<Bytes>,
    /// Their places in the request.
    pub(crate) profiles: Vec<usize>,
    /// Cover the parts, and the copy of them that is on its way.
    pub(crate) permits: Vec<Permit>,
}

/// A request, ready to be stored.
#[derive(Debug)]
pub(crate) struct Cargo {
    /// Of each profile, in order.
    pub(crate) outcomes: Vec<Result<Accepted, Stop>>,
    pub(crate) parcels: Vec<Parcel>,
}

impl Cargo {
    /// Of profiles whose parts stand for themselves.
    pub(crate) fn of(
        router: &Router,
        (tenant, profiles): (&TenantId, &[IncomingProfile]),
        prepared: Vec<Result<Prepared, Stop>>,
    ) -> Self {
        let mut cargo = Self {
            outcomes: Vec::with_capacity(prepared.len()),
            parcels: Vec::new(),
        };
        for (at, (profile, result)) in profiles.iter().zip(prepared).enumerate() {
            let outcome = result.map(|prepared| {
                let parcel = cargo.parcel(router.target(tenant, profile));
                parcel.parts.push(prepared.part);
                parcel.profiles.push(at);
                parcel.permits.push(prepared.permit);
                prepared.accepted
            });
            cargo.outcomes.push(outcome);
        }
        cargo
    }

    fn parcel(&mut self, target: Option<&NodeId>) -> &mut Parcel {
        let known = self
            .parcels
            .iter()
            .position(|parcel| parcel.target.as_ref() == target);
        let at = known.unwrap_or_else(|| {
            self.parcels.push(Parcel {
                target: target.cloned(),
                ..Parcel::default()
            });
            self.parcels.len() - 1
        });
        &mut self.parcels[at]
    }
}
