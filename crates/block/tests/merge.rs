//! M1 and M4: a merge holds what its inputs held, once, and always the same bytes.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use scoria_block::{
    BlockMeta, BlockSpec, BlockWriter, EncodedBlock, Keep, MergeError, MergeInput, MergeRules,
    MergeScope, Merged, Resends, Sources, WriteKey, merged_id, merged_streams,
};
use scoria_model::{BlockId, TenantId};
use support::made::{Made, datasets, fixed};
use support::reading::{Row, fetch_dataset, object, open_all, read_block};

const ROOMY: u64 = 1 << 30;

/// The block of the stream with this number.
fn write(made: &[Made], n: u32) -> EncodedBlock {
    let mut spec = support::spec();
    spec.id = BlockId(spec.id.0 + u128::from(n));
    spec.streams[0].stream.n = n;
    let mut writer = BlockWriter::new(spec).unwrap();
    made.iter()
        .for_each(|made| writer.add(made.input()).unwrap());
    writer.finish().unwrap()
}

fn merge_with(
    blocks: &[EncodedBlock],
    keep: Keep<'_>,
    bytes_max: u64,
) -> Result<(EncodedBlock, Merged), MergeError> {
    let names: BTreeSet<(TenantId, String)> = blocks
        .iter()
        .flat_map(|block| &block.meta.datasets)
        .map(|dataset| (dataset.tenant.clone(), dataset.service.to_string()))
        .collect();
    let mut slices: Vec<_> = Vec::new();
    for (tenant, _) in &names {
        if slices.last().is_none_or(|(last, _)| last != tenant) {
            slices.push((tenant.clone(), scoria_model::ShardSet::ALL));
        }
    }
    let scope = MergeScope {
        slices,
        run: 9,
        part: 0,
        last: false,
    };
    let inputs: Vec<BlockId> = blocks.iter().map(|block| block.meta.id).collect();
    let mut writer = BlockWriter::new(BlockSpec {
        id: merged_id(1, &inputs, &scope, &[]),
        level: 1,
        streams: merged_streams(blocks.iter().map(|block| &block.meta)),
        inputs,
        merge: Some(scope),
        rollup_labels: Vec::new(),
    })?;
    let mut all = Merged::default();
    for (tenant, service) in &names {
        let sources: Vec<(&BlockMeta, usize, Sources)> = blocks
            .iter()
            .filter_map(|block| {
                let at = block.meta.datasets.iter().position(|dataset| {
                    dataset.tenant == *tenant && dataset.service.as_ref() == service
                })?;
                let opened = open_all(&block.meta).unwrap();
                let dataset = &block.meta.datasets[at];
                let bytes = |table| object(block, table).unwrap().clone();
                let sources = fetch_dataset(&opened, dataset, &bytes).unwrap();
                Some((&block.meta, at, sources))
            })
            .collect();
        let inputs: Vec<MergeInput<'_>> = sources
            .iter()
            .map(|(block, at, sources)| MergeInput {
                block,
                dataset: &block.datasets[*at],
                sources,
            })
            .collect();
        let rules = MergeRules { keep, bytes_max };
        let merged =
            writer.add_merged((tenant, service), &inputs, rules, &mut Resends::default())?;
        all.inputs += merged.inputs;
        all.profiles += merged.profiles;
        all.samples += merged.samples;
        all.doubles += merged.doubles;
        all.resent += merged.resent;
        all.dropped += merged.dropped;
    }
    writer.ends_merge();
    Ok((writer.finish()?, all))
}

fn merge(blocks: &[EncodedBlock]) -> EncodedBlock {
    merge_with(blocks, &|_, _, _| Vec::new(), ROOMY).unwrap().0
}

/// What reading all the blocks gives; the n-th covers the n-th stream.
fn rows(blocks: &[EncodedBlock]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (stream, block) in (0..).zip(blocks) {
        rows.extend(read_block(block).unwrap().into_iter().map(|row| Row {
            record: (stream, row.record.1, row.record.2),
            ..row
        }));
    }
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_merge_holds_what_its_inputs_held(made in prop::collection::vec(datasets(), 1..4)) {
        let blocks: Vec<_> = made.iter().zip(0..).map(|(made, n)| write(made, n)).collect();
        let merged = merge(&blocks);
        prop_assert_eq!(read_block(&merged).unwrap(), rows(&blocks));
        let again = merge(&blocks);
        prop_assert_eq!(&again.manifest, &merged.manifest);
        prop_assert_eq!(&again.tables, &merged.tables);
        prop_assert_eq!(&BlockMeta::from_manifest(&merged.manifest).unwrap(), &merged.meta);
        let mut entry = Vec::new();
        merged.meta.encode(&mut entry);
        prop_assert_eq!(&BlockMeta::decode(&entry).unwrap(), &merged.meta);
        // In two steps as in one.
        if let Some((last, first)) = blocks.split_last() && !first.is_empty() {
            let steps = merge(&[merge(first), last.clone()]);
            prop_assert_eq!(read_block(&steps).unwrap(), rows(&blocks));
        }
    }

    #[test]
    fn what_is_not_kept_is_gone_and_nothing_else(made in datasets(), other in datasets()) {
        let blocks = [write(&made, 0), write(&other, 1)];
        let keep: Keep<'_> = &|_, _, rows| rows.time_ns.iter().map(|time| time % 3 != 0).collect();
        let (merged, _) = merge_with(&blocks, keep, ROOMY).unwrap();
        let mut expected = rows(&blocks);
        expected.retain(|row| row.profile.0 % 3 != 0);
        prop_assert_eq!(read_block(&merged).unwrap(), expected);
    }
}

