//! What a flame graph of a million distinct stacktraces takes beside the pages that it is read
//! from, by what the allocator says.
//!
//! A binary of its own with one test, so that nothing else allocates meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use peak_alloc::PeakAlloc;
use scoria_block::SampleBatch;
use scoria_query::functions::FunctionTree;
use scoria_query::merge::{
    FunctionTotals, Period, ProfilePartial, SampleFilter, TreeMerger, TreePartial,
};
use scoria_query::render::flamebearer::{self, Graph};
use scoria_query::render::{
    PprofOptions, cost, diff_of_sides, dot, flamegraph, pprof, side, top, tree_bytes, truncate,
};
use scoria_query::request::{Callees, GoPgo};
use scoria_symbols::{SymbolTables, Symbols};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const STACKS: usize = 1_000_000;
const BATCH: usize = 64 * 1024;
/// What a flame graph is cut to unless it is asked for otherwise.
const NODES: usize = 8192;

/// Ten functions below each node, so that every stacktrace is a path of its own.
fn symbols() -> Symbols {
    let mut tables = SymbolTables::default();
    for at in 0..10u32 {
        tables.push_plain(&format!("function{at}"), u64::from(at), 1);
    }
    for node in 0..STACKS as u32 {
        tables.node_parent.push(node / 10);
        tables.node_location.push(node % 10);
    }
    Symbols::from_tables(tables).unwrap()
}

/// Peak bytes of the heap above what is there now.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let done = work();
    (done, HEAP.peak_usage() - before)
}

#[test]
fn a_million_distinct_stacks() {
    let symbols = symbols();
    let functions = FunctionTree::of(&symbols);
    // A page's worth of samples at a time, as they are decoded.
    let mut batch = SampleBatch {
        value: vec![1; BATCH],
        ..SampleBatch::default()
    };
    batch.stack.reserve(BATCH);
    let open = SampleFilter::default();
    // Memory from the first sample to the graph that is handed out, and at what point of the way.
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let peak = || (HEAP.peak_usage() - before) as f64 / STACKS as f64;
    let mut totals = FunctionTotals::new(functions.len());
    for first in (1..=STACKS).step_by(BATCH) {
        batch.stack.clear();
        let last = (first + BATCH).min(STACKS + 1);
        batch.stack.extend(first as u32..last as u32);
        batch.value.truncate(last - first);
        totals.add(&batch, &open, functions.node_of()).unwrap();
    }
    let adding = peak();
    let tree = TreePartial::of_sums(&functions, totals, None);
    let made = peak();
    let mut merger = TreeMerger::default();
    merger.take(tree);
    let tree = merger.finish();
    assert_eq!(tree.total(), STACKS as i64);
    let merged = peak();
    let graph = flamegraph(&truncate(tree, NODES), 0);
    let drawn = peak();
    assert_eq!(graph.total, STACKS as i64);
    println!(
        "bytes a stack, at the peak so far: adding up {adding:.2}, the tree {made:.2}, merged {merged:.2}, {NODES} of its bars drawn {drawn:.2}"
    );
    // Three bits a node: which have values, which stay, and how many before each of these; and the
    // bars, as values and laid out.
    let allowed = 8.0 + 3.0 / 8.0 + (NODES * 60) as f64 / STACKS as f64;
    assert!(drawn <= allowed, "{drawn:.2} bytes a stack");
    let mut totals = FunctionTotals::new(functions.len());
    batch.stack = (1..=STACKS as u32).collect();
    batch.value = vec![1; STACKS];
    totals.add(&batch, &open, functions.node_of()).unwrap();
    let tree = TreePartial::of_sums(&functions, totals, None);
    drawing_takes_no_more_than_it_asks_for(&symbols, &tree);
}

/// Every form of the answer, whole and cut, also where all nodes are equal, so that cutting cuts
/// none.
fn drawing_takes_no_more_than_it_asks_for(symbols: &Symbols, tree: &TreePartial) {
    let kind = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
        .parse()
        .unwrap();
    let names: Vec<String> = (0..200_000).map(|at| format!("function{at}")).collect();
    let equal = TreePartial::from_folded(names.iter().map(|name| (name.as_str(), 1)));
    for (what, tree) in [("deep", tree), ("equal", &equal)] {
        for nodes in [0, NODES] {
            let cutting = cost::cutting(tree, nodes);
            let (cut, took) = peak_of(|| truncate(tree.clone(), nodes));
            let asked = cutting + cost::flamegraph(&cut);
            let ((), drawn) = peak_of(|| {
                let graph = flamegraph(&cut, 0);
                flamebearer::json(Graph::Single(&graph), &kind, None);
            });
            told((what, "flame graph", nodes), asked, took + drawn);
            let asked = cutting + cost::tree_bytes(&cut);
            let (_, drawn) = peak_of(|| tree_bytes(&cut, 0));
            told((what, "tree", nodes), asked, took + drawn);
            let asked = 2 * cutting + cost::diff(&cut, &cut);
            let ((), drawn) = peak_of(|| {
                let (left, right) = (side(tree, nodes).unwrap(), side(tree, nodes).unwrap());
                let graph = diff_of_sides(&left, &right, nodes);
                flamebearer::json(Graph::Double(&graph), &kind, None);
            });
            told((what, "diff", nodes), asked, drawn);
            let (_, drawn) = peak_of(|| dot(tree, &kind, nodes));
            told((what, "dot", nodes), cost::dot(tree, nodes), drawn);
        }
        let (_, drawn) = peak_of(|| top(tree));
        told((what, "top", 0), cost::top(tree), drawn);
    }
    let totals = vec![1; symbols.nodes_len()];
    let profile = ProfilePartial::of_totals(symbols, &totals, None, |_| true, Period::Unknown);
    for go_pgo in [None, Some(for_a_compiler())] {
        let options = PprofOptions {
            kind: &kind,
            end_ms: 0,
            max_nodes: 0,
            go_pgo,
        };
        let (_, drawn) = peak_of(|| pprof(&profile, &options));
        told(("deep", "pprof", 0), cost::pprof(&profile, 0), drawn);
    }
}

fn for_a_compiler() -> GoPgo {
    GoPgo {
        keep_locations: 5,
        callees: Callees::Aggregated,
    }
}

/// What is asked for covers what is taken, and is not many times as much: encodings that are not
/// made here are part of it.
fn told((what, form, nodes): (&str, &str, usize), asked: u64, took: usize) {
    let times = asked as f64 / took as f64;
    println!("{what}, {form}, {nodes} nodes: {took} bytes, {times:.1} times as many asked for");
    assert!(times >= 1.0, "{what}, {form}: {took} of {asked} bytes");
    assert!(
        times <= 12.0,
        "{what}, {form}: only {took} of {asked} bytes"
    );
}
