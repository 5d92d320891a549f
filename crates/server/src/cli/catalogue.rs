//! `scoria catalog`: what the catalogue says, and what an operator may do about it by hand.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use prometheus_client::registry::Registry;
use scoria_block::BlockMeta;
use scoria_model::{BlockId, Clock, StreamId, Timestamp};
use scoria_storage::catalogue::{Quarantined, StreamState};
use scoria_storage::{
    Catalogue, CatalogueOptions, CatalogueState, Metrics, Op, Precondition, Txn, rebuild,
};
use serde_json::{Value, json};

use super::settings::SettingsArgs;
use super::{Exit, output};
use crate::object_store::{self, NamedStore};

#[derive(Debug, Args)]
pub(super) struct CatalogueArgs {
    #[command(subcommand)]
    verb: CatalogueVerb,
}

#[derive(Debug, Subcommand)]
enum CatalogueVerb {
    /// Show streams and live blocks.
    Show(ShowArgs),
    /// Make the catalogue anew from the manifests of the blocks in the bucket.
    Rebuild(RebuildArgs),
    /// Declare a stream ended where it was last flushed, because its log is lost.
    CloseStream(CloseStreamArgs),
    /// Let compactors merge again what they left out of a block because merging it failed.
    Release(ReleaseArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Write JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "For a catalogue that is lost or damaged beyond its snapshots. It reads the manifest of every
block, chooses blocks that cover what streams wrote once and without overlap, and writes a new
log; the old one is moved to quarantine/ first. Without --yes it only shows what it would do.

Stop every scoria process that uses the bucket before: one that runs would go on with the old
catalogue. Streams stay open, so that ingesters flush what is only in their logs; close those
whose logs are gone with `scoria catalog close-stream`."
)]
struct RebuildArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Do it; every process that uses the bucket is stopped.
    #[arg(long)]
    yes: bool,
    /// Write JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A stream is open while records of it may be in an ingester's log and in no block. When that
log is lost for good, every query that would need it fails until the stream is closed here.

WARNING: whatever was acknowledged into the lost log and not flushed is given up for good. An
ingester that comes back with the log cannot flush it any more. Without --yes it only shows what
it would do."
)]
struct CloseStreamArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The stream, as `scoria catalog show` writes it; may be given several times.
    #[arg(long, value_name = "STREAM", required_unless_present = "all")]
    stream: Vec<String>,
    /// Every open stream. Only with every ingester stopped and its log gone.
    #[arg(long, conflicts_with = "stream")]
    all: bool,
    /// Do it, and give up what is in no block.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A slice that cannot be merged, because it is damaged or needs more memory than
compactor.memory, is left where it is by every compactor; `scoria catalog show` and `scoria fsck`
name it. Release it once the cause is gone. `scoria fsck --repair` takes a damaged block out."
)]
struct ReleaseArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The block, as `scoria catalog show` writes it.
    block: BlockId,
}

async fn release(args: ReleaseArgs) -> anyhow::Result<Exit> {
    let (_, catalogue) = opened(&args.settings).await?;
    let block = args.block;
    if catalogue.state().quarantined(block).is_none() {
        bail!("nothing of block {block} is in quarantine; `scoria catalog show` lists what is");
    }
    catalogue
        .commit(Txn::new().then(Op::Release(block)))
        .await
        .with_context(|| format!("releasing block {block}"))?;
    output::print([format!("released block {block}")])?;
    Ok(Exit::Done)
}

pub(super) async fn run(args: CatalogueArgs) -> anyhow::Result<Exit> {
    match args.verb {
        CatalogueVerb::Show(args) => show(args).await,
        CatalogueVerb::Rebuild(args) => rebuild_catalogue(args).await,
        CatalogueVerb::CloseStream(args) => close_streams(args).await,
        CatalogueVerb::Release(args) => release(args).await,
    }
}

#[derive(Debug)]
struct ToolClock(Instant);

