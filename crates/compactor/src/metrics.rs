//! What the compactor counts. The registry is the caller's.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::execute::{Done, JobError};
use crate::plan::{Job, Plan};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    level: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhatLabels {
    what: &'static str,
}

/// Counters of one compactor. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    jobs: Family<JobLabels, Counter>,
    backlog: Gauge,
    backlog_bytes: Gauge,
    oldest_seconds: Gauge<f64, AtomicU64>,
    bytes: Family<WhatLabels, Counter>,
    profiles: Family<WhatLabels, Counter>,
    samples: Counter,
    /// Bytes written so far, and those of level 0 read so far.
    written: Counter,
    first_read: Counter,
    rewrite_factor: Gauge<f64, AtomicU64>,
    quarantined: Gauge,
    log_trimmed: Counter,
    expired: Counter,
    collected: Family<WhatLabels, Counter>,
    orphans: Gauge,
}

impl Metrics {
    /// Counters that `registry` shows.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = &metrics;
        registry.register(
            "scoria_compaction_jobs",
            "Merges by level of their output and how they ended",
            m.jobs.clone(),
        );
        registry.register(
            "scoria_compaction_backlog_slices",
            "Slices that wait to be merged",
            m.backlog.clone(),
        );
        registry.register(
            "scoria_compaction_backlog_bytes",
            "Stored bytes of the slices that wait to be merged",
            m.backlog_bytes.clone(),
        );
        registry.register(
            "scoria_compaction_oldest_seconds",
            "Age of the oldest profile that has not been merged once; 0 if there is none",
            m.oldest_seconds.clone(),
        );
        registry.register(
            "scoria_compaction_bytes",
            "Bytes of blocks that merges read and wrote",
            m.bytes.clone(),
        );
        registry.register(
            "scoria_compaction_profiles",
            "Profiles that merges kept, and that they left out as doubles, as sent again, or as deleted",
            m.profiles.clone(),
        );
        registry.register(
            "scoria_compaction_samples",
            "Samples that merges wrote",
            m.samples.clone(),
        );
        registry.register(
            "scoria_compaction_rewrite_factor",
            "Bytes that merges wrote for each byte of level 0 that they read",
            m.rewrite_factor.clone(),
        );
        registry.register(
            "scoria_compaction_quarantined_blocks",
            "Blocks of which slices cannot be merged, until `scoria catalog release`",
            m.quarantined.clone(),
        );
        registry.register(
            "scoria_catalogue_log_trimmed",
            "Old entries and snapshots of the catalogue that were deleted",
            m.log_trimmed.clone(),
        );
        registry.register(
            "scoria_retention_slices",
            "Slices that went because all their profiles were too old",
            m.expired.clone(),
        );
        registry.register(
            "scoria_garbage_blocks",
            "Blocks that were condemned, deleted and forgotten",
            m.collected.clone(),
        );
        registry.register(
            "scoria_orphan_blocks",
            "Blocks in the object store that no commit has named",
            m.orphans.clone(),
        );
        metrics
    }

    pub(crate) fn planned(&self, plan: &Plan, age_seconds: f64, quarantined: usize) {
        self.backlog.set(plan.backlog_slices as i64);
        self.backlog_bytes.set(plan.backlog_bytes as i64);
        self.oldest_seconds.set(age_seconds);
        self.quarantined.set(quarantined as i64);
    }

    pub(crate) fn log_trimmed(&self, objects: u64) {
        self.log_trimmed.inc_by(objects);
    }

    pub(crate) fn ended(&self, job: &Job, result: &Result<Done, JobError>) {
        let outcome = match result {
            Ok(_) => "done",
            Err(JobError::Lost(_)) => "lost",
            Err(JobError::BadInput { .. }) => "bad_input",
            Err(_) => "failed",
        };
        let labels = JobLabels {
            level: job.level.to_string(),
            outcome,
        };
        self.jobs.get_or_create(&labels).inc();
        let Ok(done) = result else {
            return;
        };
        let count = |family: &Family<WhatLabels, Counter>, what, n| {
            family.get_or_create(&WhatLabels { what }).inc_by(n);
        };
        count(&self.bytes, "read", done.bytes_read);
        count(&self.bytes, "written", done.bytes_written);
        count(&self.profiles, "kept", done.profiles);
        count(&self.profiles, "doubles", done.doubles);
        count(&self.profiles, "resent", done.resent);
        count(&self.profiles, "deleted", done.dropped);
        self.samples.inc_by(done.samples);
        self.written.inc_by(done.bytes_written);
        if job.level == 1 {
            self.first_read.inc_by(done.bytes_read);
        }
        let first = self.first_read.get().max(1) as f64;
        self.rewrite_factor.set(self.written.get() as f64 / first);
    }

    pub(crate) fn expired(&self, slices: u64) {
        self.expired.inc_by(slices);
    }

    pub(crate) fn collected(&self, what: &'static str, blocks: u64) {
        let labels = WhatLabels { what };
        self.collected.get_or_create(&labels).inc_by(blocks);
    }

    pub(crate) fn orphans(&self, blocks: usize) {
        self.orphans.set(blocks as i64);
    }
}
