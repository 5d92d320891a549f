//! Slices, deletions and garbage in the fold.

use scoria_model::{BlockId, Timestamp};

use super::*;
use crate::catalogue::txn::{Precondition, Txn};
use crate::catalogue::{Tombstone, snapshot};
use crate::testing::{merged_meta, meta_of, stream_id};

const API: &str = "acme/api";
const WEB: &str = "acme/web";
const OTHER: &str = "other/api";

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn slice(dataset: &str) -> (TenantId, ShardSet) {
    let (tenant_id, service) = dataset.split_once('/').unwrap();
    (tenant(tenant_id), ShardSet::of_service(service))
}

fn commit(state: &mut CatalogueState, txn: Txn) -> Result<(), String> {
    txn.check(state).map_err(|unmet| unmet.to_string())?;
    let entry = Entry {
        version: CatalogueVersion(state.version().0 + 1),
        nonce: 0,
        ops: txn.ops,
    };
    let bytes = entry.encode().unwrap();
    let entry = Entry::decode(entry.version, &bytes).unwrap();
    state
        .apply(&entry)
        .map_err(|violation| violation.to_string())?;
    let bytes = snapshot::encode(state).unwrap();
    assert_eq!(snapshot::decode(state.version(), &bytes).unwrap(), *state);
    Ok(())
}

/// A stream with two blocks of level 0 that have three datasets each.
fn two_blocks() -> CatalogueState {
    let stream = stream_id(0);
    let mut state = CatalogueState::default();
    let node = NodeId("a".into());
    let open = Op::OpenStream {
        stream: stream.clone(),
        epoch: Epoch(1),
        owner: node.clone(),
        members: vec![node],
        quorum: 1,
    };
    commit(&mut state, Txn::new().then(open)).unwrap();
    for (id, from) in [(1, 0), (2, 5)] {
        let range = (from, from + 5);
        let meta = meta_of(id, &stream, range, &[API, WEB, OTHER]);
        let range = (Seq(from), Seq(from + 5));
        let flush = Txn::flush(&stream, Epoch(1), range, [Arc::new(meta)]);
        commit(&mut state, flush).unwrap();
    }
    state
}

fn merge(state: &CatalogueState, id: u128, datasets: &[&str]) -> Txn {
    merge_up_to(state, id, datasets, 0)
}

fn merge_up_to(state: &CatalogueState, id: u128, datasets: &[&str], max_time: i64) -> Txn {
    let mut slices: Vec<_> = datasets.iter().map(|dataset| slice(dataset)).collect();
    slices.dedup_by(|b, a| {
        let same = a.0 == b.0;
        if same {
            a.1 = a.1.union(b.1);
        }
        same
    });
    let mut meta = meta_of(id, &stream_id(0), (0, 10), datasets);
    meta.max_time = Timestamp(max_time);
    let meta = merged_meta(meta, &[1, 2], slices.clone());
    let inputs = [1, 2].map(|block| (BlockId(block), slices.clone()));
    Txn::replace(inputs, [Arc::new(meta)], state.version())
}

fn live(state: &CatalogueState) -> Vec<String> {
    let blocks = state.blocks().flat_map(|meta| {
        state
            .live_datasets(meta)
            .map(|(_, dataset)| format!("{} {}/{}", meta.id.0, dataset.tenant, dataset.service))
    });
    blocks.collect()
}

fn tombstone(id: u128, tenant_id: &str, before: i64) -> Op {
    tombstone_of(id, tenant_id, "{}", before)
}

fn tombstone_of(id: u128, tenant_id: &str, selector: &str, before: i64) -> Op {
    Op::Delete(Arc::new(Tombstone {
        id: TombstoneId(id),
        tenant: tenant(tenant_id),
        selector: selector.into(),
        before: Timestamp(before),
        created: Timestamp(7),
    }))
}

#[test]
fn every_dataset_is_live_once_through_merges_and_a_block_goes_with_its_last_slice() {
    let mut state = two_blocks();
    let (first, second) = (merge(&state, 3, &[API]), merge(&state, 4, &[WEB, OTHER]));
    commit(&mut state, first.clone()).unwrap();
    assert_eq!(
        live(&state),
        [
            "1 acme/web",
            "1 other/api",
            "2 acme/web",
            "2 other/api",
            "3 acme/api"
        ]
    );
    assert_eq!(state.live_shards(BlockId(1), &tenant("acme")), slice(WEB).1);
    assert_eq!(state.garbage().len(), 0);
    // The same job again, by a second compactor.
    assert!(commit(&mut state, first).unwrap_err().contains("are live"));
    commit(&mut state, second).unwrap();
    assert_eq!(live(&state), ["3 acme/api", "4 acme/web", "4 other/api"]);
    let garbage: Vec<_> = state.garbage().collect();
    let since = state.version();
    assert_eq!(garbage, [(BlockId(1), since), (BlockId(2), since)]);
    let forget = Txn::new().then(Op::Forget(BlockId(1)));
    commit(&mut state, forget.clone()).unwrap();
    assert!(!state.is_garbage(BlockId(1)) && state.is_garbage(BlockId(2)));
    assert!(
        commit(&mut state, forget)
            .unwrap_err()
            .contains("not garbage")
    );
}

