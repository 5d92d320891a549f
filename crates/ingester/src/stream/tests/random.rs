//! Random schedules of pushes, faults and crashes, checked after every step.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<u64>),
    Append { fails: Option<usize> },
    Open { fails: bool },
    Cut,
    MemoryShort,
    Upload { fails: bool },
    Commit(Fate),
    Wait(u64),
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Lands,
    LandsUnheard,
    Lost,
    Fails,
    Delayed,
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![
        Just(Fate::Lands),
        Just(Fate::LandsUnheard),
        Just(Fate::Lost),
        Just(Fate::Fails),
        Just(Fate::Delayed),
    ];
    prop_oneof![
        6 => prop::collection::vec(1u64..30, 1..4).prop_map(Step::Push),
        5 => prop_oneof![3 => Just(None), 1 => (0usize..3).prop_map(Some)]
            .prop_map(|fails| Step::Append { fails }),
        4 => prop::bool::weighted(0.2).prop_map(|fails| Step::Open { fails }),
        1 => Just(Step::Cut),
        1 => Just(Step::MemoryShort),
        2 => prop::bool::weighted(0.3).prop_map(|fails| Step::Upload { fails }),
        2 => fate.prop_map(Step::Commit),
        2 => prop_oneof![Just(1u64), Just(30), Just(100)].prop_map(Step::Wait),
    ]
}

fn run(rig: &mut Rig, step: Step, delayed: &mut Option<(u64, u64, u64)>) {
    match step {
        Step::Push(keys) => {
            rig.push(&keys);
        }
        Step::Append { fails } if rig.appending.is_some() => match fails {
            Some(landed) => rig.append_fails(landed),
            None => rig.appended(),
        },
        Step::Open { fails } if rig.opening.is_some() => {
            if fails {
                rig.open_fails();
            } else {
                rig.opened();
            }
        }
        Step::Cut => rig.input(Input::Cut(CutReason::Age)),
        Step::MemoryShort => rig.input(Input::MemoryShort),
        Step::Upload { fails } if rig.flushing.is_some() => {
            if fails {
                let (number, ..) = rig.flushing.take().unwrap();
                rig.input(Input::UploadFailed {
                    generation: Generation(number),
                    reason: "500".into(),
                });
            } else {
                rig.uploaded();
            }
        }
        Step::Commit(fate) => commit(rig, fate, delayed),
        Step::Wait(seconds) => rig.wait(seconds),
        _ => {}
    }
}

fn commit(rig: &mut Rig, fate: Fate, delayed: &mut Option<(u64, u64, u64)>) {
    // A PUT that its sender gave up on may land at any later time.
    if let Some(late) = delayed.take()
        && rig.disk.segments.contains_key(&late.0)
    {
        rig.land(late);
    }
    if rig.committing.is_none() {
        return;
    }
    if let Fate::Lands = fate {
        return rig.commit_ends();
    }
    let this = rig.committing.take().unwrap();
    let outcome = match fate {
        Fate::Fails => CommitOutcome::Failed("refused".into()),
        Fate::LandsUnheard => {
            rig.land(this);
            CommitOutcome::Unknown(rig.view())
        }
        Fate::Delayed => {
            *delayed = Some(this);
            CommitOutcome::Unknown(rig.view())
        }
        _ => CommitOutcome::Unknown(rig.view()),
    };
    rig.input(Input::CommitEnded {
        generation: Generation(this.0),
        outcome,
    });
}

/// What must hold whatever happened, as if the process were killed now.
fn check(rig: &Rig, pushed: &BTreeMap<u64, Vec<u64>>) {
    let stored = rig.stored();
    for (key, &n) in &stored {
        assert_eq!(n, 1, "{key:?} is stored {n} times");
    }
    let on_disk: Vec<RetryKey> = rig.keys_on_disk().iter().map(|k| k.key).collect();
    for (request, outcomes) in &rig.acked {
        let keys = &pushed[request];
        assert_eq!(outcomes.len(), keys.len());
        for &n in keys {
            assert!(stored.contains_key(&key(n)), "acknowledged key {n} is lost");
            assert!(on_disk.contains(&key(n)), "a resend of {n} would double it");
        }
    }
    let mut end = None;
    for range in recover(rig.summaries(), Seq(rig.catalogue.committed)) {
        assert!(end.is_none_or(|e| e == range.from));
        end = Some(range.to);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Keys never expire here, so every key counts exactly once for ever.
    #[test]
    fn acknowledged_once_stored_once(steps in prop::collection::vec(step(), 1..150)) {
        let mut rig = Rig::with(StreamSettings {
            retry_window: Duration::from_secs(1 << 30),
            ..StreamSettings::default()
        });
        let mut delayed = None;
        let mut pushed = BTreeMap::new();
        for step in steps {
            if let Step::Push(keys) = &step {
                pushed.insert(rig.next_request, keys.clone());
            }
            run(&mut rig, step, &mut delayed);
            check(&rig, &pushed);
        }
        // With every fault gone, everything that was taken ends: acknowledged or refused.
        for _ in 0..200 {
            run(&mut rig, Step::Open { fails: false }, &mut delayed);
            run(&mut rig, Step::Append { fails: None }, &mut delayed);
            run(&mut rig, Step::Upload { fails: false }, &mut delayed);
            run(&mut rig, Step::Commit(Fate::Lands), &mut delayed);
            run(&mut rig, Step::Wait(30), &mut delayed);
        }
        check(&rig, &pushed);
        prop_assert_eq!(rig.acked.len() + rig.failed.len(), pushed.len());
        prop_assert!(rig.problems.is_empty());
        prop_assert_eq!(rig.core.stats().uncommitted_generations, 0);
    }
}
