//! Which profiles of a dataset a scan asks for.
//!
//! Matchers are evaluated once per series and once per profile type, never per profile; choosing
//! rows is then three comparisons each.
//!
//! # Invariants
//! - A derived label has the value that the profile type or the service gives it, whatever a
//!   client stored under its name.
//!
//! # What it must not know
//! Samples and symbols.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use scoria_block::ProfileRows;
use scoria_model::labels::names;
use scoria_model::{Label, Labels, ProfileId, ProfileType, Seq};

use crate::scan::{Scan, What};
use crate::selector::{Matcher, Matchers, is_of_type};

/// The profiles of one dataset, in columns.
#[derive(Debug, Clone, Copy)]
pub struct DatasetView<'a> {
    /// Series labels as they are stored.
    pub series: &'a [Labels],
    pub kinds: &'a [ProfileType],
    pub rows: &'a ProfileRows,
    /// [`scoria_model::StreamId::hash64`] of each stream that the rows point to.
    pub streams: &'a [u64],
}

impl DatasetView<'_> {
    /// The id of a row's profile. A row of a stream that is not there gets one with an empty
    /// stream.
    pub fn profile_id(&self, row: usize) -> ProfileId {
        let stream = self.rows.stream[row] as usize;
        ProfileId::new(
            self.streams.get(stream).copied().unwrap_or_default(),
            Seq(self.rows.seq[row]),
            self.rows.place[row] as u16,
        )
    }
}

/// The rows that a scan asks for, in ascending order.
pub fn rows(scan: &Scan, view: &DatasetView<'_>) -> Vec<u32> {
    let kinds = matching_kinds(&scan.matchers, view.kinds);
    let series = matching_series(scan, view.series);
    if !kinds.contains(&true) || !series.contains(&true) {
        return Vec::new();
    }
    let (start, end) = (scan.range.start_ns(), scan.range.end_ns());
    let columns = view.rows.kind.iter().zip(&view.rows.series);
    let columns = columns.zip(&view.rows.time_ns);
    let picked = columns
        .enumerate()
        .filter(|(_, ((kind, at), time))| {
            start <= **time
                && **time <= end
                && kinds.get(**kind as usize).is_some_and(|&m| m)
                && series.get(**at as usize).is_some_and(|&m| m)
        })
        .map(|(row, _)| row as u32);
    let profiles = scan.what.filter().map_or(&[][..], |f| &f.profiles);
    if profiles.is_empty() {
        return picked.collect();
    }
    let wanted: BTreeSet<ProfileId> = profiles.iter().copied().collect();
    picked
        .filter(|&row| wanted.contains(&view.profile_id(row as usize)))
        .collect()
}

/// For each profile type, whether the matchers on labels that follow from it pass.
pub fn matching_kinds(matchers: &Matchers, kinds: &[ProfileType]) -> Vec<bool> {
    let (of_type, _) = matchers.split();
    kinds
        .iter()
        .map(|kind| {
            of_type
                .iter()
                .all(|m| m.passes(&type_label(kind, &m.name).unwrap_or_default()))
        })
        .collect()
}

/// Whether the matchers on the service name pass.
pub fn service_matches(matchers: &Matchers, service: &str) -> bool {
    matchers
        .iter()
        .filter(|m| is_service(&m.name))
        .all(|m| m.passes(service))
}

fn matching_series<'a>(scan: &'a Scan, series: &'a [Labels]) -> Vec<bool> {
    let (_, stored) = scan.matchers.split();
    let mut stored: Vec<Remembering<'_>> = stored.iter().map(Remembering::new).collect();
    let stripped = scan.what.excludes_stripped();
    series
        .iter()
        .map(|labels| {
            let pass = stored.iter_mut().all(|matcher| matcher.passes(labels));
            pass && !(stripped && labels.get(names::SAMPLED) == Some("true"))
        })
        .collect()
}

/// A matcher that knows what it said of the last value. Series are sorted and share their texts,
/// so that the next one has mostly the same.
struct Remembering<'a> {
    matcher: &'a Matcher,
    name: &'a str,
    last: Option<(&'a str, bool)>,
}

