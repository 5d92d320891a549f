//! The grammar of the `name` parameter: `app` or `app{k=v,k2=v2}`.
//!
//! There are no quotes and no escapes. A value may hold anything but `,` and `}`; what is cut off
//! before its end (a key without `=`, a value without `,` or `}`) is left out without an error, and
//! so is everything behind the first closing brace.
//!
//! # Invariants
//! - A parsed name has an app (unless `__name__` was given as empty), and each key once.
//! - Keys consist of `A-Z a-z 0-9 _ .` and start with `__` only if they are `__session_id__`.
//!
//! # What it must not know
//! Which labels a series may have: lengths and counts are checked later.

use scoria_model::labels::names;

/// An application and the labels that came with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppName {
    pub app: String,
    /// In the order in which the keys first stood.
    pub labels: Vec<(String, String)>,
}

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("name: the parameter is missing; send name=<application>, e.g. name=checkout")]
    Missing,
    #[error("name: the query is not valid UTF-8 once it is decoded; percent-encode text as UTF-8")]
    Utf8,
    #[error("name: the application before '{{' is empty in {name:?}")]
    EmptyApp { name: String },
    #[error(
        "name: the application {app:?} contains {found:?}; allowed are letters, digits and _ . - /"
    )]
    AppCharacter { app: String, found: char },
    #[error("name: a label key is empty in {name:?}")]
    EmptyKey { name: String },
    #[error("name: the label key {key:?} contains {found:?}; allowed are letters, digits, _ and .")]
    KeyCharacter { key: String, found: char },
}

/// Bytes of a name that an error shows.
const SHOWN: usize = 128;

impl AppName {
    /// Reads a name that is already URL-decoded.
    ///
    /// # Errors
    /// The app or a key is empty or contains a character that it may not.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let (app, rest) = name.split_once('{').unwrap_or((name, ""));
        let app = checked_app(app.trim(), name)?;
        let mut parsed = Self {
            app: app.to_owned(),
            labels: Vec::new(),
        };
        let mut rest = rest;
        // A key reaches to the `=`; a `}` in front of it closes the name.
        while let Some((key, after_key)) = rest.split_once(['=', '}']) {
            if rest.as_bytes().get(key.len()) == Some(&b'}') {
                break;
            }
            let Some((value, after_value)) = after_key.split_once([',', '}']) else {
                break;
            };
            parsed.set(checked_key(key.trim(), name)?, value.trim());
            if after_key.as_bytes().get(value.len()) == Some(&b'}') {
                break;
            }
            rest = after_value;
        }
        Ok(parsed)
    }

    fn set(&mut self, key: &str, value: &str) {
        if key == names::NAME {
            value.clone_into(&mut self.app);
        } else if key.starts_with("__") && key != names::SESSION_ID {
            // Private names are the server's own.
        } else if let Some(pair) = self.labels.iter_mut().find(|pair| pair.0 == key) {
            value.clone_into(&mut pair.1);
        } else {
            self.labels.push((key.to_owned(), value.to_owned()));
        }
    }
}

fn checked_app<'a>(app: &'a str, name: &str) -> Result<&'a str, NameError> {
    if app.is_empty() {
        return Err(NameError::EmptyApp { name: shown(name) });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    match app.chars().find(|&c| !allowed(c)) {
        None => Ok(app),
        Some(found) => Err(NameError::AppCharacter {
            app: shown(app),
            found,
        }),
    }
}

