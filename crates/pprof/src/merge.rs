//! Adds up samples that are the same: same series, stacktrace, span and trace.

use hashbrown::HashTable;

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
    /// Series and stack of each.
    keys: Vec<(u32, u32)>,
    /// Empty while no entry has any, else those of each.
    ids: Vec<Ids>,
    /// `n_types` values for each entry.
    values: Vec<i64>,
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
            keys: Vec::new(),
            ids: Vec::new(),
            values: Vec::new(),
            by_key: HashTable::new(),
            sorted: Vec::new(),
            has_spans: false,
            has_traces: false,
        }
    }

    /// Forgets the entries; there will be at most `n_samples`, of `n_types` values each.
    pub(crate) fn start(&mut self, n_types: usize, n_samples: usize) {
        self.n_types = n_types;
        self.keys.clear();
        self.ids.clear();
        self.values.clear();
        self.by_key.clear();
        self.keys.reserve(n_samples);
        self.values.reserve(n_samples * n_types);
        // Empty, so that nothing is hashed anew.
        self.by_key.reserve(n_samples, |_| 0);
        self.sorted.clear();
        self.has_spans = false;
        self.has_traces = false;
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.keys.capacity() * 8
            + self.ids.capacity() * size_of::<Ids>()
            + self.values.capacity() * 8
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
    pub(crate) fn add(&mut self, key: Key, values: &[i64]) -> Result<(), Overflow> {
        let hash = hash(&self.fold, &key);
        let (keys, all_ids) = (&self.keys, &self.ids);
        let same = |&at: &u32| key_at(keys, all_ids, at) == key;
        if let Some(&at) = self.by_key.find(hash, same) {
            let start = at as usize * self.n_types;
            for (sum, value) in self.values[start..].iter_mut().zip(values) {
                *sum = sum.checked_add(*value).ok_or(Overflow)?;
            }
            return Ok(());
        }
        let at = keys.len() as u32;
        let (series, stack, ids) = key;
        self.has_spans |= ids.span != 0;
        self.has_traces |= ids.trace != [0; 16];
        if self.has_spans || self.has_traces {
            let missing = keys.capacity().saturating_sub(self.ids.len());
            self.ids.reserve_exact(missing.max(1));
            self.ids.resize(keys.len(), Ids::default());
            self.ids.push(ids);
        }
        self.keys.push((series, stack));
        self.values.extend_from_slice(values);
        let (keys, ids, fold) = (&self.keys, &self.ids, &self.fold);
        self.by_key
            .insert_unique(hash, at, |&at| self::hash(fold, &key_at(keys, ids, at)));
        Ok(())
    }

    /// The entries by series, in the order in which they came.
    pub(crate) fn sort(&mut self) {
        self.sorted.clear();
        self.sorted.extend(0..self.keys.len() as u32);
        let series = |at: &u32| self.keys[*at as usize].0;
        if !self.keys.is_sorted_by_key(|key| key.0) {
            self.sorted.sort_by_key(series);
        }
    }

    /// One run for each series that has entries. [`sort`](Self::sort) comes before.
    pub(crate) fn by_series(&self) -> impl Iterator<Item = Run<'_>> {
        let series = |at: &u32| self.keys[*at as usize].0;
        let runs = self.sorted.chunk_by(move |a, b| series(a) == series(b));
        runs.map(move |entries| Run {
            series: entries.first().map(series).unwrap_or_default(),
            entries,
        })
    }

    /// The value of an entry in the column of a sample type.
    pub(crate) fn value(&self, entry: u32, kind: usize) -> i64 {
        self.values[entry as usize * self.n_types + kind]
    }

    /// Stack and ids of an entry.
    pub(crate) fn key(&self, entry: u32) -> (u32, Ids) {
        let (_, stack, ids) = key_at(&self.keys, &self.ids, entry);
        (stack, ids)
    }
}

#[inline]
fn key_at(keys: &[(u32, u32)], ids: &[Ids], at: u32) -> Key {
    let (series, stack) = keys[at as usize];
    let ids = ids.get(at as usize).copied().unwrap_or_default();
    (series, stack, ids)
}

fn hash(fold: &Fold, (series, stack, ids): &Key) -> u64 {
    let hash = fold.add(fold.start(), u64::from(*series) << 32 | u64::from(*stack));
    let hash = fold.add(hash, ids.span);
    let trace = u128::from_le_bytes(ids.trace);
    fold.add(fold.add(hash, trace as u64), (trace >> 64) as u64)
}
