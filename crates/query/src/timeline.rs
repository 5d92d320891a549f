//! Times and timelines of the legacy HTTP interface.
//!
//! # Invariants
//! - A timeline has one entry per step from its snapped start to its snapped end.
//!
//! # What it must not know
//! The clock: `now` is an argument.

use scoria_model::TimeRange;

use crate::render::SeriesPoints;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Finest step of a timeline, in seconds.
pub const STEP_MIN_S: i64 = 15;

/// Points that a timeline should have at most, roughly.
const POINTS: i64 = 1500;

/// Most entries of a timeline; its step is made coarse enough to stay below.
const ENTRIES_MAX: i64 = 100_000;

/// Reads a time in Unix milliseconds: nothing (now), a number (seconds, milliseconds, microseconds
/// or nanoseconds by its length, or a day as YYYYMMDD), or an offset from now such as `now-3h30m`.
/// The word before the sign does not matter, and units that are not known count nothing.
pub fn parse_time(text: &str, now_ms: i64) -> i64 {
    let text: String = text
        .chars()
        .filter(|c| !matches!(c, ' ' | '_' | ','))
        .collect();
    if text.is_empty() || text == "now" {
        return now_ms;
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return parse_number(&text);
    }
    let (sign, offset) = match text.split_once('+') {
        Some((_, offset)) => (1, offset),
        None => match text.split_once('-') {
            Some((_, offset)) => (-1, offset),
            None => return now_ms,
        },
    };
    now_ms.saturating_add(offset_ms(offset).saturating_mul(sign))
}

fn parse_number(digits: &str) -> i64 {
    if digits.len() == 8
        && let Some(ms) = day_ms(digits)
    {
        return ms;
    }
    let n: i64 = digits.parse().unwrap_or(i64::MAX);
    match digits.len() {
        13 => n,
        16 => n / 1000,
        19 => n / 1_000_000,
        _ => n.saturating_mul(SECOND),
    }
}

/// Midnight UTC of YYYYMMDD, if that is a day.
fn day_ms(digits: &str) -> Option<i64> {
    let part = |range: std::ops::Range<usize>| digits.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days_in).contains(&day) {
        return None;
    }
    // Days since the epoch by counting years from March, so that a leap day is a year's last.
    let y = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + of_year;
    Some((days - 719_468) * DAY)
}

/// The sum of a run of numbers with units.
fn offset_ms(text: &str) -> i64 {
    let mut sum: i64 = 0;
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        rest = &rest[start..];
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let n: i64 = rest[..digits].parse().unwrap_or(i64::MAX);
        rest = &rest[digits..];
        let length = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        sum = sum.saturating_add(n.saturating_mul(unit_ms(&rest[..length])));
        rest = &rest[length..];
    }
    sum
}

fn unit_ms(unit: &str) -> i64 {
    match unit {
        "M" => 30 * DAY,
        unit if unit.starts_with("mon") => 30 * DAY,
        unit if unit.starts_with('s') => SECOND,
        "m" => MINUTE,
        unit if unit.starts_with("min") => MINUTE,
        unit if unit.starts_with('h') => HOUR,
        unit if unit.starts_with('d') => DAY,
        unit if unit.starts_with('w') => 7 * DAY,
        unit if unit.starts_with('y') => 365 * DAY,
        _ => 0,
    }
}

/// The step of a timeline over a range, in seconds.
pub fn step_s(from_ms: i64, until_ms: i64) -> i64 {
    // The longest interval of each step, and the step.
    const LADDER: [(i64, i64); 18] = [
        (17_500, 15 * SECOND),
        (25_000, 20 * SECOND),
        (45_000, 30 * SECOND),
        (90_000, MINUTE),
        (210_000, 2 * MINUTE),
        (450_000, 5 * MINUTE),
        (750_000, 10 * MINUTE),
        (1_050_000, 15 * MINUTE),
        (1_500_000, 20 * MINUTE),
        (2_700_000, 30 * MINUTE),
        (90 * MINUTE, HOUR),
        (150 * MINUTE, 2 * HOUR),
        (270 * MINUTE, 3 * HOUR),
        (9 * HOUR, 6 * HOUR),
        (DAY, 12 * HOUR),
        (7 * DAY, DAY),
        (21 * DAY, 7 * DAY),
        (42 * DAY - 1, 30 * DAY),
    ];
    let interval = until_ms.saturating_sub(from_ms) / POINTS;
    let step = LADDER
        .iter()
        .find(|&&(longest, _)| interval <= longest)
        .map_or(365 * DAY, |&(_, step)| step);
    (step / SECOND).max(STEP_MIN_S)
}

