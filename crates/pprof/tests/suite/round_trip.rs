//! Properties: what the encoder writes normalises to the model of it, and no damage panics.

use std::collections::BTreeMap;

use proptest::prelude::*;
use scoria_model::Limits;
use scoria_pprof::{Decompressor, Normaliser, RawProfile};

use crate::support::{LABELS, any_time, folded, normalise, push, small};

const NAMES: [&str; 6] = [
    "main",
    "work",
    "sleep",
    "alloc",
    "ünïcode",
    "x.y[go.shape.int]",
];
const TAGS: [&str; 3] = ["red", "green", ""];

/// Frames leaf first, value, tag.
type Sample = (Vec<usize>, i64, usize);

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let frames = prop::collection::vec(0..NAMES.len(), 1..6);
    let value = prop_oneof![8 => 1..1000i64, 1 => Just(0), 1 => -5..0i64];
    prop::collection::vec((frames, value, 0..TAGS.len()), 0..40)
}

fn encoded(samples: &[Sample]) -> Vec<u8> {
    let frames: Vec<Vec<&str>> = samples
        .iter()
        .map(|(frames, ..)| frames.iter().map(|&at| NAMES[at]).collect())
        .collect();
    let parts: Vec<_> = samples
        .iter()
        .map(|&(_, value, tag)| ([value], [("tag", TAGS[tag])]))
        .collect();
    let rows: Vec<_> = frames
        .iter()
        .zip(&parts)
        .map(|(frames, (values, tags))| (frames.as_slice(), values.as_slice(), tags.as_slice()))
        .collect();
    small(&[("samples", "count")], &rows)
}

/// Tag → folded stack → sum, by the plainest code.
fn expected(samples: &[Sample]) -> BTreeMap<&str, BTreeMap<String, i64>> {
    let mut out: BTreeMap<&str, BTreeMap<String, i64>> = BTreeMap::new();
    for (frames, value, tag) in samples.iter().filter(|sample| sample.1 > 0) {
        let names = frames.iter().rev().map(|&at| match NAMES[at] {
            "x.y[go.shape.int]" => "x.y[...]",
            name => name,
        });
        let stack = names.collect::<Vec<_>>().join(";");
        *out.entry(TAGS[*tag]).or_default().entry(stack).or_default() += value;
    }
    out
}

proptest! {
    #[test]
    fn a_part_is_what_was_encoded(samples in samples()) {
        let bytes = encoded(&samples);
        let normalised = normalise(&push(&bytes, LABELS), &any_time()).unwrap();
        let profiles = folded(&normalised);
        let expected = expected(&samples);
        prop_assert_eq!(profiles.len(), expected.len());
        for (tag, stacks) in expected {
            let wanted = if tag.is_empty() { r#""api"}"#.to_owned() } else { format!("tag={tag:?}") };
            let found = profiles.iter().find(|(key, _)| key.contains(&wanted));
            let mut lines: Vec<String> =
                stacks.iter().map(|(stack, value)| format!("{stack} {value}")).collect();
            lines.sort();
            prop_assert_eq!(found.map(|(_, lines)| lines), Some(&lines));
        }
    }

    #[test]
    fn scratch_and_seed_change_nothing(samples in prop::collection::vec(samples(), 1..4), seed: u64) {
        let mut used = Normaliser::new(seed);
        for samples in &samples {
            let bytes = encoded(samples);
            let upload = push(&bytes, LABELS);
            let again = used.normalise(&upload, &any_time());
            prop_assert_eq!(&again, &normalise(&upload, &any_time()));
            if let Ok(again) = again {
                used.take_back(again.part);
            }
        }
    }

    #[test]
    fn damaged_bytes_are_refused_or_make_a_sound_part(
        samples in samples(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = encoded(&samples);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(normalised) = normalise(&push(&bytes, LABELS), &any_time()) {
            folded(&normalised);
        }
    }

    #[test]
    fn any_bytes_at_all(bytes in prop::collection::vec(any::<u8>(), 0..300), limit in 0..400u64) {
        drop(RawProfile::decode(&bytes));
        let limits = Limits { max_profile_size_bytes: limit, ..any_time() };
        if let Ok(normalised) = normalise(&push(&bytes, LABELS), &limits) {
            folded(&normalised);
        }
        let body = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0][..], &bytes].concat();
        if let Ok(plain) = Decompressor::new().decompress(&body, limit) {
            prop_assert!(limit == 0 || plain.len() as u64 <= limit);
        }
    }
}
