//! Labels of the profiles that a scan selects.

use std::borrow::Cow;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use scoria_model::{Labels, ProfileType};

use crate::merge::LabelsPartial;
use crate::scan::{Scan, What};
use crate::select::{self, DatasetView, Projection};

/// Takes in what the labels of some rows answer, once per series and type.
pub(super) fn add_labels(
    into: &mut LabelsPartial,
    scan: &Scan,
    view: &DatasetView<'_>,
    rows: &[u32],
) {
    let mut seen: HashSet<(u32, u32), FixedState> = HashSet::default();
    let mut last = None;
    let projection = Projection::of(scan);
    let mut texts = Texts::default();
    for &row in rows {
        let pair = (view.rows.kind[row as usize], view.rows.series[row as usize]);
        if last == Some(pair) || !seen.insert(pair) {
            continue;
        }
        last = Some(pair);
        // Selected rows have a kind and a series inside their tables.
        let (kind, series) = (&view.kinds[pair.0 as usize], &view.series[pair.1 as usize]);
        match &scan.what {
            What::LabelNames => texts.add_names(pair.0, kind, series),
            What::LabelValues(name) => {
                if let Some(value) = select::label_value(kind, series, name) {
                    texts.add(value);
                }
            }
            _ => into
                .sets
                .extend(projection.as_ref().and_then(|p| p.apply(kind, series))),
        }
    }
    texts.put(into);
}

/// Texts of many series, put in order at the end: ordering each as it comes would take longer than
/// all else.
#[derive(Default)]
struct Texts<'a> {
    /// As they came. Series are sorted, so that values nearly are.
    values: Vec<Cow<'a, str>>,
    /// Few, and each comes with every series.
    names: HashSet<Cow<'a, str>, FixedState>,
    /// Types whose derived names are among them.
    kinds: HashSet<u32, FixedState>,
}

impl<'a> Texts<'a> {
    fn add(&mut self, text: Cow<'a, str>) {
        if self.values.last() != Some(&text) {
            self.values.push(text);
        }
    }

    fn add_names(&mut self, at: u32, kind: &ProfileType, series: &'a Labels) {
        for label in series {
            self.names.insert(Cow::Borrowed(&label.name));
        }
        if self.kinds.insert(at) {
            for label in &kind.labels_with_derived(series) {
                self.names.insert(Cow::Owned(label.name.to_string()));
            }
        }
    }

    fn put(mut self, into: &mut LabelsPartial) {
        self.values.extend(self.names);
        self.values.sort();
        self.values.dedup();
        let texts = self.values.iter().map(|text| Arc::from(&**text)).collect();
        into.merge(LabelsPartial {
            texts,
            ..LabelsPartial::default()
        });
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
    let projection = Projection::of(scan);
    let matching = select::matching_kinds(&scan.matchers, kinds);
    for (kind, _) in kinds.iter().zip(matching).filter(|(_, m)| *m) {
        match (&scan.what, &projection) {
            (What::LabelValues(name), _) => {
                let value = select::label_value(kind, &series, name);
                labels.texts.extend(value.map(|value| Arc::from(&*value)));
            }
            (_, Some(projection)) => labels.sets.extend(projection.apply(kind, &series)),
            (_, None) => {}
        }
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
