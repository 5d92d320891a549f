//! Metas of blocks without rows.

use scoria_block::{BlockMeta, DatasetMeta, FORMAT_VERSION, MergeScope, StreamRange, Table};
use scoria_model::{
    BlockId, Incarnation, NodeId, ProfileType, Seq, ShardSet, StreamId, TenantId, Timestamp,
};

/// A stream of node `n` by number.
pub fn stream_id(n: u32) -> StreamId {
    StreamId {
        node: NodeId("node-0".into()),
        incarnation: Incarnation(7),
        n,
    }
}

/// The meta of a block of level 0 that covers `(from, to]` of a stream and has no tables.
pub fn bare_meta(id: u128, stream: &StreamId, (from, to): (u64, u64)) -> BlockMeta {
    BlockMeta {
        id: BlockId(id),
        level: 0,
        version: FORMAT_VERSION,
        min_time: Timestamp(0),
        max_time: Timestamp(0),
        bytes: 0,
        tables: Vec::new(),
        datasets: Vec::new(),
        streams: vec![StreamRange {
            stream: stream.clone(),
            from: Seq(from),
            to: Seq(to),
        }],
        inputs: Vec::new(),
        merge: None,
        rollup_labels: Vec::new(),
    }
}

/// The meta of a block of level 0 with datasets, given as `tenant/service`, in order, that have no
/// rows.
pub fn meta_of(id: u128, stream: &StreamId, range: (u64, u64), datasets: &[&str]) -> BlockMeta {
    let dataset = |name: &&str| {
        let (tenant, service) = name.split_once('/').unwrap_or((name, ""));
        DatasetMeta {
            tenant: TenantId::parse(tenant).unwrap_or_else(|_| TenantId::anonymous()),
            service: service.into(),
            min_time: Timestamp(0),
            max_time: Timestamp(0),
            rows: Table::ALL.map(|_| 0..0),
            kinds: vec![ProfileType::new("cpu", ("cpu", "ns"), ("cpu", "ns"))],
            n_stacks: 0,
            rolled: Vec::new(),
        }
    };
    BlockMeta {
        datasets: datasets.iter().map(dataset).collect(),
        ..bare_meta(id, stream, range)
    }
}

/// `meta` as a merge of these slices of `inputs` makes it.
pub fn merged_meta(
    meta: BlockMeta,
    inputs: &[u128],
    slices: Vec<(TenantId, ShardSet)>,
) -> BlockMeta {
    BlockMeta {
        level: 1,
        inputs: inputs.iter().map(|&id| BlockId(id)).collect(),
        merge: Some(MergeScope {
            slices,
            run: 1,
            part: 0,
            last: true,
        }),
        ..meta
    }
}
