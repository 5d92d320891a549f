//! What a seed makes of a run: how many nodes and requests, which faults how often, and the
//! disturbances at their times.

use std::time::Duration;

use scoria_ingester::stream::StreamSettings;
use scoria_storage::testing::{FaultRates, Seeded};

use super::disk::{CrashKind, CrashPoint, DiskFaults, Fullness};

/// Something that happens to a node or to the bucket at a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// A process ends between two events.
    Crash(usize, CrashKind),
    /// A process ends within its next append.
    CrashWithinAppend(usize, CrashPoint),
    Disk(usize, Fullness),
    /// A cut out of turn: memory runs short.
    MemoryShort(usize),
    /// The wall clock of a node jumps by some seconds.
    ClockJump(usize, i64),
    OutageBegins,
    OutageEnds,
    /// A query over everything.
    Query,
}

/// The plan of one run.
#[derive(Debug)]
pub struct Schedule {
    pub n_nodes: usize,
    pub n_requests: u32,
    /// Requests are sent and disturbances happen within this time; then faults end.
    pub length: Duration,
    pub disk_faults: DiskFaults,
    pub bucket_faults: FaultRates,
    pub disturbances: Vec<(Duration, Disturbance)>,
    /// In a thousand answers, how many do not reach the client.
    pub lost_answers: u32,
}

/// Everything goes wrong often.
const STORM: u64 = 6;

impl Schedule {
    /// The plan of a seed. Some seeds have few faults of many kinds, some have one kind often, since
    /// some mistakes need several of a kind in a row, and some have storms of all at once.
    pub fn of(seeded: &mut Seeded) -> Self {
        let length = Duration::from_secs(20 + seeded.below(60));
        let n_nodes = 1 + seeded.below(2) as usize;
        let focus = seeded.below(7);
        let rate = |seeded: &mut Seeded, often: u64| match focus {
            0 | 1 => seeded.below(60) as u32,
            f if f == often || f == STORM => 100 + seeded.below(250) as u32,
            _ => 0,
        };
        let disk_faults = DiskFaults {
            write: rate(seeded, 2),
            sync: rate(seeded, 2),
            create: rate(seeded, 2) / 2,
            delete: rate(seeded, 2) / 4,
        };
        let bucket_faults = FaultRates::all(rate(seeded, 3) / 4);
        let mut schedule = Self {
            n_nodes,
            n_requests: 10 + seeded.below(25) as u32,
            length,
            disk_faults,
            bucket_faults,
            disturbances: Vec::new(),
            lost_answers: [0, 50, 200][seeded.below(3) as usize],
        };
        schedule.disturb(seeded, focus);
        schedule
    }

    fn disturb(&mut self, seeded: &mut Seeded, focus: u64) {
        let n_crashes = match focus {
            4 | STORM => 3 + seeded.below(4),
            _ => seeded.below(3),
        };
        for _ in 0..n_crashes {
            let (at, node) = (self.moment(seeded), self.node(seeded));
            let kind = if seeded.chance(500) {
                CrashKind::Killed
            } else {
                CrashKind::PowerLost
            };
            let what = match seeded.below(3) {
                0 => Disturbance::Crash(node, kind),
                _ => Disturbance::CrashWithinAppend(
                    node,
                    [
                        CrashPoint::BeforeWrite,
                        CrashPoint::MidWrite,
                        CrashPoint::AfterWrite,
                        CrashPoint::AfterSync,
                    ][seeded.below(4) as usize],
                ),
            };
            self.disturbances.push((at, what));
        }
        if focus == 5 || seeded.chance(150) {
            let (at, node) = (self.moment(seeded), self.node(seeded));
            let until = at + Duration::from_secs(1 + seeded.below(10));
            self.disturbances
                .push((at, Disturbance::Disk(node, Fullness::Full)));
            self.disturbances
                .push((until, Disturbance::Disk(node, Fullness::Roomy)));
        }
        if focus == 3 || seeded.chance(150) {
            let at = self.moment(seeded);
            let until = at + Duration::from_secs(1 + seeded.below(20));
            self.disturbances.push((at, Disturbance::OutageBegins));
            self.disturbances.push((until, Disturbance::OutageEnds));
        }
        for _ in 0..seeded.below(3) {
            let (at, node) = (self.moment(seeded), self.node(seeded));
            self.disturbances.push((at, Disturbance::MemoryShort(node)));
            let (at, node) = (self.moment(seeded), self.node(seeded));
            let seconds = seeded.below(41) as i64 - 20;
            self.disturbances
                .push((at, Disturbance::ClockJump(node, seconds)));
        }
        for _ in 0..6 {
            let at = self.moment(seeded);
            self.disturbances.push((at, Disturbance::Query));
        }
    }

    fn moment(&self, seeded: &mut Seeded) -> Duration {
        Duration::from_micros(seeded.below(self.length.as_micros() as u64))
    }

    fn node(&self, seeded: &mut Seeded) -> usize {
        seeded.below(self.n_nodes as u64) as usize
    }
}

/// Settings that let much happen in little time.
pub fn stream_settings(seeded: &mut Seeded) -> StreamSettings {
    StreamSettings {
        retry_window: Duration::from_secs(600),
        retry_keys_max: 100_000,
        queue_bytes_max: 2_000,
        cut_age: Duration::from_secs(5 + seeded.below(20)),
        cut_log_bytes: 600 + seeded.below(3_000),
        grace: Duration::from_secs(1 + seeded.below(10)),
        reopen_pause: Duration::from_secs(1),
        retry_pause: Duration::from_millis(300),
        retry_pause_max: Duration::from_secs(3),
        flush_failures_red: 3,
        jitter_seed: seeded.draw(),
    }
}
