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
use hashbrown::{HashMap, HashSet, HashTable};
use scoria_model::PackedSlice;

use crate::raw::{RawLine, RawProfile};
use crate::tables::{Fold, IdIndex, Stacks};

/// Frames that must match. Fewer confuse common middleware, more find little.
const WINDOW: usize = 16;
/// Most frames given back to one stacktrace.
const MAX_REATTACHED: usize = 128;
/// All of them together are at most as many as the frames that came: it is paid for in memory.
const MAX_GROWTH: usize = 1;
/// Distinct windows looked at; those beyond are of profiles far larger than any that is allowed.
const MAX_WINDOWS: usize = 1 << 19;
/// Frames, inlined ones included, at which the runtime cuts a CPU sample.
const CPU_DEPTH: usize = 64;
/// Locations from which on an allocation may be cut: 32 frames less inlined and hidden ones. No
/// stacktrace of fewer locations is cut.
const HEAP_DEPTH: usize = 24;

/// Where in the frames a window starts that something follows, and whether samples disagree about
/// what: a word, as a profile may have a hundred thousand of them.
#[derive(Debug, Clone, Copy)]
struct Follower(u32);

/// Set if they do.
const DISAGREED: u32 = 1 << 31;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Lines(usize),
    Locations(usize),
}

/// Whether stacktraces of a profile of these types, the deepest of which has so many locations, may
/// be cut.
pub(crate) fn may_be_cut<'t>(types: impl Iterator<Item = &'t [u8]>, deepest: u32) -> bool {
    cut_depth(types).is_some_and(|depth| deepest as usize >= depth.least_locations())
}

/// The roots of a Go profile's stacktraces that were cut: found as each is moved, so that the longer
/// stacktraces are nowhere but in the part.
#[derive(Debug)]
pub(crate) struct Roots {
    followers: Followers,
    /// Samples whose stacktrace gets one, sorted.
    samples: Vec<u32>,
    /// Of all roots.
    n_frames: usize,
}

impl Roots {
    /// Looks for roots among the profile's own samples. Its locations stand in `apart` or else in
    /// itself. `None` if no stacktrace gets one.
    pub(crate) fn learn(
        raw: &RawProfile<'_>,
        apart: Option<&dyn Stacks>,
        seed: u64,
    ) -> Option<Self> {
        let types = raw.columns.sample_types.iter();
        let depth = cut_depth(types.map(|kind| raw.text(kind.kind)))?;
        let cut = cut_samples(raw, (depth, apart), seed);
        if cut.is_empty() {
            return None;
        }
        let most = raw.columns.frames.len() * MAX_GROWTH;
        let mut n_frames = 0;
        let followers = Followers::learn(raw, seed);
        // Samples may share their frames, and then share what becomes of them.
        let place = |sample: &usize| raw.sample(*sample).frames();
        let mut cut = cut;
        cut.sort_by_key(|sample| place(sample).start);
        let (mut root, mut samples) = (Vec::new(), Vec::new());
        for alike in cut.chunk_by(|a, b| place(a) == place(b)) {
            root.clear();
            let frames = raw.columns.frames.as_slice();
            followers.root_of(frames.slice(place(&alike[0])), frames, &mut root);
            if !root.is_empty() && n_frames + root.len() <= most {
                n_frames += root.len();
                samples.extend(alike.iter().map(|&sample| sample as u32));
            }
        }
        samples.sort_unstable();
        (!samples.is_empty()).then_some(Self {
            followers,
            samples,
            n_frames,
        })
    }

    /// Frames of all roots together, once for samples that share their frames.
    pub(crate) const fn n_frames(&self) -> usize {
        self.n_frames
    }

    /// Appends the root of a sample's stacktrace to it, if it gets one.
    pub(crate) fn add_to(&self, stack: &mut Vec<u32>, raw: &RawProfile<'_>, sample: usize) {
        let frames = raw.columns.frames.as_slice();
        let cut = frames.slice(raw.sample(sample).frames());
        self.followers.root_of(cut, frames, stack);
    }

    /// Whether the stacktrace of a sample gets one.
    #[inline]
    pub(crate) fn has(&self, sample: usize) -> bool {
        self.samples.binary_search(&(sample as u32)).is_ok()
    }
}

/// How deep the runtime records what a profile of these types is about; `None` if that is not known.
fn cut_depth<'t>(types: impl Iterator<Item = &'t [u8]>) -> Option<Depth> {
    const OF_HEAPS: [&[u8]; 4] = [
        b"alloc_space",
        b"inuse_space",
        b"alloc_objects",
        b"inuse_objects",
    ];
    let (mut is_heap, mut is_cpu) = (false, false);
    for kind in types {
        is_heap |= OF_HEAPS.contains(&kind);
        is_cpu |= kind == b"cpu";
    }
    match (is_heap, is_cpu) {
        (true, _) => Some(Depth::Locations(HEAP_DEPTH)),
        (false, true) => Some(Depth::Lines(CPU_DEPTH)),
        (false, false) => None,
    }
}

impl Depth {
    const fn least_locations(self) -> usize {
        match self {
            Self::Locations(least) => least,
            // Inlining makes fewer locations of the lines, but never that few.
            Self::Lines(least) => least / 4 * 3,
        }
    }
}

