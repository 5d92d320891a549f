//! Which merges happened, and what they took.
//!
//! A merge is all blocks with the same inputs, scope and run. What it was made of was live when it
//! was made, so whoever believes a merge believes those of its inputs.
//!
//! # Invariants
//! - Of merges that took the same slice of an input at most one is accepted: one that lost against a
//!   deletion lies beside the one that went through it.
//! - A part that was written twice, since the first was given up, counts as one block.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use scoria_block::BlockMeta;
use scoria_model::{BlockId, ShardSet, TenantId, Timestamp};

use super::LeftOut;
use super::cover::{ids, leave};

const HOUR_NS: i64 = 3_600_000_000_000;

type Slices = Vec<(TenantId, ShardSet)>;
/// Level, inputs, what was taken of them, and the run.
type Key = (u8, Vec<BlockId>, Vec<(TenantId, u16)>, u64);

/// The accepted merges.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Their blocks, by id; also those of which later merges took all.
    pub(super) blocks: Vec<Arc<BlockMeta>>,
    /// By input.
    slices: BTreeMap<BlockId, BTreeMap<TenantId, ShardSet>>,
    /// Blocks of merges some of whose inputs are gone, so that what those were made of is known by
    /// streams and hours only.
    rootless: Vec<Arc<BlockMeta>>,
}

impl Taken {
    /// The shards of a tenant that merges took of a block.
    pub(super) fn of(&self, meta: &BlockMeta, tenant: &TenantId) -> ShardSet {
        let of_block = self.slices.get(&meta.id).and_then(|of| of.get(tenant));
        let mut taken = of_block.copied().unwrap_or(ShardSet::EMPTY);
        if meta.level == 0 && !self.is_input(meta.id) {
            for merged in self.rootless.iter().filter(|merged| covers(merged, meta)) {
                taken = taken.union(scope_of(merged, tenant));
            }
        }
        taken
    }

    pub(super) fn is_input(&self, block: BlockId) -> bool {
        self.slices.contains_key(&block)
    }

    /// Whether any of it is taken already.
    fn overlaps(&self, group: &Group) -> bool {
        group.inputs().iter().any(|input| {
            let of_input = self.slices.get(input);
            of_input.is_some_and(|of| {
                let taken = |tenant| of.get(tenant).copied().unwrap_or(ShardSet::EMPTY);
                group
                    .scope
                    .iter()
                    .any(|(tenant, shards)| shards.overlaps(taken(tenant)))
            })
        })
    }

    fn take(&mut self, group: &Group) {
        for input in group.inputs() {
            let of_input = self.slices.entry(*input).or_default();
            for (tenant, shards) in &group.scope {
                let of_tenant = of_input.entry(tenant.clone()).or_insert(ShardSet::EMPTY);
                *of_tenant = of_tenant.union(*shards);
            }
        }
        self.blocks.extend(group.blocks.iter().cloned());
    }
}

/// All outputs of one merge.
#[derive(Debug)]
struct Group {
    blocks: Vec<Arc<BlockMeta>>,
    scope: Slices,
}

impl Group {
    fn inputs(&self) -> &[BlockId] {
        self.blocks.first().map_or(&[], |meta| &meta.inputs)
    }

    /// Keeps one block of each part, by preference one that a later merge took; the others.
    fn leave_copies(&mut self, inputs: &BTreeSet<BlockId>) -> Vec<Arc<BlockMeta>> {
        let part = |meta: &BlockMeta| meta.merge.as_ref().map_or(0, |scope| scope.part);
        self.blocks.sort_by_key(|meta| {
            (
                part(meta),
                std::cmp::Reverse((inputs.contains(&meta.id), meta.id)),
            )
        });
        let mut kept: Vec<Arc<BlockMeta>> = Vec::new();
        let mut copies = Vec::new();
        for meta in self.blocks.drain(..) {
            match kept.last() {
                Some(last) if part(last) == part(&meta) => copies.push(meta),
                _ => kept.push(meta),
            }
        }
        self.blocks = kept;
        copies
    }

    fn has_scope_of(&self, other: &Group) -> bool {
        self.scope.iter().any(|(tenant, shards)| {
            let same = |(of, also): &(TenantId, ShardSet)| of == tenant && also.overlaps(*shards);
            other.scope.iter().any(same)
        })
    }

    fn level(&self) -> u8 {
        self.blocks.first().map_or(0, |meta| meta.level)
    }

    /// Whether no output is missing.
    fn is_complete(&self) -> bool {
        let parts: BTreeMap<u32, bool> = self
            .blocks
            .iter()
            .map(|meta| meta.merge.as_ref().map_or((0, true), |m| (m.part, m.last)))
            .collect();
        let in_order = parts.keys().copied().eq(0..parts.len() as u32);
        in_order && parts.values().last() == Some(&true)
    }
}

