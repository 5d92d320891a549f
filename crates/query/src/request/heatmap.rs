//! The request for a heatmap.

use scoria_model::{Limits, TimeRange, Timestamp};

use super::{RequestError, check_range, checks, typed};
use crate::scan::{Exemplars, Heatmap, HeatmapOf, Scan, What};

/// How single values of one profile type are spread over time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SelectHeatmap {
    pub profile_type: String,
    pub label_selector: String,
    pub start_ms: i64,
    pub end_ms: i64,
    /// Seconds.
    pub step_s: f64,
    pub group_by: Vec<String>,
    /// What has a value; `None` if the request does not say, which is an error.
    pub of: Option<HeatmapOf>,
    pub exemplars: Exemplars,
    /// Series with the most values; none or zero means all.
    pub limit: Option<i64>,
}

/// A checked [`SelectHeatmap`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cells {
    pub scan: Scan,
    /// Right edge of the first column.
    pub first_ms: i64,
    /// Width of a column, at least 1.
    pub step_ms: i64,
    /// Most series in the answer.
    pub limit: Option<usize>,
    pub exemplars: Exemplars,
}

impl SelectHeatmap {
    /// The scan and how to show its answer; `None` if the range is beyond the lookback.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn check(&self, limits: &Limits, now: Timestamp) -> Result<Option<Cells>, RequestError> {
        let step_ms = checks::step_ms(self.step_s)?;
        if let Some(limit) = self.limit.filter(|&limit| limit < 0) {
            return Err(RequestError::NegativeLimit { limit });
        }
        let (start_ms, end_ms) = (self.start_ms, self.end_ms);
        if start_ms >= end_ms && end_ms != 0 {
            return Err(RequestError::EmptyRange { start_ms, end_ms });
        }
        let Some(range) = check_range(start_ms, end_ms, limits, now)? else {
            return Ok(None);
        };
        let of = self.of.ok_or(RequestError::HeatmapKind)?;
        match (of, self.exemplars) {
            (_, Exemplars::None)
            | (HeatmapOf::Profiles, Exemplars::Individual)
            | (HeatmapOf::Spans, Exemplars::Span) => {}
            _ => return Err(RequestError::HeatmapExemplars),
        }
        let (matchers, _) = typed(&self.label_selector, &self.profile_type)?;
        let TimeRange { start_ms, .. } = range;
        Ok(Some(Cells {
            scan: Scan {
                matchers,
                range,
                what: What::Heatmap(Heatmap {
                    group_by: checks::shared(checks::list("group_by", &self.group_by)?),
                    of,
                }),
            },
            first_ms: start_ms,
            step_ms,
            limit: self
                .limit
                .and_then(|limit| usize::try_from(limit).ok())
                .filter(|&limit| limit > 0),
            exemplars: self.exemplars,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 100 * 86_400_000;

    fn ask() -> SelectHeatmap {
        SelectHeatmap {
            profile_type: "process_cpu:cpu:nanoseconds:cpu:nanoseconds".to_owned(),
            label_selector: "{}".to_owned(),
            start_ms: NOW_MS - 1000,
            end_ms: NOW_MS,
            step_s: 0.1,
            of: Some(HeatmapOf::Profiles),
            ..SelectHeatmap::default()
        }
    }

    fn check(request: &SelectHeatmap) -> Result<Option<Cells>, RequestError> {
        request.check(&Limits::default(), Timestamp::from_millis(NOW_MS))
    }

    #[test]
    fn a_good_request() {
        let cells = check(&ask()).unwrap().unwrap();
        assert_eq!((cells.first_ms, cells.step_ms), (NOW_MS - 1000, 100));
        assert_eq!(cells.limit, None);
        let spans = SelectHeatmap {
            of: Some(HeatmapOf::Spans),
            exemplars: Exemplars::Span,
            limit: Some(3),
            ..ask()
        };
        assert_eq!(check(&spans).unwrap().unwrap().limit, Some(3));
        let old = SelectHeatmap {
            start_ms: 1,
            end_ms: 2,
            of: None,
            ..ask()
        };
        assert_eq!(check(&old), Ok(None));
    }

    #[test]
    fn what_is_refused() {
        let refused = |change: &dyn Fn(&mut SelectHeatmap)| {
            let mut request = ask();
            change(&mut request);
            check(&request).is_err()
        };
        assert!(refused(&|r| r.step_s = 0.0));
        assert!(refused(&|r| r.step_s = f64::NAN));
        assert!(refused(&|r| r.limit = Some(-1)));
        assert!(refused(&|r| r.start_ms = r.end_ms));
        assert!(refused(&|r| r.end_ms = 0));
        assert!(refused(&|r| r.of = None));
        assert!(refused(&|r| r.exemplars = Exemplars::Span));
        assert!(refused(&|r| r.label_selector = String::new()));
        assert!(refused(&|r| r.profile_type = "cpu".to_owned()));
    }
}
