//! Requests: what clients ask, as they ask it, and the checks that turn it into a [`Scan`].
//!
//! # Invariants
//! - The checks of the time range come first and in the order of the contract, so that a range
//!   beyond the lookback answers empty whatever else is wrong.
//! - Every error is the client's and names the value, the limit and what is allowed.
//!
//! # What it must not know
//! The clock (`now` is an argument), transports, and how a scan is carried out.

mod checks;
mod error;
mod heatmap;

use std::str::FromStr;
use std::sync::Arc;

use scoria_model::labels::names;
use scoria_model::{Limits, ProfileId, ProfileType, TimeRange, Timestamp};

pub use checks::{check_range, max_nodes, strictest};
pub use error::RequestError;
pub use heatmap::{Cells, SelectHeatmap};

use crate::scan::{Buckets, Exemplars, Scan, StackFilter, Stripped, TimeSeries, What};
use crate::selector::{Matcher, Matchers};

/// Most entries of each list in one request: matchers, names, ids, call-site functions.
pub const LIST_MAX: usize = 10_000;

/// An hour, the range of [`ProfileTypes`] without one.
const DEFAULT_RANGE_MS: i64 = 3_600_000;

/// Which profile types there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProfileTypes {
    pub start_ms: i64,
    pub end_ms: i64,
}

/// Which label names series have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelNames {
    /// Selectors that must all match.
    pub matchers: Vec<String>,
    pub start_ms: i64,
    pub end_ms: i64,
    pub names: NameForm,
}

/// Which values a label has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelValues {
    pub name: String,
    /// Selectors that must all match.
    pub matchers: Vec<String>,
    pub start_ms: i64,
    pub end_ms: i64,
}

/// Which label sets there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Series {
    /// Selectors that must all match.
    pub matchers: Vec<String>,
    /// Names to project to; none means all.
    pub label_names: Vec<String>,
    pub start_ms: i64,
    pub end_ms: i64,
    pub names: NameForm,
}

/// Which label names a client can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameForm {
    /// Only `[a-zA-Z_][a-zA-Z0-9_]*`; others are left out of the answer.
    #[default]
    Plain,
    /// Any, as a client says with `allow-utf8-labelnames=true`.
    Any,
}

/// The form of a merged answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProfileFormat {
    #[default]
    Flamegraph,
    Tree,
    Dot,
    Pprof,
    /// A table of functions, of which `max_nodes` are shown.
    Functions,
}

/// What is left of a pprof for profile-guided optimisation of Go programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GoPgo {
    /// Leaf locations to keep of each stacktrace; 0 keeps all.
    pub keep_locations: u32,
    pub callees: Callees,
}

/// Whether call sites within one leaf function are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Callees {
    #[default]
    Apart,
    Aggregated,
}

/// Totals of the stacktraces of one profile type. [`SelectMergeStacktraces::format`] chooses how
/// they are answered; SelectMergeProfile and SelectMergeSpanProfile are this request too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SelectMergeStacktraces {
    pub profile_type: String,
    pub label_selector: String,
    pub start_ms: i64,
    pub end_ms: i64,
    pub max_nodes: Option<i64>,
    pub format: ProfileFormat,
    /// Function names from the root.
    pub call_site: Vec<String>,
    pub go_pgo: Option<GoPgo>,
    /// UUIDs.
    pub profile_ids: Vec<String>,
    /// 32 hexadecimal digits each.
    pub trace_ids: Vec<String>,
    /// 16 hexadecimal digits each.
    pub span_ids: Vec<String>,
}

/// Totals of one profile type over time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SelectSeries {
    pub profile_type: String,
    pub label_selector: String,
    pub start_ms: i64,
    pub end_ms: i64,
    pub group_by: Vec<String>,
    /// Seconds.
    pub step_s: f64,
    pub aggregation: Aggregation,
    /// Function names from the root.
    pub call_site: Vec<String>,
    /// Series with the largest sums; none, zero or less means all.
    pub limit: Option<i64>,
    pub exemplars: Exemplars,
}

/// How the profiles of a bucket become its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aggregation {
    #[default]
    Sum,
    Average,
}

/// Two sets of stacktraces side by side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    pub left: Option<SelectMergeStacktraces>,
    pub right: Option<SelectMergeStacktraces>,
}

/// The functions of two sets of stacktraces of one profile type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FunctionsDiff {
    pub sides: Diff,
    /// Functions to show; none, zero or less means all.
    pub max_rows: Option<i64>,
}

/// Whether there is data at all, and from when to when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GetProfileStats;

/// What a question would cost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnalyzeQuery {
    /// A selector, which may begin with a profile type; an empty text selects everything.
    pub query: String,
    pub start_ms: i64,
    pub end_ms: i64,
}

/// A checked [`SelectMergeStacktraces`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stacktraces {
    /// Asks for a tree, or for a profile where the format needs locations.
    pub scan: Scan,
    pub profile_type: ProfileType,
    /// Nodes that a tree is cut to.
    pub max_nodes: usize,
    /// Nodes that the request names itself; 0 if it names none.
    pub max_nodes_asked: usize,
    pub format: ProfileFormat,
    pub go_pgo: Option<GoPgo>,
    /// End of the range as it was asked for.
    pub end_ms: i64,
}

