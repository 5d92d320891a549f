//! OTLP profiles: an `ExportProfilesServiceRequest`, in any of its three generations or as JSON,
//! into drafts.
//!
//! ```text
//! JSON ──json::transcode──► protobuf of 1.10 ─┐
//! protobuf of 1.8, 1.9, 1.10 ─────────────────┴─► Export::read ─► tables, layout, profiles
//!                                                      │
//!                                    Converter::profile└─► (labels, Draft), one for each service
//! ```
//!
//! All generations share a service name and a path, so what an export is must be found out from its
//! bytes ([`layout`]). The dictionary is read once ([`dictionary`]). Drafts hold samples alone:
//! symbols go from the dictionary into the part that the profiles share, each entry once an export
//! ([`symbols`]).
//!
//! # Invariants
//! - Nothing that a client sends makes these modules panic, loop or take memory that was not taken
//!   from the budget first.
//! - An export is read in one layout, which is proven by the export itself, or refused: never read
//!   as something else.
//! - Every index is checked where it is followed; a profile that uses a bad one is refused alone.
//! - Decoding is deterministic: the same bytes give the same drafts in the same order.
//!
//! # What it must not know
//! Routes, status codes and tenants.

mod attributes;
mod convert;
mod dictionary;
mod distinct;
pub mod encode;
mod entries;
mod fields;
pub mod json;
mod kind;
mod layout;
mod origin;
mod samples;
mod symbols;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use scoria_model::budget::BudgetExceeded;
use scoria_model::{ByteBudget, Permit};

pub use convert::{Converted, Converter, Refused};
pub use fields::Malformed;
pub use layout::{Layout, Unreadable};
pub use origin::ServiceSource;

use crate::Room;
use attributes::Strings;
use dictionary::Dictionary;
use fields::{Fields, Span};
use layout::Evidence;
use origin::{Origin, Place};
use samples::Samples;

const EXPORT: &str = "the export";
/// A dictionary comes in one piece; a few are merged as protobuf has it.
const DICTIONARY_PIECES_MAX: usize = 16;
/// Places are 32 bits wide.
const BYTES_MAX: usize = u32::MAX as usize;

/// Why an export as a whole cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    #[error("the body is no export of OTLP profiles: {0}")]
    Malformed(#[from] Malformed),
    #[error("the body is no export of OTLP profiles in JSON: {0}")]
    Json(#[from] json::JsonError),
    #[error("the layout of the export cannot be made out: {problem} ({producer})")]
    Unreadable {
        problem: Unreadable,
        /// The scope and service that it was found at.
        producer: String,
    },
    #[error("the export has no resource_profiles (field 1)")]
    NoResources,
    #[error(
        "the export has no dictionary (field 2), which versions of OTLP profiles from 1.8 on need ({producer})"
    )]
    NoDictionary { producer: String },
    #[error("the export is {actual} bytes long; more than {limit} cannot be read")]
    TooLong { actual: usize, limit: usize },
    #[error("{0}; {remedy}", remedy = .0.remedy())]
    Memory(#[from] BudgetExceeded),
}

/// An export, read as far as its profiles share it.
#[derive(Debug)]
pub struct Export<'a> {
    body: &'a [u8],
    dictionary: Dictionary,
    has_dictionary: bool,
    layout: Layout,
    profiles: Vec<Place>,
    /// 0 for no limit.
    max_symbol_bytes: u64,
    /// Whether there can be names with type parameters of Go's compiler.
    type_parameters: OnceLock<bool>,
    permit: Permit,
}

impl<'a> Export<'a> {
    /// Reads an export's protobuf.
    ///
    /// # Errors
    /// It is no such message, its layout cannot be made out, or there is no memory for it.
    pub fn read(body: &'a [u8], memory: &ByteBudget) -> Result<Self, ExportError> {
        let mut export = Self::read_as(body, Layout::Current, memory)?;
        export.layout = export.find_layout()?;
        export.check_dictionary()?;
        Ok(export)
    }

