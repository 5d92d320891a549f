use std::collections::BTreeSet;

use object_store::memory::InMemory;
use scoria_model::{BlockId, Epoch, NodeId, Seq};

use super::*;
use crate::catalogue::{Op, Precondition};
use crate::testing::{FaultPlan, FaultRates, FaultyStore, HeldClock, Seeded, TokioClock};
use crate::testing::{bare_meta, stream_id};

fn options() -> CatalogueOptions {
    CatalogueOptions {
        snapshot_every: 4,
        ..CatalogueOptions::new(Arc::new(TokioClock::default()), Metrics::unregistered())
    }
}

fn open_stream(n: u32) -> Txn {
    Txn::new()
        .require(Precondition::StreamAbsent(stream_id(n)))
        .then(Op::OpenStream {
            stream: stream_id(n),
            epoch: Epoch(1),
            owner: NodeId("node-0".into()),
            members: vec![NodeId("node-0".into())],
            quorum: 1,
        })
}

fn flush(n: u32, from: u64, block: u128) -> Txn {
    let range = (from, from + 1);
    let meta = bare_meta(block, &stream_id(n), range);
    Txn::flush(
        &stream_id(n),
        Epoch(1),
        (Seq(range.0), Seq(range.1)),
        [Arc::new(meta)],
    )
}

#[tokio::test]
async fn what_is_committed_is_there_for_others_and_after_opening_again() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let ours = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap();
    let theirs = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap();
    ours.commit(open_stream(0)).await.unwrap();
    for seq in 0..9 {
        let version = ours.commit(flush(0, seq, u128::from(seq))).await.unwrap();
        assert_eq!(version.0, seq + 2);
    }
    assert_eq!(theirs.state().version().0, 0);
    assert_eq!(theirs.refresh().await.unwrap(), ours.state());
    // Versions 4 and 8 were written as snapshots; opening reads the last and what follows it.
    let watched = FaultyStore::new(Arc::clone(&store), FaultPlan::none());
    let again = Catalogue::open(Arc::new(watched.clone()), options())
        .await
        .unwrap();
    assert_eq!(again.state(), ours.state());
    let read = watched.requests();
    assert!(read.contains(&format!("get {}", keys::snapshot(CatalogueVersion(8)))));
    assert!(!read.contains(&format!("get {}", keys::log_entry(CatalogueVersion(8)))));
}

#[tokio::test]
async fn a_conflict_says_what_is_true_instead() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let ours = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap();
    let theirs = Catalogue::open(store, options()).await.unwrap();
    ours.commit(open_stream(0)).await.unwrap();
    ours.commit(flush(0, 0, 1)).await.unwrap();
    theirs.refresh().await.unwrap();
    theirs.commit(flush(0, 1, 2)).await.unwrap();
    let error = ours.commit(flush(0, 1, 3)).await.unwrap_err();
    assert!(matches!(error, CommitError::Conflict(_)), "{error}");
    assert!(ours.state().block(BlockId(2)).is_some());
    assert!(ours.state().block(BlockId(3)).is_none());
}

