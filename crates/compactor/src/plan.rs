//! Which merges are due, from one version of the catalogue alone.
//!
//! ```text
//! level 0  a few blocks per hour, all tenants ──hour over, or many──► level 1  tenant × hour
//! level 1  tenant × hour                      ──day over──► level 2  tenant × day
//! level 1, 2 with deleted profiles            ──► the same level without them
//! ```
//! Tenants with little share a block, in both levels. Slices that come late are merged when they
//! come; what was merged before stays as it is, so that each byte is written twice after its flush
//! and once more for each deletion that touches it (M3).
//!
//! # Invariants
//! - No slice is in two jobs of one plan. The same state, time and settings give the same plan.
//!
//! # What it must not know
//! Other compactors: preconditions decide which of them wins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use scoria_model::{BlockId, ShardSet, TenantId, Timestamp};
use scoria_storage::CatalogueState;

use crate::pieces::{Piece, pieces};
use crate::settings::PlanSettings;

/// One hour, in nanoseconds: the window of level 1.
pub const HOUR_NS: i64 = 3_600_000_000_000;
/// One day, in nanoseconds: the window of level 2.
pub const DAY_NS: i64 = 24 * HOUR_NS;

/// The slices that a job takes of one block.
pub type InputSlices = (BlockId, Vec<(TenantId, ShardSet)>);

/// A merge that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Level of the outputs.
    pub level: u8,
    /// By block; all are live.
    pub inputs: Vec<InputSlices>,
    /// Time of the first profile in the inputs.
    pub oldest: Timestamp,
    /// Share of the inputs' stored bytes.
    pub bytes: u64,
}

impl Job {
    /// The tenants of the inputs, each with every shard that is taken of it anywhere.
    pub fn scope(&self) -> Vec<(TenantId, ShardSet)> {
        let mut scope: BTreeMap<&TenantId, ShardSet> = BTreeMap::new();
        for (tenant, shards) in self.inputs.iter().flat_map(|(_, slices)| slices) {
            let all = scope.entry(tenant).or_default();
            *all = all.union(*shards);
        }
        let owned = |(tenant, shards): (&TenantId, ShardSet)| (tenant.clone(), shards);
        scope.into_iter().map(owned).collect()
    }

    fn of(level: u8, taken: &[Piece]) -> Self {
        let mut inputs: BTreeMap<BlockId, BTreeMap<TenantId, ShardSet>> = BTreeMap::new();
        for piece in taken {
            let of_block = inputs.entry(piece.block.id).or_default();
            let shards = of_block.entry(piece.tenant.clone()).or_default();
            *shards = shards.union(piece.shard);
        }
        Self {
            level,
            inputs: inputs
                .into_iter()
                .map(|(block, slices)| (block, slices.into_iter().collect()))
                .collect(),
            oldest: taken.iter().map(|p| p.first).min().unwrap_or_default(),
            bytes: taken.iter().map(|p| p.bytes).sum(),
        }
    }
}

/// What waits to be merged, due or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The oldest first.
    pub jobs: Vec<Job>,
    /// Slices of level 0, and those of level 1 whose day is over.
    pub backlog_slices: u64,
    pub backlog_bytes: u64,
    /// Time of the first profile in level 0.
    pub oldest_unmerged: Option<Timestamp>,
}

/// The block itself if some of it is quarantined. The rest of it is merged without other blocks: an
/// output stands for all of its shards in each of its inputs, and must not for what is left there.
type Apart = Option<BlockId>;

/// Says whether a slice may hold profiles of a deletion that it has not gone through.
pub(crate) type HasDeleted<'a> = &'a dyn Fn(&CatalogueState, &Piece) -> bool;

/// Plans on `state` at `now`. What is quarantined is passed over.
pub(crate) fn plan(
    state: &CatalogueState,
    now: Timestamp,
    settings: &PlanSettings,
    has_deleted: HasDeleted<'_>,
) -> Plan {
    let live = state.blocks().flat_map(|meta| pieces(state, meta));
    let all: Vec<Piece> = live
        .filter(|piece| !state.is_quarantined(piece.block.id, &piece.tenant, piece.shard))
        .collect();
    let mut plan = Plan::default();
    let level0 = all.iter().filter(|piece| piece.block.level == 0);
    plan.oldest_unmerged = level0.map(|piece| piece.first).min();
    let mut rest: Vec<Piece> = Vec::new();
    let mut hours: BTreeMap<(i64, Apart), Vec<Piece>> = BTreeMap::new();
    let mut days: BTreeMap<(i64, Apart), Vec<Piece>> = BTreeMap::new();
    for piece in all {
        let window = |length: i64| piece.first.0.div_euclid(length);
        let block = piece.block.id;
        let apart = state.quarantined(block).map(|_| block);
        match piece.block.level {
            0 => {
                let of_hour = hours.entry((window(HOUR_NS), apart)).or_default();
                of_hour.push(piece);
            }
            1 if is_over(window(DAY_NS), DAY_NS, now, settings.settle) => {
                let of_day = days.entry((window(DAY_NS), apart)).or_default();
                of_day.push(piece);
            }
            _ => rest.push(piece),
        }
    }
    for waiting in hours.values().chain(days.values()).flatten() {
        plan.backlog_slices += 1;
        plan.backlog_bytes += waiting.bytes;
    }
    for ((hour, _), pieces) in hours {
        let blocks: BTreeSet<BlockId> = pieces.iter().map(|piece| piece.block.id).collect();
        let over = is_over(hour, HOUR_NS, now, settings.settle);
        if over || blocks.len() >= settings.eager_blocks.max(2) {
            merge_window(1, pieces, settings, &mut plan.jobs);
        }
    }
    for pieces in days.into_values() {
        merge_window(2, pieces, settings, &mut plan.jobs);
    }
    let rewritten = rest.into_iter().filter(|piece| has_deleted(state, piece));
    let mut by_tenant: BTreeMap<(BlockId, TenantId), Vec<Piece>> = BTreeMap::new();
    for piece in rewritten {
        let key = (piece.block.id, piece.tenant.clone());
        by_tenant.entry(key).or_default().push(piece);
    }
    let rewrites = by_tenant.into_values();
    plan.jobs
        .extend(rewrites.map(|pieces| Job::of(pieces[0].block.level, &pieces)));
    plan.jobs.sort_by_key(|job| (job.level, job.oldest));
    plan
}

