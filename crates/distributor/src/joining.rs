//! Prepares the profiles of one request one after the other into parts that they share: one for
//! each ingester, however many profiles there are.
//!
//! # Invariants
//! - Of what was sent only the profile at hand is held whole; of the others only what their shared
//!   part has of them.
//! - Memory for what a profile adds is taken from the budget before it is added.
//!
//! # What it must not know
//! What the profiles were decoded from.

use scoria_model::{ByteBudget, NodeId, Permit};
use scoria_pprof::{Joined, Normaliser, Room};

use crate::incoming::IncomingProfile;
use crate::outcome::Refusal;
use crate::parcel::{Accepted, Cargo, Parcel, Router};
use crate::prepare::{Batch, Ready, Stop, Worker, encode, overloaded};
use crate::senders::Senders;

/// A part beyond this is sent as it is and another begun: the places in a part are 32 bits wide,
/// and a part is encoded in one piece.
const PART_BYTES_MAX: usize = 64 << 20;

/// A request while its profiles come in.
#[derive(Debug)]
pub(crate) struct Joining<'b> {
    batch: Batch<'b>,
    router: Router,
    worker: Worker,
    senders: Senders,
    outcomes: Vec<Result<Accepted, Stop>>,
    /// Covers the two above.
    kept: Permit,
    open: Vec<Open>,
    terms: Terms,
}

/// What the parts are made with.
#[derive(Debug, Clone)]
struct Terms {
    bodies: ByteBudget,
    /// Secret to the process.
    seed: u64,
    room: Room,
}

impl<'b> Joining<'b> {
    /// `seed` is secret to the process.
    pub(crate) fn new(batch: Batch<'b>, router: Router, seed: u64) -> Self {
        let bodies = batch.preparation.bodies.clone();
        Self {
            worker: batch.preparation.workers.take(),
            terms: Terms {
                bodies: bodies.clone(),
                seed,
                room: Room::default(),
            },
            batch,
            router,
            senders: Senders::default(),
            outcomes: Vec::new(),
            kept: bodies.nothing(),
            open: Vec::new(),
        }
    }

    /// What is to come are about `n` profiles that need at most this room, for each ingester.
    ///
    /// # Errors
    /// There is no memory for what is kept of so many.
    pub(crate) fn expect(&mut self, n: usize, room: Room) -> Result<(), Refusal> {
        let each = size_of::<Result<Accepted, Stop>>() + Senders::EACH_BYTES;
        self.kept.grow((n * each) as u64).map_err(overloaded)?;
        self.senders = Senders::with_room(n);
        self.outcomes.reserve_exact(n);
        self.terms.room = room;
        Ok(())
    }

    /// Prepares one more profile.
    ///
    /// # Errors
    /// The request as a whole breaks a limit; the caller counts it.
    pub(crate) fn add(&mut self, mut profile: IncomingProfile) -> Result<(), Refusal> {
        let at = self.senders.len();
        let target = self.router.target(self.batch.tenant, &profile).cloned();
        let terms = &self.terms;
        let open = &mut self.open;
        let worker = &mut self.worker;
        let outcome = self
            .batch
            .profile(worker, &mut profile, |ready, normaliser| {
                let known = open.iter().position(|open| open.parcel.target == target);
                let place = match known {
                    Some(place) => place,
                    None => {
                        open.push(Open::new(target, terms));
                        open.len() - 1
                    }
                };
                open[place].add((at, ready), normaliser, terms)
            });
        self.senders.push(&profile.labels);
        match outcome {
            Err(Stop::Request(refusal)) => return Err(*refusal),
            outcome => self.outcomes.push(outcome),
        }
        Ok(())
    }

    /// Counts and remembers a profile that could not be made of what was sent.
    pub(crate) fn refuse(&self, refusal: &Refusal, bytes: u64, labels: &[(String, String)]) {
        self.batch.refuse(refusal, bytes, labels);
    }

    /// Whose the profiles are, and what to send of them.
    ///
    /// # Errors
    /// There is no memory for the parts.
    pub(crate) fn finish(self) -> Result<(Senders, Cargo), Refusal> {
        self.batch.preparation.workers.give_back(self.worker);
        let parcels = self.open.into_iter().map(Open::close);
        let mut parcels = parcels.collect::<Result<Vec<_>, _>>()?;
        if let Some(first) = parcels.first_mut() {
            first.permits.push(self.kept);
        }
        let cargo = Cargo {
            outcomes: self.outcomes,
            parcels,
        };
        Ok((self.senders, cargo))
    }
}

/// What one ingester gets, as far as it is known.
#[derive(Debug)]
struct Open {
    parcel: Parcel,
    shared: Shared,
}

impl Open {
    fn new(target: Option<NodeId>, terms: &Terms) -> Self {
        let parcel = Parcel {
            target,
            ..Parcel::default()
        };
        Self {
            parcel,
            shared: Shared::new(terms),
        }
    }

    fn add(
        &mut self,
        (at, ready): (usize, Ready),
        normaliser: &mut Normaliser,
        terms: &Terms,
    ) -> Result<Accepted, Refusal> {
        if self.shared.joined.encoded_bytes() + ready.part.encoded_bytes() > PART_BYTES_MAX {
            let full = std::mem::replace(&mut self.shared, Shared::new(terms));
            full.encode_into(&mut self.parcel)?;
        }
        let accepted = self.shared.add(ready, normaliser)?;
        self.parcel.profiles.push(at);
        Ok(accepted)
    }

    fn close(mut self) -> Result<Parcel, Refusal> {
        self.shared.encode_into(&mut self.parcel)?;
        Ok(self.parcel)
    }
}

/// A part that is being joined, and its memory.
#[derive(Debug)]
struct Shared {
    joined: Joined,
    permit: Permit,
}

impl Shared {
    fn new(terms: &Terms) -> Self {
        Self {
            joined: Joined::new(terms.seed, terms.room),
            permit: terms.bodies.nothing(),
        }
    }

    fn add(&mut self, ready: Ready, normaliser: &mut Normaliser) -> Result<Accepted, Refusal> {
        // At most: much of it is there already.
        let added = ready.part.held_bytes() + ready.part.encoded_bytes() + self.joined.room_bytes();
        self.permit.grow(added as u64).map_err(overloaded)?;
        if let Some(spare) = self.joined.add(ready.part) {
            normaliser.take_back(spare);
        }
        self.permit.shrink_to(self.needed());
        Ok(ready.accepted)
    }

    /// The part with what finds its content, or with its encoded copy.
    fn needed(&self) -> u64 {
        let copies = 2 * self.joined.encoded_bytes();
        self.joined.held_bytes().max(copies) as u64
    }

    fn encode_into(mut self, parcel: &mut Parcel) -> Result<(), Refusal> {
        let missing = self.needed().saturating_sub(self.permit.bytes());
        self.permit.grow(missing).map_err(overloaded)?;
        let part = encode(&self.joined.into_part());
        // From now on the bytes, and the copy of them that will be on its way.
        self.permit.shrink_to(2 * part.len() as u64);
        parcel.parts.push(part);
        parcel.permits.push(self.permit);
        Ok(())
    }
}
