//! What a merge holds of its inputs: one dictionary, one list of profiles, and for each input the
//! way from its ranks to the new ones.

use scoria_model::{Labels, ProfileType};
use scoria_symbols::Dictionary;

use super::cursor::SampleCursor;
use super::{MergeError, MergeInput, MergeRules, place_of};
use crate::dataset_rows::DatasetRows;
use crate::decode::decode_counted_symbols;
use crate::sample_writer::RankedSamples;
use crate::{
    BlockError, Columns, ProfileRow, ProfileRows, SampleRead, SampleRun, StreamRange, Table,
    decode_samples, decode_series, decode_written_profiles,
};

/// A profile as decoded, as merged and in order.
const PROFILE_BYTES: u64 = 312;
/// What the dictionary holds is copied into the order of the format once.
const SYMBOL_COPIES: u64 = 3;

/// One input that is taken.
pub(super) struct Input<'a> {
    pub(super) of: MergeInput<'a>,
    /// The dictionary's node of each rank; the new rank once that is known.
    pub(super) numbers: Vec<u32>,
    cursors: [Option<SampleCursor>; Table::COUNT],
}

/// All inputs of one dataset.
pub(super) struct Gathered<'a> {
    pub(super) dictionary: Dictionary,
    pub(super) inputs: Vec<Input<'a>>,
    pub(super) kinds: Vec<ProfileType>,
    pub(super) series: Vec<Labels>,
    pub(super) rows: ProfileRows,
    /// The input of each row.
    pub(super) input_of: Vec<u32>,
    /// Samples of each node of the dictionary.
    pub(super) hits: Vec<u32>,
    pub(super) dropped: u64,
}

/// One input decoded, before it is known to fit.
struct Decoded {
    kinds: Vec<ProfileType>,
    series: Vec<Labels>,
    rows: ProfileRows,
    /// By row; none if all stay.
    keep: Vec<bool>,
    /// By rank.
    nodes: Vec<u32>,
    counts: Vec<u32>,
    streams: Vec<u32>,
}

