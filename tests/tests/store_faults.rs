//! A real S3 server behind a proxy that spoils requests: bursts of 5xx and SlowDown, answers that
//! are lost or come too late after the write has landed, 409 and 412, torn bodies, and outages.
//!
//! `tests/stores/run.sh` runs a short form; `make store-faults ROUNDS=100` a long one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use scoria_model::TenantId;
use scoria_storage::remote::{self, Service};
use scoria_storage::{
    Bucket, ClientSettings, Credentials, GuardedStore, Metrics, RequestMetrics, RequestPolicy,
    Secret, StoreError, TenantFiles, keys,
};
use scoria_tests::fault_proxy::FaultProxy;
use scoria_tests::ledger::Ledger;
use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, now_ns};
use scoria_tests::seaweed::{ACCESS_KEY, BUCKET, SECRET_KEY, Seaweed};

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
    assert_eq!(
        server.total("bulk"),
        (taken * 2000) as f64,
        "every bulky profile counts once"
    );
    let again = server.wait_for(PATIENCE, || ledger.push_one(&server) == Some(200));
    assert!(again, "writes are taken again; {}", server.log_end());
    ledger.check(&server);
    assert!(server.terminate().success());
}

/// Files in several parts (executables that agents upload) through a proxy that spoils their
/// requests: one that was said to be there is whole, any other is whole or not there.
#[test]
#[ignore = "needs a real S3 server; tests/stores/run.sh runs it"]
fn files_in_parts_are_whole_or_not_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let weed = Seaweed::start(&dir.path().join("weed"));
    let proxy = FaultProxy::start(weed.port, number("SCORIA_STORE_SEED", 1), SILENCE);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (spoiled, honest) = (files(proxy.port), files(weed.port));
    let (mut finished, mut torn) = (0, 0);
    for n in 0..number("SCORIA_STORE_UPLOADS", 16) {
        // Three parts, of which none is like another.
        let body: Vec<u8> = (0..5u32 << 20)
            .flat_map(|at| (at ^ (n as u32) << 24).to_le_bytes())
            .collect();
        let build_id = format!("build-{n}");
        let key = keys::debug_info_exe(&TenantId::anonymous(), &build_id);
        proxy.spoil(if n % 4 == 0 { 0 } else { 250 });
        let upload = runtime.block_on(upload(&spoiled, &build_id, &body));
        let read = runtime.block_on(honest.get(&key, u64::MAX));
        let read = read.expect("the store itself is fine");
        match (&upload, read) {
            (Ok(bytes), Some(read)) => {
                assert_eq!(*bytes, body.len() as u64);
                assert!(read == body, "file {n} is not what was sent");
                finished += 1;
            }
            (Ok(_), None) => panic!("file {n} was said to be there and is not"),
            (Err(_), Some(read)) => assert!(read == body, "file {n} is a part of what was sent"),
            (Err(_), None) => torn += 1,
        }
    }
    eprintln!("{finished} whole, {torn} torn, {} faults", proxy.faults());
    assert!(finished >= 4 && proxy.faults() > 0);
}

async fn upload(files: &TenantFiles, build_id: &str, body: &[u8]) -> Result<u64, StoreError> {
    let key = keys::debug_info_exe(&TenantId::anonymous(), build_id);
    let mut upload = files.start(key).await?;
    for part in body.chunks(1 << 20) {
        upload.append(Bytes::copy_from_slice(part)).await?;
    }
    upload.finish().await
}

/// What tenants keep, through this port, with the guard that the server has around its client.
fn files(port: u16) -> TenantFiles {
    let bucket = Bucket {
        service: Service::S3,
        name: BUCKET.to_owned(),
        prefix: "uploads".to_owned(),
    };
    let settings = ClientSettings {
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        credentials: Credentials::Static {
            access_key_id: ACCESS_KEY.to_owned(),
            secret_access_key: Secret(SECRET_KEY.to_owned()),
            session_token: Secret::default(),
        },
        ..ClientSettings::default()
    };
    let client = remote::client(&bucket, &settings).expect("a client");
    let policy = RequestPolicy {
        timeout: Duration::from_secs(1),
        retry_for: Duration::from_secs(5),
        ..RequestPolicy::remote()
    };
    let guarded = GuardedStore::new(client, policy, RequestMetrics::unregistered(BUCKET));
    TenantFiles::new(Arc::new(guarded), Metrics::unregistered())
}
