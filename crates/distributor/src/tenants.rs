//! What is in force for each tenant, replaced as a whole while requests run.
//!
//! # Invariants
//! - A request sees one table from its start to its end: it holds what it looked up.
//! - Looking up waits for nothing longer than the exchange of a pointer.
//!
//! # What it must not know
//! Files, and when they change.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use scoria_model::limits::RetentionRule;
use scoria_model::{Limits, TenantId};

use crate::policy::TenantPolicy;

/// Policies by tenant; those without an entry share the default. Clones see the same table.
#[derive(Debug, Clone, Default)]
pub struct TenantLimits {
    default: Arc<TenantPolicy>,
    by_tenant: Arc<RwLock<Arc<Table>>>,
}

type Table = HashMap<TenantId, Arc<TenantPolicy>>;

impl TenantLimits {
    pub fn new<P: Into<TenantPolicy>>(default: P, by_tenant: HashMap<TenantId, P>) -> Self {
        let limits = Self {
            default: Arc::new(default.into()),
            by_tenant: Arc::default(),
        };
        limits.replace(by_tenant);
        limits
    }

    /// The numbers that limit what a tenant sends and asks.
    pub fn of(&self, tenant: &TenantId) -> Arc<Limits> {
        Arc::clone(&self.policy(tenant).limits)
    }

    /// All that is done with what a tenant sends.
    pub fn policy(&self, tenant: &TenantId) -> Arc<TenantPolicy> {
        let table = Arc::clone(&self.by_tenant.read());
        Arc::clone(table.get(tenant).unwrap_or(&self.default))
    }

    /// Every rule of retention that is in force now, by tenant; those of the default have none.
    pub fn retention_rules(&self) -> Vec<(Option<TenantId>, RetentionRule)> {
        let table = Arc::clone(&self.by_tenant.read());
        let mut named: Vec<_> = table.iter().map(|(t, policy)| (Some(t), policy)).collect();
        named.sort_by_key(|(tenant, _)| *tenant);
        let all = [(None, &self.default)].into_iter().chain(named);
        let rules = all.flat_map(|(tenant, policy)| {
            let rules = policy.limits.retention_rules.iter();
            rules.map(move |rule| (tenant.cloned(), rule.clone()))
        });
        rules.collect()
    }

    /// From now on these tenants have policies of their own, and no others.
    pub fn replace<P: Into<TenantPolicy>>(&self, by_tenant: HashMap<TenantId, P>) {
        let table = by_tenant
            .into_iter()
            .map(|(tenant, policy)| (tenant, Arc::new(policy.into())));
        let table = Arc::new(table.collect());
        *self.by_tenant.write() = table;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_table_is_seen_by_every_clone_and_what_was_looked_up_stays() {
        let with = |samples| Limits {
            max_profile_stacktrace_samples: samples,
            ..Limits::default()
        };
        let tenant = |name| TenantId::parse(name).unwrap();
        let limits = TenantLimits::new(with(1), HashMap::from([(tenant("a"), with(2))]));
        let clone = limits.clone();
        let held = clone.of(&tenant("a"));
        limits.replace(HashMap::from([(tenant("b"), with(3))]));
        let samples = |name| clone.of(&tenant(name)).max_profile_stacktrace_samples;
        assert_eq!((samples("a"), samples("b"), samples("c")), (1, 3, 1));
        assert_eq!(held.max_profile_stacktrace_samples, 2);
    }
}
