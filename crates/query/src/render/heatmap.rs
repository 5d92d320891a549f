//! Heatmaps as an answer: how many values lie in which cell of time and size.

use std::collections::BTreeMap;

use scoria_model::Label;

use crate::merge::{Exemplar, Subject, Value, ValuesPartial};
use crate::request::Cells;
use crate::scan::Exemplars;

/// Rows of every heatmap.
const ROWS: usize = 20;

/// One series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatmapSeries {
    /// In the order in which the request named them.
    pub labels: Vec<Label>,
    /// Ascending in time; only columns with values.
    pub slots: Vec<HeatmapSlot>,
}

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatmapSlot {
    /// Right edge, Unix milliseconds.
    pub timestamp_ms: i64,
    /// Lower edges of the rows.
    pub y_min: Vec<f64>,
    /// Values in each row.
    pub counts: Vec<i32>,
    /// The largest value of each row that has any, where asked for.
    pub exemplars: Vec<Exemplar>,
}

/// The series with the most values first, at most as many as asked for; equal ones by their
/// labels. All share their rows, which divide what lies between the smallest and the largest value
/// evenly.
pub fn heatmap(partial: ValuesPartial, cells: &Cells) -> Vec<HeatmapSeries> {
    let mut groups: Vec<_> = partial
        .groups
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .collect();
    // Groups come sorted by labels, and the sort is stable.
    groups.sort_by_key(|(_, values)| std::cmp::Reverse(values.len()));
    groups.truncate(cells.limit.unwrap_or(usize::MAX));
    let all = || {
        let values = groups.iter().flat_map(|(_, values)| values.values());
        values.map(|value| value.value)
    };
    let (Some(min), Some(max)) = (all().min(), all().max()) else {
        return Vec::new();
    };
    let rows = Rows::new(min, max);
    groups
        .into_iter()
        .map(|(labels, values)| HeatmapSeries {
            labels,
            slots: slots(values, cells, &rows),
        })
        .collect()
}

/// The rows of a heatmap.
struct Rows {
    min: i128,
    /// From the smallest to the largest value, at least 1.
    width: i128,
}

impl Rows {
    fn new(min: i64, max: i64) -> Self {
        let width = (i128::from(max) - i128::from(min)).max(1);
        let min = i128::from(min);
        Self { min, width }
    }

    fn of(&self, value: i64) -> usize {
        let row = (i128::from(value) - self.min) * ROWS as i128 / self.width;
        // The largest value belongs to the last row.
        (row as usize).min(ROWS - 1)
    }

    fn edges(&self) -> Vec<f64> {
        let edge = |row: usize| self.min + row as i128 * self.width / ROWS as i128;
        (0..ROWS).map(|row| edge(row) as f64).collect()
    }
}

/// What lies in one column.
struct Column {
    counts: [i32; ROWS],
    largest: [Option<(i64, Subject, Value)>; ROWS],
}

fn slots(values: BTreeMap<(i64, Subject), Value>, cells: &Cells, rows: &Rows) -> Vec<HeatmapSlot> {
    let mut columns: BTreeMap<i64, Column> = BTreeMap::new();
    for ((time_ms, of), value) in values {
        let column = columns
            .entry(edge_of(time_ms, cells))
            .or_insert_with(|| Column {
                counts: [0; ROWS],
                largest: std::array::from_fn(|_| None),
            });
        let row = rows.of(value.value);
        column.counts[row] = column.counts[row].saturating_add(1);
        // The first of equal ones stays: values come in the order of time and id.
        let largest = &mut column.largest[row];
        if largest.as_ref().is_none_or(|l| l.2.value < value.value) {
            *largest = Some((time_ms, of, value));
        }
    }
    columns
        .into_iter()
        .map(|(timestamp_ms, column)| HeatmapSlot {
            timestamp_ms,
            y_min: rows.edges(),
            counts: column.counts.to_vec(),
            exemplars: match cells.exemplars {
                Exemplars::None => Vec::new(),
                _ => column.largest.into_iter().flatten().map(exemplar).collect(),
            },
        })
        .collect()
}

