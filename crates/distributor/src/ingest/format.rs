//! Which format a body of the old HTTP API has.
//!
//! The parameter and the Content-Type decide, the first rule that matches wins. Two mistakes that
//! clients make are put right by a look at the body: a form declared as `format=pprof`, and a
//! pprof, JFR or speedscope body declared as nothing at all, which would else be read as text. A
//! body that is declared as one format and unmistakably begins like another is refused with the
//! word that would have been right.
//!
//! # What it must not know
//! How a format is decoded.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use flate2::bufread::GzDecoder;
use memchr::memmem;

/// A format and the shape in which the body carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    /// The whole body is one pprof, plain or gzip.
    Pprof,
    /// A form with a pprof in the part `profile`.
    PprofForm,
    Groups,
    Lines,
    Trie,
    Tree,
    Speedscope,
    /// The whole body is one recording.
    Jfr,
    /// A form with a recording in the part `jfr`.
    JfrForm,
}

/// A format that exists and is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "profiles in the format {format} are not supported; supported are pprof, JFR, groups (folded text), lines, trie, tree and speedscope"
)]
pub struct UnsupportedFormat {
    pub format: BodyFormat,
}

/// A body that begins like another format than the declared one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body, taken for {declared}, {found}")]
pub struct WronglyDeclared {
    declared: BodyFormat,
    found: &'static str,
}

impl fmt::Display for BodyFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pprof | Self::PprofForm => "pprof",
            Self::Groups => "groups (folded text)",
            Self::Lines => "lines",
            Self::Trie => "trie",
            Self::Tree => "tree",
            Self::Speedscope => "speedscope",
            Self::Jfr | Self::JfrForm => "jfr",
        })
    }
}

impl BodyFormat {
    /// Whether it is one of those that hold nothing but counted stacks.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Groups | Self::Lines | Self::Trie | Self::Tree)
    }
}

const TRIE_TYPE: &str = "binary/octet-stream+trie";
const TREE_TYPE: &str = "binary/octet-stream+tree";
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const JFR_MAGIC: &[u8] = b"FLR\0";
const SPEEDSCOPE_MARK: &[u8] = b"speedscope.app/file-format-schema.json";
/// In which a speedscope file is searched for its mark.
const HEAD_BYTES: usize = 64 * 1024;
/// The same of what is decompressed for nothing else.
const INFLATED_HEAD_BYTES: u64 = 4 * 1024;

/// The format of a body by its `format` parameter, its Content-Type and how it begins. `body` is
/// what is left once a Content-Encoding is taken off.
pub fn choose(format: Option<&str>, content_type: Option<&str>, body: &[u8]) -> BodyFormat {
    let format = format.unwrap_or_default();
    let content_type = content_type.unwrap_or_default();
    let is_form = content_type.contains("multipart/form-data");
    match format {
        "trie" => BodyFormat::Trie,
        _ if content_type == TRIE_TYPE => BodyFormat::Trie,
        "tree" => BodyFormat::Tree,
        _ if content_type == TREE_TYPE => BodyFormat::Tree,
        "lines" => BodyFormat::Lines,
        "jfr" if is_form => BodyFormat::JfrForm,
        "jfr" => BodyFormat::Jfr,
        // A pprof never starts like a form: a first byte of `-` would be a field that ends a group.
        "pprof" if is_form && body.starts_with(b"--") => BodyFormat::PprofForm,
        "pprof" => BodyFormat::Pprof,
        "speedscope" => BodyFormat::Speedscope,
        _ if is_form => BodyFormat::PprofForm,
        "groups" | "folded" | "collapsed" => BodyFormat::Groups,
        _ => undeclared(body),
    }
}

/// Refuses a body that cannot be what it is declared as, if what it is can be told.
pub fn check(declared: BodyFormat, body: &[u8]) -> Result<(), WronglyDeclared> {
    const JFR: &str = "begins like a JFR recording; send it with format=jfr";
    const SPEEDSCOPE: &str = "begins like a speedscope file; send it with format=speedscope";
    const TEXT: &str = "is text; send folded stacks with format=groups";
    const PPROF: &str = "begins like a pprof; send it with format=pprof";
    const BINARY: &str = "is no text; send a pprof with format=pprof, a recording with format=jfr";
    let head = head(body);
    let is_gzip = body.starts_with(&GZIP_MAGIC);
    let is_jfr = head.starts_with(JFR_MAGIC);
    let found = match declared {
        // Their content has another beginning than the body.
        BodyFormat::PprofForm | BodyFormat::JfrForm => return Ok(()),
        BodyFormat::Jfr if is_jfr => return Ok(()),
        _ if is_jfr => JFR,
        BodyFormat::Speedscope if is_binary(&head) => BINARY,
        BodyFormat::Speedscope => return Ok(()),
        BodyFormat::Pprof | BodyFormat::Jfr if is_speedscope(&head) => SPEEDSCOPE,
        BodyFormat::Groups | BodyFormat::Lines if is_binary(&head) => BINARY,
        BodyFormat::Pprof
            if !is_gzip
                && !head.is_empty()
                && !is_binary(&head)
                && !scoria_pprof::raw::has_shape(body) =>
        {
            TEXT
        }
        BodyFormat::Jfr if !head.is_empty() && !is_binary(&head) => TEXT,
        BodyFormat::Jfr if is_pprof(body, &head) => PPROF,
        _ => return Ok(()),
    };
    Err(WronglyDeclared { declared, found })
}

