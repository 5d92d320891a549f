//! Plans as timelines. A row is a tenant's slices of one level, a column an hour from midnight on;
//! a letter is a block, capital if the tenant has 16 MiB there and small if it has 1 MiB. A block
//! that stands in several rows holds several tenants.

use std::sync::Arc;

use scoria_block::{BlockMeta, DatasetMeta, Table, TableMeta};
use scoria_model::{CatalogueVersion, Epoch, NodeId, ProfileType, Seq};
use scoria_storage::catalogue::Entry;
use scoria_storage::testing::{bare_meta, stream_id};
use scoria_storage::{Op, Tombstone, TombstoneId, Txn};

use super::*;

const MIB: u64 = 1 << 20;

fn dataset(tenant: &str, hour: i64) -> DatasetMeta {
    DatasetMeta {
        tenant: TenantId::parse(tenant).unwrap(),
        service: "api".into(),
        min_time: Timestamp(hour * HOUR_NS),
        max_time: Timestamp(hour * HOUR_NS + HOUR_NS / 2),
        rows: Table::ALL.map(|_| 0..0),
        kinds: vec![
            "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
                .parse::<ProfileType>()
                .unwrap(),
        ],
        n_stacks: 0,
        rolled: Vec::new(),
    }
}

/// The blocks of a picture, by letter.
fn blocks(picture: &str) -> Vec<BlockMeta> {
    let mut blocks: BTreeMap<char, BlockMeta> = BTreeMap::new();
    for row in picture
        .lines()
        .map(str::trim)
        .filter(|row| row.contains('|'))
    {
        let (head, hours) = row.split_once('|').unwrap();
        let (tenant, level) = head.trim().split_once(' ').unwrap();
        for (hour, letter) in (0..).zip(hours.chars()).filter(|(_, c)| c.is_alphabetic()) {
            let key = letter.to_ascii_lowercase();
            let id = u128::from(key as u32);
            let meta = blocks
                .entry(key)
                .or_insert_with(|| bare_meta(id, &stream_id(0), (0, 1)));
            meta.level = level.trim().parse().unwrap();
            let mib = if letter.is_uppercase() { 16 } else { 1 };
            // Rows of one table stand for megabytes.
            let before = meta.tables.first().map_or(0, |table| table.rows);
            let mut dataset = dataset(tenant, hour);
            dataset.rows[Table::Strings.index()] = before..before + mib;
            meta.tables = vec![TableMeta {
                table: Table::Strings,
                bytes: (before + mib) * MIB,
                rows: before + mib,
                checksum: 0,
                page_checksums: Vec::new(),
                tail: bytes::Bytes::new(),
            }];
            meta.min_time = dataset.min_time;
            meta.datasets.push(dataset);
        }
    }
    for meta in blocks.values_mut() {
        meta.datasets.sort_by(|a, b| a.tenant.cmp(&b.tenant));
    }
    blocks.into_values().collect()
}

fn state(picture: &str, deletions: Vec<Op>) -> CatalogueState {
    let mut state = CatalogueState::default();
    let mut commit = |ops: Vec<Op>| {
        let entry = Entry {
            version: CatalogueVersion(state.version().0 + 1),
            nonce: 0,
            ops,
        };
        state.apply(&entry).unwrap();
    };
    let node = NodeId("a".into());
    commit(vec![Op::OpenStream {
        stream: stream_id(0),
        epoch: Epoch(1),
        owner: node.clone(),
        members: vec![node],
        quorum: 1,
    }]);
    let mut metas: Vec<Arc<BlockMeta>> = blocks(picture).into_iter().map(Arc::new).collect();
    metas.sort_by_key(|meta| meta.level);
    let first = metas.iter().filter(|meta| meta.level == 0).cloned();
    commit(Txn::flush(&stream_id(0), Epoch(1), (Seq(0), Seq(1)), first).ops);
    let merged = metas.iter().filter(|meta| meta.level > 0).cloned();
    commit(merged.map(Op::AddBlock).collect());
    commit(deletions);
    state
}

fn delete(tenant: &str, selector: &str, before_hour: i64) -> Op {
    Op::Delete(Arc::new(Tombstone {
        id: TombstoneId(1),
        tenant: TenantId::parse(tenant).unwrap(),
        selector: selector.into(),
        before: Timestamp(before_hour * HOUR_NS),
        created: Timestamp(0),
    }))
}

fn settings() -> PlanSettings {
    PlanSettings {
        settle: Duration::from_secs(300),
        eager_blocks: 4,
        small_bytes: 8 * MIB,
        job_bytes: 40 * MIB,
        job_blocks: 5,
    }
}

/// The state with all of these blocks in quarantine.
fn quarantined(state: &CatalogueState, blocks: &[char]) -> CatalogueState {
    let mut state = state.clone();
    for &block in blocks {
        let meta = state.block(BlockId(u128::from(block as u32))).unwrap();
        let txn = Txn::quarantine(meta.id, state.live_slices(meta), "damaged");
        state
            .apply(&Entry {
                version: CatalogueVersion(state.version().0 + 1),
                nonce: 0,
                ops: txn.ops,
            })
            .unwrap();
    }
    state
}

