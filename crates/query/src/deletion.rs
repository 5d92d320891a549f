//! Profiles that were deleted on demand: which rows of a dataset queries and merges leave out.
//!
//! # Invariants
//! - Matchers are evaluated once per series and profile type, as in a scan; a deletion takes exactly
//!   the profiles that a query with its selector would find before its time.
//!
//! # What it must not know
//! Where deletions are kept and whether they still apply.

use std::sync::Arc;

use scoria_block::ProfileRows;
use scoria_model::labels::names;
use scoria_model::{Labels, ProfileType, Timestamp};

use crate::select::{matching_kinds, service_matches};
use crate::selector::{Matchers, SelectorError};

/// One deletion, ready to be applied.
#[derive(Debug, Clone)]
pub struct Deletion {
    matchers: Matchers,
    /// Exclusive.
    before: Timestamp,
}

impl Deletion {
    /// # Errors
    /// The selector cannot be read.
    pub fn new(selector: &str, before: Timestamp) -> Result<Self, SelectorError> {
        Ok(Self {
            matchers: Matchers::parse(selector)?,
            before,
        })
    }

    /// Whether a dataset may hold profiles of it, from what the catalogue knows of the dataset.
    pub fn may_hide(&self, service: &str, kinds: &[ProfileType], min_time: Timestamp) -> bool {
        min_time < self.before
            && service_matches(&self.matchers, service)
            && matching_kinds(&self.matchers, kinds).contains(&true)
    }

    /// Whether it takes everything of its tenant before its time.
    pub fn takes_everything(&self) -> bool {
        self.matchers.is_empty()
    }
}

/// Some deletions over the types and series of one dataset.
#[derive(Debug, Clone)]
pub struct Hidden {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    kinds: Vec<bool>,
    series: Vec<bool>,
    before: i64,
}

impl Hidden {
    pub fn of(deletions: &[Arc<Deletion>], kinds: &[ProfileType], series: &[Labels]) -> Self {
        let rule = |deletion: &Arc<Deletion>| {
            let (_, stored) = deletion.matchers.split();
            let passes = |labels: &Labels| {
                stored.matches(|name| match name {
                    names::SERVICE_NAME_PRIVATE => Some(labels.service_name()),
                    name => labels.get(name),
                })
            };
            Rule {
                kinds: matching_kinds(&deletion.matchers, kinds),
                series: series.iter().map(passes).collect(),
                before: deletion.before.0,
            }
        };
        Self {
            rules: deletions.iter().map(rule).collect(),
        }
    }

    /// Whether a profile is left out.
    pub fn hides(&self, kind: u32, series: u32, time_ns: i64) -> bool {
        self.rules.iter().any(|rule| {
            time_ns < rule.before
                && rule.kinds.get(kind as usize) == Some(&true)
                && rule.series.get(series as usize) == Some(&true)
        })
    }

    /// For each row whether it stays; none at all if every one does.
    pub fn keep(&self, rows: &ProfileRows) -> Vec<bool> {
        if self.rules.is_empty() {
            return Vec::new();
        }
        let columns = rows.kind.iter().zip(&rows.series).zip(&rows.time_ns);
        columns
            .map(|((&kind, &series), &time)| !self.hides(kind, series, time))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_takes_what_its_selector_finds_before_its_time() {
        let deletion = |selector: &str| Arc::new(Deletion::new(selector, Timestamp(10)).unwrap());
        let kinds: Vec<ProfileType> = [
            "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
            "mem:live:count::",
        ]
        .map(|kind| kind.parse().unwrap())
        .to_vec();
        let series = [
            Labels::from_pairs([("service_name", "api"), ("pod", "a")]),
            Labels::from_pairs([("service_name", "api"), ("pod", "b")]),
        ];
        let hidden = |selector| Hidden::of(&[deletion(selector)], &kinds, &series);
        let pods = hidden(r#"{pod="a"}"#);
        assert!(pods.hides(0, 0, 9) && pods.hides(1, 0, 0));
        assert!(!pods.hides(0, 0, 10) && !pods.hides(0, 1, 9));
        let types = hidden(r#"process_cpu{pod=~"a|b"}"#);
        assert!(types.hides(0, 1, 9) && !types.hides(1, 1, 9));
        let all = hidden("{}");
        assert!(all.hides(0, 0, 9) && all.hides(1, 1, 9));
        assert!(deletion("{}").takes_everything());
        let of_service = deletion(r#"{service_name="api"}"#);
        assert!(of_service.may_hide("api", &kinds, Timestamp(9)));
        assert!(!of_service.may_hide("web", &kinds, Timestamp(9)));
        assert!(!of_service.may_hide("api", &kinds, Timestamp(10)));
        assert!(Deletion::new("{", Timestamp(0)).is_err());
    }
}
