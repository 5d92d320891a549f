//! Drafts whose stacktraces and symbols are elsewhere, in tables that profiles share: what is in the
//! draft is a number for each stacktrace, and what the profile would be charged for the rest.
//!
//! # What it must not know
//! The tables.

use super::{Draft, DraftError, DraftTerms, Stack};
use crate::language::Language;

/// What is known of symbols that are not in the draft, as its samples use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Apart {
    /// That a string betrays, the first to do so.
    pub(crate) language: Option<Language>,
    /// Strings longer than allowed, which lose their front.
    pub(crate) n_cut: u64,
    /// Most locations of a stacktrace.
    pub(crate) deepest: u32,
    /// Whether the stacktraces have been moved: a frame is then what [`crate::tables::Moved`] says.
    pub(crate) is_moved: bool,
}

impl Draft {
    /// An empty draft whose samples are of stacktraces in a table elsewhere, which
    /// [`crate::Normaliser::normalise_into`] is given.
    ///
    /// # Errors
    /// The budget is used up.
    pub(crate) fn apart(terms: &DraftTerms) -> Result<Self, DraftError> {
        Ok(Self {
            apart: Some(Apart::default()),
            ..Self::new(terms)?
        })
    }

    /// Adds the stacktrace at a place of that table, whose locations' ids take `size` bytes in a
    /// sample, for samples to come.
    ///
    /// # Errors
    /// The draft is full.
    pub(crate) fn stack_apart(
        &mut self,
        at: u32,
        (depth, size): (u32, u32),
    ) -> Result<Stack, DraftError> {
        if let Some(apart) = &mut self.apart {
            apart.deepest = apart.deepest.max(depth);
        }
        let stack = self.stack(&[u64::from(at)])?;
        Ok(Stack { size, ..stack })
    }

    /// Charges for a symbol elsewhere that the profile uses.
    ///
    /// # Errors
    /// The profile gets too large.
    pub(crate) fn symbol_apart(&mut self, size: u64) -> Result<(), DraftError> {
        self.charge(0, size)
    }

    /// Charges for a text elsewhere that the profile uses, and learns from it.
    ///
    /// # Errors
    /// The profile gets too large.
    pub(crate) fn text_apart(&mut self, text: &[u8], is_cut: bool) -> Result<(), DraftError> {
        if let Some(apart) = &mut self.apart {
            apart.n_cut += u64::from(is_cut);
        }
        self.learn_apart(text);
        self.charge(0, 2 + text.len() as u64)
    }

    /// Looks for what a text betrays of the profile.
    pub(crate) fn learn_apart(&mut self, text: &[u8]) {
        if let Some(apart) = &mut self.apart
            && apart.language.is_none()
        {
            apart.language = Language::of_string(text);
        }
    }

    /// Has `moved` say of the place of each of its stacktraces what became of that.
    pub(crate) fn move_stacks(&mut self, mut moved: impl FnMut(u32) -> u32) {
        if let Some(apart) = &mut self.apart {
            apart.is_moved = true;
        }
        let frames = &mut self.columns.frames;
        for at in 0..frames.len() {
            frames.set(at, moved(frames.get(at)));
        }
    }

    /// Whether its stacktraces have been moved, so that their table is not needed any more.
    pub fn is_moved(&self) -> bool {
        self.apart.is_some_and(|apart| apart.is_moved)
    }

    /// The names of its sample types.
    pub(crate) fn type_names(&self) -> impl Iterator<Item = &[u8]> {
        let types = self.columns.sample_types.iter();
        types.map(|kind| {
            let name = self.columns.string_in(&self.text, kind.kind);
            name.unwrap_or_default()
        })
    }

    /// What is known of its symbols, if they are elsewhere.
    pub(crate) const fn known_apart(&self) -> Option<Apart> {
        self.apart
    }
}
