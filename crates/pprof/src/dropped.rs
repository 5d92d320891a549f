//! Counts of what was left out of a profile that was accepted.

use std::fmt;

use scoria_model::DiscardReason;

const N_REASONS: usize = DiscardReason::ALL.len();

/// How much was dropped or cut, by reason. What is counted depends on the reason: samples for
/// negative and zero values, broken references and cut stacktraces, labels for numeric labels and
/// malformed ids, strings for cut symbols, the profile itself when nothing was left of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Dropped([u64; N_REASONS]);

impl Default for Dropped {
    fn default() -> Self {
        Self([0; N_REASONS])
    }
}

impl Dropped {
    pub fn add(&mut self, reason: DiscardReason, n: u64) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += n;
        }
    }

    pub fn get(&self, reason: DiscardReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&n| n == 0)
    }

    /// The reasons that occurred and how often.
    pub fn iter(&self) -> impl Iterator<Item = (DiscardReason, u64)> + '_ {
        DiscardReason::ALL
            .into_iter()
            .map(|reason| (reason, self.get(reason)))
            .filter(|&(_, n)| n != 0)
    }
}

impl fmt::Debug for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(reason, n)| (reason.as_str(), n)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_count() {
        let mut dropped = Dropped::default();
        for (at, reason) in DiscardReason::ALL.into_iter().enumerate() {
            dropped.add(reason, at as u64 + 1);
        }
        for (at, reason) in DiscardReason::ALL.into_iter().enumerate() {
            assert_eq!(dropped.get(reason), at as u64 + 1);
        }
    }
}