impl<'a> Gathered<'a> {
    /// Takes inputs as long as they fit beside `held` bytes of the caller's.
    pub(super) fn of(
        inputs: &[MergeInput<'a>],
        streams: &[StreamRange],
        rules: MergeRules<'_>,
        held: u64,
    ) -> Result<Self, MergeError> {
        let mut gathered = Self {
            dictionary: Dictionary::new(),
            inputs: Vec::new(),
            kinds: Vec::new(),
            series: Vec::new(),
            rows: ProfileRows::default(),
            input_of: Vec::new(),
            hits: Vec::new(),
            dropped: 0,
        };
        for input in inputs {
            let named = |source| MergeError::Input {
                block: input.block.id,
                source,
            };
            let decoded = gathered.decode(input, streams, rules).map_err(named)?;
            let rows = gathered.rows.len() + decoded.rows.len();
            let symbols = gathered.dictionary.bytes() * SYMBOL_COPIES;
            let needed = symbols + rows as u64 * PROFILE_BYTES + held;
            if needed > rules.bytes_max {
                if gathered.inputs.is_empty() {
                    return Err(MergeError::TooLarge {
                        block: input.block.id,
                        tenant: input.dataset.tenant.to_string(),
                        service: input.dataset.service.to_string(),
                        needed,
                        limit: rules.bytes_max,
                    });
                }
                break;
            }
            gathered.take(*input, decoded).map_err(named)?;
        }
        Ok(gathered)
    }

    fn decode(
        &mut self,
        input: &MergeInput<'_>,
        streams: &[StreamRange],
        rules: MergeRules<'_>,
    ) -> Result<Decoded, BlockError> {
        let (dataset, sources) = (input.dataset, input.sources);
        let series = decode_series(sources, dataset)?;
        let rows = decode_written_profiles(sources, input.block, dataset)?;
        let (symbols, counts) = decode_counted_symbols(sources, dataset)?;
        let map = self.dictionary.absorb(&symbols.symbols);
        let streams = input.block.streams.iter().map(|range| {
            place_of(streams, range).ok_or_else(|| {
                BlockError::meta(format!("the output does not cover {}", range.stream))
            })
        });
        Ok(Decoded {
            keep: (rules.keep)(&dataset.kinds, &series, &rows),
            kinds: dataset.kinds.clone(),
            series,
            rows,
            nodes: symbols
                .nodes
                .iter()
                .map(|&node| map[node as usize])
                .collect(),
            counts,
            streams: streams.collect::<Result<_, _>>()?,
        })
    }

    fn take(&mut self, of: MergeInput<'a>, decoded: Decoded) -> Result<(), BlockError> {
        let nodes = self.dictionary.mark().nodes as usize;
        self.hits.resize(nodes, 0);
        for (&node, &n) in decoded.nodes.iter().zip(&decoded.counts) {
            let hits = &mut self.hits[node as usize];
            *hits = hits.saturating_add(n);
        }
        let (first_kind, first_series) = (self.kinds.len() as u32, self.series.len() as u32);
        let input = self.inputs.len() as u32;
        let mut dropped = Vec::new();
        for (at, row) in decoded.rows.iter().enumerate() {
            if decoded.keep.get(at) == Some(&false) {
                dropped.push(at as u32);
                continue;
            }
            self.rows.push(ProfileRow {
                kind: first_kind + row.kind,
                series: first_series + row.series,
                // A block that covers no stream has rows of stream 0.
                stream: decoded
                    .streams
                    .get(row.stream as usize)
                    .copied()
                    .unwrap_or(0),
                ..row
            });
            self.input_of.push(input);
        }
        self.dropped += dropped.len() as u64;
        self.inputs.push(Input {
            of,
            numbers: decoded.nodes,
            cursors: [const { None }; Table::COUNT],
        });
        let rows = dropped.iter().map(|&at| at as usize);
        let runs = rows.map(|at| (decoded.rows.kind[at], decoded.rows.run(at)));
        self.subtract_runs(input as usize, runs.collect(), &decoded.kinds)?;
        self.kinds.extend(decoded.kinds);
        self.series.extend(decoded.series);
        Ok(())
    }

    /// Takes the samples of rows that are left out from the stacks' counts.
    pub(super) fn subtract(
        &mut self,
        out: &[u32],
        rows: &ProfileRows,
        kinds: &[ProfileType],
    ) -> Result<(), MergeError> {
        for input in 0..self.inputs.len() {
            let of_input = out
                .iter()
                .map(|&at| at as usize)
                .filter(|&at| self.input_of[at] as usize == input);
            let runs = of_input.map(|at| (rows.kind[at], rows.run(at))).collect();
            let block = self.inputs[input].of.block.id;
            self.subtract_runs(input, runs, kinds)
                .map_err(|source| MergeError::Input { block, source })?;
        }
        Ok(())
    }

    fn subtract_runs(
        &mut self,
        input: usize,
        runs: Vec<(u32, SampleRun)>,
        kinds: &[ProfileType],
    ) -> Result<(), BlockError> {
        let Input { of, numbers, .. } = &self.inputs[input];
        for table in [Table::Samples, Table::Snapshots] {
            let mut of_table: Vec<SampleRun> = runs
                .iter()
                .filter(|(kind, _)| Table::of_kind(&kinds[*kind as usize]) == table)
                .map(|&(_, run)| run)
                .collect();
            of_table.sort_unstable_by_key(|run| run.start);
            let Some((open, fetched)) = of.sources.get(table).filter(|_| !of_table.is_empty())
            else {
                continue;
            };
            let read = SampleRead {
                runs: &of_table,
                columns: Columns::Plain,
                n_stacks: of.dataset.n_stacks,
            };
            let hits = &mut self.hits;
            decode_samples((open, fetched), read, &mut |batch, _| {
                for &rank in &batch.stack {
                    let hits = &mut hits[numbers[rank as usize] as usize];
                    *hits = hits.saturating_sub(1);
                }
            })?;
        }
        Ok(())
    }

    /// Turns each input's way from ranks to nodes into one to new ranks.
    pub(super) fn rank(&mut self, rows: &DatasetRows) {
        for input in &mut self.inputs {
            for number in &mut input.numbers {
                *number = rows.rank_of(*number);
            }
        }
        // Only the ranks are needed from here on.
        self.dictionary = Dictionary::new();
        self.hits = Vec::new();
    }

    /// Appends the samples of row `at`, which lie in `run` of its input.
    pub(super) fn fill(
        &mut self,
        at: usize,
        table: Table,
        run: SampleRun,
        out: &mut RankedSamples,
    ) -> Result<(), MergeError> {
        let Input {
            of,
            numbers,
            cursors,
        } = &mut self.inputs[self.input_of[at] as usize];
        let named = |source| MergeError::Input {
            block: of.block.id,
            source,
        };
        if run.n == 0 {
            return Ok(());
        }
        let slot = &mut cursors[table.index()];
        let cursor = match slot {
            Some(cursor) => cursor,
            None => slot.insert(SampleCursor::open(of, table).map_err(named)?),
        };
        cursor.read(run, numbers, out).map_err(named)
    }
}
