//! Any bytes as an export of OTLP profiles: nothing panics, no memory stays taken, and what is
//! converted can be normalised, into a part of its own or a shared one with the same outcome.
#![no_main]

use scoria_model::part::PartView;
use scoria_model::{ByteBudget, Limits, RetryKey, Timestamp};
use scoria_pprof::otlp::Export;
use scoria_pprof::{About, DraftTerms, Joined, Normaliser, Origin, Room};

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
        let limits = Limits {
            reject_older_than_ms: 0,
            reject_newer_than_ms: 0,
            ..Limits::default()
        };
        for at in 0..export.n_profiles() {
            // Converted twice: once for a part of its own, once for the one that they share.
            let alone = converter.profile(at, &terms).unwrap_or_default();
            let shared = converter.profile(at, &terms).unwrap_or_default();
            for (alone, shared) in alone.into_iter().zip(shared) {
                let pairs = alone.labels.iter();
                let labels: Vec<(&str, &str)> = pairs.map(|(n, v)| (&**n, &**v)).collect();
                let about = About {
                    labels: &labels,
                    origin: Origin::Push,
                    key: RetryKey([0; 16]),
                    now: Timestamp(1_700_000_000_000_000_000),
                };
                let mut own = Joined::new(1, Room::default());
                let draft = (alone.draft, Some(&export));
                let told = normaliser.normalise_into(&mut own, draft, &about, &limits);
                let mut draft = shared.draft;
                joined.move_stacks(&mut draft, &export, (&labels, &limits));
                let export = (!draft.is_moved()).then_some(&export);
                let draft = (draft, export);
                let again = normaliser.normalise_into(&mut joined, draft, &about, &limits);
                assert_eq!(told, again);
                values.extend(own.part().sample_value.iter());
                let mut bytes = Vec::new();
                own.into_part().encode(&mut bytes);
                assert!(PartView::parse(&bytes).is_ok());
            }
        }
        let mut bytes = Vec::new();
        joined.into_part().encode(&mut bytes);
        let view = PartView::parse(&bytes).expect("a joined part is sound");
        let together = (0..values.len()).map(|at| view.sample_value.get(at));
        assert!(together.eq(values.iter().copied()));
    }
    assert_eq!(terms.memory.used(), 0);
});
