//! A view shows what was encoded, and damage is refused.

use super::*;

fn small() -> Part {
    let mut part = Part::default();
    let main = part.strings.push("main");
    let work = part.strings.push("wörk");
    part.mappings.push(Mapping {
        start: 1,
        limit: 2,
        offset: 3,
        ..Mapping::default()
    });
    for name in [main, work] {
        part.functions.push(Function {
            name,
            system_name: name,
            filename: 0,
            start_line: -1,
        });
    }
    part.location_mapping = vec![0, NONE];
    part.location_address = vec![0x10, u64::MAX];
    part.location_lines_end = vec![1, 3];
    part.lines = [(0, 10), (1, 20), (NONE, 0)]
        .map(|(function, line)| Line { function, line })
        .to_vec();
    part.stack_ends = vec![1, 3];
    part.frames = vec![0, 1, 0];
    let series = part.push_series(&Labels::from_pairs([("service_name", "api")]));
    let kind = part.push_type(&"memory:live:count::".parse().unwrap());
    part.profiles.push(ProfileRow {
        series,
        kind,
        time: Timestamp(5),
        duration_ns: 6,
        period: 7,
        samples_end: 2,
    });
    part.sample_stack = vec![0, 1];
    part.sample_value = vec![3, i64::MAX];
    part.sample_span = vec![0, 9];
    part.sample_trace = vec![[0; 16], [1; 16]];
    part.end_write(RetryKey([7; 16]));
    part.end_write(RetryKey([8; 16]));
    part
}

fn encoded(part: &Part) -> Vec<u8> {
    let mut out = Vec::new();
    part.encode(&mut out);
    out
}

#[test]
fn a_view_shows_what_was_encoded() {
    let part = small();
    let bytes = encoded(&part);
    assert_eq!(bytes.len(), part.encoded_bytes());
    let view = PartView::parse(&bytes).unwrap();
    assert_eq!(
        view.keys().collect::<Vec<_>>(),
        [7, 8].map(|n| RetryKey([n; 16]))
    );
    assert_eq!(view.key(1), RetryKey([8; 16]));
    assert_eq!(
        (view.write_end.span(0), view.write_end.span(1)),
        (0..1, 1..1)
    );
    assert_eq!(view.string(view.function_name.get(1)), "wörk");
    assert_eq!(view.profile_type(0).to_string(), "memory:live:count::");
    assert_eq!(view.series_labels(0).service_name(), "api");
    assert_eq!(view.stack_end.span(1), 1..3);
    assert_eq!(view.sample_value.get_i64(1), i64::MAX);
    assert_eq!((view.span(1), view.trace(1)), (9, [1; 16]));
    assert_eq!(view.function_start_line.get_i64(0), -1);
}

#[test]
fn every_truncation_and_every_flip_is_refused_or_stays_inside() {
    let bytes = encoded(&small());
    for length in 0..bytes.len() {
        assert!(PartView::parse(&bytes[..length]).is_err(), "{length}");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            if let Ok(view) = PartView::parse(&damaged) {
                touch_everything(&view);
            }
        }
    }
}

fn touch_everything(view: &PartView<'_>) {
    for series in 0..view.series_end.len() {
        view.series_labels(series as u32);
    }
    for kind in 0..view.kinds() {
        view.profile_type(kind as u32);
    }
    for frame in view.frame.iter() {
        for line in view.location_lines_end.span(frame as usize) {
            let function = view.line_function.get(line);
            if function != NONE {
                view.string(view.function_name.get(function as usize));
            }
        }
    }
    for profile in 0..view.profile_series.len() {
        for sample in view.profile_samples_end.span(profile) {
            view.stack_end.span(view.sample_stack.get(sample) as usize);
            view.trace(sample);
        }
    }
}
