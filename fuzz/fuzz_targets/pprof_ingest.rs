//! Any bytes as a profile sent to the legacy endpoint by one of the profilers with repairs; the
//! first byte chooses which.
#![no_main]

use scoria_model::part::PartView;
use scoria_model::{Limits, RetryKey, Timestamp};
use scoria_pprof::{Ingest, Normaliser, Origin, Upload};

const SPIES: [&str; 5] = ["pyspy", "rbspy", "dotnetspy", "gospy", "unknown"];

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&choice, pprof)) = input.split_first() else {
        return;
    };
    let upload = Upload {
        pprof,
        labels: &[("service_name", "fuzz")],
        origin: Origin::Ingest(Ingest {
            spy: SPIES[choice as usize % SPIES.len()],
            from: Timestamp(1_700_000_000_000_000_000),
            display_names: Some(&[("inuse-space", "inuse_space")]),
        }),
        key: RetryKey([0; 16]),
        now: Timestamp(1_700_000_000_000_000_000),
    };
    if let Ok(normalised) = Normaliser::new(1).normalise(&upload, &Limits::default()) {
        let mut bytes = Vec::new();
        normalised.part.encode(&mut bytes);
        assert!(PartView::parse(&bytes).is_ok());
    }
});