impl<'a> Remembering<'a> {
    fn new(matcher: &'a Matcher) -> Self {
        let name = match &*matcher.name {
            names::SERVICE_NAME_PRIVATE => names::SERVICE_NAME,
            name => name,
        };
        Self {
            matcher,
            name,
            last: None,
        }
    }

    fn passes(&mut self, labels: &'a Labels) -> bool {
        let value = labels.get(self.name).unwrap_or_default();
        match self.last {
            Some((last, passed)) if std::ptr::eq(last, value) => passed,
            _ => {
                let passed = self.matcher.passes(value);
                self.last = Some((value, passed));
                passed
            }
        }
    }
}

fn is_service(name: &str) -> bool {
    name == names::SERVICE_NAME || name == names::SERVICE_NAME_PRIVATE
}

/// The value of a label that follows from the type; `__name__` is its first part.
fn type_label<'a>(kind: &'a ProfileType, name: &str) -> Option<Cow<'a, str>> {
    match name {
        names::NAME => Some(Cow::Borrowed(&kind.name)),
        names::TYPE => Some(Cow::Borrowed(&kind.sample_type)),
        names::UNIT => Some(Cow::Borrowed(&kind.sample_unit)),
        name => kind.derived_label(name).map(Cow::Owned),
    }
}

/// The value of a label of the profiles of one series and type, as queries see it.
pub fn label_value<'a>(
    kind: &'a ProfileType,
    series: &'a Labels,
    name: &str,
) -> Option<Cow<'a, str>> {
    if name == names::SERVICE_NAME_PRIVATE {
        return Some(Cow::Borrowed(series.service_name()));
    }
    if is_of_type(name) {
        return type_label(kind, name);
    }
    series.get(name).map(Cow::Borrowed)
}

/// As [`label_value`], sharing what is stored.
fn shared_value(kind: &ProfileType, series: &Labels, name: &str) -> Option<Arc<str>> {
    let stored = match name {
        names::SERVICE_NAME_PRIVATE => names::SERVICE_NAME,
        name => name,
    };
    if !is_of_type(name)
        && let Some(label) = series.iter().find(|label| &*label.name == stored)
    {
        return Some(Arc::clone(&label.value));
    }
    label_value(kind, series, name).map(|value| Arc::from(&*value))
}

/// The names of the landing page's question, which ask for `pyroscope_app` as well.
const LANDING: [&str; 5] = [
    names::NAME,
    names::PROFILE_TYPE,
    names::TYPE,
    "pyroscope_app",
    names::SERVICE_NAME,
];

/// What a series scan projects to.
#[derive(Debug, Clone)]
pub struct Projection {
    names: Vec<Arc<str>>,
    /// Sets without a service are left out.
    landing: bool,
}

impl Projection {
    /// Of a scan for label sets; `None` for other scans.
    pub fn of(scan: &Scan) -> Option<Self> {
        let What::Series(asked) = &scan.what else {
            return None;
        };
        let asks = |names: &[&str]| {
            asked.len() == names.len()
                && names.iter().all(|name| asked.iter().any(|a| &**a == *name))
        };
        let five = asks(&LANDING);
        let two = asks(&[names::PROFILE_TYPE, names::SERVICE_NAME]);
        let landing = scan.matchers.is_empty() && (five || two);
        let names = asked
            .iter()
            .filter(|name| !(landing && &***name == "pyroscope_app"))
            .cloned()
            .collect();
        Some(Self { names, landing })
    }

    /// Whether it is the question of a landing page, which must be cheap: everybody who asks it
    /// takes sets that lie a little outside of the range.
    pub fn is_landing(&self) -> bool {
        self.landing
    }

    /// The names; none means all.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The projected labels of the profiles of one series and type, unless they are left out.
    pub fn apply(&self, kind: &ProfileType, series: &Labels) -> Option<Labels> {
        if self.landing && series.service_name().is_empty() {
            return None;
        }
        if self.names.is_empty() {
            return Some(kind.labels_with_derived(series));
        }
        let labels = self.names.iter().filter_map(|name| {
            Some(Label {
                name: Arc::clone(name),
                value: shared_value(kind, series, name)?,
            })
        });
        Some(labels.collect())
    }
}

