//! Adds up one hour of one profile type at a time: all that is held is that hour.
//!
//! # Invariants
//! - Sums depend on the profiles alone, not on how they are spread over inputs; whether there are
//!   any depends on the limit, too.
//! - An hour with very many buckets is given up: their number is up to clients, who choose periods
//!   and labels, and each takes a sum per stack.

use std::collections::BTreeMap;

use scoria_model::Labels;

use super::{Resolution, rollup_labels};
use crate::{ProfileRows, SampleRun, Table};

/// Stack rank and the sum of its values, sorted by rank, none of them 0.
pub(crate) type Sums = Vec<(u32, i64)>;

/// Reads the samples of profiles of one input. Runs are sorted; each piece is handed out with the
/// run it belongs to, by the ranks of the input.
pub(crate) type Reading<'a, E> =
    dyn FnMut((u32, Table, &[SampleRun]), &mut VisitPiece<'_>) -> Result<(), E> + 'a;

/// Takes a piece of a run: which run, its ranks and its values.
pub(crate) type VisitPiece<'a> = dyn FnMut(usize, &[u32], &[i64]) + 'a;

/// The stacks of an input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputStacks<'a> {
    pub(crate) n: usize,
    /// The rank in the output of each of its ranks; `None` if they are the same.
    pub(crate) new_rank: Option<&'a [u32]>,
}

impl InputStacks<'_> {
    fn rank(self, rank: u32) -> Option<u32> {
        match self.new_rank {
            None => Some(rank),
            Some(new) => new.get(rank as usize).copied(),
        }
    }
}

/// Bytes that the sums of one hour may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SumsLimit {
    pub(crate) bytes: u64,
}

impl SumsLimit {
    fn reached(self, n: usize) -> bool {
        (n * size_of::<(u32, i64)>()) as u64 > self.bytes
    }

    /// How many arrays of a sum per stack there may be at a time.
    fn arrays(self, n_stacks: usize) -> usize {
        let one = (n_stacks * size_of::<i64>()) as u64;
        usize::try_from(self.bytes / one.max(1)).map_or(1, |n| n.max(1))
    }
}

/// Buckets of five minutes that an hour may have.
const BUCKETS_MAX: usize = 256;

/// What tells buckets of one type apart: start, labels, period.
type BucketKey = (i64, u32, i64);

/// One bucket added up.
#[derive(Debug, Default)]
pub(crate) struct Added {
    pub(crate) profiles: u32,
    pub(crate) total: i64,
    pub(crate) sums: Sums,
}

/// An hour of a type added up.
#[derive(Debug)]
pub(crate) struct Hour {
    /// Samples of its profiles.
    pub(crate) samples: u64,
    /// By resolution: the buckets in order, and whether their sums are worth writing.
    pub(crate) buckets: [BTreeMap<BucketKey, Added>; 2],
    pub(crate) worth: [bool; 2],
}

/// The profiles of a dataset, to be added up type by type and hour by hour.
pub(crate) struct Hours<'a> {
    pub(crate) profiles: &'a ProfileRows,
    /// Each set of kept labels once.
    pub(crate) labels: Vec<Labels>,
    /// The kept labels of each series.
    labels_of: Vec<u32>,
    /// The series of each profile.
    series_of: &'a [u32],
    /// Where the samples of each profile lie; empty if there is one input.
    input_of: &'a [u32],
    inputs: &'a [InputStacks<'a>],
}

impl<'a> Hours<'a> {
    pub(crate) fn new(
        (profiles, series_of): (&'a ProfileRows, &'a [u32]),
        (series, more): (&[Labels], &[std::sync::Arc<str>]),
        (input_of, inputs): (&'a [u32], &'a [InputStacks<'a>]),
    ) -> Self {
        let cut: Vec<Labels> = series.iter().map(|s| rollup_labels(s, more)).collect();
        let mut labels = cut.clone();
        labels.sort_unstable();
        labels.dedup();
        let number = |one: &Labels| labels.binary_search(one).unwrap_or_default() as u32;
        Self {
            profiles,
            labels_of: cut.iter().map(number).collect(),
            labels,
            series_of,
            input_of,
            inputs,
        }
    }

    fn input(&self, at: u32) -> u32 {
        self.input_of.get(at as usize).copied().unwrap_or_default()
    }

    fn key(&self, at: u32, resolution: Resolution) -> BucketKey {
        let at = at as usize;
        let bucket = resolution.bucket_of(self.profiles.time_ns[at]);
        let labels = self.labels_of[self.series_of[at] as usize];
        (bucket, labels, self.profiles.period[at])
    }

    /// Puts the profiles of one type in the order in which [`Hours::add_up`] takes them, and cuts
    /// them into hours.
    pub(crate) fn cut<'b>(&self, of_kind: &'b mut [u32]) -> impl Iterator<Item = &'b [u32]> {
        let hour = |at: u32| Resolution::Hour.bucket_of(self.profiles.time_ns[at as usize]);
        of_kind.sort_unstable_by_key(|&at| {
            let start = self.profiles.samples_start[at as usize];
            (hour(at), self.input(at), start, at)
        });
        let of_kind: &'b [u32] = of_kind;
        of_kind.chunk_by(move |&a, &b| hour(a) == hour(b))
    }

