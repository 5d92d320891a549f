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
