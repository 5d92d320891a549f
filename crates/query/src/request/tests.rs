use super::*;

const KIND: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const DAY_MS: i64 = 86_400_000;
const NOW_MS: i64 = 100 * DAY_MS;

fn now() -> Timestamp {
    Timestamp::from_millis(NOW_MS)
}

fn limits() -> Limits {
    Limits {
        max_query_lookback_ms: 7 * DAY_MS as u64,
        max_query_length_ms: DAY_MS as u64,
        ..Limits::default()
    }
}

fn range(start_ms: i64, end_ms: i64) -> Result<Option<TimeRange>, RequestError> {
    check_range(start_ms, end_ms, &limits(), now())
}

#[test]
fn ranges_are_checked_in_order() {
    assert!(matches!(
        range(0, NOW_MS),
        Err(RequestError::MissingRange { .. })
    ));
    assert!(matches!(
        range(NOW_MS, 0),
        Err(RequestError::MissingRange { .. })
    ));
    assert!(matches!(
        range(5, 4),
        Err(RequestError::StartAfterEnd { .. })
    ));
    assert_eq!(range(1000, 4000), Ok(None));
    assert_eq!(range(-2000, -1000), Ok(None));
    let oldest = NOW_MS - 7 * DAY_MS;
    assert_eq!(
        range(1000, oldest + 5),
        Ok(Some(TimeRange {
            start_ms: oldest,
            end_ms: oldest + 5
        }))
    );
    assert!(range(NOW_MS, NOW_MS).unwrap().is_some());
    let error = range(NOW_MS - DAY_MS - 1, NOW_MS).unwrap_err().to_string();
    assert!(error.contains("max_query_length"), "{error}");
    assert!(
        error.contains("1d1ms") && error.contains("are 1d;"),
        "{error}"
    );
    let none = Limits {
        max_query_lookback_ms: 0,
        max_query_length_ms: 0,
        ..limits()
    };
    assert!(check_range(1, NOW_MS, &none, now()).unwrap().is_some());
    assert!(
        check_range(i64::MIN, i64::MAX, &none, now())
            .unwrap()
            .is_some()
    );
}

#[test]
fn nodes_follow_the_limits() {
    let limits = limits();
    assert_eq!(max_nodes(None, &limits), Ok(8192));
    assert_eq!(max_nodes(Some(0), &limits), Ok(8192));
    assert_eq!(max_nodes(Some(16_384), &limits), Ok(16_384));
    assert!(max_nodes(Some(1_048_577), &limits).is_err());
    assert!(max_nodes(Some(-1), &limits).is_err());
    let open = Limits {
        max_flamegraph_nodes_max: 0,
        ..limits
    };
    assert_eq!(max_nodes(Some(-1), &open), Ok(8192));
    assert_eq!(max_nodes(Some(9_999_999), &open), Ok(9_999_999));
}

#[test]
fn profile_types_without_a_range_take_the_last_hour() {
    let scan = ProfileTypes::default().check(&limits(), now()).unwrap();
    assert_eq!(scan.unwrap().range.start_ms, NOW_MS - DEFAULT_RANGE_MS);
    let half = ProfileTypes {
        start_ms: 0,
        end_ms: 1,
    };
    assert!(half.check(&limits(), now()).is_err());
    let health = ProfileTypes {
        start_ms: 1000,
        end_ms: 4000,
    };
    assert_eq!(health.check(&limits(), now()), Ok(None));
}

fn stacktraces() -> SelectMergeStacktraces {
    SelectMergeStacktraces {
        profile_type: KIND.to_owned(),
        label_selector: "{}".to_owned(),
        start_ms: NOW_MS - 1000,
        end_ms: NOW_MS,
        ..SelectMergeStacktraces::default()
    }
}

fn refused(change: impl Fn(&mut SelectMergeStacktraces)) -> RequestError {
    let mut request = stacktraces();
    change(&mut request);
    request.check(&limits(), now()).unwrap_err()
}

