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

mod pass;

use std::sync::Arc;

use scoria_model::labels::names;
use scoria_model::part::{Function, Line, Location, NONE, Part};
use scoria_model::{DiscardReason, Limits, Packed, RetryKey, Timestamp};

pub(crate) use pass::Overflow;
use pass::{Pass, Source};

use crate::checks::{self, Rules};
use crate::cut_stacks::Roots;
use crate::draft::{Apart, Draft};
use crate::groups::{Groups, Terms};
use crate::language::Language;
use crate::merge::Entries;
use crate::otlp::Export;
use crate::policy::{Keep, WithoutDelta};
use crate::raw::{Columns, RawProfile};
use crate::rejection::LabelText;
use crate::room::make_room;
use crate::series::SeriesLabels;
use crate::source::Note;
use crate::tables::{Joined, Repairs, Stacks, Tables};
use crate::{Dropped, Policy, Rejection, cumulative, cut_stacks, golang, name, sample_types};

/// Scratch above this size is given back after the profile that needed it. Profiles of a service
/// stay far below; what a larger one costs dwarfs what its memory costs.
const KEPT_BYTES: usize = 1024 * 1024;
/// What the labels of series add to a profile's strings, mostly.
const LABEL_BYTES: usize = 4096;
const LABEL_TEXTS: usize = 128;
/// Columns above this size are not left with the room that they grew into.
const SHRUNK_BYTES: usize = 256 * 1024;

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

/// An upload that was not refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalised {
    /// Without profiles if nothing was left, which [`Dropped`] then counts as an empty profile.
    pub part: Part,
    pub told: Told,
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
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
    scratch: Scratch,
    /// An emptied part, for its memory.
    spare: Part,
}

/// What is needed beside the part and what finds its content.
#[derive(Debug)]
struct Scratch {
    groups: Groups,
    entries: Entries,
    /// The frames of one stacktrace.
    stack: Vec<u32>,
    policy: Arc<Policy>,
    seed: u64,
}

/// Where a profile goes, and where its symbols and stacktraces come from.
enum Target<'t> {
    /// Into a part of its own, from itself.
    Own(&'t mut Part, &'t mut Tables),
    /// Into one that it shares, from what it shares too.
    Joined(&'t mut Joined, Option<&'t dyn Stacks>, Apart),
}

impl Normaliser {
    /// `seed` is secret to the process, so that no sender can provoke hash collisions.
    pub fn new(seed: u64) -> Self {
        Self {
            columns: Columns::default(),
            tables: Tables::new(seed),
            scratch: Scratch {
                groups: Groups::new(seed),
                entries: Entries::new(seed),
                stack: Vec::new(),
                policy: Arc::default(),
                seed,
            },
            spare: Part::default(),
        }
    }

    /// From now on uploads are treated by this policy.
    pub fn set_policy(&mut self, policy: &Arc<Policy>) {
        self.scratch.policy = Arc::clone(policy);
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
        let normalised = self.run_alone(&mut raw, &about, limits);
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
        debug_assert!(draft.known_apart().is_none(), "its symbols are elsewhere");
        let mut raw = draft.raw();
        if raw.columns.held_bytes() > SHRUNK_BYTES {
            raw.columns.shrink();
        }
        let normalised = self.run_alone(&mut raw, about, limits);
        self.give_back();
        normalised
    }

