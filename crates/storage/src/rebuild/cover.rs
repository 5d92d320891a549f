//! Which of the blocks that lie in a bucket cover everything once. Pure.
//!
//! ```text
//! merged blocks ─► merges, complete with all parts ─► accepted with the merges of their inputs,
//!                  highest level first, unless an input's slice is taken already
//! flushed blocks ─► cuts of a stream without overlap ─► less the slices that merges took
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use scoria_block::{BlockMeta, StreamRange};
use scoria_model::{BlockId, Epoch, Seq, ShardSet, StreamId, TenantId};

use super::LeftOut;
use super::merges::{Taken, choose_merges};
use crate::catalogue::{Op, Tombstone, Txn};
use crate::keys;

/// Bits of an id below its time.
const RANDOM_BITS: u32 = 80;
/// Operations of one commit, so that an entry stays far below its limit.
const OPS_PER_COMMIT: usize = 500;

pub(super) struct Covered {
    /// The blocks with a live slice, by id.
    pub(super) blocks: Vec<Arc<BlockMeta>>,
    pub(super) streams: Vec<(StreamId, Seq)>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) txns: Vec<Txn>,
}

/// A cut: the time of its blocks' ids, which its writer drew at the same moment, and its range.
type Cut = (u128, StreamRange);
type Cuts = Vec<(Cut, Vec<Arc<BlockMeta>>)>;
type Slices = Vec<(TenantId, ShardSet)>;
/// The live blocks of a stream's cuts, by range.
type ByRange = BTreeMap<(Seq, Seq), Vec<Arc<BlockMeta>>>;

/// Chooses among all blocks whose manifests are readable.
pub(super) fn choose(metas: Vec<Arc<BlockMeta>>, tombstones: Vec<Tombstone>) -> Covered {
    let mut left_out = Vec::new();
    let present = ids(&metas);
    let (merged, flushed): (Vec<_>, Vec<_>) = metas.into_iter().partition(|m| m.level > 0);
    let taken = choose_merges(merged, &present, &mut left_out);
    let chosen = choose_cuts(flushed, &taken, &mut left_out);
    let mut blocks = Vec::new();
    let mut removals = Vec::new();
    let mut cuts: BTreeMap<StreamId, ByRange> = BTreeMap::new();
    for (range, of_cut) in chosen {
        let of_stream = cuts.entry(range.stream.clone()).or_default();
        let live = of_stream.entry((range.from, range.to)).or_default();
        for meta in of_cut {
            if let Some(gone) = live_part(&meta, &taken, &mut left_out) {
                removals.extend(gone);
                live.push(Arc::clone(&meta));
                blocks.push(meta);
            }
        }
    }
    let mut merged = Vec::new();
    for meta in &taken.blocks {
        // What a merge covers is committed, also where nothing of the cut itself is left.
        for range in &meta.streams {
            let of_stream = cuts.entry(range.stream.clone()).or_default();
            of_stream.entry((range.to, range.to)).or_default();
        }
        if let Some(gone) = live_part(meta, &taken, &mut left_out) {
            removals.extend(gone);
            merged.push(Arc::clone(meta));
            blocks.push(Arc::clone(meta));
        }
    }
    blocks.sort_by_key(|meta| meta.id);
    let mut txns = Vec::new();
    let streams = open_streams(cuts, &mut txns);
    let adds = merged.into_iter().map(Op::AddBlock).collect();
    let deletes = tombstones.into_iter().map(|t| Op::Delete(Arc::new(t)));
    // Deletions come last, so that they hold for every block.
    for ops in [adds, removals, deletes.collect::<Vec<_>>()] {
        for some in ops.chunks(OPS_PER_COMMIT) {
            let mut txn = Txn::new();
            txn.ops.extend(some.iter().cloned());
            txns.push(txn);
        }
    }
    Covered {
        blocks,
        streams,
        left_out,
        txns,
    }
}

/// The removal of what merges took of a block, if anything; `None` when they took all of it.
fn live_part(
    meta: &Arc<BlockMeta>,
    taken: &Taken,
    left_out: &mut Vec<LeftOut>,
) -> Option<Option<Op>> {
    let mut gone: Slices = Vec::new();
    let mut whole = true;
    for (tenant, shards) in meta.slices() {
        let removed = taken.of(meta, &tenant).intersection(shards);
        whole &= removed == shards;
        if !removed.is_empty() {
            gone.push((tenant, removed));
        }
    }
    if whole && !gone.is_empty() {
        left_out.push(leave(meta, "merged blocks stand for all of it"));
        return None;
    }
    let removal = (!gone.is_empty()).then_some(Op::RemoveSlices {
        block: meta.id,
        slices: gone,
    });
    Some(removal)
}

