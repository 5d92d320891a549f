use object_store::memory::InMemory;

use super::*;
use crate::testing::{FaultPlan, FaultRates, FaultyStore};

fn documents(plan: FaultPlan) -> (FaultyStore, Documents) {
    let store = FaultyStore::new(Arc::new(InMemory::new()), plan);
    let documents = Documents::new(Arc::new(store.clone()), Metrics::unregistered());
    (store, documents)
}

/// Adds one to the number that the document is.
async fn count(documents: &Documents, tenant: &TenantId) -> Result<u64, DocumentError> {
    documents
        .update(tenant, DocumentKind::Settings, |body| {
            let text = body.map_or("0", |body| std::str::from_utf8(body).unwrap());
            let next = text.parse::<u64>().unwrap() + 1;
            Ok(Change::Write(next.to_string().into_bytes(), next))
        })
        .await
}

async fn read(documents: &Documents, tenant: &TenantId) -> Option<Bytes> {
    documents
        .read(tenant, DocumentKind::Settings)
        .await
        .unwrap()
}

#[tokio::test]
async fn tenants_and_kinds_are_apart() {
    let (_, documents) = documents(FaultPlan::none());
    let [a, b] = ["a", "b"].map(|id| TenantId::parse(id).unwrap());
    assert_eq!(read(&documents, &a).await, None);
    assert_eq!(count(&documents, &a).await.unwrap(), 1);
    assert_eq!(count(&documents, &a).await.unwrap(), 2);
    assert_eq!(read(&documents, &a).await.unwrap(), "2");
    assert_eq!(read(&documents, &b).await, None);
    let rules = documents.read(&a, DocumentKind::RecordingRules).await;
    assert_eq!(rules.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn no_change_of_many_writers_is_lost() {
    for seed in 0..20 {
        let plan = FaultPlan::new(seed, FaultRates::all(30));
        let (store, documents) = documents(plan);
        let tenant = TenantId::anonymous();
        let writers = (0..8).map(|_| {
            let (documents, tenant) = (documents.clone(), tenant.clone());
            tokio::spawn(async move {
                let mut sure = 0;
                let mut unsure = 0;
                for _ in 0..10 {
                    match count(&documents, &tenant).await {
                        Ok(_) => sure += 1,
                        Err(_) => unsure += 1,
                    }
                }
                (sure, unsure)
            })
        });
        let (mut sure, mut unsure) = (0, 0);
        for writer in writers.collect::<Vec<_>>() {
            let counted: (u64, u64) = writer.await.unwrap();
            sure += counted.0;
            unsure += counted.1;
        }
        // What was still on its way arrives.
        tokio::time::sleep(Duration::from_secs(600)).await;
        store.plan(|plan| *plan = FaultPlan::none());
        let text = read(&documents, &tenant).await.unwrap();
        let found: u64 = std::str::from_utf8(&text).unwrap().parse().unwrap();
        assert!(
            (sure..=sure + unsure).contains(&found),
            "seed {seed}: {found} of {sure} and perhaps {unsure}"
        );
    }
}

#[tokio::test]
async fn size_and_pace_are_bounded() {
    let (_, documents) = documents(FaultPlan::none());
    let tenant = TenantId::anonymous();
    let big = documents
        .update(&tenant, DocumentKind::Settings, |_| {
            Ok::<_, DocumentError>(Change::Write(vec![b'x'; DOCUMENT_BYTES_MAX + 1], ()))
        })
        .await;
    assert!(matches!(big, Err(DocumentError::TooLarge { .. })));
    for _ in 0..VERSIONS_MAX {
        count(&documents, &tenant).await.unwrap();
    }
    let next = count(&documents, &tenant).await;
    assert!(matches!(next, Err(DocumentError::TooOften { .. })));
    let other = TenantId::parse("other").unwrap();
    assert_eq!(count(&documents, &other).await.unwrap(), 1);
}

#[tokio::test]
async fn old_versions_go_and_the_newest_stays() {
    let (store, documents) = documents(FaultPlan::none());
    let folder = keys::document(&TenantId::anonymous(), DocumentKind::Settings);
    for _ in 0..3 {
        count(&documents, &TenantId::anonymous()).await.unwrap();
    }
    let mut versions = documents.list(&folder).await.unwrap();
    versions[0].1.last_modified -= KEPT + Duration::from_secs(1);
    documents.sweep(&versions).await;
    let left = documents.list(&folder).await.unwrap();
    assert_eq!(left.iter().map(|v| v.0).collect::<Vec<_>>(), [2, 3]);
    drop(store);
}

#[tokio::test]
async fn damage_is_named() {
    let (store, documents) = documents(FaultPlan::none());
    let tenant = TenantId::anonymous();
    count(&documents, &tenant).await.unwrap();
    let folder = keys::document(&tenant, DocumentKind::Settings);
    let key = keys::document_version(&folder, 1);
    let good = documents.get(&key).await.unwrap();
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0x11;
        store.put(&key, bad.into()).await.unwrap();
        match documents.read(&tenant, DocumentKind::Settings).await {
            Err(error @ DocumentError::Damaged { .. }) => {
                assert!(error.to_string().contains(key.as_ref()), "{error}");
            }
            // The nonce says who wrote it, not what.
            Ok(Some(body)) => assert_eq!(body, "1", "byte {at}"),
            other => panic!("byte {at}: {other:?}"),
        }
    }
}
