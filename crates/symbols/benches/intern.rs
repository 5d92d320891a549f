//! How long it takes to intern a profile whose stacks are all known, and one whose are all new.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use scoria_model::part::{Function, Line, Part, PartView, ProfileRow};
use scoria_model::{Labels, RetryKey, Timestamp};
use scoria_symbols::{Dictionary, InternScratch, NONE};

const STACKS: u32 = 200;
const DEPTH: u32 = 29;

/// The shape of a CPU profile of a busy Go server: 200 stacks of 29 frames that share callers.
fn profile() -> Part {
    let mut part = Part::default();
    for n in 0..1200u32 {
        let name = part
            .strings
            .push(&format!("example.com/shop/pkg{}.(*Type).Method{n}", n % 40));
        part.functions.push(Function {
            name,
            system_name: name,
            filename: 0,
            start_line: 0,
        });
        let line = Line {
            function: n,
            line: i64::from(n % 300),
        };
        part.push_location((NONE, 0), [line]);
    }
    for stack in 0..STACKS {
        for frame in (0..DEPTH).rev() {
            // The root side is shared by more stacks than the leaf side.
            let branch = (stack * 7919) >> (2 + (DEPTH - frame) / 3);
            part.frames.push((frame * 41 + branch) % 1200);
        }
        part.stack_ends.push(part.frames.len() as u32);
        part.sample_stack.push(stack);
        part.sample_value.push(10_000_000);
    }
    let series = part.push_series(&Labels::from_pairs([("service_name", "shop")]));
    let kind = part.push_type(&scoria_model::ProfileType::new(
        "cpu",
        ("cpu", "ns"),
        ("cpu", "ns"),
    ));
    part.profiles.push(ProfileRow {
        series,
        kind,
        time: Timestamp(0),
        duration_ns: 0,
        period: 0,
        samples_end: STACKS,
    });
    part.end_write(RetryKey([0; 16]));
    part
}

fn intern(criterion: &mut Criterion) {
    let mut bytes = Vec::new();
    profile().encode(&mut bytes);
    let Ok(part) = PartView::parse(&bytes) else {
        return;
    };
    let mut group = criterion.benchmark_group("intern");
    group.throughput(Throughput::Elements(u64::from(STACKS * DEPTH)));
    let mut scratch = InternScratch::default();
    let mut warm = Dictionary::new();
    warm.intern(&part, &mut scratch);
    group.bench_function("known stacks, per frame", |bencher| {
        bencher.iter(|| warm.intern(&part, &mut scratch));
    });
    group.bench_function("new stacks, per frame", |bencher| {
        bencher.iter_batched(
            Dictionary::new,
            |mut cold| {
                cold.intern(&part, &mut scratch);
                cold
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("snapshot", |bencher| bencher.iter(|| warm.snapshot()));
    group.finish();
}

criterion_group!(benches, intern);
criterion_main!(benches);
