use scoria_model::{BlockId, Epoch, NodeId, Seq};

use super::*;
use crate::catalogue::{Op, Precondition};
use crate::testing::{bare_meta, stream_id};

const SECOND: Duration = Duration::from_secs(1);

fn open(n: u32) -> Txn {
    Txn::new()
        .require(Precondition::StreamAbsent(stream_id(n)))
        .then(Op::OpenStream {
            stream: stream_id(n),
            epoch: Epoch(1),
            owner: NodeId("node-0".into()),
            members: vec![NodeId("node-0".into())],
            quorum: 1,
        })
}

fn flush(n: u32, from: u64, to: u64, block: u128) -> Txn {
    let meta = bare_meta(block, &stream_id(n), (from, to));
    Txn::flush(
        &stream_id(n),
        Epoch(1),
        (Seq(from), Seq(to)),
        [Arc::new(meta)],
    )
}

/// A view of version 1 with stream 0.
fn base() -> Arc<CatalogueState> {
    let mut state = CatalogueState::default();
    fold(&mut state, &bytes_of(1, 1, &open(0))).unwrap();
    Arc::new(state)
}

fn bytes_of(version: u64, nonce: u128, txn: &Txn) -> Bytes {
    Entry {
        version: CatalogueVersion(version),
        nonce,
        ops: txn.ops.clone(),
    }
    .encode()
    .unwrap()
}

fn start(txn: Txn) -> (Committer, Action) {
    let request = CommitRequest {
        txn,
        nonce: 42,
        view: base(),
        view_current_at: SECOND,
        deadline: SECOND * 31,
    };
    Committer::start(request, SECOND)
}

