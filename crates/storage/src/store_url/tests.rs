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
    for (url, prefix, shown) in [
        ("s3://profiles", "", "s3://profiles"),
        ("s3://profiles/", "", "s3://profiles"),
        ("gs://profiles/a/b/", "a/b", "gs://profiles/a/b"),
        ("az://profiles/a", "a", "az://profiles/a"),
    ] {
        let StoreUrl::Remote(bucket) = parsed(url).unwrap() else {
            panic!("{url}");
        };
        assert_eq!(
            (bucket.name.as_str(), bucket.prefix.as_str()),
            ("profiles", prefix)
        );
        assert_eq!(bucket.to_string(), shown);
    }
    for url in [
        "ftp://bucket/p",
        "s3:bucket",
        "s3://",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "s3://key:secret@bucket/p",
        "s3://bucket/p?region=x",
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
    assert!(
        matches!(error, OpenError::NoConditionalCreate { .. }),
        "{error}"
    );
    let mut plan = FaultPlan::none();
    plan.begin_outage();
    let down = FaultyStore::new(open_object_store("memory:").unwrap(), plan);
    let error = probe_conditional_create(&down).await.unwrap_err();
    assert!(matches!(error, OpenError::Probe { .. }), "{error}");
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

#[test]
fn a_store_that_refuses_is_told_with_the_remedy() {
    let refused = |source: object_store::Error| {
        let key = keys::probe(1);
        OpenError::from(StoreError::new("write", &key, source))
    };
    let missing = refused(object_store::Error::NotFound {
        path: "x".into(),
        source: "NoSuchBucket".into(),
    });
    assert!(
        missing.to_string().contains("create the bucket first"),
        "{missing}"
    );
    assert!(!missing.is_unavailable());
    let denied = refused(object_store::Error::PermissionDenied {
        path: "x".into(),
        source: "InvalidAccessKeyId".into(),
    });
    assert!(denied.to_string().contains("store.credentials"), "{denied}");
    let region = refused(object_store::Error::Generic {
        store: "S3",
        source: Box::new(crate::remote::Refusal {
            status: 400,
            text: "AuthorizationHeaderMalformed: expecting 'eu-west-1'".into(),
        }),
    });
    let text = region.to_string();
    assert!(
        text.contains("store.region") && text.contains("eu-west-1"),
        "{text}"
    );
    assert!(!region.is_unavailable());
    let down = refused(object_store::Error::Generic {
        store: "S3",
        source: "connection refused".into(),
    });
    assert!(down.is_unavailable());
}
