//! `scoria fsck`: reads everything in an object store and names what is damaged.

use std::sync::Arc;

use clap::Args;
use prometheus_client::registry::Registry;
use scoria_storage::Catalogue;
use scoria_storage::fsck::{self, Finding, Progress, Report};
use serde_json::{Value, json};

use super::catalogue::options;
use super::settings::SettingsArgs;
use super::{Exit, output};
use crate::object_store::{self, NamedStore};

/// Blocks between two lines of progress.
const PROGRESS_EVERY: u64 = 50;

#[derive(Debug, Args)]
#[command(
    after_help = "Reads the catalogue's log and snapshots and every object of every live block: whether
it is there, matches its checksum and decodes, whether profiles' totals are the sums of their
samples, and whether what streams have in blocks is without gaps. Changes nothing without
--repair, and may run beside servers.

Exit codes:
  0  everything is sound; objects that nothing refers to are reported and are no damage
  1  the store could not be read
  2  wrong arguments or configuration
  5  something is damaged or missing; each line names the object

Examples:
  scoria fsck --store-url s3://profiles/prod
  scoria fsck --data-dir /var/lib/scoria --json | jq '.findings[]'"
)]
pub(super) struct FsckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Copy damaged blocks to quarantine/ and take them out of the catalogue, so that queries go on
    /// without what they held. Says what that is.
    #[arg(long)]
    repair: bool,
    /// Write the report as JSON.
    #[arg(long)]
    json: bool,
    /// No lines of progress on standard error.
    #[arg(long)]
    quiet: bool,
}

pub(super) async fn run(args: FsckArgs) -> anyhow::Result<Exit> {
    let config = args.settings.load(&[])?;
    let named = object_store::open_existing(&config, &mut Registry::default())?;
    let progress = |at: Progress| {
        let due = at.blocks_done.is_multiple_of(PROGRESS_EVERY) || at.blocks_done == at.blocks;
        if due && !args.quiet {
            output::note(&format!(
                "{} of {} blocks, {} read, {} found",
                at.blocks_done,
                at.blocks,
                output::bytes(at.bytes_read),
                at.findings
            ));
        }
    };
    let report = fsck::check(&named.store, progress).await?.report;
    let lines = match args.json {
        true => vec![serde_json::to_string_pretty(&as_json(&report))?],
        false => as_text(&report),
    };
    output::print(lines)?;
    if args.repair {
        mend(&named, &report).await?;
    }
    Ok(match report.is_sound() {
        true => Exit::Done,
        false => Exit::Damaged,
    })
}

/// Takes the damaged blocks out.
async fn mend(named: &NamedStore, report: &Report) -> anyhow::Result<()> {
    let damaged = report.damaged_blocks();
    if damaged.is_empty() {
        output::note("no live block is damaged; nothing is repaired");
        return Ok(());
    }
    let catalogue = Catalogue::open(Arc::clone(&named.store), options()).await?;
    fsck::repair(&named.store, &catalogue, damaged, |repaired| {
        output::note(&format!(
            "block {} is in quarantine ({} objects in {}); no longer shown:",
            repaired.meta.id, repaired.objects, repaired.folder
        ));
        for dataset in &repaired.meta.datasets {
            output::note(&format!(
                "  {} {}: {} profiles from {} to {}",
                dataset.tenant,
                dataset.service,
                dataset.n_profiles(),
                output::time(dataset.min_time),
                output::time(dataset.max_time)
            ));
        }
    })
    .await?;
    Ok(())
}

fn as_json(report: &Report) -> Value {
    let finding = |f: &Finding| {
        json!({
            "kind": f.kind.as_str(),
            "damage": f.kind.is_damage(),
            "key": f.key,
            "block": f.block.map(|id| id.to_string()),
            "what": f.what,
        })
    };
    json!({
        "sound": report.is_sound(),
        "version": report.version,
        "log_entries": report.log_entries,
        "snapshots": report.snapshots,
        "streams": report.streams,
        "blocks": report.blocks,
        "garbage_blocks": report.garbage,
        "objects": report.figures.objects,
        "bytes": report.figures.bytes,
        "profiles": report.figures.profiles,
        "samples": report.figures.samples,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn as_text(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = report
        .findings
        .iter()
        .map(|f| format!("{}: {}: {}", f.kind.as_str(), f.key, f.what))
        .collect();
    lines.push(format!(
        "catalogue version {}: {} entries, {} snapshots, {} streams, {} blocks",
        report.version, report.log_entries, report.snapshots, report.streams, report.blocks
    ));
    lines.push(format!(
        "read {} objects with {}: {} profiles, {} samples",
        report.figures.objects,
        output::bytes(report.figures.bytes),
        report.figures.profiles,
        report.figures.samples
    ));
    let verdict = match (report.is_sound(), report.has_quarantined()) {
        (false, _) => "DAMAGED",
        (true, true) => "sound, apart from what is quarantined",
        (true, false) => "sound",
    };
    lines.push(verdict.to_owned());
    lines
}
