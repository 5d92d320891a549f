//! The stream against a disk and a catalogue that can fail at every step, by script and at random.

mod random;
mod scripted;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use scoria_model::{Epoch, RetryKey, Seq, Timestamp};

use super::*;

/// Sequence number, arrival, keys; the payload of every part is its key.
type Record = (u64, Timestamp, Vec<RetryKey>);

/// What one segment durably holds.
#[derive(Debug, Clone, Default)]
struct Segment {
    first_seq: u64,
    carried: Vec<CarriedKey>,
    records: Vec<Record>,
}

/// Everything that survives a crash.
#[derive(Debug, Clone, Default)]
struct Disk {
    segments: BTreeMap<u64, Segment>,
}

#[derive(Debug, Clone, Default)]
struct Catalogue {
    epoch: u64,
    committed: u64,
    /// Keys stored in committed blocks, with how often.
    stored: HashMap<RetryKey, u32>,
}

/// Drives one stream and remembers what its writers were told.
struct Rig {
    core: StreamCore<Vec<RetryKey>>,
    now: Now,
    disk: Disk,
    catalogue: Catalogue,
    /// Records written but not reported yet.
    appending: Option<(u64, Vec<Record>)>,
    opening: Option<(u64, Segment)>,
    flushing: Option<(u64, u64, u64)>,
    committing: Option<(u64, u64, u64)>,
    next_request: u64,
    acked: BTreeMap<u64, Vec<Outcome>>,
    failed: BTreeMap<u64, Refusal>,
    problems: Vec<Problem>,
    visible: u64,
    dropped: Vec<u64>,
    deleted: Vec<u64>,
}

fn key(n: u64) -> RetryKey {
    RetryKey(u128::from(n).to_be_bytes())
}

fn start_of_time() -> Now {
    Now {
        monotonic: Duration::from_secs(1),
        wall: Timestamp(1_700_000_000_000_000_000),
    }
}

impl Rig {
    fn new() -> Self {
        Self::with(StreamSettings::default())
    }

    fn with(settings: StreamSettings) -> Self {
        let now = start_of_time();
        let (core, effects) = StreamCore::open(settings, Epoch(1), &[], now);
        let mut rig = Self {
            core,
            now,
            disk: Disk::default(),
            catalogue: Catalogue {
                epoch: 1,
                ..Catalogue::default()
            },
            appending: None,
            opening: None,
            flushing: None,
            committing: None,
            next_request: 1,
            acked: BTreeMap::new(),
            failed: BTreeMap::new(),
            problems: Vec::new(),
            visible: 0,
            dropped: Vec::new(),
            deleted: Vec::new(),
        };
        rig.carry_out(effects);
        rig
    }

    fn ready() -> Self {
        let mut rig = Self::new();
        rig.opened();
        rig
    }

    fn input(&mut self, input: Input<Vec<RetryKey>>) {
        let effects = self.core.handle(self.now, input);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect<Vec<RetryKey>>>) {
        for effect in effects {
            match effect {
                Effect::OpenSegment {
                    generation,
                    first_seq,
                    carried,
                } => {
                    let segment = Segment {
                        first_seq: first_seq.0,
                        carried,
                        records: Vec::new(),
                    };
                    assert!(self.opening.replace((generation.0, segment)).is_none());
                }
                Effect::Append {
                    generation,
                    records,
                } => {
                    let records = records
                        .into_iter()
                        .map(|r| {
                            assert!(!r.parts.is_empty());
                            let parts: Vec<RetryKey> =
                                r.parts.iter().map(|&p| r.payload[p as usize]).collect();
                            (r.seq.0, r.arrival, parts)
                        })
                        .collect();
                    assert!(self.appending.replace((generation.0, records)).is_none());
                }
                Effect::ApplyToHead { through, .. } => self.visible = through.0,
                Effect::Ack { request, outcomes } => {
                    assert!(self.acked.insert(request.0, outcomes).is_none());
                }
                Effect::Fail { request, refusal } => {
                    assert!(self.failed.insert(request.0, refusal).is_none());
                }
                Effect::Seal { .. } | Effect::Committed { .. } | Effect::Finished { .. } => {}
                Effect::StartFlush {
                    generation,
                    from,
                    to,
                } => {
                    let flush = (generation.0, from.0, to.0);
                    assert!(self.flushing.replace(flush).is_none());
                }
                Effect::Commit {
                    generation,
                    from,
                    to,
                } => {
                    let commit = (generation.0, from.0, to.0);
                    assert!(self.committing.replace(commit).is_none());
                }
                Effect::DeleteSegment(generation) => {
                    self.disk.segments.remove(&generation.0);
                    self.deleted.push(generation.0);
                }
                Effect::DropHeads(generation) => self.dropped.push(generation.0),
                Effect::SetReady(problems) => self.problems = problems,
            }
        }
    }

