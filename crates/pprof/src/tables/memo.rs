//! Notes of where entries of a table went, so that each is moved once.

/// Where entries went, by their place in the table that they come from. What was noted in an earlier
/// epoch does not count any more, so that nothing is cleared when one ends.
#[derive(Debug, Default)]
pub(super) struct Memo(Vec<Noted>);

/// An epoch and an entry, the lower half of it first: six bytes, as there is one for everything
/// that a profile has.
#[derive(Debug, Clone, Copy, Default)]
struct Noted(u16, [u16; 2]);

/// Of entries that repairs make other ones.
#[derive(Debug, Default)]
pub(super) struct Memos {
    pub(super) mappings: Memo,
    pub(super) functions: Memo,
    pub(super) locations: Memo,
    /// Only where stacktraces have a table.
    pub(super) stacks: Memo,
}

/// How many entries the tables have that symbols come from.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) strings: usize,
    pub(crate) mappings: usize,
    pub(crate) functions: usize,
    pub(crate) locations: usize,
    pub(crate) stacks: usize,
}

impl Memo {
    /// Of an entry.
    pub(super) const EACH_BYTES: usize = size_of::<Noted>();

    /// Has room for the entries of a table of `n`.
    pub(super) fn fit(&mut self, n: usize) {
        if self.0.len() < n {
            self.0.reserve_exact(n - self.0.len());
            self.0.resize(n, Noted::default());
        }
    }

    /// Entries of the table.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Where the entry went, if that is known.
    #[inline]
    pub(super) fn get(&self, at: usize, epoch: u16) -> Option<u32> {
        let &Noted(noted, [low, high]) = self.0.get(at)?;
        (noted == epoch).then_some(u32::from(high) << 16 | u32::from(low))
    }

    /// Notes where an entry went, which must be inside of the table.
    pub(super) fn set(&mut self, at: usize, epoch: u16, entry: u32) {
        self.0[at] = Noted(epoch, [entry as u16, (entry >> 16) as u16]);
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.0.capacity() * Self::EACH_BYTES
    }
}

impl Memos {
    /// Forgets what notes make other entries. The tables stay as large.
    pub(super) fn forget_noted(&mut self) {
        for memo in [&mut self.mappings, &mut self.locations, &mut self.stacks] {
            memo.0.fill(Noted::default());
        }
    }

    pub(super) fn fit(&mut self, counts: Counts) {
        self.mappings.fit(counts.mappings);
        self.functions.fit(counts.functions);
        self.locations.fit(counts.locations);
        self.stacks.fit(counts.stacks);
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.mappings.held_bytes()
            + self.functions.held_bytes()
            + self.locations.held_bytes()
            + self.stacks.held_bytes()
    }
}

/// Counted from 1, so that no new memo looks like one of now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epochs {
    /// Of strings and functions.
    pub(super) texts: u16,
    /// Of what notes make other entries: mappings, and what is in them.
    pub(super) notes: u16,
}

impl Default for Epochs {
    fn default() -> Self {
        Self { texts: 1, notes: 1 }
    }
}
