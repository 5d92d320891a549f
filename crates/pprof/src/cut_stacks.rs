//! Gives back to Go's stacktraces the root side that the runtime cut off.
//!
//! The runtime records no more than 64 frames of a CPU sample and 32 of an allocation, counted from
//! the leaf, so that deep stacktraces begin somewhere in the middle and a flame graph has as many
//! false roots. The missing part often stands in other samples of the same profile:
//!
//! ```text
//! leaf ─ … ─ [ 16 frames ]                    cut off
//!        leaf ─ [ 16 frames ] ─ p ─ q ─ root   another sample
//! ```
//! Where the last 16 frames of a cut stacktrace stand elsewhere and are always followed by the same
//! frame, that frame is appended, and so on from there.
//!
//! # Invariants
//! - Frames are only appended at the root side; values and everything else stay.
//! - A stacktrace that begins where a short one begins is whole and stays.
//! - Where other samples disagree about the next frame, and where the chain comes back to itself,
//!   nothing is guessed: the first ends the chain, the second drops it.

use foldhash::fast::FixedState;
use hashbrown::{HashSet, HashTable};

use crate::raw::RawProfile;
use crate::tables::{Fold, IdIndex};

/// Frames that must match. Fewer confuse common middleware, more find little.
const WINDOW: usize = 16;
/// Most frames given back to one stacktrace.
const MAX_REATTACHED: usize = 128;
/// All of them together take at most this many times the frames that came.
const MAX_GROWTH: usize = 4;
/// Distinct windows looked at; those beyond are of profiles far larger than any that is allowed.
const MAX_WINDOWS: usize = 1 << 19;
/// Frames, inlined ones included, at which the runtime cuts a CPU sample.
const CPU_DEPTH: usize = 64;
/// Locations from which on an allocation may be cut: 32 frames less inlined and hidden ones. No
/// stacktrace of fewer locations is cut.
const HEAP_DEPTH: usize = 24;

/// What follows a window of frames.
#[derive(Debug, Clone, Copy)]
struct Follower {
    /// Where in the frames the window starts.
    window: u32,
    /// Whether all samples have the same next frame.
    agreed: bool,
    next: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Lines(usize),
    Locations(usize),
}

/// Repairs the stacktraces of a Go profile.
pub(crate) fn reattach_roots(raw: &mut RawProfile<'_>, seed: u64) {
    let Some(depth) = cut_depth(raw) else {
        return;
    };
    let mut cut = cut_samples(raw, depth, seed);
    if cut.is_empty() {
        return;
    }
    let mut budget = raw.columns.frames.len() * MAX_GROWTH;
    let followers = Followers::learn(raw, seed);
    let mut roots = Vec::new();
    // Samples may share their frames, and then do so ever after.
    cut.sort_by_key(|&sample| raw.sample(sample).frames().start);
    for samples in cut.chunk_by(|&a, &b| raw.sample(a).frames() == raw.sample(b).frames()) {
        let frames = &raw.columns.frames[raw.sample(samples[0]).frames()];
        let root = followers.root_of(frames, &raw.columns.frames);
        budget = budget.saturating_sub(root.len());
        if !root.is_empty() && budget > 0 {
            roots.push((samples, root));
        }
    }
    append(raw, &roots);
}

/// How deep the runtime records what this profile is about; `None` if that is not known.
fn cut_depth(raw: &RawProfile<'_>) -> Option<Depth> {
    let types = &raw.columns.sample_types;
    let has = |name: &[u8]| types.iter().any(|kind| raw.text(kind.kind) == name);
    if has(b"alloc_space") || has(b"inuse_space") || has(b"alloc_objects") || has(b"inuse_objects")
    {
        Some(Depth::Locations(HEAP_DEPTH))
    } else if has(b"cpu") {
        Some(Depth::Lines(CPU_DEPTH))
    } else {
        None
    }
}