    /// Reads what [`json::transcode`] wrote, whose layout is known.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_transcoded(body: &'a [u8], memory: &ByteBudget) -> Result<Self, ExportError> {
        let export = Self::read_as(body, Layout::Current, memory)?;
        export.check_dictionary()?;
        Ok(export)
    }

    fn read_as(body: &'a [u8], layout: Layout, memory: &ByteBudget) -> Result<Self, ExportError> {
        if body.len() > BYTES_MAX {
            return Err(ExportError::TooLong {
                actual: body.len(),
                limit: BYTES_MAX,
            });
        }
        let pieces = dictionary_pieces(body)?;
        let mut n_profiles = 0;
        let n_resources = origin::profiles(body, |_| {
            n_profiles += 1;
            Ok::<_, Malformed>(())
        })?;
        if n_resources == 0 {
            return Err(ExportError::NoResources);
        }
        let permit = memory.try_acquire((n_profiles * size_of::<Place>()) as u64)?;
        let mut profiles = Vec::with_capacity(n_profiles);
        origin::profiles(body, |place| {
            profiles.push(place);
            Ok::<_, Malformed>(())
        })?;
        let dictionary = Dictionary::read(body, &pieces, memory)?;
        Ok(Self {
            body,
            dictionary,
            has_dictionary: !pieces.is_empty(),
            layout,
            profiles,
            max_symbol_bytes: 0,
            type_parameters: OnceLock::new(),
            permit,
        })
    }

    /// From now on symbols of more bytes lose their front; 0 means that none do.
    pub const fn cut_symbols(&mut self, max_bytes: u64) {
        self.max_symbol_bytes = max_bytes;
    }

    fn check_dictionary(&self) -> Result<(), ExportError> {
        match self.profiles.first() {
            Some(place) if !self.has_dictionary => Err(ExportError::NoDictionary {
                producer: self.producer(*place),
            }),
            _ => Ok(()),
        }
    }

    /// How many profiles it holds.
    pub const fn n_profiles(&self) -> usize {
        self.profiles.len()
    }

    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Bytes that profile `at` takes in the body, without what it uses of the dictionary.
    pub fn profile_bytes(&self, at: usize) -> u64 {
        let place = self.profiles.get(at);
        place.map_or(0, |place| u64::from(place.profile.length))
    }

    /// Locations of its dictionary whose frame type (`profile.frame.type`) is left out.
    pub const fn n_frame_types(&self) -> u64 {
        self.dictionary.n_frame_types
    }

    /// Of the symbols and stacktraces in its dictionary: its profiles do not need more together.
    pub fn room(&self) -> Room {
        let tables = &self.dictionary;
        let texts = tables.texts_of_symbols(self.body);
        let stacks = tables.stacks.iter();
        let profiles = self.profiles.iter();
        // Of the others nothing is stored.
        let with_samples =
            profiles.filter(|place| Samples::of(self.body, place.profile).next().is_some());
        Room {
            profiles: with_samples.count(),
            text: texts.clone().map(|text| text.length as usize).sum(),
            strings: texts.count(),
            functions: tables.functions.len(),
            locations: tables.locations.len(),
            stacks: tables.stacks.len(),
            frames: stacks.map(|s| n_frames(s.of(self.body))).sum(),
            frame_max: tables.locations.len() as u32,
            ..Room::default()
        }
    }

    /// Bytes taken from the budget.
    pub fn permitted_bytes(&self) -> u64 {
        self.permit.bytes() + self.dictionary.permitted_bytes()
    }

    fn strings(&self) -> Strings<'_> {
        Strings {
            body: self.body,
            places: &self.dictionary.strings,
        }
    }

    fn find_layout(&self) -> Result<Layout, ExportError> {
        let mut evidence = Evidence::default();
        if self.dictionary.interned || self.first_is_interned() {
            evidence.strings_are_interned();
        }
        let mut last = Place::default();
        for &place in &self.profiles {
            if evidence.is_conclusive() {
                break;
            }
            last = place;
            evidence
                .profile(self.body, place.profile, &self.dictionary)
                .map_err(|problem| self.unreadable(problem, place))?;
        }
        evidence
            .layout()
            .map_err(|problem| self.unreadable(problem, last))
    }

    /// Whether the first resource has an attribute whose text is an index; a sender that does it
    /// does it everywhere.
    fn first_is_interned(&self) -> bool {
        let mut interned = false;
        if let Some(place) = self.profiles.first() {
            // What is wrong with the attributes is told where they are used.
            drop(Origin::read(self.strings(), *place, &mut interned));
        }
        interned
    }

    fn unreadable(&self, problem: Unreadable, place: Place) -> ExportError {
        let producer = self.producer(place);
        ExportError::Unreadable { problem, producer }
    }

    fn producer(&self, place: Place) -> String {
        match Origin::read(self.strings(), place, &mut false) {
            Ok(origin) => origin.describe(),
            Err(error) => format!("a scope that cannot be read: {error}"),
        }
    }
}

/// At most: each location of a packed list ends with a byte without the upper bit, and so do the
/// field's tag and length in front.
fn n_frames(stack: &[u8]) -> usize {
    let ends = stack.iter().filter(|&&byte| byte < 0x80).count();
    ends.saturating_sub(2)
}

/// Where the dictionary stands.
fn dictionary_pieces(body: &[u8]) -> Result<Vec<Span>, Malformed> {
    let mut pieces = Vec::new();
    let mut fields = Fields::of(body, Span::whole(body), EXPORT);
    while let Some(tag) = fields.next()? {
        if tag.number != 2 {
            fields.skip(tag)?;
            continue;
        }
        if pieces.len() == DICTIONARY_PIECES_MAX {
            return Err(Malformed::Bytes {
                what: "the dictionary",
                problem: "it is in too many pieces",
            });
        }
        pieces.push(fields.span(tag)?);
    }
    Ok(pieces)
}
