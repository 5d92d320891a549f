//! A real S3 server behind a proxy that spoils requests: bursts of 5xx and SlowDown, answers that
//! are lost or come too late after the write has landed, 409 and 412, torn bodies, and outages.
//!
//! `tests/stores/run.sh` runs a short form; `make store-faults ROUNDS=100` a long one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scoria_tests::fault_proxy::FaultProxy;
use scoria_tests::ledger::Ledger;
use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, now_ns};
use scoria_tests::seaweed::Seaweed;

/// Longer than `store.request_timeout` below.
const SILENCE: Duration = Duration::from_millis(1500);
/// How long anything may take that is waited for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

fn arguments(port: u16, settings: &[&str]) -> Vec<String> {
    let mut arguments = Seaweed::arguments("faults", port);
    let common = [
        "store.request_timeout=1s",
        "store.retry_for=5s",
        "ingester.cut_age=300ms",
    ];
    for setting in common.iter().chain(settings) {
        arguments.extend(["--set".to_owned(), (*setting).to_owned()]);
    }
    arguments
}

fn spawn(data: &Path, arguments: &[String]) -> ServerProcess {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    ServerProcess::spawn(data, &arguments, None)
}

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Writes while requests go wrong, until enough of them did, then kills -9 or stops; after each
/// round, with the proxy honest again, everything that was acknowledged is there once.
#[test]
#[ignore = "needs a real S3 server; tests/stores/run.sh runs it"]
fn spoiled_requests_lose_and_double_nothing() {
    let (rounds, seed) = (
        number("SCORIA_STORE_ROUNDS", 3),
        number("SCORIA_STORE_SEED", 1),
    );
    let dir = tempfile::tempdir().expect("a directory");
    let weed = Seaweed::start(&dir.path().join("weed"));
    let data = dir.path().join("data");
    let ledger = Ledger::new("spoiled");
    for round in 0..rounds {
        let seed = seed.wrapping_mul(1000).wrapping_add(round);
        eprintln!("round {round}: SCORIA_STORE_SEED gives {seed}");
        let proxy = FaultProxy::start(weed.port, seed, SILENCE);
        let arguments = arguments(proxy.port, &[]);
        let server = spawn(&data, &arguments);
        server.wait_until_ready();
        ledger.check(&server);
        proxy.spoil(250);
        let stop = AtomicBool::new(false);
        let before = ledger.acknowledged();
        std::thread::scope(|scope| {
            scope.spawn(|| ledger.write_until(&server, &stop));
            let enough = || proxy.faults() >= 25 && ledger.acknowledged() > before + 20;
            let reached = server.wait_for(PATIENCE, enough);
            stop.store(true, Ordering::Release);
            assert!(reached, "{} faults; {}", proxy.faults(), server.log_end());
        });
        if round % 2 == 0 {
            server.kill();
        } else {
            // Some requests of the drain go wrong, too; what does not get out stays in the log.
            assert!(server.terminate().success());
        }
        proxy.spoil(0);
        let server = spawn(&data, &arguments);
        server.wait_until_ready();
        ledger.check(&server);
        server.kill();
    }
}

/// A profile of many stacks that no other has, so that memory fills quickly.
fn bulky(n: u64) -> TestProfile {
    let stacks = (0..2000u64).map(|i| {
        let id = n * 2000 + i;
        let frames = (0..10).map(|depth| format!("fn_{:x}_{depth}", id ^ (depth * 77)));
        (frames.collect(), 1)
    });
    TestProfile::cpu(now_ns(), stacks)
}

/// The store is gone for as long as it takes to fill what the log may hold: until then everything
/// is taken, then refused with 503 or 429 and a time to come back. Restarted in the outage, the
/// server waits and says for what; when the store is back, everything acknowledged is there once,
/// and writes are taken again.
#[test]
#[ignore = "needs a real S3 server; tests/stores/run.sh runs it"]
fn an_outage_is_bridged_up_to_the_limit_also_by_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let weed = Seaweed::start(&dir.path().join("weed"));
    let data = dir.path().join("data");
    let proxy = FaultProxy::start(weed.port, 7, SILENCE);
    let arguments = arguments(proxy.port, &["memory.limit=192MiB"]);
    let server = spawn(&data, &arguments);
    server.wait_until_ready();
    let ledger = Ledger::new("bridged");
    assert_eq!(ledger.push_one(&server), Some(200));

    proxy.begin_outage();
    for _ in 0..20 {
        assert_eq!(ledger.push_one(&server), Some(200), "{}", server.log_end());
    }
    let mut taken = 0u64;
    let mut refusal = None;
    let full = server.wait_for(PATIENCE, || {
        let answer = server.ingest("bulk", &bulky(taken)).expect("an answer");
        match answer.status {
            200 => {
                taken += 1;
                false
            }
            _ => {
                refusal = Some(answer);
                true
            }
        }
    });
    assert!(full, "{taken} bulky profiles were taken without an end");
    let refusal = refusal.expect("it was refused");
    assert!([429, 503].contains(&refusal.status), "{refusal:?}");
    assert!(refusal.retry_after.is_some(), "{refusal:?}");
    assert!(taken > 0, "{refusal:?}");
    server.kill();

    let server = spawn(&data, &arguments);
    let said = server.wait_for(PATIENCE, || {
        server
            .ready()
            .is_some_and(|a| a.status == 503 && a.body.contains("waiting for the object store"))
    });
    assert!(said, "{:?} {}", server.ready(), server.log_end());
    assert_eq!(ledger.push_one(&server), Some(503));

    proxy.end_outage();
    server.wait_until_ready();
    ledger.check(&server);
    let bulk = server.self_by_function("bulk");
    let total: i64 = bulk.values().sum();
    assert_eq!(
        total,
        taken as i64 * 2000,
        "every bulky profile counts once"
    );
    let again = server.wait_for(PATIENCE, || ledger.push_one(&server) == Some(200));
    assert!(again, "writes are taken again; {}", server.log_end());
    ledger.check(&server);
    assert!(server.terminate().success());
}
