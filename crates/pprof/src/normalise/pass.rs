//! One pass over the samples of a profile: from labels to series, from frames to a stacktrace of the
//! part, and values added up; then the rows.
//!
//! # Invariants
//! - Samples whose labels would make too many series are gone over twice, never more.

use scoria_model::part::{Part, ProfileRow, RowCounts};
use scoria_model::{DiscardReason, Timestamp};

use super::{depth_of, make_all_room};
use crate::Dropped;
use crate::cut_stacks::Roots;
use crate::groups::{Groups, Terms};
use crate::merge::Entries;
use crate::policy::Keep;
use crate::raw::{Ids, RawProfile, Sample};
use crate::room::{make_room, make_room_up_to};
use crate::tables::{BrokenReference, Moved, Stacks, Tables};

/// Types of the profiles before that are looked at for those of this one, which are nearly always
/// the same.
const TYPES_SEEN: usize = 32;

/// Values that no longer fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow;

/// What a sample's frames are.
#[derive(Clone, Copy)]
pub(super) enum Source<'s> {
    /// Frames of locations of the profile itself.
    Own,
    /// Frames of locations of these tables.
    Locations(&'s dyn Stacks),
    /// One, which is what became of the stacktrace: a [`Moved`].
    Moved,
}

/// Everything that one pass over the samples needs.
pub(super) struct Pass<'p, 'a> {
    pub(super) raw: &'p mut RawProfile<'a>,
    pub(super) terms: Terms<'p>,
    /// The sample types that are kept.
    pub(super) kinds: &'p [usize],
    /// What the part held without the profile.
    pub(super) before: RowCounts,
    pub(super) part: &'p mut Part,
    pub(super) dropped: &'p mut Dropped,
    pub(super) tables: &'p mut Tables,
    pub(super) source: Source<'p>,
    /// Of stacktraces that Go's runtime cut.
    pub(super) roots: Option<Roots>,
    /// The frames of the stacktrace at hand.
    pub(super) stack: &'p mut Vec<u32>,
    pub(super) groups: &'p mut Groups,
    pub(super) entries: &'p mut Entries,
}

impl Pass<'_, '_> {
    /// Goes over the samples, once more if their labels would make too many series.
    pub(super) fn run(&mut self) -> Result<(), Overflow> {
        let before = self.dropped.clone();
        self.groups.start(self.before.series);
        self.start();
        self.samples()?;
        if self
            .groups
            .narrow(self.raw, self.terms.policy, self.terms.limits)
        {
            self.groups.start_again();
            *self.dropped = before;
            self.forget();
            self.start();
            self.samples()?;
        }
        Ok(())
    }

    /// Takes out of the part what the first pass has put there.
    fn forget(&mut self) {
        match self.source {
            Source::Own => {
                self.part.clear();
                self.tables.start_again(self.raw);
                make_all_room(self.part, self.raw, (self.source, self.roots.as_ref()));
            }
            // Others may have found theirs among the symbols meanwhile.
            Source::Locations(_) | Source::Moved => self.part.truncate_rows(&self.before),
        }
    }

    fn start(&mut self) {
        let columns = &self.raw.columns;
        self.entries.start(
            columns.samples.len(),
            (columns.sample_types.len(), columns.values.width()),
        );
    }

    fn samples(&mut self) -> Result<(), Overflow> {
        let depth = depth_of(self.terms.limits);
        for at in 0..self.raw.columns.samples.len() {
            let sample = self.raw.sample(at);
            let values = self.raw.columns.values.slice(sample.values());
            // The sign bit of either shows in the union of all.
            let union = values.iter().fold(0, |union, value| union | value);
            if union < 0 {
                self.dropped.add(DiscardReason::NegativeValue, 1);
                continue;
            }
            if union == 0 {
                self.dropped.add(DiscardReason::ZeroValue, 1);
                continue;
            }
            self.sample((at, sample), depth)?;
            if self.groups.start_anew(self.terms.limits) {
                break;
            }
        }
        Ok(())
    }

    fn sample(&mut self, (at, sample): (usize, Sample), depth: usize) -> Result<(), Overflow> {
        let Ok((stack, is_cut)) = self.stack((at, sample), depth) else {
            self.dropped.add(DiscardReason::BrokenReference, 1);
            return Ok(());
        };
        let mut ids = self.raw.ids(at);
        let labels = self.raw.columns.labels.slice(sample.labels());
        let policy = self.terms.policy;
        let ways = (policy, &mut ids, &mut *self.dropped);
        let mut group = self.groups.read(self.raw, labels, ways);
        let into = (&mut *self.part, &mut *self.tables);
        let Some(series) = group.series(&self.terms, into, self.dropped) else {
            return Ok(());
        };
        if policy.keep == Keep::Totals {
            ids = Ids::default();
        }
        if is_cut {
            self.dropped.add(DiscardReason::DepthTruncated, 1);
        }
        let values = self.raw.columns.values.slice(sample.values());
        self.entries.add((series, stack, ids), values)
    }

