//! From one upload to one part: decode, check, repair, drop, promote, split, merge.
//!
//! ```text
//! sample ─► negative, zero? ─► labels ─► series   ┐
//!        └► stacktrace ─────────────────► stack   ├─► entry (series, stack, span, trace), values added
//!                      span and trace ids ────────┘            └─► a profile per (series, sample type)
//! ```
//!
//! # Invariants
//! - A label group that is refused takes its own samples with it and no others.
//! - Adding up values is checked; what does not fit in 64 bits makes the profile malformed.
//! - The seed changes no result, only how hard it is to provoke collisions.

use std::sync::Arc;

use scoria_model::labels::names;
use scoria_model::part::{Part, ProfileRow};
use scoria_model::{DiscardReason, Limits, RetryKey, Timestamp};

use crate::checks::{self, Rules};
use crate::draft::Draft;
use crate::groups::{Groups, Terms};
use crate::language::Language;
use crate::merge::Entries;
use crate::policy::{Keep, WithoutDelta};
use crate::raw::{Columns, Ids, RawProfile};
use crate::rejection::LabelText;
use crate::series::SeriesLabels;
use crate::tables::Tables;
use crate::{
    Dropped, Policy, Rejection, cumulative, cut_stacks, golang, name, sample_types, source,
};

/// Scratch above this size is given back after the profile that needed it. Profiles of a service
/// stay far below; what a larger one costs dwarfs what its memory costs.
const KEPT_BYTES: usize = 1024 * 1024;
/// What the labels of series add to a profile's strings, mostly.
const LABEL_BYTES: usize = 4096;
const LABEL_TEXTS: usize = 128;
/// Columns above this size are not left with the room that they grew into.
const SHRUNK_BYTES: usize = 1024 * 1024;

/// One profile as it was uploaded, decompressed.
#[derive(Debug, Clone, Copy)]
pub struct Upload<'a> {
    /// Plain pprof bytes: what [`crate::Decompressor`] returned.
    pub pprof: &'a [u8],
    /// As the client sent them, in any order, repetitions included.
    pub labels: &'a [(&'a str, &'a str)],
    pub origin: Origin<'a>,
    /// By which a resend will be recognised.
    pub key: RetryKey,
    pub now: Timestamp,
}

/// What is known of a profile beside its content.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// As the client sent them, in any order, repetitions included.
    pub labels: &'a [(&'a str, &'a str)],
    pub origin: Origin<'a>,
    /// By which a resend will be recognised.
    pub key: RetryKey,
    pub now: Timestamp,
}

/// Which door the upload came through.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// The labels carry `__name__`.
    Push,
    /// The name is chosen from the sample types, and the repairs for known profilers apply.
    Ingest(Ingest<'a>),
}

/// What the legacy endpoint knows beside the labels.
#[derive(Debug, Clone, Copy)]
pub struct Ingest<'a> {
    /// `spyName`; empty if not given.
    pub spy: &'a str,
    /// Stands in for a profile's missing time.
    pub from: Timestamp,
    /// Every key of the sample type configuration with its display name, which may be empty;
    /// `None` if there was no configuration.
    pub display_names: Option<&'a [(&'a str, &'a str)]>,
}

/// A refused label group, or several refused for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The first one.
    pub rejection: Rejection,
    pub groups: u64,
    pub samples: u64,
}

/// Numbers about an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    pub decompressed_bytes: u64,
    /// Samples in the upload.
    pub samples: u64,
    /// Distinct (series, stacktrace, span, trace) that remain of them.
    pub entries: u64,
    pub language: Language,
}

/// What became of an upload that was not refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalised {
    /// Without profiles if nothing was left, which [`Dropped`] then counts as an empty profile.
    pub part: Part,
    /// At most one per reason.
    pub refused: Vec<Refusal>,
    pub dropped: Dropped,
    pub stats: Stats,
}

/// Normalises uploads, one after the other, in memory that it keeps.
#[derive(Debug)]
pub struct Normaliser {
    columns: Columns,
    tables: Tables,
    groups: Groups,
    entries: Entries,
    policy: Arc<Policy>,
    /// An emptied part, for its memory.
    spare: Part,
    seed: u64,
}

impl Normaliser {
    /// `seed` is secret to the process, so that no sender can provoke hash collisions.
    pub fn new(seed: u64) -> Self {
        Self {
            columns: Columns::default(),
            tables: Tables::new(seed),
            groups: Groups::new(seed),
            entries: Entries::new(seed),
            policy: Arc::default(),
            spare: Part::default(),
            seed,
        }
    }

    /// From now on uploads are treated by this policy.
    pub fn set_policy(&mut self, policy: &Arc<Policy>) {
        self.policy = Arc::clone(policy);
    }

    /// Takes a part back whose content is no longer needed, so that the next one needs no memory of
    /// its own.
    pub fn take_back(&mut self, mut part: Part) {
        if part.held_bytes() <= KEPT_BYTES {
            part.clear();
            self.spare = part;
        }
    }

