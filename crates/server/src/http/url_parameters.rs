//! The query string of the older HTTP API.
//!
//! # Invariants
//! - Of a parameter that may stand once, the first one counts.
//! - A number that is none counts as absent, as it always did there.

use std::borrow::Cow;

use scoria_query::timeline::parse_time;

use super::fault::Fault;

/// Names and values in their order, decoded.
pub(super) struct UrlParameters<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> UrlParameters<'a> {
    pub(super) fn of(query: &'a str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).collect())
    }

    /// The first value of `name`; empty when there is none.
    pub(super) fn first(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_ref()).unwrap_or_default()
    }

    /// Every value of `name` that is not empty.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        let named = self.0.iter().filter(|(key, _)| key == name);
        named
            .filter(|(_, value)| !value.is_empty())
            .map(|(_, value)| value.clone().into_owned())
            .collect()
    }

    /// # Errors
    /// 400 when it is missing or empty.
    pub(super) fn required(&self, name: &str) -> Result<&str, Fault> {
        match self.first(name) {
            "" => Err(Fault::invalid(format!("the parameter {name} is missing"))),
            value => Ok(value),
        }
    }

    /// A time in Unix milliseconds; now when there is none.
    pub(super) fn time_ms(&self, name: &str, now_ms: i64) -> i64 {
        parse_time(self.first(name), now_ms)
    }

    /// `from` and `until` in Unix milliseconds; without a `from` it is `lookback_ms` before.
    pub(super) fn range_ms(&self, now_ms: i64, lookback_ms: i64) -> (i64, i64) {
        let until = self.time_ms("until", now_ms);
        let from = match self.first("from") {
            "" => until.saturating_sub(lookback_ms),
            _ => self.time_ms("from", now_ms),
        };
        (from, until)
    }

    /// `maxNodes`, or else `max-nodes`.
    pub(super) fn max_nodes(&self) -> Option<i64> {
        let text = match self.first("maxNodes") {
            "" => self.first("max-nodes"),
            text => text,
        };
        text.parse().ok().filter(|nodes| *nodes > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_all() {
        let given = UrlParameters::of("a=1&a=2&b=&max-nodes=5&from=now-1m&c=%7Bx%3D%22y+z%22%7D");
        assert_eq!(given.first("a"), "1");
        assert_eq!(given.all("a"), ["1", "2"]);
        assert!(given.all("b").is_empty());
        assert!(given.required("b").is_err());
        assert_eq!(given.first("c"), "{x=\"y z\"}");
        assert_eq!(given.max_nodes(), Some(5));
        assert_eq!(given.time_ms("from", 100_000), 40_000);
        assert_eq!(given.time_ms("until", 100_000), 100_000);
        assert_eq!(UrlParameters::of("maxNodes=-1").max_nodes(), None);
        assert_eq!(
            UrlParameters::of("maxNodes=7&max-nodes=5").max_nodes(),
            Some(7)
        );
    }
}