    /// Adds up the profiles of one hour of one type, whose samples lie in `table`.
    pub(crate) fn add_up<E>(
        &self,
        (hour, table): (&[u32], Table),
        limit: SumsLimit,
        read: &mut Reading<'_, E>,
    ) -> Result<Hour, E> {
        let n_samples = |at: &u32| u64::from(self.profiles.n_samples[*at as usize]);
        let samples: u64 = hour.iter().map(n_samples).sum();
        let mut fine: BTreeMap<BucketKey, Added> = BTreeMap::new();
        for &at in hour {
            let bucket = fine
                .entry(self.key(at, Resolution::FiveMinutes))
                .or_default();
            bucket.profiles += 1;
            let total = self.profiles.total[at as usize];
            bucket.total = bucket.total.saturating_add(total);
        }
        let mut fits = fine.len() <= BUCKETS_MAX;
        for of_input in hour.chunk_by(|a, b| self.input(*a) == self.input(*b)) {
            fits = fits && self.add_input((of_input, table), limit, (&mut fine, read))?;
        }
        if !fits {
            fine.values_mut()
                .for_each(|bucket| bucket.sums = Sums::new());
        }
        fine.values_mut()
            .for_each(|bucket| combine(&mut bucket.sums));
        let mut coarse: BTreeMap<BucketKey, Added> = BTreeMap::new();
        for (&(bucket, labels, period), added) in &fine {
            let of_hour = Resolution::Hour.bucket_of(bucket);
            let whole = coarse.entry((of_hour, labels, period)).or_default();
            whole.profiles += added.profiles;
            whole.total = whole.total.saturating_add(added.total);
            whole.sums.extend_from_slice(&added.sums);
        }
        coarse
            .values_mut()
            .for_each(|bucket| combine(&mut bucket.sums));
        let buckets = [fine, coarse];
        let worth = buckets.each_ref().map(|buckets| {
            let rows: usize = buckets.values().map(|bucket| bucket.sums.len()).sum();
            fits && is_worth(rows as u64, samples)
        });
        Ok(Hour {
            samples,
            buckets,
            worth,
        })
    }

    /// Adds the samples of the profiles of one input; whether the sums fit.
    fn add_input<E>(
        &self,
        (rows, table): (&[u32], Table),
        limit: SumsLimit,
        (buckets, read): (&mut BTreeMap<BucketKey, Added>, &mut Reading<'_, E>),
    ) -> Result<bool, E> {
        let Some(&first) = rows.first() else {
            return Ok(true);
        };
        let input = self.input(first);
        let Some(&stacks) = self.inputs.get(input as usize) else {
            return Ok(true);
        };
        let key = |at: &u32| self.key(*at, Resolution::FiveMinutes);
        let mut keys: Vec<BucketKey> = rows.iter().map(key).collect();
        keys.sort_unstable();
        keys.dedup();
        for some in keys.chunks(limit.arrays(stacks.n)) {
            let mut arrays = vec![vec![0i64; stacks.n]; some.len()];
            let (mut runs, mut array_of) = (Vec::new(), Vec::new());
            for at in rows
                .iter()
                .filter(|at| self.profiles.n_samples[**at as usize] > 0)
            {
                if let Ok(array) = some.binary_search(&key(at)) {
                    runs.push(self.profiles.run(*at as usize));
                    array_of.push(array);
                }
            }
            read((input, table, &runs), &mut |run, ranks, values| {
                let array = &mut arrays[array_of[run]];
                for (&rank, &value) in ranks.iter().zip(values) {
                    if let Some(sum) = array.get_mut(rank as usize) {
                        *sum = sum.saturating_add(value);
                    }
                }
            })?;
            for (key, array) in some.iter().zip(&arrays) {
                let sums = (0u32..).zip(array).filter(|(_, sum)| **sum != 0);
                let bucket = buckets.entry(*key).or_default();
                let ranked = sums.filter_map(|(rank, &sum)| Some((stacks.rank(rank)?, sum)));
                bucket.sums.extend(ranked);
            }
            if limit.reached(n_sums(buckets)) {
                buckets
                    .values_mut()
                    .for_each(|bucket| combine(&mut bucket.sums));
                if limit.reached(n_sums(buckets)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

fn n_sums(buckets: &BTreeMap<BucketKey, Added>) -> usize {
    buckets.values().map(|bucket| bucket.sums.len()).sum()
}

/// Sums are written where they are at most a quarter of what they stand for.
const fn is_worth(rows: u64, samples: u64) -> bool {
    rows.saturating_mul(4) <= samples
}

/// Sorts by rank and adds up what is of the same rank.
fn combine(sums: &mut Sums) {
    if sums.is_sorted_by(|a, b| a.0 < b.0) {
        return;
    }
    sums.sort_unstable();
    let mut kept: usize = 0;
    for at in 0..sums.len() {
        let (rank, value) = sums[at];
        match kept.checked_sub(1) {
            Some(last) if sums[last].0 == rank => {
                sums[last].1 = sums[last].1.saturating_add(value);
            }
            _ => {
                sums[kept] = (rank, value);
                kept += 1;
            }
        }
    }
    sums.truncate(kept);
    sums.retain(|(_, sum)| *sum != 0);
}
