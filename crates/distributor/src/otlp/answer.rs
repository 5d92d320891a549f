//! What becomes of an export's profiles, counted, and the answer that follows.

use std::fmt::Write as _;

use scoria_model::DiscardReason;
use scoria_pprof::otlp::ServiceSource;

use crate::outcome::{PushError, PushSummary, Refusal, RefusalKind};

/// Refusals spelled out in one message; the rest is counted.
const SPELLED_OUT: usize = 10;

/// An export that was taken, as far as its profiles could be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exported {
    /// Profiles of the export that were refused.
    pub rejected_profiles: u64,
    /// Why, and what the sender should know besides; empty if there is nothing to say.
    pub message: String,
}

/// The profiles of one export.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// By the order in which they are handed on: which profile of the export each one is of. One
    /// whose samples name several services comes apart into several.
    of_profile: Vec<usize>,
    n_nameless: u64,
    n_unusable: u64,
    /// The first of the refusals: no more are spelled out.
    refused: Vec<Refusal>,
    n_refusals: usize,
    /// How many profiles they are about.
    n_refused: u64,
    n_taken: u64,
}

impl Tally {
    pub(super) fn converted(&mut self, profile: usize, service: ServiceSource, n_unusable: u64) {
        self.of_profile.push(profile);
        self.n_nameless += u64::from(service == ServiceSource::Unknown);
        self.n_unusable += n_unusable;
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.n_refused += 1;
        self.tell(refusal);
    }

    fn tell(&mut self, refusal: Refusal) {
        self.n_refusals += 1;
        if self.refused.len() < SPELLED_OUT {
            self.refused.push(refusal);
        }
    }

    /// Profiles without a service name.
    pub(super) const fn n_nameless(&self) -> u64 {
        self.n_nameless
    }

    /// Attributes that cannot be labels.
    pub(super) const fn n_unusable(&self) -> u64 {
        self.n_unusable
    }

    /// Takes in what became of the profiles that were handed on.
    ///
    /// # Errors
    /// Some could not be stored for a reason that passes: the export is worth sending again.
    pub(super) fn add(&mut self, stored: Result<PushSummary, PushError>) -> Result<(), PushError> {
        let error = match stored {
            Ok(_) => {
                self.n_taken += self.of_profile.len() as u64;
                return Ok(());
            }
            Err(error) => error,
        };
        let passes = |kind: RefusalKind| kind.is_ours() || kind.is_limit();
        let transient = error.outcomes.iter().filter_map(|o| o.as_ref().err());
        let transient = transient
            .map(|refusal| refusal.kind)
            .find(|kind| passes(*kind));
        if error.outcomes.is_empty() || transient.is_some() {
            let kind = transient.unwrap_or(error.kind);
            return Err(PushError { kind, ..error });
        }
        let mut last = None;
        let of_profile = std::mem::take(&mut self.of_profile);
        for (outcome, profile) in error.outcomes.into_iter().zip(of_profile) {
            match outcome {
                Ok(_) => self.n_taken += 1,
                Err(refusal) => {
                    self.n_taken += u64::from(refusal.is_partial);
                    // Of a profile that came apart one refusal is enough to count it.
                    self.n_refused += u64::from(last != Some(profile));
                    last = Some(profile);
                    self.tell(refusal);
                }
            }
        }
        Ok(())
    }

    /// The answer.
    ///
    /// # Errors
    /// There were profiles, and none was taken.
    pub(super) fn answer(self) -> Result<Exported, PushError> {
        let message = self.message();
        if let ([first, ..], 0) = (&self.refused[..], self.n_taken) {
            let kind = match first.kind {
                RefusalKind::Invalid { reason } => RefusalKind::Invalid { reason },
                _ => RefusalKind::Invalid {
                    reason: DiscardReason::MalformedProfile,
                },
            };
            return Err(PushError {
                kind,
                message,
                outcomes: Vec::new(),
            });
        }
        Ok(Exported {
            rejected_profiles: self.n_refused,
            message,
        })
    }

