//! Scans one dataset of one block: fetch what the scan needs of it, decode, select, add up.
//!
//! Round trips that depend on each other: series and profiles together with symbols, then the
//! samples of the profiles that were selected. With roll-ups: their buckets together with symbols,
//! then profiles of the types of which no bucket stands for some, then samples and sums.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use scoria_block::{
    Columns, Fetched, OpenTable, Resolution, SampleRead, Sources, Table, decode_placed_profiles,
    decode_profiles, decode_rollups, decode_samples, decode_series, decode_symbols,
};
use scoria_query::deletion::Hidden;
use scoria_query::exec::{Executor, SampleRun, ScanStats, Stacks};
use scoria_query::merge::{OutsideStacks, Partial};
use scoria_query::scan::Scan;
use scoria_query::select::{self, DatasetView};
use scoria_query::wire;
use scoria_storage::{BlockStore, FetchStats, Purpose};

use crate::cache::{Caches, DatasetIndex, Kept, SymbolIndex};
use crate::error::{ErrorKind, QueryError};
use crate::plan::{SYMBOL_TABLES, Unit};
use crate::pool::Pool;
use crate::rolled::{Chosen, Rolled, RollupIndex};
use crate::stats::QueryStats;

/// What scanning needs besides the data.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) blocks: BlockStore,
    pub(crate) caches: Arc<Caches>,
    pub(crate) pool: Pool,
}

/// Whether the client still waits for the answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Going(Arc<AtomicBool>);

impl Going {
    /// Nobody waits any more.
    pub(crate) fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> Result<(), QueryError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(QueryError::new(
                ErrorKind::Unavailable,
                "the client went away",
            ));
        }
        Ok(())
    }
}

/// Stops what works for a query when the query is given up.
pub(crate) struct StopOnDrop(pub(crate) Going);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Samples that are decoded before it is looked whether anybody still waits for them: some
/// hundredths of a second.
const SAMPLES_AT_ONCE: u64 = 1 << 21;

/// Rows selected from one dataset whose samples are wanted: profiles, or buckets of roll-ups.
struct Selected {
    index: Arc<DatasetIndex>,
    /// How many profiles the rows are or stand for.
    profiles: u64,
    /// Rows in the order in which their samples are read: table by table.
    rows: Vec<u32>,
    /// What to read of each table.
    reads: Vec<TableRead>,
}

struct TableRead {
    table: Table,
    runs: Vec<scoria_block::SampleRun>,
}

impl Reader {
    /// The dataset's answer to a scan, which may have been made before.
    pub(crate) async fn answer(
        &self,
        unit: &Unit,
        (scan, going): (&Scan, &Going),
        stats: &mut QueryStats,
    ) -> Result<Arc<Kept>, QueryError> {
        let dataset = unit.dataset();
        // What was deleted changes an answer that is kept under its block.
        let untouched = unit.deletions.is_empty();
        let lasting = untouched
            .then(|| scan.without_time(dataset.min_time, dataset.max_time))
            .flatten();
        let key = lasting.map(|scan| (unit.key(), wire::encode_scan(&scan).into()));
        if let Some(kept) = key.as_ref().and_then(|key| self.caches.results.get(key)) {
            stats.result_hits += 1;
            stats.merged_profiles += kept.profiles;
            stats.spans.merge(kept.spans);
            return Ok(kept);
        }
        let mut scanned = ScanStats::default();
        let partial = self
            .scan(unit, (scan, going), (stats, &mut scanned))
            .await?;
        stats.add_scan(scanned);
        let kept = Arc::new(Kept {
            partial,
            profiles: scanned.profiles,
            spans: scanned.spans,
        });
        if let Some(key) = key {
            self.caches.results.insert(key, Arc::clone(&kept));
        }
        Ok(kept)
    }

