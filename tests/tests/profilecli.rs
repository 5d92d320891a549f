//! What profilecli sends, command by command and in each of its protocols: the program itself cannot
//! be had here, so its requests are replayed as they are documented (read-api 9.2) and the answers
//! read as it reads them.

use std::collections::{BTreeMap, BTreeSet};

use buffa::{EnumValue, Message, MessageField};
use scoria_proto::public::google::v1 as pprof;
use scoria_proto::public::push::v1::RawSample;
use scoria_proto::public::querier::v1 as querier;
use scoria_proto::public::settings::v1 as settings;
use scoria_proto::public::types::v1 as types;
use scoria_tests::connect::{Encoding, Refused, ask, call, push};
use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, now_ns};
use serde::Serialize;
use serde::de::DeserializeOwned;

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const SELECTOR: &str = "{service_name=\"shop\"}";
const SPAN: &str = "00f067aa0ba902b7";

/// The protocols of `--protocol`.
const PROTOCOLS: [Encoding; 3] = [Encoding::Proto, Encoding::Grpc, Encoding::GrpcWeb];

/// A server that was given three profiles by `upload`, and the range of the questions.
struct Cli {
    server: ServerProcess,
    protocol: Encoding,
    start: i64,
    end: i64,
    _data: tempfile::TempDir,
}

fn stack(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

impl Cli {
    fn new(protocol: Encoding) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let now = now_ns();
        let cli = Self {
            server: ServerProcess::start(&data.path().join("data"), &[]),
            protocol,
            start: now / 1_000_000 - 3_600_000,
            end: now / 1_000_000 + 1000,
            _data: data,
        };
        for (pod, value, span) in [("a", 10, None), ("b", 20, Some(SPAN)), ("b", 3, None)] {
            let stacks = [
                (stack(&["main", "work"]), value),
                (stack(&["main", "work", "leaf"]), 1),
            ];
            let profile = TestProfile {
                span: span.map(str::to_owned),
                ..TestProfile::cpu(now - value * 1_000_000_000, stacks)
            };
            cli.upload(pod, &profile);
        }
        cli
    }

    fn call<Q, A>(&self, path: &str, request: &Q) -> Result<A, Refused>
    where
        Q: Message + Serialize,
        A: Message + DeserializeOwned,
    {
        call(&self.server, self.protocol, path, request)
    }

    fn ask<Q, A>(&self, method: &str, request: &Q) -> A
    where
        Q: Message + Serialize,
        A: Message + DeserializeOwned,
    {
        ask(&self.server, self.protocol, method, request)
    }

    /// `upload`
    fn upload(&self, pod: &str, profile: &TestProfile) {
        let labels = [
            ("__name__", "process_cpu"),
            ("service_name", "shop"),
            ("pod", pod),
        ];
        let sample = RawSample {
            raw_profile: profile.encode(),
            ..RawSample::default()
        };
        push(&self.server, self.protocol, &labels, sample);
    }

    fn merge(&self) -> querier::SelectMergeStacktracesRequest {
        querier::SelectMergeStacktracesRequest {
            profile_typeID: CPU.to_owned(),
            label_selector: SELECTOR.to_owned(),
            start: self.start,
            end: self.end,
            format: EnumValue::from(querier::ProfileFormat::PROFILE_FORMAT_PPROF),
            ..querier::SelectMergeStacktracesRequest::default()
        }
    }

    fn profile(&self, request: &querier::SelectMergeStacktracesRequest) -> pprof::Profile {
        let answer: querier::SelectMergeStacktracesResponse =
            self.ask("SelectMergeStacktraces", request);
        let profile = answer.pprof.into_option().expect("a pprof");
        profile.profile.into_option().expect("a profile")
    }

    fn total(&self, request: &querier::SelectMergeStacktracesRequest) -> i64 {
        let samples = self.profile(request).sample;
        samples.iter().map(|sample| sample.value[0]).sum()
    }

    fn series(&self, more: querier::SelectSeriesRequest) -> Vec<types::Series> {
        let request = querier::SelectSeriesRequest {
            profile_typeID: CPU.to_owned(),
            label_selector: SELECTOR.to_owned(),
            start: self.start,
            end: self.end,
            ..more
        };
        let answer: querier::SelectSeriesResponse = self.ask("SelectSeries", &request);
        answer.series
    }
}

/// Runs a command in each protocol, on a server of its own.
fn in_each_protocol(command: impl Fn(&Cli)) {
    for protocol in PROTOCOLS {
        command(&Cli::new(protocol));
    }
}