/// Values at even steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Unix seconds, a multiple of the step.
    pub start_s: i64,
    pub step_s: i64,
    pub samples: Vec<u64>,
}

impl Timeline {
    /// All zeros.
    pub fn empty(range: TimeRange, step_s: i64) -> Self {
        let step_s = step_s.max(1);
        let snap = |ms: i64| ms.div_euclid(SECOND).div_euclid(step_s);
        let steps = snap(range.end_ms).saturating_sub(snap(range.start_ms));
        let n = steps.clamp(0, ENTRIES_MAX - 1) + 1;
        Self {
            start_s: snap(range.start_ms).saturating_mul(step_s),
            step_s,
            samples: vec![0; n as usize],
        }
    }

    /// The points of a series; those outside the range are left out.
    pub fn of(series: &SeriesPoints, range: TimeRange, step_s: i64) -> Self {
        let mut timeline = Self::empty(range, step_s);
        for point in &series.points {
            let after = point.timestamp_ms.div_euclid(SECOND) - timeline.start_s;
            let at = usize::try_from(after.div_euclid(timeline.step_s)).ok();
            if let Some(sample) = at.and_then(|at| timeline.samples.get_mut(at)) {
                *sample = sample.saturating_add(point.value as u64);
            }
        }
        timeline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::ValuePoint;

    const NOW: i64 = 1_700_000_000_123;

    #[test]
    fn times_in_every_form() {
        for (text, expected) in [
            ("", NOW),
            ("now", NOW),
            ("nonsense", NOW),
            ("now-1h", NOW - HOUR),
            ("-1h", NOW - HOUR),
            ("foo-1h", NOW - HOUR),
            ("now-3h30m", NOW - 3 * HOUR - 30 * MINUTE),
            ("now + 5 min", NOW + 5 * MINUTE),
            ("now-2days", NOW - 2 * DAY),
            ("now-1w", NOW - 7 * DAY),
            ("now-1M", NOW - 30 * DAY),
            ("now-1mon", NOW - 30 * DAY),
            ("now-1y", NOW - 365 * DAY),
            ("now-15secs", NOW - 15 * SECOND),
            ("now-7q", NOW),
            ("0", 0),
            ("1700000000", 1_700_000_000_000),
            ("1_700_000_000", 1_700_000_000_000),
            ("1700000000123", NOW),
            ("1700000000123456", NOW),
            ("1700000000123456789", NOW),
            ("20240229", 1_709_164_800_000),
            ("19700101", 0),
            ("20230229", 20_230_229_000),
            ("20241301", 20_241_301_000),
            ("99999999999999999999", i64::MAX),
        ] {
            assert_eq!(parse_time(text, NOW), expected, "{text}");
        }
        parse_time("now-99999999999999999999999y9s", NOW);
        parse_time("é-é1h", NOW);
    }

    #[test]
    fn steps_follow_the_ladder() {
        for (range, step) in [
            (HOUR, 15),
            (7 * HOUR, 15),
            (12 * HOUR, 30),
            (DAY, 60),
            (7 * DAY, 300),
            (-5, 15),
            (i64::MAX, 365 * 86_400),
        ] {
            assert_eq!(step_s(0, range), step, "{range}");
        }
    }

    #[test]
    fn points_fall_on_snapped_steps_and_gaps_are_zero() {
        let range = TimeRange {
            start_ms: 31_500,
            end_ms: 92_000,
        };
        let point = |timestamp_ms, value| ValuePoint {
            timestamp_ms,
            value,
            n_stripped: 0,
            exemplar: None,
        };
        let series = SeriesPoints {
            labels: Vec::new(),
            points: vec![point(31_500, 1.0), point(61_500, 2.0), point(91_500, 3.0)],
        };
        assert_eq!(
            Timeline::of(&series, range, 15),
            Timeline {
                start_s: 30,
                step_s: 15,
                samples: vec![1, 0, 2, 0, 3]
            }
        );
        assert_eq!(Timeline::empty(TimeRange::ALL, 15).samples.len(), 100_000);
    }
}
