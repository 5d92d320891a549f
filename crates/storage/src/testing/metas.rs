//! Metas of blocks without rows.

use scoria_block::{BlockMeta, FORMAT_VERSION, StreamRange};
use scoria_model::{BlockId, Incarnation, NodeId, Seq, StreamId, Timestamp};

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
    }
}
