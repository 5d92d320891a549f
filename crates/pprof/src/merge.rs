//! Adds up samples that are the same: same series, stacktrace, span and trace.

use hashbrown::HashTable;
use scoria_model::{Packed, PackedSlice};

use crate::normalise::Overflow;
use crate::raw::Ids;
use crate::tables::Fold;

/// Series, stack, ids.
type Key = (u32, u32, Ids);

/// Distinct samples with a value for each sample type.
#[derive(Debug)]
pub(crate) struct Entries {
    fold: Fold,
    n_types: usize,
    /// That there are at most.
    n_samples: usize,
    /// Of each.
    series: Packed<u32>,
    stacks: Packed<u32>,
    /// Empty while no entry has any, else those of each.
    ids: Vec<Ids>,
    /// `n_types` values for each entry.
    values: Packed<i64>,
    by_key: HashTable<u32>,
    /// Entries in the order of their series.
    sorted: Vec<u32>,
    has_spans: bool,
    has_traces: bool,
}

/// The entries of one series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'e> {
    pub(crate) series: u32,
    pub(crate) entries: &'e [u32],
}

impl Entries {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            fold: Fold::new(seed),
            n_types: 0,
            n_samples: 0,
            series: Packed::default(),
            stacks: Packed::default(),
            ids: Vec::new(),
            values: Packed::default(),
            by_key: HashTable::new(),
            sorted: Vec::new(),
            has_spans: false,
            has_traces: false,
        }
    }

    /// Forgets the entries; there will be at most `n_samples`, of `n_types` values each, mostly of
    /// this width.
    pub(crate) fn start(&mut self, n_samples: usize, (n_types, width): (usize, usize)) {
        self.n_types = n_types;
        self.n_samples = n_samples;
        self.series.clear();
        self.stacks.clear();
        self.ids.clear();
        self.values.clear();
        self.by_key.clear();
        self.series.reserve_up_to(n_samples, 0);
        self.stacks.reserve_up_to(n_samples, n_samples as u32);
        self.values.reserve_wide(n_samples * n_types, width);
        // Empty, so that nothing is hashed anew.
        self.by_key.reserve(n_samples, |_| 0);
        self.sorted.clear();
        self.has_spans = false;
        self.has_traces = false;
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.series.held_bytes()
            + self.stacks.held_bytes()
            + self.ids.capacity() * size_of::<Ids>()
            + self.values.held_bytes()
            + self.by_key.capacity() * 5
    }

    pub(crate) const fn has_spans(&self) -> bool {
        self.has_spans
    }

    pub(crate) const fn has_traces(&self) -> bool {
        self.has_traces
    }

    /// Adds a sample with one value per sample type.
    ///
    /// # Errors
    /// A sum does not fit.
    #[inline]
    pub(crate) fn add(&mut self, key: Key, values: PackedSlice<'_, i64>) -> Result<(), Overflow> {
        let hash = hash(&self.fold, &key);
        let same = |&at: &u32| self.full_key(at) == key;
        if let Some(&at) = self.by_key.find(hash, same) {
            let start = at as usize * self.n_types;
            for (at, value) in (start..).zip(values) {
                let sum = self.values.get(at).checked_add(value);
                self.values.set(at, sum.ok_or(Overflow)?);
            }
            return Ok(());
        }
        let at = self.series.len() as u32;
        let (series, stack, ids) = key;
        self.has_spans |= ids.span != 0;
        self.has_traces |= ids.trace != [0; 16];
        if self.has_spans || self.has_traces {
            let missing = self.n_samples.saturating_sub(self.ids.len());
            self.ids.reserve_exact(missing.max(1));
            self.ids.resize(at as usize, Ids::default());
            self.ids.push(ids);
        }
        self.series.push(series);
        self.stacks.push(stack);
        self.values.extend_from(values);
        let (columns, fold) = ((&self.series, &self.stacks, &self.ids[..]), &self.fold);
        self.by_key
            .insert_unique(hash, at, |&at| self::hash(fold, &key_at(columns, at)));
        Ok(())
    }

    /// The entries by series, in the order in which they came.
    pub(crate) fn sort(&mut self) {
        self.sorted.clear();
        self.sorted.extend(0..self.series.len() as u32);
        if !self.series.iter().is_sorted() {
            self.sorted.sort_by_key(|at| self.series.get(*at as usize));
        }
    }

    /// One run for each series that has entries. [`sort`](Self::sort) comes before.
    pub(crate) fn by_series(&self) -> impl Iterator<Item = Run<'_>> {
        let series = |at: &u32| self.series.get(*at as usize);
        let runs = self.sorted.chunk_by(move |a, b| series(a) == series(b));
        runs.map(move |entries| Run {
            series: entries.first().map(series).unwrap_or_default(),
            entries,
        })
    }

    /// The value of an entry in the column of a sample type.
    pub(crate) fn value(&self, entry: u32, kind: usize) -> i64 {
        self.values.get(entry as usize * self.n_types + kind)
    }

    /// What no value is larger than.
    pub(crate) fn value_max(&self) -> i64 {
        self.values.iter().fold(0, |union, value| union | value)
    }

    /// Stack and ids of an entry.
    pub(crate) fn key(&self, entry: u32) -> (u32, Ids) {
        let (_, stack, ids) = self.full_key(entry);
        (stack, ids)
    }

    fn full_key(&self, entry: u32) -> Key {
        key_at((&self.series, &self.stacks, &self.ids), entry)
    }
}

#[inline]
fn key_at((series, stacks, ids): (&Packed<u32>, &Packed<u32>, &[Ids]), at: u32) -> Key {
    let at = at as usize;
    let ids = ids.get(at).copied().unwrap_or_default();
    (series.get(at), stacks.get(at), ids)
}

fn hash(fold: &Fold, (series, stack, ids): &Key) -> u64 {
    let hash = fold.add(fold.start(), u64::from(*series) << 32 | u64::from(*stack));
    let hash = fold.add(hash, ids.span);
    let trace = u128::from_le_bytes(ids.trace);
    fold.add(fold.add(hash, trace as u64), (trace >> 64) as u64)
}
