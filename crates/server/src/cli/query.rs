//! `scoria query`: asks a server and shows the answer.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use scoria_model::ProfileType;
use scoria_proto::public::querier::v1::{
    ProfileFormat, ProfileTypesRequest, ProfileTypesResponse, SelectMergeProfileRequest,
    SelectMergeStacktracesRequest, SelectMergeStacktracesResponse, SeriesRequest, SeriesResponse,
};
use scoria_proto::public::types::v1::{
    LabelNamesRequest, LabelNamesResponse, LabelValuesRequest, LabelValuesResponse,
};

use scoria_query::merge::TreePartial;
use scoria_query::render;

use super::{Remote, flame, output, time};
use crate::client::Client;

/// Nodes of the flame graph that the top table is made of: as many as servers give by default.
const NODES_MAX: i64 = 1_048_576;
/// The type that is asked for where the data has it and nobody says otherwise.
const TYPE_DEFAULT: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  scoria query types
  scoria query top --selector '{service_name=\"my-app\"}' --from now-15m
  scoria query flamegraph --selector '{service_name=\"my-app\"}' -o out.svg
  scoria query flamegraph --type memory:alloc_space:bytes:space:bytes -o heap.pb.gz
  scoria query labels service_name

Times: now, now-1h, 2026-01-31T12:00:00Z, Unix seconds or milliseconds.")]
pub(super) struct QueryArgs {
    #[command(subcommand)]
    verb: QueryVerb,
}

#[derive(Debug, Subcommand)]
enum QueryVerb {
    /// Functions by what they took.
    Top(TopArgs),
    /// Label sets of the series.
    Series(SeriesArgs),
    /// Names of labels, or the values of one.
    Labels(LabelsArgs),
    /// A flame graph: in the terminal, as a picture (.svg) or as a pprof (.pb.gz).
    Flamegraph(FlamegraphArgs),
    /// Profile types.
    Types(TypesArgs),
}

#[derive(Debug, Args)]
struct Range {
    #[command(flatten)]
    remote: Remote,
    /// Start of the time range.
    #[arg(long, default_value = "now-1h")]
    from: String,
    /// End of the time range.
    #[arg(long, default_value = "now")]
    to: String,
}

#[derive(Debug, Args)]
struct Profiles {
    #[command(flatten)]
    range: Range,
    /// Which series.
    #[arg(long, default_value = "{}")]
    selector: String,
    /// Profile type; without one CPU time, or else the first that there is.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

#[derive(Debug, Args)]
struct TopArgs {
    #[command(flatten)]
    profiles: Profiles,
    /// How many functions to show.
    #[arg(long, short = 'n', default_value_t = 30)]
    limit: usize,
}

#[derive(Debug, Args)]
struct FlamegraphArgs {
    #[command(flatten)]
    profiles: Profiles,
    /// Where to write it: FILE.svg is a picture, FILE.pb.gz a pprof.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Most nodes.
    #[arg(long, default_value_t = 8192)]
    max_nodes: i64,
}

#[derive(Debug, Args)]
struct SeriesArgs {
    #[command(flatten)]
    range: Range,
    /// Which series.
    #[arg(long, default_value = "{}")]
    selector: String,
    /// Only these labels; may be given several times.
    #[arg(long)]
    label: Vec<String>,
}

#[derive(Debug, Args)]
struct LabelsArgs {
    /// The label whose values are asked for; without one, names.
    name: Option<String>,
    #[command(flatten)]
    range: Range,
    /// Which series.
    #[arg(long, default_value = "{}")]
    selector: String,
}

#[derive(Debug, Args)]
struct TypesArgs {
    #[command(flatten)]
    range: Range,
}

pub(super) async fn run(args: QueryArgs) -> anyhow::Result<()> {
    match args.verb {
        QueryVerb::Top(args) => top(&args).await,
        QueryVerb::Series(args) => series(&args).await,
        QueryVerb::Labels(args) => labels(&args).await,
        QueryVerb::Flamegraph(args) => flamegraph(&args).await,
        QueryVerb::Types(args) => types(&args).await,
    }
}

/// A range in Unix milliseconds and who to ask about it.
struct Asked {
    client: Client,
    start: i64,
    end: i64,
}

impl Range {
    fn resolve(&self) -> anyhow::Result<Asked> {
        let now = time::now_ms();
        Ok(Asked {
            client: self.remote.client()?,
            start: time::parse(&self.from, now).context("--from")?,
            end: time::parse(&self.to, now).context("--to")?,
        })
    }
}

impl Asked {
    async fn types(&self) -> anyhow::Result<Vec<String>> {
        let request = ProfileTypesRequest {
            start: self.start,
            end: self.end,
        };
        let answer: ProfileTypesResponse = self.client.query("ProfileTypes", &request).await?;
        Ok(answer
            .profile_types
            .into_iter()
            .map(|kind| kind.ID)
            .collect())
    }

    /// The type to ask for: the given one, else CPU time, else the first that the selector has.
    async fn kind(&self, profiles: &Profiles) -> anyhow::Result<String> {
        if let Some(kind) = &profiles.kind {
            return Ok(kind.clone());
        }
        let request = LabelValuesRequest {
            name: "__profile_type__".to_owned(),
            matchers: vec![profiles.selector.clone()],
            start: self.start,
            end: self.end,
        };
        let answer: LabelValuesResponse = self.client.query("LabelValues", &request).await?;
        let types = answer.names;
        let chosen = types
            .iter()
            .find(|kind| *kind == TYPE_DEFAULT)
            .or_else(|| types.iter().find(|kind| kind.contains(":cpu:nanoseconds:")))
            .or_else(|| types.first());
        let Some(chosen) = chosen else {
            bail!(
                "no profiles match {} between {} and {}; `scoria query series` shows what there is",
                profiles.selector,
                profiles.range.from,
                profiles.range.to
            );
        };
        output::note(&format!(
            "type {chosen} (others with --type; there are {})",
            types.len()
        ));
        Ok(chosen.clone())
    }

