//! The forms in which `from` and `until` may give a time. Reading one never fails.
//!
//! # What it must not know
//! The clock: `now` is an argument.

use scoria_model::Timestamp;

const SECOND_NS: i64 = 1_000_000_000;
const DAY_S: i64 = 86_400;

/// Reads a time:
///
/// - digits only: a day as `YYYYMMDD` if it is one and later than 1900, else a Unix time in a unit
///   told by its length (13 milliseconds, 16 microseconds, 19 nanoseconds, any other seconds);
/// - else an offset from now: what stands before the first `+` (or, without one, the first `-`) is
///   ignored, the rest is numbers with units, all added with the one sign. What has no meaning
///   counts nothing, so garbage is now.
///
/// Blanks, `_` and `,` are ignored everywhere. What lies outside the representable time is drawn
/// to its end.
pub fn parse(text: &str, now: Timestamp) -> Timestamp {
    let text: String = text
        .chars()
        .filter(|c| !matches!(c, ' ' | '_' | ','))
        .collect();
    if text.is_empty() {
        return now;
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Timestamp(calendar_day(&text).unwrap_or_else(|| unix_time(&text)));
    }
    let (sign, offsets) = match (text.split_once('+'), text.split_once('-')) {
        (Some((_, offsets)), _) => (1, offsets),
        (None, Some((_, offsets))) => (-1, offsets),
        (None, None) => return now,
    };
    let offset = offset_seconds(offsets).saturating_mul(SECOND_NS);
    Timestamp(now.0.saturating_add(sign * offset))
}

fn unix_time(digits: &str) -> i64 {
    let number = digits.parse().unwrap_or(i64::MAX);
    let unit_ns = match digits.len() {
        13 => 1_000_000,
        16 => 1_000,
        19 => 1,
        _ => SECOND_NS,
    };
    number.saturating_mul(unit_ns)
}

/// The start of the day, UTC, in nanoseconds, if the digits are a day after 1900.
fn calendar_day(digits: &str) -> Option<i64> {
    if digits.len() != 8 {
        return None;
    }
    let part = |range: std::ops::Range<usize>| digits[range].parse::<i64>().ok();
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if year <= 1900 || !(1..=days_in_month).contains(&day) {
        return None;
    }
    // Days since 1970-01-01, counting years from March so that the leap day comes last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some((days * DAY_S).saturating_mul(SECOND_NS))
}

fn offset_seconds(mut text: &str) -> i64 {
    let mut sum = 0i64;
    while !text.is_empty() {
        let (number, rest) = split_run(text, |c| c.is_ascii_digit());
        let (unit, rest) = split_run(rest, |c| !c.is_ascii_digit());
        let number = if number.is_empty() {
            0
        } else {
            number.parse().unwrap_or(i64::MAX)
        };
        sum = sum.saturating_add(unit_seconds(unit).saturating_mul(number));
        text = rest;
    }
    sum
}

