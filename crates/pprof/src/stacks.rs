//! Counted stacks: what the text and tree formats come down to, on their way into a [`Draft`].
//!
//! # Invariants
//! - What adding the stacks of one body costs is bounded by [`WORK_FACTOR`] times the body: formats
//!   in which a node repeats its ancestors could else make much work out of few bytes.
//! - A stack that comes twice has its counts added.
//!
//! # What it must not know
//! How stacks are written down, and what the counts mean beyond [`Measure`].

use scoria_model::varint::VarintError;

use crate::draft::{Draft, DraftError, DraftTerms};

/// Bytes looked at for each byte of the body.
const WORK_FACTOR: u64 = 64;
/// Small bodies may take this much in any case.
const WORK_MIN: u64 = 1024 * 1024;

/// What the counts of a format without sample types mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure<'a> {
    pub kind: &'a str,
    pub unit: &'a str,
    /// Type and unit of the period; both empty if there is none.
    pub period_type: (&'a str, &'a str),
    pub period: i64,
    /// By which each count is multiplied.
    pub factor: i64,
}

/// Why a body is not stacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StackError {
    #[error(transparent)]
    Draft(#[from] DraftError),
    #[error("line {line}: {problem}")]
    Line { line: u64, problem: String },
    #[error(
        "none of the {lines} lines has the form \"frame;frame;frame count\"; if this is another format, say so with format=pprof, jfr, lines, trie, tree or speedscope"
    )]
    NoStacks { lines: u64 },
    #[error("node {node}: {error}")]
    Node { node: u64, error: VarintError },
    #[error("node {node}: its {what} of {actual} is over {limit}")]
    NodeLimit {
        node: u64,
        what: &'static str,
        actual: u64,
        limit: u64,
    },
    #[error("the body ends inside the tree: {missing} nodes are missing")]
    MissingNodes { missing: u64 },
    #[error("{left} bytes follow the end of the tree")]
    TrailingBytes { left: usize },
    #[error(
        "its nodes repeat so much of their ancestors that reading it takes {factor} times its size and more",
        factor = WORK_FACTOR
    )]
    Work,
}

/// A profile of one sample type that is built from stacks.
#[derive(Debug)]
pub struct Stacks {
    draft: Draft,
    factor: i64,
    /// Location ids of the stack at hand, leaf first.
    frames: Vec<u64>,
    work_left: u64,
}

impl Stacks {
    /// For a body of `body_bytes`, of counts that mean `measure`, that starts at `time_ns`.
    ///
    /// # Errors
    /// The memory share is used up.
    pub fn new(
        terms: &DraftTerms,
        measure: &Measure<'_>,
        time_ns: i64,
        body_bytes: u64,
    ) -> Result<Self, DraftError> {
        let mut draft = Draft::new(terms)?;
        draft.set_types(&[(measure.kind, measure.unit)])?;
        let (kind, unit) = measure.period_type;
        draft.set_period(kind, unit, measure.period)?;
        draft.set_times(time_ns, 0);
        Ok(Self {
            draft,
            factor: measure.factor,
            frames: Vec::new(),
            work_left: body_bytes.saturating_mul(WORK_FACTOR).max(WORK_MIN),
        })
    }

    /// The profile.
    pub fn finish(self) -> Draft {
        self.draft
    }

    /// Adds a stack written as its frames from root to leaf with `;` between them. The empty text
    /// is the stack without frames.
    pub(crate) fn add_text(&mut self, stack: &[u8], count: u64) -> Result<(), StackError> {
        self.spend(stack.len())?;
        self.frames.clear();
        if !stack.is_empty() {
            for name in stack.rsplit(|&byte| byte == b';') {
                self.frames.push(self.draft.frame(name)?);
            }
        }
        let value = scaled(count, self.factor)?;
        Ok(self.draft.add_sample(&self.frames, &[value], &[])?)
    }

    /// Adds a stack of frames from [`frame`](Self::frame), root first.
    pub(crate) fn add_frames(&mut self, stack: &[u64], count: u64) -> Result<(), StackError> {
        let value = scaled(count, self.factor)?;
        self.add_value(stack, value)
    }

    /// As [`add_frames`](Self::add_frames) with a value that is not scaled.
    pub(crate) fn add_value(&mut self, stack: &[u64], value: i64) -> Result<(), StackError> {
        self.spend(stack.len())?;
        self.frames.clear();
        self.frames.extend(stack.iter().rev());
        Ok(self.draft.add_sample(&self.frames, &[value], &[])?)
    }

    pub(crate) fn frame(&mut self, name: &[u8]) -> Result<u64, StackError> {
        self.spend(name.len())?;
        Ok(self.draft.frame(name)?)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), StackError> {
        let left = self.work_left.checked_sub(bytes as u64);
        self.work_left = left.ok_or(StackError::Work)?;
        Ok(())
    }
}

fn scaled(count: u64, factor: i64) -> Result<i64, DraftError> {
    let count = i64::try_from(count).ok();
    let value = count.and_then(|count| count.checked_mul(factor));
    value.ok_or(DraftError::Overflow)
}

#[cfg(test)]
pub(crate) mod tests {
    use scoria_model::ByteBudget;
    use scoria_model::varint::{put_bytes, put_u64};

    use super::*;

    pub(crate) fn stacks(factor: i64) -> Stacks {
        let terms = DraftTerms {
            seed: 3,
            memory: ByteBudget::new("test", 64 << 20),
            max_bytes: 4 << 20,
        };
        let measure = Measure {
            kind: "cpu",
            unit: "nanoseconds",
            period_type: ("cpu", "nanoseconds"),
            period: factor,
            factor,
        };
        Stacks::new(&terms, &measure, 1, 0).unwrap()
    }

    /// `stack = value` of each sample, sorted.
    pub(crate) fn totals(stacks: Stacks) -> Vec<String> {
        let mut draft = stacks.finish();
        let raw = draft.raw();
        let name = |id: u32| {
            let function = raw.lines_of(id as usize - 1).next();
            let function = function.unwrap().function;
            let name = raw.columns.functions.get(function as usize - 1).name;
            String::from_utf8_lossy(raw.text(name)).into_owned()
        };
        let samples = 0..raw.columns.samples.len();
        let mut totals: Vec<String> = samples
            .map(|at| {
                let frames = raw.columns.frames.slice(raw.sample(at).frames());
                let stack: Vec<String> = frames.iter().rev().map(name).collect();
                let value = raw.columns.values.get(at);
                format!("{} = {value}", stack.join(";"))
                    .trim_start()
                    .to_owned()
            })
            .collect();
        totals.sort();
        totals
    }

    /// A node of a tree or a trie.
    pub(crate) fn node(name: &str, own: u64, n_children: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, name.as_bytes());
        put_u64(&mut out, own);
        put_u64(&mut out, n_children);
        out
    }
}
