//! About how many different things there are among many, without keeping any.
//!
//! Linear counting: each thing sets the bit that its hash names, and of `m` bits n different things
//! leave m·e^(-n/m) unset (Whang, Vander-Zanden, Taylor 1990).

use crate::tables::Fold;

/// Counts the different ones of a known number of things.
#[derive(Debug)]
pub(super) struct Distinct {
    bits: Vec<u64>,
    fold: Fold,
}

impl Distinct {
    /// Of `n` things: takes a byte for each.
    pub(super) fn among(n: usize, seed: u64) -> Self {
        Self {
            bits: vec![0; n.div_ceil(8).max(1)],
            fold: Fold::new(seed),
        }
    }

    /// Takes one in, as the numbers that it is.
    pub(super) fn add(&mut self, thing: impl Iterator<Item = u64>) {
        let hash = thing.fold(self.fold.start(), |hash, n| self.fold.add(hash, n));
        let at = hash % (64 * self.bits.len() as u64);
        self.bits[at as usize / 64] |= 1 << (at % 64);
    }

    /// How many different ones there were.
    pub(super) fn count(&self) -> usize {
        let m = 64.0 * self.bits.len() as f64;
        let set: u32 = self.bits.iter().map(|word| word.count_ones()).sum();
        let unset = (m - f64::from(set)).max(1.0);
        (-m * (unset / m).ln()).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_off_at_most() {
        for n in [1_u64, 100, 1_000, 5_000, 12_000] {
            let mut distinct = Distinct::among(12_000, 7);
            for at in 0..12_000 {
                distinct.add([at % n, 3].into_iter());
            }
            let count = distinct.count() as u64;
            assert!(count.abs_diff(n) <= n / 20, "{count} of {n}");
        }
    }
}