impl Clock for ToolClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = since.map_or(0, |since| since.as_nanos());
        Timestamp(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

pub(super) fn options() -> CatalogueOptions {
    CatalogueOptions::new(Arc::new(ToolClock(Instant::now())), Metrics::unregistered())
}

async fn opened(settings: &SettingsArgs) -> anyhow::Result<(NamedStore, Catalogue)> {
    let config = settings.load(&[])?;
    let named = object_store::open_existing(&config, &mut Registry::default())?;
    let catalogue = Catalogue::open(Arc::clone(&named.store), options())
        .await
        .with_context(|| format!("reading the catalogue in {}", named.url))?;
    Ok((named, catalogue))
}

async fn show(args: ShowArgs) -> anyhow::Result<Exit> {
    let (_, catalogue) = opened(&args.settings).await?;
    let state = catalogue.state();
    let lines = match args.json {
        true => vec![serde_json::to_string_pretty(&state_json(&state))?],
        false => state_text(&state),
    };
    output::print(lines)?;
    Ok(Exit::Done)
}

fn stream_json(id: &StreamId, state: &StreamState) -> Value {
    json!({
        "stream": id.to_string(),
        "owner": state.owner.0.as_ref(),
        "epoch": state.epoch.0,
        "committed": state.committed.0,
        "ends_at": state.sealed_at.map(|at| at.0),
        "open": !state.is_finished(),
    })
}

fn block_json(meta: &BlockMeta) -> Value {
    json!({
        "block": meta.id.to_string(),
        "level": meta.level,
        "min_time_ns": meta.min_time.0,
        "max_time_ns": meta.max_time.0,
        "bytes": meta.bytes,
        "datasets": meta.datasets.len(),
        "profiles": meta.datasets.iter().map(|d| d.n_profiles()).sum::<u64>(),
        "samples": meta.datasets.iter().map(|d| d.n_samples()).sum::<u64>(),
        "inputs": meta.inputs.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn quarantine_json(block: BlockId, quarantined: &Quarantined) -> Value {
    let slices = quarantined.slices.iter();
    json!({
        "block": block.to_string(),
        "slices": slices.map(|(tenant, shards)| json!({"tenant": tenant.as_str(), "shards": shards.to_string()})).collect::<Vec<_>>(),
        "since_version": quarantined.since.0,
        "why": &*quarantined.why,
    })
}

fn state_json(state: &CatalogueState) -> Value {
    json!({
        "version": state.version().0,
        "streams": state.streams().map(|(id, s)| stream_json(id, s)).collect::<Vec<_>>(),
        "blocks": state.blocks().map(|meta| block_json(meta)).collect::<Vec<_>>(),
        "quarantine": state.quarantine().map(|(id, q)| quarantine_json(id, q)).collect::<Vec<_>>(),
    })
}

fn state_text(state: &CatalogueState) -> Vec<String> {
    let mut lines = vec![format!("version {}", state.version().0), String::new()];
    let streams: Vec<Vec<String>> = state
        .streams()
        .map(|(id, stream)| {
            let end = match (stream.is_finished(), stream.sealed_at) {
                (true, _) => "finished".to_owned(),
                (false, Some(at)) => format!("ends at {}", at.0),
                (false, None) => "open".to_owned(),
            };
            vec![
                id.to_string(),
                stream.owner.0.to_string(),
                stream.committed.0.to_string(),
                end,
            ]
        })
        .collect();
    lines.extend(output::table(
        &["STREAM", "OWNER", "COMMITTED", "STATE"],
        &streams,
    ));
    lines.push(String::new());
    let blocks: Vec<Vec<String>> = state
        .blocks()
        .map(|meta| {
            vec![
                meta.id.to_string(),
                meta.level.to_string(),
                output::time(meta.min_time),
                output::time(meta.max_time),
                output::bytes(meta.bytes),
                meta.datasets.len().to_string(),
            ]
        })
        .collect();
    let heads = ["BLOCK", "LEVEL", "FROM", "TO", "BYTES", "DATASETS"];
    lines.extend(output::table(&heads, &blocks));
    let quarantine: Vec<Vec<String>> = state
        .quarantine()
        .flat_map(|(block, what)| {
            what.slices.iter().map(move |(tenant, shards)| {
                vec![
                    block.to_string(),
                    tenant.to_string(),
                    shards.to_string(),
                    what.why.to_string(),
                ]
            })
        })
        .collect();
    if !quarantine.is_empty() {
        lines.push(String::new());
        let heads = ["QUARANTINED", "TENANT", "SHARDS", "WHY"];
        lines.extend(output::table(&heads, &quarantine));
    }
    lines
}

async fn rebuild_catalogue(args: RebuildArgs) -> anyhow::Result<Exit> {
    let config = args.settings.load(&[])?;
    let named = object_store::open_existing(&config, &mut Registry::default())?;
    let plan = rebuild::plan(&named.store).await?;
    let report = json!({
        "done": args.yes,
        "blocks": plan.blocks.len(),
        "streams": plan.streams.iter().map(|(id, to)| json!({"stream": id.to_string(), "committed": to.0})).collect::<Vec<_>>(),
        "left_out": plan.left_out.iter().map(|l| json!({"key": l.key, "why": l.why})).collect::<Vec<_>>(),
    });
    if !args.json {
        for left in &plan.left_out {
            output::note(&format!("left out: {}: {}", left.key, left.why));
        }
    }
    let (blocks, streams) = (plan.blocks.len(), plan.streams.len());
    let mut text = format!("{blocks} blocks of {streams} streams");
    if args.yes {
        let version = rebuild::replace(&named.store, plan, options()).await?;
        text = format!("{text} are in the new catalogue, version {}", version.0);
    } else {
        text = format!("{text} would be in the new catalogue; add --yes to write it");
    }
    let lines = match args.json {
        true => vec![serde_json::to_string_pretty(&report)?],
        false => vec![text],
    };
    output::print(lines)?;
    Ok(Exit::Done)
}

async fn close_streams(args: CloseStreamArgs) -> anyhow::Result<Exit> {
    let (_, catalogue) = opened(&args.settings).await?;
    let state = catalogue.state();
    let named = |id: &StreamId| args.all || args.stream.contains(&id.to_string());
    let open: Vec<(StreamId, StreamState)> = state
        .open_streams()
        .filter(|(id, _)| named(id))
        .map(|(id, stream)| (id.clone(), stream.clone()))
        .collect();
    let known: Vec<String> = state.streams().map(|(id, _)| id.to_string()).collect();
    if let Some(unknown) = args.stream.iter().find(|stream| !known.contains(stream)) {
        bail!("there is no stream {unknown}; `scoria catalog show` lists them");
    }
    if open.is_empty() {
        output::print(["no such stream is open; nothing to do".to_owned()])?;
        return Ok(Exit::Done);
    }
    for (id, stream) in &open {
        output::note(&format!(
            "WARNING: closing {id} at {}: what its log holds beyond that, though acknowledged, is given up",
            stream.committed.0
        ));
        if !args.yes {
            continue;
        }
        let txn = Txn::new()
            .require(Precondition::StreamAt {
                stream: id.clone(),
                epoch: stream.epoch,
                committed: stream.committed,
            })
            .then(Op::CloseStream {
                stream: id.clone(),
                epoch: stream.epoch,
                at: stream.committed,
            });
        catalogue.commit(txn).await.with_context(|| {
            format!("closing {id}; if its ingester has just flushed, it lives: leave it open")
        })?;
        output::print([format!("closed {id} at {}", stream.committed.0)])?;
    }
    if !args.yes {
        output::print([format!(
            "{} streams would be closed; add --yes to do it",
            open.len()
        )])?;
    }
    Ok(Exit::Done)
}