fn cut_samples(
    raw: &RawProfile<'_>,
    (depth, apart): (Depth, Option<&dyn Stacks>),
    seed: u64,
) -> Vec<usize> {
    let least = depth.least_locations();
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
        if apart.is_none() {
            ids.learn(raw.columns.locations.ids(), seed);
        }
        let mut lines: Vec<RawLine> = Vec::new();
        // Reading a location elsewhere takes as long as it is.
        let mut known: HashMap<u32, usize, FixedState> =
            HashMap::with_hasher(FixedState::with_seed(seed));
        let mut n_lines = |frame: u32| match apart {
            None => ids
                .find(raw.location_id(frame))
                .map_or(1, |at| raw.lines_of(at).len().max(1)),
            Some(apart) => *known.entry(frame).or_insert_with(|| {
                lines.clear();
                apart.location(frame as usize - 1, &mut lines);
                lines.len().max(1)
            }),
        };
        cut.retain(|&sample| {
            let mut frames = raw.columns.frames.slice(raw.sample(sample).frames()).iter();
            let mut left = least;
            frames.any(|frame| {
                left = left.saturating_sub(n_lines(frame));
                left == 0
            })
        });
    }
    cut
}

fn root_of(raw: &RawProfile<'_>, sample: usize) -> Option<u32> {
    raw.columns.frames.slice(raw.sample(sample).frames()).last()
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
#[derive(Debug)]
struct Followers {
    table: HashTable<Follower>,
    roll: Roll,
}

impl Followers {
    fn learn(raw: &RawProfile<'_>, seed: u64) -> Self {
        let roll = Roll::new(seed);
        let mut table: HashTable<Follower> = HashTable::new();
        let frames = raw.columns.frames.as_slice();
        for sample in 0..raw.columns.samples.len() {
            let places = raw.sample(sample).frames();
            if places.len() <= WINDOW {
                continue;
            }
            let mut hash = roll.of(frames.slice(places.start..places.start + WINDOW).iter());
            for next_at in places.start + WINDOW..places.end {
                let window = next_at - WINDOW;
                let (next, first) = (frames.get(next_at), frames.get(window));
                let here = frames.slice(window..next_at);
                let same = |known: &Follower| known.frames(frames) == here;
                let is_full = table.len() >= MAX_WINDOWS;
                match table.find_mut(roll.finish(hash), same) {
                    Some(known) if known.next(frames) != next => known.0 |= DISAGREED,
                    Some(_) => {}
                    None if is_full => {}
                    None => {
                        let new = Follower(window as u32);
                        table.insert_unique(roll.finish(hash), new, |known| {
                            roll.finish(roll.of(known.frames(frames).iter()))
                        });
                    }
                }
                hash = roll.shift(hash, first, next);
            }
        }
        Self { table, roll }
    }

    /// Appends the frames that `cut` lost to `root`; none if nothing is known or it leads in a
    /// circle.
    fn root_of(
        &self,
        cut: PackedSlice<'_, u32>,
        frames: PackedSlice<'_, u32>,
        root: &mut Vec<u32>,
    ) {
        let Some(tail) = cut.len().checked_sub(WINDOW) else {
            return;
        };
        let mut chain = Vec::with_capacity(WINDOW + MAX_REATTACHED);
        cut.skip(tail).copy_to(&mut chain);
        let mut passed = Vec::new();
        while chain.len() < WINDOW + MAX_REATTACHED {
            let window = &chain[chain.len() - WINDOW..];
            let hash = self.roll.finish(self.roll.of(window.iter().copied()));
            let same = |known: &Follower| known.frames(frames) == *window;
            let known = self.table.find(hash, same);
            let Some(known) = known.filter(|known| known.0 & DISAGREED == 0) else {
                break;
            };
            if passed.contains(&known.0) {
                return;
            }
            passed.push(known.0);
            chain.push(known.next(frames));
        }
        root.extend(chain.into_iter().skip(WINDOW));
    }
}

impl Follower {
    const fn start(self) -> usize {
        (self.0 & !DISAGREED) as usize
    }

    fn frames(self, all: PackedSlice<'_, u32>) -> PackedSlice<'_, u32> {
        all.slice(self.start()..self.start() + WINDOW)
    }

    /// What follows it where it stands, which is inside of a sample.
    fn next(self, all: PackedSlice<'_, u32>) -> u32 {
        all.get(self.start() + WINDOW)
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

    fn of(&self, window: impl Iterator<Item = u32>) -> u64 {
        let step = |hash: u64, id: u32| hash.wrapping_mul(self.base).wrapping_add(u64::from(id));
        window.fold(0, step)
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
        let raw = RawProfile::decode(&bytes).unwrap();
        let roots = Roots::learn(&raw, None, 5);
        (0..stacks.len())
            .map(|at| {
                let frames = raw.columns.frames.slice(raw.sample(at).frames());
                let mut stack: Vec<u32> = frames.iter().collect();
                if let Some(roots) = roots.as_ref().filter(|roots| roots.has(at)) {
                    roots.add_to(&mut stack, &raw, at);
                }
                stack
            })
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