#[test]
fn query_profile() {
    in_each_protocol(|cli| {
        assert_eq!(cli.total(&cli.merge()), 36);
        let call_site = ["main", "work", "leaf"].map(|name| types::Location {
            name: name.to_owned(),
        });
        let below = querier::SelectMergeStacktracesRequest {
            stack_trace_selector: MessageField::some(types::StackTraceSelector {
                call_site: call_site.to_vec(),
                ..types::StackTraceSelector::default()
            }),
            ..cli.merge()
        };
        assert_eq!(cli.total(&below), 3);
        let spans = querier::SelectMergeStacktracesRequest {
            span_selector: vec![SPAN.to_owned()],
            ..cli.merge()
        };
        assert_eq!(cli.total(&spans), 21);
        let few = querier::SelectMergeStacktracesRequest {
            max_nodes: Some(2),
            ..cli.merge()
        };
        let profile = cli.profile(&few);
        assert!(profile.string_table.iter().any(|text| text == "other"));
        assert_eq!(cli.total(&few), 36);
        let nobody = querier::SelectMergeStacktracesRequest {
            label_selector: "{service_name=\"nobody\"}".to_owned(),
            ..cli.merge()
        };
        assert!(cli.profile(&nobody).sample.is_empty());
    });
}

/// `--function-names-only`, and the fallback of `--span-selector`.
#[test]
fn query_profile_by_function_names() {
    in_each_protocol(|cli| {
        let tree = EnumValue::from(querier::ProfileFormat::PROFILE_FORMAT_TREE);
        let request = querier::SelectMergeStacktracesRequest {
            format: tree,
            ..cli.merge()
        };
        let answer: querier::SelectMergeStacktracesResponse =
            cli.ask("SelectMergeStacktraces", &request);
        // Root, main, work with 33 of its own, leaf with 3.
        let expected = b"\0\0\x01\x04main\0\x01\x04work\x21\x01\x04leaf\x03\0";
        assert_eq!(answer.tree, expected);
        let request = querier::SelectMergeSpanProfileRequest {
            profile_typeID: CPU.to_owned(),
            label_selector: SELECTOR.to_owned(),
            span_selector: vec![SPAN.to_owned()],
            start: cli.start,
            end: cli.end,
            format: tree,
            ..querier::SelectMergeSpanProfileRequest::default()
        };
        let answer: querier::SelectMergeSpanProfileResponse =
            cli.ask("SelectMergeSpanProfile", &request);
        let expected = b"\0\0\x01\x04main\0\x01\x04work\x14\x01\x04leaf\x01\0";
        assert_eq!(answer.tree, expected);
    });
}

/// `--async`: asked for once, then by its id.
#[test]
fn query_profile_in_the_background() {
    in_each_protocol(|cli| {
        let force = querier::SelectMergeStacktracesRequest {
            r#async: MessageField::some(querier::AsyncQueryRequest {
                r#type: EnumValue::from(querier::AsyncQueryType::ASYNC_QUERY_TYPE_FORCE),
                ..querier::AsyncQueryRequest::default()
            }),
            ..cli.merge()
        };
        let ask = |request: &querier::SelectMergeStacktracesRequest| {
            let answer: querier::SelectMergeStacktracesResponse =
                cli.ask("SelectMergeStacktraces", request);
            let state = answer.r#async.clone().into_option().expect("its state");
            (state, answer)
        };
        let (started, _) = ask(&force);
        let poll = querier::SelectMergeStacktracesRequest {
            r#async: MessageField::some(querier::AsyncQueryRequest {
                request_id: started.request_id,
                ..querier::AsyncQueryRequest::default()
            }),
            ..querier::SelectMergeStacktracesRequest::default()
        };
        let success = querier::AsyncQueryStatus::ASYNC_QUERY_STATUS_SUCCESS;
        let done = cli.server.wait_for(std::time::Duration::from_secs(60), || {
            ask(&poll).0.status == success
        });
        assert!(done, "{:?}", ask(&poll).0);
        let profile = ask(&poll).1.pprof.into_option().expect("a pprof");
        assert_eq!(profile.profile.into_option().expect("one").sample.len(), 2);
    });
}

#[test]
fn query_go_pgo() {
    in_each_protocol(|cli| {
        let request = querier::SelectMergeStacktracesRequest {
            stack_trace_selector: MessageField::some(types::StackTraceSelector {
                go_pgo: MessageField::some(types::GoPGO {
                    keep_locations: 1,
                    aggregate_callees: true,
                }),
                ..types::StackTraceSelector::default()
            }),
            ..cli.merge()
        };
        let profile = cli.profile(&request);
        assert!(profile.sample.iter().all(|s| s.location_id.len() == 1));
        assert_eq!(cli.total(&request), 36);
    });
}

#[test]
fn query_series() {
    in_each_protocol(|cli| {
        let request = querier::SeriesRequest {
            matchers: vec!["{}".to_owned()],
            label_names: vec!["service_name".to_owned(), "pod".to_owned()],
            start: cli.start,
            end: cli.end,
        };
        let answer: querier::SeriesResponse = cli.ask("Series", &request);
        let pods = answer.labels_set.iter().map(|set| {
            let values: Vec<&str> = set.labels.iter().map(|l| l.value.as_str()).collect();
            values.join(" ")
        });
        assert_eq!(pods.collect::<Vec<_>>(), ["a shop", "b shop"]);
    });
}

