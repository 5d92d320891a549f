//! Compactors that die at every await, race, and meet deletions and flushes, in virtual time.
//!
//! Checked at every stage: a query over any version finds each profile once with its samples (M1,
//! D1, D2, D4), nothing that was deleted, whatever was pinned within the grace (G1), a job done
//! again changes nothing (M4), each byte is merged at most twice (M3), nothing is left behind (G2).
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use scoria_block::{BlockMeta, Table};
use scoria_compactor::{DeleteRequest, Deletions, RetentionOf};
use scoria_model::limits::RetentionRule;
use scoria_model::{BlockId, ShardSet, TenantId, Timestamp};
use scoria_storage::catalogue::snapshot;
use scoria_storage::testing::{FaultRates, Seeded};
use scoria_storage::{Catalogue, CatalogueState, Op, Tombstone, TombstoneId, Txn, keys, rebuild};
use support::{HOUR, Killed, Seen, World};

/// Rounds until nothing is due, however many fail on the way.
async fn settle(world: &World) -> Arc<CatalogueState> {
    let mut compactor = world.compactor().await;
    for _ in 0..50 {
        let done = compactor.round().await;
        if done.is_ok() && compactor.plan().jobs.is_empty() {
            break;
        }
    }
    assert!(compactor.plan().jobs.is_empty(), "something stays due");
    // Garbage and orphans, after their graces.
    for _ in 0..4 {
        world.wait(Duration::from_secs(1300)).await;
        compactor.round().await.unwrap();
    }
    world.catalogue.refresh().await.unwrap()
}

/// What a catalogue shows that is made anew from the bucket as it lies there, with all its garbage
/// and orphans.
async fn rebuilt(world: &World) -> Vec<Seen> {
    let copy: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut listed = world.store.list(None);
    while let Some(object) = listed.try_next().await.unwrap() {
        let key = object.location;
        let bytes = world.store.get(&key).await.unwrap().bytes().await.unwrap();
        copy.put(&key, bytes.into()).await.unwrap();
    }
    let plan = rebuild::plan(&copy).await.unwrap();
    let options = world.catalogue_options();
    rebuild::replace(&copy, plan, options.clone())
        .await
        .unwrap();
    let catalogue = Catalogue::open(copy, options).await.unwrap();
    world.seen(&catalogue.state()).await.unwrap()
}

async fn check_settled(world: &World, expected: &[Seen]) {
    let state = settle(world).await;
    assert_eq!(world.seen(&state).await.unwrap(), expected);
    let levels: BTreeSet<u8> = state.blocks().map(|meta| meta.level).collect();
    assert!(!levels.contains(&0), "level 0 was not merged");
    let live: BTreeSet<BlockId> = state.blocks().map(|meta| meta.id).collect();
    assert_eq!(world.blocks.list_blocks().await.unwrap(), live, "G2");
    // M4: whoever comes next finds nothing to do.
    let version = state.version();
    let mut again = world.compactor().await;
    again.round().await.unwrap();
    assert_eq!(world.catalogue.refresh().await.unwrap().version(), version);
}

#[tokio::test(start_paused = true)]
async fn a_compactor_may_die_at_every_await() {
    let mut killed_at = 0;
    loop {
        let world = World::new(1, 1).await;
        let expected = world.seen(&world.catalogue.state()).await.unwrap();
        world.wait(2 * HOUR).await;
        let mut first = world.compactor().await;
        let ended = Killed::after(killed_at, first.round()).await;
        let state = world.catalogue.refresh().await.unwrap();
        assert_eq!(
            world.seen(&state).await.unwrap(),
            expected,
            "poll {killed_at}"
        );
        assert_eq!(rebuilt(&world).await, expected, "poll {killed_at}, rebuilt");
        check_settled(&world, &expected).await;
        if ended.is_some() {
            break;
        }
        // Every place at first, where a round reads and plans; then, where it does the same for
        // dataset after dataset, some of them.
        killed_at += 1 + killed_at / 30;
    }
    assert!(killed_at > 30, "only {killed_at} places to die at");
}