    async fn scan(
        &self,
        unit: &Unit,
        (scan, going): (&Scan, &Going),
        (stats, scanned): (&mut QueryStats, &mut ScanStats),
    ) -> Result<Option<Partial>, QueryError> {
        if let Some(rolled) = unit.rolled(scan) {
            return self
                .scan_rolled(rolled, unit, (scan, going), (stats, scanned))
                .await;
        }
        let executor = Executor::new(scan.clone());
        let mut index_took = FetchStats::default();
        let mut symbols_took = FetchStats::default();
        let mut hits = 0;
        let index = self.index(unit, &mut index_took);
        let (index, symbols) = if executor.wants_samples() {
            let (index, symbols) =
                futures::try_join!(index, self.symbols(unit, &mut symbols_took))?;
            hits += u64::from(symbols.1);
            (index, Some(symbols.0))
        } else {
            (index.await?, None)
        };
        hits += u64::from(index.1);
        stats.decoded_hits += hits;
        stats.add_fetch(&index_took);
        stats.add_fetch(&symbols_took);
        let (partial, took) = match symbols {
            None => {
                let (unit, index) = (unit.clone(), index.0);
                let work = move || add_profiles(executor, &unit, &index);
                self.pool.run(work).await??
            }
            Some(symbols) => {
                let Some(selected) = select_rows(unit, scan, index.0, None) else {
                    return Ok(None);
                };
                self.samples((executor, going), unit, (symbols, vec![selected]), stats)
                    .await?
            }
        };
        *scanned = took;
        Ok(Some(partial))
    }

    /// The same by roll-ups, and by profiles for what is in no whole bucket.
    async fn scan_rolled(
        &self,
        rolled: Rolled,
        unit: &Unit,
        (scan, going): (&Scan, &Going),
        (stats, scanned): (&mut QueryStats, &mut ScanStats),
    ) -> Result<Option<Partial>, QueryError> {
        let mut took = [FetchStats::default(); 3];
        let [rollups_took, symbols_took, left_took] = &mut took;
        let (rollups, symbols) = futures::try_join!(
            self.rollups(unit, rollups_took),
            self.symbols(unit, symbols_took)
        )?;
        let mut hits = u64::from(rollups.1) + u64::from(symbols.1);
        let chosen = rolled
            .choose((unit, scan), &rollups.0)
            .map_err(|e| damaged(unit, Table::Rollups, e))?;
        let chosen = Arc::new(chosen);
        let mut parts = Vec::new();
        if !chosen.rows.is_empty() {
            parts.push(select_buckets(&rollups.0, &chosen));
        }
        if chosen.leaves_any() {
            let of = (&*rollups.0, &chosen);
            let (index, hit) = self.left(unit, (scan, of), left_took).await?;
            hits += u64::from(hit);
            parts.extend(select_rows(unit, scan, index, Some(&chosen)));
        }
        stats.decoded_hits += hits;
        took.iter().for_each(|took| stats.add_fetch(took));
        stats.rolled += 1;
        if parts.is_empty() {
            return Ok(None);
        }
        let executor = Executor::new(scan.clone());
        let (partial, added) = self
            .samples((executor, going), unit, (symbols.0, parts), stats)
            .await?;
        *scanned = added;
        Ok(Some(partial))
    }

    /// Series and at least those profiles of the scan's range that no bucket stands for, and whether
    /// they were there decoded.
    async fn left(
        &self,
        unit: &Unit,
        (scan, (rollups, chosen)): (&Scan, (&RollupIndex, &Arc<Chosen>)),
        took: &mut FetchStats,
    ) -> Result<(Arc<DatasetIndex>, bool), QueryError> {
        if let Some(index) = self.caches.indexes.get(&unit.key()) {
            return Ok((index, true));
        }
        let rows = chosen.rows_left(rollups);
        let ranges: Vec<Range<u64>> = rows.iter().map(|of| of.profiles.clone()).collect();
        let (mut sources, (open, fetched, profiles_took)) = futures::try_join!(
            self.fetch_rows(unit, &[Table::Series], took),
            self.fetch(unit, Table::Profiles, &ranges, Columns::Placed)
        )?;
        took.add(&profiles_took);
        sources.insert(open, fetched);
        let (of, range, chosen) = (unit.clone(), scan.range, Arc::clone(chosen));
        let decode = move || -> Result<DatasetIndex, QueryError> {
            let (start, end) = (range.start_ns(), range.end_ns());
            let mut leaves = chosen.leaves();
            let mut wants = |kind, time| start <= time && time <= end && leaves(kind, time);
            let dataset = of.dataset();
            Ok(DatasetIndex {
                series: decode_series(&sources, dataset)?,
                rows: decode_placed_profiles(&sources, (dataset, &rows), &mut wants)?,
            })
        };
        let index = self.pool.run(decode).await?.map_err(|e| about(unit, e))?;
        Ok((Arc::new(index), false))
    }