    fn push(&mut self, keys: &[u64]) -> u64 {
        let request = self.next_request;
        self.next_request += 1;
        let keys: Vec<RetryKey> = keys.iter().map(|&n| key(n)).collect();
        self.input(Input::Push(Push {
            request: RequestId(request),
            keys: keys.clone(),
            bytes: 100 * keys.len() as u64,
            payload: keys,
        }));
        request
    }

    fn opened(&mut self) {
        let (number, segment) = self.opening.take().unwrap();
        self.disk.segments.insert(number, segment);
        self.input(Input::SegmentOpened(Generation(number)));
    }

    fn open_fails(&mut self) {
        let (number, _) = self.opening.take().unwrap();
        self.input(Input::SegmentFailed {
            generation: Generation(number),
            reason: "no space".into(),
        });
    }

    fn appended(&mut self) {
        let (number, records) = self.appending.take().unwrap();
        let segment = self.disk.segments.get_mut(&number).unwrap();
        segment.records.extend(records);
        let log_bytes = segment.records.len() as u64;
        self.input(Input::Appended {
            generation: Generation(number),
            log_bytes,
        });
    }

    /// Fails the append after `landed` of its records reached the disk.
    fn append_fails(&mut self, landed: usize) {
        let (number, mut records) = self.appending.take().unwrap();
        records.truncate(landed);
        let segment = self.disk.segments.get_mut(&number).unwrap();
        segment.records.extend(records);
        self.input(Input::AppendFailed {
            generation: Generation(number),
            reason: "io error".into(),
        });
    }

    fn uploaded(&mut self) {
        let (number, from, to) = self.flushing.take().unwrap();
        let _ = (from, to);
        self.input(Input::Uploaded(Generation(number)));
    }

    /// Applies the commit to the catalogue if its preconditions hold.
    fn land(&mut self, commit: (u64, u64, u64)) -> bool {
        let (number, from, to) = commit;
        if self.catalogue.epoch != 1 || self.catalogue.committed != from {
            return false;
        }
        let segment = &self.disk.segments[&number];
        for (seq, _, keys) in &segment.records {
            if *seq > from && *seq <= to {
                for &key in keys {
                    *self.catalogue.stored.entry(key).or_default() += 1;
                }
            }
        }
        self.catalogue.committed = to;
        true
    }

    fn view(&self) -> StreamView {
        StreamView {
            epoch: Epoch(self.catalogue.epoch),
            committed: Seq(self.catalogue.committed),
        }
    }

    fn commit_ends(&mut self) {
        let commit = self.committing.take().unwrap();
        let outcome = if self.land(commit) {
            CommitOutcome::Landed
        } else {
            CommitOutcome::Conflict(self.view())
        };
        self.input(Input::CommitEnded {
            generation: Generation(commit.0),
            outcome,
        });
    }

    fn wait(&mut self, seconds: u64) {
        self.now.monotonic += Duration::from_secs(seconds);
        self.now.wall = Timestamp(self.now.wall.0 + seconds as i64 * 1_000_000_000);
        self.input(Input::Tick);
    }

    /// How often each key is stored: in blocks, and in what a restart would replay.
    fn stored(&self) -> HashMap<RetryKey, u32> {
        let mut stored = self.catalogue.stored.clone();
        for range in recover(self.summaries(), Seq(self.catalogue.committed)) {
            let segment = &self.disk.segments[&range.generation.0];
            for (seq, _, keys) in &segment.records {
                if *seq > range.from.0 && *seq <= range.to.0 {
                    keys.iter()
                        .for_each(|&k| *stored.entry(k).or_default() += 1);
                }
            }
        }
        stored
    }

    fn summaries(&self) -> Vec<SegmentSummary> {
        self.disk
            .segments
            .iter()
            .map(|(&number, segment)| SegmentSummary {
                generation: Generation(number),
                first_seq: Seq(segment.first_seq),
                last_seq: Seq(segment
                    .records
                    .last()
                    .map_or(segment.first_seq - 1, |r| r.0)),
            })
            .collect()
    }

    /// Retry keys that a restart would find in the log.
    fn keys_on_disk(&self) -> Vec<CarriedKey> {
        let ranges = recover(self.summaries(), Seq(0));
        let mut keys = Vec::new();
        for range in ranges {
            let segment = &self.disk.segments[&range.generation.0];
            keys.extend_from_slice(&segment.carried);
            for (seq, arrival, in_record) in &segment.records {
                if *seq <= range.to.0 {
                    keys.extend(in_record.iter().map(|&key| CarriedKey {
                        key,
                        arrival: *arrival,
                    }));
                }
            }
        }
        keys
    }
}
