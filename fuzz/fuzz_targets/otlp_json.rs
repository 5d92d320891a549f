//! Any bytes as an export in JSON: what is rewritten reads as an export or is refused by it.
#![no_main]

use scoria_model::ByteBudget;
use scoria_pprof::DraftTerms;
use scoria_pprof::otlp::{Export, json};

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let terms = DraftTerms {
        seed: 1,
        memory: ByteBudget::new("fuzz", 32 << 20),
        max_bytes: 1 << 20,
    };
    if let Ok((body, _permit)) = json::transcode(text, &terms.memory)
        && let Ok(export) = Export::read_transcoded(&body, &terms.memory)
    {
        let mut converter = export.converter();
        for at in 0..export.n_profiles() {
            drop(converter.profile(at, &terms));
        }
    }
    assert_eq!(terms.memory.used(), 0);
});
