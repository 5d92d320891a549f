//! The query parameters of the old HTTP API.
//!
//! # Invariants
//! - Of a repeated parameter the first counts; unknown ones are ignored.
//! - Only a bad `name` is an error. Everything else has a default.
//!
//! # What it must not know
//! What the parameters change: `units` and `aggregationType` change nothing and are not even kept.

use std::borrow::Cow;

use scoria_model::Timestamp;

use super::name::{AppName, NameError};
use super::time_form;

const SAMPLE_RATE_DEFAULT: u32 = 100;
const SPY_NAME_DEFAULT: &str = "unknown";

/// The parameters of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestQuery {
    pub name: AppName,
    pub from: Timestamp,
    pub until: Timestamp,
    /// `from` and `until` as given, empty where they are not.
    pub times_given: String,
    /// Hz. 0 is a rate of its own: values are taken as they are.
    pub sample_rate: u32,
    /// What was given for it, if that is no rate.
    pub odd_sample_rate: Option<String>,
    pub spy_name: String,
    /// As given; see [`super::format::choose`].
    pub format: Option<String>,
}

impl IngestQuery {
    /// Reads the part of the URL behind the `?`.
    ///
    /// # Errors
    /// The name is missing or breaks its grammar.
    pub fn parse(query: &str, now: Timestamp) -> Result<Self, NameError> {
        let mut first = FirstOfEach::default();
        let mut n_replaced = 0;
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            n_replaced += replacements(&key) + replacements(&value);
            first.take(&key, value);
        }
        // Bytes that are no text are replaced by these, unless they were sent.
        if n_replaced > 0 && n_replaced > replacements_sent(query) {
            return Err(NameError::Utf8);
        }
        let name = first.name.ok_or(NameError::Missing)?;
        let (from, until) = (
            first.from.unwrap_or_default(),
            first.until.unwrap_or_default(),
        );
        let rate = first.sample_rate.as_deref().map(str::parse);
        let odd_sample_rate = match (&rate, first.sample_rate.as_deref()) {
            (Some(Err(_)), Some(text)) if !text.is_empty() => Some(text.chars().take(32).collect()),
            _ => None,
        };
        Ok(Self {
            name: AppName::parse(&name)?,
            from: time_form::parse(&from, now),
            until: time_form::parse(&until, now),
            times_given: format!("{from} {until}"),
            sample_rate: rate.and_then(Result::ok).unwrap_or(SAMPLE_RATE_DEFAULT),
            odd_sample_rate,
            spy_name: first
                .spy_name
                .filter(|text| !text.is_empty())
                .map_or_else(|| SPY_NAME_DEFAULT.to_owned(), Cow::into_owned),
            format: first.format.map(Cow::into_owned),
        })
    }
}

/// What stands in a decoded text in place of bytes that are none.
const REPLACEMENT: char = '\u{fffd}';

fn replacements(text: &str) -> usize {
    text.matches(REPLACEMENT).count()
}

/// How many of them a query holds itself, encoded or not.
fn replacements_sent(query: &str) -> usize {
    let encoded = query.to_ascii_lowercase();
    replacements(query) + encoded.matches("%ef%bf%bd").count()
}

#[derive(Default)]
struct FirstOfEach<'a> {
    name: Option<Cow<'a, str>>,
    from: Option<Cow<'a, str>>,
    until: Option<Cow<'a, str>>,
    sample_rate: Option<Cow<'a, str>>,
    spy_name: Option<Cow<'a, str>>,
    format: Option<Cow<'a, str>>,
}

impl<'a> FirstOfEach<'a> {
    fn take(&mut self, key: &str, value: Cow<'a, str>) {
        let slot = match key {
            "name" => &mut self.name,
            "from" => &mut self.from,
            "until" => &mut self.until,
            "sampleRate" => &mut self.sample_rate,
            "spyName" => &mut self.spy_name,
            "format" => &mut self.format,
            _ => return,
        };
        slot.get_or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_350_700_000_000_000);