fn cut_samples(raw: &RawProfile<'_>, depth: Depth, seed: u64) -> Vec<usize> {
    let least = match depth {
        Depth::Locations(least) => least,
        // Inlining makes fewer locations of the lines, but never that few.
        Depth::Lines(least) => least / 4 * 3,
    };
    let samples = 0..raw.columns.samples.len();
    let is_deep = |at: &usize| raw.sample(*at).frames().len() >= least;
    let mut cut: Vec<usize> = samples.filter(is_deep).collect();
    if cut.is_empty() {
        return cut;
    }
    let known = known_roots(raw, seed);
    cut.retain(|&sample| root_of(raw, sample).is_some_and(|root| !known.contains(&root)));
    if let (Depth::Lines(least), false) = (depth, cut.is_empty()) {
        let mut ids = IdIndex::default();
        ids.learn(raw.columns.locations.iter().map(|l| l.id), seed);
        let n_lines = |frame: &u32| {
            ids.find(raw.location_id(*frame))
                .map_or(1, |at| raw.lines_of(at).len().max(1))
        };
        cut.retain(|&sample| {
            let frames = &raw.columns.frames[raw.sample(sample).frames()];
            frames.iter().map(n_lines).sum::<usize>() >= least
        });
    }
    cut
}

fn root_of(raw: &RawProfile<'_>, sample: usize) -> Option<u32> {
    raw.columns.frames[raw.sample(sample).frames()]
        .last()
        .copied()
}

/// Where stacktraces begin that are too short to be cut; one that begins there is whole.
fn known_roots(raw: &RawProfile<'_>, seed: u64) -> HashSet<u32, FixedState> {
    let mut roots = HashSet::with_hasher(FixedState::with_seed(seed));
    let samples = 0..raw.columns.samples.len();
    let whole = samples.filter(|&at| raw.sample(at).frames().len() < HEAP_DEPTH);
    roots.extend(whole.filter_map(|at| root_of(raw, at)));
    roots
}

/// For each window of frames of the profile, what follows it.
struct Followers {
    table: HashTable<Follower>,
    roll: Roll,
}

impl Followers {
    fn learn(raw: &RawProfile<'_>, seed: u64) -> Self {
        let roll = Roll::new(seed);
        let mut table: HashTable<Follower> = HashTable::new();
        let frames = &raw.columns.frames;
        for sample in 0..raw.columns.samples.len() {
            let places = raw.sample(sample).frames();
            if places.len() <= WINDOW {
                continue;
            }
            let mut hash = roll.of(&frames[places.start..places.start + WINDOW]);
            for next_at in places.start + WINDOW..places.end {
                let window = next_at - WINDOW;
                let (next, first) = (frames[next_at], frames[window]);
                let same = |known: &Follower| known.is(&frames[window..next_at], frames);
                let is_full = table.len() >= MAX_WINDOWS;
                match table.find_mut(roll.finish(hash), same) {
                    Some(known) => known.agreed &= known.next == next,
                    None if is_full => {}
                    None => {
                        let new = Follower {
                            window: window as u32,
                            agreed: true,
                            next,
                        };
                        table.insert_unique(roll.finish(hash), new, |known| {
                            roll.finish(roll.of(known.frames(frames)))
                        });
                    }
                }
                hash = roll.shift(hash, first, next);
            }
        }
        Self { table, roll }
    }

    /// The frames to append to `cut`; none if nothing is known or it leads in a circle.
    fn root_of(&self, cut: &[u32], frames: &[u32]) -> Vec<u32> {
        let Some(tail) = cut.last_chunk::<WINDOW>() else {
            return Vec::new();
        };
        let mut chain = tail.to_vec();
        let mut passed = Vec::new();
        while chain.len() < WINDOW + MAX_REATTACHED {
            let window = &chain[chain.len() - WINDOW..];
            let hash = self.roll.finish(self.roll.of(window));
            let known = self.table.find(hash, |known| known.is(window, frames));
            let Some(&Follower {
                window,
                agreed: true,
                next,
            }) = known
            else {
                break;
            };
            if passed.contains(&window) {
                return Vec::new();
            }
            passed.push(window);
            chain.push(next);
        }
        chain.split_off(WINDOW)
    }
}

