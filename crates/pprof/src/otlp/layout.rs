//! Which generation of the message an export is in.
//!
//! All generations have the same service name, so nothing says it but the bytes. Up to 1.9 a
//! sample's values are field 2, its attributes 3 and its link 4; since 1.10 attributes are 2, the
//! link 3 and values 4. Lists are packed and so have a length, the link is a plain integer: a sample
//! with any of the fields 3 and 4 gives its layout away. Where none has, other marks of a generation
//! are looked for, and what field 2 holds is held against both readings.
//!
//! # Invariants
//! - The answer is never a guess: a reading is taken if the other one is impossible.

use super::dictionary::Dictionary;
use super::fields::{Fields, Malformed, Span, packed};

/// The field numbers of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// 1.8 and 1.9.
    Early,
    /// 1.10 and later.
    Current,
}

impl Layout {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Early => "1.8-1.9",
            Self::Current => "1.10+",
        }
    }

    pub(super) const fn attributes(self) -> u32 {
        match self {
            Self::Early => 3,
            Self::Current => 2,
        }
    }

    pub(super) const fn link(self) -> u32 {
        match self {
            Self::Early => 4,
            Self::Current => 3,
        }
    }

    pub(super) const fn values(self) -> u32 {
        match self {
            Self::Early => 2,
            Self::Current => 4,
        }
    }
}

/// Why the layout is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(
        "field {field} of {what} has wire type {wire}, as no version of OTLP profiles from 1.8 on writes it; update the sender to one that speaks 1.10"
    )]
    Unknown {
        what: &'static str,
        field: u32,
        wire: u8,
    },
    #[error(
        "field {field} of a sample belongs to version {one} of OTLP profiles, but other fields of the export to {other}; one export must be in one version"
    )]
    Contradiction {
        field: u32,
        one: &'static str,
        other: &'static str,
    },
    #[error(
        "nothing in the export tells whether field 2 of its samples holds their values, as up to version 1.9 of OTLP profiles, or their attributes, as since 1.10; update the sender to 1.10 and send values (field 4) with each sample"
    )]
    Undecidable,
}

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    found: Option<Layout>,
    /// Whether there was a sample with field 2.
    any: bool,
    not_values: bool,
    not_attributes: bool,
    seen: Vec<u64>,
}

const SAMPLE: &str = "a sample";
const PROFILE: &str = "a profile";

impl Evidence {
    /// Marks that only the later generations have were found outside of samples.
    pub(super) const fn strings_are_interned(&mut self) {
        self.found = Some(Layout::Current);
    }

    pub(super) const fn is_conclusive(&self) -> bool {
        self.found.is_some()
    }

    /// Looks at a profile until its layout is clear.
    pub(super) fn profile(
        &mut self,
        body: &[u8],
        profile: Span,
        dictionary: &Dictionary,
    ) -> Result<(), Unreadable> {
        let mut fields = Fields::of(body, profile, PROFILE);
        while let Some(tag) = fields.next()? {
            let unknown = Unreadable::Unknown {
                what: PROFILE,
                field: tag.number,
                wire: tag.wire,
            };
            match tag.number {
                2 if tag.is_packed() => {
                    let sample = fields.span(tag)?;
                    self.sample(body, sample, dictionary)?;
                    if self.is_conclusive() {
                        return Ok(());
                    }
                }
                // Up to 1.7: location_indices, and another message in field 2 before that.
                2 => return Err(unknown),
                3 if tag.is_packed() => return Err(unknown),
                // 1.8 had comments in front of the id, which moved by one with all behind it.
                8 if tag.is_packed() => return self.conclude(Layout::Early, tag.number),
                9 if tag.is_varint() => return self.conclude(Layout::Early, tag.number),
                12 => return self.conclude(Layout::Early, tag.number),
                _ => fields.skip(tag)?,
            }
        }
        Ok(())
    }

    fn sample(
        &mut self,
        body: &[u8],
        sample: Span,
        dictionary: &Dictionary,
    ) -> Result<(), Unreadable> {
        let mut fields = Fields::of(body, sample, SAMPLE);
        let mut second = None;
        let mut n_times = 0;
        while let Some(tag) = fields.next()? {
            match (tag.number, tag.is_packed(), tag.is_varint()) {
                (2, true, _) => second = Some(fields.span(tag)?),
                (3, true, _) | (4, _, true) => {
                    fields.skip(tag)?;
                    self.conclude(Layout::Early, tag.number)?;
                }
                (4, true, _) | (3, _, true) => {
                    fields.skip(tag)?;
                    self.conclude(Layout::Current, tag.number)?;
                }
                (5, true, _) => n_times += fields.span(tag)?.length / 8,
                (2..=4, ..) => {
                    return Err(Unreadable::Unknown {
                        what: SAMPLE,
                        field: tag.number,
                        wire: tag.wire,
                    });
                }
                _ => fields.skip(tag)?,
            }
        }
        match second {
            Some(second) if !self.is_conclusive() => self.weigh(body, second, n_times, dictionary),
            _ => Ok(()),
        }
    }

    fn conclude(&mut self, layout: Layout, field: u32) -> Result<(), Unreadable> {
        match self.found {
            Some(found) if found != layout => Err(Unreadable::Contradiction {
                field,
                one: layout.as_str(),
                other: found.as_str(),
            }),
            _ => {
                self.found = Some(layout);
                Ok(())
            }
        }
    }

    /// Holds field 2 against both readings: as values there is one for each timestamp; as
    /// attributes each is a different entry of the table, and timestamps stand for values.
    fn weigh(
        &mut self,
        body: &[u8],
        second: Span,
        n_times: u32,
        dictionary: &Dictionary,
    ) -> Result<(), Unreadable> {
        self.any = true;
        self.seen.clear();
        for number in packed(body, second, SAMPLE) {
            self.seen.push(number?);
        }
        if n_times != 0 && self.seen.len() != n_times as usize {
            self.not_values = true;
        }
        let n_attributes = dictionary.n_attributes() as u64;
        let n = self.seen.len();
        self.seen.sort_unstable();
        self.seen.dedup();
        let outside = |&number: &u64| number == 0 || number >= n_attributes;
        if n_times == 0 || self.seen.len() != n || self.seen.iter().any(outside) {
            self.not_attributes = true;
        }
        Ok(())
    }

    /// The layout, after all profiles have been looked at or one was conclusive.
    pub(super) const fn layout(&self) -> Result<Layout, Unreadable> {
        match (self.found, self.not_values, self.not_attributes) {
            (Some(layout), ..) => Ok(layout),
            // Without field 2 both read the same.
            (None, ..) if !self.any => Ok(Layout::Current),
            (None, false, true) => Ok(Layout::Early),
            (None, true, false) => Ok(Layout::Current),
            (None, ..) => Err(Unreadable::Undecidable),
        }
    }
}
