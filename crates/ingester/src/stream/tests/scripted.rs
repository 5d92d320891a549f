//! One test for each rule.

use super::*;

#[test]
fn requests_wait_for_the_batch_and_the_next_batch_takes_all() {
    let mut rig = Rig::ready();
    let first = rig.push(&[1]);
    let second = rig.push(&[2]);
    let third = rig.push(&[3, 4]);
    assert!(rig.acked.is_empty());
    assert_eq!(rig.appending.as_ref().unwrap().1.len(), 1);
    rig.appended();
    assert_eq!(rig.acked.keys().copied().collect::<Vec<_>>(), [first]);
    assert_eq!(rig.visible, 1);
    assert_eq!(rig.appending.as_ref().unwrap().1.len(), 2);
    rig.appended();
    assert_eq!(rig.acked[&second], [Outcome::Stored]);
    assert_eq!(rig.acked[&third], [Outcome::Stored, Outcome::Stored]);
    assert_eq!(rig.visible, 3);
}

#[test]
fn a_resend_shares_the_outcome_of_the_copy_in_flight() {
    let mut rig = Rig::ready();
    rig.push(&[1]);
    let in_flight = rig.push(&[1]);
    rig.push(&[2]);
    let queued = rig.push(&[2]);
    let mixed = rig.push(&[1, 3, 3]);
    assert!(rig.acked.is_empty());
    rig.appended();
    assert_eq!(rig.acked[&in_flight], [Outcome::Duplicate]);
    assert!(!rig.acked.contains_key(&queued));
    rig.append_fails(0);
    assert!(rig.failed.contains_key(&queued));
    assert!(rig.failed.contains_key(&mixed));

    rig.wait(1);
    rig.opened();
    let again = rig.push(&[2]);
    let stored_before = rig.push(&[1]);
    assert_eq!(rig.acked[&stored_before], [Outcome::Duplicate]);
    rig.appended();
    assert_eq!(rig.acked[&again], [Outcome::Stored]);
    assert!(rig.stored().values().all(|&n| n == 1));
}

#[test]
fn parts_without_a_key_are_never_resends() {
    let mut rig = Rig::ready();
    let request = RequestId(99);
    rig.input(Input::Push(Push {
        request,
        keys: vec![NO_KEY, NO_KEY],
        bytes: 1,
        payload: vec![key(1), key(2)],
    }));
    rig.appended();
    assert_eq!(rig.acked[&99], [Outcome::Stored, Outcome::Stored]);
}

#[test]
fn a_failed_append_seals_the_generation_and_its_numbers_are_given_out_again() {
    let mut rig = Rig::ready();
    rig.push(&[1]);
    rig.appended();
    let lost = rig.push(&[2]);
    // The record reached the disk although the sync failed.
    rig.append_fails(1);
    assert!(matches!(rig.failed[&lost], Refusal::LogUnavailable { .. }));
    assert!(matches!(rig.problems[..], [Problem::Log { .. }]));

    // Refused cheaply until a segment opens, which is tried each second.
    let refused = rig.push(&[3]);
    assert!(rig.failed.contains_key(&refused));
    assert!(rig.opening.is_none());
    rig.wait(1);
    rig.open_fails();
    rig.wait(1);
    assert!(!rig.problems.is_empty());
    rig.opened();
    assert!(rig.problems.is_empty());

    let resent = rig.push(&[2]);
    rig.appended();
    assert_eq!(rig.acked[&resent], [Outcome::Stored]);
    // The copy in the older segment does not count.
    assert_eq!(rig.stored()[&key(2)], 1);
    assert_eq!(rig.stored()[&key(1)], 1);
}

#[test]
fn a_cut_flushes_in_order_and_truncates_after_the_commit() {
    let mut rig = Rig::ready();
    rig.push(&[1]);
    rig.appended();
    rig.input(Input::Cut(CutReason::Age));
    assert_eq!(rig.flushing, Some((1, 0, 1)));
    rig.uploaded();
    rig.commit_ends();
    // The next segment, which carries the keys, is not durable yet.
    assert!(rig.deleted.is_empty());
    rig.opened();
    assert_eq!(rig.deleted, [1]);

    // A resend is recognised although its record has left the log.
    let resent = rig.push(&[1]);
    assert_eq!(rig.acked[&resent], [Outcome::Duplicate]);
    assert_eq!(rig.keys_on_disk().len(), 1);

    rig.wait(359);
    assert!(rig.dropped.is_empty());
    rig.wait(1);
    assert_eq!(rig.dropped, [1]);
}

