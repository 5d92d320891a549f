//! Nothing acknowledged is lost, nothing counts twice: across kills at every point, resends,
//! flushes, damaged segments and failing disks.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use std::time::Duration;

use support::{Node, TENANT, TIME_NS, is_retryable, part, part_at};

const STORED: i32 = 1;
const DUPLICATE: i32 = 2;
const HOUR_NS: i64 = 3_600_000_000_000;

#[tokio::test]
async fn visible_at_once_and_still_there_after_a_kill() {
    let mut node = Node::start().await;
    node.push_new(&[1, 2]).await;
    node.push_new(&[3]).await;
    node.assert_stored_once(1..=3).await;
    for _ in 0..3 {
        node.restart().await;
        node.assert_stored_once(1..=3).await;
    }
    node.push_new(&[4]).await;
    node.assert_stored_once(1..=4).await;
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let node = Node::start().await;
    node.push_new(&[1]).await;
    let pin = node.catalogue.state();
    let other = node.select(&pin, "team-b").await;
    assert!(support::counts(&other).is_empty());
    assert_eq!(support::counts(&node.select(&pin, TENANT).await).len(), 1);
}

#[tokio::test]
async fn many_writers_share_batches_and_all_are_stored() {
    let node = Node::start().await;
    let pushes = (1..=200u64).map(|n| {
        let service = node.service();
        tokio::spawn(async move {
            use scoria_proto::ingester::{Ingester as _, PushRequest};
            let request = PushRequest {
                tenant: TENANT.to_owned(),
                parts: vec![part(n), part(n.div_ceil(2))],
            };
            let answer = service.push(tonic::Request::new(request)).await.unwrap();
            answer.into_inner().outcomes
        })
    });
    for push in pushes.collect::<Vec<_>>() {
        assert_eq!(push.await.unwrap().len(), 2);
    }
    node.assert_stored_once(1..=200).await;
}

#[tokio::test]
async fn resends_count_once_across_restart_flush_and_truncation() {
    let mut node = Node::start().await;
    node.push_new(&[1, 2]).await;
    let again = node.push(&[2, 3, 3]).await.unwrap();
    assert_eq!(again, [DUPLICATE, STORED, DUPLICATE]);
    node.restart().await;
    assert_eq!(node.push(&[1, 3]).await.unwrap(), [DUPLICATE, DUPLICATE]);

    // Flushed, its segment gone, and killed: the key lies in the next segment.
    let old = node.segments();
    node.push_new(&[4]).await;
    node.clock.advance(Duration::from_secs(500));
    node.push_new(&[5]).await;
    node.clock.advance(Duration::from_secs(401));
    node.until("the truncation", || {
        node.segments().iter().all(|s| !old.contains(s)) && node.segments().len() == 1
    })
    .await;
    // The first ones are older than the window, the last one is not.
    assert_eq!(node.push(&[5]).await.unwrap(), [DUPLICATE]);
    node.restart().await;
    assert_eq!(node.push(&[5]).await.unwrap(), [DUPLICATE]);
    node.assert_stored_once(1..=5).await;
    node.clock.advance(Duration::from_secs(200));
    assert_eq!(node.push(&[5]).await.unwrap(), [STORED]);
}

#[tokio::test]
async fn two_tenants_may_use_the_same_key() {
    use scoria_proto::ingester::{Ingester as _, PushRequest};
    let node = Node::start().await;
    node.push_new(&[1]).await;
    let request = PushRequest {
        tenant: "team-b".to_owned(),
        parts: vec![part(1)],
    };
    let answer = node.service().push(tonic::Request::new(request)).await;
    assert_eq!(answer.unwrap().into_inner().outcomes, [STORED]);
}

