//! The limits of each tenant.

use std::collections::HashMap;
use std::sync::Arc;

use scoria_model::{Limits, TenantId};

/// Limits by tenant; those without an entry share the default.
#[derive(Debug, Clone, Default)]
pub struct TenantLimits {
    default: Arc<Limits>,
    by_tenant: HashMap<TenantId, Arc<Limits>>,
}

impl TenantLimits {
    pub fn new(default: Limits, by_tenant: HashMap<TenantId, Limits>) -> Self {
        let by_tenant = by_tenant
            .into_iter()
            .map(|(tenant, limits)| (tenant, Arc::new(limits)))
            .collect();
        Self {
            default: Arc::new(default),
            by_tenant,
        }
    }

    pub fn of(&self, tenant: &TenantId) -> &Arc<Limits> {
        self.by_tenant.get(tenant).unwrap_or(&self.default)
    }
}
