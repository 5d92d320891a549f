//! Why a question about spans found nothing. A trace viewer asks for every span it shows, and most
//! have no samples: the reader wants to know whether something is set up wrongly.

use scoria_query::exec::SpanStats;
use scoria_query::merge::Partial;
use scoria_query::request::{SelectMergeStacktraces, Stacktraces};

/// What trace viewers add to a span on either side, together.
const MARGIN_MS: i64 = 60_000;

/// The reason, if spans or traces were asked for and nothing was found.
pub(crate) fn why_empty(
    request: &SelectMergeStacktraces,
    plan: &Stacktraces,
    (partial, seen): (&Partial, SpanStats),
) -> Option<String> {
    if request.span_ids.is_empty() && request.trace_ids.is_empty() {
        return None;
    }
    let empty = match partial {
        Partial::Tree(tree) => tree.is_empty(),
        Partial::Profile(profile) => profile.own().iter().all(|&own| own == 0),
        _ => false,
    };
    empty.then(|| reason(request, &plan.profile_type.period_unit, seen))
}

fn reason(request: &SelectMergeStacktraces, period_unit: &str, seen: SpanStats) -> String {
    let asked = if request.span_ids.is_empty() {
        "trace"
    } else {
        "span"
    };
    if seen.profiles == 0 {
        return format!(
            "no profile of type {} matches {} in this range",
            request.profile_type, request.label_selector
        );
    }
    let profiles = seen.profiles;
    if seen.samples == 0 {
        return format!(
            "none of the samples of {profiles} profiles has a span id: this service's profiler is not connected to its tracer, or the spans were not sampled"
        );
    }
    let mut text = format!(
        "{} samples of {profiles} profiles have a span id, but none is of this {asked}",
        seen.samples
    );
    if period_unit == "nanoseconds" && seen.period > 0 {
        let every_ms = seen.period as f64 / 1e6;
        let length_ms = request.end_ms.saturating_sub(request.start_ms);
        let inside_ms = length_ms.saturating_sub(MARGIN_MS).max(0);
        text.push_str(&format!(
            "; a sample is taken every {every_ms} ms of CPU time, and a {asked} that used less has likely none"
        ));
        if inside_ms > 0 {
            let samples = inside_ms as f64 / every_ms;
            text.push_str(&format!(
                " (one of {inside_ms} ms that keeps a core busy is expected to have {samples:.1})"
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use scoria_model::{Limits, Timestamp};
    use scoria_query::merge::TreePartial;

    use super::*;

    fn told(spans: &[&str], seen: SpanStats, tree: TreePartial) -> Option<String> {
        let request = SelectMergeStacktraces {
            profile_type: "process_cpu:cpu:nanoseconds:cpu:nanoseconds".to_owned(),
            label_selector: "{}".to_owned(),
            start_ms: 1_000_000,
            end_ms: 1_060_025,
            span_ids: spans.iter().map(|&id| id.to_owned()).collect(),
            ..SelectMergeStacktraces::default()
        };
        let now = Timestamp::from_millis(2_000_000);
        let plan = request.check(&Limits::default(), now).unwrap().unwrap();
        why_empty(&request, &plan, (&Partial::Tree(tree), seen))
    }

    fn seen(profiles: u64, samples: u64) -> SpanStats {
        SpanStats {
            profiles,
            samples,
            period: 10_000_000,
        }
    }

    #[test]
    fn each_cause_has_its_words() {
        let span = ["00f067aa0ba902b7"];
        let none = TreePartial::default;
        let text = |seen| told(&span, seen, none()).unwrap_or_default();
        assert!(text(seen(0, 0)).contains("no profile of type process_cpu"));
        assert!(text(seen(3, 0)).contains("none of the samples of 3 profiles"));
        let short = text(seen(3, 9));
        assert!(short.contains("9 samples of 3 profiles"), "{short}");
        assert!(short.contains("every 10 ms"), "{short}");
        assert!(short.contains("of 25 ms"), "{short}");
        assert!(short.contains("expected to have 2.5"), "{short}");
    }

    #[test]
    fn answers_and_other_questions_need_no_reason() {
        let some = TreePartial::from_folded([("main", 1)]);
        assert_eq!(told(&["00f067aa0ba902b7"], seen(1, 1), some), None);
        assert_eq!(told(&[], seen(1, 0), TreePartial::default()), None);
    }
}
