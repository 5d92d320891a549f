use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use scoria_model::CatalogueVersion;

use super::*;
use crate::catalogue::{Catalogue, CatalogueOptions, Txn};
use crate::testing::{HeldClock, bare_meta, stream_id};

/// A store whose catalogue holds `blocks` blocks without rows.
async fn store_with(blocks: u64) -> Arc<dyn ObjectStore> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut options =
        CatalogueOptions::new(Arc::new(HeldClock::default()), Metrics::unregistered());
    options.snapshot_every = 2;
    let catalogue = Catalogue::open(Arc::clone(&store), options).await.unwrap();
    let stream = stream_id(0);
    let open = crate::catalogue::Op::OpenStream {
        stream: stream.clone(),
        epoch: scoria_model::Epoch(1),
        owner: stream.node.clone(),
        members: vec![stream.node.clone()],
        quorum: 1,
    };
    catalogue.commit(Txn::new().then(open)).await.unwrap();
    for n in 0..blocks {
        let meta = Arc::new(bare_meta(u128::from(n) + 1, &stream, (n, n + 1)));
        let manifest = meta.to_manifest().unwrap();
        store
            .put(&keys::manifest(meta.id), manifest.into())
            .await
            .unwrap();
        let range = (scoria_model::Seq(n), scoria_model::Seq(n + 1));
        let txn = Txn::flush(&stream, scoria_model::Epoch(1), range, [meta]);
        catalogue.commit(txn).await.unwrap();
    }
    store
}

async fn checked(store: &Arc<dyn ObjectStore>) -> Report {
    check(store, |_| {}).await.unwrap().report
}

fn kinds(report: &Report) -> Vec<(FindingKind, &str)> {
    let findings = report.findings.iter();
    findings.map(|f| (f.kind, f.key.as_str())).collect()
}

#[tokio::test]
async fn a_sound_store_has_no_findings() {
    let store = store_with(5).await;
    let report = checked(&store).await;
    assert_eq!(report.findings, []);
    assert!(report.is_sound());
    assert_eq!((report.version, report.blocks, report.streams), (6, 5, 1));
    assert_eq!(report.snapshots, 3);
}

#[tokio::test]
async fn each_kind_of_damage_is_named() {
    let store = store_with(5).await;
    let put = async |key: &Path, bytes: &'static [u8]| {
        store
            .put(key, PutPayload::from_static(bytes))
            .await
            .unwrap();
    };
    let orphan = keys::table(BlockId(77), scoria_block::Table::Series);
    put(&orphan, b"left over").await;
    put(&keys::manifest(BlockId(2)), b"{").await;
    store.delete(&keys::manifest(BlockId(3))).await.unwrap();
    put(&keys::snapshot(CatalogueVersion(4)), b"rubbish").await;
    let report = checked(&store).await;
    assert!(!report.is_sound());
    let (damaged, missing) = (FindingKind::Damaged, FindingKind::Missing);
    let [two, three] = [2, 3].map(|id| keys::manifest(BlockId(id)).to_string());
    let snapshot = keys::snapshot(CatalogueVersion(4)).to_string();
    let expected = [
        (damaged, snapshot.as_str()),
        (damaged, two.as_str()),
        (missing, three.as_str()),
        (FindingKind::Orphan, orphan.as_ref()),
    ];
    assert_eq!(kinds(&report), expected);
    let blocks: Vec<_> = report.damaged_blocks().into_iter().collect();
    assert_eq!(blocks, [BlockId(2), BlockId(3)]);
}

#[tokio::test]
async fn a_damaged_log_is_folded_on_from_the_next_snapshot() {
    let store = store_with(5).await;
    let entry = keys::log_entry(CatalogueVersion(3));
    store.put(&entry, "rubbish".into()).await.unwrap();
    let report = checked(&store).await;
    assert_eq!(kinds(&report), [(FindingKind::Damaged, entry.as_ref())]);
    assert_eq!(report.blocks, 5, "the snapshot of version 4 goes on");

    store.delete(&entry).await.unwrap();
    let report = checked(&store).await;
    assert_eq!(kinds(&report), [(FindingKind::Missing, entry.as_ref())]);
    assert_eq!(report.version, 6);
}

#[tokio::test]
async fn a_snapshot_that_contradicts_the_log_is_named() {
    let (store, other) = (store_with(5).await, store_with(4).await);
    let key = keys::snapshot(CatalogueVersion(4));
    let state = {
        let mut state = crate::catalogue::snapshot::decode(
            CatalogueVersion(4),
            &other.get(&key).await.unwrap().bytes().await.unwrap(),
        )
        .unwrap();
        let entry = crate::catalogue::Entry {
            version: CatalogueVersion(5),
            nonce: 1,
            ops: vec![crate::catalogue::Op::CloseStream {
                stream: stream_id(0),
                epoch: scoria_model::Epoch(1),
                at: scoria_model::Seq(9),
            }],
        };
        state.apply(&entry).unwrap();
        state
    };
    let key = keys::snapshot(CatalogueVersion(5));
    let bytes = crate::catalogue::snapshot::encode(&state).unwrap();
    store.put(&key, bytes.into()).await.unwrap();
    let report = checked(&store).await;
    assert_eq!(kinds(&report), [(FindingKind::Invariant, key.as_ref())]);
}
