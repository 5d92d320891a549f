//! What a verb writes to the terminal.

use std::io::{self, Write};

/// A line on standard error. Nobody is left to be told when even that fails.
pub(crate) fn complain(text: &str) {
    drop(writeln!(io::stderr(), "scoria: {text}"));
}

/// A line on standard error that reports progress.
pub(crate) fn note(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// Lines on standard output. A reader that has gone (`| head`) is no error.
pub(crate) fn print(lines: impl IntoIterator<Item = String>) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = lines
        .into_iter()
        .try_for_each(|line| writeln!(out, "{line}"))
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// A number of bytes as people read it.
pub(crate) fn bytes(n: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| n >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", n as f64 / *unit as f64),
        None => format!("{n} B"),
    }
}

/// A time in UTC, to the second.
pub(crate) fn time(at: scoria_model::Timestamp) -> String {
    let seconds = at.nanos().div_euclid(1_000_000_000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // From days to a date in the calendar whose years begin in March, so that leap days come last.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Columns under their heads; the last one as wide as it is.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (at, cell) in cells.enumerate() {
            if at > 0 {
                text.push_str("  ");
            }
            text.push_str(cell);
            let last = at + 1 == heads.len();
            let pad = widths.get(at).copied().unwrap_or(0);
            let missing = pad.saturating_sub(cell.chars().count());
            if !last {
                text.extend(std::iter::repeat_n(' ', missing));
            }
        }
        text
    };
    let mut lines = vec![line(&mut heads.iter().copied())];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_readable() {
        let at = |seconds: i64| time(scoria_model::Timestamp(seconds * 1_000_000_000));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59Z");
        assert_eq!(at(-1), "1969-12-31T23:59:59Z");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(3 << 20), "3.0 MiB");
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["1".to_owned(), "añ".to_owned()],
            vec!["22".to_owned(), "b".to_owned()],
        ];
        assert_eq!(
            table(&["N", "NAME"], &rows),
            ["N   NAME", "1   añ", "22  b"]
        );
    }
}
