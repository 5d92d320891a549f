//! How many objects a day of a thousand pods writes: cuts of a quarter of an hour, the merges that
//! the planner asks for, and the entries of the catalogue, each counted where the real thing puts
//! an object.

use std::sync::Arc;

use scoria_block::{BlockMeta, DatasetMeta, Table, TableMeta};
use scoria_model::{CatalogueVersion, Epoch, NodeId, Seq};
use scoria_storage::catalogue::Entry;
use scoria_storage::testing::{bare_meta, stream_id};
use scoria_storage::{Op, Txn};

use super::*;

const MINUTE_NS: i64 = HOUR_NS / 60;
const PODS: u64 = 1000;
/// A profile a pod every 15 seconds, of two types.
const ROWS_PER_MINUTE: u64 = 4 * 2;
/// Bytes of a row before and after merging: the ceilings of issue 2 and 5.
const FLUSHED_BYTES: u64 = 350;
const MERGED_BYTES: u64 = 280;
/// Objects of a block: every table but the roll-ups, which only merges make, and the manifest.
const FLUSHED_OBJECTS: u64 = Table::COUNT as u64 - 3 + 1;
const MERGED_OBJECTS: u64 = Table::COUNT as u64 + 1;
/// An output ends when a fifth of 256 MiB is encoded.
const OUTPUT_BYTES: u64 = (256 << 20) / 5;
/// Entries of the log from one snapshot to the next.
const SNAPSHOT_EVERY: u64 = 256;

/// A tenant and its services, with how many pods each has.
type Fleet = Vec<(TenantId, Vec<(Arc<str>, u64)>)>;

fn fleet(tenants: u64, services: u64) -> Fleet {
    let service = |at: u64| -> (Arc<str>, u64) {
        (format!("service-{at:02}").into(), PODS / tenants / services)
    };
    (0..tenants)
        .map(|at| {
            let tenant = TenantId::parse(&format!("tenant-{at:04}")).unwrap();
            (tenant, (0..services).map(service).collect())
        })
        .collect()
}

struct Day {
    state: CatalogueState,
    next_id: u128,
    puts: u64,
}

impl Day {
    fn new(ingesters: u32) -> Self {
        let mut day = Self {
            state: CatalogueState::default(),
            next_id: 1,
            puts: 0,
        };
        for n in 0..ingesters {
            let node = NodeId("a".into());
            day.commit(vec![Op::OpenStream {
                stream: stream_id(n),
                epoch: Epoch(1),
                owner: node.clone(),
                members: vec![node],
                quorum: 1,
            }]);
        }
        day
    }

    /// An entry of the log, and now and then a snapshot.
    fn commit(&mut self, ops: Vec<Op>) {
        let version = self.state.version().0 + 1;
        let entry = Entry {
            version: CatalogueVersion(version),
            nonce: 0,
            ops,
        };
        self.state.apply(&entry).unwrap();
        self.puts += 1 + u64::from(version.is_multiple_of(SNAPSHOT_EVERY));
    }

    /// A block whose rows of one table stand for its bytes.
    fn meta(
        &mut self,
        level: u8,
        (from, to): (i64, i64),
        parts: &[(TenantId, Arc<str>, u64)],
    ) -> BlockMeta {
        let mut meta = bare_meta(self.next_id, &stream_id(0), (0, 1));
        self.next_id += 1;
        let mut bytes = 0;
        for (tenant, service, of_part) in parts {
            let mut rows = Table::ALL.map(|_| 0..0);
            rows[Table::Samples.index()] = bytes..bytes + of_part;
            bytes += of_part;
            meta.datasets.push(DatasetMeta {
                tenant: tenant.clone(),
                service: Arc::clone(service),
                min_time: Timestamp(from),
                max_time: Timestamp(to - 1),
                rows,
                kinds: Vec::new(),
                n_stacks: 0,
                rolled: Vec::new(),
            });
        }
        meta.tables = vec![TableMeta {
            table: Table::Samples,
            bytes,
            rows: bytes,
            checksum: 0,
            page_checksums: Vec::new(),
            tail: bytes::Bytes::new(),
        }];
        (meta.level, meta.min_time, meta.max_time) = (level, Timestamp(from), Timestamp(to - 1));
        meta
    }

