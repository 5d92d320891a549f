//! Any bytes as an export of OTLP profiles: nothing panics, no memory stays taken, and what is
//! converted can be normalised, and joined without a change to what it adds up to.
#![no_main]

use scoria_model::part::PartView;
use scoria_model::{ByteBudget, Limits, RetryKey, Timestamp};
use scoria_pprof::otlp::Export;
use scoria_pprof::{About, DraftTerms, Joined, Normaliser, Origin};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let terms = DraftTerms {
        seed: 1,
        memory: ByteBudget::new("fuzz", 32 << 20),
        max_bytes: 1 << 20,
    };
    if let Ok(export) = Export::read(body, &terms.memory) {
        let mut converter = export.converter();
        let mut normaliser = Normaliser::new(1);
        let mut joined = Joined::new(1, export.room());
        let mut values = Vec::new();
        for at in 0..export.n_profiles() {
            for converted in converter.profile(at, &terms).unwrap_or_default() {
                let pairs = converted.labels.iter();
                let labels: Vec<(&str, &str)> = pairs.map(|(n, v)| (&**n, &**v)).collect();
                let about = About {
                    labels: &labels,
                    origin: Origin::Push,
                    key: RetryKey([0; 16]),
                    now: Timestamp(1_700_000_000_000_000_000),
                };
                let limits = Limits {
                    reject_older_than_ms: 0,
                    reject_newer_than_ms: 0,
                    ..Limits::default()
                };
                let normalised = normaliser.normalise_draft(converted.draft, &about, &limits);
                if let Ok(normalised) = normalised {
                    let mut bytes = Vec::new();
                    normalised.part.encode(&mut bytes);
                    assert!(PartView::parse(&bytes).is_ok());
                    if !normalised.part.profiles.is_empty() {
                        values.extend_from_slice(&normalised.part.sample_value);
                        joined.add(normalised.part);
                    }
                }
            }
        }
        if !values.is_empty() {
            let mut bytes = Vec::new();
            joined.into_part().encode(&mut bytes);
            let view = PartView::parse(&bytes).expect("a joined part is sound");
            let together = (0..values.len()).map(|at| view.sample_value.get_i64(at));
            assert!(together.eq(values.iter().copied()));
        }
    }
    assert_eq!(terms.memory.used(), 0);
});
