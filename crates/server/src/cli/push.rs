//! `scoria push`: sends pprof files to a server.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use scoria_model::varint;
use scoria_pprof::{Decompressor, RawProfile};
use scoria_query::render::scaled;

use super::time::now_ms;
use super::{Exit, Remote, output};
use crate::client::{Client, Upload};

/// Label `service_name` of profiles that nobody gave one.
const SERVICE_DEFAULT: &str = "scoria-push";
/// Largest profile that is worth reading; servers take less by default.
const PROFILE_BYTES_MAX: u64 = 1 << 30;
/// `time_nanos` of a pprof: field 9, a varint.
const TIME_FIELD: u8 = 9 << 3;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  scoria push cpu.pb.gz --label service_name=my-app
  scoria push *.pprof --label service_name=my-app --label version=1.2 --keep-time

Files may be plain or gzip. A profile is dated now, so that the queries of the last hour find it;
--keep-time keeps the time that stands in the file (servers refuse old profiles by default).

Exit codes: 0 all files were taken, 4 some were refused, 1 none could be sent.")]
pub(super) struct PushArgs {
    /// The files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A label of the profiles; may be given several times. __name__ is chosen by what is in the
    /// file unless given.
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Keep the times that stand in the files.
    #[arg(long)]
    keep_time: bool,
    #[command(flatten)]
    remote: Remote,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write name=value".to_owned()),
    }
}

pub(super) async fn run(args: PushArgs) -> anyhow::Result<Exit> {
    let client = args.remote.client()?;
    let n_files = args.files.len();
    let mut taken = 0;
    for (at, file) in args.files.iter().enumerate() {
        let place = format!("[{}/{n_files}] {}", at + 1, file.display());
        match push_one(&client, &args, file).await {
            Ok(told) => {
                taken += 1;
                output::note(&format!("{place}: {told}"));
            }
            Err(error) => output::note(&format!("{place}: REFUSED: {error:#}")),
        }
    }
    if n_files > 1 || taken == 0 {
        output::note(&format!(
            "{taken} of {n_files} files taken by {}",
            args.remote.url
        ));
    }
    Ok(match taken {
        all if all == n_files => Exit::Done,
        0 => Exit::Failed,
        _ => Exit::Partly,
    })
}

async fn push_one(client: &Client, args: &PushArgs, file: &Path) -> anyhow::Result<String> {
    let stored = std::fs::read(file).context("reading it")?;
    let mut decompressor = Decompressor::new();
    let mut profile = decompressor
        .decompress(&stored, PROFILE_BYTES_MAX)?
        .to_vec();
    let raw = RawProfile::decode(&profile).context("it is no pprof")?;
    let name = scoria_pprof::name::choose(&raw, None);
    let types: Vec<String> = raw
        .columns
        .sample_types
        .iter()
        .map(|kind| String::from_utf8_lossy(raw.text(kind.kind)).into_owned())
        .collect();
    drop(raw);
    if !args.keep_time {
        // Of a field that stands twice the last one counts.
        profile.push(TIME_FIELD);
        let now_ns = now_ms().saturating_mul(1_000_000);
        varint::put_u64(&mut profile, now_ns.unsigned_abs());
    }
    let plain_bytes = profile.len();
    let labels = labels(&args.label, &name);
    client.push(Upload { labels, profile }).await?;
    let size = scaled(i64::try_from(plain_bytes).unwrap_or(i64::MAX), "bytes");
    Ok(format!("taken as {name} ({}), {size}", types.join(", ")))
}

fn labels(given: &[(String, String)], name: &str) -> Vec<(String, String)> {
    let mut labels = given.to_vec();
    for (default, value) in [("__name__", name), ("service_name", SERVICE_DEFAULT)] {
        if labels.iter().all(|(given, _)| given != default) {
            labels.push((default.to_owned(), value.to_owned()));
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_filled_in_where_missing() {
        assert_eq!(label("a = b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(label("=x").is_err() && label("x").is_err());
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            labels(&[pair("service_name", "app")], "memory"),
            [pair("service_name", "app"), pair("__name__", "memory")]
        );
    }
}
