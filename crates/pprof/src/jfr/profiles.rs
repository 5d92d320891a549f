//! From what a recording adds up to, to profiles: one draft after the other, so that only one is in
//! memory.
//!
//! # Invariants
//! - The values of a kind's profiles add up to what was sampled of it. A kind has several profiles
//!   if one would be beyond the limits of a profile: what is limited is the recording.
//! - The labels of a context and the ids of a span are labels of the samples; the normaliser splits
//!   by them.
//!
//! # What it must not know
//! Bytes of recordings.

use super::error::JfrError;
use super::kinds::{Kind, Shape, Values};
use super::recording::{Recording, Tag};
use super::rows::Row;
use super::snapshot::Snapshot;
use crate::draft::{Draft, DraftFunction, DraftMapping, DraftTerms};
use crate::raw::RawLine;
use scoria_model::labels::names;
use scoria_model::part::mapping_flags;

const NS_PER_SECOND: i64 = 1_000_000_000;
const SPAN_NAME: &str = "span_name";

/// What the sender says about a recording.
#[derive(Debug, Clone, Copy)]
pub struct Conversion<'a> {
    /// Start, in nanoseconds since the epoch.
    pub time_ns: i64,
    pub duration_ns: i64,
    /// Samples a second of the processor's time and the wall clock. 0: their values are 0.
    pub sample_rate: u32,
    pub snapshot: &'a Snapshot<'a>,
    /// Most samples of one profile; 0 means no limit.
    pub max_samples: u64,
}

impl Conversion<'_> {
    /// Nanoseconds for which one sample stands; 0 without a rate, else at least one.
    fn period(&self) -> i64 {
        match i64::from(self.sample_rate) {
            0 => 0,
            rate => (NS_PER_SECOND / rate).max(1),
        }
    }
}

/// One of the profiles of a recording.
#[derive(Debug)]
pub struct JfrProfile {
    /// `__name__`.
    pub name: &'static str,
    pub draft: Draft,
}

/// Makes the profiles of a recording.
#[derive(Debug)]
pub struct JfrProfiles<'r> {
    recording: &'r Recording,
    conversion: Conversion<'r>,
    terms: DraftTerms,
    /// How large a draft may be when it takes another sample.
    full_bytes: u64,
    /// Kinds that are done, and rows that are done of the next.
    kinds_done: usize,
    rows_done: usize,
}

impl Recording {
    /// The recording's profiles, each made when it is asked for. The terms hold for one draft.
    pub fn profiles<'r>(
        &'r self,
        conversion: Conversion<'r>,
        terms: DraftTerms,
    ) -> JfrProfiles<'r> {
        // Beyond the limit a draft is of no use, so it is full well before.
        let full_bytes = match terms.max_bytes {
            0 => u64::MAX,
            bytes => bytes / 4 * 3,
        };
        JfrProfiles {
            recording: self,
            conversion,
            terms: DraftTerms {
                max_bytes: 0,
                ..terms
            },
            full_bytes,
            kinds_done: 0,
            rows_done: 0,
        }
    }
}

impl JfrProfiles<'_> {
    /// The next profile, if there is one more.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn next_profile(&mut self) -> Result<Option<JfrProfile>, JfrError> {
        while let Some(&kind) = Kind::ALL.get(self.kinds_done) {
            let rows = self.recording.totals.rows[kind as usize].as_slice();
            let rows = &rows[self.rows_done..];
            if rows.is_empty() {
                self.kinds_done += 1;
                self.rows_done = 0;
                continue;
            }
            let shape = kind.shape();
            let mut filler = Filler::new(self, shape)?;
            let n = filler.fill(rows, self.full_bytes)?;
            let draft = filler.draft;
            self.rows_done += n;
            let name = shape.name;
            return Ok(Some(JfrProfile { name, draft }));
        }
        Ok(None)
    }
}

/// Fills one draft.
struct Filler<'p, 'r> {
    recording: &'r Recording,
    conversion: &'p Conversion<'r>,
    shape: Shape,
    period: i64,
    draft: Draft,
    mapping: u64,
    /// Ids in the draft by number in the recording, 0 where there is none yet.
    functions: Vec<u64>,
    locations: Vec<u64>,
}

