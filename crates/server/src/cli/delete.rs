//! `scoria delete`: deletes profiles on demand, or says what would go.

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::{Remote, output, time};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  scoria delete --selector '{service_name=\"app\"}' --before now-7d --dry-run
  scoria delete --selector '{service_name=\"app\",pod=\"a\"}' --before 2026-01-31T12:00:00Z
  scoria delete --tenant acme --selector '{}' --before now        everything of a tenant

What is deleted is out of sight at once; the receipt says what is still to be done on the object
store. Times: now, now-1h, 2026-01-31T12:00:00Z, Unix seconds or milliseconds.")]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    remote: Remote,
    /// Which series; `{}` takes all of the tenant.
    #[arg(long)]
    selector: String,
    /// Profiles older than this go.
    #[arg(long)]
    before: String,
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: DeleteArgs) -> anyhow::Result<()> {
    let before = time::parse(&args.before, time::now_ms()).context("--before")?;
    let parameters: [(&str, String); 3] = [
        ("selector", args.selector.clone()),
        ("before", before.to_string()),
        ("dry_run", args.dry_run.to_string()),
    ];
    let client = args.remote.client()?;
    let answer = client.post("api/v1/delete", &parameters).await?;
    let answer: Value = serde_json::from_slice(&answer).context("the server's answer")?;
    output::print([format!("{answer:#}")])?;
    Ok(())
}
