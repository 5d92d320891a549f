use object_store::memory::InMemory;
use proptest::prelude::*;
use scoria_model::Timestamp;

use super::cover;
use super::*;
use crate::catalogue::Op;
use crate::testing::{bare_meta, merged_meta, meta_of, stream_id};

/// A block of the cut at `millis` of stream 0.
fn flushed(millis: u128, low: u128, range: (u64, u64)) -> Arc<BlockMeta> {
    Arc::new(bare_meta(millis << 80 | low, &stream_id(0), range))
}

fn choose(metas: Vec<Arc<BlockMeta>>) -> cover::Covered {
    cover::choose(metas, Vec::new())
}

fn ids(covered: &[Arc<BlockMeta>]) -> Vec<u128> {
    covered.iter().map(|meta| meta.id.0).collect()
}

#[test]
fn cuts_that_follow_each_other_are_all_taken() {
    let metas = vec![
        flushed(1, 1, (0, 5)),
        flushed(1, 2, (0, 5)),
        flushed(2, 1, (5, 9)),
        // Records 9 to 11 held no profiles.
        flushed(3, 1, (11, 12)),
    ];
    let covered = choose(metas.clone());
    assert_eq!(ids(&covered.blocks), ids(&metas));
    assert_eq!(covered.streams, [(stream_id(0), Seq(12))]);
    assert!(covered.left_out.is_empty());
}

#[test]
fn what_was_cut_again_after_a_crash_counts_once() {
    // Uploaded but not committed; after the crash the same records are in a longer cut.
    let orphan = flushed(1, 1, (0, 5));
    let longer = flushed(2, 1, (0, 8));
    let covered = choose(vec![orphan, Arc::clone(&longer)]);
    assert_eq!(ids(&covered.blocks), [longer.id.0]);
    assert_eq!(covered.left_out.len(), 1);
    // The same records in the same cut, the second time cut off after one of two blocks.
    let whole = [flushed(1, 1, (0, 5)), flushed(1, 2, (0, 5))];
    let torn = flushed(2, 1, (0, 5));
    let covered = choose(vec![Arc::clone(&whole[0]), Arc::clone(&whole[1]), torn]);
    assert_eq!(ids(&covered.blocks), ids(&whole));
}

fn with(id: (u128, u128), range: (u64, u64), datasets: &[&str]) -> BlockMeta {
    meta_of(id.0 << 80 | id.1, &stream_id(0), range, datasets)
}

/// The slices that a plan removes, by block.
fn removed(covered: &cover::Covered) -> Vec<u128> {
    let ops = covered.txns.iter().flat_map(|txn| &txn.ops);
    ops.filter_map(|op| match op {
        Op::RemoveSlices { block, .. } => Some(block.0),
        _ => None,
    })
    .collect()
}

#[test]
fn a_merged_block_stands_for_what_it_took_of_its_inputs() {
    let a = with((1, 1), (0, 5), &["t1/x", "t2/y"]);
    let b = with((2, 1), (5, 9), &["t1/x"]);
    let of_t1 = with((3, 1), (0, 9), &["t1/x"]);
    let scope = of_t1.slices();
    let merged = merged_meta(of_t1, &[a.id.0, b.id.0], scope);
    let later = with((4, 1), (9, 12), &["t1/x"]);
    let metas = [a.clone(), b, merged.clone(), later.clone()].map(Arc::new);
    let covered = choose(metas.to_vec());
    // Of `a` the other tenant's part is still live, of `b` nothing.
    assert_eq!(ids(&covered.blocks), [a.id.0, merged.id.0, later.id.0]);
    assert_eq!(removed(&covered), [a.id.0]);
    assert_eq!(covered.streams, [(stream_id(0), Seq(12))]);
}

