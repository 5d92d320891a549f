//! One dataset, from the order it arrived in to the order of the format.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, FixedSizeBinaryArray, Int32Array, Int64Array, MapArray, StringArray,
    StructArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::Int32Type;
use scoria_model::{Labels, ProfileType, TenantId, Timestamp};
use scoria_symbols::{NONE, PreOrder};

use crate::kind_text::kind_text;
use crate::layout;
use crate::rank::nodes_by_rank;
use crate::sample_writer::{RankedSamples, Sample, SampleWriter};
use crate::symbol_columns::{
    function_columns, location_columns, mapping_columns, stack_columns, string_columns,
};
use crate::table_writer::encode_error;
use crate::{BlockError, DatasetInput, Table, WriteKey};

/// The order that the profiles of an input take in the block.
#[derive(Debug)]
pub(crate) struct Order {
    /// Those that profiles have, sorted.
    kinds: Vec<ProfileType>,
    /// New kind of each profile of the input.
    pub(crate) kind_of: Vec<u32>,
    series: Vec<Labels>,
    /// New series of each profile of the input.
    pub(crate) series_of: Vec<u32>,
    /// Profiles of the input in the order of the file.
    pub(crate) order: Vec<u32>,
}

impl Order {
    pub(crate) fn of(input: &DatasetInput<'_>) -> Self {
        let profiles = input.profiles;
        let (kinds, kind_of) = renumber(input.kinds, &profiles.kind);
        let (series, series_of) = renumber(input.series, &profiles.series);
        let mut order: Vec<u32> = (0..profiles.len() as u32).collect();
        order.sort_unstable_by_key(|&at| {
            let at = at as usize;
            (
                kind_of[at],
                series_of[at],
                profiles.time_ns[at],
                (profiles.stream[at], profiles.seq[at], profiles.place[at]),
                at,
            )
        });
        Self {
            kinds,
            kind_of,
            series,
            series_of,
            order,
        }
    }
}

/// What of the input goes into the block, and in which order.
pub(crate) struct DatasetRows {
    /// Those that profiles have, sorted.
    kinds: Vec<ProfileType>,
    /// By new kind.
    kind_table: Vec<Table>,
    series: Vec<Labels>,
    /// New kind and series of each profile of the input.
    kind_of: Vec<u32>,
    series_of: Vec<u32>,
    /// Profiles of the input in the order of the file.
    order: Vec<u32>,
    symbols: PreOrder,
    stacks: Stacks,
    columns: ProfileColumns,
}

/// Samples and ranks of stacks, by new node.
struct Stacks {
    n_samples: Vec<u32>,
    /// [`NONE`] for nodes that no sample names.
    rank: Vec<u32>,
    n: u32,
}

/// The profile columns that are copied, in the order of the file.
struct ProfileColumns {
    time_ns: Vec<i64>,
    duration_ns: Vec<i64>,
    period: Vec<i64>,
    total: Vec<i64>,
    n_samples: Vec<u32>,
    stream: Vec<u32>,
    seq: Vec<u64>,
    place: Vec<u32>,
    write: Vec<WriteKey>,
}

impl DatasetRows {
    /// Checks the input and finds its order. `n_streams` is how many streams the block covers.
    pub(crate) fn new(input: &DatasetInput<'_>, n_streams: usize) -> Result<Self, BlockError> {
        check(input, n_streams)?;
        Ok(Self::arrange(input, Order::of(input), &count_stacks(input)))
    }

