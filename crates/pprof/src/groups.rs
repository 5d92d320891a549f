//! Label groups: which series a sample belongs to, found once per distinct set of sample labels.
//!
//! # Invariants
//! - Labels that name a span or a trace stay with the sample; numeric ones are dropped and counted;
//!   every other non-empty text label is promoted.
//! - Groups whose final labels are equal are one series.
//! - A label that the policy or a limit keeps out is as if the sample had never had it, but for
//!   being counted.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet, HashTable};
use scoria_model::labels::names;
use scoria_model::part::Part;
use scoria_model::{DiscardReason, Limits};

use crate::normalise::Refusal;
use crate::raw::{Ids, NUMBER, RawLabel, RawProfile};
use crate::room::make_room;
use crate::series::{Finished, SeriesLabels, hex};
use crate::tables::Tables;
use crate::{Dropped, Policy, Rejection, narrow};

/// What a group turned out to be.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Series(u32),
    /// Index into the refusals.
    Refused(usize),
    /// By a rule.
    Dropped,
}

/// A group that has been looked at.
#[derive(Debug, Clone, Copy)]
struct Known {
    outcome: Outcome,
    /// Labels of each of its samples that found no room in the series.
    demoted: u64,
}

/// What decides about a group beside its own labels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// The labels of the upload.
    pub(crate) base: &'a SeriesLabels<'a>,
    pub(crate) limits: &'a Limits,
    pub(crate) policy: &'a Policy,
}

