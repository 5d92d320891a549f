//! Cuts a `multipart/form-data` body, held whole, into its parts without copying them.
//!
//! # Invariants
//! - At most [`PARTS_MAX`] parts with at most [`HEADERS_BYTES_MAX`] bytes of headers each.
//! - A body that ends before its closing boundary is an error: what a client lost on the way is
//!   never taken for all it sent.
//!
//! # What it must not know
//! Which parts mean something.

use bytes::Bytes;
use memchr::memmem;

use super::form::FormPart;

pub const PARTS_MAX: usize = 64;
pub const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// As RFC 2046 limits it.
const BOUNDARY_BYTES_MAX: usize = 70;

/// Why a form could not be cut into parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    #[error(
        "the Content-Type {content_type:?} names no boundary of 1 to {BOUNDARY_BYTES_MAX} bytes"
    )]
    Boundary { content_type: String },
    #[error("the form does not begin with its boundary {boundary:?}")]
    NoParts { boundary: String },
    #[error("the form ends before its closing boundary, in part {part}")]
    Truncated { part: usize },
    #[error("the headers of part {part} are longer than {HEADERS_BYTES_MAX} bytes or do not end")]
    Headers { part: usize },
    #[error("the form has more than {PARTS_MAX} parts")]
    TooManyParts,
}

/// The parts in the order in which they stand; one without a name has the empty name.
///
/// # Errors
/// The body is not a whole form with the boundary that `content_type` names.
pub fn split(content_type: &str, body: &Bytes) -> Result<Vec<FormPart>, MultipartError> {
    let boundary = boundary(content_type).ok_or_else(|| MultipartError::Boundary {
        content_type: content_type.chars().take(200).collect(),
    })?;
    let marker = format!("--{boundary}");
    let finder = memmem::Finder::new(marker.as_bytes());

    let mut parts = Vec::new();
    let Some(mut delimiter) = next_delimiter(body, 0, &finder, marker.len()) else {
        return Err(MultipartError::NoParts { boundary });
    };
    while !delimiter.closes {
        let part = parts.len() + 1;
        if part > PARTS_MAX {
            return Err(MultipartError::TooManyParts);
        }
        let (name, content_start) = headers(body, delimiter.end, part)?;
        // The line end in front of a delimiter belongs to it, so the search begins at the one that
        // ended the headers: an empty part may have no other.
        let next = next_delimiter(body, content_start - 1, &finder, marker.len())
            .ok_or(MultipartError::Truncated { part })?;
        let content_end = next.start.max(content_start);
        parts.push(FormPart {
            name,
            content: body.slice(content_start..content_end),
        });
        delimiter = next;
    }
    Ok(parts)
}

/// A line that separates parts.
struct Delimiter {
    /// Where the line end in front of it begins.
    start: usize,
    /// One past the line end behind it.
    end: usize,
    /// Whether it is the last one.
    closes: bool,
}

/// The first delimiter whose marker stands at the start of a line at or after `from`.
fn next_delimiter(
    body: &[u8],
    from: usize,
    finder: &memmem::Finder<'_>,
    marker_bytes: usize,
) -> Option<Delimiter> {
    let mut from = from;
    loop {
        let at = from + finder.find(body.get(from..)?)?;
        let after = at + marker_bytes;
        from = after;
        let start = match body[..at] {
            [] => 0,
            [.., b'\r', b'\n'] => at - 2,
            [.., b'\n'] => at - 1,
            _ => continue,
        };
        let rest = &body[after..];
        if rest.starts_with(b"--") {
            return Some(Delimiter {
                start,
                end: after + 2,
                closes: true,
            });
        }
        let padding = rest
            .iter()
            .take_while(|b| matches!(b, b' ' | b'\t'))
            .count();
        let line_end = match rest[padding..] {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            // The marker of another, longer boundary.
            _ => continue,
        };
        return Some(Delimiter {
            start,
            end: after + padding + line_end,
            closes: false,
        });
    }
}

