use super::*;
use crate::testing::{bare_meta, stream_id};

fn node(name: &str) -> NodeId {
    NodeId(Arc::from(name))
}

fn open(n: u32) -> Op {
    Op::OpenStream {
        stream: stream_id(n),
        epoch: Epoch(1),
        owner: node("a"),
        members: vec![node("a"), node("b")],
        quorum: 1,
    }
}

fn advance(n: u32, from: u64, to: u64) -> Op {
    Op::Advance {
        stream: stream_id(n),
        epoch: Epoch(1),
        from: Seq(from),
        to: Seq(to),
    }
}

fn block(id: u128, n: u32, from: u64, to: u64) -> Op {
    Op::AddBlock(Arc::new(bare_meta(id, &stream_id(n), (from, to))))
}

fn merged(id: u128, n: u32, from: u64, to: u64) -> Op {
    let mut meta = bare_meta(id, &stream_id(n), (from, to));
    meta.level = 1;
    Op::AddBlock(Arc::new(meta))
}

fn seal(n: u32, epoch: u64, owner: &str) -> Op {
    Op::SealStream {
        stream: stream_id(n),
        epoch: Epoch(epoch),
        owner: node(owner),
    }
}

fn close(n: u32, epoch: u64, at: u64) -> Op {
    Op::CloseStream {
        stream: stream_id(n),
        epoch: Epoch(epoch),
        at: Seq(at),
    }
}

fn entry(version: u64, ops: Vec<Op>) -> Entry {
    Entry {
        version: CatalogueVersion(version),
        nonce: 0,
        ops,
    }
}

fn folded(commits: Vec<Vec<Op>>) -> Result<CatalogueState, Violation> {
    let mut state = CatalogueState::default();
    for (at, ops) in commits.into_iter().enumerate() {
        state.apply(&entry(at as u64 + 1, ops))?;
    }
    Ok(state)
}

#[test]
fn a_stream_from_opening_to_its_end() {
    let state = folded(vec![
        vec![open(0)],
        vec![block(1, 0, 0, 5), block(2, 0, 0, 5), advance(0, 0, 5)],
        vec![block(3, 0, 5, 6), advance(0, 5, 6)],
        vec![merged(4, 0, 0, 6)],
        vec![advance(0, 6, 9), close(0, 1, 9)],
    ])
    .unwrap();
    assert_eq!(state.version(), CatalogueVersion(5));
    assert_eq!(state.blocks().len(), 4);
    let stream = state.stream(&stream_id(0)).unwrap();
    assert_eq!(stream.committed, Seq(9));
    assert!(stream.is_finished());
    assert_eq!(state.open_streams().count(), 0);
}

#[test]
fn a_new_owner_fences_the_old_one_and_cannot_move_the_end() {
    let mut state = folded(vec![vec![open(0)], vec![seal(0, 2, "b"), close(0, 2, 4)]]).unwrap();
    let stream = state.stream(&stream_id(0)).unwrap();
    assert_eq!((stream.epoch, &*stream.owner.0), (Epoch(2), "b"));
    assert!(matches!(
        state.admits(&[advance(0, 0, 4)]),
        Err(Violation::Epoch {
            epoch: 2,
            found: 1,
            ..
        })
    ));
    state.apply(&entry(3, vec![seal(0, 3, "a")])).unwrap();
    assert!(matches!(
        state.admits(&[close(0, 3, 5)]),
        Err(Violation::EndMoved {
            end: 4,
            found: 5,
            ..
        })
    ));
    let beyond = Op::Advance {
        stream: stream_id(0),
        epoch: Epoch(3),
        from: Seq(0),
        to: Seq(5),
    };
    assert!(matches!(
        state.admits(&[beyond]),
        Err(Violation::AdvanceBeyondEnd { to: 5, end: 4, .. })
    ));
}

#[test]
fn every_broken_rule_is_named_and_changes_nothing() {
    let base = folded(vec![
        vec![open(0)],
        vec![block(1, 0, 0, 5), advance(0, 0, 5)],
    ])
    .unwrap();
    let no_stream = Op::AddBlock(Arc::new(BlockMeta {
        streams: Vec::new(),
        ..bare_meta(9, &stream_id(0), (0, 1))
    }));
    let stranger = Op::OpenStream {
        stream: stream_id(1),
        epoch: Epoch(1),
        owner: node("x"),
        members: vec![node("a")],
        quorum: 1,
    };
    let quorum = Op::OpenStream {
        stream: stream_id(1),
        epoch: Epoch(1),
        owner: node("a"),
        members: vec![node("a"), node("a")],
        quorum: 1,
    };
    let cases: Vec<(Vec<Op>, &str)> = vec![
        (vec![block(1, 0, 5, 6), advance(0, 5, 6)], "a second time"),
        (
            vec![block(9, 0, 5, 6), block(9, 0, 5, 6), advance(0, 5, 6)],
            "a second time",
        ),
        (vec![block(9, 0, 5, 6)], "S1: block"),
        (vec![block(9, 0, 4, 6), advance(0, 5, 6)], "S1: block"),
        (vec![no_stream], "covers no stream"),
        (vec![merged(9, 0, 0, 6)], "only 5 is committed"),
        (vec![advance(0, 4, 6)], "advances from 4, but 5"),
        (vec![advance(0, 6, 7)], "advances from 6, but 5"),
        (vec![advance(0, 5, 5)], "S2:"),
        (vec![advance(0, 5, 4)], "S2:"),
        (vec![advance(0, 5, 6), advance(0, 6, 7)], "advances twice"),
        (vec![advance(1, 0, 1)], "is unknown"),
        (vec![open(0)], "S5:"),
        (vec![open(1), open(1)], "S5:"),
        (vec![stranger], "S5:"),
        (vec![quorum], "quorum"),
        (vec![seal(0, 1, "b")], "S2:"),
        (vec![seal(0, 2, "x")], "S5:"),
        (vec![close(0, 1, 4)], "S2:"),
        (vec![close(0, 2, 5)], "S2:"),
    ];
    for (ops, what) in cases {
        let mut state = base.clone();
        // Something valid before it: an entry counts wholly or not at all.
        let ops = [vec![open(7)], ops].concat();
        let error = state.apply(&entry(3, ops.clone())).unwrap_err();
        assert!(error.to_string().contains(what), "{ops:?} gave {error}");
        assert_eq!(state, base, "{error}");
    }
    let mut state = base;
    let gap = state.apply(&entry(4, vec![])).unwrap_err();
    assert!(gap.to_string().starts_with("C1:"), "{gap}");
}