fn exemplar((time_ms, of, value): (i64, Subject, Value)) -> Exemplar {
    Exemplar {
        of,
        time_ms,
        value: value.value,
        labels: value.labels,
    }
}

/// The right edge of a value's column; the first column takes what comes before its edge.
fn edge_of(time_ms: i64, cells: &Cells) -> i64 {
    let after = time_ms.saturating_sub(cells.first_ms).max(0) as u64;
    let n = after.div_ceil(cells.step_ms.max(1) as u64) as i64;
    cells
        .first_ms
        .saturating_add(n.saturating_mul(cells.step_ms))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use scoria_model::{Labels, ProfileId, TimeRange};

    use super::*;
    use crate::scan::{Heatmap, HeatmapOf, Scan, What};
    use crate::selector::Matchers;

    fn cells(limit: Option<usize>, exemplars: Exemplars) -> Cells {
        Cells {
            scan: Scan {
                matchers: Matchers::default(),
                range: TimeRange {
                    start_ms: 1000,
                    end_ms: 1025,
                },
                what: What::Heatmap(Heatmap {
                    group_by: Vec::new(),
                    of: HeatmapOf::Profiles,
                }),
            },
            first_ms: 1000,
            step_ms: 10,
            limit,
            exemplars,
        }
    }

    fn partial(groups: &[(&str, &[(i64, i64)])]) -> ValuesPartial {
        let mut partial = ValuesPartial::default();
        for (pod, values) in groups {
            let key = vec![Label {
                name: Arc::from("pod"),
                value: Arc::from(*pod),
            }];
            let values = values.iter().enumerate().map(|(at, &(ms, value))| {
                let of = Subject::Profile(ProfileId(at as u128));
                let labels = Labels::default();
                ((ms, of), Value { value, labels })
            });
            partial.groups.insert(key, values.collect());
        }
        partial
    }

    #[test]
    fn cells_columns_and_exemplars() {
        let partial = partial(&[("a", &[(1000, 0), (1001, 100), (1010, 99), (1021, 5)])]);
        let all = heatmap(partial, &cells(None, Exemplars::Individual));
        let slots = &all[0].slots;
        let edges: Vec<i64> = slots.iter().map(|slot| slot.timestamp_ms).collect();
        assert_eq!(edges, [1000, 1010, 1030]);
        assert_eq!(slots[0].y_min[..3], [0.0, 5.0, 10.0]);
        assert_eq!((slots[0].y_min.len(), slots[0].counts[0]), (ROWS, 1));
        // The largest value lies in the last row, beside what the row's edge says.
        assert_eq!(slots[1].counts[ROWS - 1], 2);
        assert_eq!(slots[1].exemplars.len(), 1);
        assert_eq!(slots[1].exemplars[0].value, 100);
        assert_eq!(slots[2].counts[1], 1);
    }

    #[test]
    fn the_series_with_the_most_values_first_and_rows_over_what_is_returned() {
        let partial = partial(&[
            ("a", &[(1000, 1_000_000)]),
            ("b", &[(1000, 7), (1001, 7)]),
            ("c", &[]),
        ]);
        let all = heatmap(partial.clone(), &cells(Some(1), Exemplars::None));
        assert_eq!((all.len(), &*all[0].labels[0].value), (1, "b"));
        assert_eq!(all[0].slots[0].y_min[0], 7.0);
        assert_eq!(all[0].slots[0].counts[0], 1);
        assert!(all[0].slots[0].exemplars.is_empty());
        assert_eq!(heatmap(partial, &cells(None, Exemplars::None)).len(), 2);
        let none = heatmap(ValuesPartial::default(), &cells(None, Exemplars::None));
        assert!(none.is_empty());
    }

    #[test]
    fn extreme_values_do_not_overflow() {
        let partial = partial(&[("a", &[(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)])]);
        let all = heatmap(partial, &cells(None, Exemplars::None));
        let counts: i32 = all[0].slots.iter().flat_map(|s| &s.counts).sum();
        assert_eq!(counts, 2);
    }
}
