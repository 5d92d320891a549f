//! The server as its own client: takes CPU profiles of this process and pushes them to its own
//! listener, by the API that everyone else uses.
//!
//! # Invariants
//! - It never stops the server: whatever fails is logged, and the next interval tries again.
//! - It runs on its own thread; taking and symbolising a profile holds up nobody.

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

/// Starts profiling if the configuration asks for it.
pub(crate) fn start(config: &Config, listening: SocketAddr) -> Option<SelfProfiler> {
    let settings = config.self_profiling.clone();
    if !settings.enabled {
        return None;
    }
    let url = format!("http://{}", reachable(listening));
    let (end, ended) = channel();
    let runtime = tokio::runtime::Handle::current();
    let started = thread::Builder::new()
        .name("self-profiler".to_owned())
        .spawn(move || run(&settings, &url, &ended, &runtime));
    match started {
        Ok(_) => Some(SelfProfiler(end)),
        Err(error) => {
            tracing::warn!(%error, "self-profiling cannot start");
            None
        }
    }
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

fn run(
    settings: &SelfProfilingConfig,
    url: &str,
    ended: &Receiver<()>,
    runtime: &tokio::runtime::Handle,
) {
    let client = match Client::new(url, Some(&settings.tenant)) {
        Ok(client) => client,
        Err(error) => return tracing::warn!("self-profiling cannot start: {error:#}"),
    };
    let interval = settings.interval.0.max(Duration::from_secs(1));
    loop {
        let guard = pprof::ProfilerGuardBuilder::default()
            .frequency(
                i32::try_from(settings.frequency_hz)
                    .unwrap_or(100)
                    .clamp(1, 1000),
            )
            .blocklist(&BLOCKED)
            .build();
        if ended.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let pushed = guard
            .context("taking a profile")
            .and_then(|guard| encode(&guard))
            .and_then(|profile| {
                let upload = Upload {
                    labels: vec![
                        ("__name__".to_owned(), "process_cpu".to_owned()),
                        ("service_name".to_owned(), settings.service_name.clone()),
                        ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                    ],
                    profile,
                };
                runtime.block_on(client.push(upload))
            });
        if let Err(error) = pushed {
            tracing::warn!("a profile of the server itself was lost: {error:#}");
        }
    }
}

fn encode(guard: &pprof::ProfilerGuard<'_>) -> anyhow::Result<Vec<u8>> {
    let report = guard
        .report()
        .frames_post_processor(drop_handler)
        .build()
        .context("building the report")?;
    let profile = report.pprof().context("writing the pprof")?;
    let mut bytes = Vec::with_capacity(profile.encoded_len());
    profile.encode(&mut bytes).context("encoding the pprof")?;
    Ok(bytes)
}

/// Takes the profiler's own frames off the leaf: its signal handler, what that called, and the
/// trampoline that the kernel put below it.
fn drop_handler(frames: &mut pprof::Frames) {
    let is_handler = |frame: &Vec<pprof::Symbol>| {
        let mut names = frame.iter().filter_map(|symbol| symbol.name.as_deref());
        names.any(|name| contains(name, b"perf_signal_handler"))
    };
    let Some(handler) = frames.frames.iter().rposition(is_handler) else {
        return;
    };
    let below = frames.frames.get(handler + 1);
    let trampoline = below.is_some_and(|frame| {
        frame.iter().all(|symbol| {
            let name = symbol.name.as_deref();
            name.is_none_or(|name| contains(name, b"restore_rt") || contains(name, b"sigaction"))
        })
    });
    frames.frames.drain(..=handler + usize::from(trampoline));
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
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
