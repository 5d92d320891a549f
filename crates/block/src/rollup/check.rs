//! Whether the roll-ups of a dataset say what its profiles say (M2).

use super::hour::{Hour, Hours, InputStacks, SumsLimit, VisitPiece};
use super::{Resolution, RollupRows};
use crate::{
    BlockError, BlockMeta, Columns, DatasetMeta, ProfileRows, SampleRead, SampleRun, Sources,
    Table, decode_profiles, decode_rollups, decode_samples, decode_series,
};

/// Adds all profiles of the dataset up again and compares. `bytes` bounds the sums of an hour; an
/// hour that takes more is compared by its totals only.
///
/// # Errors
/// [`BlockError::Damaged`] of the table that does not agree, or of what cannot be read.
pub fn check_rollups(
    sources: &Sources,
    (block, dataset): (&BlockMeta, &DatasetMeta),
    bytes: u64,
) -> Result<(), BlockError> {
    if dataset.rows(Table::Rollups).is_empty() {
        return Ok(());
    }
    let stored = decode_rollups(sources, dataset)?;
    let series = decode_series(sources, dataset)?;
    let profiles = decode_profiles(sources, block, dataset)?;
    let stacks = [InputStacks {
        n: dataset.n_stacks as usize,
        new_rank: None,
    }];
    let hours = Hours::new(
        (&profiles, &profiles.series),
        (&series, &block.rollup_labels),
        (&[], &stacks),
    );
    let mut expected = Expected {
        sources,
        dataset,
        stored: &stored,
        at: 0,
        unrolled: vec![[0; 2]; dataset.kinds.len()],
    };
    for kind in 0..dataset.kinds.len() {
        let table = Table::of_kind(&dataset.kinds[kind]);
        let of_kind = |at: &u32| profiles.kind[*at as usize] as usize == kind;
        let mut rows: Vec<u32> = (0..profiles.len() as u32).filter(of_kind).collect();
        for hour in hours.cut(&mut rows) {
            let added = hours.add_up((hour, table), SumsLimit { bytes }, &mut |read, visit| {
                let (_, table, runs) = read;
                read_runs((sources, dataset), (table, runs), visit)
            })?;
            expected.compare(kind, &hours, &added)?;
        }
    }
    expected.end()
}

/// Reads some runs of a table of samples, by rank.
pub(crate) fn read_runs(
    (sources, dataset): (&Sources, &DatasetMeta),
    (table, runs): (Table, &[SampleRun]),
    visit: &mut VisitPiece<'_>,
) -> Result<(), BlockError> {
    if runs.iter().all(|run| run.n == 0) {
        return Ok(());
    }
    let rows = dataset.rows(table);
    let (open, fetched) = sources.get(table).ok_or(BlockError::NotFetched {
        table,
        start: rows.start,
        end: rows.end,
    })?;
    let read = SampleRead {
        runs,
        columns: Columns::Plain,
        n_stacks: dataset.n_stacks,
    };
    decode_samples((open, fetched), read, &mut |batch, pieces| {
        for piece in pieces {
            let samples = piece.samples.clone();
            visit(
                piece.run,
                &batch.stack[samples.clone()],
                &batch.value[samples],
            );
        }
    })
}

/// Walks along the stored buckets.
struct Expected<'a> {
    sources: &'a Sources,
    dataset: &'a DatasetMeta,
    stored: &'a RollupRows,
    /// The next stored bucket.
    at: usize,
    unrolled: Vec<[u64; 2]>,
}

impl Expected<'_> {
    fn compare(&mut self, kind: usize, hours: &Hours<'_>, hour: &Hour) -> Result<(), BlockError> {
        for resolution in Resolution::ALL {
            let mut written = true;
            for (&(bucket, labels, period), added) in &hour.buckets[resolution.index()] {
                let at = self.at;
                let rows: &ProfileRows = &self.stored.rows;
                let same = at < rows.len()
                    && self.stored.resolution[at] == resolution
                    && rows.kind[at] as usize == kind
                    && rows.time_ns[at] == bucket
                    && rows.period[at] == period
                    && self.stored.labels[rows.series[at] as usize]
                        == hours.labels[labels as usize]
                    && self.stored.profiles[at] == added.profiles
                    && rows.total[at] == added.total;
                if !same {
                    let what = format!(
                        "bucket {at} is not that of {} s at {bucket} ns with {} profiles of {} in all",
                        resolution.seconds(),
                        added.profiles,
                        added.total
                    );
                    return Err(BlockError::damaged(Table::Rollups, what));
                }
                written &= self.stored.written[at];
                if self.stored.written[at]
                    && (hour.worth[resolution.index()] || !added.sums.is_empty())
                {
                    self.compare_sums((resolution, at), &added.sums)?;
                }
                self.at += 1;
            }
            if !written {
                self.unrolled[kind][resolution.index()] += hour.samples;
            }
        }
        Ok(())
    }

    fn compare_sums(
        &self,
        (resolution, at): (Resolution, usize),
        sums: &[(u32, i64)],
    ) -> Result<(), BlockError> {
        let run = self.stored.rows.run(at);
        let mut stored: Vec<(u32, i64)> = Vec::with_capacity(sums.len());
        let of = (self.sources, self.dataset);
        read_runs(of, (resolution.table(), &[run]), &mut |_, ranks, values| {
            stored.extend(ranks.iter().copied().zip(values.iter().copied()));
        })?;
        if stored == sums {
            return Ok(());
        }
        let what = format!(
            "bucket {at} has other sums than its {} profiles",
            self.stored.profiles[at]
        );
        Err(BlockError::damaged(resolution.table(), what))
    }

    fn end(self) -> Result<(), BlockError> {
        let told: Vec<[u64; 2]> = self.dataset.rolled.iter().map(|of| of.unrolled).collect();
        if self.at == self.stored.rows.len() && told == self.unrolled {
            return Ok(());
        }
        let what = format!(
            "{} buckets where the profiles give {}; samples without sums {:?}, its meta says {told:?}",
            self.stored.rows.len(),
            self.at,
            self.unrolled
        );
        Err(BlockError::damaged(Table::Rollups, what))
    }
}
