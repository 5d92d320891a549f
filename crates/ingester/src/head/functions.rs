//! The function tree of a head, which grows with the head instead of being built for each query.
//!
//! # Invariants
//! - A tree is that of the symbols it is asked for, node for node: symbols only grow, so one of
//!   fewer nodes is extended and one of more is left alone.
//! - What is kept is paid for from a budget; a tree that does not fit serves its query and goes.

use std::sync::Arc;

use parking_lot::Mutex;
use scoria_model::{ByteBudget, Permit};
use scoria_query::functions::FunctionTree;
use scoria_symbols::Symbols;

use crate::metrics::Metrics;

/// Memory for the function trees of all heads, and what counts their use.
#[derive(Debug, Clone)]
pub(crate) struct TreeMemory {
    pub(crate) budget: ByteBudget,
    pub(crate) metrics: Metrics,
}

/// The tree of one head, if there was a query that needed it.
#[derive(Debug, Default)]
pub(crate) struct KeptTree(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    tree: Arc<FunctionTree>,
    permit: Permit,
}

impl KeptTree {
    /// The tree of these symbols of the head. Queries that come at the same time wait for the
    /// first rather than work out the same.
    pub(crate) fn of(&self, symbols: &Symbols, memory: &TreeMemory) -> Arc<FunctionTree> {
        let mut slot = self.0.lock();
        let (known, wanted) = (slot.as_ref().map_or(0, Kept::nodes), symbols.nodes_len());
        if known == wanted
            && let Some(kept) = &*slot
        {
            memory.metrics.function_nodes_kept(wanted);
            return Arc::clone(&kept.tree);
        }
        if known > wanted {
            // A snapshot from before the head grew.
            drop(slot);
            memory.metrics.function_nodes_built(wanted);
            return Arc::new(FunctionTree::of(symbols));
        }
        memory.metrics.function_nodes_kept(known);
        memory.metrics.function_nodes_built(wanted - known);
        let (tree, mut permit) = match slot.take() {
            Some(Kept { tree, permit }) => (tree, permit),
            None => (Arc::default(), memory.budget.nothing()),
        };
        // Copied only if a query still reads it.
        let mut tree = Arc::unwrap_or_clone(tree);
        tree.extend(symbols);
        let tree = Arc::new(tree);
        let more = tree.bytes().saturating_sub(permit.bytes());
        if permit.grow(more).is_ok() {
            let tree = Arc::clone(&tree);
            *slot = Some(Kept { tree, permit });
        }
        memory.metrics.function_trees(memory.budget.used());
        tree
    }
}

impl Kept {
    fn nodes(&self) -> usize {
        self.tree.node_of().len()
    }
}