    fn message(&self) -> String {
        let mut message = String::new();
        for (at, refusal) in self.refused.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            let _ = write!(message, "{separator}{refusal}");
        }
        let rest = self.n_refusals - self.refused.len();
        if rest > 0 {
            let _ = write!(message, "; and {rest} more");
        }
        if self.n_nameless > 0 {
            let separator = if message.is_empty() { "" } else { "; " };
            let _ = write!(
                message,
                "{separator}{} of the profiles have no service name and are stored under unknown_service: set the resource attribute service.name (in SDKs: OTEL_SERVICE_NAME)",
                self.n_nameless
            );
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outcome::Outcome;

    fn bad(text: &str) -> Refusal {
        Refusal::invalid(DiscardReason::MalformedProfile, text)
    }

    fn tally(n: usize) -> Tally {
        let mut tally = Tally::default();
        for at in 0..n {
            tally.converted(at, ServiceSource::Named, 0);
        }
        tally
    }

    fn refused(outcomes: Vec<Result<Outcome, Refusal>>) -> Result<PushSummary, PushError> {
        PushError::summarise(outcomes)
    }

    #[test]
    fn what_is_taken_in_part_is_a_success_that_says_so() {
        let mut tally = tally(2);
        tally.refuse(bad("first"));
        tally
            .add(refused(vec![Ok(Outcome::Stored), Err(bad("second"))]))
            .unwrap();
        let answer = tally.answer().unwrap();
        assert_eq!(answer.rejected_profiles, 2);
        assert_eq!(answer.message, "first; second");
    }

    #[test]
    fn few_of_many_refusals_are_spelled_out() {
        let mut tally = tally(1);
        for n in 0..1000 {
            tally.refuse(bad(&format!("no. {n}")));
        }
        assert!(tally.refused.len() < 20, "{}", tally.refused.len());
        tally.add(refused(vec![Err(bad("last"))])).unwrap();
        assert_eq!(tally.n_refused, 1001);
        let message = tally.answer().unwrap_err().message;
        assert!(message.starts_with("no. 0; no. 1; "), "{message}");
        assert!(message.ends_with("no. 9; and 991 more"), "{message}");
    }

    #[test]
    fn nothing_taken_is_an_error_and_nothing_sent_is_none() {
        let mut all = tally(1);
        all.add(refused(vec![Err(bad("x"))])).unwrap();
        assert_eq!(all.answer().unwrap_err().message, "x");
        assert_eq!(Tally::default().answer(), Ok(Exported::default()));
    }

    #[test]
    fn what_passes_makes_the_whole_worth_sending_again() {
        let wait = Duration::from_secs(3);
        // What is left of a profile that was refused in part is an export that was taken in part.
        let partly = Refusal {
            is_partial: true,
            ..bad("label x is too long")
        };
        let mut in_part = tally(1);
        in_part.add(refused(vec![Err(partly)])).unwrap();
        let answer = in_part.answer().unwrap();
        assert_eq!(answer.rejected_profiles, 1);
        assert!(answer.message.contains("label x"), "{}", answer.message);
        let limited = Refusal {
            is_partial: false,
            kind: RefusalKind::RateLimited { retry_after: wait },
            message: "slow".to_owned(),
        };
        let outcomes = vec![Err(bad("x")), Err(limited), Ok(Outcome::Stored)];
        let error = tally(3).add(refused(outcomes)).unwrap_err();
        assert_eq!(error.kind, RefusalKind::RateLimited { retry_after: wait });
    }

    #[test]
    fn profiles_without_a_service_are_a_hint() {
        let mut tally = Tally::default();
        tally.converted(0, ServiceSource::Unknown, 0);
        tally.add(Ok(PushSummary::default())).unwrap();
        let answer = tally.answer().unwrap();
        assert_eq!(answer.rejected_profiles, 0);
        assert!(
            answer.message.contains("service.name"),
            "{}",
            answer.message
        );
    }
}