    /// Buckets of roll-ups, and whether they were there decoded.
    async fn rollups(
        &self,
        unit: &Unit,
        took: &mut FetchStats,
    ) -> Result<(Arc<RollupIndex>, bool), QueryError> {
        let key = unit.key();
        if let Some(rollups) = self.caches.rollups.get(&key) {
            return Ok((rollups, true));
        }
        let sources = self.fetch_rows(unit, &[Table::Rollups], took).await?;
        let of = unit.clone();
        let decode = move || -> Result<RollupIndex, QueryError> {
            let decoded = decode_rollups(&sources, of.dataset())?;
            Ok(RollupIndex::new(decoded, of.dataset())?)
        };
        let rollups = self.pool.run(decode).await?.map_err(|e| about(unit, e))?;
        let rollups = Arc::new(rollups);
        self.caches.rollups.insert(key, Arc::clone(&rollups));
        Ok((rollups, false))
    }

    /// Series and profiles, and whether they were there decoded.
    async fn index(
        &self,
        unit: &Unit,
        took: &mut FetchStats,
    ) -> Result<(Arc<DatasetIndex>, bool), QueryError> {
        let key = unit.key();
        if let Some(index) = self.caches.indexes.get(&key) {
            return Ok((index, true));
        }
        let sources = self
            .fetch_rows(unit, &[Table::Series, Table::Profiles], took)
            .await?;
        let of = unit.clone();
        let decode = move || -> Result<DatasetIndex, QueryError> {
            Ok(DatasetIndex {
                series: decode_series(&sources, of.dataset())?,
                rows: decode_profiles(&sources, &of.block, of.dataset())?,
            })
        };
        let index = self.pool.run(decode).await?.map_err(|e| about(unit, e))?;
        let index = Arc::new(index);
        self.caches.indexes.insert(key, Arc::clone(&index));
        Ok((index, false))
    }

    /// Symbols, and whether they were there decoded.
    async fn symbols(
        &self,
        unit: &Unit,
        took: &mut FetchStats,
    ) -> Result<(Arc<SymbolIndex>, bool), QueryError> {
        let key = unit.key();
        if let Some(symbols) = self.caches.symbols.get(&key) {
            return Ok((symbols, true));
        }
        let sources = self.fetch_rows(unit, &SYMBOL_TABLES, took).await?;
        let of = unit.clone();
        let decode = move || -> Result<SymbolIndex, QueryError> {
            let decoded = decode_symbols(&sources, of.dataset())?;
            Ok(SymbolIndex::new(decoded))
        };
        let symbols = self.pool.run(decode).await?.map_err(|e| about(unit, e))?;
        let symbols = Arc::new(symbols);
        self.caches.symbols.insert(key, Arc::clone(&symbols));
        Ok((symbols, false))
    }

    /// Fetches the dataset's rows of some tables, side by side.
    async fn fetch_rows(
        &self,
        unit: &Unit,
        tables: &[Table],
        took: &mut FetchStats,
    ) -> Result<Sources, QueryError> {
        let with_rows = tables
            .iter()
            .map(|&table| (table, unit.dataset().rows(table)))
            .filter(|(_, rows)| !rows.is_empty());
        let fetches = with_rows.map(|(table, rows)| async move {
            self.fetch(unit, table, &[rows], Columns::Plain).await
        });
        let mut sources = Sources::default();
        for (open, fetched, stats) in futures::future::try_join_all(fetches).await? {
            took.add(&stats);
            sources.insert(open, fetched);
        }
        Ok(sources)
    }

    async fn fetch(
        &self,
        unit: &Unit,
        table: Table,
        rows: &[Range<u64>],
        columns: Columns,
    ) -> Result<(Arc<OpenTable>, Fetched, FetchStats), QueryError> {
        let open = self.open(unit, table)?;
        let ranges = open
            .ranges(rows, columns)
            .map_err(|e| damaged(unit, table, e))?;
        let fetched = self
            .blocks
            .fetch(&unit.block, table, &ranges, Purpose::Query)
            .await?;
        let (fetched, stats) = fetched.into_parts();
        Ok((open, fetched, stats))
    }