    /// Decodes, checks and normalises one upload.
    ///
    /// # Errors
    /// The profile as a whole is refused, or each of its label groups is; the reason and message
    /// are for the sender.
    pub fn normalise(
        &mut self,
        upload: &Upload<'_>,
        limits: &Limits,
    ) -> Result<Normalised, Rejection> {
        let labels = LabelText(upload.labels);
        let columns = std::mem::take(&mut self.columns);
        let mut raw = RawProfile::decode_into(upload.pprof, columns)
            .map_err(|e| Rejection::malformed(&labels, e))?;
        if raw.columns.held_bytes() > SHRUNK_BYTES {
            raw.columns.shrink();
        }
        let about = About {
            labels: upload.labels,
            origin: upload.origin,
            key: upload.key,
            now: upload.now,
        };
        let normalised = self.run(&mut raw, &about, limits);
        self.columns = raw.columns;
        self.give_back();
        normalised
    }

    /// Checks and normalises one profile that was not uploaded as pprof.
    ///
    /// # Errors
    /// As [`normalise`](Self::normalise).
    pub fn normalise_draft(
        &mut self,
        mut draft: Draft,
        about: &About<'_>,
        limits: &Limits,
    ) -> Result<Normalised, Rejection> {
        let mut raw = draft.raw();
        if raw.columns.held_bytes() > SHRUNK_BYTES {
            raw.columns.shrink();
        }
        let normalised = self.run(&mut raw, about, limits);
        self.give_back();
        normalised
    }

    fn run(
        &mut self,
        raw: &mut RawProfile<'_>,
        upload: &About<'_>,
        limits: &Limits,
    ) -> Result<Normalised, Rejection> {
        let rules = Rules {
            limits,
            now: upload.now,
            labels: LabelText(upload.labels),
        };
        let mut dropped = Dropped::default();
        let mut base = SeriesLabels::of_upload(upload.labels);
        checks::check_sample_types(raw, &rules)?;
        if let Origin::Ingest(ingest) = &upload.origin {
            base.set(names::NAME, name::prepare(raw, ingest, &rules.labels)?);
        }
        base.reduce_session(limits.max_sessions_per_series);
        checks::check(raw, &rules, &mut dropped)?;
        let policy = Arc::clone(&self.policy);
        base.check_count(limits, &policy)?;
        let is_pushed = matches!(upload.origin, Origin::Push);
        if is_pushed && policy.without_delta == WithoutDelta::Cumulative {
            cumulative::mark(raw, &mut base);
        }
        if policy.keep == Keep::Totals {
            base.set(names::SAMPLED, "true".to_owned());
        }
        let kinds = sample_types::select(raw, &policy, &base, &mut dropped);
        let language = language_of(raw, upload);
        if language == Language::Go {
            golang::drop_type_parameters(raw);
            cut_stacks::reattach_roots(raw, self.seed);
        }
        source::note_source(raw, upload.labels);
        let mut part = std::mem::take(&mut self.spare);
        let mut pass = Pass {
            raw,
            terms: Terms {
                base: &base,
                limits,
                policy: &policy,
            },
            kinds: &kinds,
            part: &mut part,
            dropped: &mut dropped,
            tables: &mut self.tables,
            groups: &mut self.groups,
            entries: &mut self.entries,
        };
        pass.run().map_err(|Overflow| {
            Rejection::malformed(&rules.labels, "the values of a stacktrace overflow 64 bits")
        })?;
        let n_samples = pass.raw.columns.samples.len() as u64;
        if pass.raw.columns.held_bytes() > SHRUNK_BYTES {
            // All of it is in the part and the entries now.
            pass.raw.columns.release_samples();
        }
        pass.profiles();
        part.end_write(upload.key);
        let refused = self.groups.take_refused();
        if part.profiles.is_empty() {
            if let [first, ..] = &refused[..] {
                return Err(first.rejection.clone());
            }
            dropped.add(DiscardReason::EmptyProfile, 1);
        }
        Ok(Normalised {
            part,
            refused,
            dropped,
            stats: Stats {
                decompressed_bytes: raw.size(),
                samples: n_samples,
                entries: self.entries.len() as u64,
                language,
            },
        })
    }

    /// One huge profile should not occupy its size for ever.
    fn give_back(&mut self) {
        if self.columns.held_bytes() > KEPT_BYTES {
            self.columns = Columns::default();
        }
        let scratch =
            self.tables.held_bytes() + self.groups.held_bytes() + self.entries.held_bytes();
        if scratch > KEPT_BYTES {
            self.tables = Tables::new(self.seed);
            self.groups = Groups::new(self.seed);
            self.entries = Entries::new(self.seed);
        }
    }
}

fn language_of(raw: &RawProfile<'_>, upload: &About<'_>) -> Language {
    let label = |name: &str| {
        let pair = upload.labels.iter().find(|pair| pair.0 == name)?;
        Language::of_spy(pair.1)
    };
    let spy = match &upload.origin {
        Origin::Ingest(ingest) => Language::of_spy(ingest.spy),
        Origin::Push => None,
    };
    spy.or_else(|| label(names::SPY))
        .or_else(|| label("spy_name"))
        .unwrap_or_else(|| {
            let strings = 0..raw.n_strings() as u32;
            Language::of_strings(strings.map(|at| raw.text(at)))
        })
}

