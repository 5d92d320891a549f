use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use super::*;
use crate::testing::{FaultPlan, FaultRates, FaultyStore};

fn key(n: u64) -> Path {
    Path::from(format!("blocks/{n}"))
}

fn policy() -> RequestPolicy {
    RequestPolicy {
        retry_for: Duration::from_secs(60),
        ..RequestPolicy::remote()
    }
}

fn guarded(plan: FaultPlan, policy: RequestPolicy) -> (FaultyStore, GuardedStore) {
    let memory = StoreClient::memory();
    let faulty = FaultyStore::new(memory.objects, plan);
    let metrics = RequestMetrics::unregistered("test");
    let store = GuardedStore::new(faulty.client(memory.parts), policy, metrics);
    (faulty, store)
}

/// Nine of ten requests go wrong somehow, and yet everything gets there and back.
#[tokio::test(start_paused = true)]
async fn retries_get_through_faults() {
    for seed in 0..20 {
        let plan = FaultPlan::new(seed, FaultRates::all(75));
        let patient = RequestPolicy {
            attempts: 40,
            retry_for: Duration::from_secs(3600),
            ..policy()
        };
        let (_, store) = guarded(plan, patient);
        for n in 0..20 {
            let body = Bytes::from(vec![n as u8; 1000 + n as usize]);
            store.put(&key(n), body.clone().into()).await.unwrap();
            let read = store.get(&key(n)).await.unwrap().bytes().await.unwrap();
            assert_eq!(read, body);
            let part = store.get_range(&key(n), 10..20).await.unwrap();
            assert_eq!(part, body.slice(10..20));
        }
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(listed.len(), 20, "seed {seed}");
    }
}