#[test]
fn stacktraces_want_a_type_a_selector_and_good_ids() {
    let plan = stacktraces().check(&limits(), now()).unwrap().unwrap();
    assert_eq!(plan.scan.matchers.equal_to("__profile_type__"), Some(KIND));
    assert_eq!((plan.max_nodes, plan.max_nodes_asked), (8192, 0));
    refused(|r| r.profile_type.clear());
    refused(|r| r.profile_type = "cpu".to_owned());
    refused(|r| r.label_selector.clear());
    refused(|r| r.label_selector = "{a}".to_owned());
    refused(|r| r.start_ms = 0);
    refused(|r| r.start_ms = r.end_ms + 1);
    refused(|r| r.span_ids = vec!["123".to_owned()]);
    refused(|r| r.span_ids = vec!["+00000000000000a".to_owned()]);
    refused(|r| r.trace_ids = vec!["g".repeat(32)]);
    refused(|r| r.profile_ids = vec!["nope".to_owned()]);
    refused(|r| r.max_nodes = Some(-4));
    let both = refused(|r| {
        r.span_ids = vec!["00000bac2a5ab0c7".to_owned()];
        r.trace_ids = vec!["0".repeat(32)];
    });
    assert_eq!(both, RequestError::SpansAndTraces);
    let mut old = stacktraces();
    (old.start_ms, old.end_ms) = (1, 2);
    old.profile_type.clear();
    assert_eq!(old.check(&limits(), now()), Ok(None));
}

#[test]
fn pprof_answers_are_not_held_to_the_node_limit_unless_the_tenant_says_so() {
    let mut request = stacktraces();
    request.format = ProfileFormat::Pprof;
    request.max_nodes = Some(9_999_999);
    let plan = request.check(&limits(), now()).unwrap().unwrap();
    assert_eq!(plan.max_nodes, 9_999_999);
    assert!(matches!(plan.scan.what, What::Profile(_)));
    let strict = Limits {
        max_flamegraph_nodes_on_select_merge_profile: true,
        ..limits()
    };
    assert!(request.check(&strict, now()).is_err());
}

#[test]
fn series_read_the_step_before_their_start() {
    let mut request = SelectSeries {
        profile_type: KIND.to_owned(),
        label_selector: "{}".to_owned(),
        start_ms: NOW_MS - 60_000,
        end_ms: NOW_MS,
        step_s: 15.0004,
        limit: Some(-1),
        ..SelectSeries::default()
    };
    let plan = request.check(&limits(), now()).unwrap().unwrap();
    assert_eq!(plan.scan.range.start_ms, NOW_MS - 75_000 + 1);
    assert_eq!(plan.limit, None);
    for step_s in [0.0, 0.0009, -1.0, f64::NAN, f64::INFINITY] {
        request.step_s = step_s;
        assert!(request.check(&limits(), now()).is_err(), "{step_s}");
    }
}

#[test]
fn a_diff_wants_both_sides() {
    let whole = Diff {
        left: Some(stacktraces()),
        right: Some(SelectMergeStacktraces {
            max_nodes: Some(100),
            ..stacktraces()
        }),
    };
    let sides = whole.check(&limits(), now()).unwrap();
    assert_eq!(sides.max_nodes, 100);
    for half in [
        Diff {
            left: None,
            ..whole.clone()
        },
        Diff {
            right: None,
            ..whole
        },
    ] {
        assert!(half.check(&limits(), now()).is_err());
    }
}

#[test]
fn several_tenants_get_the_smallest_limit_that_is_set() {
    let one = Limits {
        max_query_length_ms: 0,
        max_flamegraph_nodes_max: 5,
        ..Limits::default()
    };
    let two = Limits {
        max_query_length_ms: 7,
        max_flamegraph_nodes_max: 9,
        ..Limits::default()
    };
    let both = strictest([&one, &two]);
    assert_eq!(both.max_query_length_ms, 7);
    assert_eq!(both.max_flamegraph_nodes_max, 5);
}

#[test]
fn blank_matchers_of_series_select_everything() {
    let mut request = Series {
        matchers: vec!["{}".to_owned(), " ".to_owned()],
        start_ms: NOW_MS - 1,
        end_ms: NOW_MS,
        ..Series::default()
    };
    let scan = request.check(&limits(), now()).unwrap().unwrap();
    assert!(scan.matchers.is_empty());
    request.matchers = vec!["{a".to_owned()];
    assert!(request.check(&limits(), now()).is_err());
}
