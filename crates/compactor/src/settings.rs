//! How a compactor behaves.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use scoria_model::TenantId;
use scoria_model::limits::RetentionRule;

type LengthOf = dyn Fn(&TenantId) -> Option<Duration> + Send + Sync;
type RulesOf = dyn Fn(&TenantId) -> Arc<[RetentionRule]> + Send + Sync;

/// How long a tenant's profiles are kept; `None` keeps them for ever. Rules keep some for less.
#[derive(Clone)]
pub struct RetentionOf {
    length: Arc<LengthOf>,
    rules: Arc<RulesOf>,
}

impl RetentionOf {
    pub fn new(of: impl Fn(&TenantId) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self {
            length: Arc::new(of),
            rules: Arc::new(|_| Arc::from([])),
        }
    }

    /// With rules for some of a tenant's profiles, whose selectors can be read.
    #[must_use]
    pub fn with_rules(
        mut self,
        of: impl Fn(&TenantId) -> Arc<[RetentionRule]> + Send + Sync + 'static,
    ) -> Self {
        self.rules = Arc::new(of);
        self
    }

    /// The same for all tenants.
    pub fn fixed(length: Option<Duration>) -> Self {
        Self::new(move |_| length)
    }

    pub fn of(&self, tenant: &TenantId) -> Option<Duration> {
        (self.length)(tenant)
    }

    pub fn rules_of(&self, tenant: &TenantId) -> Arc<[RetentionRule]> {
        (self.rules)(tenant)
    }
}

impl fmt::Debug for RetentionOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetentionOf")
    }
}

/// When what is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanSettings {
    /// How long after its end a window is merged: most of what was late has come by then.
    pub settle: Duration,
    /// So many blocks of one hour are merged before the hour has ended.
    pub eager_blocks: usize,
    /// A tenant with fewer bytes in a window shares a block with others like it.
    pub small_bytes: u64,
    /// Stored bytes that one job takes at most, unless a single slice has more.
    pub job_bytes: u64,
    /// Blocks that one job reads at most.
    pub job_blocks: usize,
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(5 * 60),
            eager_blocks: 16,
            small_bytes: 8 << 20,
            job_bytes: 512 << 20,
            job_blocks: 64,
        }
    }
}

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    pub plan: PlanSettings,
    /// How often the catalogue is looked through for work.
    pub interval: Duration,
    /// Memory of one job, in bytes.
    pub memory_bytes: u64,
    /// How long garbage stays: longer than any query runs.
    pub garbage_grace: Duration,
    /// How long objects stay that no commit has named: longer than any flush or job takes.
    pub orphan_grace: Duration,
    /// How often the bucket is listed for such objects.
    pub orphan_scan: Duration,
    /// Age from which entries of the catalogue's log go that snapshots cover.
    pub log_keep: Duration,
    pub retention: RetentionOf,
    /// Labels by which roll-ups are kept apart, so that queries may select by them.
    pub rollup_labels: Vec<Arc<str>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            plan: PlanSettings::default(),
            interval: Duration::from_secs(30),
            memory_bytes: 256 << 20,
            garbage_grace: Duration::from_secs(15 * 60),
            orphan_grace: Duration::from_secs(6 * 3600),
            orphan_scan: Duration::from_secs(3600),
            log_keep: Duration::from_secs(7 * 24 * 3600),
            retention: RetentionOf::fixed(Some(Duration::from_secs(30 * 24 * 3600))),
            rollup_labels: Vec::new(),
        }
    }
}
