//! The process's memory: one limit, divided into shares that are handed out as permits, and a
//! sampler of what the process really holds.
//!
//! ```text
//! memory.limit = heads + flush reserve + queries + bodies and queues + the rest (caches, code)
//! ```
//!
//! # Invariants
//! - Every request body and every query takes its bytes out of its share before they are read.
//! - Above `memory.shed_percent` of the limit, as the kernel counts what belongs to no file, writes
//!   are refused until it has fallen a little below, whatever the shares say.
//! - Above `memory.give_back_percent` the allocator returns what is free to the kernel.
//! - Queries get no bytes that would take the process above `memory.full_percent`, counted alike.

mod figures;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use prometheus_client::registry::Registry;
use scoria_model::ByteBudget;
use scoria_model::budget::{BudgetExceeded, Room};

use crate::config::{MemoryConfig, MemoryLimit};

/// How often the process's memory is sampled.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Part of the limit by which memory must fall below the mark before writes are taken again.
const RESUME_BELOW_PERCENT: u64 = 5;
/// Part of the machine's memory that is taken where nothing else limits it.
const MACHINE_PERCENT: u64 = 80;
/// A limit that no machine can be told from "unlimited" by.
const SMALLEST_LIMIT: u64 = 64 << 20;

/// The shares, and whether writes are shed.
#[derive(Debug, Clone)]
pub struct Memory {
    pub limit: u64,
    /// Profiles that are in no block yet.
    pub heads: ByteBudget,
    /// Kept free for writing blocks.
    pub flush: ByteBudget,
    pub queries: ByteBudget,
    /// Request bodies and what waits behind them.
    pub bodies: ByteBudget,
    give_back_above: u64,
    shed_above: u64,
    resume_below: u64,
    resident: Arc<AtomicU64>,
    shedding: Arc<AtomicBool>,
    granted: Arc<AtomicU64>,
}

/// Why a memory configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error(
        "memory.{name} is {percent}, and no part of memory.limit is more than 100 %; set it to 100 or less"
    )]
    Percent { name: &'static str, percent: u8 },
    #[error(
        "the shares of section memory add up to {sum} %; together they may take at most 100 % of memory.limit; lower heads_percent, flush_percent, queries_percent or bodies_percent"
    )]
    Shares { sum: u32 },
    #[error("memory.limit is {limit} bytes; at least {SMALLEST_LIMIT} are needed")]
    TooSmall { limit: u64 },
}

impl Memory {
    /// Divides the limit.
    ///
    /// # Errors
    /// When the shares exceed it, or it is too small to work with.
    pub fn new(config: &MemoryConfig) -> Result<Self, MemoryError> {
        let limit = config.limit.bytes();
        if limit < SMALLEST_LIMIT {
            return Err(MemoryError::TooSmall { limit });
        }
        if let Some((name, percent)) = config.above_all_of_it() {
            return Err(MemoryError::Percent { name, percent });
        }
        let shares = [
            config.heads_percent,
            config.flush_percent,
            config.queries_percent,
            config.bodies_percent,
        ];
        let sum: u32 = shares.into_iter().map(u32::from).sum();
        if sum > 100 {
            return Err(MemoryError::Shares { sum });
        }
        let part = |percent: u8| limit / 100 * u64::from(percent);
        let shed_above = part(config.shed_percent);
        let granted: Arc<AtomicU64> = Arc::default();
        let process = Process {
            page: page_bytes(),
            full_above: part(config.full_percent),
            granted: Arc::clone(&granted),
        };
        Ok(Self {
            limit,
            heads: ByteBudget::new("heads", part(config.heads_percent)),
            flush: ByteBudget::new("flush", part(config.flush_percent)),
            queries: ByteBudget::in_room("queries", part(config.queries_percent), process),
            bodies: ByteBudget::new("bodies and queues", part(config.bodies_percent)),
            give_back_above: part(config.give_back_percent),
            shed_above,
            resume_below: shed_above.saturating_sub(limit / 100 * RESUME_BELOW_PERCENT),
            resident: Arc::default(),
            shedding: Arc::default(),
            granted,
        })
    }

    /// Shows the shares among the process's metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(figures::Figures(self.clone())));
    }

    /// Whether writes are refused because the process holds too much memory.
    pub fn shedding(&self) -> bool {
        self.shedding.load(Ordering::Relaxed)
    }

    /// Bytes that the process held when last sampled.
    pub fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// The bound of one of the two caches (pages of blocks, and what was decoded of them), kept to
    /// a small part of the limit so that they fit beside the shares.
    pub fn cache_bytes(&self, wanted: u64) -> u64 {
        wanted.min(self.limit / 12)
    }

    /// Takes a first sample and starts the sampler; it ends when nobody holds this memory any more.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn sample(&self) -> std::io::Result<()> {
        let resident = Arc::downgrade(&self.resident);
        let marks = self.clone_marks();
        let page = page_bytes();
        let (granted, give_back_above) = (Arc::clone(&self.granted), self.give_back_above);
        let take = move |resident: &AtomicU64| {
            granted.store(0, Ordering::Relaxed);
            if resident_bytes(page).is_some_and(|bytes| bytes > give_back_above) {
                scoria_allocator::give_back();
            }
            if let Some(bytes) = resident_bytes(page) {
                resident.store(bytes, Ordering::Relaxed);
                marks.judge(bytes);
            }
        };
        take(&self.resident);
        thread::Builder::new()
            .name("memory-sampler".to_owned())
            .spawn(move || {
                while let Some(resident) = resident.upgrade() {
                    take(&resident);
                    drop(resident);
                    thread::sleep(SAMPLE_EVERY);
                }
            })?;
        Ok(())
    }

    fn clone_marks(&self) -> Marks {
        Marks {
            shed_above: self.shed_above,
            resume_below: self.resume_below,
            shedding: Arc::clone(&self.shedding),
        }
    }
}

