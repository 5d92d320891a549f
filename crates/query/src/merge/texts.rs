//! A table of texts in one run of bytes.

use std::hash::BuildHasher;

use hashbrown::HashTable;

/// Texts by dense ids. Equal texts may stand twice unless they all came through
/// [`Texts::intern`].
#[derive(Debug, Clone, Default)]
pub struct Texts {
    text: String,
    ends: Vec<u32>,
    ids: HashTable<u32>,
}

impl Texts {
    /// Appends a text without looking for it; its id.
    pub fn push(&mut self, text: &str) -> u32 {
        let id = self.ends.len() as u32;
        self.text.push_str(text);
        self.ends.push(self.text.len() as u32);
        id
    }

    /// The id of a text, which is appended unless it is there.
    pub fn intern(&mut self, text: &str) -> u32 {
        let state = foldhash::fast::FixedState::default();
        let hash = state.hash_one(text);
        let found = self
            .ids
            .find(hash, |&id| slice(&self.text, &self.ends, id) == text);
        if let Some(&id) = found {
            return id;
        }
        let id = self.push(text);
        let (all, ends) = (&self.text, &self.ends);
        self.ids
            .insert_unique(hash, id, |&id| state.hash_one(slice(all, ends, id)));
        id
    }

    /// Gives back what only growing needs. Nothing must be interned any more.
    pub(crate) fn finish(&mut self) {
        self.ids = HashTable::new();
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// The text of an id, which must be inside.
    #[inline]
    pub fn get(&self, id: u32) -> &str {
        slice(&self.text, &self.ends, id)
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all texts.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.ends.len() as u32).map(|id| self.get(id))
    }

    /// Memory held.
    pub fn bytes(&self) -> u64 {
        (self.text.capacity() + 4 * self.ends.capacity() + 5 * self.ids.capacity()) as u64
    }
}

impl PartialEq for Texts {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.ends == other.ends
    }
}

impl Eq for Texts {}

fn slice<'a>(text: &'a str, ends: &[u32], id: u32) -> &'a str {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] as usize };
    &text[start..ends[id] as usize]
}