#[test]
fn an_empty_generation_is_not_cut() {
    let mut rig = Rig::ready();
    rig.input(Input::Cut(CutReason::Memory));
    assert!(rig.opening.is_none() && rig.flushing.is_none());
}

#[test]
fn age_and_log_bytes_cut() {
    let mut rig = Rig::with(StreamSettings {
        cut_log_bytes: 2,
        ..StreamSettings::default()
    });
    rig.opened();
    rig.push(&[1]);
    rig.appended();
    rig.wait(899);
    assert!(rig.flushing.is_none());
    rig.wait(1);
    assert!(rig.flushing.is_some());
    rig.opened();
    rig.push(&[2]);
    rig.push(&[3]);
    rig.appended();
    assert!(rig.opening.is_none());
    rig.appended();
    assert!(rig.opening.is_some());
}

#[test]
fn what_queues_during_a_cut_goes_to_the_next_generation() {
    let mut rig = Rig::ready();
    rig.push(&[1]);
    let waits = rig.push(&[2]);
    rig.input(Input::Cut(CutReason::Memory));
    assert!(rig.opening.is_none());
    rig.appended();
    assert!(rig.appending.is_none());
    rig.opened();
    rig.appended();
    assert_eq!(rig.acked[&waits], [Outcome::Stored]);
    assert_eq!(rig.disk.segments[&2].first_seq, 2);
    assert_eq!(rig.disk.segments[&2].records.len(), 1);
}

#[test]
fn a_commit_whose_reply_was_lost_counts_once() {
    let mut rig = Rig::ready();
    rig.push(&[1]);
    rig.appended();
    rig.input(Input::Cut(CutReason::Age));
    rig.opened();
    rig.uploaded();
    // It lands after the ingester stopped waiting and read the catalogue.
    let delayed = rig.committing.take().unwrap();
    let before = rig.view();
    rig.input(Input::CommitEnded {
        generation: Generation(1),
        outcome: CommitOutcome::Unknown(before),
    });
    assert!(rig.land(delayed));
    rig.wait(1);
    rig.commit_ends();
    assert_eq!(rig.deleted, [1]);
    assert_eq!(rig.catalogue.stored[&key(1)], 1);
    assert!(rig.problems.is_empty());
}

#[test]
fn failing_flushes_back_off_turn_red_and_recover() {
    let mut rig = Rig::ready();
    rig.push(&[1]);
    rig.appended();
    rig.input(Input::Cut(CutReason::Age));
    rig.opened();
    for attempt in 0..3 {
        assert!(rig.problems.is_empty(), "{attempt}");
        let (number, ..) = rig.flushing.take().unwrap();
        rig.input(Input::UploadFailed {
            generation: Generation(number),
            reason: "503".into(),
        });
        assert!(rig.flushing.is_none());
        rig.wait(40);
    }
    assert!(matches!(
        rig.problems[..],
        [Problem::Flush { failures: 3, .. }]
    ));
    // Writes go on meanwhile.
    let request = rig.push(&[2]);
    rig.appended();
    assert!(rig.acked.contains_key(&request));
    rig.uploaded();
    rig.commit_ends();
    assert!(rig.problems.is_empty());
}

#[test]
fn a_log_that_recovers_hurries_the_flush() {
    let mut rig = Rig::ready();
    rig.push(&[1]);
    rig.appended();
    rig.push(&[2]);
    rig.append_fails(0);
    for _ in 0..6 {
        let (number, ..) = rig.flushing.take().unwrap();
        rig.input(Input::UploadFailed {
            generation: Generation(number),
            reason: "no space".into(),
        });
        rig.wait(40);
        if rig.opening.is_some() {
            rig.open_fails();
        }
    }
    let (number, ..) = rig.flushing.take().unwrap();
    rig.input(Input::UploadFailed {
        generation: Generation(number),
        reason: "no space".into(),
    });
    rig.wait(1);
    assert!(rig.flushing.is_none());
    rig.opened();
    assert!(rig.flushing.is_some());
}

