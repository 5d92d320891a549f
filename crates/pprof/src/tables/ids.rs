//! Finds rows by the ids that senders give them.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Among the rows of ids: no row has it.
const UNSEEN: u32 = u32::MAX;
/// Sender's ids up to this many times their number are looked up in a plain table.
const SPARSE: u64 = 8;

/// Finds the row that a sender's id names. Of rows with one id, the last counts.
#[derive(Debug, Default)]
pub(crate) struct IdIndex {
    /// Set if the ids are 1, 2, 3, …: the number of rows.
    n_dense: usize,
    rows: Vec<u32>,
    sparse: HashMap<u64, u32, FixedState>,
}

impl IdIndex {
    /// For rows with the ids 1 to `n`.
    pub(super) fn count_up_to(&mut self, n: usize) {
        self.rows.clear();
        self.sparse.clear();
        self.n_dense = n;
    }

    pub(crate) fn learn(&mut self, ids: impl ExactSizeIterator<Item = u64> + Clone, seed: u64) {
        self.n_dense = 0;
        self.rows.clear();
        self.sparse.clear();
        let n = ids.len();
        if ids.clone().zip(1u64..).all(|(id, expected)| id == expected) {
            self.n_dense = n;
            return;
        }
        let max = ids.clone().max().unwrap_or_default();
        if max <= n as u64 * SPARSE {
            self.rows.resize(max as usize + 1, UNSEEN);
            for (at, id) in ids.enumerate() {
                self.rows[id as usize] = at as u32;
            }
            return;
        }
        if self.sparse.is_empty() {
            self.sparse = HashMap::with_hasher(FixedState::with_seed(seed));
        }
        for (at, id) in ids.enumerate() {
            self.sparse.insert(id, at as u32);
        }
    }

    #[inline]
    pub(crate) fn find(&self, id: u64) -> Option<usize> {
        if self.n_dense != 0 {
            let at = id.wrapping_sub(1);
            return (at < self.n_dense as u64).then_some(at as usize);
        }
        self.find_scattered(id)
    }

    fn find_scattered(&self, id: u64) -> Option<usize> {
        if self.rows.is_empty() {
            return self.sparse.get(&id).map(|&at| at as usize);
        }
        let row = self.rows.get(usize::try_from(id).ok()?)?;
        (*row != UNSEEN).then_some(*row as usize)
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.rows.capacity() * 4 + self.sparse.capacity() * 17
    }
}
