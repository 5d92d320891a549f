//! What became of the profiles of a request.
//!
//! # Invariants
//! - Every profile of a request has exactly one outcome, in the order of the request.
//! - A profile is [`Outcome::Stored`] or [`Outcome::Duplicate`] only if it is durable.
//!
//! # What it must not know
//! Status codes: the listeners map [`RefusalKind`] to those of their protocol.

use std::fmt::Write as _;
use std::time::Duration;

use scoria_model::DiscardReason;
use scoria_model::budget::BudgetExceeded;

use crate::prepare::MEMORY_RETRY_AFTER;

/// What became of an accepted profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Stored,
    /// It is a resend of one that was stored within the last ten minutes.
    Duplicate,
    /// It holds no samples, or none that could be kept; nothing was stored, and that was counted.
    Empty,
}

/// Why a profile was refused, by what the client can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The profile or its labels break a rule: sending them again is no use.
    Invalid { reason: DiscardReason },
    /// The request's body is over its limit: sending it again is no use.
    TooLarge,
    /// The tenant sends more than it may: worth sending again later.
    RateLimited { retry_after: Duration },
    /// A quota of the tenant is used up: worth sending again when it is renewed.
    QuotaReached { retry_after: Duration },
    /// The server has no memory to spare: worth sending again later.
    Overloaded { retry_after: Duration },
    /// The server could not make it durable: worth sending again.
    Unavailable,
}

impl RefusalKind {
    /// The name under which the refusal is counted.
    pub const fn reason(self) -> DiscardReason {
        match self {
            Self::Invalid { reason } => reason,
            Self::TooLarge => DiscardReason::BodySizeLimitExceeded,
            Self::RateLimited { .. } => DiscardReason::RateLimited,
            Self::QuotaReached { .. } => DiscardReason::IngestLimitReached,
            Self::Overloaded { .. } => DiscardReason::Overloaded,
            Self::Unavailable => DiscardReason::Unavailable,
        }
    }

    /// For work that there is no memory for: now, or never.
    pub(crate) const fn of_memory(exceeded: &BudgetExceeded) -> Self {
        match exceeded.never_fits() {
            true => Self::TooLarge,
            false => Self::Overloaded {
                retry_after: MEMORY_RETRY_AFTER,
            },
        }
    }

    /// Whether the tenant sends more than it may for now.
    pub const fn is_limit(self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::QuotaReached { .. })
    }

    /// Whether the fault is the server's own.
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::Unavailable)
    }
}

/// Why one profile was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
    /// Whether the rest of the profile is stored all the same.
    pub is_partial: bool,
}

impl Refusal {
    pub fn invalid(reason: DiscardReason, message: impl Into<String>) -> Self {
        Self {
            kind: RefusalKind::Invalid { reason },
            message: message.into(),
            is_partial: false,
        }
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            kind: RefusalKind::Unavailable,
            message: message.into(),
            is_partial: false,
        }
    }
}

/// All profiles of the request are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushSummary {
    /// One for each profile, in the order given.
    pub outcomes: Vec<Outcome>,
}

/// At least one profile was refused; the others are stored all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PushError {
    /// That of the first refusal. A fault of our own comes before the client's, whatever the
    /// order: else a client would take the good profiles that we failed to store for refused ones
    /// and not send them again.
    pub kind: RefusalKind,
    /// The refusals in words: one as it is, several as `N errors: a; b; …`.
    pub message: String,
    /// One for each profile, in the order given; empty if the request was refused as a whole.
    pub outcomes: Vec<Result<Outcome, Refusal>>,
}

/// Refusals spelled out in one message; the rest is counted.
const REFUSALS_SPELLED_OUT: usize = 20;

impl PushError {
    /// Nothing of the request was taken.
    pub fn whole(refusal: Refusal) -> Self {
        Self {
            kind: refusal.kind,
            message: refusal.message,
            outcomes: Vec::new(),
        }
    }

    /// The summary if nothing was refused, else the error.
    pub(crate) fn summarise(outcomes: Vec<Result<Outcome, Refusal>>) -> Result<PushSummary, Self> {
        let refusals: Vec<&Refusal> = outcomes.iter().filter_map(|o| o.as_ref().err()).collect();
        let ours = refusals.iter().find(|refusal| refusal.kind.is_ours());
        let Some(leading) = ours.or_else(|| refusals.first()) else {
            let outcomes = outcomes.into_iter().flatten().collect();
            return Ok(PushSummary { outcomes });
        };
        let kind = leading.kind;
        let mut message = String::new();
        if refusals.len() > 1 {
            let _ = write!(message, "{} errors: ", refusals.len());
        }
        for (at, refusal) in refusals.iter().take(REFUSALS_SPELLED_OUT).enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            let _ = write!(message, "{separator}{refusal}");
        }
        if let Some(rest) = refusals.len().checked_sub(REFUSALS_SPELLED_OUT + 1) {
            let _ = write!(message, "; and {} more", rest + 1);
        }
        Err(Self {
            kind,
            message,
            outcomes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(text: &str) -> Refusal {
        Refusal::invalid(DiscardReason::MalformedProfile, text)
    }

    #[test]
    fn nothing_refused_is_no_error() {
        let summary = PushError::summarise(vec![Ok(Outcome::Stored), Ok(Outcome::Empty)]).unwrap();
        assert_eq!(summary.outcomes, [Outcome::Stored, Outcome::Empty]);
    }

    #[test]
    fn one_refusal_is_told_as_it_is_and_several_are_counted() {
        let one = PushError::summarise(vec![Ok(Outcome::Stored), Err(bad("a"))]).unwrap_err();
        assert_eq!(one.message, "a");
        let two = PushError::summarise(vec![Err(bad("a")), Ok(Outcome::Stored), Err(bad("b"))]);
        let two = two.unwrap_err();
        assert_eq!(two.message, "2 errors: a; b");
        assert_eq!(two.outcomes[1], Ok(Outcome::Stored));
        let many = PushError::summarise(vec![Err(bad("x")); 25]).unwrap_err();
        assert!(many.message.starts_with("25 errors: x; x; "));
        assert!(many.message.ends_with("; x; and 5 more"));
        let full = PushError::summarise(vec![Err(bad("x")); 20]).unwrap_err();
        assert!(full.message.ends_with("; x"));
    }

    #[test]
    fn our_own_fault_leads() {
        let mixed = vec![Err(bad("a")), Err(Refusal::unavailable("disk full"))];
        let error = PushError::summarise(mixed).unwrap_err();
        assert_eq!(error.kind, RefusalKind::Unavailable);
        assert_eq!(error.message, "2 errors: a; disk full");
    }
}