    fn open(&self, unit: &Unit, table: Table) -> Result<Arc<OpenTable>, QueryError> {
        let key = (unit.block.id, table);
        if let Some(open) = self.caches.tables.get(&key) {
            return Ok(open);
        }
        let meta = unit.block.table(table).ok_or_else(|| {
            let what = scoria_storage::block_store::BlockReadError::NoTable {
                block: unit.block.id,
                table,
            };
            QueryError::from(what)
        })?;
        let open = OpenTable::new(meta).map_err(|e| damaged(unit, table, e))?;
        let open = Arc::new(open);
        self.caches.tables.insert(key, Arc::clone(&open));
        Ok(open)
    }

    /// Fetches and adds up the samples of selected rows.
    async fn samples(
        &self,
        (executor, going): (Executor, &Going),
        unit: &Unit,
        (symbols, parts): (Arc<SymbolIndex>, Vec<Selected>),
        stats: &mut QueryStats,
    ) -> Result<(Partial, ScanStats), QueryError> {
        let columns = match executor.scan().what.wants_spans() {
            true => Columns::WithSpans,
            false => Columns::Plain,
        };
        let n_stacks = unit.dataset().n_stacks;
        let reads = parts.iter().flat_map(|part| &part.reads);
        let fetches = reads.map(|read| async move {
            let rows = SampleRead {
                runs: &read.runs,
                columns,
                n_stacks,
            }
            .rows();
            self.fetch(unit, read.table, &rows, columns).await
        });
        let mut tables = Vec::new();
        for (open, fetched, took) in futures::future::try_join_all(fetches).await? {
            stats.add_fetch(&took);
            tables.push((open, fetched));
        }
        let (of, going) = (unit.clone(), going.clone());
        let work = move || {
            let data = (&*symbols, &parts[..]);
            add_samples((executor, &going), &of, data, (&tables, columns))
        };
        self.pool.run(work).await?
    }
}

fn view<'a>(unit: &'a Unit, index: &'a DatasetIndex, streams: &'a [u64]) -> DatasetView<'a> {
    DatasetView {
        series: &index.series,
        kinds: &unit.dataset().kinds,
        rows: &index.rows,
        streams,
    }
}

fn streams(unit: &Unit) -> Vec<u64> {
    let ranges = unit.block.streams.iter();
    ranges.map(|range| range.stream.hash64()).collect()
}

fn add_profiles(
    mut executor: Executor,
    unit: &Unit,
    index: &DatasetIndex,
) -> Result<(Partial, ScanStats), QueryError> {
    let streams = streams(unit);
    let view = view(unit, index, &streams);
    let mut rows = select::rows(executor.scan(), &view);
    take_out_deleted(unit, &view, &mut rows);
    executor.add_profiles(&view, &rows);
    executor
        .finish()
        .map_err(|e| about(unit, QueryError::from(e)))
}

/// Leaves out rows that were deleted on demand.
fn take_out_deleted(unit: &Unit, view: &DatasetView<'_>, rows: &mut Vec<u32>) {
    if unit.deletions.is_empty() {
        return;
    }
    let hidden = Hidden::of(&unit.deletions, view.kinds, view.series);
    rows.retain(|&row| {
        let row = view.rows.row(row as usize);
        !hidden.hides(row.kind, row.series, row.time_ns)
    });
}

/// Selects buckets of roll-ups and sorts out where their sums lie.
fn select_buckets(rollups: &RollupIndex, chosen: &Chosen) -> Selected {
    let rows = &rollups.index.rows;
    let (coarse, fine) = chosen.rows.split_at(chosen.fine_from);
    let by_table = [(Resolution::Hour, coarse), (Resolution::FiveMinutes, fine)];
    let reads = by_table.map(|(resolution, buckets)| TableRead {
        table: resolution.table(),
        runs: buckets.iter().map(|&row| rows.run(row as usize)).collect(),
    });
    Selected {
        index: Arc::clone(&rollups.index),
        profiles: chosen.profiles,
        rows: chosen.rows.clone(),
        reads: reads
            .into_iter()
            .filter(|read| read.runs.iter().any(|run| run.n > 0))
            .collect(),
    }
}

