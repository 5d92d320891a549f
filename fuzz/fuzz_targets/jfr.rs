//! Any bytes as a JFR recording, and then as the labels beside it; the first two bytes say how long
//! the labels are.
#![no_main]

use scoria_model::ByteBudget;
use scoria_pprof::DraftTerms;
use scoria_pprof::jfr::{Conversion, Recording, Snapshot};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&[high, low], rest)) = input.split_first_chunk() else {
        return;
    };
    let n = rest.len().min(usize::from(u16::from_be_bytes([high, low])));
    let (labels, bytes) = rest.split_at(n);
    let memory = ByteBudget::new("fuzz", 256 << 20);
    let Ok(snapshot) = Snapshot::read(labels, 1, &memory) else {
        return;
    };
    let Ok(recording) = Recording::read(bytes, 1, &memory) else {
        return;
    };
    let conversion = Conversion {
        time_ns: 1_700_000_000_000_000_000,
        duration_ns: 10_000_000_000,
        sample_rate: 100,
        snapshot: &snapshot,
        max_samples: 16_000,
    };
    let terms = DraftTerms {
        seed: 1,
        memory: memory.clone(),
        max_bytes: 1 << 20,
    };
    let mut profiles = recording.profiles(conversion, terms);
    while let Ok(Some(profile)) = profiles.next_profile() {
        assert!(profile.draft.n_samples() > 0);
    }
    drop((recording, snapshot));
    assert_eq!(memory.used(), 0);
});