/// Accepts merges, highest level first and of one level those of the most inputs, but those last
/// that probably lost a race; each with the merges that its inputs came from.
/// `present` are all blocks, flushed ones too.
pub(super) fn choose_merges(
    merged: Vec<Arc<BlockMeta>>,
    present: &BTreeSet<BlockId>,
    left_out: &mut Vec<LeftOut>,
) -> Taken {
    let merged_present = ids(&merged);
    let taken_from: BTreeSet<BlockId> =
        merged.iter().flat_map(|meta| meta.inputs.clone()).collect();
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    for meta in merged {
        let scope = meta
            .merge
            .as_ref()
            .map_or_else(|| meta.slices(), |m| m.slices.clone());
        let bits = scope
            .iter()
            .map(|(tenant, shards)| (tenant.clone(), shards.bits()));
        // Blocks without inputs stand for themselves, each alone.
        let inputs = match meta.inputs.is_empty() {
            true => vec![meta.id],
            false => meta.inputs.clone(),
        };
        let run = meta.merge.as_ref().map_or(0, |scope| scope.run);
        let key = (meta.level, inputs, bits.collect(), run);
        let new = || Group {
            blocks: Vec::new(),
            scope: scope.clone(),
        };
        groups.entry(key).or_insert_with(new).blocks.push(meta);
    }
    let mut candidates = Vec::new();
    for mut group in groups.into_values() {
        let copies = group.leave_copies(&taken_from);
        let why = "another block is the same part of its merge";
        left_out.extend(copies.iter().map(|meta| leave(meta, why)));
        match group.is_complete() {
            true => candidates.push(group),
            false => {
                let why = "other parts of its merge are not there";
                left_out.extend(group.blocks.iter().map(|meta| leave(meta, why)));
            }
        }
    }
    let lost = unlikely(&candidates, present);
    let mut ranked: Vec<(bool, Group)> = lost.into_iter().zip(candidates).collect();
    ranked.sort_by_key(|(lost, g)| {
        let newest = g.blocks.iter().map(|meta| meta.id).max();
        std::cmp::Reverse((g.level(), !lost, g.inputs().len(), newest))
    });
    let candidates: Vec<Group> = ranked.into_iter().map(|(_, group)| group).collect();
    accept(&candidates, &merged_present, left_out)
}

/// Which merges probably lost a race. Inputs go from the bucket only once a merge that took them is
/// committed; so where inputs are gone that only the rivals of a merge can have taken, while those
/// have all of its own that are gone, it was the rivals.
fn unlikely(candidates: &[Group], present: &BTreeSet<BlockId>) -> Vec<bool> {
    let mut by_input: BTreeMap<BlockId, Vec<usize>> = BTreeMap::new();
    for (at, group) in candidates.iter().enumerate() {
        for input in group.inputs() {
            by_input.entry(*input).or_default().push(at);
        }
    }
    let gone = |group: &Group| -> BTreeSet<BlockId> {
        let inputs = group.inputs().iter().copied();
        inputs.filter(|input| !present.contains(input)).collect()
    };
    let judge = |(at, group): (usize, &Group)| {
        let sharing = group.inputs().iter().flat_map(|input| &by_input[input]);
        let rivals: BTreeSet<usize> = sharing
            .copied()
            .filter(|&other| other != at && candidates[other].level() == group.level())
            .filter(|&other| candidates[other].has_scope_of(group))
            .collect();
        let own = gone(group);
        let theirs: BTreeSet<BlockId> = rivals
            .iter()
            .flat_map(|&other| gone(&candidates[other]))
            .collect();
        own.is_subset(&theirs) && own != theirs
    };
    candidates.iter().enumerate().map(judge).collect()
}

fn accept(candidates: &[Group], present: &BTreeSet<BlockId>, left_out: &mut Vec<LeftOut>) -> Taken {
    let mut by_block: BTreeMap<BlockId, usize> = BTreeMap::new();
    for (at, group) in candidates.iter().enumerate() {
        by_block.extend(group.blocks.iter().map(|meta| (meta.id, at)));
    }
    let mut taken = Taken::default();
    let mut accepted: BTreeSet<usize> = BTreeSet::new();
    for at in 0..candidates.len() {
        if accepted.contains(&at) {
            continue;
        }
        // The merge and all that it was made of, as far as they are there.
        let mut family = BTreeSet::from([at]);
        let mut open = vec![at];
        while let Some(next) = open.pop() {
            for input in candidates[next].inputs() {
                let parent = by_block.get(input).copied();
                open.extend(parent.filter(|parent| family.insert(*parent)));
            }
        }
        let new: Vec<usize> = family.difference(&accepted).copied().collect();
        if new.iter().any(|&at| taken.overlaps(&candidates[at])) {
            let why = "another merge took some of its inputs";
            let blocks = &candidates[at].blocks;
            left_out.extend(blocks.iter().map(|meta| leave(meta, why)));
            continue;
        }
        for at in new {
            taken.take(&candidates[at]);
            accepted.insert(at);
        }
    }
    taken.blocks.sort_by_key(|meta| meta.id);
    let is_rootless = |meta: &&Arc<BlockMeta>| {
        // An input that is a block of level 0 and gone leaves nothing that could count twice.
        meta.level > 1 && meta.inputs.iter().any(|input| !present.contains(input))
            || meta.inputs.is_empty()
    };
    taken.rootless = taken.blocks.iter().filter(is_rootless).cloned().collect();
    taken
}

/// What a merged block stands for of a tenant.
fn scope_of(merged: &BlockMeta, tenant: &TenantId) -> ShardSet {
    let of_tenant = |slices: &Slices| {
        let found = slices.iter().find(|(other, _)| other == tenant);
        found.map_or(ShardSet::EMPTY, |(_, shards)| *shards)
    };
    match &merged.merge {
        Some(scope) => of_tenant(&scope.slices),
        None => merged.shards_of(tenant),
    }
}

/// Whether a merged block has the records and the hours of a flushed one.
fn covers(merged: &BlockMeta, flushed: &BlockMeta) -> bool {
    let hour = |time: Timestamp| time.nanos().div_euclid(HOUR_NS);
    let streams = flushed.streams.iter().all(|range| {
        let holds = |m: &scoria_block::StreamRange| {
            m.stream == range.stream && m.from <= range.from && range.to <= m.to
        };
        merged.streams.iter().any(holds)
    });
    streams
        && hour(merged.min_time) <= hour(flushed.min_time)
        && hour(flushed.max_time) <= hour(merged.max_time)
}
