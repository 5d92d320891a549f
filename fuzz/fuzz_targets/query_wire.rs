//! Scans, partials and trees as bytes: whatever decodes encodes again, merges and renders.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scoria_model::TimeRange;
use scoria_query::merge::{Partial, TreeMerger};
use scoria_query::request::Cells;
use scoria_query::scan::{Exemplars, Heatmap, HeatmapOf, Scan, What};
use scoria_query::selector::Matchers;
use scoria_query::{render, wire};

fn cells() -> Cells {
    Cells {
        scan: Scan {
            matchers: Matchers::default(),
            range: TimeRange::ALL,
            what: What::Heatmap(Heatmap {
                group_by: Vec::new(),
                of: HeatmapOf::Spans,
            }),
        },
        first_ms: -5,
        step_ms: 1000,
        limit: None,
        exemplars: Exemplars::Span,
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(scan) = wire::decode_scan(bytes) {
        wire::decode_scan(&wire::encode_scan(&scan)).expect("an encoded scan decodes");
    }
    if let Ok(tree) = render::decode_tree(bytes) {
        render::flamegraph(&tree, 10);
    }
    let Ok(partial) = wire::decode_partial(bytes) else {
        return;
    };
    let encoded = wire::encode_partial(&partial).expect("a decoded partial encodes");
    wire::decode_partial(&encoded).expect("an encoded partial decodes");
    if let Partial::Values(values) = &partial {
        render::heatmap(values.clone(), &cells());
    }
    if let Partial::Tree(tree) = &partial {
        let mut merger = TreeMerger::default();
        merger.add(tree);
        let merged = merger.finish();
        assert_eq!(merged.total(), tree.total());
        render::tree_bytes(&merged, 3);
        render::top(&merged);
        let _ = render::diff(&merged, tree, 3);
    }
});
