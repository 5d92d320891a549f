//! Where a program's source is found, noted on its mappings for viewers that show the source.
//!
//! The labels `service_repository`, `service_git_ref` and `service_root_path` go into the build id
//! of each mapping as one JSON object, which is where such viewers look for them.

use std::fmt::Write;

const LABELS: [&str; 3] = ["service_repository", "service_git_ref", "service_root_path"];

/// What the labels of an upload say of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note([String; LABELS.len()]);

impl Note {
    /// `None` if they say nothing.
    pub(crate) fn of(labels: &[(&str, &str)]) -> Option<Self> {
        let value = |name: &str| {
            let pair = labels.iter().find(|pair| pair.0 == name);
            pair.map_or("", |pair| pair.1)
        };
        let values = LABELS.map(value);
        let is_empty = values.iter().all(|value| value.is_empty());
        (!is_empty).then(|| Self(values.map(str::to_owned)))
    }

    /// Bytes of it, about.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(String::len).sum()
    }

    /// The object that stands in place of a build id, and holds it.
    pub(crate) fn around(&self, build_id: &[u8]) -> String {
        let [repository, git_ref, root_path] = &self.0;
        object(&[
            ("repository", repository),
            ("git_ref", git_ref),
            ("build_id", &String::from_utf8_lossy(build_id)),
            ("root_path", root_path),
        ])
    }
}

/// A JSON object of texts.
fn object(fields: &[(&str, &str)]) -> String {
    let mut out = String::from("{");
    for (at, (name, value)) in fields.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        quote(name, &mut out);
        out.push(':');
        quote(value, &mut out);
    }
    out.push('}');
    out
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_id_becomes_an_object_that_holds_it() {
        assert_eq!(Note::of(&[("other", "x"), ("service_git_ref", "")]), None);
        let note = Note::of(&[("service_repository", "https://example.org/r")]).unwrap();
        assert_eq!(
            note.around(b"a\"b"),
            r#"{"repository":"https://example.org/r","git_ref":"","build_id":"a\"b","root_path":""}"#
        );
    }
}
