//! `scoria bench`: repeatable figures from a running server.
//!
//! `ingest` pushes a fleet made of real pprofs, `query` asks the questions that dashboards ask,
//! `mixed` does both at once.
//! Rates are per core: what was taken or scanned over the CPU seconds that the server itself
//! reports in its metrics, so that the load generator's own work does not count and a second
//! process on the machine does not matter much.
//!
//! It must not know anything of the server's inside: it talks HTTP like any client.

mod client;
mod fleet;
mod ingest;
mod mixed;
mod otlp;
mod query;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Measure a running server.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  scoria bench ingest --profiles ./pprofs --pods 60 --rounds 20
  scoria bench ingest --format otlp --batch 1300 --pods 1300 --rounds 10 --concurrency 1
  scoria bench query --service bench --output json
  scoria bench mixed --queries 50 --rate 200")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    verb: BenchVerb,
}

#[derive(Debug, Subcommand)]
enum BenchVerb {
    /// Push a fleet of profiles and report megabytes per core and second.
    Ingest(IngestArgs),
    /// Ask flame graphs and time series and report latencies and samples per core and second.
    Query(QueryArgs),
    /// Push at a steady rate, alone and beside queries, and report how long acknowledgements take.
    Mixed(MixedArgs),
}

/// What profiles are sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// pprof, by push.v1.
    Pprof,
    /// OTLP profiles in version 1.10, over HTTP.
    Otlp,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct TargetArgs {
    /// The server to measure.
    #[arg(long, default_value = "http://127.0.0.1:4040")]
    url: String,
    /// Tenant to push to and ask of.
    #[arg(long)]
    tenant: Option<String>,
    /// How to print the figures.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// The label `service_name` of the fleet.
    #[arg(long, default_value = "bench")]
    service: String,
}

#[derive(Debug, Args)]
struct IngestArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Folder of pprofs to replay; without one a fleet is generated.
    #[arg(long)]
    profiles: Option<PathBuf>,
    /// Only files whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// How many pods the profiles are relabelled to.
    #[arg(long, default_value_t = 60)]
    pods: usize,
    /// Profiles that each pod pushes.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Requests in flight at once.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// Profiles in one request.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// What to send them as.
    #[arg(long, value_enum, default_value = "pprof")]
    format: Format,
    /// Seconds between two profiles of a pod, going back from now.
    #[arg(long, default_value_t = 15)]
    interval: u64,
}

#[derive(Debug, Args)]
struct QueryArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Profile type to ask for; without one the first with "cpu" of the service.
    #[arg(long = "type")]
    kind: Option<String>,
    /// How far back the questions reach, in seconds.
    #[arg(long, default_value_t = 3600)]
    range: u64,
    /// How often each question is asked.
    #[arg(long, default_value_t = 20)]
    repeat: usize,
}

#[derive(Debug, Args)]
struct MixedArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Profile type to ask for; without one the first with "cpu" of the service.
    #[arg(long = "type")]
    kind: Option<String>,
    /// How far back the questions reach, in seconds.
    #[arg(long, default_value_t = 3600)]
    range: u64,
    /// Queries that run at the same time.
    #[arg(long, default_value_t = 50)]
    queries: usize,
    /// Profiles that are pushed in a second: 200 of the generated ones take about a tenth of a core.
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// How long it is pushed alone, and again beside queries.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Runs the verb and prints its figures.
pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<()> {
    let (figures, output) = match args.verb {
        BenchVerb::Ingest(args) => (ingest::run(&args).await?, args.target.output),
        BenchVerb::Query(args) => (query::run(&args).await?, args.target.output),
        BenchVerb::Mixed(args) => (mixed::run(&args).await?, args.target.output),
    };
    print(&figures, output)
}

/// A named figure with its unit, in the order of printing.
#[derive(Debug, serde::Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

fn figure(name: &str, value: f64, unit: &'static str) -> Figure {
    Figure {
        name: name.to_owned(),
        value,
        unit,
    }
}

fn print(figures: &[Figure], output: Output) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(figures)?)?,
        Output::Text => {
            for figure in figures {
                writeln!(
                    out,
                    "{:<44} {:>14.3} {}",
                    figure.name, figure.value, figure.unit
                )?;
            }
        }
    }
    Ok(())
}
