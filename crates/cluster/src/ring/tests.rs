use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn ring(names: &[String]) -> Ring {
    Ring::new(names.iter().map(|name| NodeId(Arc::from(name.as_str()))))
}

fn numbered(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("scoria-{i}")).collect()
}

#[test]
fn shares_are_even() {
    let ring = ring(&numbered(8));
    let mut counts: HashMap<&NodeId, u32> = HashMap::new();
    for service in 0..8000 {
        let place = Place::of_service("anonymous", &format!("service-{service}"));
        *counts.entry(ring.target(place, 1, 1).unwrap()).or_default() += 1;
    }
    assert_eq!(counts.len(), 8);
    for (node, count) in counts {
        assert!((700..1300).contains(&count), "{node:?} has {count} of 8000");
    }
}

#[test]
fn a_service_stays_on_its_k_neighbours_and_uses_all_of_them() {
    let ring = ring(&numbered(10));
    let place = Place::of_service("t", "large");
    let neighbours: Vec<&NodeId> = ring.neighbours(place, 3).collect();
    let mut counts: HashMap<&NodeId, u32> = HashMap::new();
    for fingerprint in 0..3000u64 {
        let spread = fingerprint.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *counts
            .entry(ring.target(place, spread, 3).unwrap())
            .or_default() += 1;
    }
    assert_eq!(counts.len(), 3);
    for (node, count) in counts {
        assert!(neighbours.contains(&node));
        assert!((800..1200).contains(&count), "{node:?} has {count} of 3000");
    }
}

#[test]
fn placement_is_the_same_in_every_process_and_release() {
    let ring = ring(&numbered(5));
    let at = |service: &str| {
        let place = Place::of_service("anonymous", service);
        ring.target(place, 42, 2).unwrap().0.to_string()
    };
    let placed: Vec<String> = ["api", "checkout", "ledger", "web"].map(at).to_vec();
    assert_eq!(placed, ["scoria-4", "scoria-0", "scoria-3", "scoria-3"]);
}

/// How many of `keys` series go elsewhere on the larger ring, and whether any of them went to a
/// member that was there before.
fn moved(before: &Ring, after: &Ring, k: usize, keys: u64) -> (u64, u64) {
    let (mut moved, mut between_old) = (0, 0);
    for key in 0..keys {
        let place = Place::of_service("t", &format!("s{key}"));
        let (from, to) = (before.target(place, key, k), after.target(place, key, k));
        if from != to {
            moved += 1;
            between_old += u64::from(before.members().contains(to.unwrap()));
        }
    }
    (moved, between_old)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_key_maps_to_a_member(
        n in 1usize..12, tenant in ".{0,8}", service in ".{0,12}", fingerprint: u64, k in 0usize..15,
    ) {
        let ring = ring(&numbered(n));
        let place = Place::of_service(&tenant, &service);
        let target = ring.target(place, fingerprint, k).unwrap();
        prop_assert!(ring.neighbours(place, k.max(1)).any(|node| node == target));
        let mut all: Vec<&NodeId> = ring.neighbours(place, usize::MAX).collect();
        all.sort();
        prop_assert_eq!(all, ring.members().iter().collect::<Vec<_>>());
    }

    #[test]
    fn the_order_of_the_members_does_not_matter(
        names in proptest::collection::btree_set("[a-z]{1,6}", 1..8), key: u64,
    ) {
        let forward: Vec<String> = names.into_iter().collect();
        let mut backward: Vec<String> = forward.iter().rev().cloned().collect();
        backward.push(forward[0].clone());
        let (one, other) = (ring(&forward), ring(&backward));
        for service in ["a", "b", "c", "d"] {
            let place = Place::of_service("t", service);
            prop_assert_eq!(one.target(place, key, 3), other.target(place, key, 3));
        }
    }

    #[test]
    fn a_new_member_takes_its_share_and_nothing_else_moves(n in 1usize..12) {
        let (before, after) = (ring(&numbered(n)), ring(&numbered(n + 1)));
        let (moved, between_old) = moved(&before, &after, 1, 2000);
        let share = 2000.0 / (n + 1) as f64;
        prop_assert_eq!(between_old, 0);
        prop_assert!((moved as f64) < share * 1.5, "{} moved of 2000 at {} members", moved, n + 1);
        prop_assert!((moved as f64) > share * 0.5, "{} moved of 2000 at {} members", moved, n + 1);
    }

    #[test]
    fn with_k_neighbours_at_most_twice_a_share_moves(n in 4usize..12, k in 2usize..4) {
        let (before, after) = (ring(&numbered(n)), ring(&numbered(n + 1)));
        let (moved, _) = moved(&before, &after, k, 2000);
        let share = 2000.0 / (n + 1) as f64;
        prop_assert!((moved as f64) < share * 3.0, "{} moved of 2000 at {} members", moved, n + 1);
    }
}