impl<'p, 'r> Filler<'p, 'r> {
    fn new(profiles: &'p JfrProfiles<'r>, shape: Shape) -> Result<Self, JfrError> {
        let conversion = &profiles.conversion;
        let mut draft = Draft::new(&profiles.terms)?;
        let period = match shape.values {
            Values::Time => conversion.period(),
            Values::Count | Values::CountAndSum => 0,
        };
        draft.set_types(shape.types)?;
        draft.set_period(shape.period.0, shape.period.1, period)?;
        draft.set_times(conversion.time_ns, conversion.duration_ns);
        let mapping = draft.mapping(DraftMapping {
            flags: mapping_flags::HAS_FUNCTIONS,
            ..DraftMapping::default()
        })?;
        let frames = &profiles.recording.totals.frames;
        Ok(Self {
            recording: profiles.recording,
            conversion,
            shape,
            period,
            draft,
            mapping,
            functions: vec![0; frames.n_names()],
            locations: vec![0; frames.n_frames()],
        })
    }

    /// Adds rows until the draft is full; how many it took.
    fn fill(&mut self, rows: &[Row], full_bytes: u64) -> Result<usize, JfrError> {
        let max_samples = match self.conversion.max_samples {
            0 => usize::MAX,
            n => usize::try_from(n).unwrap_or(usize::MAX),
        };
        let mut labels = (None, Vec::new());
        for (at, row) in rows.iter().enumerate() {
            if at >= max_samples || (at > 0 && self.draft.size() >= full_bytes) {
                return Ok(at);
            }
            self.row(row, &mut labels)?;
        }
        Ok(rows.len())
    }

    fn row(
        &mut self,
        row: &Row,
        labels: &mut (Option<u32>, Vec<(u32, u32)>),
    ) -> Result<(), JfrError> {
        let totals = &self.recording.totals;
        if labels.0 != Some(row.tag) {
            let tag = totals.tags[row.tag as usize];
            *labels = (Some(row.tag), self.labels(tag)?);
        }
        let stack = totals.frames.stack(row.stack);
        self.recording.allowance.step(stack.len() as u64, 0)?;
        let mut locations = Vec::with_capacity(stack.len());
        for &frame in stack {
            locations.push(self.location(frame)?);
        }
        let amount = row.amount;
        let values = match self.shape.values {
            Values::Time => {
                let time = amount.count.checked_mul(self.period);
                [time.ok_or(JfrError::Overflow)?, 0]
            }
            Values::Count | Values::CountAndSum => [amount.count, amount.sum],
        };
        let values = &values[..self.shape.types.len()];
        Ok(self.draft.push_sample(&locations, values, &labels.1)?)
    }

    fn labels(&mut self, tag: Tag) -> Result<Vec<(u32, u32)>, JfrError> {
        let snapshot = self.conversion.snapshot;
        let mut labels = Vec::new();
        // An event outside of any context or span says 0, whatever the snapshot has under it.
        let context = match tag.context {
            0 => Vec::new(),
            context => snapshot.labels(context)?,
        };
        for (name, value) in context {
            let name = self.draft.bytes_string(name)?;
            labels.push((name, self.draft.bytes_string(value)?));
        }
        if tag.span != 0 {
            let name = self.draft.string(names::PROFILE_ID)?;
            let id = format!("{:016x}", tag.span);
            labels.push((name, self.draft.string(&id)?));
        }
        let span_name = (tag.span_name != 0).then(|| snapshot.text(tag.span_name));
        if let Some(span_name) = span_name.flatten() {
            let name = self.draft.string(SPAN_NAME)?;
            labels.push((name, self.draft.bytes_string(span_name)?));
        }
        Ok(labels)
    }

    fn location(&mut self, number: u32) -> Result<u64, JfrError> {
        let known = self.locations[number as usize];
        if known != 0 {
            return Ok(known);
        }
        let frames = &self.recording.totals.frames;
        let frame = frames.frame(number);
        let mut function = self.functions[frame.name as usize];
        if function == 0 {
            let name = self.draft.bytes_string(frames.name(frame.name))?;
            function = self.draft.function(DraftFunction {
                name,
                system_name: name,
                ..DraftFunction::default()
            })?;
            self.functions[frame.name as usize] = function;
        }
        let line = RawLine {
            function,
            line: i64::from(frame.line),
        };
        let location = self.draft.location(self.mapping, 0, &[line])?;
        self.locations[number as usize] = location;
        Ok(location)
    }
}
