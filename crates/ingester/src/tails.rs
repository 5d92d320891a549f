//! All generations in memory, and which of them a query with a given pin needs.
//!
//! # Invariants
//! - A query is told that something is gone rather than answered without it.
//! - A record lies in exactly one generation, so what a view gives counts each record once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use scoria_model::{Epoch, Seq, StreamId};

use crate::generation::LiveGeneration;
use crate::stream::Generation;

/// The generations of all streams of this ingester.
#[derive(Debug, Default)]
pub(crate) struct Tails(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    generations: Vec<Arc<LiveGeneration>>,
    streams: BTreeMap<Arc<StreamId>, Tail>,
}

#[derive(Debug, Clone, Copy)]
struct Tail {
    epoch: Epoch,
    /// Records up to here are only in blocks.
    dropped_to: Seq,
}

/// What a query gets.
#[derive(Debug)]
pub(crate) struct View {
    /// Whether the pin needs records that only blocks hold.
    pub(crate) gone: bool,
    pub(crate) tails: Vec<TailView>,
    pub(crate) generations: Vec<Arc<LiveGeneration>>,
}

/// One stream in a [`View`]: the records of `(from, to]` are covered.
#[derive(Debug, Clone)]
pub(crate) struct TailView {
    pub(crate) stream: Arc<StreamId>,
    pub(crate) epoch: Epoch,
    pub(crate) from: Seq,
    pub(crate) to: Seq,
}

impl Tails {
    /// Takes up a stream of which blocks hold the records up to `committed`.
    pub(crate) fn add_stream(&self, stream: &Arc<StreamId>, epoch: Epoch, committed: Seq) {
        let tail = Tail {
            epoch,
            dropped_to: committed,
        };
        self.0.write().streams.insert(Arc::clone(stream), tail);
    }

    pub(crate) fn add(&self, generation: Arc<LiveGeneration>) {
        self.0.write().generations.push(generation);
    }

    pub(crate) fn get(&self, stream: &StreamId, number: Generation) -> Option<Arc<LiveGeneration>> {
        let inner = self.0.read();
        inner
            .generations
            .iter()
            .find(|g| *g.stream == *stream && g.number == number)
            .map(Arc::clone)
    }

    /// Gives up a generation that blocks hold.
    pub(crate) fn remove(&self, stream: &StreamId, number: Generation) {
        let mut inner = self.0.write();
        let Inner {
            generations,
            streams,
        } = &mut *inner;
        generations.retain(|g| {
            let found = *g.stream == *stream && g.number == number;
            if found && let Some(tail) = streams.get_mut(stream) {
                tail.dropped_to = tail.dropped_to.max(g.to());
            }
            !found
        });
    }

    /// Memory of all heads.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.read().generations.iter().map(|g| g.bytes()).sum()
    }

    /// What a query needs whose blocks hold the records up to `committed` of each stream; a stream
    /// that is not among them has none in blocks.
    pub(crate) fn view(&self, committed: &HashMap<StreamId, Seq>) -> View {
        let inner = self.0.read();
        let pinned = |stream: &StreamId| committed.get(stream).copied().unwrap_or_default();
        let mut view = View {
            gone: false,
            tails: Vec::with_capacity(inner.streams.len()),
            generations: Vec::new(),
        };
        for (stream, tail) in &inner.streams {
            let from = pinned(stream);
            view.gone |= from < tail.dropped_to;
            view.tails.push(TailView {
                stream: Arc::clone(stream),
                epoch: tail.epoch,
                from,
                to: from.max(tail.dropped_to),
            });
        }
        for generation in &inner.generations {
            let to = generation.to();
            if let Ok(at) = view
                .tails
                .binary_search_by(|t| t.stream.cmp(&generation.stream))
            {
                let tail = &mut view.tails[at];
                tail.to = tail.to.max(to);
            }
            if to > pinned(&generation.stream) {
                view.generations.push(Arc::clone(generation));
            }
        }
        view
    }
}

#[cfg(test)]
mod tests {
    use scoria_model::{ByteBudget, Incarnation, NodeId};

    use super::*;

    fn stream(n: u32) -> Arc<StreamId> {
        Arc::new(StreamId {
            node: NodeId(Arc::from("node")),
            incarnation: Incarnation(1),
            n,
        })
    }

    fn generation(number: u64, from: u64, to: u64) -> Arc<LiveGeneration> {
        let budget = ByteBudget::new("heads", 1 << 20);
        let generation = LiveGeneration::new(stream(0), Generation(number), Seq(from), &budget);
        generation.reach(Seq(to));
        Arc::new(generation)
    }

    fn numbers(view: &View) -> Vec<u64> {
        view.generations.iter().map(|g| g.number.0).collect()
    }

    #[test]
    fn a_pin_gets_what_its_blocks_lack_or_is_told_that_it_is_gone() {
        let tails = Tails::default();
        tails.add_stream(&stream(0), Epoch(1), Seq(0));
        for (number, from, to) in [(1, 0, 5), (2, 5, 9)] {
            tails.add(generation(number, from, to));
        }
        let pin = |seq| HashMap::from([((*stream(0)).clone(), Seq(seq))]);
        let all = tails.view(&HashMap::new());
        assert_eq!((all.gone, numbers(&all)), (false, vec![1, 2]));
        assert_eq!((all.tails[0].from, all.tails[0].to), (Seq(0), Seq(9)));
        assert_eq!(numbers(&tails.view(&pin(5))), [2]);
        assert!(numbers(&tails.view(&pin(9))).is_empty());

        tails.remove(&stream(0), Generation(1));
        assert!(tails.view(&HashMap::new()).gone);
        assert!(tails.view(&pin(4)).gone);
        let later = tails.view(&pin(5));
        assert_eq!((later.gone, numbers(&later)), (false, vec![2]));
    }

    #[test]
    fn a_stream_of_which_nothing_is_left_still_says_how_far_blocks_must_reach() {
        let tails = Tails::default();
        tails.add_stream(&stream(4), Epoch(2), Seq(7));
        let view = tails.view(&HashMap::new());
        assert!(view.gone && view.tails[0].to == Seq(7));
        let pin = HashMap::from([((*stream(4)).clone(), Seq(7))]);
        assert!(!tails.view(&pin).gone);
    }
}