/// Whether everything that is not late has come of the `n`-th window.
fn is_over(n: i64, length: i64, now: Timestamp, settle: Duration) -> bool {
    let settle = i64::try_from(settle.as_nanos()).unwrap_or(i64::MAX);
    let end = n.saturating_add(1).saturating_mul(length);
    now.0 >= end.saturating_add(settle)
}

/// The jobs that merge a window: one for all small tenants, one or more for each of the others.
fn merge_window(level: u8, pieces: Vec<Piece>, settings: &PlanSettings, jobs: &mut Vec<Job>) {
    let mut tenants: BTreeMap<TenantId, Vec<Piece>> = BTreeMap::new();
    for piece in pieces {
        tenants.entry(piece.tenant.clone()).or_default().push(piece);
    }
    let mut small = Vec::new();
    for (_, mut pieces) in tenants {
        let bytes: u64 = pieces.iter().map(|piece| piece.bytes).sum();
        if bytes < settings.small_bytes {
            small.extend(pieces);
            continue;
        }
        pieces.sort_by_key(|piece| (piece.shard, piece.block.id));
        cut_into_jobs(level, by_shard(&pieces, settings), settings, jobs);
    }
    small.sort_by_key(|piece| (piece.block.id, piece.tenant.clone(), piece.shard));
    let by_block = small.chunk_by(|a, b| a.block.id == b.block.id);
    let whole = |pieces: &[Piece]| Group {
        pieces: pieces.to_vec(),
        part_of: None,
    };
    cut_into_jobs(level, by_block.map(whole).collect(), settings, jobs);
}

/// Slices that stay together.
struct Group {
    pieces: Vec<Piece>,
    /// The shard that it is a part of, if other groups have the rest of it.
    part_of: Option<ShardSet>,
}

/// A large tenant's shards; where one does not fit a job, its blocks one by one.
fn by_shard(pieces: &[Piece], settings: &PlanSettings) -> Vec<Group> {
    let mut groups = Vec::new();
    for shard in pieces.chunk_by(|a, b| a.shard == b.shard) {
        let bytes: u64 = shard.iter().map(|piece| piece.bytes).sum();
        let divide = bytes > settings.job_bytes || shard.len() > settings.job_blocks;
        let size = if divide { 1 } else { shard.len() };
        groups.extend(shard.chunks(size).map(|pieces| Group {
            pieces: pieces.to_vec(),
            part_of: divide.then_some(pieces[0].shard),
        }));
    }
    groups
}

/// Fills jobs with groups. An output stands for each of its job's shards in each of its job's
/// blocks: so a job takes whole shards, or some blocks of one shard, or all small tenants of some
/// blocks, and never a part of what it would claim.
fn cut_into_jobs(level: u8, groups: Vec<Group>, settings: &PlanSettings, jobs: &mut Vec<Job>) {
    let (mut taken, mut part_of): (Vec<Piece>, Option<ShardSet>) = (Vec::new(), None);
    for group in groups {
        let both = || taken.iter().chain(&group.pieces);
        let blocks: BTreeSet<BlockId> = both().map(|piece| piece.block.id).collect();
        let bytes: u64 = both().map(|piece| piece.bytes).sum();
        let fits = blocks.len() <= settings.job_blocks && bytes <= settings.job_bytes;
        let joins = fits && part_of == group.part_of;
        if !joins && !taken.is_empty() {
            jobs.push(Job::of(level, &taken));
            taken.clear();
        }
        part_of = group.part_of;
        taken.extend(group.pieces);
    }
    if !taken.is_empty() {
        jobs.push(Job::of(level, &taken));
    }
}

#[cfg(test)]
mod day;
#[cfg(test)]
mod tests;