    /// What ingester `n` of so many cuts, a block for each hour that it has profiles of.
    fn flush(&mut self, fleet: &Fleet, (n, ingesters): (u32, u32), (from, to): (i64, i64)) {
        let mut blocks = Vec::new();
        let mut start = from;
        while start < to {
            let end = to.min((start.div_euclid(HOUR_NS) + 1) * HOUR_NS);
            let minutes = ((end - start) / MINUTE_NS) as u64;
            let bytes = |pods: u64| {
                (pods * minutes * ROWS_PER_MINUTE * FLUSHED_BYTES / u64::from(ingesters)).max(1)
            };
            let parts: Vec<_> = fleet
                .iter()
                .flat_map(|(tenant, services)| {
                    services.iter().map(move |(service, pods)| {
                        (tenant.clone(), Arc::clone(service), bytes(*pods))
                    })
                })
                .collect();
            let mut meta = self.meta(0, (start, end), &parts);
            let cut = (from / MINUTE_NS) as u64;
            meta.streams[0].stream = stream_id(n);
            (meta.streams[0].from, meta.streams[0].to) = (Seq(cut), Seq((to / MINUTE_NS) as u64));
            self.puts += FLUSHED_OBJECTS;
            blocks.push(Arc::new(meta));
            start = end;
        }
        let range = (Seq((from / MINUTE_NS) as u64), Seq((to / MINUTE_NS) as u64));
        self.commit(Txn::flush(&stream_id(n), Epoch(1), range, blocks).ops);
    }

    /// Everything that the planner finds due, as a compactor carries it out.
    fn merge(&mut self, now: i64) {
        let none: HasDeleted<'_> = &|_, _| false;
        let plan = plan(&self.state, Timestamp(now), &PlanSettings::default(), none);
        for job in plan.jobs {
            let mut parts: BTreeMap<(TenantId, Arc<str>), u64> = BTreeMap::new();
            let (mut from, mut to) = (i64::MAX, i64::MIN);
            for (block, slices) in &job.inputs {
                let meta = self.state.block(*block).unwrap();
                let taken = meta.datasets.iter().filter(|dataset| {
                    let of = |(tenant, shards): &(TenantId, ShardSet)| {
                        *tenant == dataset.tenant && shards.contains(dataset.shard())
                    };
                    slices.iter().any(of)
                });
                for dataset in taken {
                    let rows = dataset.rows(Table::Samples);
                    let mut bytes = rows.end - rows.start;
                    if meta.level == 0 {
                        bytes = (bytes * MERGED_BYTES / FLUSHED_BYTES).max(1);
                    }
                    let key = (dataset.tenant.clone(), Arc::clone(&dataset.service));
                    *parts.entry(key).or_default() += bytes;
                    from = from.min(dataset.min_time.0);
                    to = to.max(dataset.max_time.0 + 1);
                }
            }
            let mut outputs = Vec::new();
            let mut open: Vec<(TenantId, Arc<str>, u64)> = Vec::new();
            for ((tenant, service), mut bytes) in parts {
                while bytes > 0 {
                    let held: u64 = open.iter().map(|part| part.2).sum();
                    let some = bytes.min(OUTPUT_BYTES.saturating_sub(held).max(1));
                    bytes -= some;
                    open.push((tenant.clone(), Arc::clone(&service), some));
                    if held + some >= OUTPUT_BYTES {
                        outputs.push(std::mem::take(&mut open));
                    }
                }
            }
            outputs.extend((!open.is_empty()).then_some(open));
            self.puts += MERGED_OBJECTS * outputs.len() as u64;
            let outputs: Vec<_> = outputs
                .iter()
                .map(|parts| Arc::new(self.meta(job.level, (from, to), parts)))
                .collect();
            let txn = Txn::replace(job.inputs, outputs, self.state.version());
            self.commit(txn.ops);
            // What was replaced is forgotten a day after it was deleted.
            self.puts += 1;
        }
    }
}

/// Objects put in a day, and in the night that merges it.
fn puts(fleet: &Fleet, ingesters: u32) -> u64 {
    /// The first cut; they are not in step with the hours.
    const FIRST: i64 = 10;
    let mut day = Day::new(ingesters);
    let mut from = 0;
    for quarter in 0..=96 {
        let to = ((FIRST + quarter * 15) * MINUTE_NS).min(DAY_NS);
        for n in 0..ingesters {
            day.flush(fleet, (n, ingesters), (from, to));
        }
        from = to;
        // The planner has something to do once an hour is over, and so is what comes late.
        if to % HOUR_NS == 10 * MINUTE_NS {
            day.merge(to);
        }
    }
    day.merge(DAY_NS + 20 * MINUTE_NS);
    day.merge(DAY_NS + 21 * MINUTE_NS);
    let levels: BTreeSet<u8> = day.state.blocks().map(|meta| meta.level).collect();
    assert_eq!(levels, [2].into());
    day.puts
}

#[test]
#[allow(clippy::print_stdout, reason = "the figures are for the record")]
fn a_day_of_a_thousand_pods_puts_few_objects() {
    let one = puts(&fleet(1, 50), 1);
    let three = puts(&fleet(1, 50), 3);
    let many = puts(&fleet(1000, 1), 1);
    println!("one tenant: {one}, with three ingesters {three}; a thousand tenants: {many}");
    assert!(one <= 5000, "{one}");
    assert!(three <= 7500, "{three}");
    assert!(many <= 20_000, "{many}");
}