    fn parse(query: &str) -> IngestQuery {
        IngestQuery::parse(query, NOW).unwrap()
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_and_their_stand_in_is_not() {
        for bad in [
            "name=a%7Bx%3D%FF%7D",
            "name=a&spyName=%ff%fe",
            "name=%c3%28",
        ] {
            let error = IngestQuery::parse(bad, NOW).unwrap_err();
            assert_eq!(error, NameError::Utf8, "{bad}");
        }
        for good in [
            "name=a%7Bx%3D%EF%bf%bd%7D",
            "name=a{x=\u{fffd}}",
            "name=a%7Bx%3D%C3%A9%7D",
        ] {
            assert_eq!(parse(good).name.app, "a", "{good}");
        }
    }

    #[test]
    fn a_rate_that_is_none_is_told() {
        for (given, rate, odd) in [
            ("&sampleRate=-1", 100, Some("-1")),
            ("&sampleRate=fast", 100, Some("fast")),
            ("&sampleRate=97", 97, None),
            ("&sampleRate=", 100, None),
            ("", 100, None),
        ] {
            let query = parse(&format!("name=a{given}"));
            let told = (query.sample_rate, query.odd_sample_rate.as_deref());
            assert_eq!(told, (rate, odd), "{given}");
        }
    }

    #[test]
    fn defaults() {
        let query = parse("name=app");
        let expected = IngestQuery {
            name: AppName {
                app: "app".to_owned(),
                labels: Vec::new(),
            },
            from: NOW,
            until: NOW,
            times_given: " ".to_owned(),
            sample_rate: 100,
            odd_sample_rate: None,
            spy_name: "unknown".to_owned(),
            format: None,
        };
        assert_eq!(query, expected);
        let empty = "name=app&from=&until=&sampleRate=&spyName=&units=&aggregationType=&x=y";
        assert_eq!(parse(empty), expected);
    }

    #[test]
    fn what_the_go_sdk_sends() {
        let query = parse(
            "aggregationType=sum&from=1795350685000000000&name=simple.golang.app%7B__session_id__%3D8b9c%2Cregion%3Deu%20west%7D&sampleRate=100&spyName=gospy&units=samples&until=1795350700000000000",
        );
        assert_eq!(query.name.app, "simple.golang.app");
        assert_eq!(
            query.name.labels[1],
            ("region".to_owned(), "eu west".to_owned())
        );
        assert_eq!(query.from.0, 1_795_350_685_000_000_000);
        assert_eq!(query.until.0, 1_795_350_700_000_000_000);
        assert_eq!((query.sample_rate, &*query.spy_name), (100, "gospy"));
    }

    #[test]
    fn the_first_of_a_repeated_parameter_counts() {
        let query = parse("name=a&name=b&format=pprof&format=jfr&sampleRate=1&sampleRate=2");
        assert_eq!(query.name.app, "a");
        assert_eq!(query.format.as_deref(), Some("pprof"));
        assert_eq!(query.sample_rate, 1);
    }

    #[test]
    fn sample_rates() {
        for (text, rate) in [("0", 0), ("97", 97), ("-1", 100), ("x", 100), ("1.5", 100)] {
            assert_eq!(
                parse(&format!("name=a&sampleRate={text}")).sample_rate,
                rate,
                "{text}"
            );
        }
    }

    #[test]
    fn a_name_is_required_and_url_decoded_first() {
        assert_eq!(IngestQuery::parse("from=1", NOW), Err(NameError::Missing));
        assert!(IngestQuery::parse("name=", NOW).is_err());
        assert_eq!(parse("name=a%7Bk%3Dv%2Bw%7D").name.labels[0].1, "v+w");
        assert_eq!(parse("name=a%7Bk%3Dv+w%7D").name.labels[0].1, "v w");
        assert!(IngestQuery::parse("name=%ff", NOW).is_err());
    }
}
