//! Any bytes as a pushed profile; a part that comes out must read back.
#![no_main]

use scoria_model::part::PartView;
use scoria_model::{Limits, RetryKey, Timestamp};
use scoria_pprof::{Normaliser, Origin, Upload};

libfuzzer_sys::fuzz_target!(|pprof: &[u8]| {
    let upload = Upload {
        pprof,
        labels: &[("__name__", "process_cpu"), ("service_name", "fuzz")],
        origin: Origin::Push,
        key: RetryKey([0; 16]),
        now: Timestamp(1_700_000_000_000_000_000),
    };
    let limits = Limits {
        reject_older_than_ms: 0,
        reject_newer_than_ms: 0,
        max_profile_symbol_value_length: 16,
        max_profile_stacktrace_depth: 8,
        ..Limits::default()
    };
    if let Ok(normalised) = Normaliser::new(1).normalise(&upload, &limits) {
        let mut bytes = Vec::new();
        normalised.part.encode(&mut bytes);
        assert!(PartView::parse(&bytes).is_ok());
    }
});
