//! Decoded rows: the columns in which heads and blocks hand profiles and samples to their readers.
//!
//! Both are plain columns of equal length, so that a head can keep them as they are, a block can
//! decode straight into them, and a query can walk one column without touching the others.
//!
//! # Invariants
//! - All columns of one [`ProfileRows`] have the same length.
//! - `span` and `trace` of a [`SampleBatch`] are empty or as long as `stack`, and so is `write` of
//!   [`ProfileRows`].

/// Samples in columns.
///
/// `stack` is a node of the dataset's stack tree where samples go into a block or lie in a head,
/// and a stack rank where they come out of a block; whoever hands out a batch says which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SampleBatch {
    pub stack: Vec<u32>,
    pub value: Vec<i64>,
    /// Empty, or one span id per sample; 0 = none.
    pub span: Vec<u64>,
    /// Empty, or one trace id per sample; zeros = none.
    pub trace: Vec<[u8; 16]>,
}

impl SampleBatch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.stack.len()
    }

    pub fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    /// Empties every column and keeps their memory.
    pub fn clear(&mut self) {
        self.stack.clear();
        self.value.clear();
        self.span.clear();
        self.trace.clear();
    }

    /// The span id of a sample; 0 if it has none.
    pub fn span_of(&self, sample: usize) -> u64 {
        self.span.get(sample).copied().unwrap_or_default()
    }

    /// The trace id of a sample; zeros if it has none.
    pub fn trace_of(&self, sample: usize) -> [u8; 16] {
        self.trace.get(sample).copied().unwrap_or_default()
    }

    /// Whether the columns agree in length.
    pub fn is_even(&self) -> bool {
        let n = self.stack.len();
        let optional = |length: usize| length == 0 || length == n;
        self.value.len() == n && optional(self.span.len()) && optional(self.trace.len())
    }
}

/// By what a write is recognised when it was sent again: two records of one dataset whose keys are
/// equal and whose arrivals are less than ten minutes apart hold the same profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteKey {
    /// Zeros if the profile is never taken for one that was sent before.
    pub key: [u8; 16],
    /// When the record arrived, by the clock of the ingester that took it.
    pub arrival_ns: i64,
}

impl WriteKey {
    /// That of a profile which is nobody's double.
    pub const NONE: Self = Self {
        key: [0; 16],
        arrival_ns: 0,
    };

    pub const fn is_none(&self) -> bool {
        u128::from_le_bytes(self.key) == 0
    }
}

/// One row of [`ProfileRows`]: one profile of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProfileRow {
    /// Index into the dataset's profile types.
    pub kind: u32,
    /// Index into the dataset's series.
    pub series: u32,
    pub time_ns: i64,
    pub duration_ns: i64,
    pub period: i64,
    /// Sum of the values of its samples.
    pub total: i64,
    /// First sample: in a block, the row of the table that [`crate::Table::of_kind`] names.
    pub samples_start: u64,
    pub n_samples: u32,
    /// Sequence number of the log record it came in.
    pub seq: u64,
    /// Its place within that record.
    pub place: u32,
    /// Index into [`crate::BlockMeta::streams`]; 0 in heads.
    pub stream: u32,
    /// [`WriteKey::NONE`] unless it was asked for.
    pub write: WriteKey,
}

/// Profiles in columns, one row per profile and type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileRows {
    /// Index into the dataset's profile types.
    pub kind: Vec<u32>,
    /// Index into the dataset's series.
    pub series: Vec<u32>,
    pub time_ns: Vec<i64>,
    pub duration_ns: Vec<i64>,
    pub period: Vec<i64>,
    /// Sum of the values of the profile's samples.
    pub total: Vec<i64>,
    /// First sample: in a block, the row of the table that [`crate::Table::of_kind`] names.
    pub samples_start: Vec<u64>,
    pub n_samples: Vec<u32>,
    /// Sequence number of the log record the profile came in.
    pub seq: Vec<u64>,
    /// The profile's place within that record.
    pub place: Vec<u32>,
    /// Index into [`crate::BlockMeta::streams`]; 0 in heads.
    pub stream: Vec<u32>,
    /// Empty, or the write of each profile.
    pub write: Vec<WriteKey>,
}

impl ProfileRows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.kind.len()
    }

    pub fn is_empty(&self) -> bool {
        self.kind.is_empty()
    }

    pub fn push(&mut self, row: ProfileRow) {
        self.kind.push(row.kind);
        self.series.push(row.series);
        self.time_ns.push(row.time_ns);
        self.duration_ns.push(row.duration_ns);
        self.period.push(row.period);
        self.total.push(row.total);
        self.samples_start.push(row.samples_start);
        self.n_samples.push(row.n_samples);
        self.seq.push(row.seq);
        self.place.push(row.place);
        self.stream.push(row.stream);
        if !self.write.is_empty() || !row.write.is_none() {
            self.write.resize(self.kind.len() - 1, WriteKey::NONE);
            self.write.push(row.write);
        }
    }

    /// The write that brought the row at `at`.
    pub fn write_of(&self, at: usize) -> WriteKey {
        self.write.get(at).copied().unwrap_or(WriteKey::NONE)
    }

    /// The row at `at`, which must be inside.
    pub fn row(&self, at: usize) -> ProfileRow {
        ProfileRow {
            kind: self.kind[at],
            series: self.series[at],
            time_ns: self.time_ns[at],
            duration_ns: self.duration_ns[at],
            period: self.period[at],
            total: self.total[at],
            samples_start: self.samples_start[at],
            n_samples: self.n_samples[at],
            seq: self.seq[at],
            place: self.place[at],
            stream: self.stream[at],
            write: self.write_of(at),
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = ProfileRow> + '_ {
        (0..self.len()).map(|at| self.row(at))
    }

    /// Whether the columns agree in length.
    pub fn is_even(&self) -> bool {
        let lengths = [
            self.series.len(),
            self.time_ns.len(),
            self.duration_ns.len(),
            self.period.len(),
            self.total.len(),
            self.samples_start.len(),
            self.n_samples.len(),
            self.seq.len(),
            self.place.len(),
            self.stream.len(),
        ];
        let n = self.kind.len();
        lengths.iter().all(|&length| length == n)
            && (self.write.is_empty() || self.write.len() == n)
    }
}

impl FromIterator<ProfileRow> for ProfileRows {
    fn from_iter<I: IntoIterator<Item = ProfileRow>>(rows: I) -> Self {
        let mut out = Self::default();
        rows.into_iter().for_each(|row| out.push(row));
        out
    }
}
