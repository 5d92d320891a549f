//! The check of everything in an object store: the catalogue's log and snapshots, and every object
//! of every live block, down to the sums of samples.
//!
//! ```text
//! log 1..n ─► fold (C1, S1, S2) ─► equals each snapshot? ─► live blocks ─► manifest, tables,
//!                                                           checksums, rows, totals (C2, F1, D4)
//! listing  ─► objects that nothing refers to
//! ```
//!
//! # Invariants
//! - [`check`] only reads. What is damaged is named by its key, with what was expected and found.
//! - One block is held in memory at a time; a finding never ends the check.
//! - That a live block is gone because it was compacted while the check ran is no finding: the
//!   catalogue is read again before something missing is reported.
//!
//! # What it must not know
//! How a finding is shown, and what to do about it.

mod block;
mod log;
mod repair;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use scoria_model::BlockId;

use crate::block_store::{BlockStore, BlockStoreOptions};
use crate::catalogue::CatalogueState;
use crate::error::{StoreError, StoreErrorKind};
use crate::keys;
use crate::metrics::Metrics;

pub use block::BlockFigures;
pub use repair::{RepairError, Repaired, repair};

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// An object that something refers to is not there.
    Missing,
    /// Bytes that do not match their checksum, do not decode, or contradict each other.
    Damaged,
    /// An invariant of the catalogue that does not hold.
    Invariant,
    /// An object that nothing refers to. It costs money and nothing else: a write that was cut
    /// off, or one that is under way.
    Orphan,
    /// Slices that compactors leave where they are, because merging them failed.
    Quarantined,
}

impl FindingKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Invariant => "invariant",
            Self::Orphan => "orphan",
            Self::Quarantined => "quarantined",
        }
    }

    /// Whether answers may be wrong or missing because of it.
    pub const fn is_damage(self) -> bool {
        !matches!(self, Self::Orphan | Self::Quarantined)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: FindingKind,
    /// The object's key, or the folder.
    pub key: String,
    /// The block, if it is about one.
    pub block: Option<BlockId>,
    pub what: String,
}

/// What a check saw.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Newest version of the log that could be folded.
    pub version: u64,
    pub log_entries: u64,
    pub snapshots: u64,
    pub streams: u64,
    pub blocks: u64,
    /// Blocks that are no longer live and whose objects are still to be deleted.
    pub garbage: u64,
    pub figures: BlockFigures,
    /// In order of their keys within each part of the check.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is damaged, missing or broken.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|f| !f.kind.is_damage())
    }

    /// Whether compactors leave something where it is.
    pub fn has_quarantined(&self) -> bool {
        let mut kinds = self.findings.iter().map(|f| f.kind);
        kinds.any(|kind| kind == FindingKind::Quarantined)
    }

    /// The live blocks about which something was found, each once.
    pub fn damaged_blocks(&self) -> BTreeSet<BlockId> {
        let damaged = self.findings.iter().filter(|f| f.kind.is_damage());
        damaged.filter_map(|f| f.block).collect()
    }
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub blocks_done: u64,
    pub blocks: u64,
    pub bytes_read: u64,
    pub findings: u64,
}

/// A catalogue that was folded as far as it could be.
#[derive(Debug)]
pub struct Folded {
    pub state: CatalogueState,
    pub report: Report,
}

/// Checks the store. `progress` is called after every block.
///
/// # Errors
/// The store cannot be listed or read at all: nothing is known then.
pub async fn check(
    store: &Arc<dyn ObjectStore>,
    mut progress: impl FnMut(Progress),
) -> Result<Folded, StoreError> {
    let Folded { state, mut report } = log::fold_all(store).await?;
    let blocks = BlockStore::new(
        Arc::clone(store),
        BlockStoreOptions {
            metrics: Metrics::unregistered(),
            cache_bytes: 0,
            coalesce_gap: 0,
        },
    );
    report.streams = state.streams().len() as u64;
    report.blocks = state.blocks().len() as u64;
    for (done, meta) in state.blocks().enumerate() {
        let checked = block::check(&blocks, meta).await?;
        report.figures.add(&checked.figures);
        report.findings.extend(checked.findings);
        progress(Progress {
            blocks_done: done as u64 + 1,
            blocks: report.blocks,
            bytes_read: report.figures.bytes,
            findings: report.findings.len() as u64,
        });
    }
    if report
        .findings
        .iter()
        .any(|f| f.kind == FindingKind::Missing)
    {
        let now = log::fold_all(store).await?.state;
        let gone = |f: &Finding| f.block.is_some_and(|id| now.block(id).is_none());
        report
            .findings
            .retain(|f| f.kind != FindingKind::Missing || !gone(f));
    }
    for deletion in state.deletions() {
        let key = keys::tombstone(deletion.tombstone.id);
        if let Err(source) = store.head(&key).await {
            let error = StoreError::new("read", &key, source);
            if error.kind != StoreErrorKind::NotFound {
                return Err(error);
            }
            report.findings.push(Finding {
                kind: FindingKind::Missing,
                key: key.to_string(),
                block: None,
                what: "a rebuilt catalogue would show again what was deleted".to_owned(),
            });
        }
    }
    for (block, quarantined) in state.quarantine() {
        report.findings.push(Finding {
            kind: FindingKind::Quarantined,
            key: format!("{}/{block}", keys::BLOCKS),
            block: Some(block),
            what: format!(
                "not merged since version {}: {}; `scoria catalog release` lets compactors try again",
                quarantined.since.0, quarantined.why
            ),
        });
    }
    report.garbage = state.garbage().len() as u64;
    let orphans = orphans(store, &state).await?;
    report.findings.extend(orphans);
    Ok(Folded { state, report })
}

/// Objects under `blocks/` that belong to no live block.
async fn orphans(
    store: &Arc<dyn ObjectStore>,
    state: &CatalogueState,
) -> Result<Vec<Finding>, StoreError> {
    let folder = Path::from(keys::BLOCKS);
    let mut listed = store.list(Some(&folder));
    let mut found: Vec<Finding> = Vec::new();
    let failed = |source| StoreError::new("list", &folder, source);
    while let Some(object) = listed.try_next().await.map_err(failed)? {
        let name = object.location.parts().nth(1);
        let id = name.and_then(|name| name.as_ref().parse::<BlockId>().ok());
        // Garbage is known to the catalogue, and its objects are deleted in time.
        if id.is_some_and(|id| state.block(id).is_some() || state.is_garbage(id)) {
            continue;
        }
        let what = match id {
            Some(_) => "its block is not live",
            None => "it is none of Scoria's",
        };
        found.push(Finding {
            kind: FindingKind::Orphan,
            key: object.location.to_string(),
            block: id,
            what: format!("{what} ({} bytes)", object.size),
        });
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

#[cfg(test)]
mod tests;
