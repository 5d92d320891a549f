//! Files that somebody uploads to look at them: whatever is taken for a profile must draw, and what
//! was drawn must be read back to the same total.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scoria_cabinet::adhoc::forms::{draw, types_of};
use scoria_model::ProfileType;
use scoria_query::render::flamebearer::{Graph, json};
use scoria_query::render::flamegraph;

const LIMIT: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Ok(types) = types_of(data, LIMIT) else {
        return;
    };
    for kind in types.iter().take(4) {
        let Ok(drawn) = draw(data, Some(&kind.name), LIMIT) else {
            continue;
        };
        let graph = flamegraph(&drawn.tree, 0);
        let kind = ProfileType::new("", (&kind.kind, &kind.unit), ("", ""));
        let text = json(Graph::Single(&graph), &kind, None);
        // Negative values draw no flame graph that could be read again.
        if drawn.tree.totals().iter().any(|total| *total < 0) {
            continue;
        }
        if let Ok(again) = draw(text.as_bytes(), None, u64::MAX) {
            assert_eq!(again.tree.total(), drawn.tree.total());
        }
    }
});