/// Scratch of one profile after the other.
#[derive(Debug)]
pub(crate) struct Groups {
    hash: FixedState,
    /// The labels that the sample at hand has promoted, as (key, text) of the raw profile.
    current: Vec<(u32, u32)>,
    known: HashMap<Box<[(u32, u32)]>, Known, FixedState>,
    /// Of samples without promoted labels, which are nearly all.
    plain: Option<Known>,
    /// Keys that have been looked up: whether they are promoted.
    promoted: HashMap<u32, bool, FixedState>,
    /// Names that made too many series of this profile.
    widest: HashSet<Box<[u8]>, FixedState>,
    series: HashTable<u32>,
    /// Series that the part has of profiles before.
    n_before: usize,
    /// String index of `__name__` of each series of this one.
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
            promoted: HashMap::with_hasher(hash.clone()),
            widest: HashSet::with_hasher(hash.clone()),
            series: HashTable::new(),
            n_before: 0,
            series_names: Vec::new(),
            refused: Vec::new(),
            hash,
        }
    }

    /// Begins with another profile, of a part that has so many series.
    pub(crate) fn start(&mut self, n_series: usize) {
        self.n_before = n_series;
        self.widest.clear();
        self.start_again();
    }

    /// Begins anew with the same profile.
    pub(crate) fn start_again(&mut self) {
        self.known.clear();
        self.promoted.clear();
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
        self.series_names[series as usize - self.n_before]
    }

    /// Sorts the labels of a sample: ids into `ids`, where those that there are stay, the rest into
    /// the group that is returned.
    pub(crate) fn read<'g, 'r, 'a>(
        &'g mut self,
        raw: &'r RawProfile<'a>,
        labels: impl Iterator<Item = RawLabel>,
        (policy, ids, dropped): (&Policy, &mut Ids, &mut Dropped),
    ) -> Group<'g, 'r, 'a> {
        self.current.clear();
        let given = *ids;
        let mut profile_id = 0;
        for label in labels {
            let text = raw.text(label.text);
            if text.is_empty() {
                if label.text == NUMBER {
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
            } else if self.promotes(policy, (label.key, key)) {
                self.current.push((label.key, label.text));
            } else {
                dropped.add(DiscardReason::LabelDemoted, 1);
            }
        }
        if ids.span == 0 {
            ids.span = profile_id;
        }
        if given.span != 0 {
            ids.span = given.span;
        }
        if given.trace != Ids::NONE.trace {
            ids.trace = given.trace;
        }
        Group { groups: self, raw }
    }

    fn promotes(&mut self, policy: &Policy, (at, name): (u32, &[u8])) -> bool {
        if policy.promotion.takes_all() && self.widest.is_empty() {
            return true;
        }
        let widest = &self.widest;
        *self
            .promoted
            .entry(at)
            .or_insert_with(|| policy_promotes(policy, name) && !widest.contains(name))
    }

    /// Whether the profile must start again without some labels, as there are more groups than
    /// allowed: then nothing is gained by going on.
    pub(crate) fn start_anew(&self, limits: &Limits) -> bool {
        let n = self.known.len() as u64;
        self.widest.is_empty() && Limits::exceeded(n, limits.max_promoted_series_per_profile)
    }

    /// If the profile must start again: chooses the labels to leave out. Whether it did.
    pub(crate) fn narrow(
        &mut self,
        raw: &RawProfile<'_>,
        policy: &Policy,
        limits: &Limits,
    ) -> bool {
        if !self.start_anew(limits) {
            return false;
        }
        let promotes = |name: &[u8]| !is_id(name) && policy_promotes(policy, name);
        let most = limits.max_promoted_series_per_profile;
        let names = narrow::names_to_leave_out(raw, promotes, most, &self.hash);
        self.widest = names.into_iter().map(Box::from).collect();
        true
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
            make_room(&mut part.series_labels, 1);
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
        make_room(&mut part.series_ends, 1);
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
        terms: &Terms<'_>,
        into: (&mut Part, &mut Tables),
        dropped: &mut Dropped,
    ) -> Option<u32> {
        let known = if self.groups.current.is_empty() {
            self.groups.plain
        } else {
            self.groups.known.get(&self.groups.current[..]).copied()
        };
        let known = known.unwrap_or_else(|| self.resolve(terms, into));
        match known.outcome {
            Outcome::Series(series) => {
                if known.demoted > 0 {
                    dropped.add(DiscardReason::LabelDemoted, known.demoted);
                }
                Some(series)
            }
            Outcome::Refused(at) => {
                self.groups.refused[at].samples += 1;
                None
            }
            Outcome::Dropped => {
                dropped.add(DiscardReason::DroppedByRelabelRules, 1);
                None
            }
        }
    }

    fn resolve(&mut self, terms: &Terms<'_>, into: (&mut Part, &mut Tables)) -> Known {
        let raw = self.raw;
        let text = |at: u32| std::str::from_utf8(raw.text(at)).unwrap_or_default();
        let mut labels = terms.base.clone();
        let current = self.groups.current.iter();
        let mut promoted: Vec<(&str, &str)> = current
            .map(|&(key, value)| (text(key), text(value)))
            .collect();
        let demoted = labels.promote(&mut promoted, terms.limits);
        let outcome = match labels.finish(terms.limits, terms.policy) {
            Ok(Finished::Series(pairs)) => Outcome::Series(self.groups.add_series(into, &pairs)),
            Ok(Finished::Dropped) => Outcome::Dropped,
            Err(rejection) => self.groups.refuse(rejection),
        };
        let known = Known { outcome, demoted };
        if self.groups.current.is_empty() {
            self.groups.plain = Some(known);
        } else {
            let key = self.groups.current.as_slice().into();
            self.groups.known.insert(key, known);
        }
        known
    }
}

fn policy_promotes(policy: &Policy, name: &[u8]) -> bool {
    let text = std::str::from_utf8(name).unwrap_or_default();
    policy.promotion.takes(text)
}

/// Whether labels of this name stay with their sample.
fn is_id(name: &[u8]) -> bool {
    let ids = [names::SPAN_ID, names::PROFILE_ID, names::TRACE_ID];
    ids.iter().any(|id| id.as_bytes() == name)
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

/// What entry `at` of a column of ends covers.
fn span(ends: &[u32], at: u32) -> std::ops::Range<usize> {
    let start = match at.checked_sub(1) {
        Some(before) => ends[before as usize] as usize,
        None => 0,
    };
    start..ends[at as usize] as usize
}