#[test]
fn what_stands_in_two_inputs_counts_once() {
    let block = write(&fixed(), 0);
    let twice = [block.clone(), block.clone()];
    let (merged, what) = merge_with(&twice, &|_, _, _| Vec::new(), ROOMY).unwrap();
    assert_eq!(read_block(&merged).unwrap(), read_block(&block).unwrap());
    assert_eq!(what.doubles, what.profiles);
    assert_eq!(what.inputs, 6);
}

/// The datasets as one record brought them, which arrived at that second.
fn sent(made: &[Made], key: u8, arrival_s: i64) -> Vec<Made> {
    let mut made = made.to_vec();
    for made in &mut made {
        let n = made.profiles.len();
        made.profiles.seq = vec![7; n];
        made.profiles.place = (0..n as u32).collect();
        made.profiles.write = vec![
            WriteKey {
                key: [key; 16],
                arrival_ns: arrival_s * 1_000_000_000,
            };
            n
        ];
    }
    made
}

#[test]
fn d2_a_write_that_two_ingesters_took_counts_once_after_the_merge() {
    let first = write(&sent(&fixed(), 1, 100), 0);
    let again = write(&sent(&fixed(), 1, 130), 1);
    let other = write(&sent(&fixed(), 2, 130), 2);
    let (both, what) = merge_with(
        &[again.clone(), first.clone(), other.clone()],
        &|_, _, _| Vec::new(),
        ROOMY,
    )
    .unwrap();
    let all = rows(&[first.clone(), again.clone(), other.clone()]);
    let mut once = all.clone();
    once.retain(|row| row.record.0 != 1);
    assert!(once.len() < all.len());
    assert_eq!(read_block(&both).unwrap(), once);
    assert_eq!(2 * what.resent, what.profiles);
    // The copy came after the first was merged: level 1 still knows the write.
    let late = merge(&[merge(&[first.clone(), other.clone()]), again]);
    let sums = |rows: Vec<Row>| -> i128 { rows.iter().map(|row| i128::from(row.value)).sum() };
    assert_eq!(sums(read_block(&late).unwrap()), sums(once.clone()));
    // Ten minutes later it is a write of its own.
    let own = write(&sent(&fixed(), 1, 700), 1);
    assert_eq!(read_block(&merge(&[first, own, other])).unwrap(), all);
}

#[test]
fn what_does_not_fit_is_left_and_what_can_never_fit_is_named() {
    let blocks = [write(&fixed(), 0), write(&fixed(), 1)];
    let keep: Keep<'_> = &|_, _, _| Vec::new();
    let refused = merge_with(&blocks, keep, 1).unwrap_err();
    assert!(matches!(refused, MergeError::TooLarge { .. }), "{refused}");
    // Somewhere between nothing and everything a first input fits, and the second does not.
    let taken = |limit| merge_with(&blocks, keep, limit).map(|(_, what)| what.inputs);
    let partly = (10..30).find_map(|bits| taken(1 << bits).ok());
    assert!(partly.is_some_and(|inputs| (3..=6).contains(&inputs)));
}

#[test]
fn a_damaged_input_is_named() {
    let mut blocks = [write(&fixed(), 0), write(&fixed(), 1)];
    for (_, bytes) in &mut blocks[1].tables {
        let mut damaged = bytes.to_vec();
        damaged[8] ^= 1;
        *bytes = damaged.into();
    }
    let refused = merge_with(&blocks, &|_, _, _| Vec::new(), ROOMY).unwrap_err();
    let MergeError::Input { block, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(block, blocks[1].meta.id);
}

/// What a CPU profile of about 200 samples takes once merged, all tables together.
#[test]
fn merged_profiles_of_a_fleet_are_small() {
    let blocks: Option<Vec<EncodedBlock>> = (0..4u64)
        .map(|at| {
            let mut fleet = support::cpu_fleet(support::FleetShape {
                pods: 60,
                steps: 60,
                seed: 7 + at,
            })?;
            let later = at as i64 * 60 * 15_000_000_000;
            fleet.profiles.time_ns.iter_mut().for_each(|t| *t += later);
            fleet
                .profiles
                .seq
                .iter_mut()
                .for_each(|seq| *seq += at * 10_000);
            let mut block = fleet.block();
            block.meta.id = BlockId(block.meta.id.0 + u128::from(at));
            Some(block)
        })
        .collect();
    let Some(blocks) = blocks else {
        return;
    };
    let merged = merge(&blocks);
    let dataset = &merged.meta.datasets[0];
    let profiles = dataset.n_profiles();
    let before: u64 = blocks.iter().map(|block| block.meta.bytes).sum();
    eprintln!(
        "{profiles} profiles of {} samples: {} bytes each in four blocks, {} in one",
        dataset.n_samples() / profiles,
        before / profiles,
        merged.meta.bytes / profiles
    );
    assert!(merged.meta.bytes / profiles <= 280);
    assert!(merged.meta.bytes < before);
}