/// What to say of a trie or tree that could not be read, if it is a pprof. Before it is read nobody
/// knows: names of any length may stand at its beginning.
pub(super) fn pprof_in_place_of(declared: BodyFormat, body: &[u8]) -> Option<WronglyDeclared> {
    let found = "has the shape of a pprof; send it with format=pprof";
    let is_nodes = matches!(declared, BodyFormat::Trie | BodyFormat::Tree);
    (is_nodes && scoria_pprof::raw::has_shape(body)).then_some(WronglyDeclared { declared, found })
}

/// How a body begins, its gzip taken off; empty if that fails at once.
fn head(body: &[u8]) -> Cow<'_, [u8]> {
    if !body.starts_with(&GZIP_MAGIC) {
        return Cow::Borrowed(&body[..body.len().min(HEAD_BYTES)]);
    }
    let mut head = Vec::new();
    let mut reader = GzDecoder::new(body).take(INFLATED_HEAD_BYTES);
    // What is wrong with it is told by whoever decompresses it all; what came before it counts.
    match reader.read_to_end(&mut head) {
        Ok(_) | Err(_) => Cow::Owned(head),
    }
}

/// Whether there are bytes that no text has, and every pprof: lengths and small numbers.
fn is_binary(head: &[u8]) -> bool {
    head.iter().any(|&byte| byte < b'\t')
}

fn is_speedscope(head: &[u8]) -> bool {
    head.trim_ascii_start().starts_with(b"{") && memmem::find(head, SPEEDSCOPE_MARK).is_some()
}

/// What a body is whose client did not say, or in a word that says nothing.
fn undeclared(body: &[u8]) -> BodyFormat {
    let head = head(body);
    if head.starts_with(JFR_MAGIC) {
        return BodyFormat::Jfr;
    }
    if is_speedscope(&head) {
        return BodyFormat::Speedscope;
    }
    if body.starts_with(&GZIP_MAGIC) && head.is_empty() || is_pprof(body, &head) {
        BodyFormat::Pprof
    } else {
        BodyFormat::Groups
    }
}