fn checked_key<'a>(key: &'a str, name: &str) -> Result<&'a str, NameError> {
    if key.is_empty() {
        return Err(NameError::EmptyKey { name: shown(name) });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
    match key.chars().find(|&c| !allowed(c)) {
        None => Ok(key),
        Some(found) => Err(NameError::KeyCharacter {
            key: shown(key),
            found,
        }),
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(name: &str) -> (String, Vec<(String, String)>) {
        let parsed = AppName::parse(name).unwrap();
        (parsed.app, parsed.labels)
    }

    fn labels(name: &str) -> Vec<(String, String)> {
        parse(name).1
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn the_app_is_what_stands_before_the_brace() {
        for name in [
            "my-app.cpu",
            " my-app.cpu ",
            "my-app.cpu{}",
            "my-app.cpu {",
            "my-app.cpu{x",
        ] {
            assert_eq!(parse(name), ("my-app.cpu".to_owned(), vec![]), "{name:?}");
        }
        assert_eq!(parse("team/app_1.wall{}").0, "team/app_1.wall");
    }

    #[test]
    fn values_are_literal_up_to_a_comma_or_brace() {
        assert_eq!(labels("a{k=v,k2=v2}"), [pair("k", "v"), pair("k2", "v2")]);
        assert_eq!(
            labels("a{ k = v w , k2 = v2 }"),
            [pair("k", "v w"), pair("k2", "v2")]
        );
        assert_eq!(labels("a{k=\"v\"}"), [pair("k", "\"v\"")]);
        assert_eq!(labels("a{k=x=y{z}"), [pair("k", "x=y{z")]);
        assert_eq!(labels("a{k=ünï €}"), [pair("k", "ünï €")]);
        assert_eq!(labels("a{k=}"), [pair("k", "")]);
        assert_eq!(
            labels("a{otel.scope.name=x}"),
            [pair("otel.scope.name", "x")]
        );
    }

    #[test]
    fn what_is_not_closed_is_left_out() {
        assert_eq!(labels("a{k=v"), []);
        assert_eq!(labels("a{k=v,x"), [pair("k", "v")]);
        assert_eq!(labels("a{k=v,x=y"), [pair("k", "v")]);
        assert_eq!(labels("a{k=v,}"), [pair("k", "v")]);
        assert_eq!(labels("a{k=v,x}"), [pair("k", "v")]);
        assert_eq!(labels("a{x}k=v}"), []);
    }

    #[test]
    fn text_behind_the_brace_is_ignored() {
        assert_eq!(labels("a{k=v}, x=y}"), [pair("k", "v")]);
        assert_eq!(labels("a{}{-=-}"), []);
    }

    #[test]
    fn the_last_of_a_repeated_key_wins() {
        assert_eq!(labels("a{k=1,x=2,k=3}"), [pair("k", "3"), pair("x", "2")]);
    }

    #[test]
    fn private_keys() {
        assert_eq!(
            parse("a{__name__=b c!,__session_id__=1f,__delta__=true,__x=y}"),
            ("b c!".to_owned(), vec![pair("__session_id__", "1f")])
        );
    }

    #[test]
    fn refused() {
        let code = |name: &str| AppName::parse(name).unwrap_err();
        assert!(matches!(code(""), NameError::EmptyApp { .. }));
        assert!(matches!(code("  {k=v}"), NameError::EmptyApp { .. }));
        assert!(matches!(
            code("a b"),
            NameError::AppCharacter { found: ' ', .. }
        ));
        assert!(matches!(
            code("a}"),
            NameError::AppCharacter { found: '}', .. }
        ));
        assert!(matches!(
            code("é"),
            NameError::AppCharacter { found: 'é', .. }
        ));
        assert!(matches!(code("a{=v}"), NameError::EmptyKey { .. }));
        assert!(matches!(code("a{ =v}"), NameError::EmptyKey { .. }));
        assert!(matches!(
            code("a{k-x=v}"),
            NameError::KeyCharacter { found: '-', .. }
        ));
        assert!(matches!(
            code("a{x,k=v}"),
            NameError::KeyCharacter { found: ',', .. }
        ));
        for name in ["", "a b", "a{=v}", "a{k-x=v}"] {
            assert!(code(name).to_string().starts_with("name: "));
        }
    }

    #[test]
    fn errors_show_no_more_than_is_readable() {
        let error = AppName::parse(&"é".repeat(100_000)).unwrap_err();
        assert!(error.to_string().len() < 500);
    }

    proptest! {
        #[test]
        fn never_panics_and_keeps_its_promises(name in "\\PC{0,60}") {
            if let Ok(parsed) = AppName::parse(&name) {
                for (at, (key, value)) in parsed.labels.iter().enumerate() {
                    prop_assert!(!key.is_empty());
                    prop_assert!(!key.starts_with("__") || key == "__session_id__");
                    let closed = value.contains([',', '}']);
                    prop_assert!(!closed);
                    prop_assert_eq!(value, value.trim());
                    prop_assert!(parsed.labels[..at].iter().all(|pair| pair.0 != *key));
                }
            }
        }

        #[test]
        fn what_is_written_plainly_reads_back(
            app in "[a-zA-Z0-9_./-]{1,20}",
            pairs in proptest::collection::btree_map("[a-z.][a-z0-9_.]{0,6}", "[^,}\\s\\pC]{0,8}", 0..6),
        ) {
            let text: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let expected: Vec<(String, String)> = pairs.into_iter().collect();
            let name = format!("{app}{{{}}}", text.join(","));
            prop_assert_eq!(parse(&name), (app, expected));
        }

        #[test]
        fn agrees_with_a_reading_character_by_character(name in "[a{}=, _.-]{0,24}") {
            prop_assert_eq!(AppName::parse(&name).ok(), character_by_character(&name));
        }
    }

    /// The same grammar as a machine that sees one character at a time.
    fn character_by_character(name: &str) -> Option<AppName> {
        enum At {
            App,
            Key,
            Value(String),
        }
        let mut at = At::App;
        let mut text = String::new();
        let mut parsed = AppName::default();
        let app_ok = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
        let key_ok = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
        for c in name.chars().chain(['{']) {
            at = match (at, c) {
                (At::App, '{') => {
                    let app = text.trim();
                    if app.is_empty() || !app.chars().all(app_ok) {
                        return None;
                    }
                    parsed.app = app.to_owned();
                    text.clear();
                    At::Key
                }
                (At::Key, '}') => return Some(parsed),
                (At::Key, '=') => At::Value(std::mem::take(&mut text)),
                (At::Value(key), ',' | '}') => {
                    let key = key.trim();
                    if key.is_empty() || !key.chars().all(key_ok) {
                        return None;
                    }
                    parsed.set(key, text.trim());
                    if c == '}' {
                        return Some(parsed);
                    }
                    text.clear();
                    At::Key
                }
                (now, c) => {
                    text.push(c);
                    now
                }
            };
        }
        Some(parsed)
    }
}