#[tokio::test(start_paused = true)]
async fn compactors_race_each_other_and_deletions_on_a_bad_store() {
    for seed in 0..25u64 {
        let mut seeded = Seeded::new(seed);
        let mut world = World::new(seed, 2).await;
        let before = world.seen(&world.catalogue.state()).await.unwrap();
        world
            .wait(if seed % 2 == 0 { 26 * HOUR } else { 3 * HOUR })
            .await;
        let (mut a, mut b) = (world.compactor().await, world.compactor().await);
        let pin = world.catalogue.state();
        world.store.plan(|plan| {
            plan.set_rates(FaultRates {
                slow: 600,
                ..FaultRates::all(if seed % 3 == 0 { 25 } else { 0 })
            });
        });
        let deletions = Deletions::new(
            world.catalogue.clone(),
            world.blocks.clone(),
            Arc::clone(&world.clock) as _,
        );
        let request = DeleteRequest {
            tenant: TenantId::parse("acme").unwrap(),
            selector: r#"{service_name="api",pod="b"}"#.into(),
            before: Timestamp(3_600_000_000_000),
        };
        let wait = Duration::from_millis(seeded.below(4000));
        let delete = async {
            tokio::time::sleep(wait).await;
            while deletions.delete(&request).await.is_err() {}
        };
        let killed = Killed::after(seeded.below(120) as u32, b.round());
        let (_, _, ()) = tokio::join!(a.round(), killed, delete);
        world
            .store
            .plan(|plan| plan.set_rates(FaultRates::default()));
        let kept = |seen: &&Seen| {
            let deleted = seen.0 == "acme" && seen.1 == "api/b" && seen.3 <= 40;
            !deleted
        };
        let mut expected: Vec<Seen> = before.iter().filter(kept).cloned().collect();
        assert!(expected.len() < before.len());
        let state = world.catalogue.refresh().await.unwrap();
        assert_eq!(world.seen(&state).await.unwrap(), expected, "seed {seed}");
        assert_eq!(rebuilt(&world).await, expected, "seed {seed}, rebuilt");
        // G1: what was pinned before all that is still there.
        assert_eq!(world.seen(&pin).await.unwrap(), before, "seed {seed}");
        // A profile that comes late is merged as well, and hidden if it was deleted.
        world.flush(1).await;
        let state = world.catalogue.refresh().await.unwrap();
        expected = world.seen(&state).await.unwrap();
        check_settled(&world, &expected).await;
        assert_eq!(rebuilt(&world).await, expected, "seed {seed}, settled");
    }
}

#[tokio::test(start_paused = true)]
async fn each_byte_is_merged_twice_at_most() {
    let world = World::new(3, 3).await;
    world.wait(2 * 24 * HOUR).await;
    let state = settle(&world).await;
    let mut generations: Vec<u8> = Vec::new();
    for meta in state.blocks() {
        generations.push(meta.level);
    }
    assert!(
        generations.iter().all(|&level| level == 2),
        "M3: {generations:?}"
    );
    let puts = world.store.requests();
    let merged = puts.iter().filter(|request| {
        request.starts_with("put blocks/") && request.ends_with("/manifest.json")
    });
    // Twelve of level 0; of level 1 one for each tenant and hour, of level 2 one for each tenant.
    assert_eq!(merged.count(), 12 + 6 + 2);
}

