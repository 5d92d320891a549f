//! The catalogue's log, folded as far as it goes, and its snapshots held against the fold.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use scoria_model::CatalogueVersion;

use super::{Finding, FindingKind, Folded, Report};
use crate::catalogue::committer::fold;
use crate::catalogue::{CatalogueState, snapshot};
use crate::error::{StoreError, StoreErrorKind};
use crate::keys;

/// Reads the whole log and every snapshot.
///
/// # Errors
/// The store cannot be listed or read.
pub(super) async fn fold_all(store: &Arc<dyn ObjectStore>) -> Result<Folded, StoreError> {
    let entries = versions(store, keys::LOG).await?;
    let snapshots = versions(store, keys::SNAPSHOT).await?;
    let mut report = Report {
        log_entries: entries.len() as u64,
        snapshots: snapshots.len() as u64,
        ..Report::default()
    };
    let mut decoded = read_snapshots(store, &snapshots, &mut report).await?;
    let mut state = begin(&entries, &mut decoded);
    for version in entries {
        if version <= state.version() {
            continue;
        }
        let expected = CatalogueVersion(state.version().0 + 1);
        let key = keys::log_entry(expected);
        if version != expected {
            let what = format!(
                "C1: the log goes on at {}, so {} entries are gone",
                version.0,
                version.0 - expected.0
            );
            report.add(FindingKind::Missing, &key, what);
            match resume(&mut decoded, version) {
                Some(later) => state = later,
                None => break,
            }
            if version <= state.version() {
                continue;
            }
        }
        let key = keys::log_entry(version);
        let Some(bytes) = get(store, &key).await? else {
            let what = "it was listed and is gone".to_owned();
            report.add(FindingKind::Missing, &key, what);
            break;
        };
        if let Err(error) = fold(&mut state, &bytes) {
            report.add(FindingKind::Damaged, &key, error.to_string());
            match resume(&mut decoded, CatalogueVersion(version.0 + 1)) {
                Some(later) => state = later,
                None => break,
            }
        }
        if let Some(kept) = decoded.remove(&state.version())
            && kept != state
        {
            let key = keys::snapshot(state.version());
            let what = "C1: it is not what the log gives up to there".to_owned();
            report.add(FindingKind::Invariant, &key, what);
        }
    }
    report.version = state.version().0;
    Ok(Folded { state, report })
}

/// Where folding begins: with nothing, or where the oldest entries were cleared away with the
/// newest snapshot that the kept ones follow.
fn begin(
    entries: &[CatalogueVersion],
    snapshots: &mut BTreeMap<CatalogueVersion, CatalogueState>,
) -> CatalogueState {
    match entries.first() {
        Some(first) if first.0 > 1 => resume(snapshots, *first).unwrap_or_default(),
        Some(_) => CatalogueState::default(),
        None => snapshots
            .last_entry()
            .map(|newest| newest.remove())
            .unwrap_or_default(),
    }
}

/// The newest snapshot that entry `next` can follow without a gap, or any later one.
fn resume(
    snapshots: &mut BTreeMap<CatalogueVersion, CatalogueState>,
    next: CatalogueVersion,
) -> Option<CatalogueState> {
    let from = CatalogueVersion(next.0.saturating_sub(1));
    let at = snapshots
        .range(from..)
        .next()
        .map(|(version, _)| *version)?;
    snapshots.remove(&at)
}

async fn read_snapshots(
    store: &Arc<dyn ObjectStore>,
    versions: &[CatalogueVersion],
    report: &mut Report,
) -> Result<BTreeMap<CatalogueVersion, CatalogueState>, StoreError> {
    let mut decoded = BTreeMap::new();
    for &version in versions {
        let key = keys::snapshot(version);
        let Some(bytes) = get(store, &key).await? else {
            continue;
        };
        match snapshot::decode(version, &bytes) {
            Ok(state) => {
                decoded.insert(version, state);
            }
            Err(error) => report.add(FindingKind::Damaged, &key, error.to_string()),
        }
    }
    Ok(decoded)
}

async fn versions(
    store: &Arc<dyn ObjectStore>,
    folder: &'static str,
) -> Result<Vec<CatalogueVersion>, StoreError> {
    let folder = Path::from(folder);
    let listed = store.list(Some(&folder));
    let found: Result<Vec<_>, _> = listed
        .map_ok(|object| keys::version_of(&object.location))
        .try_collect()
        .await;
    let found = found.map_err(|source| StoreError::new("list", &folder, source))?;
    let mut versions: Vec<_> = found.into_iter().flatten().collect();
    versions.sort_unstable();
    Ok(versions)
}

async fn get(store: &Arc<dyn ObjectStore>, key: &Path) -> Result<Option<Bytes>, StoreError> {
    let read = async { store.get(key).await?.bytes().await };
    match read.await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) => {
            let error = StoreError::new("read", key, source);
            match error.kind {
                StoreErrorKind::NotFound => Ok(None),
                _ => Err(error),
            }
        }
    }
}

impl Report {
    fn add(&mut self, kind: FindingKind, key: &Path, what: String) {
        self.findings.push(Finding {
            kind,
            key: key.to_string(),
            block: None,
            what,
        });
    }
}