#[tokio::test]
async fn a_flush_moves_everything_into_blocks_by_the_hour() {
    let mut node = Node::start().await;
    node.push_new(&[1, 2]).await;
    let earlier = part_at(3, TIME_NS - 2 * HOUR_NS);
    node.push_parts(vec![earlier]).await.unwrap();
    node.cut_and_commit().await;
    let state = node.catalogue.state();
    assert_eq!(state.blocks().len(), 2);
    for block in state.blocks() {
        assert_eq!(block.level, 0);
        assert_eq!((block.streams[0].from.0, block.streams[0].to.0), (0, 2));
    }
    node.assert_stored_once(1..=3).await;
    // An older pin is still answered from the heads.
    let old = node.select(&Default::default(), TENANT).await;
    assert_eq!((old.gone, support::counts(&old).len()), (false, 3));

    // After the grace period it is told so.
    node.pass_time_until("the end of grace", Duration::from_secs(30), || {
        node.heads.used() == 0
    })
    .await;
    assert!(node.select(&Default::default(), TENANT).await.gone);
    node.restart().await;
    node.assert_stored_once(1..=3).await;
}

#[tokio::test]
async fn killed_between_upload_and_commit_nothing_is_lost_or_doubled() {
    let mut node = Node::start().await;
    node.push_new(&[1, 2]).await;
    node.catalogue_store.plan(|plan| plan.begin_outage());
    node.clock.advance(node.settings.stream.cut_age);
    node.until("the upload", || {
        let requests = node.block_store.requests();
        requests.iter().any(|r| r.contains("manifest"))
    })
    .await;
    // Writes and reads go on.
    node.push_new(&[3]).await;
    node.kill();
    node.catalogue_store.plan(|plan| plan.end_outage());
    node.restart().await;
    node.assert_stored_once(1..=3).await;
    node.until("the commit of the old stream", || {
        node.catalogue.state().blocks().len() == 2
    })
    .await;
    node.assert_stored_once(1..=3).await;
}

#[tokio::test]
async fn killed_between_commit_and_truncation_nothing_doubles() {
    let mut node = Node::start().await;
    node.push_new(&[1, 2]).await;
    node.faults.lock().delete_fails = true;
    node.cut_and_commit().await;
    let blocks = node.catalogue.state().blocks().len();
    node.push_new(&[3]).await;
    assert_eq!(node.segments().len(), 2);
    node.restart().await;
    node.assert_stored_once(1..=3).await;
    node.until("the old segments to go", || node.segments().len() == 1)
        .await;
    assert_eq!(node.catalogue.state().blocks().len(), blocks + 1);
    node.assert_stored_once(1..=3).await;
}

#[tokio::test]
async fn a_store_that_is_away_turns_red_stops_no_writes_and_recovers() {
    let node = Node::start().await;
    node.push_new(&[1]).await;
    node.block_store.plan(|plan| plan.begin_outage());
    node.pass_time_until("red", Duration::from_secs(60), || {
        !node.running().status().is_ready()
    })
    .await;
    node.push_new(&[2]).await;
    node.assert_stored_once(1..=2).await;
    node.block_store.plan(|plan| plan.end_outage());
    node.pass_time_until("green", Duration::from_secs(10), || {
        node.running().status().is_ready() && node.catalogue.state().blocks().len() > 0
    })
    .await;
    node.assert_stored_once(1..=2).await;
}

async fn refused_then_recovered(break_disk: impl Fn(&mut support::DiskFaults)) {
    let mut node = Node::start().await;
    node.push_new(&[1]).await;
    break_disk(&mut node.faults.lock());
    let refused = node.push(&[2]).await.unwrap_err();
    assert!(is_retryable(&refused), "{refused:?}");
    let refused = node.push(&[2]).await.unwrap_err();
    assert!(is_retryable(&refused), "{refused:?}");
    assert!(!node.running().status().is_ready());
    node.assert_stored_once([1]).await;

    *node.faults.lock() = support::DiskFaults::default();
    node.pass_time_until("green", Duration::from_millis(200), || {
        node.running().status().is_ready()
    })
    .await;
    // The resend of what failed is new, whatever of it reached the disk.
    node.push_new(&[2]).await;
    node.push_new(&[3]).await;
    node.assert_stored_once(1..=3).await;
    node.restart().await;
    node.assert_stored_once(1..=3).await;
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    refused_then_recovered(|faults| {
        faults.full = Some(10);
        faults.create_fails = true;
    })
    .await;
}

