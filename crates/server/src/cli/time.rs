//! Points in time as people write them on the command line.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};

use crate::config::units::Span;

/// Unix milliseconds of the system's clock.
pub(super) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

/// Unix milliseconds of `now`, `now-1h`, `2026-01-31T12:00:00Z`, or a number of Unix seconds,
/// milliseconds, microseconds or nanoseconds.
pub(super) fn parse(text: &str, now_ms: i64) -> anyhow::Result<i64> {
    let refused = || {
        format!(
            "{text:?} is no time; write now, now-1h, 2026-01-31T12:00:00Z, or Unix seconds or milliseconds"
        )
    };
    if let Some(offset) = text.strip_prefix("now") {
        if offset.is_empty() {
            return Ok(now_ms);
        }
        let (sign, span) = match offset.split_at_checked(1) {
            Some(("-", span)) => (-1, span),
            Some(("+", span)) => (1, span),
            _ => bail!(refused()),
        };
        let span: Span = span.parse().with_context(refused)?;
        let ms = i64::try_from(span.0.as_millis()).with_context(refused)?;
        return Ok(now_ms.saturating_add(sign * ms));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        let number: i64 = text.parse().with_context(refused)?;
        return Ok(match text.len() {
            ..=11 => number.saturating_mul(1000),
            12..=14 => number,
            15..=17 => number / 1000,
            _ => number / 1_000_000,
        });
    }
    date_ms(text).with_context(refused)
}

/// `2026-01-31`, `2026-01-31T12:00:00` and `2026-01-31T12:00:00Z`, in UTC.
fn date_ms(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.splitn(3, ':').map(str::parse::<f64>);
    let (hour, minute) = (time.next()?.ok()?, time.next()?.ok()?);
    let second = time.next().unwrap_or(Ok(0.0)).ok()?;
    let inside = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0.0..24.0).contains(&hour)
        && (0.0..60.0).contains(&minute)
        && (0.0..61.0).contains(&second);
    let seconds = hour * 3600.0 + minute * 60.0 + second;
    inside.then(|| days_since_epoch(year, month, day) * 86_400_000 + (seconds * 1000.0) as i64)
}

/// Days of the Gregorian calendar, counted in years that begin in March so that the leap day is
/// their last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        let now = 1_700_000_000_000;
        let cases = [
            ("now", now),
            ("now-1h", now - 3_600_000),
            ("now+90s", now + 90_000),
            ("1700000000", now),
            ("1700000000000", now),
            ("1700000000000000", now),
            ("1700000000000000000", now),
            ("1970-01-01", 0),
            ("2024-02-29T12:30:00Z", 1_709_209_800_000),
            ("2023-11-14T22:13:20", now),
        ];
        for (text, ms) in cases {
            assert_eq!(parse(text, now).unwrap(), ms, "{text}");
        }
        for text in [
            "",
            "yesterday",
            "now-",
            "now-1x",
            "2024-13-01",
            "2024-01-01T25:00:00",
        ] {
            assert!(parse(text, now).is_err(), "{text}");
        }
    }
}