/// The cuts of every stream that do not overlap. One that a merge took from was committed, and
/// counts against all others.
fn choose_cuts(
    flushed: Vec<Arc<BlockMeta>>,
    taken: &Taken,
    left_out: &mut Vec<LeftOut>,
) -> Vec<(StreamRange, Vec<Arc<BlockMeta>>)> {
    let mut cuts: BTreeMap<StreamId, Cuts> = BTreeMap::new();
    for meta in flushed {
        let [range] = meta.streams.as_slice() else {
            left_out.push(leave(
                &meta,
                "it covers no stream or several, which no cut does",
            ));
            continue;
        };
        let cut = (meta.id.0 >> RANDOM_BITS, range.clone());
        let of_stream = cuts.entry(range.stream.clone()).or_default();
        match of_stream.iter_mut().find(|(other, _)| *other == cut) {
            Some((_, blocks)) => blocks.push(meta),
            None => of_stream.push((cut, vec![meta])),
        }
    }
    let mut chosen = Vec::new();
    for (_, cuts) in cuts {
        chosen.extend(disjoint(cuts, taken, left_out));
    }
    chosen
}

/// Of cuts that overlap: the one that merges took from; of the same range the one with the most
/// blocks, since the others were cut off; else the newest, since a cut that was committed is not
/// followed by another from before its end.
fn disjoint(
    mut cuts: Cuts,
    taken: &Taken,
    left_out: &mut Vec<LeftOut>,
) -> Vec<(StreamRange, Vec<Arc<BlockMeta>>)> {
    let most = |range: &StreamRange| {
        let same = cuts.iter().filter(|((_, other), _)| other == range);
        same.map(|(_, blocks)| blocks.len()).max().unwrap_or(0)
    };
    let ranks: Vec<(bool, bool, u128)> = cuts
        .iter()
        .map(|((millis, range), blocks)| {
            let certain = blocks.iter().any(|meta| taken.is_input(meta.id));
            (certain, blocks.len() == most(range), *millis)
        })
        .collect();
    let mut order: Vec<usize> = (0..cuts.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(ranks[at]));
    let mut chosen: Vec<(StreamRange, Vec<Arc<BlockMeta>>)> = Vec::new();
    for at in order {
        let blocks = std::mem::take(&mut cuts[at].1);
        let range = &cuts[at].0.1;
        let overlaps =
            |(other, _): &(StreamRange, _)| range.from < other.to && other.from < range.to;
        if chosen.iter().any(overlaps) {
            let why = "another cut of the stream covers its records";
            left_out.extend(blocks.iter().map(|meta| leave(meta, why)));
            continue;
        }
        chosen.push((range.clone(), blocks));
    }
    chosen
}

/// Opens the streams and advances them over their cuts; how far each one got.
fn open_streams(cuts: BTreeMap<StreamId, ByRange>, txns: &mut Vec<Txn>) -> Vec<(StreamId, Seq)> {
    let epoch = Epoch(1);
    let mut streams = Vec::new();
    for (stream, cuts) in cuts {
        txns.push(Txn::new().then(Op::OpenStream {
            stream: stream.clone(),
            epoch,
            owner: stream.node.clone(),
            members: vec![stream.node.clone()],
            quorum: 1,
        }));
        let mut committed = Seq(0);
        for ((from, to), blocks) in cuts {
            if from > committed {
                // Records without profiles, or whose cut is gone since merges took all of it.
                txns.push(Txn::flush(&stream, epoch, (committed, from), []));
                committed = from;
            }
            if to > committed {
                txns.push(Txn::flush(&stream, epoch, (committed, to), blocks));
                committed = to;
            }
        }
        streams.push((stream, committed));
    }
    streams
}

pub(super) fn leave(meta: &BlockMeta, why: &str) -> LeftOut {
    LeftOut {
        key: format!("{}/{}", keys::BLOCKS, meta.id),
        why: why.to_owned(),
    }
}

/// The ids in a list, for looking up.
pub(super) fn ids<'a>(metas: impl IntoIterator<Item = &'a Arc<BlockMeta>>) -> BTreeSet<BlockId> {
    metas.into_iter().map(|meta| meta.id).collect()
}