/// A checked [`SelectSeries`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Points {
    pub scan: Scan,
    pub aggregation: Aggregation,
    /// Most series in the answer.
    pub limit: Option<usize>,
}

/// A checked [`Diff`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    /// `None` when the side's range is beyond the lookback.
    pub left: Option<Scan>,
    pub right: Option<Scan>,
    /// Nodes, or rows, that the answer is cut to; 0 for all.
    pub max_nodes: usize,
}

impl ProfileTypes {
    /// The scan to run; `None` if the range is beyond the lookback and the answer empty.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn check(&self, limits: &Limits, now: Timestamp) -> Result<Option<Scan>, RequestError> {
        let (mut start_ms, mut end_ms) = (self.start_ms, self.end_ms);
        if start_ms == 0 && end_ms == 0 {
            end_ms = now.millis();
            start_ms = end_ms - DEFAULT_RANGE_MS;
        }
        let range = check_range(start_ms, end_ms, limits, now)?;
        Ok(range.map(|range| Scan {
            matchers: Matchers::default(),
            range,
            what: What::LabelValues(Arc::from(names::PROFILE_TYPE)),
        }))
    }
}

impl LabelNames {
    /// As [`ProfileTypes::check`].
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn check(&self, limits: &Limits, now: Timestamp) -> Result<Option<Scan>, RequestError> {
        let Some(range) = check_range(self.start_ms, self.end_ms, limits, now)? else {
            return Ok(None);
        };
        Ok(Some(Scan {
            matchers: Matchers::parse_all(checks::list("matchers", &self.matchers)?)?,
            range,
            what: What::LabelNames,
        }))
    }
}

impl LabelValues {
    /// As [`ProfileTypes::check`].
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn check(&self, limits: &Limits, now: Timestamp) -> Result<Option<Scan>, RequestError> {
        let Some(range) = check_range(self.start_ms, self.end_ms, limits, now)? else {
            return Ok(None);
        };
        if self.name.is_empty() {
            return Err(RequestError::MissingLabelName);
        }
        Ok(Some(Scan {
            matchers: Matchers::parse_all(checks::list("matchers", &self.matchers)?)?,
            range,
            what: What::LabelValues(Arc::from(self.name.as_str())),
        }))
    }
}

impl Series {
    /// As [`ProfileTypes::check`].
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn check(&self, limits: &Limits, now: Timestamp) -> Result<Option<Scan>, RequestError> {
        let Some(range) = check_range(self.start_ms, self.end_ms, limits, now)? else {
            return Ok(None);
        };
        // A blank set among the matchers says as little as `{}` does.
        let said: Vec<&str> = self
            .matchers
            .iter()
            .map(String::as_str)
            .filter(|text| !text.trim().is_empty() || self.matchers.len() == 1)
            .collect();
        let matchers = Matchers::parse_all(checks::list("matchers", &said)?)?;
        let names = checks::list("label_names", &self.label_names)?;
        Ok(Some(Scan {
            matchers,
            range,
            what: What::Series(checks::shared(names)),
        }))
    }
}

