//! The parts of a multipart body that carries a pprof.
//!
//! # Invariants
//! - The first part of a name counts, whether or not it carries a file name; unknown ones are
//!   ignored.
//!
//! # What it must not know
//! How parts are cut out of a body.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

/// One part, whole.
#[derive(Debug, Clone)]
pub struct FormPart {
    pub name: String,
    pub content: Bytes,
}

/// What a form says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PprofForm {
    /// `None` if the part is missing or empty: then there is nothing to store.
    pub profile: Option<Bytes>,
    pub sample_types: Option<SampleTypeConfig>,
}

/// The display names that a client gives its sample types, where it gives any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SampleTypeConfig {
    /// (sample type, display name), sorted; the display name is empty if there is none.
    pub display_names: Vec<(String, String)>,
}

/// Why a form was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error(
        "unsupported client version: the form has the part \"prev_profile\", but the server no longer subtracts profiles; update pyroscope-go"
    )]
    PrevProfile,
    #[error("the form has the part \"jfr\" and no \"profile\"; send a recording with format=jfr")]
    Recording,
    #[error("the part \"sample_type_config\" is not a JSON object of sample types: {detail}")]
    SampleTypeConfig { detail: String },
}

/// Finds the parts that mean something.
///
/// # Errors
/// The client is one that leaves the subtraction to the server, it sends a recording and does not
/// say so, or the config does not parse.
pub fn interpret(parts: &[FormPart]) -> Result<PprofForm, FormError> {
    let first = |name: &str| {
        let part = parts.iter().find(|part| part.name == name)?;
        (!part.content.is_empty()).then(|| part.content.clone())
    };
    if first("prev_profile").is_some() {
        return Err(FormError::PrevProfile);
    }
    if first("profile").is_none() && first("jfr").is_some() {
        return Err(FormError::Recording);
    }
    let sample_types = first("sample_type_config")
        .map(|json| SampleTypeConfig::parse(&json))
        .transpose()?;
    Ok(PprofForm {
        profile: first("profile"),
        sample_types,
    })
}

impl SampleTypeConfig {
    /// Reads `{"<sample type>": {"display-name": "…", …}, …}`; other keys are ignored.
    ///
    /// # Errors
    /// It is not JSON of that shape.
    pub fn parse(json: &[u8]) -> Result<Self, FormError> {
        #[derive(Deserialize)]
        struct Entry {
            #[serde(rename = "display-name")]
            display_name: Option<String>,
        }
        let entries: BTreeMap<String, Option<Entry>> =
            serde_json::from_slice(json).map_err(|error| FormError::SampleTypeConfig {
                detail: error.to_string(),
            })?;
        let display_names = entries
            .into_iter()
            .map(|(sample_type, entry)| {
                let name = entry.and_then(|entry| entry.display_name);
                (sample_type, name.unwrap_or_default())
            })
            .collect();
        Ok(Self { display_names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, content: &'static str) -> FormPart {
        FormPart {
            name: name.to_owned(),
            content: Bytes::from_static(content.as_bytes()),
        }
    }

    fn pair(sample_type: &str, display_name: &str) -> (String, String) {
        (sample_type.to_owned(), display_name.to_owned())
    }

    #[test]
    fn the_first_part_of_a_name_counts_and_unknown_ones_do_not() {
        let form = interpret(&[
            part("x", "y"),
            part("profile", "one"),
            part("profile", "two"),
            part("prev_profile", ""),
            part(
                "sample_type_config",
                r#"{"cpu":{"units":"samples","display-name":"c","sampled":true}}"#,
            ),
        ])
        .unwrap();
        assert_eq!(form.profile.as_deref(), Some(b"one".as_slice()));
        assert_eq!(form.sample_types.unwrap().display_names, [pair("cpu", "c")]);
    }

    #[test]
    fn a_missing_or_empty_profile_is_nothing_to_store() {
        assert_eq!(interpret(&[]).unwrap(), PprofForm::default());
        assert_eq!(
            interpret(&[part("profile", ""), part("profile", "x")])
                .unwrap()
                .profile,
            None
        );
    }

    #[test]
    fn a_recording_in_a_form_of_another_kind_is_refused_with_advice() {
        let error = interpret(&[part("jfr", "x"), part("labels", "y")]).unwrap_err();
        assert!(error.to_string().contains("format=jfr"), "{error}");
        assert!(interpret(&[part("jfr", "x"), part("profile", "y")]).is_ok());
    }

    #[test]
    fn a_previous_profile_is_refused_with_advice() {
        let error = interpret(&[part("profile", "x"), part("prev_profile", "x")]).unwrap_err();
        assert_eq!(error, FormError::PrevProfile);
        assert!(error.to_string().contains("update pyroscope-go"));
    }

    #[test]
    fn configs() {
        let config = |json: &str| SampleTypeConfig::parse(json.as_bytes());
        assert_eq!(config("{}").unwrap(), SampleTypeConfig::default());
        assert_eq!(
            config(r#"{"a":{},"c":{"display-name":""},"b":null}"#)
                .unwrap()
                .display_names,
            [pair("a", ""), pair("b", ""), pair("c", "")]
        );
        for bad in ["", "[]", "{\"a\":1}", "{\"a\":{\"display-name\":1}}", "{"] {
            assert!(config(bad).is_err(), "{bad}");
        }
    }
}