    /// The stacktrace of sample `at` in the part, and whether it is deeper than that.
    #[inline]
    fn stack(
        &mut self,
        (at, sample): (usize, Sample),
        depth: usize,
    ) -> Result<(u32, bool), BrokenReference> {
        if self.terms.policy.keep == Keep::Totals {
            return Ok((self.tables.empty_stack(self.part), false));
        }
        let frames = self.raw.columns.frames.slice(sample.frames());
        let apart = match self.source {
            Source::Moved => {
                let moved = frames.iter().next().ok_or(BrokenReference)?;
                return Moved(moved).stack();
            }
            Source::Locations(from) => Some(from),
            Source::Own => None,
        };
        // Leaf first: what is beyond the depth is cut at the front, before it is copied and, as a
        // root comes behind, after.
        let mut cut = frames.len().saturating_sub(depth);
        frames.skip(cut).copy_to(self.stack);
        if let Some(roots) = self.roots.as_ref().filter(|roots| roots.has(at)) {
            roots.add_to(self.stack, self.raw, at);
            let beyond = self.stack.len().saturating_sub(depth);
            self.stack.drain(..beyond);
            cut += beyond;
        }
        let stack = match apart {
            Some(from) => self.tables.stack(self.part, from, self.stack),
            None => self.tables.stack(self.part, &*self.raw, self.stack),
        };
        Ok((stack?, cut > 0))
    }

    /// Writes a profile for each series and sample type, with the samples that have a value of it.
    pub(super) fn profiles(&mut self) {
        self.roots = None;
        let columns = &self.raw.columns;
        let period = columns.period_type;
        let period = [period.kind, period.unit].map(|at| self.raw.text(at));
        let period = period.map(|text| self.tables.bytes_text(self.part, text));
        self.entries.sort();
        let n_samples = self.entries.len() * self.kinds.len();
        let (n_stacks, value_max) = (self.part.stack_ends.len(), self.entries.value_max());
        let part = &mut *self.part;
        make_room_up_to(&mut part.sample_stack, n_samples, n_stacks as u32);
        make_room_up_to(&mut part.sample_value, n_samples, value_max);
        let has_spans = even(
            &mut self.part.sample_span,
            self.before.samples,
            (self.entries.has_spans(), n_samples),
        );
        let has_traces = even(
            &mut self.part.sample_trace,
            self.before.samples,
            (self.entries.has_traces(), n_samples),
        );
        let mut kinds = Kinds::default();
        for run in self.entries.by_series() {
            let series = run.series;
            let first_kind = kinds.of(self.part, self.groups.name(series), |part, name| {
                let kinds = self.kinds.iter().map(|&kind| columns.sample_types[kind]);
                let mut rows = Vec::with_capacity(self.kinds.len());
                for kind in kinds {
                    let sample = [kind.kind, kind.unit].map(|at| self.raw.text(at));
                    let sample = sample.map(|text| self.tables.bytes_text(part, text));
                    rows.push([name, sample[0], sample[1], period[0], period[1]]);
                }
                rows
            });
            for (at, &kind) in self.kinds.iter().enumerate() {
                for entry in run.entries {
                    let value = self.entries.value(*entry, kind);
                    if value == 0 {
                        continue;
                    }
                    let (stack, ids) = self.entries.key(*entry);
                    self.part.sample_stack.push(stack);
                    self.part.sample_value.push(value);
                    if has_spans {
                        self.part.sample_span.push(ids.span);
                    }
                    if has_traces {
                        self.part.sample_trace.push(ids.trace);
                    }
                }
                make_room(&mut self.part.profiles, 1);
                self.part.profiles.push(ProfileRow {
                    series,
                    kind: first_kind + at as u32,
                    time: Timestamp(columns.time_ns),
                    duration_ns: columns.duration_ns.max(0),
                    period: columns.period,
                    samples_end: self.part.sample_stack.len() as u32,
                });
            }
        }
    }
}

/// Makes a column of ids ready for `n` samples more than the `before` that there are, if any of all
/// has one. Whether one has.
fn even<T: Clone + Default>(column: &mut Vec<T>, before: usize, (has, n): (bool, usize)) -> bool {
    let is_kept = has || !column.is_empty();
    if is_kept {
        make_room(column, before + n - column.len());
        column.resize(before, T::default());
    }
    is_kept
}

/// The types of the profile under each name that its series have; nearly always one name.
#[derive(Debug, Default)]
struct Kinds {
    /// (string index of `__name__`, index of the first type)
    known: Vec<(u32, u32)>,
}

impl Kinds {
    fn of(
        &mut self,
        part: &mut Part,
        name: u32,
        rows: impl FnOnce(&mut Part, u32) -> Vec<[u32; 5]>,
    ) -> u32 {
        if let Some(&(_, first)) = self.known.iter().find(|(known, _)| *known == name) {
            return first;
        }
        let rows = rows(part, name);
        let start = part.types.len().saturating_sub(TYPES_SEEN);
        let seen = part.types[start..].windows(rows.len().max(1));
        let place = seen.into_iter().position(|known| *known == rows[..]);
        let first = match place {
            Some(place) => start + place,
            None => {
                let new = part.types.len();
                part.types.extend(rows);
                new
            }
        };
        self.known.push((name, first as u32));
        first as u32
    }
}
