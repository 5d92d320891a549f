//! `scoria bench ingest`: a fleet pushed as fast as the server takes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bytes::Bytes;
use scoria_model::varint::{put_bytes, put_u64};

use super::client::Client;
use super::fleet::{self, Shot};
use super::{Figure, Format, IngestArgs, figure, otlp};

pub(super) async fn run(args: &IngestArgs) -> anyhow::Result<Vec<Figure>> {
    let client = Client::new(&args.target.url, args.target.tenant.as_deref())?;
    let now_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let interval_ns = i64::try_from(args.interval)?.saturating_mul(1_000_000_000);
    eprintln!(
        "preparing {} profiles of {} pods…",
        args.pods * args.rounds,
        args.pods
    );
    let shots = fleet::build(
        args.profiles.as_deref(),
        &args.only,
        (args.pods, args.rounds),
        (i64::try_from(now_ns.as_nanos())?, interval_ns),
    )?;
    let raw_bytes: usize = shots.iter().map(|shot| shot.raw_bytes).sum();
    let (requests, samples) = requests(args, &shots)?;
    let sent_bytes: usize = requests.iter().map(Bytes::len).sum();

    let before = client.metrics().await?;
    let start = Instant::now();
    let mut latencies = send(&client, requests, args).await?;
    let seconds = start.elapsed().as_secs_f64();
    let after = client.metrics().await?;

    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize] * 1000.0;
    let cpu = after.since(&before, "process_cpu_seconds_total");
    let profiles = shots.len() as f64;
    let megabytes = raw_bytes as f64 / 1e6;
    Ok(vec![
        figure("profiles", profiles, ""),
        figure("decompressed", megabytes, "MB"),
        figure("sent", sent_bytes as f64 / 1e6, "MB"),
        figure("wall", seconds, "s"),
        figure("server CPU (user + sys)", cpu, "s"),
        figure(
            "decompressed pprof per core",
            megabytes / cpu.max(f64::MIN_POSITIVE),
            "MB/s",
        ),
        figure("decompressed pprof", megabytes / seconds, "MB/s"),
        figure("server CPU per profile", cpu * 1e6 / profiles, "us"),
        figure(
            "samples per core",
            samples as f64 / cpu.max(f64::MIN_POSITIVE),
            "/s",
        ),
        figure("acknowledged p50", at(0.5), "ms"),
        figure("acknowledged p99", at(0.99), "ms"),
        figure(
            "log bytes per profile",
            after.since(&before, "scoria_ingester_log_bytes_total") / profiles,
            "B",
        ),
        figure(
            "head bytes per profile",
            after.since(&before, "scoria_ingester_heads_bytes") / profiles,
            "B",
        ),
        figure(
            "resident memory of the server",
            after.get("process_resident_memory_bytes") / 1e6,
            "MB",
        ),
    ])
}

/// `n` requests of one generated profile each, of ten pods; those of another `phase` are others.
pub(super) fn single_requests(service: &str, n: usize, phase: usize) -> anyhow::Result<Vec<Bytes>> {
    let now_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let now_ns = i64::try_from(now_ns.as_nanos())? + phase as i64;
    let shots = fleet::build(None, "", (10, n.div_ceil(10)), (now_ns, 1_000_000))?;
    let shots = shots.iter().take(n);
    Ok(shots
        .map(|shot| request(service, std::slice::from_ref(shot)))
        .collect())
}

/// The encoded requests, and how many samples they hold.
fn requests(args: &IngestArgs, shots: &[Shot]) -> anyhow::Result<(Vec<Bytes>, usize)> {
    let service = &args.target.service;
    let mut requests = Vec::new();
    let mut samples = 0;
    for batch in shots.chunks(args.batch.max(1)) {
        match args.format {
            Format::Pprof => {
                samples += batch.iter().map(|shot| shot.samples).sum::<usize>();
                requests.push(request(service, batch));
            }
            Format::Otlp => {
                let export = otlp::export(service, batch)?;
                samples += export.samples;
                requests.push(Bytes::from(export.body));
            }
        }
    }
    Ok((requests, samples))
}

/// One encoded push.v1.PushRequest.
fn request(service: &str, batch: &[Shot]) -> Bytes {
    let mut out = Vec::new();
    for shot in batch {
        let mut series = Vec::new();
        let pod = format!("{service}-{}", shot.pod);
        for (name, value) in [
            ("__name__", shot.kind.as_str()),
            ("service_name", service),
            ("pod", &pod),
            ("__delta__", "false"),
        ] {
            let mut label = Vec::new();
            put_field(&mut label, 1, name.as_bytes());
            put_field(&mut label, 2, value.as_bytes());
            put_field(&mut series, 1, &label);
        }
        let mut sample = Vec::new();
        put_field(&mut sample, 1, &shot.body);
        put_field(&mut series, 2, &sample);
        put_field(&mut out, 1, &series);
    }
    out.into()
}

fn put_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_u64(out, field << 3 | 2);
    put_bytes(out, bytes);
}

/// Sends all requests, as many at a time as was asked for; seconds that each one took.
async fn send(
    client: &Client,
    requests: Vec<Bytes>,
    args: &IngestArgs,
) -> anyhow::Result<Vec<f64>> {
    let requests = Arc::new(requests);
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    let format = args.format;
    for _ in 0..args.concurrency.max(1) {
        let (client, requests, next) = (client.clone(), Arc::clone(&requests), Arc::clone(&next));
        workers.spawn(async move {
            let mut latencies = Vec::new();
            while let Some(body) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let start = Instant::now();
                match format {
                    Format::Pprof => client.push(body.clone()).await?,
                    Format::Otlp => client.export(body.clone()).await?,
                }
                latencies.push(start.elapsed().as_secs_f64());
            }
            anyhow::Ok(latencies)
        });
    }
    let mut all = Vec::with_capacity(requests.len());
    while let Some(done) = workers.join_next().await {
        all.extend(done.context("a worker panicked")??);
    }
    Ok(all)
}
