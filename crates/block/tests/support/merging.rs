//! Blocks of one dataset, and merges of them.

use std::sync::Arc;

use scoria_block::{
    BlockSpec, BlockWriter, DatasetMeta, EncodedBlock, Keep, MergeInput, MergeRules, MergeScope,
    Resends, Sources, merged_id, merged_streams,
};
use scoria_model::{BlockId, ShardSet};

use super::made::Made;
use super::reading::{fetch_dataset, object, open_all};

pub const ROOMY: u64 = 1 << 30;

/// The block of the stream with this number.
pub fn write(made: &Made, n: u32) -> EncodedBlock {
    let mut spec = super::spec();
    spec.id = BlockId(spec.id.0 + u128::from(n));
    spec.streams[0].stream.n = n;
    let mut writer = BlockWriter::new(spec).unwrap();
    writer.add(made.input()).unwrap();
    writer.finish().unwrap()
}

/// Everything of a dataset.
pub fn sources(block: &EncodedBlock, dataset: &DatasetMeta) -> Sources {
    let opened = open_all(&block.meta).unwrap();
    let bytes = |table| object(block, table).unwrap().clone();
    fetch_dataset(&opened, dataset, &bytes).unwrap()
}

/// The blocks of one dataset merged, with roll-ups apart by owner.
pub fn merge(blocks: &[EncodedBlock], bytes_max: u64) -> EncodedBlock {
    let dataset = &blocks[0].meta.datasets[0];
    let (tenant, service) = (dataset.tenant.clone(), Arc::clone(&dataset.service));
    let scope = MergeScope {
        slices: vec![(tenant.clone(), ShardSet::ALL)],
        run: 9,
        part: 0,
        last: true,
    };
    let ids: Vec<BlockId> = blocks.iter().map(|block| block.meta.id).collect();
    let mut writer = BlockWriter::new(BlockSpec {
        id: merged_id(1, &ids, &scope, &[]),
        level: 1,
        streams: merged_streams(blocks.iter().map(|block| &block.meta)),
        inputs: ids,
        merge: Some(scope),
        rollup_labels: vec!["owner".into()],
    })
    .unwrap();
    let read: Vec<Sources> = blocks
        .iter()
        .map(|block| sources(block, &block.meta.datasets[0]))
        .collect();
    let inputs: Vec<MergeInput<'_>> = blocks
        .iter()
        .zip(&read)
        .map(|(block, sources)| MergeInput {
            block: &block.meta,
            dataset: &block.meta.datasets[0],
            sources,
        })
        .collect();
    let keep: Keep<'_> = &|_, _, _| Vec::new();
    let rules = MergeRules { keep, bytes_max };
    let merged = writer
        .add_merged((&tenant, &service), &inputs, rules, &mut Resends::default())
        .unwrap();
    assert_eq!(merged.inputs, blocks.len());
    writer.finish().unwrap()
}