impl Follower {
    fn frames<'f>(&self, all: &'f [u32]) -> &'f [u32] {
        let start = self.window as usize;
        &all[start..start + WINDOW]
    }

    fn is(&self, window: &[u32], all: &[u32]) -> bool {
        self.frames(all) == window
    }
}

/// A hash of a window that moves with it.
#[derive(Debug, Clone, Copy)]
struct Roll {
    fold: Fold,
    base: u64,
    /// `base` to the power of the last place of a window.
    top: u64,
}

impl Roll {
    const fn new(seed: u64) -> Self {
        let base = seed.rotate_left(17) ^ 0xa076_1d64_78bd_642f | 1;
        Self {
            fold: Fold::new(seed),
            base,
            top: base.wrapping_pow(WINDOW as u32 - 1),
        }
    }

    fn of(&self, window: &[u32]) -> u64 {
        let step = |hash: u64, &id: &u32| hash.wrapping_mul(self.base).wrapping_add(u64::from(id));
        window.iter().fold(0, step)
    }

    const fn shift(&self, hash: u64, first: u32, next: u32) -> u64 {
        let rest = hash.wrapping_sub((first as u64).wrapping_mul(self.top));
        rest.wrapping_mul(self.base).wrapping_add(next as u64)
    }

    /// Spreads the bits, which the rolling form leaves uneven.
    const fn finish(&self, hash: u64) -> u64 {
        self.fold.add(self.fold.start(), hash)
    }
}

/// Gives samples that share frames a copy of them with the root behind it.
fn append(raw: &mut RawProfile<'_>, roots: &[(&[usize], Vec<u32>)]) {
    let frames = |sample| raw.sample(sample).frames();
    let lengths = roots
        .iter()
        .map(|(samples, root)| frames(samples[0]).len() + root.len());
    let more = lengths.sum();
    raw.columns.frames.reserve_exact(more);
    for (samples, root) in roots {
        let own = raw.sample(samples[0]).frames();
        let start = raw.columns.frames.len();
        raw.columns.frames.extend_from_within(own);
        raw.columns.frames.extend_from_slice(root);
        for &sample in *samples {
            raw.columns.move_to_end(sample, start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProfileEncoder;

    /// Location ids leaf first, as a heap profile.
    fn repaired(stacks: &[Vec<u32>]) -> Vec<Vec<u32>> {
        let mut encoder = ProfileEncoder::new();
        encoder.sample_type("inuse_space", "bytes");
        for _ in 0..200 {
            encoder.location(0, 1, &[]);
        }
        for stack in stacks {
            encoder.sample(stack.iter().copied().map(u64::from), &[1], &[]);
        }
        let bytes = encoder.finish();
        let mut raw = RawProfile::decode(&bytes).unwrap();
        reattach_roots(&mut raw, 5);
        (0..stacks.len())
            .map(|at| raw.columns.frames[raw.sample(at).frames()].to_vec())
            .collect()
    }

    fn run(ids: std::ops::RangeInclusive<u32>) -> Vec<u32> {
        ids.collect()
    }

    #[test]
    fn the_root_comes_back_through_a_chain_of_samples() {
        let stacks = [run(1..=30), run(10..=40), run(20..=50)];
        assert_eq!(repaired(&stacks), [run(1..=50), run(10..=50), run(20..=50)]);
    }

    #[test]
    fn too_short_a_match_or_too_shallow_a_stack_stays() {
        let stacks = [run(1..=30), run(16..=50), run(60..=82), run(61..=99)];
        assert_eq!(repaired(&stacks), stacks);
    }

    #[test]
    fn what_begins_like_a_short_one_is_whole() {
        let stacks = [run(1..=30), run(10..=50), run(25..=30)];
        assert_eq!(repaired(&stacks), stacks);
    }

    #[test]
    fn disagreement_ends_the_chain() {
        let other: Vec<u32> = (10..=35).chain(100..=110).collect();
        let stacks = [run(1..=30), run(10..=50), other];
        assert_eq!(repaired(&stacks)[0], run(1..=35));
    }

    #[test]
    fn recursion_is_left_alone() {
        let stacks = [vec![7; 32], vec![7; 20]];
        assert_eq!(repaired(&stacks), stacks);
    }
}
