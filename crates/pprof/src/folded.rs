//! Folded stacks: text with a stack on each line.
//!
//! ```text
//! groups    main;handle;parse 17        lines    main;handle;parse
//! ```
//!
//! # Invariants
//! - A line is read whole or the body is refused with the line's number: no line ends the reading,
//!   as a long one does elsewhere.
//! - A line that is left out is counted.
//!
//! # What it must not know
//! What the counts mean.

use crate::draft::DraftError;
use crate::stacks::{StackError, Stacks};

/// Bytes of a line that an error shows.
const SHOWN: usize = 80;
/// Bytes of a line without a count. A longer one is no stack but a body of another kind, as the
/// server that clients were written for takes it; in lines with a count the count tells.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Reads lines of a stack, a blank and a count. Lines without a blank say nothing; their number.
///
/// # Errors
/// A count is not a whole number of at least 0, or no line has the form, or the stacks are too many
/// or too long.
pub fn read_groups(body: &[u8], into: &mut Stacks) -> Result<u64, StackError> {
    let (mut n_read, mut n_skipped) = (0_u64, 0_u64);
    for (line, number) in lines(body).zip(1_u64..) {
        let Some(blank) = memchr::memrchr(b' ', line) else {
            n_skipped += u64::from(!line.is_empty());
            continue;
        };
        let (stack, count) = (&line[..blank], &line[blank + 1..]);
        let count = parse_count(count).map_err(|problem| StackError::Line {
            line: number,
            problem: format!("{problem}, in \"{}\"", shown(line)),
        })?;
        into.add_text(stack, count).map_err(|error| match error {
            StackError::Draft(DraftError::Overflow) => StackError::Line {
                line: number,
                problem: format!("{}, in \"{}\"", DraftError::Overflow, shown(line)),
            },
            error => error,
        })?;
        n_read += 1;
    }
    if n_read == 0 && n_skipped != 0 {
        return Err(StackError::NoStacks { lines: n_skipped });
    }
    Ok(n_skipped)
}

/// Reads lines each of which is a stack that occurred once. Empty lines say nothing.
///
/// # Errors
/// A line is longer than 64 KiB, or the stacks are too many or too long.
pub fn read_lines(body: &[u8], into: &mut Stacks) -> Result<(), StackError> {
    for (stack, line) in lines(body).zip(1_u64..) {
        if stack.len() > LINE_BYTES_MAX {
            let actual = stack.len();
            let problem = format!(
                "it has {actual} bytes, and a stack without a count at most {LINE_BYTES_MAX}; send longer ones with counts, as format=groups"
            );
            return Err(StackError::Line { line, problem });
        }
        if !stack.is_empty() {
            into.add_text(stack, 1)?;
        }
    }
    Ok(())
}

/// Without their ends, which are `\n` or `\r\n`.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or(&[], |end| &rest[end + 1..]);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

fn parse_count(digits: &[u8]) -> Result<u64, &'static str> {
    let (digits, is_negative) = match digits {
        [b'-', rest @ ..] => (rest, true),
        [b'+', rest @ ..] => (rest, false),
        all => (all, false),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err("what follows the last blank is not a whole number");
    }
    let value = digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = u64::from(digit - b'0');
        value.checked_mul(10)?.checked_add(digit)
    });
    match value {
        Some(0) => Ok(0),
        Some(_) if is_negative => Err("the count is negative"),
        Some(value) => Ok(value),
        None => Err("the count does not fit in 64 bits"),
    }
}

fn shown(line: &[u8]) -> String {
    let head = &line[..line.len().min(SHOWN)];
    let rest = if head.len() < line.len() { "…" } else { "" };
    format!("{}{rest}", String::from_utf8_lossy(head).escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stacks::tests::{stacks, totals};

    fn groups(text: &str) -> Result<(u64, Vec<String>), StackError> {
        let mut into = stacks(1);
        let skipped = read_groups(text.as_bytes(), &mut into)?;
        Ok((skipped, totals(into)))
    }

    #[test]
    fn the_last_blank_parts_stack_and_count() {
        let text = "main;work 3\r\n\nmain;two words;leaf 4\nmain;work 5\nno-count\n 6\nmain +7";
        let (skipped, totals) = groups(text).unwrap();
        assert_eq!(skipped, 1);
        assert_eq!(
            totals,
            [
                "= 6",
                "main = 7",
                "main;two words;leaf = 4",
                "main;work = 8"
            ]
        );
        assert_eq!(groups("").unwrap(), (0, Vec::new()));
        assert_eq!(groups("\n\r\n").unwrap(), (0, Vec::new()));
        assert_eq!(
            groups("a;b 0\na;b -0").unwrap(),
            (0, vec!["a;b = 0".to_owned()])
        );
    }

    #[test]
    fn counts_that_are_none_are_refused_with_their_line() {
        for (text, problem) in [
            ("a 1\nb 1.5", "line 2: what follows the last blank"),
            ("a 1 ", "line 1: what follows"),
            ("a x", "not a whole number"),
            ("a -3", "the count is negative, in \"a -3\""),
            ("a 99999999999999999999", "does not fit"),
            ("a 1\na 9999999999999999999", "line 2: the values"),
        ] {
            let error = groups(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
        assert!(
            groups("junk\nmore\n")
                .unwrap_err()
                .to_string()
                .contains("none of the 2 lines")
        );
    }

    #[test]
    fn a_long_line_is_read_like_a_short_one() {
        let frame = "f".repeat(200_000);
        let text = format!("main;{frame} 2\nafter 1\n");
        let (_, totals) = groups(&text).unwrap();
        assert_eq!(
            totals,
            ["after = 1".to_owned(), format!("main;{frame} = 2")]
        );
    }

    #[test]
    fn a_line_without_a_count_is_64_kib_at_most() {
        let read = |length: usize| {
            let text = format!("main\n{}\r\nafter", "f".repeat(length));
            let mut into = stacks(1);
            read_lines(text.as_bytes(), &mut into).map(|()| totals(into).len())
        };
        assert_eq!(read(LINE_BYTES_MAX).unwrap(), 3);
        let error = read(LINE_BYTES_MAX + 1).unwrap_err().to_string();
        assert!(error.starts_with("line 2: it has 65537 bytes"), "{error}");
    }

    #[test]
    fn each_line_is_one_occurrence() {
        let mut into = stacks(10);
        read_lines(b"main;work 3\nmain\r\n\nmain", &mut into).unwrap();
        assert_eq!(totals(into), ["main = 20", "main;work 3 = 10"]);
    }
}