/// The longest run of characters at the start for which `belongs` holds, and the rest.
fn split_run(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// Seconds of a unit told by its first letters; 0 for one that does not exist.
fn unit_seconds(unit: &str) -> i64 {
    const UNITS: [(&str, i64); 8] = [
        ("s", 1),
        ("mon", 30 * DAY_S),
        ("M", 30 * DAY_S),
        ("m", 60),
        ("h", 3600),
        ("d", DAY_S),
        ("w", 7 * DAY_S),
        ("y", 365 * DAY_S),
    ];
    UNITS
        .iter()
        .find(|(prefix, _)| unit.starts_with(prefix))
        .map_or(0, |&(_, seconds)| seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_350_700 * SECOND_NS + 7);

    fn seconds(text: &str) -> i64 {
        parse(text, NOW).0 / SECOND_NS
    }

    fn ago(text: &str) -> i64 {
        (NOW.0 - parse(text, NOW).0) / SECOND_NS
    }

    #[test]
    fn digits_by_their_length() {
        assert_eq!(parse("1700000000", NOW).0, 1_700_000_000 * SECOND_NS);
        assert_eq!(parse("1700000000123", NOW).0, 1_700_000_000_123 * 1_000_000);
        assert_eq!(
            parse("1700000000123456", NOW).0,
            1_700_000_000_123_456 * 1000
        );
        assert_eq!(
            parse("1700000000123456789", NOW).0,
            1_700_000_000_123_456_789
        );
        assert_eq!(parse("0", NOW).0, 0);
        assert_eq!(
            seconds("12345678901"),
            (i64::MAX / SECOND_NS).min(12_345_678_901)
        );
        assert_eq!(parse("9".repeat(40).as_str(), NOW).0, i64::MAX);
        assert_eq!(parse("1_700_000_000", NOW).0, 1_700_000_000 * SECOND_NS);
    }

    #[test]
    fn days() {
        assert_eq!(seconds("20240131"), 1_706_659_200);
        assert_eq!(seconds("2024_01_31"), 1_706_659_200);
        assert_eq!(seconds("20240229"), 1_709_164_800);
        assert_eq!(seconds("19700101"), 0);
        assert_eq!(seconds("19690720"), -14_256_000);
        for not_a_day in ["20230229", "20241301", "20240132", "20240100", "19001231"] {
            assert_eq!(seconds(not_a_day), not_a_day.parse::<i64>().unwrap());
        }
    }

    #[test]
    fn offsets() {
        assert_eq!(ago("now-1h"), 3600);
        assert_eq!(ago("-1h"), 3600);
        assert_eq!(ago("today-1h"), 3600);
        assert_eq!(ago("now+1h"), -3600);
        assert_eq!(ago("now - 1h 30min"), 5400);
        assert_eq!(ago("now-1h30m15s"), 5415);
        assert_eq!(ago("-1M"), 30 * DAY_S);
        assert_eq!(ago("-1mon"), 30 * DAY_S);
        assert_eq!(ago("-1m"), 60);
        assert_eq!(ago("-2days"), 2 * DAY_S);
        assert_eq!(ago("-1weeks"), 7 * DAY_S);
        assert_eq!(ago("-1y"), 365 * DAY_S);
        assert_eq!(ago("-5"), 0);
        assert_eq!(ago("-5parsec"), 0);
        assert_eq!(ago("-h"), 0);
    }

    #[test]
    fn a_plus_is_looked_for_before_a_minus() {
        assert_eq!(ago("a-1h+2h"), -7200);
    }

    #[test]
    fn everything_else_is_about_now() {
        for text in [
            "",
            " ",
            "now",
            "yesterday",
            "2024-01-31T00:00:00Z",
            "noon é",
        ] {
            assert_eq!(parse(text, NOW), NOW, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}", now: i64) {
            parse(&text, Timestamp(now));
        }

        #[test]
        fn never_panics_on_what_looks_like_a_time(text in "(now|today|)[+-]([0-9]{1,20}[a-zA-Z]{0,4}){0,4}") {
            parse(&text, NOW);
        }

        #[test]
        fn days_follow_each_other(day in -25_000i64..50_000) {
            // Written by an independent way: counting days from 1970-01-01 month by month.
            let (mut year, mut month, mut rest) = (1970i64, 1i64, day);
            let length = |year: i64, month: i64| match month {
                4 | 6 | 9 | 11 => 30,
                2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
                2 => 28,
                _ => 31,
            };
            while rest < 0 {
                month -= 1;
                if month == 0 {
                    (year, month) = (year - 1, 12);
                }
                rest += length(year, month);
            }
            while rest >= length(year, month) {
                rest -= length(year, month);
                month += 1;
                if month == 13 {
                    (year, month) = (year + 1, 1);
                }
            }
            let text = format!("{year:04}{month:02}{:02}", rest + 1);
            prop_assert_eq!(seconds(&text), day * DAY_S, "{}", text);
        }
    }
}