#[test]
fn query_label_values_cardinality() {
    in_each_protocol(|cli| {
        let request = types::LabelNamesRequest {
            matchers: vec![SELECTOR.to_owned()],
            start: cli.start,
            end: cli.end,
        };
        let names: types::LabelNamesResponse = cli.ask("LabelNames", &request);
        let counts: BTreeMap<String, usize> = names
            .names
            .into_iter()
            .map(|name| {
                let request = types::LabelValuesRequest {
                    name: name.clone(),
                    matchers: vec![SELECTOR.to_owned()],
                    start: cli.start,
                    end: cli.end,
                };
                let values: types::LabelValuesResponse = cli.ask("LabelValues", &request);
                (name, values.names.len())
            })
            .collect();
        assert_eq!((counts["pod"], counts["service_name"]), (2, 1));
        assert!(counts.values().all(|&n| n > 0), "{counts:?}");
    });
}

/// One step as long as the range: what lies before the start is another point, which is passed
/// over.
#[test]
fn query_top() {
    in_each_protocol(|cli| {
        let series = cli.series(querier::SelectSeriesRequest {
            step: (cli.end - cli.start) as f64 / 1000.0,
            group_by: vec!["pod".to_owned()],
            limit: Some(1),
            ..querier::SelectSeriesRequest::default()
        });
        let totals = series.iter().map(|series| {
            let inside = series.points.iter().filter(|p| p.timestamp > cli.start);
            (
                series.labels[0].value.as_str(),
                inside.map(|p| p.value).sum(),
            )
        });
        assert_eq!(totals.collect::<Vec<(&str, f64)>>(), [("b", 25.0)]);
    });
}

#[test]
fn query_exemplars() {
    in_each_protocol(|cli| {
        let series = cli.series(querier::SelectSeriesRequest {
            step: 15.0,
            exemplar_type: EnumValue::from(types::ExemplarType::EXEMPLAR_TYPE_INDIVIDUAL),
            limit: Some(100),
            ..querier::SelectSeriesRequest::default()
        });
        let points = series.iter().flat_map(|series| &series.points);
        let ids: BTreeSet<&str> = points
            .flat_map(|point| &point.exemplars)
            .map(|exemplar| exemplar.profile_id.as_str())
            .collect();
        assert!(!ids.is_empty() && !ids.contains(""), "{ids:?}");
        let of_profile = querier::SelectMergeStacktracesRequest {
            profile_id_selector: ids.iter().map(|&id| id.to_owned()).collect(),
            ..cli.merge()
        };
        assert!(cli.total(&of_profile) > 0);

        let request = querier::SelectHeatmapRequest {
            profile_typeID: CPU.to_owned(),
            label_selector: SELECTOR.to_owned(),
            start: cli.start,
            end: cli.end,
            step: 60.0,
            query_type: EnumValue::from(querier::HeatmapQueryType::HEATMAP_QUERY_TYPE_SPAN),
            exemplar_type: EnumValue::from(types::ExemplarType::EXEMPLAR_TYPE_SPAN),
            limit: Some(100),
            ..querier::SelectHeatmapRequest::default()
        };
        let answer: querier::SelectHeatmapResponse = cli.ask("SelectHeatmap", &request);
        let slots = answer.series.iter().flat_map(|series| &series.slots);
        let spans: Vec<&str> = slots
            .flat_map(|slot| &slot.exemplars)
            .map(|exemplar| exemplar.span_id.as_str())
            .collect();
        assert_eq!(spans, [SPAN]);
    });
}

#[test]
fn recording_rules() {
    in_each_protocol(|cli| {
        let path = |method: &str| format!("/settings.v1.RecordingRulesService/{method}");
        let list = || {
            let request = settings::ListRecordingRulesRequest::default();
            let answer: settings::ListRecordingRulesResponse = cli
                .call(&path("ListRecordingRules"), &request)
                .expect("a list");
            answer.rules
        };
        assert!(list().is_empty());
        let create = settings::UpsertRecordingRuleRequest {
            metric_name: "profiles_recorded_shop".to_owned(),
            matchers: vec![format!("{{__profile_type__=\"{CPU}\"}}")],
            ..settings::UpsertRecordingRuleRequest::default()
        };
        let created: settings::UpsertRecordingRuleResponse = cli
            .call(&path("UpsertRecordingRule"), &create)
            .expect("a rule");
        let rule = created.rule.into_option().expect("the rule");
        assert_eq!(list(), std::slice::from_ref(&rule));
        let get = settings::GetRecordingRuleRequest {
            id: rule.id.clone(),
        };
        let got: settings::GetRecordingRuleResponse = cli
            .call(&path("GetRecordingRule"), &get)
            .expect("it is there");
        assert_eq!(got.rule.into_option(), Some(rule.clone()));
        let delete = settings::DeleteRecordingRuleRequest { id: rule.id };
        let _: settings::DeleteRecordingRuleResponse = cli
            .call(&path("DeleteRecordingRule"), &delete)
            .expect("it goes");
        assert!(list().is_empty());
        let gone: Result<settings::GetRecordingRuleResponse, _> =
            cli.call(&path("GetRecordingRule"), &get);
        // As HTTP or as gRPC says it.
        assert!(matches!(
            gone.map_err(|refused| refused.status),
            Err(404 | 5)
        ));
    });
}

#[test]
fn ready() {
    let cli = Cli::new(Encoding::Proto);
    let answer = cli.server.get("/ready").expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));
}