#[test]
fn an_orphan_of_a_merge_that_lost_a_race_counts_not() {
    let blocks = [1, 2, 3].map(|n| with((n, 1), (n as u64 - 1, n as u64), &["t/x"]));
    let out = |id: u128, to: u64, inputs: &[u128]| {
        let meta = with((id, 1), (0, to), &["t/x"]);
        let scope = meta.slices();
        merged_meta(meta, inputs, scope)
    };
    let inputs = blocks.clone().map(|meta| meta.id.0);
    let lost = out(4, 2, &inputs[..2]);
    let won = out(5, 3, &inputs);
    let mut metas: Vec<_> = blocks.into_iter().map(Arc::new).collect();
    metas.extend([Arc::new(lost.clone()), Arc::new(won.clone())]);
    let covered = choose(metas.clone());
    assert_eq!(ids(&covered.blocks), [won.id.0]);
    // A merge above it says which of the two happened, whatever else speaks for the other.
    let mut above = out(6, 2, &[lost.id.0]);
    above.level = 2;
    metas.push(Arc::new(above.clone()));
    let covered = choose(metas.clone());
    assert_eq!(ids(&covered.blocks), [inputs[2], above.id.0]);
    // Even when the one between is gone already.
    metas.retain(|meta| meta.id != lost.id && meta.id != won.id);
    let covered = choose(metas);
    assert_eq!(ids(&covered.blocks), [inputs[2], above.id.0]);
}

/// A merge of `inputs` with the number `run`.
fn run_of(run: u64, id: u128, inputs: &[u128]) -> BlockMeta {
    let meta = with((id, 1), (0, 9), &["t/x"]);
    let scope = meta.slices();
    let mut meta = merged_meta(meta, inputs, scope);
    if let Some(merge) = &mut meta.merge {
        merge.run = run;
    }
    meta
}

#[test]
fn d2_of_two_runs_of_a_merge_one_counts() {
    // A deletion came between: the first was refused and lies there until it is collected.
    let input = with((1, 1), (0, 9), &["t/x"]);
    let [lost, won] = [(7, 2), (8, 3)].map(|(run, id)| run_of(run, id, &[input.id.0]));
    let metas = [input, lost.clone(), won.clone()].map(Arc::new);
    let covered = choose(metas.to_vec());
    assert_eq!(ids(&covered.blocks), [won.id.0]);
    // A merge above it says which one was committed.
    let mut above = run_of(9, 4, &[lost.id.0]);
    above.level = 2;
    let covered = choose(metas.into_iter().chain([Arc::new(above.clone())]).collect());
    assert_eq!(ids(&covered.blocks), [above.id.0]);
}

#[test]
fn d2_a_part_that_was_written_again_counts_once() {
    let input = with((1, 1), (0, 9), &["t/x"]);
    let part = |id: u128, part: u32| {
        let mut meta = run_of(7, id, &[input.id.0]);
        if let Some(merge) = &mut meta.merge {
            (merge.part, merge.last) = (part, part == 1);
        }
        meta
    };
    let (given_up, again, second) = (part(2, 0), part(3, 0), part(4, 1));
    let metas = [
        input.clone(),
        given_up.clone(),
        again.clone(),
        second.clone(),
    ]
    .map(Arc::new);
    let covered = choose(metas.to_vec());
    assert_eq!(ids(&covered.blocks), [again.id.0, second.id.0]);
    let mut above = run_of(8, 5, &[given_up.id.0, second.id.0]);
    above.level = 2;
    let covered = choose(metas.into_iter().chain([Arc::new(above.clone())]).collect());
    assert_eq!(ids(&covered.blocks), [above.id.0]);
}

#[test]
fn d1_the_merge_counts_whose_inputs_are_gone() {
    let [x, y, z] = [1, 2, 3].map(|n| with((n, 1), (n as u64 - 1, n as u64), &["t/x"]));
    let won = run_of(7, 4, &[y.id.0, z.id.0]);
    let lost = run_of(8, 5, &[x.id.0, y.id.0]);
    for there in [vec![&x], vec![&x, &y], vec![&x, &z], vec![&x, &y, &z]] {
        let blocks = there.iter().copied().chain([&won, &lost]);
        let covered = choose(blocks.cloned().map(Arc::new).collect());
        let chosen = ids(&covered.blocks);
        let all = match there.contains(&&z) {
            true => [[x.id.0, won.id.0], [z.id.0, lost.id.0]],
            false => [[x.id.0, won.id.0]; 2],
        };
        assert!(all.iter().any(|all| *all == chosen[..]), "{chosen:?}");
    }
}

