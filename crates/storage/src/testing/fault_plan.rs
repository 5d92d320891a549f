//! Which requests go wrong and how, drawn from a seed.
//!
//! [`FaultPlan`] only decides; [`super::FaultyStore`] and the simulator carry it out, each in its
//! own kind of time.

use std::time::Duration;

/// A small generator of numbers that depend on the seed alone.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number (splitmix64).
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// True in `per_mille` of a thousand draws.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// A generator of its own, so that one part's draws do not shift another's.
    pub fn fork(&mut self) -> Self {
        Self(self.draw())
    }
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is done, but the answer does not arrive.
    LostReply,
    /// The store's client sent it twice: it is done, and the answer says that it was done before.
    SentTwice,
    /// 409: another conditional request was under way. Not done.
    Conflict,
    /// 412 by a gateway that was in doubt. Not done.
    Precondition,
    /// 5xx. Not done.
    ServerError,
    /// No answer. Not done.
    Timeout,
    /// No answer, and done this much later.
    Late(Duration),
    /// Done, and answered this much later.
    Slow(Duration),
}

/// How often each fault happens, in a thousand requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultRates {
    pub lost_reply: u32,
    pub sent_twice: u32,
    pub conflict: u32,
    pub precondition: u32,
    pub server_error: u32,
    pub timeout: u32,
    pub late: u32,
    pub slow: u32,
}

impl FaultRates {
    /// Each fault in `per_mille` of a thousand requests.
    pub const fn all(per_mille: u32) -> Self {
        Self {
            lost_reply: per_mille,
            sent_twice: per_mille,
            conflict: per_mille,
            precondition: per_mille,
            server_error: per_mille,
            timeout: per_mille,
            late: per_mille,
            slow: per_mille,
        }
    }
}

/// The faults of a run, one draw per request.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    seeded: Seeded,
    rates: FaultRates,
    outage: bool,
}

impl FaultPlan {
    pub const fn new(seed: u64, rates: FaultRates) -> Self {
        Self {
            seeded: Seeded::new(seed),
            rates,
            outage: false,
        }
    }

    /// A plan without faults.
    pub const fn none() -> Self {
        let rates = FaultRates {
            lost_reply: 0,
            sent_twice: 0,
            conflict: 0,
            precondition: 0,
            server_error: 0,
            timeout: 0,
            late: 0,
            slow: 0,
        };
        Self::new(0, rates)
    }

    /// From now on every request fails, until [`FaultPlan::end_outage`].
    pub fn begin_outage(&mut self) {
        self.outage = true;
    }

    pub fn end_outage(&mut self) {
        self.outage = false;
    }

    pub fn set_rates(&mut self, rates: FaultRates) {
        self.rates = rates;
    }

    /// The fault of the next write.
    pub fn on_write(&mut self) -> Fault {
        let mut drawn = self.seeded.below(1000);
        let wait = Duration::from_millis(1 + self.seeded.below(3000));
        if self.outage {
            return Fault::ServerError;
        }
        let table = [
            (self.rates.lost_reply, Fault::LostReply),
            (self.rates.sent_twice, Fault::SentTwice),
            (self.rates.conflict, Fault::Conflict),
            (self.rates.precondition, Fault::Precondition),
            (self.rates.server_error, Fault::ServerError),
            (self.rates.timeout, Fault::Timeout),
            (self.rates.late, Fault::Late(wait)),
            (self.rates.slow, Fault::Slow(wait)),
        ];
        for (rate, fault) in table {
            match drawn.checked_sub(u64::from(rate)) {
                Some(rest) => drawn = rest,
                None => return fault,
            }
        }
        Fault::None
    }

    /// The fault of the next read: only those that a read can have.
    pub fn on_read(&mut self) -> Fault {
        match self.on_write() {
            Fault::LostReply | Fault::Late(_) => Fault::Timeout,
            Fault::SentTwice => Fault::None,
            Fault::Conflict | Fault::Precondition => Fault::ServerError,
            fault => fault,
        }
    }
}