/// Selects rows and sorts out which samples of which table they have; `None` if there are none.
/// What roll-ups were chosen for is left to them.
fn select_rows(
    unit: &Unit,
    scan: &Scan,
    index: Arc<DatasetIndex>,
    chosen: Option<&Chosen>,
) -> Option<Selected> {
    let streams = streams(unit);
    let mut rows = select::rows(scan, &view(unit, &index, &streams));
    if let Some(chosen) = chosen {
        chosen.leave(&index.rows, &mut rows);
    }
    take_out_deleted(unit, &view(unit, &index, &streams), &mut rows);
    let kinds = &unit.dataset().kinds;
    let mut selected = Selected {
        profiles: rows.len() as u64,
        rows: Vec::with_capacity(rows.len()),
        reads: Vec::new(),
        index,
    };
    for table in [Table::Samples, Table::Snapshots] {
        let of_kind: Vec<bool> = kinds.iter().map(|k| Table::of_kind(k) == table).collect();
        let profiles = &selected.index.rows;
        let here = rows
            .iter()
            .copied()
            .filter(|&row| of_kind[profiles.kind[row as usize] as usize]);
        let first = selected.rows.len();
        selected.rows.extend(here);
        let runs: Vec<_> = selected.rows[first..]
            .iter()
            .map(|&row| profiles.run(row as usize))
            .collect();
        if !runs.is_empty() {
            selected.reads.push(TableRead { table, runs });
        }
    }
    (!selected.rows.is_empty()).then_some(selected)
}

fn add_samples(
    (mut executor, going): (Executor, &Going),
    unit: &Unit,
    (symbols, parts): (&SymbolIndex, &[Selected]),
    (tables, columns): (&[(Arc<OpenTable>, Fetched)], Columns),
) -> Result<(Partial, ScanStats), QueryError> {
    let streams = streams(unit);
    let stacks = Stacks {
        symbols: &symbols.decoded.symbols,
        functions: &symbols.functions,
        nodes: Some(&symbols.decoded.nodes),
        function_of: &symbols.function_of,
    };
    let mut tables = tables.iter();
    for part in parts {
        let view = view(unit, &part.index, &streams);
        let mut run: SampleRun<'_> = executor.start(&view, &part.rows, &stacks);
        for (read, table) in part.reads.iter().zip(&mut tables) {
            add_table((&mut run, going), unit, (read, columns), table)?;
        }
        going.check()?;
        executor
            .finish_rolled(run, (&view, &part.rows, &stacks), part.profiles)
            .map_err(|e| about(unit, e.into()))?;
    }
    executor.finish().map_err(|e| about(unit, e.into()))
}

fn add_table(
    (run, going): (&mut SampleRun<'_>, &Going),
    unit: &Unit,
    (read, columns): (&TableRead, Columns),
    (open, fetched): &(Arc<OpenTable>, Fetched),
) -> Result<(), QueryError> {
    for runs in pieces(&read.runs) {
        going.check()?;
        let what = SampleRead {
            runs,
            columns,
            n_stacks: unit.dataset().n_stacks,
        };
        let mut outside: Option<OutsideStacks> = None;
        decode_samples((open, fetched), what, &mut |batch, _| {
            if outside.is_none() {
                outside = run.add(batch).err();
            }
        })
        .map_err(|e| damaged(unit, read.table, e))?;
        if let Some(error) = outside {
            let error = scoria_query::exec::ExecError::from(error);
            return Err(about(unit, error.into()));
        }
    }
    Ok(())
}

/// Runs in pieces of up to [`SAMPLES_AT_ONCE`], or of one run that is larger.
fn pieces(
    mut runs: &[scoria_block::SampleRun],
) -> impl Iterator<Item = &[scoria_block::SampleRun]> {
    std::iter::from_fn(move || {
        let mut n = 0;
        let fits = |run: &&scoria_block::SampleRun| {
            n += u64::from(run.n);
            n <= SAMPLES_AT_ONCE
        };
        let length = runs.iter().take_while(fits).count().max(1);
        let (piece, rest) = runs.split_at_checked(length)?;
        runs = rest;
        Some(piece)
    })
}

fn damaged(unit: &Unit, table: Table, error: scoria_block::BlockError) -> QueryError {
    BlockStore::damaged(unit.block.id, table, error).into()
}

fn about(unit: &Unit, error: QueryError) -> QueryError {
    let dataset = unit.dataset();
    error.about(format_args!(
        "block {}, dataset {}/{}",
        unit.block.id, dataset.tenant, dataset.service
    ))
}
