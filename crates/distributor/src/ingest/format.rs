//! Which format a body of the old HTTP API has.
//!
//! The parameter and the Content-Type decide, the first rule that matches wins. Two mistakes that
//! clients make are put right by a look at the body: a form declared as `format=pprof`, and a
//! gzipped pprof declared as nothing at all.
//!
//! # What it must not know
//! How a format is decoded.

use std::fmt;

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
    "profiles in the format {format} are not supported; supported is pprof, plain or gzip, as the whole body with format=pprof or in the part \"profile\" of a multipart/form-data body"
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

const TRIE_TYPE: &str = "binary/octet-stream+trie";
const TREE_TYPE: &str = "binary/octet-stream+tree";
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

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
        _ if body.starts_with(&GZIP_MAGIC) => BodyFormat::Pprof,
        _ => BodyFormat::Groups,
    }
}

impl BodyFormat {
    /// # Errors
    /// The format is not one that is decoded.
    pub const fn supported(self) -> Result<Self, UnsupportedFormat> {
        match self {
            Self::Pprof | Self::PprofForm => Ok(self),
            _ => Err(UnsupportedFormat { format: self }),
        }
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

    #[test]
    fn a_refusal_names_the_format_and_what_to_send_instead() {
        let error = BodyFormat::Speedscope.supported().unwrap_err().to_string();
        assert!(
            error.contains("speedscope") && error.contains("format=pprof"),
            "{error}"
        );
        assert!(BodyFormat::PprofForm.supported().is_ok());
    }
}
