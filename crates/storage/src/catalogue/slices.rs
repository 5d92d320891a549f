//! Slices: the unit in which what a block holds lives and ends.
//!
//! A slice is (block, tenant, shard of the service). A flush makes all slices of its blocks live; a
//! merge removes those that it took in the commit that adds what it made of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use scoria_model::{CatalogueVersion, ShardSet, TenantId};

/// What is no longer live of one block.
pub(super) type Removed = BTreeMap<TenantId, ShardSet>;

/// Slices of one block that cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    pub slices: BTreeMap<TenantId, ShardSet>,
    /// What was wrong with the last of them, for people.
    pub why: Arc<str>,
    /// The version that put the last of them there.
    pub since: CatalogueVersion,
}

/// What is left of `shards`.
pub(super) fn subtract(shards: ShardSet, removed: Option<&ShardSet>) -> ShardSet {
    removed.map_or(shards, |removed| shards.without(*removed))
}
