//! Which format a body of the old HTTP API has.
//!
//! The parameter and the Content-Type decide, the first rule that matches wins. Two mistakes that
//! clients make are put right by a look at the body: a form declared as `format=pprof`, and a
//! pprof, JFR or speedscope body declared as nothing at all, which would else be read as text.
//!
//! # What it must not know
//! How a format is decoded.

use std::fmt;

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

/// What a body is whose client did not say, or in a word that says nothing.
fn undeclared(body: &[u8]) -> BodyFormat {
    if body.starts_with(&GZIP_MAGIC) || scoria_pprof::raw::has_shape(body) {
        return BodyFormat::Pprof;
    }
    if body.starts_with(JFR_MAGIC) {
        return BodyFormat::Jfr;
    }
    let head = &body[..body.len().min(HEAD_BYTES)];
    if head.trim_ascii_start().starts_with(b"{") && memmem::find(head, SPEEDSCOPE_MARK).is_some() {
        return BodyFormat::Speedscope;
    }
    BodyFormat::Groups
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