#[track_caller]
fn put(action: Action) -> (u64, Bytes) {
    match action {
        Action::Put { version, entry, .. } => (version.0, entry),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn get(action: Action) -> u64 {
    match action {
        Action::Get { version, .. } => version.0,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn finished(action: Action) -> Outcome {
    match action {
        Action::Finish(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_usual_commit_is_one_request() {
    let (mut committer, action) = start(flush(0, 0, 5, 1));
    assert_eq!(put(action).0, 2);
    let outcome = finished(committer.on(Event::PutStored, SECOND * 2));
    assert_eq!(outcome, Outcome::Committed(CatalogueVersion(2)));
    assert!(committer.view().block(BlockId(1)).is_some());
    assert_eq!(committer.view_current_at(), SECOND * 2);
}

#[test]
fn a_lost_reply_is_recognised_by_the_nonce_and_counts_once() {
    for lost in [Event::PutUnclear, Event::PutExists] {
        let (mut committer, action) = start(flush(0, 0, 5, 1));
        let (_, ours) = put(action);
        assert_eq!(get(committer.on(lost, SECOND)), 2);
        let outcome = finished(committer.on(Event::GetFound(ours), SECOND));
        assert_eq!(outcome, Outcome::Committed(CatalogueVersion(2)));
        assert_eq!(committer.view().blocks().len(), 1);
    }
}

#[test]
fn an_error_of_a_write_that_did_nothing_is_followed_by_the_same_bytes() {
    for error in [Event::PutUnclear, Event::PutExists] {
        let (mut committer, action) = start(flush(0, 0, 5, 1));
        let first = put(action);
        get(committer.on(error, SECOND));
        assert_eq!(put(committer.on(Event::GetAbsent, SECOND)), first);
    }
}

#[test]
fn whoever_loses_the_race_goes_on_if_the_other_does_not_matter() {
    let (mut committer, action) = start(flush(0, 0, 5, 1));
    put(action);
    get(committer.on(Event::PutExists, SECOND));
    let theirs = bytes_of(2, 7, &open(1));
    let (version, entry) = put(committer.on(Event::GetFound(theirs), SECOND));
    assert_eq!(version, 3);
    let mut state = (**committer.view()).clone();
    assert_eq!(fold(&mut state, &entry).unwrap(), 42);
}

#[test]
fn whoever_loses_the_race_stops_if_the_other_did_the_same() {
    let (mut committer, action) = start(flush(0, 0, 5, 1));
    put(action);
    get(committer.on(Event::PutUnclear, SECOND));
    let theirs = bytes_of(2, 7, &flush(0, 0, 3, 9));
    let outcome = finished(committer.on(Event::GetFound(theirs), SECOND));
    let Outcome::Conflict(unmet) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        unmet.to_string(),
        "\"stream node-0.0000000000000007.0 is at epoch 1, committed 0\" does not hold: \
         it is at epoch 1, committed 3"
    );
    assert_eq!(committer.view().version(), CatalogueVersion(2));
}

#[test]
fn a_write_that_may_still_land_is_unknown_and_one_that_cannot_is_not_written() {
    let late = SECOND * 60;
    let (mut committer, _) = start(flush(0, 0, 5, 1));
    get(committer.on(Event::PutUnclear, SECOND));
    assert_eq!(
        finished(committer.on(Event::GetAbsent, late)),
        Outcome::Unknown
    );
    let (mut committer, _) = start(flush(0, 0, 5, 1));
    assert_eq!(
        finished(committer.on(Event::PutExists, late)),
        Outcome::Unknown
    );
    // The number is somebody else's: a write of ours to it is over, and no further one was sent.
    let (mut committer, _) = start(flush(0, 0, 5, 1));
    get(committer.on(Event::PutUnclear, SECOND));
    let theirs = bytes_of(2, 7, &open(1));
    assert_eq!(
        finished(committer.on(Event::GetFound(theirs), late)),
        Outcome::NotWritten
    );
    let (mut committer, _) = start(flush(0, 0, 5, 1));
    assert_eq!(
        finished(committer.on(Event::PutRefused, SECOND)),
        Outcome::NotWritten
    );
    // A refusal says nothing about the attempt before it.
    let (mut committer, _) = start(flush(0, 0, 5, 1));
    get(committer.on(Event::PutUnclear, SECOND));
    put(committer.on(Event::GetAbsent, SECOND));
    get(committer.on(Event::PutRefused, SECOND));
    assert_eq!(
        finished(committer.on(Event::GetFailed, late)),
        Outcome::Unknown
    );
}

#[test]
fn waits_grow_and_stay_bounded() {
    let (mut committer, mut action) = start(flush(0, 0, 5, 1));
    let mut waits = Vec::new();
    for _ in 0..20 {
        if let Action::Put { .. } = action {
            action = committer.on(Event::PutUnclear, SECOND);
        }
        let Action::Get { delay, .. } = action else {
            panic!("{action:?}");
        };
        waits.push(delay);
        action = committer.on(Event::GetFailed, SECOND);
    }
    assert!(waits[0] < Duration::from_millis(25), "{waits:?}");
    assert!(waits[12..].iter().all(|w| *w >= SECOND && *w <= SECOND * 2));
}

#[test]
fn an_old_view_is_not_followed() {
    let request = CommitRequest {
        txn: flush(0, 0, 5, 1),
        nonce: 42,
        view: base(),
        view_current_at: SECOND,
        deadline: SECOND * 1000,
    };
    let now = SECOND * 2 + VIEW_AGE_MAX;
    let (_, action) = Committer::start(request.clone(), now);
    assert_eq!(finished(action), Outcome::StaleView);
    // It grows old under way, after a write that may have landed.
    let (mut committer, action) = Committer::start(request, SECOND);
    put(action);
    get(committer.on(Event::PutUnclear, SECOND));
    get(committer.on(Event::GetFailed, now));
    let theirs = bytes_of(2, 7, &open(1));
    assert_eq!(
        finished(committer.on(Event::GetFound(theirs), now)),
        Outcome::StaleView
    );
}

#[test]
fn what_breaks_a_rule_is_never_put_and_a_corrupt_entry_is_named() {
    let twice = Txn::new().then(open(0).ops[0].clone());
    let (_, action) = start(twice);
    assert!(matches!(finished(action), Outcome::Refused(_)));

    let (mut committer, _) = start(flush(0, 0, 5, 1));
    get(committer.on(Event::PutExists, SECOND));
    let bad = bytes_of(2, 7, &flush(0, 3, 5, 9));
    let outcome = finished(committer.on(Event::GetFound(bad), SECOND));
    let Outcome::Corrupt(corrupt) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        corrupt.to_string(),
        "catalogue entry catalogue/log/00000000000000000002 is corrupt: \
         S1: node-0.0000000000000007.0 advances from 3, but 0 is committed"
    );
    assert_eq!(committer.view().version(), CatalogueVersion(1));
}

/// A committer that was suspended between looking and writing may have made a number anew that was
/// taken and cleared away since: nobody reads it there, so it must not be believed.
#[test]
fn c4_a_committer_that_slept_past_the_floor_does_not_believe_its_write() {
    let slept = SECOND + BELIEVED_FOR + SECOND;
    let (mut committer, action) = start(flush(0, 0, 1, 7));
    assert_eq!(put(action).0, 2);
    let ended = finished(committer.on(Event::PutStored, slept));
    assert_eq!(ended, Outcome::Unknown);
    assert_eq!(committer.view().version().0, 1);
    // Its own entry, read back where the log no longer is.
    let (mut committer, action) = start(flush(0, 0, 1, 7));
    let (_, entry) = put(action);
    get(committer.on(Event::PutUnclear, SECOND * 2));
    let ended = finished(committer.on(Event::GetFound(entry), slept));
    assert_eq!(ended, Outcome::Unknown);
    // A number that is free because it was cleared away, not because nobody took it.
    let (mut committer, action) = start(flush(0, 0, 1, 7));
    put(action);
    get(committer.on(Event::PutExists, SECOND * 2));
    assert_eq!(
        finished(committer.on(Event::GetAbsent, slept)),
        Outcome::Unknown
    );
    // Awake, the same answers are what they seem.
    let (mut committer, action) = start(flush(0, 0, 1, 7));
    put(action);
    let ended = finished(committer.on(Event::PutStored, SECOND * 3));
    assert_eq!(ended, Outcome::Committed(CatalogueVersion(2)));
}