    /// Arranges an input whose order is known; `hits` are the samples of each of its stacks.
    pub(crate) fn arrange(input: &DatasetInput<'_>, order: Order, hits: &[u32]) -> Self {
        let profiles = input.profiles;
        let Order {
            kinds,
            kind_of,
            series,
            series_of,
            order,
        } = order;
        let used: Vec<bool> = hits.iter().map(|&n| n > 0).collect();
        let symbols = input.symbols.pre_order(&used);
        let stacks = Stacks::new(hits, &symbols);
        let ordered = |column: &[i64]| order.iter().map(|&at| column[at as usize]).collect();
        let ordered32 = |column: &[u32]| order.iter().map(|&at| column[at as usize]).collect();
        let columns = ProfileColumns {
            time_ns: ordered(&profiles.time_ns),
            duration_ns: ordered(&profiles.duration_ns),
            period: ordered(&profiles.period),
            total: ordered(&profiles.total),
            n_samples: ordered32(&profiles.n_samples),
            stream: ordered32(&profiles.stream),
            seq: order.iter().map(|&at| profiles.seq[at as usize]).collect(),
            place: ordered32(&profiles.place),
            write: order
                .iter()
                .map(|&at| profiles.write_of(at as usize))
                .collect(),
        };
        Self {
            kind_table: kinds.iter().map(Table::of_kind).collect(),
            kinds,
            series,
            kind_of,
            series_of,
            order,
            symbols,
            stacks,
            columns,
        }
    }

    /// The rank of each node of the input's symbols; [`NONE`] for those without samples.
    pub(crate) fn rank_of(&self, node: u32) -> u32 {
        match self.symbols.node_map.get(node as usize) {
            Some(&new) if new != NONE => self.stacks.rank[new as usize],
            _ => NONE,
        }
    }

    pub(crate) fn kinds(&self) -> &[ProfileType] {
        &self.kinds
    }

    pub(crate) fn series(&self) -> &[Labels] {
        &self.series
    }

    /// New series of each profile of the input.
    pub(crate) fn series_of(&self) -> &[u32] {
        &self.series_of
    }

    /// The profiles of the input that the block holds, by new kind.
    pub(crate) fn by_kind(&self) -> Vec<Vec<u32>> {
        let mut by_kind = vec![Vec::new(); self.kinds.len()];
        for &at in &self.order {
            by_kind[self.kind_of[at as usize] as usize].push(at);
        }
        by_kind
    }

    pub(crate) const fn n_stacks(&self) -> u32 {
        self.stacks.n
    }

    pub(crate) fn min_time(&self) -> Timestamp {
        Timestamp(
            self.columns
                .time_ns
                .iter()
                .copied()
                .min()
                .unwrap_or_default(),
        )
    }

    pub(crate) fn max_time(&self) -> Timestamp {
        Timestamp(
            self.columns
                .time_ns
                .iter()
                .copied()
                .max()
                .unwrap_or_default(),
        )
    }

    /// The samples that belong to the writer's table, profile by profile; `first_profile` is the
    /// row of the dataset's first profile. `fill` appends the samples of a profile of the input.
    pub(crate) fn write_samples(
        &self,
        (tenant, service): (&TenantId, &str),
        first_profile: u64,
        writer: &mut SampleWriter,
        fill: &mut dyn FnMut(usize, &mut RankedSamples) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let mut samples = RankedSamples::default();
        for (row, &at) in (first_profile..).zip(&self.order) {
            let profile = u32::try_from(row).map_err(|_| BlockError::Input {
                tenant: tenant.to_string(),
                service: service.to_owned(),
                what: "the block has too many profiles".to_owned(),
            })?;
            let at = at as usize;
            if self.kind_table[self.kind_of[at] as usize] != writer.table() {
                continue;
            }
            samples.clear();
            fill(at, &mut samples)?;
            let mut last = 0;
            samples.sorted(|rank, value, (span, trace)| {
                writer.push(Sample {
                    rank_delta: rank - last,
                    value,
                    profile,
                    span,
                    trace,
                });
                last = rank;
            });
            writer.encode_full()?;
        }
        Ok(())
    }

    /// Appends the samples of profile `at` of an input that holds them.
    pub(crate) fn fill_from(&self, input: &DatasetInput<'_>, at: usize, out: &mut RankedSamples) {
        for at in sample_range(input, at) {
            let rank = self.rank_of(input.samples.stack[at]);
            let origin = (input.samples.span_of(at), input.samples.trace_of(at));
            out.push(rank, input.samples.value[at], origin);
        }
    }

