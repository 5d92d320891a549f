//! Any bytes as a trie of stacks.
#![no_main]

use scoria_model::{ByteBudget, Limits, RetryKey, Timestamp};
use scoria_pprof::stacks::{Measure, Stacks};
use scoria_pprof::{About, DraftTerms, Normaliser, Origin, trie};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let terms = DraftTerms {
        seed: 1,
        memory: ByteBudget::new("fuzz", 8 << 20),
        max_bytes: 1 << 20,
    };
    let measure = Measure {
        kind: "cpu",
        unit: "nanoseconds",
        period_type: ("cpu", "nanoseconds"),
        period: 10_000_000,
        factor: 10_000_000,
    };
    let Ok(mut into) = Stacks::new(&terms, &measure, 0, body.len() as u64) else {
        return;
    };
    let read = trie::read_trie(body, &mut into);
    if read.is_err() {
        return;
    }
    let about = About {
        labels: &[("__name__", "process_cpu"), ("service_name", "fuzz")],
        origin: Origin::Push,
        key: RetryKey([0; 16]),
        now: Timestamp(1_700_000_000_000_000_000),
    };
    // Text that is not UTF-8 is refused here.
    let _ = Normaliser::new(1).normalise_draft(into.finish(), &about, &Limits::default());
    assert_eq!(terms.memory.used(), 0);
});
