//! `scoria bench mixed`: what queries do to ingest.
//!
//! Profiles are pushed at a steady rate, first alone and then beside closed-loop queries: each
//! asker sends its next question when the last one is answered. What counts is how much longer
//! acknowledgements take.
//!
//! # Invariants
//! - Pushes are due at fixed times, whether or not the one before is acknowledged: a server that
//!   falls behind cannot hide it by being asked less. Latency counts from when a push was due.
//! - Pushes have a thread of their own, so that reading the answers of queries does not delay them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;

use super::client::Client;
use super::query::{Question, questions};
use super::{Figure, MixedArgs, TargetArgs, figure, ingest};

/// What one phase measured.
#[derive(Debug)]
struct Phase {
    /// Milliseconds, sorted.
    acknowledged: Vec<f64>,
    cpu_seconds: f64,
    seconds: f64,
}

pub(super) async fn run(args: &MixedArgs) -> anyhow::Result<Vec<Figure>> {
    let client = Client::new(&args.target.url, args.target.tenant.as_deref())?;
    let rate = args.rate.max(1);
    let n = usize::try_from(rate.saturating_mul(args.seconds.max(1)))?;
    // Questions are about the fleet that is there; what is pushed meanwhile is another service.
    let questions = questions(&client, &args.target, (args.kind.as_deref(), args.range)).await?;
    for question in &questions {
        client.query(question.method, &question.body).await?;
    }
    let load = format!("{}-load", args.target.service);
    let bodies = [0, 1].map(|phase| ingest::single_requests(&load, n, phase));
    let [alone, beside] = bodies;
    let period = Duration::from_secs(1) / u32::try_from(rate)?;
    eprintln!("{n} pushes alone, then {n} beside {} askers…", args.queries);
    let alone = phase(&client, &args.target, alone?, period).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut askers = tokio::task::JoinSet::new();
    for first in 0..args.queries {
        let (client, stop) = (client.clone(), Arc::clone(&stop));
        // Each begins with another question.
        let mut turns = questions.clone();
        turns.rotate_left(first % questions.len().max(1));
        askers.spawn(async move { ask(&client, &turns, &stop).await });
    }
    let beside = phase(&client, &args.target, beside?, period).await?;
    stop.store(true, Ordering::Relaxed);
    let mut answered = Vec::new();
    while let Some(done) = askers.join_next().await {
        answered.extend(done.context("an asker panicked")??);
    }
    answered.sort_by(f64::total_cmp);
    Ok(figures(&alone, &beside, &answered))
}

fn figures(alone: &Phase, beside: &Phase, answered: &[f64]) -> Vec<Figure> {
    let p99 = |phase: &Phase| percentile(&phase.acknowledged, 0.99);
    vec![
        figure("pushes", alone.acknowledged.len() as f64, ""),
        figure(
            "server cores, pushes alone",
            alone.cpu_seconds / alone.seconds,
            "",
        ),
        figure(
            "server cores, with queries",
            beside.cpu_seconds / beside.seconds,
            "",
        ),
        figure(
            "acknowledged p50, alone",
            percentile(&alone.acknowledged, 0.5),
            "ms",
        ),
        figure("acknowledged p99, alone", p99(alone), "ms"),
        figure(
            "acknowledged p50, with queries",
            percentile(&beside.acknowledged, 0.5),
            "ms",
        ),
        figure("acknowledged p99, with queries", p99(beside), "ms"),
        figure(
            "acknowledged p99, times alone",
            p99(beside) / p99(alone).max(f64::MIN_POSITIVE),
            "",
        ),
        figure("queries", answered.len() as f64 / beside.seconds, "/s"),
        figure("query p50", percentile(answered, 0.5), "ms"),
        figure("query p99", percentile(answered, 0.99), "ms"),
    ]
}

/// Of sorted values; 0 if there are none.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted
        .get((last * share) as usize)
        .copied()
        .unwrap_or_default()
}

/// Asks in turn until told to stop; milliseconds of each answer.
async fn ask(client: &Client, turns: &[Question], stop: &AtomicBool) -> anyhow::Result<Vec<f64>> {
    let mut latencies = Vec::new();
    for question in turns.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        client.answer(question.method, &question.body).await?;
        latencies.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(latencies)
}

/// Pushes all bodies, one each `period`, on a thread of its own.
async fn phase(
    client: &Client,
    target: &TargetArgs,
    bodies: Vec<Bytes>,
    period: Duration,
) -> anyhow::Result<Phase> {
    let before = client.metrics().await?;
    let start = Instant::now();
    let (url, tenant) = (target.url.clone(), target.tenant.clone());
    let pushing = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(push_all(&url, tenant.as_deref(), bodies, period))
    });
    let mut acknowledged = pushing.await.context("the pushing thread panicked")??;
    let seconds = start.elapsed().as_secs_f64();
    let after = client.metrics().await?;
    acknowledged.sort_by(f64::total_cmp);
    Ok(Phase {
        acknowledged,
        cpu_seconds: after.since(&before, "process_cpu_seconds_total"),
        seconds,
    })
}

/// Milliseconds from when each push was due to its acknowledgement.
async fn push_all(
    url: &str,
    tenant: Option<&str>,
    bodies: Vec<Bytes>,
    period: Duration,
) -> anyhow::Result<Vec<f64>> {
    let client = Client::new(url, tenant)?;
    let mut due = tokio::time::interval(period);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut pushes = tokio::task::JoinSet::new();
    for body in bodies {
        let due = due.tick().await;
        let client = client.clone();
        pushes.spawn(async move {
            client.push(body).await?;
            anyhow::Ok(due.elapsed().as_secs_f64() * 1000.0)
        });
    }
    let mut latencies = Vec::with_capacity(pushes.len());
    while let Some(done) = pushes.join_next().await {
        latencies.push(done.context("a push panicked")??);
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_sorted_values() {
        let values: Vec<f64> = (1..=101).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), 51.0);
        assert_eq!(percentile(&values, 0.99), 100.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
