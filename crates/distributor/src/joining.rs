//! Prepares the profiles of one export one after the other into parts that they share: one for each
//! ingester, however many profiles there are.
//!
//! # Invariants
//! - Of the profiles only the one at hand is held; of the others what their shared part has of them.
//! - Memory for what a profile adds is taken from the budget before it is added.
//!
//! # What it must not know
//! How the profiles are read from the export.

use scoria_model::{ByteBudget, Limits, NodeId, Permit};
use scoria_pprof::otlp::Export;
use scoria_pprof::{Joined, Room};

use crate::incoming::{DraftPayload, IncomingProfile, Payload};
use crate::outcome::Refusal;
use crate::parcel::{Accepted, Cargo, Parcel, Router};
use crate::prepare::{Batch, Into, Sizes, Stop, encode, overloaded};
use crate::senders::Senders;
use crate::workers::Worker;

/// A part beyond this is sent as it is and another begun: the places in a part are 32 bits wide,
/// and a part is encoded in one piece.
const PART_BYTES_MAX: u64 = 64 << 20;

/// What a profile of one byte, as pprof, adds at most to a part and to what finds its content.
const ADDED_TIMES: u64 = 3;

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
    /// What the part held without the stacktraces of the profile to come.
    before_moved: Option<Sizes>,
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
            before_moved: None,
        }
    }

    /// What the tenant may send.
    pub(crate) fn limits(&self) -> &Limits {
        &self.batch.policy.limits
    }

    /// What is to come are about `n` profiles that need at most this room.
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

    /// Moves the stacktraces of a profile that will be the next into the part that it goes into.
    /// Whether its export is not needed for it any more.
    ///
    /// # Errors
    /// There is no memory for that.
    pub(crate) fn move_stacks(
        &mut self,
        profile: &mut IncomingProfile,
        export: &Export<'_>,
    ) -> Result<bool, Refusal> {
        let place = self.place_of(profile);
        let open = &mut self.open[place];
        open.make_ready((profile.payload.expected_bytes(), export), &self.terms)?;
        let labels = profile.labels.iter().map(|(n, v)| (&**n, &**v));
        let labels: Vec<(&str, &str)> = labels.collect();
        let Payload::Draft(DraftPayload {
            draft: Some(draft), ..
        }) = &mut profile.payload
        else {
            return Ok(true);
        };
        let of = (&labels[..], &*self.batch.policy.limits);
        self.before_moved = Some(Sizes::of(open.shared.joined.part()));
        open.shared.joined.move_stacks(draft, export, of);
        open.shared.cover()?;
        Ok(draft.is_moved())
    }

    /// Prepares one more profile, whose symbols stand in `export`, as do those of all others. `None`
    /// if they have been moved.
    ///
    /// # Errors
    /// The request as a whole breaks a limit; the caller counts it.
    pub(crate) fn add(
        &mut self,
        mut profile: IncomingProfile,
        export: Option<&Export<'_>>,
    ) -> Result<(), Refusal> {
        let at = self.senders.len();
        let place = self.place_of(&profile);
        let open = &mut self.open[place];
        // What has been moved must stay with what it was moved to.
        if let Some(export) = export {
            open.make_ready((profile.payload.expected_bytes(), export), &self.terms)?;
        }
        let into = Into::Joined(&mut open.shared.joined, export, self.before_moved.take());
        let worker = &mut self.worker;
        let batch = &mut self.batch;
        let made = batch.profile(worker, &mut profile, into, |ready, _| Ok(ready));
        self.senders.push(&profile.labels);
        let outcome = match made {
            Err(Stop::Request(refusal)) => return Err(*refusal),
            Err(stop) => Err(stop),
            Ok(ready) => {
                open.parcel.profiles.push(at);
                Ok(ready.accepted)
            }
        };
        // Whether or not it was refused, the part may have grown.
        open.shared.cover()?;
        self.outcomes.push(outcome);
        Ok(())
    }

    /// Where the part stands that a profile goes into.
    fn place_of(&mut self, profile: &IncomingProfile) -> usize {
        let target = self.router.target(self.batch.tenant, profile);
        let mut known = self.open.iter();
        if let Some(place) = known.position(|open| open.parcel.target.as_ref() == target) {
            return place;
        }
        let room = match self.open.is_empty() {
            true => self.terms.room,
            // How the profiles spread is not known; most may have gone elsewhere.
            false => Room::default(),
        };
        self.open
            .push(Open::new(target.cloned(), &self.terms, room));
        self.open.len() - 1
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
        // A part is opened before it is known whether its profile is refused.
        let open = self.open.into_iter();
        let open = open.filter(|open| !open.parcel.profiles.is_empty());
        let mut parcels = open.map(Open::close).collect::<Result<Vec<_>, _>>()?;
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
    fn new(target: Option<NodeId>, terms: &Terms, room: Room) -> Self {
        let parcel = Parcel {
            target,
            ..Parcel::default()
        };
        Self {
            parcel,
            shared: Shared::new(terms, room),
        }
    }

    /// Makes room for a profile of so many bytes.
    fn make_ready(
        &mut self,
        (bytes, export): (u64, &Export<'_>),
        terms: &Terms,
    ) -> Result<(), Refusal> {
        if self.shared.joined.encoded_bytes() as u64 + bytes > PART_BYTES_MAX {
            let next = Shared::new(terms, Room::default());
            let full = std::mem::replace(&mut self.shared, next);
            full.encode_into(&mut self.parcel)?;
        }
        let room = self.shared.joined.room_bytes(export) as u64;
        let added = bytes.saturating_mul(ADDED_TIMES);
        let widened = self.shared.joined.part().narrowed_bytes() as u64;
        let needed = room + added + widened;
        self.shared.permit.grow(needed).map_err(overloaded)
    }

    fn close(mut self) -> Result<Parcel, Refusal> {
        self.shared.encode_into(&mut self.parcel)?;
        Ok(self.parcel)
    }
}

/// A part that profiles share, and its memory.
#[derive(Debug)]
struct Shared {
    joined: Joined,
    permit: Permit,
}

impl Shared {
    fn new(terms: &Terms, room: Room) -> Self {
        Self {
            joined: Joined::new(terms.seed, room),
            permit: terms.bodies.nothing(),
        }
    }

    /// Has the permit cover the part as it is now.
    fn cover(&mut self) -> Result<(), Refusal> {
        let needed = self.needed();
        self.permit.shrink_to(needed);
        let missing = needed.saturating_sub(self.permit.bytes());
        self.permit.grow(missing).map_err(overloaded)
    }

    /// The part with what finds its content, or with its encoded copy.
    fn needed(&self) -> u64 {
        let copies = 2 * self.joined.encoded_bytes();
        self.joined.held_bytes().max(copies) as u64
    }

    fn encode_into(mut self, parcel: &mut Parcel) -> Result<(), Refusal> {
        if self.joined.part().writes.is_empty() {
            return Ok(());
        }
        self.cover()?;
        let part = encode(&self.joined.into_part());
        // From now on the bytes, and the copy of them that will be on its way.
        self.permit.shrink_to(2 * part.len() as u64);
        parcel.parts.push(part);
        parcel.permits.push(self.permit);
        Ok(())
    }
}