/// The process as the kernel sees it, for those who are about to take more.
#[derive(Debug)]
struct Process {
    page: u64,
    full_above: u64,
    /// Bytes given out since the last sample, which may not be in use yet.
    granted: Arc<AtomicU64>,
}

impl Room for Process {
    fn take(&self, wanted: u64) -> Result<(), BudgetExceeded> {
        self.try_take(wanted).or_else(|_| {
            scoria_allocator::give_back();
            self.try_take(wanted)
        })
    }
}

impl Process {
    fn try_take(&self, wanted: u64) -> Result<(), BudgetExceeded> {
        // Where the kernel does not say, the shares have to do.
        let resident = resident_bytes(self.page).unwrap_or(0);
        let fits = |granted: u64| {
            let with = granted.saturating_add(wanted);
            (resident.saturating_add(with) <= self.full_above).then_some(with)
        };
        let taken = self
            .granted
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(drop).map_err(|granted| BudgetExceeded {
            name: "process (memory.full_percent)",
            wanted,
            used: resident + granted,
            limit: self.full_above,
        })
    }
}

/// What the sampler compares with.
struct Marks {
    shed_above: u64,
    resume_below: u64,
    shedding: Arc<AtomicBool>,
}

impl Marks {
    fn judge(&self, resident: u64) {
        let was = self.shedding.load(Ordering::Relaxed);
        let is = resident > self.shed_above || (was && resident > self.resume_below);
        if is != was {
            self.shedding.store(is, Ordering::Relaxed);
            let mark = self.shed_above;
            if is {
                tracing::warn!(resident, mark, "memory is nearly full; writes are refused");
            } else {
                tracing::info!(resident, mark, "memory has fallen; writes are taken again");
            }
        }
    }
}

/// Resident pages times their size, less those of files: the binary's own, for one, which the kernel
/// drops when memory is short and which no refused write would give back.
fn resident_bytes(page: u64) -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split(' ').skip(1).map(str::parse::<u64>);
    let (resident, of_files) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(resident.saturating_sub(of_files) * page)
}

/// The size of a page, out of the two ways in which the kernel counts the same memory.
fn page_bytes() -> u64 {
    let kernel_pages = fs::read_to_string("/proc/self/smaps")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find(|line| line.starts_with("KernelPageSize:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
    kernel_pages.unwrap_or(4) * 1024
}

impl MemoryLimit {
    /// The limit in bytes, found out if none is given.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Bytes(size) => size.0,
            Self::Auto => detect_limit(),
        }
    }
}

/// The control group's limit, else a part of the machine's memory.
fn detect_limit() -> u64 {
    let machine = machine_bytes().unwrap_or(1 << 30);
    match cgroup_limit() {
        Some(limit) if limit < machine => limit,
        _ => machine / 100 * MACHINE_PERCENT,
    }
}

fn machine_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The least limit of the process's group and of the groups around it.
fn cgroup_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (mount, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            c if c.split(',').any(|c| c == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // Inside a container the path may be that of the host; the mount then is the group itself.
        let mut group = PathBuf::from(mount).join(path.trim_start_matches('/'));
        loop {
            let limit = read_number(&group.join(file));
            least = [least, limit].into_iter().flatten().min();
            if group == Path::new(mount) || !group.pop() {
                break;
            }
        }
    }
    least
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::ByteSize;

    fn config(limit: u64) -> MemoryConfig {
        MemoryConfig {
            limit: MemoryLimit::Bytes(ByteSize(limit)),
            ..MemoryConfig::default()
        }
    }

    #[test]
    fn shares_stay_inside_the_limit() {
        let memory = Memory::new(&config(1 << 30)).unwrap();
        let shares = [
            &memory.heads,
            &memory.flush,
            &memory.queries,
            &memory.bodies,
        ];
        let sum: u64 = shares.into_iter().map(ByteBudget::limit).sum();
        assert!(sum <= memory.limit && sum > memory.limit / 2);
        assert!(Memory::new(&config(1 << 20)).is_err());
        let greedy = MemoryConfig {
            heads_percent: 80,
            ..config(1 << 30)
        };
        assert!(
            Memory::new(&greedy)
                .unwrap_err()
                .to_string()
                .contains("122 %")
        );
        let odd = MemoryConfig {
            full_percent: 101,
            ..config(1 << 30)
        };
        let error = Memory::new(&odd).unwrap_err().to_string();
        assert!(error.contains("memory.full_percent is 101"), "{error}");
    }

    #[test]
    fn the_shares_are_shown() {
        let memory = Memory::new(&config(1 << 30)).unwrap();
        let permit = memory.queries.try_acquire(7).unwrap();
        let mut registry = Registry::default();
        memory.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = "scoria_memory_used_bytes{share=\"queries\"} 7";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("scoria_memory_shedding 0"));
        drop(permit);
    }

    #[test]
    fn shedding_starts_above_the_mark_and_ends_well_below() {
        let memory = Memory::new(&config(1000 << 20)).unwrap();
        let marks = memory.clone_marks();
        let at = |mib: u64| {
            marks.judge(mib << 20);
            memory.shedding()
        };
        assert!(!at(890));
        assert!(at(901));
        assert!(at(870), "still near the mark");
        assert!(!at(849));
    }

    #[test]
    fn the_kernel_is_understood() {
        assert!(resident_bytes(page_bytes()).unwrap() > 1 << 20);
        assert!(detect_limit() > 1 << 20);
    }
}
