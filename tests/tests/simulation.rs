//! Seeded schedules of the simulation.
//!
//! `SCORIA_SIM_SEED=n cargo test -p scoria-tests --test simulation -- --nocapture replay` runs one
//! seed and prints its trace. `SCORIA_SIM_SCHEDULES` changes how many are run.

#![allow(clippy::print_stdout, reason = "a trace is there to be read")]

use scoria_tests::sim::{Figures, Mutation, TraceMode, run};

/// Seeds that every run of the tests tries.
const SCHEDULES: u64 = 10_000;
/// Seeds within which each mistake must show.
const SEEDS_TO_CATCH: u64 = 500;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is {text:?}, not a number")),
    )
}

#[test]
fn ten_thousand_schedules_keep_every_invariant() {
    let schedules = number("SCORIA_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let mut figures = Figures::default();
    for seed in 0..schedules {
        let report = run(seed, Mutation::None, TraceMode::Off);
        figures.add(&report.figures);
        if let Some(violation) = report.violation {
            panic!("seed {seed}: {violation}\nreplay it with: make sim SEED={seed}");
        }
    }
    println!("{schedules} schedules: {figures:?}");
    // The schedules reach what they are for.
    for reached in [
        figures.duplicates,
        figures.refused,
        figures.crashes,
        figures.failed_appends,
        figures.torn_tails,
        figures.lost_races,
        figures.unclear_puts,
    ] {
        assert!(reached >= schedules / 10, "{figures:?}");
    }
}

#[test]
fn replay() {
    let Some(seed) = number("SCORIA_SIM_SEED") else {
        return;
    };
    let report = run(seed, Mutation::None, TraceMode::On);
    for line in report.trace.lines() {
        println!("{line}");
    }
    println!("{:?}", report.figures);
    assert_eq!(report.violation, None);
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in 0..20 {
        let first = run(seed, Mutation::None, TraceMode::On);
        let second = run(seed, Mutation::None, TraceMode::On);
        assert!(first.trace.lines().len() > 50);
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.figures, second.figures);
    }
}

#[test]
fn every_mistake_is_caught() {
    for mutation in Mutation::ALL {
        let caught = (0..SEEDS_TO_CATCH)
            .find_map(|seed| Some((seed, run(seed, mutation, TraceMode::Off).violation?)));
        let Some((seed, violation)) = caught else {
            panic!("{mutation:?} stays unseen over {SEEDS_TO_CATCH} seeds");
        };
        println!("{mutation:?}: seed {seed}, {violation}");
    }
}
