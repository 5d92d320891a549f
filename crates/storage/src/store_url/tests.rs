//! The conformance suite that every supported store passes.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::TryStreamExt;
use scoria_model::CatalogueVersion;

use super::*;
use crate::testing::{FaultPlan, FaultyStore};

fn stores(dir: &std::path::Path) -> Vec<Arc<dyn ObjectStore>> {
    let file = format!("file://{}/deep/store", dir.display());
    vec![
        open_object_store("memory:").unwrap(),
        open_object_store(&file).unwrap(),
    ]
}

async fn read(store: &dyn ObjectStore, key: &Path) -> Bytes {
    store.get(key).await.unwrap().bytes().await.unwrap()
}

#[test]
fn urls_are_read_and_others_refused_with_what_is_supported() {
    let parsed = |url: &str| url.parse::<StoreUrl>();
    assert_eq!(parsed("memory:").unwrap(), StoreUrl::Memory);
    for (url, path) in [
        ("file:///var/lib/scoria", "/var/lib/scoria"),
        ("file:/var/lib/scoria", "/var/lib/scoria"),
        ("file:data/store", "data/store"),
        ("file:./data", "./data"),
    ] {
        assert_eq!(parsed(url).unwrap(), StoreUrl::File(path.into()));
    }
    assert_eq!(parsed("file:/a").unwrap().to_string(), "file:///a");
    for url in [
        "s3://bucket/p",
        "/tmp/x",
        "",
        "file:",
        "file://host/x",
        "memory:x",
    ] {
        let error = parsed(url).unwrap_err().to_string();
        assert!(error.contains(&format!("{url:?}")), "{error}");
        assert!(error.contains("file:///absolute/path"), "{error}");
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("occupied");
    std::fs::write(&file, "x").unwrap();
    let url = format!("file://{}/store", file.display());
    let error = open_object_store(&url).unwrap_err().to_string();
    assert!(error.contains("occupied"), "{error}");
}

#[tokio::test]
async fn the_probe_accepts_them_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    for store in stores(dir.path()) {
        probe_conditional_create(store.as_ref()).await.unwrap();
        let left: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Accepts the condition and writes anyway, as some gateways do.
#[tokio::test]
async fn the_probe_refuses_a_store_that_overwrites() {
    let store = crate::testing::OverwritingStore::default();
    let error = probe_conditional_create(&store).await.unwrap_err();
    assert!(matches!(error, OpenError::NoConditionalCreate), "{error}");
    let mut plan = FaultPlan::none();
    plan.begin_outage();
    let down = FaultyStore::new(open_object_store("memory:").unwrap(), plan);
    let error = probe_conditional_create(&down).await.unwrap_err();
    assert!(matches!(error, OpenError::Probe(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixteen_that_create_one_object_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    for store in stores(dir.path()) {
        for version in 1..=8 {
            let key = keys::log_entry(CatalogueVersion(version));
            let tasks: Vec<_> = (0..16u8)
                .map(|writer| {
                    let (store, key) = (Arc::clone(&store), key.clone());
                    tokio::spawn(async move {
                        let body = Bytes::from(vec![writer; 5000]);
                        store
                            .put_opts(&key, body.into(), PutMode::Create.into())
                            .await
                    })
                })
                .collect();
            let mut winners = Vec::new();
            for (writer, task) in tasks.into_iter().enumerate() {
                match task.await.unwrap() {
                    Ok(_) => winners.push(writer as u8),
                    Err(error) => assert_eq!(StoreErrorKind::of(&error), StoreErrorKind::Exists),
                }
            }
            assert_eq!(winners.len(), 1, "{store} {key}");
            assert_eq!(read(store.as_ref(), &key).await, vec![winners[0]; 5000]);
        }
    }
}

#[tokio::test]
async fn what_the_catalogue_and_blocks_rely_on() {
    let dir = tempfile::tempdir().unwrap();
    for store in stores(dir.path()) {
        let store = store.as_ref();
        let missing = store.get(&Path::from("catalogue/log/1")).await.unwrap_err();
        assert_eq!(StoreErrorKind::of(&missing), StoreErrorKind::NotFound);

        let keys: Vec<Path> = (1..=12)
            .map(|v| keys::log_entry(CatalogueVersion(v)))
            .collect();
        for key in keys.iter().rev() {
            store.put(key, "0123456789".into()).await.unwrap();
        }
        let after: BTreeSet<Path> = store
            .list_with_offset(Some(&Path::from(keys::LOG)), &keys[8])
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(after, keys[9..].iter().cloned().collect());

        assert_eq!(store.get_range(&keys[0], 2..5).await.unwrap(), "234");
        store.put(&keys[0], "new".into()).await.unwrap();
        assert_eq!(read(store, &keys[0]).await, "new");
        store.delete(&keys[0]).await.unwrap();
        let gone = store.get(&keys[0]).await.unwrap_err();
        assert_eq!(StoreErrorKind::of(&gone), StoreErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_file_store_opens_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file:{}", dir.path().display());
    let key = keys::log_entry(CatalogueVersion(1));
    open_object_store(&url)
        .unwrap()
        .put(&key, "x".into())
        .await
        .unwrap();
    let again = open_object_store(&url).unwrap();
    assert_eq!(read(again.as_ref(), &key).await, "x");
}
