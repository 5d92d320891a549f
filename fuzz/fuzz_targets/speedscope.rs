//! Any bytes as a speedscope file; whatever it holds is weighed in nanoseconds.
#![no_main]

use scoria_model::ByteBudget;
use scoria_pprof::DraftTerms;
use scoria_pprof::speedscope::{Scale, Speedscope};
use scoria_pprof::stacks::{Measure, Stacks};

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
        period: 1,
        factor: 1,
    };
    let Ok(file) = Speedscope::parse(body) else {
        return;
    };
    for group in file.groups() {
        let Ok(mut into) = Stacks::new(&terms, &measure, 0, body.len() as u64) else {
            return;
        };
        let power = group.unit.nanoseconds_power().unwrap_or_default();
        let scale = Scale { power, factor: 1 };
        if file.fill(&group, scale, &mut into).is_ok() {
            let mut draft = into.finish();
            assert!(draft.raw().columns.values.iter().all(|value| value >= 0));
        }
    }
});
