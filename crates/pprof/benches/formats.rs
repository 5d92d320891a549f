//! Speed of the formats without types, from the body to the part, in bytes of the body per second.
//!
//! Each is given the same stacks: those of a service with some hundred functions, 24 frames deep.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scoria_model::varint::{put_bytes, put_u64};
use scoria_model::{ByteBudget, Limits, RetryKey, Timestamp};
use scoria_pprof::stacks::{Measure, StackError, Stacks};
use scoria_pprof::{About, DraftTerms, Normaliser, Origin, folded, tree, trie};

type Read = fn(&[u8], &mut Stacks) -> Result<(), StackError>;

const N_STACKS: usize = 5_000;
const DEPTH: usize = 24;

fn stack(at: usize) -> Vec<String> {
    (0..DEPTH)
        .map(|depth| {
            let n = (at * 7 + depth * 31 + at * depth) % 700;
            format!("com.example.shop.module{}.Service{n}.handleRequest", n % 40)
        })
        .collect()
}

fn groups() -> Vec<u8> {
    let lines = (0..N_STACKS).map(|at| format!("{} {}\n", stack(at).join(";"), at + 1));
    lines.collect::<String>().into_bytes()
}

/// One branch for each stack, its frames in front of `separator` but for the first.
fn branches(separator: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut node = |name: &str, own: usize, n_children: usize| {
        put_bytes(&mut out, name.as_bytes());
        put_u64(&mut out, own as u64);
        put_u64(&mut out, n_children as u64);
    };
    node("", 0, N_STACKS);
    for at in 0..N_STACKS {
        for (depth, name) in stack(at).iter().enumerate() {
            let is_leaf = depth + 1 == DEPTH;
            let separator = if depth == 0 { "" } else { separator };
            let own = if is_leaf { at + 1 } else { 0 };
            node(&format!("{separator}{name}"), own, usize::from(!is_leaf));
        }
    }
    out
}

fn benches(c: &mut Criterion) {
    let terms = DraftTerms {
        seed: 1,
        memory: ByteBudget::new("bench", 1 << 30),
        max_bytes: 0,
    };
    let measure = Measure {
        kind: "cpu",
        unit: "nanoseconds",
        period_type: ("cpu", "nanoseconds"),
        period: 10_000_000,
        factor: 10_000_000,
    };
    let about = About {
        labels: &[("__name__", "process_cpu"), ("service_name", "bench")],
        origin: Origin::Push,
        key: RetryKey([0; 16]),
        now: Timestamp(1),
    };
    let limits = Limits::default();
    let inputs: [(&str, Vec<u8>, Read); 4] = [
        ("groups", groups(), |body, into| {
            folded::read_groups(body, into).map(drop)
        }),
        ("lines", groups(), folded::read_lines),
        ("tree", branches(""), tree::read_tree),
        ("trie", branches(";"), trie::read_trie),
    ];
    for (name, body, read) in inputs {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("draft", |b| {
            b.iter(|| {
                let into = Stacks::new(&terms, &measure, 0, body.len() as u64);
                let mut into = into.expect("there is memory");
                black_box(read(&body, &mut into).is_ok())
            });
        });
        group.bench_function("part", |b| {
            let mut normaliser = Normaliser::new(1);
            b.iter(|| {
                let into = Stacks::new(&terms, &measure, 0, body.len() as u64);
                let mut into = into.expect("there is memory");
                let read = read(&body, &mut into);
                let part = normaliser.normalise_draft(into.finish(), &about, &limits);
                black_box((read.is_ok(), part.is_ok()))
            });
        });
        group.finish();
    }
}

criterion_group!(formats, benches);
criterion_main!(formats);