/// Many writers with every fault at once: each commit that was answered is there once, none that
/// conflicted is, and everybody ends with the same state.
#[tokio::test(start_paused = true)]
async fn racing_commits_under_faults_are_applied_once_each() {
    for seed in 0..20 {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let mut seeded = Seeded::new(seed);
        let setup = Catalogue::open(Arc::clone(&inner), options())
            .await
            .unwrap();
        for n in 0..4 {
            setup.commit(open_stream(n)).await.unwrap();
        }
        let tasks: Vec<_> = (0..4)
            .map(|n| {
                let plan = FaultPlan::new(seeded.draw(), FaultRates::all(40));
                let store = FaultyStore::new(Arc::clone(&inner), plan);
                tokio::spawn(writer(Arc::new(store), n, 12))
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let end = Catalogue::open(inner, options()).await.unwrap();
        let ids: BTreeSet<u128> = end.state().blocks().map(|meta| meta.id.0).collect();
        assert_eq!(ids.len(), 4 * 12, "seed {seed}");
        for n in 0..4 {
            let committed = end.state().stream(&stream_id(n)).unwrap().committed;
            assert_eq!(committed, Seq(12), "seed {seed}");
        }
    }
}

/// Flushes until `count` records are committed, whatever the store does.
async fn writer(store: Arc<dyn ObjectStore>, n: u32, count: u64) {
    let catalogue = loop {
        match Catalogue::open(Arc::clone(&store), options()).await {
            Ok(catalogue) => break catalogue,
            Err(error) => assert!(error.is_unavailable(), "{error}"),
        }
    };
    let stream = stream_id(n);
    for from in 0..count {
        let block = u128::from(n) << 64 | u128::from(from);
        loop {
            let before = catalogue.state().stream(&stream).unwrap().committed;
            match catalogue.commit(flush(n, from, block)).await {
                Ok(_) => break,
                // Only an earlier try of ours whose outcome was unknown can have done that.
                Err(CommitError::Conflict(_)) => {
                    assert!(catalogue.state().block(BlockId(block)).is_some());
                    assert_eq!(before, Seq(from));
                    break;
                }
                Err(CommitError::Unknown { .. } | CommitError::Store(_)) => {}
                Err(CommitError::Deadline(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_reported_as_such_and_ends() {
    let store = FaultyStore::new(Arc::new(InMemory::new()), FaultPlan::none());
    let catalogue = Catalogue::open(Arc::new(store.clone()), options())
        .await
        .unwrap();
    catalogue.commit(open_stream(0)).await.unwrap();
    store.plan(FaultPlan::begin_outage);
    let error = catalogue.commit(flush(0, 0, 1)).await.unwrap_err();
    assert!(matches!(error, CommitError::Unknown { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("catalogue/log/00000000000000000002"),
        "{error}"
    );
    let error = catalogue.refresh().await.unwrap_err();
    assert!(error.is_unavailable());
    assert!(
        error
            .to_string()
            .contains("catalogue/log/00000000000000000002"),
        "{error}"
    );
    assert_eq!(catalogue.state().version().0, 1);
    store.plan(FaultPlan::end_outage);
    catalogue.commit(flush(0, 0, 1)).await.unwrap();
}

#[tokio::test]
async fn damage_and_gaps_are_named() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut no_snapshots = options();
    no_snapshots.snapshot_every = 1000;
    let catalogue = Catalogue::open(Arc::clone(&store), no_snapshots)
        .await
        .unwrap();
    catalogue.commit(open_stream(0)).await.unwrap();
    for seq in 0..5 {
        catalogue
            .commit(flush(0, seq, u128::from(seq)))
            .await
            .unwrap();
    }
    let key = keys::log_entry(CatalogueVersion(3));
    let good = store.get(&key).await.unwrap().bytes().await.unwrap();
    let mut bad = good.to_vec();
    bad[40] ^= 1;
    store.put(&key, bad.into()).await.unwrap();
    let error = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap_err();
    assert!(matches!(error, CatalogueError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains(key.as_ref()), "{error}");
    store.delete(&key).await.unwrap();
    let error = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap_err();
    assert!(matches!(error, CatalogueError::Gap { .. }), "{error}");
    assert!(error.to_string().contains(key.as_ref()), "{error}");
    // A handle that is beyond the gap is not concerned; nor is one that starts from a snapshot.
    catalogue.commit(flush(0, 5, 5)).await.unwrap();
    let encoded = snapshot::encode(&catalogue.state()).unwrap();
    store
        .put(&keys::snapshot(CatalogueVersion(7)), encoded.into())
        .await
        .unwrap();
    let again = Catalogue::open(store, options()).await.unwrap();
    assert_eq!(again.state(), catalogue.state());
}

#[tokio::test]
async fn a_damaged_snapshot_is_passed_over() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let catalogue = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap();
    catalogue.commit(open_stream(0)).await.unwrap();
    for seq in 0..9 {
        catalogue
            .commit(flush(0, seq, u128::from(seq)))
            .await
            .unwrap();
    }
    let newest = keys::snapshot(CatalogueVersion(8));
    store.put(&newest, "torn".into()).await.unwrap();
    let again = Catalogue::open(store, options()).await.unwrap();
    assert_eq!(again.state(), catalogue.state());
}

/// A process that slept while the log was cleared up to a snapshot must not take the free number
/// for one that nobody took.
#[tokio::test]
async fn a_handle_that_slept_reads_on_from_a_snapshot() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let clock = Arc::new(HeldClock::default());
    let sleeper = CatalogueOptions {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        ..options()
    };
    let sleeper = Catalogue::open(Arc::clone(&store), sleeper).await.unwrap();
    let awake = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap();
    awake.commit(open_stream(0)).await.unwrap();
    for seq in 0..4 {
        awake.commit(flush(0, seq, u128::from(seq))).await.unwrap();
    }
    for version in 1..=4 {
        let key = keys::log_entry(CatalogueVersion(version));
        store.delete(&key).await.unwrap();
    }
    // The machine was suspended: only the wall clock shows it.
    clock.advance_wall(Duration::from_secs(8 * 24 * 3600));
    let version = sleeper.commit(open_stream(1)).await.unwrap();
    assert_eq!(version, CatalogueVersion(6));
    awake.refresh().await.unwrap();
    assert_eq!(awake.state(), sleeper.state());
}

#[tokio::test(start_paused = true)]
async fn refreshes_at_the_same_time_share_one_reading() {
    let slow = FaultRates {
        slow: 1000,
        ..FaultRates::default()
    };
    let plan = FaultPlan::new(1, slow);
    let store = FaultyStore::new(Arc::new(InMemory::new()), plan);
    let catalogue = Catalogue::open(Arc::new(store.clone()), options())
        .await
        .unwrap();
    let before = store.requests().len();
    let refreshes = (0..50).map(|_| catalogue.refresh());
    futures::future::try_join_all(refreshes).await.unwrap();
    // The one under way may have read before the others asked, so they share a second.
    let reads = store.requests().len() - before;
    assert!(reads <= 2, "{reads} reads");
}

/// The race as processes on one machine have it, on real files.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_commits_on_files_are_applied_once_each() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().display());
    let setup = Catalogue::open(crate::open_object_store(&url).unwrap(), options())
        .await
        .unwrap();
    for n in 0..4 {
        setup.commit(open_stream(n)).await.unwrap();
    }
    let tasks: Vec<_> = (0..4)
        .map(|n| tokio::spawn(writer(crate::open_object_store(&url).unwrap(), n, 5)))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let end = setup.refresh().await.unwrap();
    assert_eq!(end.version(), CatalogueVersion(4 + 4 * 5));
    assert_eq!(end.blocks().len(), 4 * 5);
    let again = Catalogue::open(crate::open_object_store(&url).unwrap(), options())
        .await
        .unwrap();
    assert_eq!(again.state(), end);
}

/// The versions that the store has in a folder.
async fn kept(catalogue: &Catalogue, folder: &str) -> Vec<u64> {
    let listed = catalogue.list(folder, Path::from(folder)).await.unwrap();
    listed.into_iter().map(|version| version.0).collect()
}

#[tokio::test]
async fn c1_what_two_snapshots_cover_goes_once_it_is_old_and_the_rest_opens_the_same() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let ours = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap();
    ours.commit(open_stream(0)).await.unwrap();
    for seq in 0..5 {
        ours.commit(flush(0, seq, u128::from(seq))).await.unwrap();
    }
    assert_eq!(
        ours.trim(Duration::ZERO).await.unwrap(),
        0,
        "one snapshot only"
    );
    let late = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap();
    for seq in 5..13 {
        ours.commit(flush(0, seq, u128::from(seq))).await.unwrap();
    }
    // Snapshots 4, 8 and 12 of 14 versions.
    let week = Duration::from_secs(7 * 24 * 3600);
    assert_eq!(ours.trim(week).await.unwrap(), 0, "nothing is old");
    assert_eq!(ours.trim(Duration::ZERO).await.unwrap(), 8 + 1);
    assert_eq!(kept(&ours, keys::LOG).await, [9, 10, 11, 12, 13, 14]);
    assert_eq!(kept(&ours, keys::SNAPSHOT).await, [8, 12]);
    assert_eq!(ours.trim(Duration::ZERO).await.unwrap(), 0);
    let again = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap();
    assert_eq!(again.state(), ours.state());
    assert_eq!(
        crate::fsck::check(&store, |_| ()).await.unwrap().state,
        *ours.state()
    );
    // Without the newer snapshot the older one and the log do; without both it is a gap.
    store
        .delete(&keys::snapshot(CatalogueVersion(12)))
        .await
        .unwrap();
    let older = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap();
    assert_eq!(older.state(), ours.state());
    store
        .delete(&keys::snapshot(CatalogueVersion(8)))
        .await
        .unwrap();
    let error = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap_err();
    assert!(matches!(error, CatalogueError::Gap { .. }), "{error}");
    // A view from before the floor does not find the number after it free.
    assert_eq!(late.state().version().0, 6);
}

#[tokio::test]
async fn a_damaged_snapshot_keeps_the_log() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let ours = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap();
    ours.commit(open_stream(0)).await.unwrap();
    for seq in 0..9 {
        ours.commit(flush(0, seq, u128::from(seq))).await.unwrap();
    }
    let damaged = keys::snapshot(CatalogueVersion(4));
    store.put(&damaged, "torn".into()).await.unwrap();
    assert_eq!(ours.trim(Duration::ZERO).await.unwrap(), 0);
    assert_eq!(kept(&ours, keys::LOG).await.len(), 10);
}

/// What handles were told of the streams that they opened.
#[derive(Debug, Default)]
struct Told {
    opened: BTreeSet<u32>,
    /// Their commits failed, which says nothing about the log.
    failed: BTreeSet<u32>,
    next: u32,
}

impl Told {
    fn next(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn hear(&mut self, n: u32, told: Result<CatalogueVersion, CommitError>) {
        match told {
            Ok(_) => self.opened.insert(n),
            Err(_) => self.failed.insert(n),
        };
    }

    async fn commit(&mut self, handle: &Catalogue) {
        let n = self.next();
        self.hear(n, handle.commit(open_stream(n)).await);
    }
}

/// C1, C4, in many orders: handles commit, one of them falls asleep for a week in the middle of it,
/// the others go on and clear the log away under it, and it wakes up. Whoever was told that a commit
/// stands finds it there, whoever opens the catalogue then sees the same.
#[tokio::test(start_paused = true)]
async fn c4_sleepers_wake_up_over_a_log_that_was_trimmed() {
    const WEEK: Duration = Duration::from_secs(8 * 24 * 3600);
    let (mut trimmed, mut woken) = (0, 0);
    for seed in 0..40u64 {
        let mut seeded = Seeded::new(seed);
        let rates = FaultRates {
            slow: 1000,
            ..FaultRates::default()
        };
        let plan = FaultPlan::new(seed, rates);
        let store = FaultyStore::new(Arc::new(InMemory::new()), plan);
        let mut handles = Vec::new();
        for _ in 0..4 {
            let store = Arc::new(store.clone());
            handles.push(Catalogue::open(store, options()).await.unwrap());
        }
        let mut told = Told::default();
        for _ in 0..12 {
            let at = seeded.below(4) as usize;
            let (one, other) = (handles[at].clone(), handles[(at + 1) % 4].clone());
            if seeded.below(3) > 0 {
                told.commit(&one).await;
                continue;
            }
            let n = told.next();
            let mut asleep = Box::pin(one.commit(open_stream(n)));
            let mut ended = None;
            for _ in 0..seeded.below(8) {
                let step = tokio::time::timeout(Duration::from_millis(200), &mut asleep);
                ended = ended.or(step.await.ok());
                if ended.is_some() {
                    break;
                }
            }
            for _ in 0..seeded.below(12) {
                told.commit(&other).await;
            }
            tokio::time::sleep(WEEK).await;
            trimmed += other.trim(Duration::ZERO).await.unwrap();
            for _ in 0..seeded.below(3) {
                told.commit(&other).await;
            }
            let ended = match ended {
                Some(ended) => ended,
                None => {
                    woken += 1;
                    asleep.await
                }
            };
            told.hear(n, ended);
        }
        let opened = Catalogue::open(Arc::new(store.clone()), options()).await;
        let state = opened.unwrap().state();
        for n in 1..=told.next {
            let there = state.streams().any(|(id, _)| *id == stream_id(n));
            let what = (told.opened.contains(&n), told.failed.contains(&n));
            assert!(
                if there {
                    what != (false, false)
                } else {
                    !what.0
                },
                "seed {seed}: stream {n} is there: {there}, told {what:?}"
            );
        }
        for handle in &handles {
            assert_eq!(handle.refresh().await.unwrap(), state, "seed {seed}");
        }
    }
    assert!(trimmed > 100, "{trimmed} objects were trimmed");
    assert!(woken > 50, "{woken} woke up in a commit");
}
