//! A view shows what was encoded, and damage is refused.

use super::*;
use crate::packed::Row;

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
    part.push_location((0, 0x10), [(0, 10)].map(Line::of));
    part.push_location((NONE, u64::MAX), [(1, 20), (NONE, 0)].map(Line::of));
    part.stack_ends = [1, 3].into();
    part.frames = [0, 1, 0].into();
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
    part.sample_stack = [0, 1].into();
    part.sample_value = [3, i64::MAX].into();
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
    assert!(bytes.len() <= part.encoded_bytes());
    assert_eq!(bytes.len(), bytes.capacity());
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
    assert_eq!(view.sample_value.get(1), i64::MAX);
    assert_eq!((view.span(1), view.trace(1)), (9, [1; 16]));
    assert_eq!(view.function_start_line.get(0), -1);
}

/// As the version before wrote it: all numbers in four or eight bytes.
fn of_the_version_before(part: &Part) -> Vec<u8> {
    const SIGNED: [usize; 6] = [3, 5, 6, 7, 8, 9];
    let mut out = OLD_MAGIC.to_vec();
    let counts = part.counts().into_iter().chain([0]);
    counts.for_each(|n| out.extend_from_slice(&(n as u32).to_le_bytes()));
    let keys = part.writes.iter().map(|write| &write.key.0);
    keys.chain(&part.sample_trace)
        .for_each(|id| out.extend_from_slice(id));
    let rows = RowColumns::of(part);
    for (at, column) in part.columns(&rows).into_iter().enumerate() {
        let size = if at < COLUMNS_64 { 8 } else { 4 };
        for number in column.bytes.chunks(usize::from(column.width)) {
            let is_negative = SIGNED.contains(&at) && number[number.len() - 1] & 0x80 != 0;
            let mut wide = vec![if is_negative { 0xff } else { 0 }; size];
            wide[..number.len()].copy_from_slice(number);
            out.extend(wide);
        }
    }
    out.extend_from_slice(&part.strings.bytes);
    out
}

#[test]
fn a_part_of_the_version_before_is_read() {
    let part = small();
    let bytes = of_the_version_before(&part);
    let old = PartView::parse(&bytes).unwrap();
    let bytes = encoded(&part);
    let new = PartView::parse(&bytes).unwrap();
    assert_eq!(old.frame, new.frame);
    assert_eq!(old.string(old.function_name.get(1)), "wörk");
    assert_eq!(old.function_start_line.get(0), -1);
    assert_eq!(old.location_mapping, new.location_mapping);
    assert_eq!(old.location_address, new.location_address);
    assert_eq!(old.line_number, new.line_number);
    assert_eq!(old.sample_value, new.sample_value);
    assert_eq!(old.profile_type(0), new.profile_type(0));
    assert_eq!(old.series_labels(0), new.series_labels(0));
    assert_eq!((old.span(1), old.trace(1)), (9, [1; 16]));
}

#[test]
fn numbers_are_as_wide_as_theirs_can_be() {
    let bytes = encoded(&small());
    // The first width is that of a column of 64-bit numbers, the last that of one of 32-bit numbers.
    let (first, last) = (4 + COUNTS * 4, HEAD_BYTES - 1);
    for (at, column, width, rows) in [(first, 0, 9, 1), (last, 31, 5, 2), (last, 31, 0, 2)] {
        let mut broken = bytes.clone();
        let before = usize::from(std::mem::replace(&mut broken[at], width));
        let place = HEAD_BYTES..HEAD_BYTES + before * rows;
        broken.splice(place, vec![0; usize::from(width) * rows]);
        let error = PartError::Width { column, width };
        assert_eq!(PartView::parse(&broken).unwrap_err(), error);
    }
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

#[test]
fn a_frame_needs_a_location() {
    let mut part = small();
    part.locations.clear();
    part.lines.clear();
    let error = PartView::parse(&encoded(&part)).unwrap_err();
    let expected = PartError::Index {
        column: "frame",
        at: 0,
        value: 0,
        size: 0,
    };
    assert_eq!(error, expected);
}

#[test]
fn large_columns_are_sent_narrow() {
    let mut part = small();
    let n = 20_000_u32;
    part.sample_value = [3, 9].into();
    part.frames.extend((0..n).map(|at| at % 2));
    part.stack_ends.extend((0..n).map(|at| 4 + at));
    part.sample_stack.extend((0..n).map(|at| at + 2));
    part.sample_value.extend((0..n).map(|at| i64::from(at) - 7));
    part.sample_span.clear();
    part.sample_trace.clear();
    part.profiles[0].samples_end = n + 2;
    let bytes = encoded(&part);
    assert_eq!(bytes.len(), bytes.capacity());
    assert!(
        bytes.len() < n as usize * (1 + 2 + 2 + 3),
        "{}",
        bytes.len()
    );
    let view = PartView::parse(&bytes).unwrap();
    assert_eq!(view.frame, part.frames.as_slice());
    assert_eq!(view.stack_end, part.stack_ends.as_slice());
    assert_eq!(view.sample_stack, part.sample_stack.as_slice());
    assert_eq!(view.sample_value, part.sample_value.as_slice());
    assert_eq!(
        (view.sample_value.get(2), view.sample_value.len()),
        (-7, 20_002)
    );
    let whole = view.whole_bytes();
    let columns = n as usize * (4 + 4 + 4 + 8);
    assert!((columns..columns + 1000).contains(&whole), "{whole}");
    let frames = part.frames.len() * (4 - part.frames.width());
    let samples = 20_002 * (2 + 6) + 20_002 * (4 - part.stack_ends.width());
    assert_eq!(part.narrowed_bytes(), samples + frames);
    touch_everything(&view);
}