/// Of a compressed body only the beginning is known, which no text has.
fn is_pprof(body: &[u8], head: &[u8]) -> bool {
    if body.starts_with(&GZIP_MAGIC) {
        is_binary(head)
    } else {
        scoria_pprof::raw::has_shape(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_wins() {
        const FORM: &str = "multipart/form-data; boundary=x";
        let table = [
            (Some("trie"), None, BodyFormat::Trie),
            (None, Some(TRIE_TYPE), BodyFormat::Trie),
            (Some("tree"), Some(TRIE_TYPE), BodyFormat::Trie),
            (Some("jfr"), Some(TREE_TYPE), BodyFormat::Tree),
            (Some("tree"), None, BodyFormat::Tree),
            (Some("lines"), Some(TREE_TYPE), BodyFormat::Tree),
            (Some("lines"), Some(FORM), BodyFormat::Lines),
            (Some("jfr"), Some(FORM), BodyFormat::JfrForm),
            (Some("jfr"), None, BodyFormat::Jfr),
            (Some("pprof"), None, BodyFormat::Pprof),
            (Some("speedscope"), Some(FORM), BodyFormat::Speedscope),
            (None, Some(FORM), BodyFormat::PprofForm),
            (Some("groups"), Some(FORM), BodyFormat::PprofForm),
            (Some("nonsense"), Some(FORM), BodyFormat::PprofForm),
            (Some("groups"), None, BodyFormat::Groups),
            (Some("folded"), None, BodyFormat::Groups),
            (Some("nonsense"), None, BodyFormat::Groups),
            (Some(""), None, BodyFormat::Groups),
            (Some("PPROF"), None, BodyFormat::Groups),
            (None, None, BodyFormat::Groups),
            (None, Some("binary/octet-stream"), BodyFormat::Groups),
            (
                None,
                Some("binary/octet-stream+trie; x=y"),
                BodyFormat::Groups,
            ),
        ];
        for (format, content_type, expected) in table {
            let chosen = choose(format, content_type, b"main;work 1\n");
            assert_eq!(chosen, expected, "{format:?} {content_type:?}");
        }
    }

    #[test]
    fn a_form_that_calls_itself_pprof_is_a_form_only_if_it_looks_like_one() {
        let form = Some("multipart/form-data; boundary=x");
        let chosen = |body: &[u8]| choose(Some("pprof"), form, body);
        assert_eq!(chosen(b"--x\r\n"), BodyFormat::PprofForm);
        assert_eq!(chosen(&[0x1f, 0x8b, 8]), BodyFormat::Pprof);
        assert_eq!(chosen(&[0x0a, 4]), BodyFormat::Pprof);
    }

    #[test]
    fn gzip_without_a_format_is_taken_for_pprof_and_declared_text_is_not() {
        let gzip = [0x1f, 0x8b, 8, 0];
        assert_eq!(choose(None, None, &gzip), BodyFormat::Pprof);
        assert_eq!(choose(Some("nonsense"), None, &gzip), BodyFormat::Pprof);
        assert_eq!(choose(Some("folded"), None, &gzip), BodyFormat::Groups);
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        let mut encoder = flate2::read::GzEncoder::new(plain, flate2::Compression::fast());
        encoder.read_to_end(&mut body).unwrap();
        body
    }

    const PPROF: &[u8] = &[0x0a, 4, 8, 1, 0x10, 2, 0x12, 0];
    const JFR: &[u8] = b"FLR\0\x00\x02";
    const SPEEDSCOPE: &[u8] =
        b"{\"$schema\": \"https://www.speedscope.app/file-format-schema.json\"";
    const TEXT: &[u8] = b"main;work 1\n";

    #[test]
    fn gzip_without_a_format_is_what_is_in_it() {
        let table = [
            (PPROF, BodyFormat::Pprof),
            (JFR, BodyFormat::Jfr),
            (SPEEDSCOPE, BodyFormat::Speedscope),
            (TEXT, BodyFormat::Groups),
        ];
        for (plain, expected) in table {
            assert_eq!(choose(None, None, &gzip(plain)), expected);
            assert_eq!(choose(None, None, plain), expected);
        }
    }

    #[test]
    fn what_cannot_be_as_declared_is_refused_with_the_right_word() {
        use BodyFormat::{Groups, Jfr, Lines, Pprof, Speedscope, Tree};
        // Under the formats, in order: what is said of each body.
        let declared = [Pprof, Jfr, Speedscope, Groups, Lines, Tree];
        let table = [
            (PPROF, ["", "=pprof", "=pprof", "=pprof", "=pprof", ""]),
            (JFR, ["=jfr", "", "=jfr", "=jfr", "=jfr", "=jfr"]),
            (SPEEDSCOPE, ["=speedscope", "=speedscope", "", "", "", ""]),
            (TEXT, ["=groups", "=groups", "", "", "", ""]),
        ];
        for (body, expected) in table {
            for (declared, expected) in declared.into_iter().zip(expected) {
                let checked = check(declared, body).map_err(|error| error.to_string());
                match (checked, expected) {
                    (Ok(()), "") => {}
                    (Err(message), word) if !word.is_empty() => {
                        assert!(message.contains(word), "{declared} {message}");
                    }
                    (checked, word) => panic!("{declared} {word:?} {checked:?}"),
                }
            }
        }
        assert!(check(Pprof, &gzip(JFR)).is_err());
        assert!(check(Jfr, &gzip(PPROF)).is_err());
        let told = pprof_in_place_of(Tree, PPROF).unwrap().to_string();
        assert!(
            told.contains("taken for tree") && told.contains("=pprof"),
            "{told}"
        );
        assert_eq!(pprof_in_place_of(Tree, &[0, 0, 1, 1, b'a', 0]), None);
        for nothing in [&b""[..], &GZIP_MAGIC, &gzip(b"")] {
            for declared in declared {
                assert_eq!(check(declared, nothing), Ok(()));
            }
        }
    }

    #[test]
    fn what_a_body_begins_with_tells_it_from_text_if_nothing_else_does() {
        let mut pprof = vec![0x0a, 4, 8, 1, 0x10, 2, 0x12, 0];
        assert_eq!(choose(None, None, &pprof), BodyFormat::Pprof);
        pprof.rotate_left(6);
        assert_eq!(choose(None, None, &pprof), BodyFormat::Pprof);
        pprof.pop();
        assert_eq!(choose(None, None, &pprof), BodyFormat::Groups);
        assert_eq!(choose(None, None, b"\nmain 1"), BodyFormat::Groups);
        assert_eq!(choose(None, None, b"FLR\0\x00\x02"), BodyFormat::Jfr);
        let json = format!(
            "\n{{\"$schema\": \"https://www.{}\"",
            "speedscope.app/file-format-schema.json"
        );
        assert_eq!(
            choose(Some("json"), None, json.as_bytes()),
            BodyFormat::Speedscope
        );
        assert_eq!(
            choose(Some("folded"), None, json.as_bytes()),
            BodyFormat::Groups
        );
        assert_eq!(choose(None, None, b"{} 1"), BodyFormat::Groups);
    }
}
