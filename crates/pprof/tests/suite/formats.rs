//! The formats without types against each other and against pprof: the same stacks, written down in
//! any of them, become the same profile.

use std::collections::BTreeMap;

use proptest::prelude::*;
use scoria_model::varint::{put_bytes, put_u64};
use scoria_model::{ByteBudget, Limits, RetryKey};
use scoria_pprof::speedscope::{Scale, Speedscope};
use scoria_pprof::stacks::{Measure, StackError, Stacks};
use scoria_pprof::{About, DraftTerms, Normaliser, Origin, folded, tree, trie};

use crate::support::{self, LABELS, NOW, any_time, push, small};

/// Stacks, root first, with their counts.
type Counts = BTreeMap<Vec<String>, u64>;

const MEASURE: Measure<'static> = Measure {
    kind: "cpu",
    unit: "nanoseconds",
    period_type: ("cpu", "nanoseconds"),
    period: 10_000_000,
    factor: 10_000_000,
};

fn limits() -> Limits {
    Limits {
        max_profile_stacktrace_samples: 0,
        ..any_time()
    }
}

/// What is stored of a body that `fill` reads.
fn stored(
    fill: impl FnOnce(&mut Stacks) -> Result<(), StackError>,
) -> BTreeMap<String, Vec<String>> {
    let terms = DraftTerms {
        seed: 5,
        memory: ByteBudget::new("test", 64 << 20),
        max_bytes: 0,
    };
    let mut into = Stacks::new(&terms, &MEASURE, NOW.0, 1 << 20).expect("there is memory");
    fill(&mut into).expect("the body is whole");
    let about = About {
        labels: LABELS,
        origin: Origin::Push,
        key: RetryKey([3; 16]),
        now: NOW,
    };
    let normalised = Normaliser::new(7).normalise_draft(into.finish(), &about, &limits());
    let normalised = normalised.expect("the profile is well formed");
    assert_eq!(terms.memory.used(), 0);
    support::folded(&normalised)
}

fn as_groups(counts: &Counts) -> String {
    let lines = counts.iter();
    lines.fold(String::new(), |text, (stack, count)| {
        text + &format!("{} {count}\n", stack.join(";"))
    })
}

fn as_lines(counts: &Counts) -> String {
    let stacks = counts.iter();
    let lines = stacks.flat_map(|(stack, &count)| {
        let line = stack.join(";") + "\n";
        std::iter::repeat_n(line, count as usize)
    });
    lines.collect()
}

#[derive(Default)]
struct Node {
    own: u64,
    children: BTreeMap<String, Node>,
}

impl Node {
    fn of_frames(counts: &Counts) -> Self {
        let mut root = Self::default();
        for (stack, count) in counts {
            let mut node = &mut root;
            for frame in stack {
                node = node.children.entry(frame.clone()).or_default();
            }
            node.own += count;
        }
        root
    }

    /// By single characters, so that most fragments end inside of a frame's name.
    fn of_characters(counts: &Counts) -> Self {
        let spelled = counts.iter().map(|(stack, &count)| {
            let text = stack.join(";");
            (text.chars().map(String::from).collect(), count)
        });
        Self::of_frames(&spelled.collect())
    }

    fn write(&self, name: &str, out: &mut Vec<u8>) {
        put_bytes(out, name.as_bytes());
        put_u64(out, self.own);
        put_u64(out, self.children.len() as u64);
        for (name, child) in &self.children {
            child.write(name, out);
        }
    }

    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write("", &mut out);
        out
    }
}

fn as_speedscope(counts: &Counts) -> String {
    let mut names: Vec<&String> = counts.keys().flatten().collect();
    names.sort();
    names.dedup();
    let at = |frame: &String| names.binary_search(&frame).unwrap_or_default().to_string();
    let samples: Vec<String> = counts
        .keys()
        .map(|stack| format!("[{}]", stack.iter().map(at).collect::<Vec<_>>().join(",")))
        .collect();
    let weights: Vec<String> = counts.values().map(u64::to_string).collect();
    let frames: Vec<String> = names
        .iter()
        .map(|name| serde_json::json!({ "name": name }).to_string())
        .collect();
    format!(
        r#"{{"$schema":"https://www.speedscope.app/file-format-schema.json",
            "shared":{{"frames":[{}]}},
            "profiles":[{{"type":"sampled","name":"p","unit":"none","startValue":0,
                          "samples":[{}],"weights":[{}]}}]}}"#,
        frames.join(","),
        samples.join(","),
        weights.join(",")
    )
}

fn as_pprof(counts: &Counts) -> Vec<u8> {
    let rows: Vec<(Vec<&str>, [i64; 1])> = counts
        .iter()
        .map(|(stack, &count)| {
            let frames = stack.iter().rev().map(String::as_str).collect();
            (frames, [count as i64 * MEASURE.factor])
        })
        .collect();
    let rows: Vec<support::Row<'_>> = rows
        .iter()
        .map(|(frames, values)| (&frames[..], &values[..], &[][..]))
        .collect();
    small(&[("cpu", "nanoseconds")], &rows)
}

fn counts() -> impl Strategy<Value = Counts> {
    let frame = prop_oneof![
        4 => "[a-c]{1,2}",
        1 => "[a-zé (){}\"\\\\,.:<>]{0,12}",
    ];
    // Neither a stack without frames nor one of a single empty frame can be told apart in text.
    let stack = prop::collection::vec(frame, 1..6)
        .prop_filter("a text of no bytes is no stack", |stack| {
            !stack.join(";").is_empty()
        });
    prop::collection::btree_map(stack, 1_u64..50, 0..20)
}

proptest! {
    #[test]
    fn the_same_stacks_are_the_same_profile_in_every_format(counts in counts()) {
        let groups = as_groups(&counts);
        let expected = stored(|into| folded::read_groups(groups.as_bytes(), into).map(drop));
        let lines = as_lines(&counts);
        prop_assert_eq!(&expected, &stored(|into| folded::read_lines(lines.as_bytes(), into)));
        let body = Node::of_frames(&counts).encoded();
        prop_assert_eq!(&expected, &stored(|into| tree::read_tree(&body, into)));
        let body = Node::of_characters(&counts).encoded();
        prop_assert_eq!(&expected, &stored(|into| trie::read_trie(&body, into)));
        let json = as_speedscope(&counts);
        let speedscope = stored(|into| {
            let file = Speedscope::parse(json.as_bytes()).expect("the file is whole");
            let scale = Scale { power: 0, factor: MEASURE.factor };
            for group in file.groups() {
                file.fill(&group, scale, into).expect("the profile is whole");
            }
            Ok(())
        });
        prop_assert_eq!(&expected, &speedscope);
        let pprof = as_pprof(&counts);
        let pushed = support::normalise(&push(&pprof, LABELS), &limits());
        prop_assert_eq!(&expected, &support::folded(&pushed.expect("the profile is well formed")));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let terms = DraftTerms { seed: 5, memory: ByteBudget::new("test", 1 << 20), max_bytes: 0 };
        let into = || Stacks::new(&terms, &MEASURE, 0, 0).expect("there is memory");
        let _ = folded::read_groups(&body, &mut into());
        let _ = folded::read_lines(&body, &mut into());
        let _ = trie::read_trie(&body, &mut into());
        let _ = tree::read_tree(&body, &mut into());
        let _ = Speedscope::parse(&body).is_ok();
        prop_assert_eq!(terms.memory.used(), 0);
    }
}