/// Values that no longer fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow;

/// Everything that one pass over the samples needs.
struct Pass<'p, 'a> {
    raw: &'p mut RawProfile<'a>,
    terms: Terms<'p>,
    /// The sample types that are kept.
    kinds: &'p [usize],
    part: &'p mut Part,
    dropped: &'p mut Dropped,
    tables: &'p mut Tables,
    groups: &'p mut Groups,
    entries: &'p mut Entries,
}

impl Pass<'_, '_> {
    /// Goes over the samples, once more if their labels would make too many series.
    fn run(&mut self) -> Result<(), Overflow> {
        let before = self.dropped.clone();
        self.groups.start();
        self.start();
        self.samples()?;
        if self
            .groups
            .narrow(self.raw, self.terms.policy, self.terms.limits)
        {
            self.groups.start_again();
            *self.dropped = before;
            self.part.clear();
            self.start();
            self.samples()?;
        }
        Ok(())
    }

    fn start(&mut self) {
        let columns = &self.raw.columns;
        self.tables.start(columns, self.raw.n_strings());
        self.entries
            .start(columns.sample_types.len(), columns.samples.len());
        // Most of what was sent is used, and growing into it would take twice the room.
        let part = &mut *self.part;
        part.frames.reserve(columns.frames.len());
        part.stack_ends.reserve(columns.n_stacks());
        part.strings
            .bytes
            .reserve(columns.string_bytes() + LABEL_BYTES);
        part.strings
            .ends
            .reserve(self.raw.n_strings() + LABEL_TEXTS);
        part.functions.reserve(columns.functions.len());
        part.location_mapping.reserve(columns.locations.len());
        part.location_address.reserve(columns.locations.len());
        part.location_lines_end.reserve(columns.locations.len());
        part.lines.reserve(columns.lines.len());
    }

    fn samples(&mut self) -> Result<(), Overflow> {
        let depth = match self.terms.limits.max_profile_stacktrace_depth {
            0 => usize::MAX,
            depth => usize::try_from(depth).unwrap_or(usize::MAX),
        };
        for at in 0..self.raw.columns.samples.len() {
            let sample = self.raw.sample(at);
            let values = &self.raw.columns.values[sample.values()];
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
            self.sample(at, depth)?;
            if self.groups.start_anew(self.terms.limits) {
                break;
            }
        }
        Ok(())
    }

    fn sample(&mut self, at: usize, depth: usize) -> Result<(), Overflow> {
        let sample = self.raw.sample(at);
        let frames = match self.terms.policy.keep {
            Keep::Whole => &self.raw.columns.frames[sample.frames()],
            Keep::Totals => &[],
        };
        // Leaf first: what is beyond the depth is cut at the front.
        let cut = frames.len().saturating_sub(depth);
        let Ok(stack) = self.tables.stack(self.part, self.raw, &frames[cut..]) else {
            self.dropped.add(DiscardReason::BrokenReference, 1);
            return Ok(());
        };
        let mut ids = self.raw.ids(at);
        let labels = &self.raw.columns.labels[sample.labels()];
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
        if cut > 0 {
            self.dropped.add(DiscardReason::DepthTruncated, 1);
        }
        let values = &self.raw.columns.values[sample.values()];
        self.entries.add((series, stack, ids), values)
    }

    /// Writes a profile for each series and sample type, with the samples that have a value of it.
    fn profiles(&mut self) {
        let columns = &self.raw.columns;
        let period = &columns.period_type;
        let period =
            [period.kind, period.unit].map(|at| self.tables.string(self.part, self.raw, at));
        self.entries.sort();
        let n_samples = self.entries.len() * self.kinds.len();
        self.part.sample_stack.reserve(n_samples);
        self.part.sample_value.reserve(n_samples);
        let has_spans = self.entries.has_spans();
        let has_traces = self.entries.has_traces();
        if has_spans {
            self.part.sample_span.reserve(n_samples);
        }
        if has_traces {
            self.part.sample_trace.reserve(n_samples);
        }
        let mut kinds = Kinds::default();
        for run in self.entries.by_series() {
            let series = run.series;
            let first_kind = kinds.of(self.part, self.groups.name(series), |part, name| {
                for &kind in self.kinds {
                    let kind = &columns.sample_types[kind];
                    let sample =
                        [kind.kind, kind.unit].map(|at| self.tables.string(part, self.raw, at));
                    part.types
                        .push([name, sample[0], sample[1], period[0], period[1]]);
                }
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

/// The types of the profile under each name that its series have; nearly always one name.
#[derive(Debug, Default)]
struct Kinds {
    /// (string index of `__name__`, index of the first type)
    known: Vec<(u32, u32)>,
}

impl Kinds {
    fn of(&mut self, part: &mut Part, name: u32, push: impl FnOnce(&mut Part, u32)) -> u32 {
        if let Some(&(_, first)) = self.known.iter().find(|(known, _)| *known == name) {
            return first;
        }
        let first = part.types.len() as u32;
        push(part, name);
        self.known.push((name, first));
        first
    }
}
