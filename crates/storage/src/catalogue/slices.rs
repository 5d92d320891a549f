//! Slices: the unit in which what a block holds lives and ends.
//!
//! A slice is (block, tenant, shard of the service). A flush makes all slices of its blocks live; a
//! merge removes those that it took in the commit that adds what it made of them.

use std::collections::BTreeMap;

use scoria_model::{ShardSet, TenantId};

/// What is no longer live of one block.
pub(super) type Removed = BTreeMap<TenantId, ShardSet>;

/// What is left of `shards`.
pub(super) fn subtract(shards: ShardSet, removed: Option<&ShardSet>) -> ShardSet {
    removed.map_or(shards, |removed| shards.without(*removed))
}
