//! From heads to blocks: one block for each hour of profile time that the heads touch.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use scoria_block::{
    BlockError, BlockSpec, BlockWriter, DatasetInput, EncodedBlock, ProfileRow, StreamRange,
};
use scoria_model::{BlockId, Seq, StreamId, Timestamp};

use crate::head::{HeadSnapshot, SampleCounts};
use crate::record::samples::SamplesError;

const HOUR_NS: i64 = 3_600_000_000_000;

/// Most blocks of one cut. Profiles of more hours than that can only come from clients that send
/// times at random; the oldest hours share a block then.
const BLOCKS_MAX: usize = 64;

/// Why the blocks of a generation could not be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error("the head of {tenant}/{service}: {source}")]
    Samples {
        tenant: String,
        service: String,
        source: SamplesError,
    },
}

/// What decoded samples, their sorting and the encoded tables take, by a generous guess. Heads are
/// decoded one after the other, so that of the decoded ones only the largest counts.
pub(crate) fn memory_needed(samples: SampleCounts) -> u64 {
    // A decoded sample takes 36 bytes at most and is sorted once; an encoded one, some bytes.
    samples.largest * 80 + samples.all * 8 + (1 << 20)
}

/// Builds the blocks of the records in `(from, to]` of a stream. Heads come in order of tenant and
/// service.
///
/// # Errors
/// [`BuildError`]; a head that cannot be encoded fails the whole.
pub(super) fn blocks(
    heads: &[HeadSnapshot],
    stream: &StreamId,
    (from, to): (Seq, Seq),
    now: Timestamp,
) -> Result<Vec<EncodedBlock>, BuildError> {
    let mut blocks = Vec::new();
    for window in windows(heads) {
        let mut writer = BlockWriter::new(BlockSpec {
            id: new_block_id(now),
            level: 0,
            streams: vec![StreamRange {
                stream: stream.clone(),
                from,
                to,
            }],
            inputs: Vec::new(),
            merge: None,
            rollup_labels: Vec::new(),
        })?;
        if !heads.iter().any(HeadSnapshot::has_spans) {
            writer.without_spans();
        }
        for head in heads {
            add(&mut writer, head, &window)?;
        }
        if !writer.is_empty() {
            blocks.push(writer.finish()?);
        }
    }
    Ok(blocks)
}

/// Hours since the epoch, the first and the last included.
struct Window {
    first: i64,
    last: i64,
}

impl Window {
    fn takes(&self, row: &ProfileRow) -> bool {
        let hour = row.time_ns.div_euclid(HOUR_NS);
        self.first <= hour && hour <= self.last
    }

    fn overlaps(&self, (first, last): (Timestamp, Timestamp)) -> bool {
        let hour = |time: Timestamp| time.nanos().div_euclid(HOUR_NS);
        self.first <= hour(last) && hour(first) <= self.last
    }
}

fn windows(heads: &[HeadSnapshot]) -> Vec<Window> {
    let chunks = heads.iter().flat_map(HeadSnapshot::rows);
    let hours: BTreeSet<i64> = chunks
        .flat_map(|chunk| &chunk.time_ns)
        .map(|time| time.div_euclid(HOUR_NS))
        .collect();
    let shared = hours.len().saturating_sub(BLOCKS_MAX);
    let mut windows: Vec<Window> = hours
        .into_iter()
        .map(|hour| Window {
            first: hour,
            last: hour,
        })
        .collect();
    let first = windows.first().map_or(0, |w| w.first);
    windows.drain(..shared);
    if let Some(oldest) = windows.first_mut() {
        oldest.first = first;
    }
    windows
}

fn add(writer: &mut BlockWriter, head: &HeadSnapshot, window: &Window) -> Result<(), BuildError> {
    if !head.times().is_some_and(|times| window.overlaps(times)) {
        return Ok(());
    }
    let collected = head.collect(|row| window.takes(row));
    let (rows, samples) = collected.map_err(|source| BuildError::Samples {
        tenant: head.tenant().to_string(),
        service: head.service().to_owned(),
        source,
    })?;
    writer.add(DatasetInput {
        tenant: head.tenant(),
        service: head.service(),
        symbols: head.symbols(),
        series: head.series(),
        kinds: head.kinds(),
        profiles: &rows,
        samples: &samples,
    })?;
    Ok(())
}

/// A ULID: milliseconds, then 80 random bits.
fn new_block_id(now: Timestamp) -> BlockId {
    let millis = now.millis().max(0) as u128 & ((1 << 48) - 1);
    let random = || u128::from(RandomState::new().hash_one(0u8));
    let low = (random() << 64 | random()) & ((1 << 80) - 1);
    BlockId(millis << 80 | low)
}

#[cfg(test)]
mod tests {
    use scoria_block::{OpenTable, Table};

    use super::*;
    use crate::head::Heads;
    use crate::record::RecordWriter;
    use crate::record::tests::{Told, part, write};

    /// A profile of forty samples.
    fn told(n: i64, span: u8) -> Told {
        Told {
            series: 0,
            kind: 0,
            times: (n, 10, 10),
            samples: (0..40).map(|stack| (stack, 1 + n % 7, span)).collect(),
        }
    }

    /// More samples than are encoded in one go, the very last of which name `span`.
    fn large(span: u8) -> EncodedBlock {
        const PROFILES: i64 = 1000;
        let mut writer = RecordWriter::new();
        let mut heads = Heads::new();
        for record in 0..28 {
            let first = record * PROFILES;
            let mut profiles: Vec<Told> = (first..first + PROFILES).map(|n| told(n, 0)).collect();
            if record == 27 {
                profiles.push(told(first + PROFILES, span));
            }
            let record = write(&mut writer, "a", &[part(record as u8, &profiles)]);
            heads.append(&record.push, Seq(first as u64 + 1));
        }
        let heads: Vec<HeadSnapshot> = heads.iter().map(|head| head.snapshot()).collect();
        let stream = scoria_storage::testing::stream_id(1);
        let range = (Seq(0), Seq(1 << 30));
        let mut blocks = blocks(&heads, &stream, range, Timestamp(0)).unwrap();
        assert_eq!(blocks.len(), 1);
        blocks.remove(0)
    }

    #[test]
    fn a_large_block_has_span_columns_only_if_a_sample_names_a_span() {
        for span in [0, 7] {
            let block = large(span);
            let samples = block.meta.table(Table::Samples).unwrap();
            assert!(samples.rows > 1 << 20, "{} rows", samples.rows);
            let has_spans = OpenTable::new(samples).unwrap().has_spans();
            assert_eq!(has_spans, span != 0);
        }
    }
}