#[test]
fn a_merge_without_its_last_part_did_not_happen() {
    let a = with((1, 1), (0, 5), &["t/x"]);
    let part = with((2, 1), (0, 5), &["t/x"]);
    let scope = part.slices();
    let mut part = merged_meta(part, &[a.id.0], scope);
    if let Some(merge) = &mut part.merge {
        merge.last = false;
    }
    let covered = choose(vec![Arc::new(a.clone()), Arc::new(part)]);
    assert_eq!(ids(&covered.blocks), [a.id.0]);
    assert_eq!(covered.left_out.len(), 1);
}

/// What a plan's operations make must be what it says, in a catalogue that checks every rule.
#[test]
fn the_operations_of_a_plan_can_be_committed() {
    let a = with((1, 1), (0, 5), &["t1/x", "t2/y"]);
    let of_t1 = with((3, 1), (0, 5), &["t1/x"]);
    let scope = of_t1.slices();
    let merged = merged_meta(of_t1, &[a.id.0], scope);
    let covered = choose(vec![Arc::new(a), Arc::new(merged)]);
    let mut state = crate::catalogue::CatalogueState::default();
    for (at, txn) in covered.txns.iter().enumerate() {
        let entry = crate::catalogue::Entry {
            version: CatalogueVersion(at as u64 + 1),
            nonce: 1,
            ops: txn.ops.clone(),
        };
        state.apply(&entry).unwrap();
    }
    let live: Vec<u128> = state.blocks().map(|meta| meta.id.0).collect();
    assert_eq!(live, ids(&covered.blocks));
}

proptest! {
    /// Whatever cuts lie there: none of the chosen ones overlap.
    #[test]
    fn chosen_cuts_are_disjoint(cuts in proptest::collection::vec((1u128..20, 0u64..20, 1u64..8), 0..30)) {
        let metas: Vec<_> = cuts
            .iter()
            .enumerate()
            .map(|(at, (millis, from, n))| flushed(*millis, at as u128, (*from, from + n)))
            .collect();
        let covered = choose(metas.clone());
        prop_assert_eq!(covered.blocks.len() + covered.left_out.len(), metas.len());
        for a in &covered.blocks {
            for b in &covered.blocks {
                let (x, y) = (&a.streams[0], &b.streams[0]);
                let disjoint = x.to <= y.from || y.to <= x.from;
                let one_cut = x == y && a.id.0 >> 80 == b.id.0 >> 80;
                prop_assert!(disjoint || one_cut, "{x:?} {y:?}");
            }
        }
        let committed = covered.streams.first().map_or(Seq(0), |(_, to)| *to);
        let last = covered.blocks.iter().map(|m| m.streams[0].to).max().unwrap_or_default();
        prop_assert_eq!(committed, last);
    }
}

#[derive(Debug, Clone)]
struct Still;

impl scoria_model::Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

#[tokio::test]
async fn a_new_catalogue_takes_the_place_of_a_damaged_one() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let options = || CatalogueOptions::new(Arc::new(Still), Metrics::unregistered());
    let metas = [flushed(1, 1, (0, 5)), flushed(2, 1, (5, 9))];
    for meta in &metas {
        let manifest = meta.to_manifest().unwrap();
        store
            .put(&keys::manifest(meta.id), manifest.into())
            .await
            .unwrap();
    }
    let damaged = keys::log_entry(CatalogueVersion(1));
    store.put(&damaged, "rubbish".into()).await.unwrap();
    Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap_err();

    let plan = plan(&store).await.unwrap();
    assert_eq!(ids(&plan.blocks), ids(&metas));
    replace(&store, plan, options()).await.unwrap();
    let catalogue = Catalogue::open(Arc::clone(&store), options())
        .await
        .unwrap();
    let state = catalogue.state();
    assert_eq!(state.blocks().cloned().collect::<Vec<_>>(), metas);
    assert_eq!(state.stream(&stream_id(0)).unwrap().committed, Seq(9));
    let aside = Path::from(keys::QUARANTINE);
    let kept: Vec<_> = store.list(Some(&aside)).try_collect().await.unwrap();
    assert_eq!(kept.len(), 1, "the old log is kept");
}