/// The old segment may go only when a new one carries its keys, and a new one can be opened only in
/// the space that is kept for it.
#[tokio::test]
async fn a_disk_filled_by_the_log_itself_gets_free_again() {
    let mut node = Node::start().await;
    node.push_new(&[1]).await;
    let old = node.segments();
    {
        let mut faults = node.faults.lock();
        faults.full = Some(0);
        faults.reserved = true;
    }
    node.push(&[2]).await.unwrap_err();
    node.faults.lock().full = None;
    node.pass_time_until("the old segment to go", Duration::from_millis(200), || {
        node.running().status().is_ready() && !node.segments().contains(&old[0])
    })
    .await;
    assert_eq!(node.push(&[1, 2]).await.unwrap(), [DUPLICATE, STORED]);
    node.restart().await;
    node.assert_stored_once(1..=2).await;
}

#[tokio::test]
async fn a_failed_sync_refuses_and_recovers_although_the_record_is_on_the_disk() {
    refused_then_recovered(|faults| faults.sync_fails = true).await;
}

#[tokio::test]
async fn a_failed_record_that_reached_the_disk_counts_once_if_no_segment_followed() {
    let mut node = Node::start().await;
    node.push_new(&[1]).await;
    node.faults.lock().sync_fails = true;
    node.push(&[2]).await.unwrap_err();
    node.restart().await;
    let stored = node.stored().await;
    assert_eq!(stored[&1], 1);
    let again = node.push(&[2]).await.unwrap();
    let expected = if stored.contains_key(&2) {
        DUPLICATE
    } else {
        STORED
    };
    assert_eq!(again, [expected]);
    node.assert_stored_once(1..=2).await;
}

