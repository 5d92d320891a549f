//! `scoria block`: one block, shown or written out as the files that other programs read.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};
use prometheus_client::registry::Registry;
use scoria_block::BlockMeta;
use scoria_model::BlockId;
use scoria_storage::{BlockStore, BlockStoreOptions, Metrics};
use serde_json::{Value, json};

use super::settings::SettingsArgs;
use super::{Exit, output};
use crate::object_store;

#[derive(Debug, Args)]
pub(super) struct BlockArgs {
    #[command(subcommand)]
    verb: BlockVerb,
}

#[derive(Debug, Subcommand)]
enum BlockVerb {
    /// Show what a block holds.
    Show(ShowArgs),
    /// Write a block's tables and manifest into a directory, checked.
    Export(ExportArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The block's id, as `scoria catalog show` writes it.
    block: String,
    /// Write JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The files are ordinary Parquet; docs/FORMATS.md describes every table and column and shows how
to read them with DuckDB."
)]
struct ExportArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The block's id, as `scoria catalog show` writes it.
    block: String,
    /// The directory; it is made, and must not hold files of another block.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

pub(super) async fn run(args: BlockArgs) -> anyhow::Result<Exit> {
    match args.verb {
        BlockVerb::Show(args) => show(args).await,
        BlockVerb::Export(args) => export(args).await,
    }
}

async fn opened(settings: &SettingsArgs, id: &str) -> anyhow::Result<(BlockStore, BlockMeta)> {
    let id: BlockId = id.parse().with_context(|| format!("the block id {id:?}"))?;
    let config = settings.load(&[])?;
    let named = object_store::open_existing(&config, &mut Registry::default())?;
    let options = BlockStoreOptions {
        metrics: Metrics::unregistered(),
        cache_bytes: 0,
        coalesce_gap: 0,
    };
    let blocks = BlockStore::new(Arc::clone(&named.store), options);
    let meta = blocks.read_manifest(id).await?;
    Ok((blocks, meta))
}

async fn show(args: ShowArgs) -> anyhow::Result<Exit> {
    let (_, meta) = opened(&args.settings, &args.block).await?;
    let lines = match args.json {
        true => vec![serde_json::to_string_pretty(&as_json(&meta))?],
        false => as_text(&meta),
    };
    output::print(lines)?;
    Ok(Exit::Done)
}

fn as_json(meta: &BlockMeta) -> Value {
    let tables = meta.tables.iter().map(|table| {
        json!({
            "table": table.table.name(),
            "bytes": table.bytes,
            "rows": table.rows,
            "pages": table.page_checksums.len(),
        })
    });
    let datasets = meta.datasets.iter().map(|dataset| {
        json!({
            "tenant": dataset.tenant.as_str(),
            "service": dataset.service.as_ref(),
            "min_time_ns": dataset.min_time.0,
            "max_time_ns": dataset.max_time.0,
            "profile_types": dataset.kinds.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "series": dataset.n_series(),
            "profiles": dataset.n_profiles(),
            "samples": dataset.n_samples(),
            "stacks": dataset.n_stacks,
        })
    });
    let streams = meta.streams.iter().map(
        |range| json!({"stream": range.stream.to_string(), "from": range.from.0, "to": range.to.0}),
    );
    json!({
        "block": meta.id.to_string(),
        "level": meta.level,
        "format": meta.version,
        "min_time_ns": meta.min_time.0,
        "max_time_ns": meta.max_time.0,
        "bytes": meta.bytes,
        "inputs": meta.inputs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "streams": streams.collect::<Vec<_>>(),
        "tables": tables.collect::<Vec<_>>(),
        "datasets": datasets.collect::<Vec<_>>(),
    })
}

fn as_text(meta: &BlockMeta) -> Vec<String> {
    let mut lines = vec![
        format!(
            "block {} of level {}, {}",
            meta.id,
            meta.level,
            output::bytes(meta.bytes)
        ),
        format!(
            "from {} to {}",
            output::time(meta.min_time),
            output::time(meta.max_time)
        ),
        String::new(),
    ];
    let tables: Vec<Vec<String>> = meta
        .tables
        .iter()
        .map(|table| {
            vec![
                table.table.name().to_owned(),
                table.rows.to_string(),
                output::bytes(table.bytes),
            ]
        })
        .collect();
    lines.extend(output::table(&["TABLE", "ROWS", "BYTES"], &tables));
    lines.push(String::new());
    let datasets: Vec<Vec<String>> = meta
        .datasets
        .iter()
        .map(|dataset| {
            vec![
                dataset.tenant.to_string(),
                dataset.service.to_string(),
                dataset.n_series().to_string(),
                dataset.n_profiles().to_string(),
                dataset.n_samples().to_string(),
                dataset.n_stacks.to_string(),
            ]
        })
        .collect();
    let heads = [
        "TENANT", "SERVICE", "SERIES", "PROFILES", "SAMPLES", "STACKS",
    ];
    lines.extend(output::table(&heads, &datasets));
    lines
}

async fn export(args: ExportArgs) -> anyhow::Result<Exit> {
    let (blocks, meta) = opened(&args.settings, &args.block).await?;
    let at = |name: &str| args.to.join(name);
    std::fs::create_dir_all(&args.to).with_context(|| format!("making {}", args.to.display()))?;
    let mut written = 0;
    for table in &meta.tables {
        let bytes = blocks.read_table(&meta, table.table).await?;
        let path = at(table.table.file_name());
        std::fs::write(&path, &bytes).with_context(|| format!("writing {}", path.display()))?;
        written += bytes.len() as u64;
        output::note(&format!(
            "{} {}",
            path.display(),
            output::bytes(bytes.len() as u64)
        ));
    }
    // Last, as in the store: its presence says that the tables are all there.
    let path = at("manifest.json");
    std::fs::write(&path, meta.to_manifest()?)
        .with_context(|| format!("writing {}", path.display()))?;
    output::print([format!(
        "{} with {} in {}",
        meta.id,
        output::bytes(written),
        args.to.display()
    )])?;
    Ok(Exit::Done)
}