    /// As [`normalise_draft`](Self::normalise_draft), of a draft that was converted from `export`,
    /// into a part that the export's profiles share. If nothing was left of it there are no rows
    /// more than before, and no write. Once its stacktraces have been
    /// [moved](Joined::move_stacks) the export is not needed.
    ///
    /// # Errors
    /// As [`normalise`](Self::normalise).
    pub fn normalise_into(
        &mut self,
        joined: &mut Joined,
        (draft, export): (Draft, Option<&Export<'_>>),
        about: &About<'_>,
        limits: &Limits,
    ) -> Result<Told, Rejection> {
        let stacks = export.map(|export| export as &dyn Stacks);
        self.normalise_from(joined, (draft, stacks), about, limits)
    }

    pub(crate) fn normalise_from(
        &mut self,
        joined: &mut Joined,
        (mut draft, stacks): (Draft, Option<&dyn Stacks>),
        about: &About<'_>,
        limits: &Limits,
    ) -> Result<Told, Rejection> {
        if let (false, Some(stacks)) = (draft.is_moved(), stacks) {
            move_stacks(joined, &mut draft, stacks, (about.labels, limits));
        }
        debug_assert!(
            draft.is_moved() || stacks.is_some(),
            "its stacktraces are nowhere"
        );
        let apart = draft.known_apart().unwrap_or_default();
        let mut raw = draft.raw();
        let before = joined.part().rows();
        let target = Target::Joined(joined, stacks, apart);
        let told = self.scratch.run(&mut raw, about, limits, target);
        if told.is_err() {
            joined.take_back(&before);
        }
        self.give_back();
        told
    }

    fn run_alone(
        &mut self,
        raw: &mut RawProfile<'_>,
        about: &About<'_>,
        limits: &Limits,
    ) -> Result<Normalised, Rejection> {
        let mut part = std::mem::take(&mut self.spare);
        let target = Target::Own(&mut part, &mut self.tables);
        let told = self.scratch.run(raw, about, limits, target)?;
        Ok(Normalised { part, told })
    }

    /// One huge profile should not occupy its size for ever.
    fn give_back(&mut self) {
        if self.columns.held_bytes() > KEPT_BYTES {
            self.columns = Columns::default();
        }
        let Scratch {
            groups,
            entries,
            stack,
            seed,
            ..
        } = &mut self.scratch;
        let scratch = groups.held_bytes() + entries.held_bytes() + stack.capacity() * 4;
        if self.tables.held_bytes() + scratch > KEPT_BYTES {
            self.tables = Tables::new(*seed);
            *groups = Groups::new(*seed);
            *entries = Entries::new(*seed);
            *stack = Vec::new();
        }
    }
}

impl Scratch {
    fn run(
        &mut self,
        raw: &mut RawProfile<'_>,
        upload: &About<'_>,
        limits: &Limits,
        target: Target<'_>,
    ) -> Result<Told, Rejection> {
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
        let language = language_of(raw, upload, &target);
        let (part, tables, source) = prepare(raw, (upload, language), target, &mut dropped);
        let roots = self.roots(raw, (language, source));
        make_all_room(part, raw, (source, roots.as_ref()));
        let before = part.rows();
        let mut pass = Pass {
            raw,
            terms: Terms {
                base: &base,
                limits,
                policy: &policy,
            },
            kinds: &kinds,
            before,
            part,
            dropped: &mut dropped,
            tables,
            source,
            roots,
            stack: &mut self.stack,
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
        let Pass { part, groups, .. } = pass;
        let refused = groups.take_refused();
        if part.profiles.len() == before.profiles {
            part.truncate_rows(&before);
            if let [first, ..] = &refused[..] {
                return Err(first.rejection.clone());
            }
            dropped.add(DiscardReason::EmptyProfile, 1);
        } else {
            part.end_write(upload.key);
        }
        Ok(Told {
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

    /// What the stacktraces of a Go profile lost, if any did.
    fn roots(
        &self,
        raw: &RawProfile<'_>,
        (language, source): (Language, Source<'_>),
    ) -> Option<Roots> {
        let apart = match (language, source) {
            (Language::Go, Source::Own) => None,
            (Language::Go, Source::Locations(from)) => Some(from),
            _ => return None,
        };
        Roots::learn(raw, apart, self.seed)
    }
}

/// Makes ready what moves a profile's symbols, and repairs them on the way.
fn prepare<'t>(
    raw: &mut RawProfile<'_>,
    (upload, language): (&About<'_>, Language),
    target: Target<'t>,
    dropped: &mut Dropped,
) -> (&'t mut Part, &'t mut Tables, Source<'t>) {
    match target {
        Target::Own(part, tables) => {
            let is_go = language == Language::Go;
            let note = Note::of(upload.labels);
            let short_names = is_go && golang::may_have_type_parameters(raw.bytes());
            let repairs = Repairs { short_names, note };
            tables.start(raw, repairs);
            (part, tables, Source::Own)
        }
        Target::Joined(joined, stacks, apart) => {
            dropped.add(DiscardReason::SymbolTruncated, apart.n_cut);
            let (false, Some(stacks)) = (apart.is_moved, stacks) else {
                let (part, tables) = joined.open();
                return (part, tables, Source::Moved);
            };
            let expand = |at: u32, frames: &mut Vec<u32>| stacks.frames(at as usize, frames);
            raw.columns.expand_frames(expand);
            let repairs = repairs_of(stacks, language, upload.labels);
            let (part, tables) = joined.begin(stacks, repairs);
            (part, tables, Source::Locations(stacks))
        }
    }
}

/// What is done to symbols of a profile that it shares.
fn repairs_of(stacks: &dyn Stacks, language: Language, labels: &[(&str, &str)]) -> Repairs {
    Repairs {
        short_names: language == Language::Go && stacks.may_have_type_parameters(),
        note: Note::of(labels),
    }
}

impl Joined {
    /// Moves the stacktraces of a draft that was converted from `export`, and the symbols that they
    /// use, unless they need a repair that looks at all of them: then
    /// [`is_moved`](Draft::is_moved) stays false, and they are moved when it is normalised.
    pub fn move_stacks(
        &mut self,
        draft: &mut Draft,
        export: &Export<'_>,
        of: (&[(&str, &str)], &Limits),
    ) {
        move_stacks(self, draft, export, of);
    }
}

fn move_stacks(
    joined: &mut Joined,
    draft: &mut Draft,
    stacks: &dyn Stacks,
    (labels, limits): (&[(&str, &str)], &Limits),
) {
    let apart = draft.known_apart().unwrap_or_default();
    let language = language_of_labels(labels).or(apart.language);
    let language = language.unwrap_or(Language::Unknown);
    if language == Language::Go && cut_stacks::may_be_cut(draft.type_names(), apart.deepest) {
        return;
    }
    let (part, tables) = joined.begin(stacks, repairs_of(stacks, language, labels));
    let depth = depth_of(limits);
    draft.move_stacks(|at| tables.stack_at(part, (stacks, at), depth).0);
}

/// How many frames of a stacktrace are kept.
fn depth_of(limits: &Limits) -> usize {
    match limits.max_profile_stacktrace_depth {
        0 => usize::MAX,
        depth => usize::try_from(depth).unwrap_or(usize::MAX),
    }
}

/// Most of what was sent is used, and growing into it would take twice the room.
fn make_all_room(
    part: &mut Part,
    raw: &RawProfile<'_>,
    (source, roots): (Source<'_>, Option<&Roots>),
) {
    let columns = &raw.columns;
    let n_frames = columns.frames.len() + roots.map_or(0, Roots::n_frames);
    match (source, roots) {
        (Source::Own, _) => {}
        // Nothing is there that would have to move.
        (Source::Locations(_), Some(_)) if part.frames.is_empty() => {
            let width = part.frames.width();
            part.frames = Packed::default();
            return part.frames.reserve_wide(n_frames, width);
        }
        // Other profiles have frames there, and those to come will.
        (Source::Locations(_), Some(_)) => return make_room(&mut part.frames, n_frames),
        (Source::Locations(_) | Source::Moved, _) => return,
    }
    let (locations, functions) = (&columns.locations, &columns.functions);
    let text = columns.string_bytes() + LABEL_BYTES;
    let n_texts = raw.n_strings() + LABEL_TEXTS;
    part.strings.bytes.reserve(text);
    part.strings.ends.reserve(n_texts);
    part.functions.reserve_up_to(functions.len(), || Function {
        name: n_texts as u32,
        system_name: n_texts as u32,
        filename: n_texts as u32,
        start_line: functions.line_extent(),
    });
    let (n, n_lines) = (locations.len(), locations.n_lines());
    part.locations.reserve_up_to(n, || Location {
        mapping: match columns.mappings.len() {
            0 => NONE,
            n => n as u32,
        },
        // With its lines known, an address is left out.
        address: if n_lines < n {
            locations.address_extent()
        } else {
            0
        },
        lines_end: n_lines as u32,
    });
    part.lines.reserve_up_to(n_lines, || Line {
        function: functions.len() as u32,
        line: locations.line_extent(),
    });
    part.stack_ends
        .reserve_up_to(columns.n_stacks(), n_frames as u32);
    part.frames.reserve_up_to(n_frames, n as u32);
}

fn language_of(raw: &RawProfile<'_>, upload: &About<'_>, target: &Target<'_>) -> Language {
    let spy = match &upload.origin {
        Origin::Ingest(ingest) => Language::of_spy(ingest.spy),
        Origin::Push => None,
    };
    spy.or_else(|| language_of_labels(upload.labels))
        .unwrap_or_else(|| match target {
            Target::Joined(.., apart) => apart.language.unwrap_or(Language::Unknown),
            Target::Own(..) => {
                let strings = 0..raw.n_strings() as u32;
                Language::of_strings(strings.map(|at| raw.text(at)))
            }
        })
}

/// The language of the profiler that labels name.
fn language_of_labels(labels: &[(&str, &str)]) -> Option<Language> {
    let label = |name: &str| {
        let pair = labels.iter().find(|pair| pair.0 == name)?;
        Language::of_spy(pair.1)
    };
    label(names::SPY).or_else(|| label("spy_name"))
}