/// Parts get to their places, each once, whatever happens to the requests; and what was put together
/// by a request without an answer is recognised.
#[tokio::test(start_paused = true)]
async fn uploads_in_parts_get_through_faults() {
    let mut resolved = 0;
    for seed in 0..200 {
        let plan = FaultPlan::new(seed, FaultRates::all(60));
        let patient = RequestPolicy {
            attempts: 40,
            retry_for: Duration::from_secs(3600),
            ..policy()
        };
        let (faulty, store) = guarded(plan, patient);
        let key = Path::from("tenants/t/large");
        let mut upload = store.put_multipart(&key).await.unwrap();
        let parts: Vec<Bytes> = (0..6u8).map(|n| vec![n; 100 + n as usize].into()).collect();
        let sent = parts
            .iter()
            .map(|part| upload.put_part(part.clone().into()));
        futures::future::try_join_all(sent.collect::<Vec<_>>())
            .await
            .unwrap();
        upload.complete().await.unwrap();
        let read = store.get(&key).await.unwrap().bytes().await.unwrap();
        assert!(read == parts.concat(), "seed {seed}");
        let looked = faulty.requests().iter().rev().nth(1).cloned();
        resolved += usize::from(looked.is_some_and(|verb| verb.starts_with("get")));
        let counted = store.metrics.attempts_of("tenant", "upload", "ok");
        assert!(counted >= 7, "seed {seed}: {counted}");
    }
    assert!(resolved > 0, "no answer to putting together was lost");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_thrown_away_is_no_success() {
    let (_, store) = guarded(FaultPlan::none(), policy());
    let key = Path::from("tenants/t/large");
    let mut upload = store.put_multipart(&key).await.unwrap();
    upload.put_part("x".into()).await.unwrap();
    upload.abort().await.unwrap();
    upload.complete().await.unwrap_err();
    store.get(&key).await.unwrap_err();
    let mut upload = store.put_multipart(&key).await.unwrap();
    drop(upload.put_part("x".into()));
    let error = upload.complete().await.unwrap_err().to_string();
    assert!(error.contains("was not sent"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn retries_end_and_are_counted() {
    let mut plan = FaultPlan::none();
    plan.begin_outage();
    let (faulty, store) = guarded(plan, policy());
    let error = store.get(&key(1)).await.unwrap_err();
    assert_eq!(StoreErrorKind::of(&error), StoreErrorKind::Unavailable);
    assert_eq!(faulty.requests().len(), 5);
    let counted = store.metrics.attempts_of("other", "get", "unavailable");
    assert_eq!(counted, 5);

    let hurried = RequestPolicy {
        attempts: 1000,
        retry_for: Duration::from_secs(5),
        ..policy()
    };
    let mut plan = FaultPlan::none();
    plan.begin_outage();
    let (_, store) = guarded(plan, hurried);
    let started = Instant::now();
    store.put(&key(1), "x".into()).await.unwrap_err();
    assert!(started.elapsed() <= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_conditional_create_is_sent_once() {
    let mut plan = FaultPlan::none();
    plan.begin_outage();
    let (faulty, store) = guarded(plan, policy());
    let key = key(1);
    let create = || store.put_opts(&key, "x".into(), PutMode::Create.into());
    create().await.unwrap_err();
    assert_eq!(faulty.requests().len(), 1);
    faulty.plan(FaultPlan::end_outage);
    create().await.unwrap();
    let error = create().await.unwrap_err();
    assert_eq!(StoreErrorKind::of(&error), StoreErrorKind::Exists);
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_asked_for_once() {
    let (faulty, store) = guarded(FaultPlan::none(), policy());
    let error = store.get(&key(1)).await.unwrap_err();
    assert_eq!(StoreErrorKind::of(&error), StoreErrorKind::NotFound);
    assert_eq!(faulty.requests().len(), 1);
}

fn slow(per_mille: u32) -> FaultRates {
    FaultRates {
        slow: per_mille,
        ..FaultRates::default()
    }
}

async fn query(store: &GuardedStore) -> Result<GetResult> {
    let mut options = GetOptions {
        range: Some(GetRange::Bounded(0..1)),
        ..GetOptions::default()
    };
    options.extensions.insert(Purpose::Query);
    store.get_opts(&key(1), options).await
}

#[tokio::test(start_paused = true)]
async fn late_reads_are_sent_twice_within_their_share() {
    let (faulty, store) = guarded(FaultPlan::none(), policy());
    store.put(&key(1), "xyz".into()).await.unwrap();
    for _ in 0..200 {
        query(&store).await.unwrap();
    }
    assert_eq!(faulty.requests().len(), 201, "none is late yet");
    faulty.plan(|plan| plan.set_rates(slow(100)));
    for _ in 0..500 {
        query(&store).await.unwrap();
    }
    let second = faulty.requests().len() - 701;
    assert!((5..=35).contains(&second), "{second}");
    assert!(store.metrics.hedges_of("won") > 0);
    assert!(store.metrics.hedges_of("over_share") > 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_is_given_up() {
    #[derive(Debug)]
    struct Silent(InMemory);
    impl fmt::Display for Silent {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Silent")
        }
    }
    #[async_trait]
    impl ObjectStore for Silent {
        async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
            std::future::pending().await
        }
        async fn put_multipart_opts(
            &self,
            location: &Path,
            opts: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.0.put_multipart_opts(location, opts).await
        }
        async fn get_opts(&self, _: &Path, _: GetOptions) -> Result<GetResult> {
            std::future::pending().await
        }
        fn delete_stream(
            &self,
            locations: BoxStream<'static, Result<Path>>,
        ) -> BoxStream<'static, Result<Path>> {
            self.0.delete_stream(locations)
        }
        fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            futures::stream::pending().boxed()
        }
        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.0.list_with_delimiter(prefix).await
        }
        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.0.copy_opts(from, to, options).await
        }
    }
    let metrics = RequestMetrics::unregistered("test");
    let silent: Arc<dyn ObjectStore> = Arc::new(Silent(InMemory::new()));
    let store = GuardedStore::new(silent.into(), RequestPolicy::remote(), metrics);
    let error = store.get(&key(1)).await.unwrap_err();
    assert!(
        error.to_string().contains("store.request_timeout"),
        "{error}"
    );
    store.put(&key(1), "x".into()).await.unwrap_err();
    let listed: Result<Vec<_>> = store.list(None).try_collect().await;
    listed.unwrap_err();
}

#[tokio::test]
async fn deleting_takes_what_is_there() {
    let (_, store) = guarded(FaultPlan::none(), policy());
    for n in 0..5 {
        store.put(&key(n), "x".into()).await.unwrap();
    }
    store.delete(&key(0)).await.unwrap();
    let keys = futures::stream::iter((1..5).map(|n| Ok(key(n)))).boxed();
    let deleted: Vec<Path> = store.delete_stream(keys).try_collect().await.unwrap();
    assert_eq!(deleted.len(), 4);
    let left: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert!(left.is_empty());
}
