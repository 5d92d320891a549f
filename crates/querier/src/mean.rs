//! Series whose values count from the start of a process: their profiles are not added up, the
//! answer takes the mean of them.
//!
//! ```text
//! scan ─┬─ of series without the mark ─► sum ──────────────────────────┐
//!       └─ of marked series ─► sum ÷ number of profiles (or of a point's) ┴─► merged
//! ```
//!
//! # Invariants
//! - A series is in exactly one of the two scans, so each profile counts once.
//! - Only profile types that can be marked are asked for twice.
//!
//! # What it must not know
//! Who marks series, and by what.

use std::sync::Arc;

use scoria_model::ProfileType;
use scoria_model::labels::{cumulative, names};
use scoria_query::merge::Merger;
use scoria_query::scan::{Scan, What};
use scoria_query::selector::{Condition, Matcher};

use crate::error::{ErrorKind, QueryError};
use crate::querier::Shared;
use crate::run::{Outcome, Question};

impl Shared {
    /// As [`run`](Self::run), with the mean of cumulative profiles in place of their sum.
    pub(crate) async fn run_with_means(
        &self,
        question: Question<'_>,
    ) -> Result<Outcome, QueryError> {
        let scan = question.scan;
        if !can_be_cumulative(scan) {
            return self.run(question).await;
        }
        let mark: Arc<str> = Arc::from(cumulative::MARK);
        let marked = narrowed(scan, Condition::Equal(Arc::clone(&mark)));
        let marked = self
            .run(Question {
                scan: &marked,
                ..question
            })
            .await?;
        let others = narrowed(scan, Condition::NotEqual(mark));
        let others = self
            .run(Question {
                scan: &others,
                ..question
            })
            .await?;
        join(scan, marked, others)
    }
}

/// Whether some of the series that a scan selects may be marked.
fn can_be_cumulative(scan: &Scan) -> bool {
    let adds_up = matches!(
        scan.what,
        What::Tree(_) | What::Profile(_) | What::TimeSeries(_)
    );
    let kind = scan.matchers.equal_to(names::PROFILE_TYPE);
    let kind = kind.and_then(|id| id.parse::<ProfileType>().ok());
    adds_up && kind.is_some_and(|kind| cumulative::can_be(&kind.name, &kind.sample_type))
}

fn narrowed(scan: &Scan, condition: Condition) -> Scan {
    let mut scan = scan.clone();
    scan.matchers.push(Matcher {
        name: Arc::from(names::CUMULATIVE),
        condition,
    });
    scan
}

fn join(scan: &Scan, marked: Outcome, mut others: Outcome) -> Result<Outcome, QueryError> {
    let n = marked.stats.merged_profiles;
    others.stats.merge(&marked.stats);
    if n == 0 {
        return Ok(others);
    }
    let internal = |error: String| QueryError::new(ErrorKind::Internal, error);
    let mut merger = Merger::new(&scan.what);
    for partial in [others.partial, marked.partial.into_mean(n)] {
        let added = merger.add(partial);
        added.map_err(|error| internal(error.to_string()))?;
    }
    let bytes = marked.held.bytes();
    drop(marked.held);
    others.held.grow(bytes)?;
    let merged = merger.finish();
    Ok(Outcome {
        partial: merged.map_err(|error| internal(error.to_string()))?,
        stats: others.stats,
        held: others.held,
    })
}

#[cfg(test)]
mod tests {
    use scoria_model::TimeRange;
    use scoria_query::scan::StackFilter;
    use scoria_query::selector::Matchers;

    use super::*;

    fn scan(kind: &str, what: What) -> Scan {
        let mut matchers = Matchers::default();
        matchers.push(Matcher::equal(names::PROFILE_TYPE, kind));
        Scan {
            matchers,
            range: TimeRange {
                start_ms: 0,
                end_ms: 1,
            },
            what,
        }
    }

    #[test]
    fn only_types_that_can_be_marked_are_asked_for_twice() {
        let tree = || What::Tree(StackFilter::default());
        let table = [
            ("memory:alloc_space:bytes:space:bytes", tree(), true),
            ("mutex:delay:nanoseconds:contentions:count", tree(), true),
            ("memory:inuse_space:bytes:space:bytes", tree(), false),
            ("process_cpu:cpu:nanoseconds:cpu:nanoseconds", tree(), false),
            ("memory:alloc_space:bytes:space:bytes", What::Stats, false),
        ];
        for (kind, what, expected) in table {
            assert_eq!(can_be_cumulative(&scan(kind, what)), expected, "{kind}");
        }
        assert!(!can_be_cumulative(&Scan {
            matchers: Matchers::default(),
            ..scan("", tree())
        }));
    }

    #[test]
    fn the_two_scans_part_the_series() {
        let scan = scan("memory:alloc_space:bytes:space:bytes", What::Stats);
        let mark: Arc<str> = Arc::from(cumulative::MARK);
        let passes = |condition, value: Option<&'static str>| {
            let matchers = narrowed(&scan, condition).matchers;
            let mut own = matchers.iter().filter(|m| &*m.name == names::CUMULATIVE);
            own.all(|matcher| matcher.passes(value.unwrap_or_default()))
        };
        for value in [None, Some("true"), Some("false")] {
            let marked = passes(Condition::Equal(Arc::clone(&mark)), value);
            assert_ne!(
                marked,
                passes(Condition::NotEqual(Arc::clone(&mark)), value)
            );
        }
    }
}
