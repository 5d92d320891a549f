//! Time series as an answer.

use scoria_model::Label;

use crate::merge::{Exemplar, Point, SeriesPartial};
use crate::request::Aggregation;

/// One series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesPoints {
    /// In the order in which the request named them.
    pub labels: Vec<Label>,
    /// Ascending in time; only buckets that hold profiles.
    pub points: Vec<ValuePoint>,
}

/// One point.
#[derive(Debug, Clone, PartialEq)]
pub struct ValuePoint {
    /// Right edge of the bucket, Unix milliseconds.
    pub timestamp_ms: i64,
    pub value: f64,
    /// Profiles that count in it and of which only the totals were kept.
    pub n_stripped: u64,
    pub exemplar: Option<Exemplar>,
}

/// The series with the largest sums first, at most `limit` of them; equal ones by their labels.
pub fn series(
    partial: SeriesPartial,
    aggregation: Aggregation,
    limit: Option<usize>,
) -> Vec<SeriesPoints> {
    let value = |point: &Point| match aggregation {
        Aggregation::Sum => point.sum as f64,
        Aggregation::Average => point.sum as f64 / point.n.max(1) as f64,
    };
    let mut all: Vec<(f64, SeriesPoints)> = partial
        .groups
        .into_iter()
        .filter(|(_, points)| !points.is_empty())
        .map(|(labels, points)| {
            let points: Vec<ValuePoint> = points
                .into_iter()
                .map(|(timestamp_ms, point)| ValuePoint {
                    timestamp_ms,
                    value: value(&point),
                    n_stripped: point.n_stripped,
                    exemplar: point.exemplar,
                })
                .collect();
            let sum = points.iter().map(|point| point.value).sum();
            (sum, SeriesPoints { labels, points })
        })
        .collect();
    // Groups come sorted by labels, and the sort is stable.
    all.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    all.truncate(limit.unwrap_or(usize::MAX));
    all.into_iter().map(|(_, series)| series).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn largest_first_then_by_labels_and_limited_last() {
        let mut partial = SeriesPartial::default();
        for (pod, sums) in [
            ("a", vec![1]),
            ("b", vec![2, 3]),
            ("c", vec![5]),
            ("d", vec![]),
        ] {
            let label = Label {
                name: Arc::from("pod"),
                value: Arc::from(pod),
            };
            let points = sums.iter().enumerate().map(|(at, &sum)| {
                let point = Point {
                    sum,
                    n: 2,
                    ..Point::default()
                };
                (at as i64, point)
            });
            partial
                .groups
                .insert(vec![label], points.collect::<BTreeMap<_, _>>());
        }
        let order = |aggregation, limit| -> Vec<String> {
            series(partial.clone(), aggregation, limit)
                .iter()
                .map(|s| s.labels[0].value.to_string())
                .collect()
        };
        assert_eq!(order(Aggregation::Sum, None), ["b", "c", "a"]);
        assert_eq!(order(Aggregation::Sum, Some(1)), ["b"]);
        let averaged = series(partial.clone(), Aggregation::Average, None);
        assert_eq!(averaged[0].points[0].value, 1.0);
    }
}