/// `level <- blocks of tenant; …`, one line per job.
fn planned(state: &CatalogueState, (hour, minute): (i64, i64), left_out: &[char]) -> String {
    let now = Timestamp(hour * HOUR_NS + minute * HOUR_NS / 60);
    let state = &quarantined(state, left_out);
    let has_deleted: HasDeleted<'_> =
        &|state, piece| state.deletions_in(&piece.block, &piece.tenant).count() > 0;
    let plan = plan(state, now, &settings(), has_deleted);
    let lines = plan.jobs.iter().map(|job| {
        let inputs = job.inputs.iter().map(|(block, slices)| {
            let letter = char::from_u32(block.0 as u32).unwrap();
            let tenants: Vec<String> = slices.iter().map(|(t, _)| t.to_string()).collect();
            format!("{letter}:{}", tenants.join("+"))
        });
        format!("L{} <- {}", job.level, inputs.collect::<Vec<_>>().join(" "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn hours_that_are_over_are_merged_by_tenant_and_small_tenants_together() {
    let state = state(
        "acme 0 |AC.E
         tiny 0 |ac.e
         nano 0 |a...
         acme 0 |B...",
        vec![],
    );
    // Five minutes after its end hour 0 is merged, hour 1 later, and hour 3 not yet.
    assert_eq!(planned(&state, (1, 4), &[]), "");
    assert_eq!(
        planned(&state, (1, 5), &[]),
        "L1 <- a:acme b:acme\n\
         L1 <- a:nano+tiny"
    );
    assert_eq!(
        planned(&state, (3, 59), &[]),
        "L1 <- a:acme b:acme\n\
         L1 <- a:nano+tiny\n\
         L1 <- c:acme\n\
         L1 <- c:tiny"
    );
    // A block that cannot be read is passed over, and the rest goes on.
    assert_eq!(planned(&state, (1, 5), &['a']), "L1 <- b:acme");
}

#[test]
fn many_blocks_of_an_hour_are_not_kept_waiting() {
    let three = state(
        "acme 0 |a
         acme 0 |b
         acme 0 |c",
        vec![],
    );
    assert_eq!(planned(&three, (0, 10), &[]), "");
    let four = state(
        "acme 0 |a
         acme 0 |b
         acme 0 |c
         acme 0 |d",
        vec![],
    );
    assert_eq!(
        planned(&four, (0, 10), &[]),
        "L1 <- a:acme b:acme c:acme d:acme"
    );
}

#[test]
fn what_does_not_fit_one_job_makes_several() {
    let large = state(
        "acme 0 |A
         acme 0 |B
         acme 0 |C
         acme 0 |D
         acme 0 |E",
        vec![],
    );
    assert_eq!(
        planned(&large, (2, 0), &[]),
        "L1 <- a:acme b:acme\n\
         L1 <- c:acme d:acme\n\
         L1 <- e:acme"
    );
    let many = state(
        "tiny 0 |a
         tiny 0 |b
         tiny 0 |c
         tiny 0 |d
         tiny 0 |e
         tiny 0 |f
         tiny 0 |g",
        vec![],
    );
    assert_eq!(
        planned(&many, (2, 0), &[]),
        "L1 <- a:tiny b:tiny c:tiny d:tiny e:tiny\n\
         L1 <- f:tiny g:tiny"
    );
}

#[test]
fn days_that_are_over_are_merged_once_and_late_slices_when_they_come() {
    let picture = "acme 1 |A.B...................C
                   tiny 1 |d..e
                   acme 0 |.....f
                   acme 2 |......G";
    let state = state(picture, vec![]);
    assert_eq!(planned(&state, (24, 4), &[]), "L1 <- f:acme");
    assert_eq!(
        planned(&state, (24, 5), &[]),
        "L1 <- f:acme\n\
         L2 <- a:acme b:acme\n\
         L2 <- d:tiny e:tiny\n\
         L2 <- c:acme"
    );
}

#[test]
fn merged_blocks_with_deleted_profiles_are_written_again_at_their_level() {
    let picture = "acme 1 |.A.
                   acme 2 |B..
                   tiny 2 |b..
                   acme 0 |..c";
    let state = state(picture, vec![delete("acme", "{}", 2)]);
    assert_eq!(
        planned(&state, (2, 30), &[]),
        "L1 <- a:acme\n\
         L2 <- b:acme"
    );
    assert_eq!(planned(&state, (2, 30), &['a', 'b']), "");
}

#[test]
fn what_waits_is_counted_whether_it_is_due_or_not() {
    let state = state("acme 0 |.Ab", vec![]);
    let none: HasDeleted<'_> = &|_, _| false;
    let plan = plan(&state, Timestamp(HOUR_NS), &settings(), none);
    assert_eq!((plan.backlog_slices, plan.backlog_bytes), (2, 17 * MIB));
    assert_eq!(plan.oldest_unmerged, Some(Timestamp(HOUR_NS)));
    assert!(plan.jobs.is_empty());
}

#[test]
fn an_output_never_claims_what_another_job_takes() {
    // Of each job every block gives every shard that any block gives, as far as it has it.
    let state = state(
        "acme 0 |AB
         acme 0 |CD
         tiny 0 |ab
         nano 0 |cb
         acme 0 |EF",
        vec![],
    );
    for job_bytes in [1, 20, 40, 70, 500].map(|mib| mib * MIB) {
        let settings = PlanSettings {
            job_bytes,
            job_blocks: 3,
            ..settings()
        };
        let none: HasDeleted<'_> = &|_, _| false;
        let now = Timestamp(5 * HOUR_NS);
        let plan = plan(&state, now, &settings, none);
        let mut seen = BTreeSet::new();
        for job in &plan.jobs {
            for (block, slices) in &job.inputs {
                for (tenant, shards) in job.scope() {
                    let here = state.live_shards(*block, &tenant).intersection(shards);
                    let taken = slices.iter().find(|(t, _)| *t == tenant);
                    assert_eq!(taken.map_or(ShardSet::EMPTY, |(_, s)| *s), here);
                    assert!(here.is_empty() || seen.insert((*block, tenant)));
                }
            }
        }
        assert_eq!(seen.len(), 10);
    }
}