#[test]
fn a_merge_over_a_deletion_is_refused_and_one_after_it_has_applied_it() {
    let mut state = two_blocks();
    let planned_before = merge(&state, 3, &[API]);
    let of_other = merge(&state, 4, &[OTHER]);
    commit(&mut state, Txn::new().then(tombstone(9, "acme", 5))).unwrap();
    let deleted_at = state.version();
    assert_eq!(state.newest_deletion(&tenant("acme")), deleted_at);
    assert!(
        commit(&mut state, planned_before)
            .unwrap_err()
            .contains("was deleted")
    );
    commit(&mut state, of_other).unwrap();
    let anew = merge(&state, 5, &[API, WEB]);
    commit(&mut state, anew).unwrap();
    let pending = |state: &CatalogueState, block: u128| {
        let meta = Arc::clone(state.block(BlockId(block)).unwrap());
        state.deletions_in(&meta, &tenant("acme")).count()
    };
    assert_eq!((pending(&state, 5), state.blocks().len()), (0, 2));
    // A later one is pending in it again; one of times before its first profile is not.
    commit(&mut state, Txn::new().then(tombstone(10, "acme", 0))).unwrap();
    assert_eq!(pending(&state, 5), 0);
    commit(
        &mut state,
        Txn::new().then(tombstone_of(11, "acme", r#"{pod="a"}"#, 1)),
    )
    .unwrap();
    assert_eq!(pending(&state, 5), 1);
    let retire = Txn::new().then(Op::Retire(TombstoneId(11)));
    commit(&mut state, retire.clone()).unwrap();
    assert_eq!((pending(&state, 5), state.deletions().len()), (0, 2));
    assert!(commit(&mut state, retire).unwrap_err().contains("unknown"));
    let twice = Txn::new().then(tombstone(9, "acme", 5));
    assert!(
        commit(&mut state, twice)
            .unwrap_err()
            .contains("second time")
    );
}

#[test]
fn the_same_deletion_of_a_later_time_finds_nothing_more_in_a_merged_block() {
    let mut state = two_blocks();
    let pending = |state: &CatalogueState, block: u128| {
        let meta = Arc::clone(state.block(BlockId(block)).unwrap());
        state.deletions_in(&meta, &tenant("acme")).count()
    };
    commit(&mut state, Txn::new().then(tombstone(9, "acme", 2))).unwrap();
    let whole = merge(&state, 5, &[API]);
    commit(&mut state, whole).unwrap();
    // Of this one a part was too young.
    let in_part = merge_up_to(&state, 6, &[WEB], 2);
    commit(&mut state, in_part).unwrap();
    commit(&mut state, Txn::new().then(tombstone(10, "acme", 3))).unwrap();
    assert_eq!((pending(&state, 5), pending(&state, 6)), (0, 1));
    // Nothing went through a block of level 0, whatever is older than it.
    assert_eq!(pending(&state, 1), 2);
    let other = tombstone_of(11, "acme", r#"{pod="a"}"#, 3);
    commit(&mut state, Txn::new().then(other)).unwrap();
    assert_eq!(pending(&state, 5), 1);
}

#[test]
fn a_condemned_block_can_never_be_added() {
    let mut state = two_blocks();
    let late = merge(&state, 3, &[API]);
    commit(&mut state, Txn::new().then(Op::Condemn(BlockId(3)))).unwrap();
    // Twice is harmless: two collectors may have seen it.
    commit(&mut state, Txn::new().then(Op::Condemn(BlockId(3)))).unwrap();
    assert!(
        commit(&mut state, late.clone())
            .unwrap_err()
            .contains("condemned")
    );
    let unchecked = Txn {
        preconditions: Vec::new(),
        ..late
    };
    assert!(
        commit(&mut state, unchecked)
            .unwrap_err()
            .contains("condemned")
    );
    let of_live = Txn::new().then(Op::Condemn(BlockId(1)));
    assert!(
        commit(&mut state, of_live)
            .unwrap_err()
            .contains("it is live")
    );
}

#[test]
fn slices_that_are_not_there_cannot_be_removed() {
    let mut state = two_blocks();
    let before = state.clone();
    let remove = |block: u128, slices: Vec<(TenantId, ShardSet)>| {
        Txn::new().then(Op::RemoveSlices {
            block: BlockId(block),
            slices,
        })
    };
    let absent = ShardSet::ALL.without(slice(API).1).without(slice(WEB).1);
    for slices in [
        vec![(tenant("acme"), absent)],
        vec![(tenant("nobody"), ShardSet::ALL)],
        vec![(tenant("acme"), ShardSet::EMPTY)],
        vec![slice(API), slice(API)],
    ] {
        assert!(commit(&mut state, remove(1, slices)).is_err());
        assert_eq!(state, before);
    }
    assert!(commit(&mut state, remove(7, vec![slice(API)])).is_err());
    let not_live = Precondition::SlicesLive {
        block: BlockId(7),
        slices: vec![slice(API)],
    };
    assert!(Txn::new().require(not_live).check(&state).is_err());
}
