//! The metric of requests that existing dashboards read.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds.
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: &'static str,
    status_code: String,
    ws: &'static str,
}

/// How long requests took, by route.
#[derive(Debug, Clone)]
pub struct Requests(Family<RequestLabels, Histogram, fn() -> Histogram>);

impl Requests {
    pub fn register(registry: &mut Registry) -> Self {
        let durations = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> _);
        registry.register(
            "pyroscope_request_duration_seconds",
            "Time from the head of a request to the head of its answer",
            Family::clone(&durations),
        );
        Self(durations)
    }

    pub(super) fn observe(
        &self,
        method: &'static str,
        route: &'static str,
        status: StatusCode,
        took: Duration,
    ) {
        let labels = RequestLabels {
            method,
            route,
            status_code: status.as_str().to_owned(),
            ws: "false",
        };
        self.0.get_or_create(&labels).observe(took.as_secs_f64());
    }
}