    /// The columns of all tables but the sample tables; `dataset` is the dataset's number, `writes`
    /// says whether profiles have the keys of their writes.
    pub(crate) fn tables(
        &self,
        dataset: u32,
        writes: bool,
    ) -> Result<Vec<(Table, Vec<ArrayRef>)>, BlockError> {
        let mut profiles = self.profile_columns(dataset)?;
        if writes {
            profiles.extend(self.write_columns()?);
        }
        let tables = &self.symbols.tables;
        Ok(vec![
            (Table::Series, self.series_columns(dataset)?),
            (Table::Profiles, profiles),
            (Table::Stacks, stack_columns(tables, &self.stacks.n_samples)),
            (Table::Locations, location_columns(tables)?),
            (Table::Functions, function_columns(tables)),
            (Table::Mappings, mapping_columns(tables)),
            (Table::Strings, string_columns(tables)),
        ])
    }

    fn series_columns(&self, dataset: u32) -> Result<Vec<ArrayRef>, BlockError> {
        let map = labels_array(Table::Series, self.series.iter())?;
        let n = self.series.len();
        Ok(vec![
            Arc::new(UInt32Array::from(vec![dataset; n])),
            Arc::new(UInt32Array::from_iter_values(0..n as u32)),
            Arc::new(map),
        ])
    }

    fn write_columns(&self) -> Result<[ArrayRef; 2], BlockError> {
        let writes = &self.columns.write;
        let keys: Vec<u8> = writes.iter().flat_map(|write| write.key).collect();
        let keys = FixedSizeBinaryArray::try_new(16, Buffer::from_vec(keys), None)
            .map_err(|e| encode_error(Table::Profiles, &e))?;
        let arrivals = writes.iter().map(|write| write.arrival_ns);
        let arrivals = TimestampNanosecondArray::from_iter_values(arrivals)
            .with_data_type(layout::time_data());
        Ok([Arc::new(keys), Arc::new(arrivals)])
    }

    fn profile_columns(&self, dataset: u32) -> Result<Vec<ArrayRef>, BlockError> {
        let columns = &self.columns;
        let ordered = |column: &[u32]| -> Vec<u32> {
            self.order.iter().map(|&at| column[at as usize]).collect()
        };
        let kinds = Int32Array::from_iter_values(
            self.order
                .iter()
                .map(|&at| self.kind_of[at as usize] as i32),
        );
        let texts = kinds_array(&self.kinds);
        let kinds = DictionaryArray::<Int32Type>::try_new(kinds, Arc::new(texts))
            .map_err(|e| encode_error(Table::Profiles, &e))?;
        let time = TimestampNanosecondArray::from(columns.time_ns.clone())
            .with_data_type(layout::time_data());
        Ok(vec![
            Arc::new(UInt32Array::from(vec![dataset; self.order.len()])),
            Arc::new(kinds),
            Arc::new(UInt32Array::from(ordered(&self.series_of))),
            Arc::new(time),
            Arc::new(Int64Array::from(columns.duration_ns.clone())),
            Arc::new(Int64Array::from(columns.period.clone())),
            Arc::new(Int64Array::from(columns.total.clone())),
            Arc::new(UInt32Array::from(columns.n_samples.clone())),
            Arc::new(UInt32Array::from(columns.stream.clone())),
            Arc::new(UInt64Array::from(columns.seq.clone())),
            Arc::new(UInt32Array::from(columns.place.clone())),
        ])
    }
}

/// Profile types as the values of a dictionary.
pub(crate) fn kinds_array(kinds: &[ProfileType]) -> StringArray {
    StringArray::from_iter_values(kinds.iter().map(kind_text))
}

/// Sets of labels as a column of maps.
pub(crate) fn labels_array<'a>(
    table: Table,
    sets: impl Iterator<Item = &'a Labels> + Clone,
) -> Result<MapArray, BlockError> {
    let labels = || sets.clone().flatten();
    let entries = StructArray::try_new(
        layout::label_fields(),
        vec![
            Arc::new(StringArray::from_iter_values(labels().map(|l| &l.name))),
            Arc::new(StringArray::from_iter_values(labels().map(|l| &l.value))),
        ],
        None,
    );
    let ends = OffsetBuffer::from_lengths(sets.clone().map(Labels::len));
    entries
        .and_then(|entries| MapArray::try_new(layout::labels_entry(), ends, entries, None, false))
        .map_err(|e| encode_error(table, &e))
}