    async fn tree(&self, selector: &str, kind: &str, nodes: i64) -> anyhow::Result<TreePartial> {
        let request = SelectMergeStacktracesRequest {
            profile_typeID: kind.to_owned(),
            label_selector: selector.to_owned(),
            start: self.start,
            end: self.end,
            max_nodes: Some(nodes),
            format: ProfileFormat::PROFILE_FORMAT_TREE.into(),
            ..Default::default()
        };
        let answer: SelectMergeStacktracesResponse = self
            .client
            .query("SelectMergeStacktraces", &request)
            .await?;
        if answer.tree.is_empty() {
            bail!("no samples of {kind} match {selector}");
        }
        render::decode_tree(&answer.tree).context("the server's tree cannot be read")
    }
}

/// The unit of a type's values.
fn unit(kind: &str) -> &str {
    kind.split(':').nth(2).unwrap_or_default()
}

async fn top(args: &TopArgs) -> anyhow::Result<()> {
    let asked = args.profiles.range.resolve()?;
    let kind = asked.kind(&args.profiles).await?;
    let tree = asked
        .tree(&args.profiles.selector, &kind, NODES_MAX)
        .await?;
    let rows = render::top(&tree);
    let whole: i64 = rows.iter().map(|row| row.own).sum();
    let unit = unit(&kind);
    let shown: Vec<Vec<String>> = rows
        .iter()
        .take(args.limit)
        .map(|row| {
            vec![
                render::scaled(row.own, unit),
                render::percentage(row.own, whole),
                render::scaled(row.total, unit),
                render::percentage(row.total, whole),
                row.name.to_string(),
            ]
        })
        .collect();
    let head = format!(
        "{} of {} functions, total {}",
        shown.len(),
        rows.len(),
        render::scaled(whole, unit)
    );
    let table = output::table(&["SELF", "SELF%", "TOTAL", "TOTAL%", "FUNCTION"], &shown);
    Ok(output::print([head].into_iter().chain(table))?)
}

async fn types(args: &TypesArgs) -> anyhow::Result<()> {
    let types = args.range.resolve()?.types().await?;
    Ok(output::print(types)?)
}

async fn series(args: &SeriesArgs) -> anyhow::Result<()> {
    let asked = args.range.resolve()?;
    let request = SeriesRequest {
        matchers: vec![args.selector.clone()],
        label_names: args.label.clone(),
        start: asked.start,
        end: asked.end,
    };
    let answer: SeriesResponse = asked.client.query("Series", &request).await?;
    let sets = answer.labels_set.into_iter().map(|set| {
        let pairs: Vec<String> = set
            .labels
            .into_iter()
            .map(|label| format!("{}={:?}", label.name, label.value))
            .collect();
        format!("{{{}}}", pairs.join(", "))
    });
    Ok(output::print(sets)?)
}

async fn labels(args: &LabelsArgs) -> anyhow::Result<()> {
    let asked = args.range.resolve()?;
    let matchers = vec![args.selector.clone()];
    let names = match &args.name {
        Some(name) => {
            let request = LabelValuesRequest {
                name: name.clone(),
                matchers,
                start: asked.start,
                end: asked.end,
            };
            let answer: LabelValuesResponse = asked.client.query("LabelValues", &request).await?;
            answer.names
        }
        None => {
            let request = LabelNamesRequest {
                matchers,
                start: asked.start,
                end: asked.end,
            };
            let answer: LabelNamesResponse = asked.client.query("LabelNames", &request).await?;
            answer.names
        }
    };
    Ok(output::print(names)?)
}

async fn flamegraph(args: &FlamegraphArgs) -> anyhow::Result<()> {
    let asked = args.profiles.range.resolve()?;
    let kind = asked.kind(&args.profiles).await?;
    let selector = &args.profiles.selector;
    let graph = async || {
        let tree = asked.tree(selector, &kind, args.max_nodes).await?;
        anyhow::Ok(render::flamegraph(&tree, 0))
    };
    let Some(path) = &args.output else {
        return Ok(output::print(flame::tree(&graph().await?, unit(&kind)))?);
    };
    let name = path.to_string_lossy();
    if name.ends_with(".pb.gz") || name.ends_with(".pprof") {
        pprof_file(&asked, args, &kind, path).await
    } else if name.ends_with(".svg") {
        let parsed: ProfileType = kind.parse()?;
        let title = format!("{kind} {selector}");
        write_file(
            path,
            render::svg(&graph().await?, &parsed, &title).as_bytes(),
        )
    } else {
        bail!("{name}: write to FILE.svg or FILE.pb.gz")
    }
}

async fn pprof_file(
    asked: &Asked,
    args: &FlamegraphArgs,
    kind: &str,
    path: &Path,
) -> anyhow::Result<()> {
    let request = SelectMergeProfileRequest {
        profile_typeID: kind.to_owned(),
        label_selector: args.profiles.selector.clone(),
        start: asked.start,
        end: asked.end,
        ..Default::default()
    };
    let profile = asked
        .client
        .query_bytes("SelectMergeProfile", &request)
        .await?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&profile)?;
    write_file(path, &gzip.finish()?)
}

fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))?;
    let size = render::scaled(i64::try_from(bytes.len()).unwrap_or(i64::MAX), "bytes");
    output::note(&format!("{}: {size}", path.display()));
    Ok(())
}
