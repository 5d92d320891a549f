//! The server as its own client: takes CPU profiles of this process and pushes them to its own
//! listener, by the API that everyone else uses.
//!
//! # Invariants
//! - It never stops the server: whatever fails is logged, and the next interval tries again.
//! - It runs on its own thread; taking and symbolising a profile holds up nobody.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use pprof::protos::Message;

use crate::client::{Client, Upload};
use crate::config::{Config, SelfProfilingConfig};

/// Libraries inside which no stack is taken: unwinding through their locks and signal frames is
/// what makes in-process profilers hang.
const BLOCKED: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// Profiling until dropped.
#[derive(Debug)]
pub(crate) struct SelfProfiler(
    #[allow(dead_code, reason = "dropping it is what ends the thread")] Sender<()>,
);

/// Starts profiling if the configuration asks for it, and returns once it samples, so that the
/// start of the roles is in the first profile.
pub(crate) async fn start(config: &Config, listening: SocketAddr) -> Option<SelfProfiler> {
    let settings = config.self_profiling.clone();
    if !settings.enabled {
        return None;
    }
    let url = format!("http://{}", reachable(listening));
    let (end, ended) = channel();
    let (sampling, samples) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let profiler = move || {
        let guard = sample(&settings);
        // Nobody listens if the start was given up.
        let _ = sampling.send(());
        run(&settings, &url, guard, &ended, &runtime);
    };
    let started = thread::Builder::new()
        .name("self-profiler".to_owned())
        .spawn(profiler);
    if let Err(error) = started {
        tracing::warn!(%error, "self-profiling cannot start");
        return None;
    }
    // An error means that the thread has ended, and it has said why.
    let _ = samples.await;
    Some(SelfProfiler(end))
}

/// The address by which this process reaches its own listener.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, listening.port())
}

type Guard = pprof::ProfilerGuard<'static>;

fn sample(settings: &SelfProfilingConfig) -> pprof::Result<Guard> {
    let frequency = i32::try_from(settings.frequency_hz).unwrap_or(100);
    pprof::ProfilerGuardBuilder::default()
        .frequency(frequency.clamp(1, 1000))
        .blocklist(&BLOCKED)
        .build()
}

fn run(
    settings: &SelfProfilingConfig,
    url: &str,
    first: pprof::Result<Guard>,
    ended: &Receiver<()>,
    runtime: &tokio::runtime::Handle,
) {
    let client = match Client::new(url, Some(&settings.tenant)) {
        Ok(client) => client,
        Err(error) => return tracing::warn!("self-profiling cannot start: {error:#}"),
    };
    let interval = settings.interval.0.max(Duration::from_secs(1));
    let mut guard = first;
    loop {
        if ended.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let taken = guard
            .context("taking a profile")
            .and_then(|guard| Ok(guard.report().build_unresolved()?));
        // The next interval begins before this one is worked out, so that this work shows, too.
        guard = sample(settings);
        let pushed = taken.and_then(|report| {
            if report.data.is_empty() {
                return Ok(());
            }
            let upload = Upload {
                labels: vec![
                    ("__name__".to_owned(), "process_cpu".to_owned()),
                    ("service_name".to_owned(), settings.service_name.clone()),
                    ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                ],
                profile: encode(report)?,
            };
            runtime.block_on(client.push(upload))
        });
        if let Err(error) = pushed {
            tracing::warn!("a profile of the server itself was lost: {error:#}");
        }
    }
}

/// Finds the names of the frames, and writes a pprof.
fn encode(report: pprof::UnresolvedReport) -> anyhow::Result<Vec<u8>> {
    let mut data: HashMap<pprof::Frames, isize> = HashMap::new();
    for (frames, count) in report.data {
        let mut frames = pprof::Frames::from(frames);
        drop_handler(&mut frames);
        *data.entry(frames).or_default() += count;
    }
    let report = pprof::Report {
        data,
        timing: report.timing,
    };
    let profile = report.pprof().context("writing the pprof")?;
    let mut bytes = Vec::with_capacity(profile.encoded_len());
    profile.encode(&mut bytes).context("encoding the pprof")?;
    Ok(bytes)
}

/// Takes the profiler's own frames off the leaf: what its signal handler called.
fn drop_handler(frames: &mut pprof::Frames) {
    let of_handler = |frame: &Vec<pprof::Symbol>| {
        frame
            .iter()
            .map(pprof::Symbol::name)
            .any(|name| name.contains("perf_signal_handler") || name.contains("pprof::backtrace::"))
    };
    if let Some(handler) = frames.frames.iter().rposition(of_handler) {
        frames.frames.drain(..=handler);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_reached_over_loopback() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:4040"), "127.0.0.1:4040");
        assert_eq!(reached("[::]:1"), "[::1]:1");
        assert_eq!(reached("192.0.2.1:7"), "192.0.2.1:7");
    }
}
