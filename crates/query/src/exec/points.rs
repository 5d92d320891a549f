//! Profiles as points over time: sums per bucket, and single values for heatmaps.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use scoria_model::labels::names;
use scoria_model::{Label, Labels, LabelsBuilder, ProfileId, Timestamp};

use super::row_totals::SpanTotal;
use crate::merge::{Exemplar, GroupKey, Point, SeriesPartial, Subject, Value, ValuesPartial, put};
use crate::scan::{Exemplars, Heatmap, HeatmapOf, TimeSeries};
use crate::select::{self, DatasetView};

/// Selected profiles with their values.
pub(super) struct Valued<'a> {
    pub(super) view: &'a DatasetView<'a>,
    pub(super) rows: &'a [u32],
    /// The value of the n-th of `rows`; `None` if nothing in the profile counts.
    pub(super) value: &'a dyn Fn(usize) -> Option<i64>,
    /// Those of spans, where they were asked for.
    pub(super) spans: &'a [SpanTotal],
}

impl Valued<'_> {
    fn time(&self, at: usize) -> Timestamp {
        Timestamp(self.view.rows.time_ns[self.rows[at] as usize])
    }

    fn labels(&self, at: usize) -> (u32, &Labels) {
        let series = self.view.rows.series[self.rows[at] as usize];
        (series, &self.view.series[series as usize])
    }

    /// Whether only the totals of the profile were kept.
    fn is_stripped(&self, at: usize) -> bool {
        self.labels(at).1.get(names::SAMPLED) == Some("true")
    }

    /// Calls `visit` with position and value of each profile that has one and can be shown.
    fn profiles(&self, mut visit: impl FnMut(usize, Subject, i64)) {
        for at in 0..self.rows.len() {
            if let Some(value) = (self.value)(at)
                && !self.is_stripped(at)
            {
                let id = self.view.profile_id(self.rows[at] as usize);
                visit(at, Subject::Profile(id), value);
            }
        }
    }

    /// Calls `visit` with position and value of each span in each profile.
    fn spans(&self, mut visit: impl FnMut(usize, Subject, i64)) {
        for total in self.spans {
            let (span, trace) = (total.span, total.trace);
            visit(
                total.at as usize,
                Subject::Span { span, trace },
                total.value,
            );
        }
    }
}

/// Adds profiles to their points.
pub(super) fn add_points(into: &mut SeriesPartial, wanted: &TimeSeries, valued: &Valued<'_>) {
    let mut groups = Groups::default();
    let mut points: Vec<BTreeMap<i64, Point>> = Vec::new();
    for (at, &row) in valued.rows.iter().enumerate() {
        let Some(edge) = wanted.buckets.edge_of(valued.time(at)) else {
            continue;
        };
        let Some(value) = (valued.value)(at) else {
            continue;
        };
        let group = groups.of_row(valued.view, row as usize, &wanted.group_by) as usize;
        if points.len() <= group {
            points.resize_with(group + 1, BTreeMap::new);
        }
        let point = points[group].entry(edge).or_default();
        point.add(value);
        point.n_stripped += u64::from(valued.is_stripped(at));
    }
    for ((group, edge, time_ms, of, _), candidate) in candidates(&mut groups, wanted, valued) {
        let point = points.get_mut(group as usize);
        if let Some(point) = point.and_then(|points| points.get_mut(&edge)) {
            point.offer(Exemplar {
                of,
                time_ms,
                value: candidate.value,
                labels: without(&candidate.labels, &wanted.group_by),
            });
        }
    }
    for (key, points) in groups.keys.into_iter().zip(points) {
        into.merge(SeriesPartial {
            groups: BTreeMap::from([(key, points)]),
        });
    }
}

/// What may stand for a point, by group, edge, time in milliseconds, what it is and its profile:
/// values of one profile add up, those of a span in two profiles do not, since nobody who merges
/// answers could add them.
type Candidates = HashMap<(u32, i64, i64, Subject, ProfileId), Value, FixedState>;

fn candidates(groups: &mut Groups, wanted: &TimeSeries, valued: &Valued<'_>) -> Candidates {
    let mut found = Candidates::default();
    let offer = |at: usize, of: Subject, value: i64| {
        let time = valued.time(at);
        let Some(edge) = wanted.buckets.edge_of(time) else {
            return;
        };
        let group = groups.of_row(valued.view, valued.rows[at] as usize, &wanted.group_by);
        let (_, labels) = valued.labels(at);
        let value = Value {
            value,
            labels: labels.clone(),
        };
        let profile = valued.view.profile_id(valued.rows[at] as usize);
        match found.entry((group, edge, time.millis(), of, profile)) {
            Entry::Occupied(mut entry) => entry.get_mut().merge(&value),
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
        }
    };
    match wanted.exemplars {
        Exemplars::None => {}
        Exemplars::Individual => valued.profiles(offer),
        Exemplars::Span => valued.spans(offer),
    }
    found
}

/// Adds single values.
pub(super) fn add_values(into: &mut ValuesPartial, wanted: &Heatmap, valued: &Valued<'_>) {
    let mut groups = Groups::default();
    // Labels are made once per series.
    let mut shown: HashMap<u32, Labels, FixedState> = HashMap::default();
    let mut values: Vec<BTreeMap<(i64, Subject), Value>> = Vec::new();
    let add = |at: usize, of: Subject, value: i64| {
        let group = groups.of_row(valued.view, valued.rows[at] as usize, &wanted.group_by) as usize;
        if values.len() <= group {
            values.resize_with(group + 1, BTreeMap::new);
        }
        let (series, labels) = valued.labels(at);
        let labels = shown
            .entry(series)
            .or_insert_with(|| without(labels, &wanted.group_by))
            .clone();
        put(
            &mut values[group],
            (valued.time(at).millis(), of),
            Value { value, labels },
        );
    };
    match wanted.of {
        HeatmapOf::Profiles => valued.profiles(add),
        HeatmapOf::Spans => valued.spans(add),
    }
    for (key, values) in groups.keys.into_iter().zip(values) {
        into.merge(ValuesPartial {
            groups: BTreeMap::from([(key, values)]),
        });
    }
}

/// Labels less those that name the group.
fn without(labels: &Labels, group_by: &[Arc<str>]) -> Labels {
    if !group_by.iter().any(|by| labels.get(by).is_some()) {
        return labels.clone();
    }
    let mut left = LabelsBuilder::from_labels(labels);
    left.retain(|label| !group_by.contains(&label.name));
    left.build()
}

/// Numbers for groups, found once per (type, series).
#[derive(Default)]
struct Groups {
    keys: Vec<GroupKey>,
    by_key: HashMap<GroupKey, u32, FixedState>,
    by_pair: HashMap<(u32, u32), u32, FixedState>,
    last: Option<((u32, u32), u32)>,
}

impl Groups {
    fn of_row(&mut self, view: &DatasetView<'_>, row: usize, group_by: &[Arc<str>]) -> u32 {
        let pair = (view.rows.kind[row], view.rows.series[row]);
        if let Some((known, group)) = self.last
            && known == pair
        {
            return group;
        }
        let group = match self.by_pair.get(&pair) {
            Some(&group) => group,
            None => {
                let (kind, series) = (&view.kinds[pair.0 as usize], &view.series[pair.1 as usize]);
                let key: Vec<Label> = select::group_key(kind, series, group_by);
                let next = self.keys.len() as u32;
                let group = *self.by_key.entry(key.clone()).or_insert(next);
                if group == next {
                    self.keys.push(key);
                }
                self.by_pair.insert(pair, group);
                group
            }
        };
        self.last = Some((pair, group));
        group
    }
}
