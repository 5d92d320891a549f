//! `scoria usage`: what tenants and services have in a store, and what it costs.

use std::sync::Arc;

use clap::Args;
use prometheus_client::registry::Registry;
use scoria_model::TenantId;
use scoria_storage::Catalogue;
use scoria_storage::usage::Requests;
use serde_json::Value;

use super::catalogue::options;
use super::settings::SettingsArgs;
use super::{Exit, output};
use crate::object_store;

#[derive(Debug, Args)]
#[command(
    after_help = "Read from the catalogue in the store, so it knows every tenant. What requests cost is known to a
running server only: GET /api/v1/usage shows a tenant both. Prices are settings of section usage."
)]
pub(super) struct UsageArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Only this tenant.
    #[arg(long)]
    only_tenant: Option<String>,
    /// Write JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: UsageArgs) -> anyhow::Result<Exit> {
    let config = args.settings.load(&[])?;
    let tenant = args
        .only_tenant
        .as_deref()
        .map(TenantId::parse)
        .transpose()?;
    let named = object_store::open_existing(&config, &mut Registry::default())?;
    let catalogue = Catalogue::open(Arc::clone(&named.store), options()).await?;
    let none = Requests::default();
    let state = catalogue.state();
    let report = crate::usage::report(&state, tenant.as_ref(), (&none, &config.usage));
    let lines = match args.json {
        true => vec![serde_json::to_string_pretty(&report)?],
        false => as_text(&report),
    };
    output::print(lines)?;
    Ok(Exit::Done)
}

fn as_text(report: &Value) -> Vec<String> {
    let currency = report["currency"].as_str().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let bytes = |value: &Value| output::bytes(value.as_f64().unwrap_or_default() as u64);
    let money = |value: &Value| format!("{:.4}", value.as_f64().unwrap_or_default());
    let services = report["services"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = services
        .map(|service| {
            vec![
                text(&service["tenant"]),
                text(&service["service"]),
                bytes(&service["bytes"]),
                service["blocks"].to_string(),
                service["profiles"].to_string(),
                service["samples"].to_string(),
                money(&service["month"]["storage"]),
            ]
        })
        .collect();
    let cost = format!("{currency}/MONTH");
    let heads = [
        "TENANT", "SERVICE", "BYTES", "BLOCKS", "PROFILES", "SAMPLES", &cost,
    ];
    let mut lines = output::table(&heads, &rows);
    let total = &report["total"];
    lines.push(format!(
        "{} in all, {} {currency} a month to keep",
        bytes(&total["bytes"]),
        money(&total["month"]["storage"])
    ));
    lines
}