/// The part's name, and where its content begins.
fn headers(body: &[u8], from: usize, part: usize) -> Result<(String, usize), MultipartError> {
    let mut name = String::new();
    let mut at = from;
    loop {
        let window = &body[at..body.len().min(from + HEADERS_BYTES_MAX)];
        let end = memchr::memchr(b'\n', window).ok_or(MultipartError::Headers { part })?;
        let line = &window[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at += end + 1;
        if line.is_empty() {
            return Ok((name, at));
        }
        let line = String::from_utf8_lossy(line);
        let Some((header, value)) = line.split_once(':') else {
            continue;
        };
        if header.trim().eq_ignore_ascii_case("content-disposition")
            && let Some(found) = parameter(value, "name")
        {
            name = found;
        }
    }
}

/// The boundary that a Content-Type names.
fn boundary(content_type: &str) -> Option<String> {
    parameter(content_type, "boundary")
        .filter(|boundary| (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()))
}

/// The value of a parameter in `value; a=b; c="d \"e\""`; its name is matched in any case.
fn parameter(header: &str, wanted: &str) -> Option<String> {
    let (_, mut rest) = header.split_once(';')?;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = parameter_value(after.trim_start());
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after.split_once(';')?.1;
    }
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => match chars.as_str().chars().next() {
                // Only these two are escaped; a backslash of a Windows path is itself.
                Some(escaped @ ('"' | '\\')) => {
                    value.push(escaped);
                    chars.next();
                }
                _ => value.push(c),
            },
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=xYz";

    fn cut(content_type: &str, body: &[u8]) -> Result<Vec<(String, Vec<u8>)>, MultipartError> {
        let parts = split(content_type, &Bytes::copy_from_slice(body))?;
        Ok(parts
            .into_iter()
            .map(|part| (part.name, part.content.to_vec()))
            .collect())
    }

    fn part(name: &str, content: &[u8]) -> (String, Vec<u8>) {
        (name.to_owned(), content.to_vec())
    }

    #[test]
    fn what_the_go_sdk_sends() {
        let body = b"--xYz\r\nContent-Disposition: form-data; name=\"profile\"; filename=\"profile.pprof\"\r\nContent-Type: application/octet-stream\r\n\r\n\x1f\x8b\r\n--\r\n\r\n--xYz\r\nContent-Disposition: form-data; name=\"sample_type_config\"; filename=\"sample_type_config.json\"\r\n\r\n{}\r\n--xYz--\r\n";
        assert_eq!(
            cut(TYPE, body).unwrap(),
            [
                part("profile", b"\x1f\x8b\r\n--\r\n"),
                part("sample_type_config", b"{}")
            ]
        );
    }

    #[test]
    fn a_plain_form_value_bare_line_feeds_and_a_preamble() {
        let body =
            b"preamble\n--xYz \t\ncontent-disposition:form-data;name=profile\n\nabc\n--xYz--";
        assert_eq!(cut(TYPE, body).unwrap(), [part("profile", b"abc")]);
    }

    #[test]
    fn empty_parts_and_empty_forms() {
        let head = "Content-Disposition: form-data; name=\"a\"\r\n\r\n";
        let none = format!("--xYz\r\n{head}\r\n--xYz--");
        assert_eq!(cut(TYPE, none.as_bytes()).unwrap(), [part("a", b"")]);
        let tight = format!("--xYz\r\n{head}--xYz--");
        assert_eq!(cut(TYPE, tight.as_bytes()).unwrap(), [part("a", b"")]);
        assert_eq!(cut(TYPE, b"--xYz--").unwrap(), []);
        assert_eq!(
            cut(TYPE, b"--xYz\r\n\r\nx\r\n--xYz--").unwrap(),
            [part("", b"x")]
        );
    }

    #[test]
    fn the_marker_inside_a_line_or_in_front_of_more_text_is_content() {
        let body = b"--xYz\r\n\r\na--xYz--\r\n--xYzw\r\nb\r\n--xYz--";
        assert_eq!(
            cut(TYPE, body).unwrap(),
            [part("", b"a--xYz--\r\n--xYzw\r\nb")]
        );
    }

    #[test]
    fn boundaries() {
        let body = b"--a b;\"c\r\n\r\nx\r\n--a b;\"c--";
        let quoted = "multipart/form-data; charset=utf-8; BOUNDARY=\"a b;\\\"c\"; x=y";
        assert_eq!(cut(quoted, body).unwrap(), [part("", b"x")]);
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        for bad in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            &long,
        ] {
            let error = cut(bad, body).unwrap_err();
            assert!(matches!(error, MultipartError::Boundary { .. }), "{bad}");
        }
    }

    #[test]
    fn damage_is_named() {
        let error = |body: &[u8]| cut(TYPE, body).unwrap_err();
        let no_parts = MultipartError::NoParts {
            boundary: "xYz".to_owned(),
        };
        assert_eq!(error(b""), no_parts);
        assert_eq!(error(b"--other\r\n"), no_parts);
        assert_eq!(
            error(b"--xYz\r\n\r\nx"),
            MultipartError::Truncated { part: 1 }
        );
        assert_eq!(error(b"--xYz\r\nname"), MultipartError::Headers { part: 1 });
        let endless = [
            b"--xYz\r\n".as_slice(),
            &[b'h'; HEADERS_BYTES_MAX],
            b"\r\n\r\n",
        ]
        .concat();
        assert_eq!(error(&endless), MultipartError::Headers { part: 1 });
        let many = "--xYz\r\n\r\nx\r\n".repeat(PARTS_MAX + 1);
        assert_eq!(error(many.as_bytes()), MultipartError::TooManyParts);
    }

    proptest! {
        #[test]
        fn never_panics(
            content_type in "multipart/form-data; ?(boundary)?=?\"?[xyz]{0,2}\"?",
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just("--x"), Just("--"), Just("\r\n"), Just("\n"), Just("\r"), Just("a"),
                    Just("Content-Disposition: form-data; name=\""), Just("\""), Just("\\"),
                ],
                0..30,
            ),
        ) {
            let _ = cut(&content_type, pieces.concat().as_bytes());
        }

        #[test]
        fn what_is_put_in_comes_out(
            parts in proptest::collection::vec(
                ("[a-z_]{1,12}", proptest::collection::vec(any::<u8>(), 0..200)), 0..6,
            ),
        ) {
            let mut body = Vec::new();
            for (name, content) in &parts {
                body.extend_from_slice(b"--a-boundary-that-is-nowhere-else\r\n");
                let header = format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n");
                body.extend_from_slice(header.as_bytes());
                body.extend_from_slice(content);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"--a-boundary-that-is-nowhere-else--\r\n");
            let content_type = "multipart/form-data; boundary=a-boundary-that-is-nowhere-else";
            prop_assert_eq!(cut(content_type, &body).unwrap(), parts);
        }
    }
}
