//! `scoria copy`: some profiles of a store, copied into another that a server opens as it is.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use prometheus_client::registry::Registry;
use scoria_block::DatasetMeta;
use scoria_model::{Labels, ProfileType, TenantId, TimeRange};
use scoria_query::select::label_value;
use scoria_query::selector::Matchers;
use scoria_storage::copy::{Copied, Wanted, copy};
use serde_json::json;

use super::catalogue::options;
use super::settings::SettingsArgs;
use super::{Exit, output, time};
use crate::object_store;

#[derive(Debug, Args)]
#[command(
    after_help = "Copies profiles that are in blocks, not what is only in an ingester's log, and whatever tenants keep
beside profiles: settings, rules, uploaded profiles, executables. The store copied into
must not have a catalogue yet; it is reached with the same settings of section store.

Examples:
  scoria copy --store-url s3://profiles/prod --selector '{service_name=\"checkout\"}' --since now-1d --to file:///tmp/checkout
  scoria server --store-url file:///tmp/checkout"
)]
pub(super) struct CopyArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The store to copy from, in place of --store-url.
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// The store to copy into.
    #[arg(long, value_name = "URL")]
    to: String,
    /// Only profiles with these labels.
    #[arg(long, default_value = "{}")]
    selector: String,
    /// Only this tenant.
    #[arg(long)]
    only_tenant: Option<String>,
    /// Only profiles from this time on: Unix seconds or milliseconds, a date, or now-2h.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only profiles up to this time, inclusive.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Write the figures as JSON.
    #[arg(long)]
    json: bool,
    /// No lines of progress on standard error.
    #[arg(long)]
    quiet: bool,
}

impl CopyArgs {
    fn wanted(&self) -> anyhow::Result<Wanted> {
        let matchers = Matchers::parse(&self.selector).context("--selector")?;
        let tenant = self
            .only_tenant
            .as_deref()
            .map(TenantId::parse)
            .transpose()?;
        let now = time::now_ms();
        let at = |text: &Option<String>, default: i64| match text {
            Some(text) => time::parse(text, now),
            None => Ok(default),
        };
        let whose = tenant.clone();
        let takes = move |dataset: &DatasetMeta, kind: &ProfileType, labels: &Labels| {
            let of_tenant = tenant
                .as_ref()
                .is_none_or(|tenant| *tenant == dataset.tenant);
            let value = |name: &str| label_value(kind, labels, name).unwrap_or_default();
            of_tenant && matchers.iter().all(|m| m.passes(&value(&m.name)))
        };
        Ok(Wanted {
            range: TimeRange {
                start_ms: at(&self.since, i64::MIN)?,
                end_ms: at(&self.until, i64::MAX)?,
            },
            takes: Arc::new(takes),
            tenant: whose,
        })
    }
}

pub(super) async fn run(args: CopyArgs) -> anyhow::Result<Exit> {
    let mut config = args.settings.load(&[])?;
    let wanted = args.wanted()?;
    if let Some(from) = &args.from {
        config.storage.url = from.clone();
    }
    let from = object_store::open_existing(&config, &mut Registry::default())?;
    let to = object_store::open_url(&config, &args.to, &mut Registry::default()).context("--to")?;
    let progress = |at: &Copied| {
        if !args.quiet && (at.blocks_done.is_multiple_of(50) || at.blocks_done == at.blocks) {
            output::note(&format!(
                "{} of {} blocks, {} written",
                at.blocks_done,
                at.blocks,
                output::bytes(at.bytes_written)
            ));
        }
    };
    let copied = copy((&from.store, &to.store), &wanted, options(), progress).await?;
    let line = match args.json {
        true => serde_json::to_string_pretty(&json!({
            "blocks": copied.blocks_written,
            "bytes": copied.bytes_written,
            "profiles": copied.profiles,
            "files": copied.files,
            "to": to.url.to_string(),
        }))?,
        false => format!(
            "{} profiles in {} blocks ({}) and {} other files are in {}",
            copied.profiles,
            copied.blocks_written,
            output::bytes(copied.bytes_written),
            copied.files,
            to.url
        ),
    };
    output::print([line])?;
    Ok(Exit::Done)
}
