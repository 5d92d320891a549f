//! Rolls up what a merge has gathered, once its doubles are out.

use super::gather::Gathered;
use super::{MergeError, MergeRules};
use crate::dataset_rows::DatasetRows;
use crate::rollup::{Hours, InputStacks, SumsLimit, read_runs};
use crate::{BlockWriter, ProfileRows, Rolled, Table};

/// Share of a merge's memory that the sums of one hour may take.
const SUMS_PART: u64 = 4;

/// Writes the roll-ups of a dataset whose tables are in the writer.
pub(super) fn roll_up(
    writer: &mut BlockWriter,
    (gathered, rows, profiles): (&Gathered<'_>, &DatasetRows, &ProfileRows),
    rules: MergeRules<'_>,
) -> Result<Vec<Rolled>, MergeError> {
    let stacks: Vec<InputStacks<'_>> = gathered
        .inputs
        .iter()
        .map(|input| InputStacks {
            n: input.of.dataset.n_stacks as usize,
            new_rank: Some(&input.numbers),
        })
        .collect();
    let more = writer.spec().rollup_labels.clone();
    let hours = Hours::new(
        (profiles, rows.series_of()),
        (rows.series(), &more),
        (&gathered.input_of, &stacks),
    );
    let limit = SumsLimit {
        bytes: rules.bytes_max / SUMS_PART,
    };
    let kinds = rows.kinds();
    let Some(mut sink) = writer.rollups(&hours.labels, kinds.len()) else {
        return Ok(Vec::new());
    };
    for (kind, mut of_kind) in rows.by_kind().into_iter().enumerate() {
        let table = Table::of_kind(&kinds[kind]);
        for hour in hours.cut(&mut of_kind) {
            let added =
                hours.add_up((hour, table), limit, &mut |(input, table, runs), visit| {
                    let of = &gathered.inputs[input as usize].of;
                    read_runs((of.sources, of.dataset), (table, runs), visit).map_err(|source| {
                        MergeError::Input {
                            block: of.block.id,
                            source,
                        }
                    })
                })?;
            sink.add(kind, &added)?;
        }
    }
    Ok(sink.finish(kinds)?)
}
