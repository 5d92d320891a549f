//! Where a program's source is found, noted on its mappings for viewers that show the source.
//!
//! The labels `service_repository`, `service_git_ref` and `service_root_path` go into the build id
//! of each mapping as one JSON object, which is where such viewers look for them.

use std::fmt::Write;

use crate::raw::RawProfile;

const LABELS: [&str; 3] = ["service_repository", "service_git_ref", "service_root_path"];

/// Replaces the build ids if the upload has any of the labels.
pub(crate) fn note_source(raw: &mut RawProfile<'_>, labels: &[(&str, &str)]) {
    let value = |name: &str| {
        let pair = labels.iter().find(|pair| pair.0 == name);
        pair.map_or("", |pair| pair.1)
    };
    let [repository, git_ref, root_path] = LABELS.map(value);
    if repository.is_empty() && git_ref.is_empty() && root_path.is_empty() {
        return;
    }
    for at in 0..raw.columns.mappings.len() {
        let build_id = raw.columns.mappings[at].build_id;
        let build_id = String::from_utf8_lossy(raw.text(build_id));
        let text = object(&[
            ("repository", repository),
            ("git_ref", git_ref),
            ("build_id", &build_id),
            ("root_path", root_path),
        ]);
        let Some(noted) = raw.push_string(text.as_bytes()) else {
            return;
        };
        raw.columns.mappings[at].build_id = noted;
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
    use crate::ProfileEncoder;
    use crate::encode::MappingRow;

    #[test]
    fn the_build_id_becomes_an_object_that_holds_it() {
        let mut encoder = ProfileEncoder::new();
        encoder.mapping(&MappingRow {
            build_id: "a\"b",
            ..MappingRow::default()
        });
        let bytes = encoder.finish();
        let mut raw = RawProfile::decode(&bytes).unwrap();
        note_source(&mut raw, &[("other", "x")]);
        assert_eq!(raw.text(raw.columns.mappings[0].build_id), b"a\"b");
        note_source(&mut raw, &[("service_repository", "https://example.org/r")]);
        let text = raw.text(raw.columns.mappings[0].build_id);
        assert_eq!(
            String::from_utf8_lossy(text),
            r#"{"repository":"https://example.org/r","git_ref":"","build_id":"a\"b","root_path":""}"#
        );
    }
}