/// Pushes five batches, kills, and lets `damage` change the segment.
async fn damaged(damage: impl Fn(&mut Vec<u8>)) -> Node {
    let mut node = Node::start().await;
    for n in 1..=5 {
        node.push_new(&[n]).await;
    }
    node.kill();
    let path = node.segments()[0].clone();
    let mut bytes = std::fs::read(&path).unwrap();
    damage(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    node.restart().await;
    node
}

fn frames(bytes: &[u8]) -> Vec<usize> {
    let found = bytes.windows(4).enumerate();
    found
        .filter(|(_, w)| w == b"SFRM")
        .map(|(at, _)| at)
        .collect()
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_nothing_is_said() {
    let node = damaged(|bytes| {
        let last = *frames(bytes).last().unwrap();
        bytes.extend_from_within(last..bytes.len() - 1);
    })
    .await;
    node.assert_stored_once(1..=5).await;
    assert!(node.running().status().warnings.is_empty());
    assert_eq!(node.quarantined(), 0);
}

#[tokio::test]
async fn damage_in_the_middle_is_reported_and_kept_and_what_precedes_it_is_served() {
    let mut node = damaged(|bytes| {
        let third = frames(bytes)[2];
        bytes[third + 40] ^= 1;
    })
    .await;
    node.assert_stored_once(1..=2).await;
    let status = node.running().status();
    assert!(status.is_ready());
    assert_eq!(status.warnings.len(), 1);
    assert!(status.warnings[0].contains("node-0."), "{status:?}");
    assert!(status.warnings[0].contains("offset"), "{status:?}");
    assert_eq!(node.quarantined(), 1);
    // What is lost may be sent again.
    node.push_new(&[3, 4, 5]).await;
    node.until("the flush of the rest", || node.segments().len() == 1)
        .await;
    node.restart().await;
    node.assert_stored_once(1..=5).await;
    assert_eq!(node.quarantined(), 1);
}

#[tokio::test]
async fn a_damaged_header_puts_the_segment_into_quarantine() {
    let mut node = damaged(|bytes| bytes[20] ^= 1).await;
    assert!(node.stored().await.is_empty());
    assert_eq!(node.running().status().warnings.len(), 1);
    assert_eq!(node.quarantined(), 1);
    node.push_new(&[1]).await;
    assert_eq!(node.segments().len(), 1);
    node.restart().await;
    node.assert_stored_once([1]).await;
    assert!(node.running().status().warnings.is_empty());
}

#[tokio::test]
async fn hostile_requests_are_refused_with_the_part_named() {
    let node = Node::start().await;
    let mut broken = part(1).to_vec();
    broken.truncate(90);
    let error = node
        .push_parts(vec![part(2), broken.into()])
        .await
        .unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().contains("part 1"), "{error:?}");
    assert!(node.stored().await.is_empty());
    assert!(node.push(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn heads_over_their_budget_refuse_cut_and_flush() {
    let node = Node::start_with(|settings| settings.heads_cut_bytes = 1 << 20).await;
    // Somebody else holds nearly all of the memory.
    let taken = node.heads.try_acquire((64 << 20) - 1024).unwrap();
    let refused = node.push(&[1, 2, 3, 4, 5, 6]).await.unwrap_err();
    assert!(is_retryable(&refused), "{refused:?}");
    drop(taken);
    node.push_new(&[1, 2, 3, 4, 5, 6]).await;
    node.assert_stored_once(1..=6).await;
}

#[tokio::test]
async fn a_large_generation_is_cut_early() {
    let node = Node::start_with(|settings| settings.heads_cut_bytes = 1000).await;
    node.push_new(&[1]).await;
    node.pass_time_until("a cut", node.settings.tick, || {
        node.catalogue.state().blocks().len() == 1
    })
    .await;
    node.assert_stored_once([1]).await;
}

const BEYOND_RESERVE: &str = "scoria_ingester_flush_beyond_reserve_bytes_total";

#[tokio::test]
async fn a_generation_is_cut_before_its_flush_outgrows_the_reserve() {
    // A flush takes 1 MiB and something for each sample: three quarters of this are just below.
    let node = Node::start_with_reserve((1 << 20) / 3 * 4, |_| {}).await;
    for n in 1..=3 {
        node.push_new(&[n]).await;
        node.pass_time_until("a cut", node.settings.tick, || {
            node.catalogue.state().blocks().len() == n as usize
        })
        .await;
    }
    assert_eq!(node.metric(BEYOND_RESERVE), 0);
    node.assert_stored_once(1..=3).await;
}

#[tokio::test]
async fn a_generation_larger_than_the_reserve_is_flushed_and_the_excess_is_counted() {
    let node = Node::start_with_reserve(1000, |_| {}).await;
    node.push_new(&[1, 2]).await;
    node.pass_time_until("a cut", node.settings.tick, || {
        node.catalogue.state().blocks().len() == 1
    })
    .await;
    let beyond = node.metric(BEYOND_RESERVE);
    assert!(beyond >= (1 << 20) - 1000, "{beyond}");
    node.assert_stored_once([1, 2]).await;
}

#[tokio::test]
async fn shutdown_flushes_and_a_resend_after_it_is_recognised() {
    let mut node = Node::start().await;
    node.push_new(&[1]).await;
    let running = node.take_running();
    let ended = running.shutdown(Duration::from_secs(60)).await;
    assert_eq!(ended, scoria_ingester::Shutdown::Flushed);
    let state = node.catalogue.state();
    assert_eq!(state.blocks().len(), 1);
    assert!(state.streams().all(|(_, s)| s.is_finished()));
    node.restart().await;
    assert_eq!(node.push(&[1]).await.unwrap(), [DUPLICATE]);
    node.assert_stored_once([1]).await;
}

#[tokio::test]
async fn shutdown_without_a_store_leaves_the_rest_in_the_log() {
    let mut node = Node::start().await;
    node.push_new(&[1]).await;
    node.block_store.plan(|plan| plan.begin_outage());
    let running = node.take_running();
    let ended = running.shutdown(Duration::from_millis(50)).await;
    assert_eq!(ended, scoria_ingester::Shutdown::LeftInLog);
    node.block_store.plan(|plan| plan.end_outage());
    node.restart().await;
    node.assert_stored_once([1]).await;
}

#[tokio::test]
async fn one_process_per_directory() {
    let mut node = Node::start().await;
    node.kill();
    let start = || scoria_ingester::Ingester::start(node.settings.clone(), node.components());
    let first = start().await.unwrap();
    let second = start().await.unwrap_err();
    assert!(second.to_string().contains("in use"), "{second}");
    drop(first);
    start().await.unwrap();
}