/// Samples of profile `at` of the input.
fn sample_range(input: &DatasetInput<'_>, at: usize) -> std::ops::Range<usize> {
    let start = input.profiles.samples_start[at] as usize;
    start..start + input.profiles.n_samples[at] as usize
}

fn check(input: &DatasetInput<'_>, n_streams: usize) -> Result<(), BlockError> {
    let (profiles, samples) = (input.profiles, input.samples);
    if !profiles.is_even() || !samples.is_even() {
        return Err(input.refuse("its columns differ in length"));
    }
    if u32::try_from(profiles.len()).is_err() {
        return Err(input.refuse(format!("{} profiles are too many", profiles.len())));
    }
    // Heads have no stream numbers, so 0 is fine in a block that covers none.
    let streams = n_streams.max(1);
    let inside = |what: &str, column: &[u32], size: usize| {
        let bad = column.iter().position(|&v| v as usize >= size);
        bad.map_or(Ok(()), |at| {
            Err(input.refuse(format!(
                "{what} {} of row {at} is outside its {size}",
                column[at]
            )))
        })
    };
    inside("type", &profiles.kind, input.kinds.len())?;
    inside("series", &profiles.series, input.series.len())?;
    inside("stream", &profiles.stream, streams)?;
    inside("stack", &samples.stack, input.symbols.nodes_len())?;
    let n = samples.len() as u64;
    let mut ranges = profiles.samples_start.iter().zip(&profiles.n_samples);
    let fits = |(&start, &n_samples): (&u64, &u32)| {
        start
            .checked_add(u64::from(n_samples))
            .is_some_and(|end| end <= n)
    };
    match ranges.position(|range| !fits(range)) {
        Some(at) => Err(input.refuse(format!(
            "{} samples from {} of profile {at} go beyond the {n} there are",
            profiles.n_samples[at], profiles.samples_start[at]
        ))),
        None => Ok(()),
    }
}

/// The entries that `column` names, sorted and each once, and the column with their new numbers.
fn renumber<T: Ord + Clone>(entries: &[T], column: &[u32]) -> (Vec<T>, Vec<u32>) {
    let mut used = vec![false; entries.len()];
    column.iter().for_each(|&at| used[at as usize] = true);
    let mut kept: Vec<&T> = entries
        .iter()
        .zip(&used)
        .filter_map(|(entry, &used)| used.then_some(entry))
        .collect();
    kept.sort_unstable();
    kept.dedup();
    let new: Vec<u32> = entries
        .iter()
        .map(|entry| kept.binary_search(&entry).unwrap_or_default() as u32)
        .collect();
    let column = column.iter().map(|&at| new[at as usize]).collect();
    (kept.into_iter().cloned().collect(), column)
}

/// Samples of each stack of the input.
fn count_stacks(input: &DatasetInput<'_>) -> Vec<u32> {
    let mut hits = vec![0u32; input.symbols.nodes_len()];
    for at in 0..input.profiles.len() {
        for &node in &input.samples.stack[sample_range(input, at)] {
            hits[node as usize] = hits[node as usize].saturating_add(1);
        }
    }
    hits
}

impl Stacks {
    fn new(hits: &[u32], symbols: &PreOrder) -> Self {
        let mut n_samples = vec![0; symbols.tables.node_parent.len()];
        for (&n, &node) in hits.iter().zip(&symbols.node_map) {
            if n > 0 {
                n_samples[node as usize] = n;
            }
        }
        let by_rank = nodes_by_rank(&n_samples);
        let mut rank = vec![NONE; n_samples.len()];
        for (at, &node) in by_rank.iter().enumerate() {
            rank[node as usize] = at as u32;
        }
        Self {
            n: by_rank.len() as u32,
            n_samples,
            rank,
        }
    }
}
