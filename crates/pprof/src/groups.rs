//! Label groups: which series a sample belongs to, found once per distinct set of sample labels.
//!
//! # Invariants
//! - Labels that name a span or a trace stay with the sample; numeric ones are dropped and counted;
//!   every other non-empty text label is promoted.
//! - Groups whose final labels are equal are one series.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use scoria_model::labels::names;
use scoria_model::part::Part;
use scoria_model::{DiscardReason, Limits};

use crate::merge::Ids;
use crate::normalise::Refusal;
use crate::raw::{RawLabel, RawProfile};
use crate::series::{SeriesLabels, hex};
use crate::tables::{Tables, span};
use crate::{Dropped, Rejection};

/// What a group turned out to be.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Series(u32),
    /// Index into the refusals.
    Refused(usize),
}

/// Scratch of one profile after the other.
#[derive(Debug)]
pub(crate) struct Groups {
    hash: FixedState,
    /// The labels that the sample at hand has promoted, as (key, text) of the raw profile.
    current: Vec<(u32, u32)>,
    known: HashMap<Box<[(u32, u32)]>, Outcome, FixedState>,
    /// Of samples without promoted labels, which are nearly all.
    plain: Option<Outcome>,
    series: HashTable<u32>,
    /// String index of `__name__` of each series.
    series_names: Vec<u32>,
    refused: Vec<Refusal>,
}

/// The group of one sample.
#[derive(Debug)]
pub(crate) struct Group<'g, 'r, 'a> {
    groups: &'g mut Groups,
    raw: &'r RawProfile<'a>,
}

impl Groups {
    pub(crate) fn new(seed: u64) -> Self {
        let hash = FixedState::with_seed(seed);
        Self {
            current: Vec::new(),
            known: HashMap::with_hasher(hash.clone()),
            plain: None,
            series: HashTable::new(),
            series_names: Vec::new(),
            refused: Vec::new(),
            hash,
        }
    }

    pub(crate) fn start(&mut self) {
        self.known.clear();
        self.plain = None;
        self.series.clear();
        self.series_names.clear();
        self.refused.clear();
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.known.capacity() * 48 + self.series.capacity() * 5
    }

    pub(crate) fn take_refused(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.refused)
    }

    /// String index of the `__name__` of a series.
    pub(crate) fn name(&self, series: u32) -> u32 {
        self.series_names[series as usize]
    }

    /// Sorts the labels of a sample: ids into `ids`, the rest into the group that is returned.
    pub(crate) fn read<'g, 'r, 'a>(
        &'g mut self,
        raw: &'r RawProfile<'a>,
        labels: &[RawLabel],
        ids: &mut Ids,
        dropped: &mut Dropped,
    ) -> Group<'g, 'r, 'a> {
        self.current.clear();
        let mut profile_id = 0;
        for label in labels {
            let text = raw.text(label.text);
            if text.is_empty() {
                if label.number != 0 || label.unit != 0 {
                    dropped.add(DiscardReason::NumericLabel, 1);
                }
                continue;
            }
            let key = raw.text(label.key);
            if key == names::SPAN_ID.as_bytes() {
                ids.span = span_id(text, dropped);
            } else if key == names::PROFILE_ID.as_bytes() {
                profile_id = span_id(text, dropped);
            } else if key == names::TRACE_ID.as_bytes() {
                ids.trace = hex(text).unwrap_or_else(|| malformed(dropped));
            } else {
                self.current.push((label.key, label.text));
            }
        }
        if ids.span == 0 {
            ids.span = profile_id;
        }
        Group { groups: self, raw }
    }

    fn refuse(&mut self, rejection: Rejection) -> Outcome {
        let same = |known: &Refusal| known.rejection.reason == rejection.reason;
        let at = match self.refused.iter().position(same) {
            Some(at) => at,
            None => {
                self.refused.push(Refusal {
                    rejection,
                    groups: 0,
                    samples: 0,
                });
                self.refused.len() - 1
            }
        };
        self.refused[at].groups += 1;
        Outcome::Refused(at)
    }

    fn add_series(
        &mut self,
        (part, tables): (&mut Part, &mut Tables),
        pairs: &[(impl AsRef<str>, impl AsRef<str>)],
    ) -> u32 {
        let start = part.series_labels.len();
        let mut series_name = 0;
        for (name, value) in pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            let row = (tables.text(part, name), tables.text(part, value));
            if name == names::NAME {
                series_name = row.1;
            }
            part.series_labels.push(row);
        }
        let (rows, ends) = (&part.series_labels, &part.series_ends);
        let hash = self.hash.hash_one(&rows[start..]);
        let same = |&series: &u32| rows[span(ends, series)] == rows[start..];
        if let Some(&known) = self.series.find(hash, same) {
            part.series_labels.truncate(start);
            return known;
        }
        let series = ends.len() as u32;
        part.series_ends.push(part.series_labels.len() as u32);
        self.series_names.push(series_name);
        let (rows, ends, state) = (&part.series_labels, &part.series_ends, &self.hash);
        self.series.insert_unique(hash, series, |&series| {
            state.hash_one(&rows[span(ends, series)])
        });
        series
    }
}

impl Group<'_, '_, '_> {
    /// The series that the sample belongs to; `None` if its group is refused, which is counted.
    pub(crate) fn series(
        &mut self,
        base: &SeriesLabels<'_>,
        limits: &Limits,
        into: (&mut Part, &mut Tables),
    ) -> Option<u32> {
        let known = if self.groups.current.is_empty() {
            self.groups.plain
        } else {
            self.groups.known.get(&self.groups.current[..]).copied()
        };
        let outcome = known.unwrap_or_else(|| self.resolve(base, limits, into));
        match outcome {
            Outcome::Series(series) => Some(series),
            Outcome::Refused(at) => {
                self.groups.refused[at].samples += 1;
                None
            }
        }
    }

    fn resolve(
        &mut self,
        base: &SeriesLabels<'_>,
        limits: &Limits,
        into: (&mut Part, &mut Tables),
    ) -> Outcome {
        let raw = self.raw;
        let text = |at: u32| std::str::from_utf8(raw.text(at)).unwrap_or_default();
        let mut labels = base.clone();
        for &(key, value) in &self.groups.current {
            labels.promote(text(key), text(value));
        }
        let outcome = match labels.finish(limits) {
            Ok(pairs) => Outcome::Series(self.groups.add_series(into, &pairs)),
            Err(rejection) => self.groups.refuse(rejection),
        };
        if self.groups.current.is_empty() {
            self.groups.plain = Some(outcome);
        } else {
            let key = self.groups.current.as_slice().into();
            self.groups.known.insert(key, outcome);
        }
        outcome
    }
}

/// 16 hexadecimal digits, the lowest byte first; 0 if they are not.
fn span_id(text: &[u8], dropped: &mut Dropped) -> u64 {
    match hex::<8>(text) {
        Some(bytes) => u64::from_le_bytes(bytes),
        None => malformed(dropped),
    }
}

fn malformed<T: Default>(dropped: &mut Dropped) -> T {
    dropped.add(DiscardReason::MalformedSpanId, 1);
    T::default()
}