#[tokio::test(start_paused = true)]
async fn deleting_a_tenant_leaves_nothing_of_it() {
    let world = World::new(4, 2).await;
    world.wait(3 * HOUR).await;
    let before = world.seen(&world.catalogue.state()).await.unwrap();
    let deletions = Deletions::new(
        world.catalogue.clone(),
        world.blocks.clone(),
        Arc::clone(&world.clock) as _,
    );
    let request = DeleteRequest {
        tenant: TenantId::parse("acme").unwrap(),
        selector: "{}".into(),
        before: Timestamp(i64::MAX),
    };
    let extent = deletions.dry_run(&request).await.unwrap();
    assert_eq!(extent.blocks, 8);
    assert!(extent.bytes > 0 && extent.objects > 8);
    assert_eq!(world.catalogue.state().deletions().len(), 0);
    let receipt = deletions.delete(&request).await.unwrap();
    assert_eq!(receipt.pending.blocks, 8);
    let expected: Vec<Seen> = before.into_iter().filter(|seen| seen.0 != "acme").collect();
    let state = world.catalogue.refresh().await.unwrap();
    assert_eq!(world.seen(&state).await.unwrap(), expected);
    check_settled(&world, &expected).await;
    let listed = deletions.list(&request.tenant).await.unwrap();
    assert_eq!((listed.len(), listed[0].pending.blocks), (1, 0));
    let refused = DeleteRequest {
        selector: "{".into(),
        ..request
    };
    assert!(deletions.delete(&refused).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_rule_of_retention_deletes_by_itself_and_writes_a_day_once() {
    let mut world = World::new(6, 1).await;
    world.flush(72).await;
    let before = world.seen(&world.catalogue.state()).await.unwrap();
    world.wait(73 * HOUR).await;
    let rules: Arc<[RetentionRule]> = Arc::from([RetentionRule {
        selector: r#"{service_name="api",pod="b"}"#.into(),
        period_ms: 24 * 3_600_000,
    }]);
    let kept = RetentionOf::fixed(None).with_rules(move |tenant| match tenant.as_str() {
        "acme" => Arc::clone(&rules),
        _ => Arc::from([]),
    });
    let mut a = world.compactor_that_keeps(kept.clone()).await;
    let mut b = world.compactor_that_keeps(kept).await;
    let (first, second) = tokio::join!(a.round(), b.round());
    first.and(second).unwrap();
    let gone = |seen: &Seen| seen.0 == "acme" && seen.1 == "api/b" && seen.3 <= 40;
    let expected: Vec<Seen> = before.iter().filter(|s| !gone(s)).cloned().collect();
    assert!(expected.len() < before.len());
    let state = world.catalogue.refresh().await.unwrap();
    assert_eq!(world.seen(&state).await.unwrap(), expected);
    assert_eq!(state.deletions().len(), 1, "one of two compactors");
    check_settled(&world, &expected).await;

    // The next day's deletion has nothing to do where this one went through.
    let first_day = |state: &CatalogueState| -> BTreeSet<BlockId> {
        let old = state
            .blocks()
            .filter(|meta| meta.max_time.0 < 3_600_000_000_000);
        old.map(|meta| meta.id).collect()
    };
    let merged = first_day(&world.catalogue.state());
    world.flush(97).await;
    world.wait(26 * HOUR).await;
    a.round().await.unwrap();
    let state = settle(&world).await;
    assert_eq!(state.deletions().len(), 2);
    assert_eq!(first_day(&state), merged);
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_cannot_be_merged_is_left_by_all_compactors_until_it_is_released() {
    let world = World::new(6, 1).await;
    let block = world.catalogue.state().blocks().next().unwrap().id;
    let key = keys::table(block, Table::Profiles);
    let read = world.store.get(&key).await.unwrap().bytes().await.unwrap();
    let flipped: Vec<u8> = read.iter().map(|byte| !byte).collect();
    world.store.put(&key, flipped.into()).await.unwrap();
    world.wait(2 * HOUR).await;
    world.compactor().await.round().await.unwrap();
    let state = world.catalogue.refresh().await.unwrap();
    let left: Vec<BlockId> = state.quarantine().map(|(block, _)| block).collect();
    assert_eq!(left, [block]);
    let level0: Vec<BlockId> = state
        .blocks()
        .filter(|meta| meta.level == 0)
        .map(|meta| meta.id)
        .collect();
    assert_eq!(level0, [block], "the rest goes on");
    let bytes = snapshot::encode(&state).unwrap();
    assert_eq!(snapshot::decode(state.version(), &bytes).unwrap(), *state);
    // Whoever starts next leaves it alone and does not try again.
    let mut next = world.compactor().await;
    next.round().await.unwrap();
    let after = world.catalogue.refresh().await.unwrap();
    assert_eq!(after.version(), state.version());
    let release = Txn::new().then(Op::Release(block));
    world.catalogue.commit(release.clone()).await.unwrap();
    assert!(world.catalogue.commit(release).await.is_err());
    assert!(!world.compactor().await.plan().jobs.is_empty());
}

/// What a compactor could do wrong, made out of what a right one committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    /// An input slice that was merged stays live.
    SkipsSlice,
    /// A slice goes that no output holds.
    LosesOutput,
    /// A deletion came while it merged, and it commits all the same.
    ForgetsTombstone,
    /// Another compactor was first, and it commits all the same.
    IgnoresPrecondition,
    /// Garbage goes while a query may still read it.
    IgnoresGrace,
}

impl Mistake {
    const ALL: [Self; 5] = [
        Self::SkipsSlice,
        Self::LosesOutput,
        Self::ForgetsTombstone,
        Self::IgnoresPrecondition,
        Self::IgnoresGrace,
    ];
}

/// What was merged: the version before, what of it is an input, and the outputs.
struct Merged {
    pin: Arc<CatalogueState>,
    inputs: Vec<(BlockId, Vec<(TenantId, ShardSet)>)>,
    outputs: Vec<Arc<BlockMeta>>,
}

/// The state after the commit of such inputs and outputs, or why no reader takes it.
fn committed(
    base: &CatalogueState,
    inputs: impl IntoIterator<Item = (BlockId, Vec<(TenantId, ShardSet)>)>,
    outputs: impl IntoIterator<Item = Arc<BlockMeta>>,
) -> Result<CatalogueState, String> {
    applied(base, Txn::replace(inputs, outputs, base.version()).ops)
}

fn applied(base: &CatalogueState, ops: Vec<Op>) -> Result<CatalogueState, String> {
    let mut state = base.clone();
    let entry = scoria_storage::catalogue::Entry {
        version: scoria_model::CatalogueVersion(base.version().0 + 1),
        nonce: 0,
        ops,
    };
    state
        .apply(&entry)
        .map_err(|violation| violation.to_string())?;
    Ok(state)
}

impl Merged {
    /// The version that a compactor with the mistake leaves, and what should be seen of it.
    async fn with(
        &self,
        mistake: Mistake,
        (world, before): (&World, &[Seen]),
        seeded: &mut Seeded,
    ) -> (Result<CatalogueState, String>, Vec<Seen>) {
        let (mut inputs, mut outputs) = (self.inputs.clone(), self.outputs.clone());
        let right = before.to_vec();
        match mistake {
            Mistake::SkipsSlice => {
                let at = seeded.below(inputs.len() as u64) as usize;
                let slices = &mut inputs[at].1;
                slices.remove(seeded.below(slices.len() as u64) as usize);
            }
            Mistake::LosesOutput => {
                outputs.remove(seeded.below(outputs.len() as u64) as usize);
            }
            Mistake::ForgetsTombstone => {
                let pod = ["a", "b"][seeded.below(2) as usize];
                let tombstone = Tombstone {
                    id: TombstoneId(1),
                    tenant: TenantId::parse("acme").unwrap(),
                    selector: format!("{{pod=\"{pod}\"}}").into(),
                    before: Timestamp(i64::MAX),
                    created: Timestamp(0),
                };
                let deleted = applied(&self.pin, vec![Op::Delete(Arc::new(tombstone))]).unwrap();
                let right = world.seen(&deleted).await.unwrap();
                assert!(right.len() < before.len());
                return (committed(&deleted, inputs, outputs), right);
            }
            Mistake::IgnoresPrecondition => {
                let first = committed(&self.pin, inputs.clone(), outputs.clone()).unwrap();
                let again = outputs.iter().map(|meta| {
                    let mut meta = BlockMeta::clone(meta);
                    meta.id = BlockId(meta.id.0 ^ 1);
                    Arc::new(meta)
                });
                return (committed(&first, inputs, again), right);
            }
            Mistake::IgnoresGrace => {
                let garbage = seeded.below(inputs.len() as u64) as usize;
                world.blocks.delete_block(inputs[garbage].0).await.unwrap();
                return (Ok((*self.pin).clone()), right);
            }
        }
        (committed(&self.pin, inputs, outputs), right)
    }
}

/// Each mistake, made in many ways, is seen by the checks that all of these tests rest on: a reader
/// refuses the entry, or a query fails or differs.
#[tokio::test(start_paused = true)]
async fn every_mistake_of_a_compactor_is_caught() {
    for seed in 0..4u64 {
        let world = World::new(seed, 1).await;
        let before = world.seen(&world.catalogue.state()).await.unwrap();
        world.wait(2 * HOUR).await;
        let pin = world.catalogue.state();
        world.compactor().await.round().await.unwrap();
        let after = world.catalogue.refresh().await.unwrap();
        let merged = Merged {
            inputs: pin.blocks().map(|meta| (meta.id, meta.slices())).collect(),
            outputs: after.blocks().cloned().collect(),
            pin,
        };
        let right = committed(&merged.pin, merged.inputs.clone(), merged.outputs.clone());
        assert_eq!(world.seen(&right.unwrap()).await.unwrap(), before);
        let mut seeded = Seeded::new(seed);
        for mistake in Mistake::ALL {
            for _ in 0..4 {
                let (state, right) = merged.with(mistake, (&world, &before), &mut seeded).await;
                let caught = match state {
                    Err(_) => true,
                    Ok(state) => world.seen(&state).await.as_ref() != Ok(&right),
                };
                assert!(caught, "seed {seed}: {mistake:?} stays unseen");
            }
        }
        // What was merged is read from its own blocks.
        assert_eq!(world.seen(&after).await.unwrap(), before);
    }
}