#[test]
fn a_zombie_is_fenced() {
    let mut rig = Rig::ready();
    rig.push(&[1]);
    rig.appended();
    rig.input(Input::Cut(CutReason::Age));
    rig.opened();
    let waits = rig.push(&[2]);
    rig.catalogue.epoch = 2;
    rig.uploaded();
    rig.commit_ends();
    assert_eq!(rig.failed[&waits], Refusal::Fenced);
    let late = rig.push(&[3]);
    assert_eq!(rig.failed[&late], Refusal::Fenced);
    assert_eq!(rig.problems, [Problem::Fenced]);
    assert!(rig.deleted.is_empty());
}

#[test]
fn the_queue_is_bounded() {
    let mut rig = Rig::with(StreamSettings {
        queue_bytes_max: 250,
        ..StreamSettings::default()
    });
    rig.opened();
    rig.push(&[1]);
    rig.push(&[2, 3, 4, 5]);
    let refused = rig.push(&[6]);
    assert!(matches!(rig.failed[&refused], Refusal::Overloaded { .. }));
    rig.appended();
    let fits = rig.push(&[6]);
    rig.appended();
    rig.appended();
    assert!(rig.acked.contains_key(&fits));
}

#[test]
fn the_last_cut_drains_what_waits_and_keeps_the_keys() {
    let mut rig = Rig::ready();
    rig.push(&[1]);
    let waits = rig.push(&[2]);
    rig.input(Input::Cut(CutReason::Shutdown));
    let late = rig.push(&[3]);
    assert_eq!(rig.failed[&late], Refusal::Stopping);
    rig.appended();
    rig.appended();
    assert!(rig.acked.contains_key(&waits));
    assert!(rig.opening.is_none());
    assert!(!rig.core.is_idle());
    rig.uploaded();
    rig.commit_ends();
    assert!(rig.core.is_idle());
    // No later segment carries its keys: the next start finds them here.
    assert!(rig.deleted.is_empty());
    assert_eq!(rig.keys_on_disk().len(), 2);
    rig.wait(601);
    assert_eq!(rig.deleted, [1]);
}

#[test]
fn memory_pressure_gives_up_what_only_waits_for_its_grace() {
    let mut rig = Rig::ready();
    rig.push(&[1]);
    rig.appended();
    rig.input(Input::Cut(CutReason::Age));
    rig.opened();
    rig.uploaded();
    rig.commit_ends();
    rig.push(&[2]);
    rig.appended();
    rig.input(Input::MemoryShort);
    assert_eq!(rig.dropped, [1]);
    assert!(rig.flushing.is_none());
    rig.input(Input::Cut(CutReason::Memory));
    assert_eq!(rig.flushing, Some((2, 1, 2)));
    rig.input(Input::MemoryShort);
    assert_eq!(rig.dropped, [1]);
}

#[test]
fn a_recovered_stream_flushes_and_waits_until_its_keys_are_carried() {
    let ranges = recover(
        vec![
            SegmentSummary {
                generation: Generation(3),
                first_seq: Seq(5),
                last_seq: Seq(9),
            },
            SegmentSummary {
                generation: Generation(4),
                first_seq: Seq(10),
                last_seq: Seq(12),
            },
        ],
        Seq(9),
    );
    let now = start_of_time();
    let settings = StreamSettings::default();
    let (mut core, effects) =
        StreamCore::<()>::recovered(settings, Epoch(1), Seq(9), &ranges, now.wall, now);
    assert!(matches!(
        effects[..],
        [
            Effect::Committed {
                generation: Generation(3),
                ..
            },
            Effect::StartFlush {
                generation: Generation(4),
                from: Seq(9),
                to: Seq(12)
            }
        ]
    ));
    let effects = core.handle(now, Input::KeysCarried);
    assert!(matches!(
        effects[..],
        [Effect::DeleteSegment(Generation(3))]
    ));
    core.handle(now, Input::Uploaded(Generation(4)));
    let effects = core.handle(
        now,
        Input::CommitEnded {
            generation: Generation(4),
            outcome: CommitOutcome::Landed,
        },
    );
    assert!(matches!(
        effects[..],
        [
            Effect::Committed { .. },
            Effect::DeleteSegment(Generation(4))
        ]
    ));
    let later = Now {
        monotonic: now.monotonic + Duration::from_secs(360),
        ..now
    };
    let effects = core.handle(later, Input::Tick);
    assert!(matches!(
        effects[..],
        [
            Effect::DropHeads(Generation(3)),
            Effect::DropHeads(Generation(4)),
            Effect::Finished { committed: Seq(12) }
        ]
    ));
}