/// The values that name the group of a profile, in the order asked for.
pub fn group_key(kind: &ProfileType, series: &Labels, group_by: &[Arc<str>]) -> Vec<Label> {
    group_by
        .iter()
        .filter_map(|name| {
            Some(Label {
                name: Arc::clone(name),
                value: Arc::from(&*label_value(kind, series, name)?),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use scoria_block::ProfileRow;
    use scoria_model::TimeRange;

    use super::*;
    use crate::scan::StackFilter;

    fn scan(selector: &str, what: What) -> Scan {
        Scan {
            matchers: Matchers::parse(selector).unwrap(),
            range: TimeRange {
                start_ms: 10,
                end_ms: 20,
            },
            what,
        }
    }

    fn tree() -> What {
        What::Tree(StackFilter::default())
    }

    struct Data {
        series: Vec<Labels>,
        kinds: Vec<ProfileType>,
        rows: ProfileRows,
    }

    fn data() -> Data {
        let series = vec![
            Labels::from_pairs([("service_name", "api"), ("pod", "a"), ("__type__", "lie")]),
            Labels::from_pairs([("service_name", "api"), ("__sampled__", "true")]),
        ];
        let kinds = [
            "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
            "memory:live:count::",
        ]
        .map(|id| id.parse().unwrap())
        .to_vec();
        let mut rows = ProfileRows::default();
        for (kind, series, ms) in [(0, 0, 9), (0, 0, 10), (1, 0, 20), (0, 1, 15), (0, 0, 21)] {
            rows.push(ProfileRow {
                kind,
                series,
                time_ns: ms * 1_000_000,
                seq: ms as u64,
                ..ProfileRow::default()
            });
        }
        Data {
            series,
            kinds,
            rows,
        }
    }

    fn picked(scan: &Scan) -> Vec<u32> {
        let data = data();
        let view = DatasetView {
            series: &data.series,
            kinds: &data.kinds,
            rows: &data.rows,
            streams: &[7],
        };
        rows(scan, &view)
    }

    #[test]
    fn by_time_type_series_and_stripping() {
        assert_eq!(picked(&scan("{}", tree())), [1, 2]);
        assert_eq!(picked(&scan("{}", What::LabelNames)), [1, 2, 3]);
        assert_eq!(picked(&scan(r#"{__type__="cpu"}"#, tree())), [1]);
        assert_eq!(picked(&scan(r#"{__type__="lie"}"#, tree())), [0u32; 0]);
        assert_eq!(picked(&scan(r#"{__period_type__=""}"#, tree())), [2]);
        assert_eq!(picked(&scan("memory", tree())), [2]);
        assert_eq!(picked(&scan(r#"{pod=""}"#, What::LabelNames)), [3]);
        assert_eq!(
            picked(&scan(r#"{__service_name__="api",pod="a"}"#, tree())),
            [1, 2]
        );
        assert_eq!(picked(&scan(r#"{service_name="x"}"#, tree())), [0u32; 0]);
    }

    #[test]
    fn by_profile_id() {
        let wanted = ProfileId::new(7, Seq(20), 0);
        let filter = StackFilter {
            profiles: vec![wanted],
            ..StackFilter::default()
        };
        assert_eq!(picked(&scan("{}", What::Tree(filter))), [2]);
    }

    #[test]
    fn the_landing_question_gets_what_blocks_know_without_series() {
        let names = LANDING.map(Arc::from).to_vec();
        let scan = scan("{}", What::Series(names));
        let projection = Projection::of(&scan).unwrap();
        let data = data();
        let set = projection.apply(&data.kinds[0], &data.series[0]).unwrap();
        assert_eq!(set.len(), 4);
        assert_eq!(set.get("__type__"), Some("cpu"));
        assert_eq!(projection.apply(&data.kinds[0], &Labels::default()), None);
    }
}
