//! Labels of the profiles that a scan selects.

use std::borrow::Cow;

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use scoria_model::{Labels, ProfileType};

use crate::merge::{LabelsMerger, LabelsPartial, SortedTexts};
use crate::scan::{Scan, What};
use crate::select::{self, DatasetView, Projection};
use crate::selector::is_of_type;

/// Takes in what the labels of some rows answer, once per series and type.
pub(super) fn add_labels(
    into: &mut LabelsMerger,
    scan: &Scan,
    view: &DatasetView<'_>,
    rows: &[u32],
) {
    match &scan.what {
        What::LabelNames => into.add_texts(label_names(view, rows)),
        What::LabelValues(name) if is_of_type(name) => {
            let kinds = firsts(rows, &view.rows.kind, view.kinds.len());
            let none = Labels::default();
            let values = kinds.map(|kind| select::label_value(&view.kinds[kind], &none, name));
            into.add_texts(SortedTexts::of(values.flatten().collect()));
        }
        What::LabelValues(name) => {
            let series = firsts(rows, &view.rows.series, view.series.len());
            let values = series.filter_map(|at| stored_value(&view.series[at], name));
            into.add_texts(SortedTexts::of(values.collect()));
        }
        _ => add_sets(into, scan, view, rows),
    }
}

/// The distinct entries of some rows in a column of numbers below `n`, in order of appearance.
fn firsts<'a>(rows: &'a [u32], column: &'a [u32], n: usize) -> impl Iterator<Item = usize> + 'a {
    let mut seen = vec![false; n];
    // Selected rows have a kind and a series inside their tables.
    let entries = rows.iter().map(move |&row| column[row as usize] as usize);
    entries.filter(move |&at| !std::mem::replace(&mut seen[at], true))
}

/// The value of a label that does not follow from the type.
fn stored_value<'a>(series: &'a Labels, name: &str) -> Option<&'a str> {
    if name == scoria_model::labels::names::SERVICE_NAME_PRIVATE {
        return Some(series.service_name());
    }
    series.get(name)
}

fn label_names(view: &DatasetView<'_>, rows: &[u32]) -> SortedTexts {
    // Few, and each comes with every series.
    let mut names: HashSet<Cow<'_, str>, FixedState> = HashSet::default();
    for series in firsts(rows, &view.rows.series, view.series.len()) {
        for label in &view.series[series] {
            if !names.contains(&*label.name) {
                names.insert(Cow::Borrowed(&label.name));
            }
        }
    }
    let none = Labels::default();
    for kind in firsts(rows, &view.rows.kind, view.kinds.len()) {
        for label in &view.kinds[kind].labels_with_derived(&none) {
            names.insert(Cow::Owned(label.name.to_string()));
        }
    }
    SortedTexts::of(names.into_iter().collect())
}

fn add_sets(into: &mut LabelsMerger, scan: &Scan, view: &DatasetView<'_>, rows: &[u32]) {
    let Some(projection) = Projection::of(scan) else {
        return;
    };
    let mut seen: HashSet<(u32, u32), FixedState> = HashSet::default();
    let mut last = None;
    for &row in rows {
        let pair = (view.rows.kind[row as usize], view.rows.series[row as usize]);
        if last == Some(pair) || !seen.insert(pair) {
            continue;
        }
        last = Some(pair);
        let (kind, series) = (&view.kinds[pair.0 as usize], &view.series[pair.1 as usize]);
        into.add_sets(projection.apply(kind, series));
    }
}

/// What the catalogue alone says of the labels of a dataset: for scans that ask only for labels
/// which follow from service and profile type, of profiles known to be in range.
pub fn labels_without_series(
    scan: &Scan,
    service: &str,
    kinds: &[ProfileType],
) -> Option<LabelsPartial> {
    if !needs_no_series(scan) {
        return None;
    }
    let mut labels = LabelsPartial::default();
    if !select::service_matches(&scan.matchers, service) {
        return Some(labels);
    }
    let series = Labels::from_pairs([(scoria_model::labels::names::SERVICE_NAME, service)]);
    let matching = select::matching_kinds(&scan.matchers, kinds);
    let matching = kinds.iter().zip(matching).filter(|(_, m)| *m);
    let matching = matching.map(|(kind, _)| kind);
    match (&scan.what, Projection::of(scan)) {
        (What::LabelValues(name), _) => {
            let values = matching.filter_map(|kind| select::label_value(kind, &series, name));
            labels.texts = SortedTexts::of(values.collect());
        }
        (_, Some(projection)) => {
            let sets = matching.filter_map(|kind| projection.apply(kind, &series));
            labels.sets = sets.collect();
        }
        (_, None) => {}
    }
    Some(labels)
}

/// Whether [`labels_without_series`] answers a scan.
pub fn needs_no_series(scan: &Scan) -> bool {
    let known = crate::scan::is_known_without_series;
    let asked_known = match &scan.what {
        What::LabelValues(name) => known(name),
        What::Series(_) => Projection::of(scan).is_some_and(|projection| {
            !projection.names().is_empty() && projection.names().iter().all(|name| known(name))
        }),
        _ => false,
    };
    asked_known && scan.matchers.iter().all(|m| known(&m.name))
}
