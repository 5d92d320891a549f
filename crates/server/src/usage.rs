//! Usage and cost as JSON, the same for the route and for the command line.

use scoria_model::TenantId;
use scoria_storage::CatalogueState;
use scoria_storage::usage::{self, Prices, Projection, Requests, ServiceUsage};
use serde_json::{Value, json};

use crate::config::UsageConfig;

/// What lies in the store, of one tenant or of all, and what a month of it costs. `requests` are
/// those of the whole process; each service bears its share of them by bytes.
pub(crate) fn report(
    state: &CatalogueState,
    tenant: Option<&TenantId>,
    (requests, config): (&Requests, &UsageConfig),
) -> Value {
    let prices = Prices {
        gb_month: config.price_gb_month,
        puts_1000: config.price_puts_1000,
        gets_1000: config.price_gets_1000,
    };
    let of_all: f64 = state.blocks().map(|meta| meta.bytes as f64).sum();
    let services = usage::services(state, tenant);
    let month = |bytes: f64| prices.month(bytes, requests, bytes / of_all.max(1.0));
    let bytes: f64 = services.iter().map(|service| service.bytes).sum();
    let share = bytes / of_all.max(1.0);
    json!({
        "version": state.version().0,
        "currency": config.currency,
        "prices": {
            "gb_month": prices.gb_month,
            "puts_1000": prices.puts_1000,
            "gets_1000": prices.gets_1000,
        },
        "requests": {
            "puts": (requests.puts as f64 * share).round(),
            "gets": (requests.gets as f64 * share).round(),
            "seconds": requests.seconds.round(),
        },
        "services": services
            .iter()
            .map(|service| service_json(service, month(service.bytes)))
            .collect::<Vec<_>>(),
        "total": {
            "bytes": bytes.round(),
            "objects": services.iter().map(|service| service.objects).sum::<f64>(),
            "month": projection_json(month(bytes)),
        },
    })
}

fn service_json(service: &ServiceUsage, month: Projection) -> Value {
    json!({
        "tenant": service.tenant.as_str(),
        "service": service.service.as_ref(),
        "profile_types": service.profile_types,
        "bytes": service.bytes.round(),
        "objects": service.objects,
        "blocks": service.blocks,
        "profiles": service.profiles,
        "samples": service.samples,
        "min_time_ns": service.min_time.nanos(),
        "max_time_ns": service.max_time.nanos(),
        "month": projection_json(month),
    })
}

fn projection_json(month: Projection) -> Value {
    json!({
        "storage": month.storage,
        "puts": month.puts,
        "gets": month.gets,
        "total": month.total(),
    })
}
