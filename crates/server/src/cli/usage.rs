//! `scoria usage`: what tenants and services have in a store, and what it costs.

use std::sync::Arc;

use clap::Args;
use prometheus_client::registry::Registry;
use scoria_model::TenantId;
use scoria_storage::usage::{Requests, TypeUsage, profile_types};
use scoria_storage::{BlockStore, BlockStoreOptions, Catalogue, Metrics};
use serde_json::{Value, json};

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
    /// Also by profile type, for which one table of every block is read.
    #[arg(long)]
    by_type: bool,
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
    let mut report = crate::usage::report(&state, tenant.as_ref(), (&none, &config.usage));
    if args.by_type {
        let options = BlockStoreOptions {
            metrics: Metrics::unregistered(),
            cache_bytes: 0,
            coalesce_gap: 0,
        };
        let blocks = BlockStore::new(Arc::clone(&named.store), options);
        let types = profile_types(&blocks, &state, tenant.as_ref()).await?;
        report["profile_types"] = types.iter().map(type_json).collect();
    }
    let lines = match args.json {
        true => vec![serde_json::to_string_pretty(&report)?],
        false => as_text(&report),
    };
    output::print(lines)?;
    Ok(Exit::Done)
}

fn type_json(usage: &TypeUsage) -> Value {
    json!({
        "tenant": usage.tenant.as_str(),
        "service": usage.service.as_ref(),
        "profile_type": usage.profile_type,
        "bytes": usage.bytes.round(),
        "profiles": usage.profiles,
        "samples": usage.samples,
    })
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
    if let Some(types) = report["profile_types"].as_array() {
        let rows: Vec<Vec<String>> = types
            .iter()
            .map(|usage| {
                vec![
                    text(&usage["tenant"]),
                    text(&usage["service"]),
                    text(&usage["profile_type"]),
                    bytes(&usage["bytes"]),
                    usage["profiles"].to_string(),
                    usage["samples"].to_string(),
                ]
            })
            .collect();
        let heads = ["TENANT", "SERVICE", "TYPE", "BYTES", "PROFILES", "SAMPLES"];
        lines.push(String::new());
        lines.extend(output::table(&heads, &rows));
    }
    let total = &report["total"];
    lines.push(format!(
        "{} in all, {} {currency} a month to keep",
        bytes(&total["bytes"]),
        money(&total["month"]["storage"])
    ));
    lines
}