impl SelectMergeStacktraces {
    /// As [`ProfileTypes::check`].
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn check(
        &self,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Option<Stacktraces>, RequestError> {
        let Some(range) = check_range(self.start_ms, self.end_ms, limits, now)? else {
            return Ok(None);
        };
        let (max_nodes, max_nodes_asked) = self.nodes(limits)?;
        let (matchers, profile_type) = typed(&self.label_selector, &self.profile_type)?;
        let filter = self.filter()?;
        let what = match self.format {
            ProfileFormat::Pprof => What::Profile(filter),
            _ => What::Tree(filter),
        };
        Ok(Some(Stacktraces {
            scan: Scan {
                matchers,
                range,
                what,
            },
            profile_type,
            max_nodes,
            max_nodes_asked,
            format: self.format,
            go_pgo: self.go_pgo,
            end_ms: self.end_ms,
        }))
    }

    /// The nodes to cut to (0 = no cut) and those that the request names.
    fn nodes(&self, limits: &Limits) -> Result<(usize, usize), RequestError> {
        let limited = match self.format {
            ProfileFormat::Pprof => limits.max_flamegraph_nodes_on_select_merge_profile,
            ProfileFormat::Functions => false,
            ProfileFormat::Flamegraph | ProfileFormat::Tree | ProfileFormat::Dot => true,
        };
        if !limited {
            // Not a limit here, but a wish all the same.
            let asked = self.max_nodes.and_then(|n| usize::try_from(n).ok());
            return Ok((asked.unwrap_or_default(), asked.unwrap_or_default()));
        }
        let effective = max_nodes(self.max_nodes, limits)?;
        let asked = self.max_nodes.and_then(|n| usize::try_from(n).ok());
        Ok((effective, asked.unwrap_or_default()))
    }

    fn filter(&self) -> Result<StackFilter, RequestError> {
        if !self.span_ids.is_empty() && !self.trace_ids.is_empty() {
            return Err(RequestError::SpansAndTraces);
        }
        let spans = checks::list("span_selector", &self.span_ids)?;
        let traces = checks::list("trace_id_selector", &self.trace_ids)?;
        let profiles = checks::list("profile_id_selector", &self.profile_ids)?;
        Ok(StackFilter {
            call_site: checks::shared(checks::list("call_site", &self.call_site)?),
            spans: spans
                .iter()
                .map(|text| checks::span_id(text))
                .collect::<Result<_, _>>()?,
            traces: traces
                .iter()
                .map(|text| checks::trace_id(text))
                .collect::<Result<_, _>>()?,
            profiles: profiles
                .iter()
                .map(|text| ProfileId::from_str(text))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl SelectSeries {
    /// As [`ProfileTypes::check`].
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn check(&self, limits: &Limits, now: Timestamp) -> Result<Option<Points>, RequestError> {
        let Some(range) = check_range(self.start_ms, self.end_ms, limits, now)? else {
            return Ok(None);
        };
        let step_ms = checks::step_ms(self.step_s)?;
        let (matchers, _) = typed(&self.label_selector, &self.profile_type)?;
        let buckets = Buckets::new(range, step_ms);
        let call_site = checks::shared(checks::list("call_site", &self.call_site)?);
        Ok(Some(Points {
            scan: Scan {
                matchers,
                range: buckets.data_range(),
                what: What::TimeSeries(TimeSeries {
                    buckets,
                    group_by: checks::shared(checks::list("group_by", &self.group_by)?),
                    exemplars: self.exemplars,
                    filter: StackFilter {
                        call_site,
                        ..StackFilter::default()
                    },
                    stripped: match limits.include_stripped_profiles {
                        true => Stripped::Counted,
                        false => Stripped::LeftOut,
                    },
                }),
            },
            aggregation: self.aggregation,
            limit: self
                .limit
                .and_then(|limit| usize::try_from(limit).ok())
                .filter(|&limit| limit > 0),
        }))
    }
}

impl Diff {
    /// Both sides' scans. A missing side is checked as an empty request, which is an error.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn check(&self, limits: &Limits, now: Timestamp) -> Result<Sides, RequestError> {
        let nothing = SelectMergeStacktraces::default();
        let left = self.left.as_ref().unwrap_or(&nothing);
        let right = self.right.as_ref().unwrap_or(&nothing);
        let asked = left.max_nodes.max(right.max_nodes);
        let side = |request: &SelectMergeStacktraces| {
            let request = SelectMergeStacktraces {
                format: ProfileFormat::Tree,
                max_nodes: asked,
                ..request.clone()
            };
            Ok::<_, RequestError>(request.check(limits, now)?.map(|plan| plan.scan))
        };
        let (left, right) = (side(left)?, side(right)?);
        Ok(Sides {
            left,
            right,
            max_nodes: max_nodes(asked, limits)?,
        })
    }
}

impl FunctionsDiff {
    /// As [`Diff::check`]; both sides are of one profile type.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn check(&self, limits: &Limits, now: Timestamp) -> Result<Sides, RequestError> {
        let sides = self.sides.check(limits, now)?;
        let kind = |side: &Option<SelectMergeStacktraces>| {
            side.as_ref().map(|side| side.profile_type.clone())
        };
        let (left, right) = (kind(&self.sides.left), kind(&self.sides.right));
        if left != right {
            return Err(RequestError::TwoTypes {
                left: left.unwrap_or_default(),
                right: right.unwrap_or_default(),
            });
        }
        let max_rows = self.max_rows.and_then(|n| usize::try_from(n).ok());
        Ok(Sides {
            max_nodes: max_rows.unwrap_or_default(),
            ..sides
        })
    }
}

impl AnalyzeQuery {
    /// As [`ProfileTypes::check`].
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn check(&self, limits: &Limits, now: Timestamp) -> Result<Option<Scan>, RequestError> {
        let Some(range) = check_range(self.start_ms, self.end_ms, limits, now)? else {
            return Ok(None);
        };
        let matchers = match self.query.trim() {
            "" => Matchers::default(),
            query => Matchers::parse(query)?,
        };
        Ok(Some(Scan {
            matchers,
            range,
            what: What::Tree(StackFilter::default()),
        }))
    }
}

impl GetProfileStats {
    /// The scan to run.
    pub fn scan(&self) -> Scan {
        Scan {
            matchers: Matchers::default(),
            range: TimeRange::ALL,
            what: What::Stats,
        }
    }
}

/// The matchers of a selector and a profile type, both of which must be given.
fn typed(selector: &str, profile_type: &str) -> Result<(Matchers, ProfileType), RequestError> {
    let kind = ProfileType::from_str(profile_type)?;
    let mut matchers = Matchers::parse(selector)?;
    matchers.push(Matcher::equal(names::PROFILE_TYPE, &kind.to_string()));
    Ok((matchers, kind))
}

#[cfg(test)]
mod tests;
