//! What probes are told while the object store is away, at the built binary: over gRPC as by
//! `/ready`, to who asks and to who watches.

use std::time::Duration;

use scoria_proto::public::grpc::health::v1::health_check_response::ServingStatus;
use scoria_proto::public::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use scoria_tests::connect::{Encoding, call, watch};
use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, free_port, now_ns};
use scoria_tests::seaweed::Seaweed;

const PATIENCE: Duration = Duration::from_secs(60);
const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// One service among those of the port, and the server as a whole.
const SERVICES: [&str; 2] = ["", "push.v1.PusherService"];

fn asked(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

/// What is answered in every encoding about every service, which is always the same.
fn status(server: &ServerProcess) -> ServingStatus {
    let asked = SERVICES.iter().flat_map(|service| {
        Encoding::ALL.map(|encoding| {
            let answer = call(server, encoding, CHECK, &asked(service));
            let answer: HealthCheckResponse =
                answer.unwrap_or_else(|refused| panic!("{encoding:?} {service}: {refused:?}"));
            answer.status.as_known().expect("a status")
        })
    });
    let all: Vec<ServingStatus> = asked.collect();
    assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
    all[0]
}

fn is_ready(server: &ServerProcess, says: &str) -> u16 {
    let answer = server.ready().expect("an answer");
    assert!(answer.body.contains(says), "{answer:?}");
    answer.status
}

/// A store that goes away turns a running server red once flushing fails again and again, and a
/// store that comes back turns it green, each told to who watches.
#[test]
fn an_outage_of_the_store_is_told_and_its_end_too() {
    let data = tempfile::tempdir().expect("a directory");
    let place = data.path().join("data");
    let sets = [
        "--set",
        "ingester.cut_age=100ms",
        "--set",
        "store.retry_for=100ms",
    ];
    let server = ServerProcess::start(&place, &sets);
    let mut told = watch::<_, HealthCheckResponse>(&server, WATCH, &asked(SERVICES[1]));
    let mut next = || {
        told.next()
            .map(|told| told.status.as_known().expect("a status"))
    };
    assert_eq!(next(), Some(ServingStatus::SERVING));
    assert_eq!(status(&server), ServingStatus::SERVING);
    assert_eq!(is_ready(&server, "ready"), 200);

    let (store, aside) = (place.join("store"), place.join("aside"));
    std::fs::rename(&store, &aside).expect("the store goes");
    std::fs::write(&store, "no directory").expect("something else is there");
    let profile = TestProfile::cpu(now_ns(), [(vec!["main".to_owned()], 7)]);
    let taken = server.ingest("shop", &profile).expect("an answer");
    assert_eq!(taken.status, 200, "the log has it: {}", taken.body);
    assert_eq!(next(), Some(ServingStatus::NOT_SERVING));
    assert_eq!(status(&server), ServingStatus::NOT_SERVING);
    assert_eq!(is_ready(&server, "ingester: flushing failed"), 503);

    std::fs::remove_file(&store).expect("it goes");
    std::fs::rename(&aside, &store).expect("the store is back");
    assert_eq!(next(), Some(ServingStatus::SERVING));
    assert_eq!(status(&server), ServingStatus::SERVING);
    assert_eq!(is_ready(&server, "ready"), 200);
    assert_eq!(server.self_by_function("shop").get("main"), Some(&7));

    assert!(server.terminate().success());
    assert_eq!(next(), Some(ServingStatus::NOT_SERVING), "it stops");
    assert_eq!(next(), None);
}

/// A server that waits for its store at its start is there, and says that it is not ready.
#[test]
fn a_start_without_its_store_is_not_serving() {
    let data = tempfile::tempdir().expect("a directory");
    let arguments = Seaweed::arguments("nobody", free_port());
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.extend(["--set", "store.retry_for=100ms"]);
    let server = ServerProcess::spawn(&data.path().join("data"), &arguments, None);
    let waits = server.wait_for(PATIENCE, || {
        server
            .ready()
            .is_some_and(|answer| answer.body.contains("store: waiting for the object store"))
    });
    assert!(waits, "{:?} {}", server.ready(), server.log_end());
    assert_eq!(status(&server), ServingStatus::NOT_SERVING);
    let mut told = watch::<_, HealthCheckResponse>(&server, WATCH, &asked(""));
    let first = told.next().expect("a status").status.as_known();
    assert_eq!(first, Some(ServingStatus::NOT_SERVING));
}
