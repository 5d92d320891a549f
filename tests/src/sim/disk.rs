//! The disk of a simulated node: it outlives the process, forgets what was not synced when the
//! power goes, fails, fills up, and can end the process in the middle of a call.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use scoria_ingester::segment::{LogDisk, LogFile, SegmentBytes};
use scoria_storage::testing::Seeded;

/// How often calls fail, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFaults {
    pub write: u32,
    pub sync: u32,
    pub create: u32,
    pub delete: u32,
}

/// Where within the next append the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    BeforeWrite,
    MidWrite,
    AfterWrite,
    AfterSync,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashKind {
    /// kill -9: what was written stays, synced or not.
    Killed,
    /// The power goes: of what was not synced, some beginning stays, perhaps with a hole.
    PowerLost,
}

/// A disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    files: BTreeMap<String, File>,
    seeded: Seeded,
    faults: DiskFaults,
    full: bool,
    crash_at: Option<CrashPoint>,
    crashed: bool,
}

#[derive(Debug, Default, Clone)]
struct File {
    durable: Vec<u8>,
    tail: Vec<u8>,
}

impl SimDisk {
    pub fn new(seeded: Seeded) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: BTreeMap::new(),
            seeded,
            faults: DiskFaults::default(),
            full: false,
            crash_at: None,
            crashed: false,
        })))
    }

    pub fn set_faults(&self, faults: DiskFaults) {
        self.0.lock().faults = faults;
    }

    /// A full disk takes no byte more.
    pub fn set_full(&self, full: Fullness) {
        self.0.lock().full = full == Fullness::Full;
    }

    /// The process dies within the next append.
    pub fn crash_within_append(&self, at: CrashPoint) {
        self.0.lock().crash_at = Some(at);
    }

    /// Whether the process has died within a call.
    pub fn has_crashed(&self) -> bool {
        self.0.lock().crashed
    }

    /// What is left when the process has ended.
    pub fn crash(&self, kind: CrashKind) {
        let mut state = self.0.lock();
        let State { files, seeded, .. } = &mut *state;
        for file in files.values_mut() {
            let mut tail = std::mem::take(&mut file.tail);
            if kind == CrashKind::PowerLost && !tail.is_empty() {
                tail.truncate(seeded.below(tail.len() as u64 + 1) as usize);
                if tail.len() > 8 && seeded.chance(250) {
                    let hole = seeded.below(tail.len() as u64 - 4) as usize;
                    tail[hole..hole + 4].fill(0);
                }
            }
            file.durable.extend_from_slice(&tail);
        }
        state.crashed = false;
        state.crash_at = None;
    }
}

/// Whether a disk has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fullness {
    Roomy,
    Full,
}

fn io_error(what: &'static str) -> io::Error {
    io::Error::other(what)
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left on the device")
}

impl LogDisk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().files.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn SegmentBytes>> {
        let state = self.0.lock();
        let file = state.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new([&file.durable[..], &file.tail[..]].concat()))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut state = self.0.lock();
        let rate = state.faults.create;
        if state.full {
            return Err(full());
        }
        if state.seeded.chance(rate) {
            return Err(io_error("the directory cannot be written"));
        }
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.insert(name.to_owned(), File::default());
        Ok(Box::new(SimFile {
            disk: self.clone(),
            name: name.to_owned(),
        }))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let rate = state.faults.delete;
        if state.seeded.chance(rate) {
            return Err(io_error("the file cannot be deleted"));
        }
        state.files.remove(name);
        Ok(())
    }

    fn quarantine(&self, name: &str) -> io::Result<String> {
        Ok(format!("quarantine/{name}"))
    }

    fn keep_reserve(&self, _bytes: u64) {}

    fn release_reserve(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    name: String,
}

impl LogFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let State {
            files,
            seeded,
            faults,
            full: is_full,
            crash_at,
            crashed,
        } = &mut *state;
        let file = files.get_mut(&self.name).ok_or(io::ErrorKind::NotFound)?;
        let some = seeded.below(bytes.len() as u64 + 1) as usize;
        match crash_at {
            _ if *crashed => return Err(io_error("the process has ended")),
            Some(CrashPoint::BeforeWrite) => {
                *crashed = true;
                return Err(io_error("the process has ended"));
            }
            Some(CrashPoint::MidWrite) => {
                *crashed = true;
                file.tail.extend_from_slice(&bytes[..some]);
                return Err(io_error("the process has ended"));
            }
            _ => {}
        }
        if *is_full {
            file.tail.extend_from_slice(&bytes[..some]);
            return Err(full());
        }
        if seeded.chance(faults.write) {
            file.tail.extend_from_slice(&bytes[..some]);
            return Err(io_error("a write failed"));
        }
        file.tail.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let State {
            files,
            seeded,
            faults,
            crash_at,
            crashed,
            ..
        } = &mut *state;
        let file = files.get_mut(&self.name).ok_or(io::ErrorKind::NotFound)?;
        if *crashed || *crash_at == Some(CrashPoint::AfterWrite) {
            *crashed = true;
            return Err(io_error("the process has ended"));
        }
        if seeded.chance(faults.sync) {
            // Nobody knows what of it is durable; the rest stays readable until the power goes.
            let some = seeded.below(file.tail.len() as u64 + 1) as usize;
            let rest = file.tail.split_off(some);
            let synced = std::mem::replace(&mut file.tail, rest);
            file.durable.extend_from_slice(&synced);
            return Err(io_error("a sync failed"));
        }
        let synced = std::mem::take(&mut file.tail);
        file.durable.extend_from_slice(&synced);
        if *crash_at == Some(CrashPoint::AfterSync) {
            *crashed = true;
            return Err(io_error("the process has ended"));
        }
        Ok(())
    }
}
