//! What a canary asks of a server day and night: it pushes a profile dated now, and every kind of
//! query over the next five seconds must answer with exactly that profile.
//!
//! Nothing here depends on how fast the machine is: a profile can be seen once its push is
//! answered, and the rounds of each encoding have an instance label of their own.

use std::collections::BTreeMap;

use buffa::{EnumValue, Message, MessageField};
use scoria_proto::public::google::v1 as pprof;
use scoria_proto::public::push::v1::RawSample;
use scoria_proto::public::querier::v1 as querier;
use scoria_proto::public::types::v1 as types;
use scoria_tests::connect::{Encoding, ask, push};
use scoria_tests::frames::{flamebearer_rows, rows};
use scoria_tests::otlp_bytes::TestExport;
use scoria_tests::process::{ServerProcess, now_ns};
use serde::Serialize;
use serde::de::DeserializeOwned;

const SERVICE: &str = "pyroscope-canary-exporter";
const TYPE: &str = "deadmans_switch:made_up:profilos:made_up:profilos";
const OTLP_TYPE: &str = "otlp_test:otlp_test:count:otlp_test:samples";
const SPAN: &str = "00000bac2a5ab0c7";

/// One round of probes over one encoding.
struct Round<'a> {
    server: &'a ServerProcess,
    encoding: Encoding,
    instance: String,
    start: i64,
    end: i64,
}

/// `func1` called by `func2` 10, `func1` alone 20; the second in a span.
fn profile(time_ns: i64) -> pprof::Profile {
    let strings = [
        "",
        "made_up",
        "profilos",
        "func1",
        "func2",
        "profile_id",
        SPAN,
    ];
    let value_type = || pprof::ValueType { r#type: 1, unit: 2 };
    let function = |id: u64, name| pprof::Function {
        id,
        name,
        ..pprof::Function::default()
    };
    let location = |id: u64| pprof::Location {
        id,
        line: vec![pprof::Line {
            function_id: id,
            line: 1,
        }],
        ..pprof::Location::default()
    };
    pprof::Profile {
        sample_type: vec![value_type()],
        period_type: MessageField::some(value_type()),
        period: 1,
        time_nanos: time_ns,
        string_table: strings.map(str::to_owned).to_vec(),
        function: vec![function(1, 3), function(2, 4)],
        location: vec![location(1), location(2)],
        sample: vec![
            pprof::Sample {
                location_id: vec![1, 2],
                value: vec![10],
                ..pprof::Sample::default()
            },
            pprof::Sample {
                location_id: vec![1],
                value: vec![20],
                label: vec![pprof::Label {
                    key: 5,
                    str: 6,
                    ..pprof::Label::default()
                }],
            },
        ],
        ..pprof::Profile::default()
    }
}

/// Leaf-first names of each sample with its value, as google/pprof's own reader would find them.
fn stacks(profile: &pprof::Profile) -> BTreeMap<String, i64> {
    assert_eq!(profile.string_table.first().map(String::as_str), Some(""));
    let text = |at: i64| profile.string_table[usize::try_from(at).expect("a string")].as_str();
    let names: BTreeMap<u64, &str> = profile
        .function
        .iter()
        .map(|function| (function.id, text(function.name)))
        .collect();
    let lines: BTreeMap<u64, Vec<&str>> = profile
        .location
        .iter()
        .map(|location| {
            let named = location.line.iter().map(|line| names[&line.function_id]);
            (location.id, named.collect())
        })
        .collect();
    assert!(
        !names.contains_key(&0) && !lines.contains_key(&0),
        "ids start at 1"
    );
    let mut stacks = BTreeMap::new();
    for sample in &profile.sample {
        assert_eq!(sample.value.len(), profile.sample_type.len());
        let frames: Vec<&str> = sample
            .location_id
            .iter()
            .flat_map(|id| lines[id].clone())
            .collect();
        *stacks.entry(frames.join(">")).or_default() += sample.value[0];
    }
    stacks
}

fn expected_stacks() -> BTreeMap<String, i64> {
    BTreeMap::from([("func1>func2".to_owned(), 10), ("func1".to_owned(), 20)])
}

impl<'a> Round<'a> {
    /// Pushes the profile.
    fn ingest(server: &'a ServerProcess, encoding: Encoding) -> Self {
        let instance = format!("canary-{encoding:?}");
        let now = now_ns();
        let profile_id = format!("7ac3f51e-0000-4000-8000-{:012x}", now / 1000 % (1 << 40));
        let labels = [
            ("service_name", SERVICE),
            ("job", "canary-exporter"),
            ("instance", &instance),
            ("__name__", "deadmans_switch"),
        ];
        let sample = RawSample {
            raw_profile: profile(now).encode_to_vec(),
            ID: profile_id,
        };
        push(server, encoding, &labels, sample);
        Self::ingest_otlp(server, &instance, now);
        Self {
            server,
            encoding,
            instance,
            start: now / 1_000_000,
            end: now / 1_000_000 + 5000,
        }
    }

    /// Exports the same twice, as JSON and as protobuf; the method is an attribute of each.
    fn ingest_otlp(server: &ServerProcess, instance: &str, now: i64) {
        for (method, media) in [
            ("otlp-http-json", "application/json"),
            ("otlp-http-protobuf", "application/x-protobuf"),
        ] {
            let export = TestExport {
                time_ns: now,
                attributes: &[
                    ("service.name", SERVICE),
                    ("job", "canary-exporter"),
                    ("instance", instance),
                    ("ingestion_method", method),
                ],
            };
            let body = match method {
                "otlp-http-json" => export.json().into_bytes(),
                _ => export.protobuf(),
            };
            let reply = server.post("/v1development/profiles", &[("content-type", media)], body);
            let text = String::from_utf8_lossy(&reply.body);
            assert_eq!(reply.status, 200, "{method}: {text}");
        }
    }

    fn selector(&self) -> String {
        format!(
            "{{service_name=\"{SERVICE}\", job=\"canary-exporter\", instance=\"{}\"}}",
            self.instance
        )
    }

    fn ask<Q, A>(&self, method: &str, request: &Q) -> A
    where
        Q: Message + Serialize,
        A: Message + DeserializeOwned,
    {
        ask(self.server, self.encoding, method, request)
    }

    fn merge_profile(&self, kind: &str) -> pprof::Profile {
        let request = querier::SelectMergeProfileRequest {
            profile_typeID: kind.to_owned(),
            label_selector: self.selector(),
            start: self.start,
            end: self.end,
            ..querier::SelectMergeProfileRequest::default()
        };
        self.ask("SelectMergeProfile", &request)
    }

    fn stacktraces(&self) -> querier::SelectMergeStacktracesRequest {
        querier::SelectMergeStacktracesRequest {
            profile_typeID: TYPE.to_owned(),
            label_selector: self.selector(),
            start: self.start,
            end: self.end,
            ..querier::SelectMergeStacktracesRequest::default()
        }
    }

    /// The probes that every canary runs.
    fn default_probes(&self) {
        // What was answered is there.
        assert_eq!(stacks(&self.merge_profile(TYPE)), expected_stacks());
        assert_eq!(
            stacks(&self.merge_profile(OTLP_TYPE)),
            BTreeMap::from([("func2>func1".to_owned(), 20), ("func1".to_owned(), 40)])
        );
    }

    fn profile_types(&self) {
        let request = querier::ProfileTypesRequest {
            start: self.start,
            end: self.end,
        };
        let answer: querier::ProfileTypesResponse = self.ask("ProfileTypes", &request);
        let ids: Vec<&str> = answer.profile_types.iter().map(|t| t.ID.as_str()).collect();
        assert!(ids.contains(&TYPE), "{ids:?}");
        assert!(ids.is_sorted(), "{ids:?}");
    }

    fn series(&self) {
        let request = querier::SeriesRequest {
            label_names: vec!["service_name".to_owned(), "__profile_type__".to_owned()],
            start: self.start,
            end: self.end,
            ..querier::SeriesRequest::default()
        };
        let answer: querier::SeriesResponse = self.ask("Series", &request);
        let mut found = false;
        for set in &answer.labels_set {
            let value = |name: &str| {
                let label = set.labels.iter().find(|label| label.name == name);
                label.map(|label| label.value.as_str()).unwrap_or_default()
            };
            assert_ne!(value("service_name"), "", "{set:?}");
            found |= value("service_name") == SERVICE && value("__profile_type__") == TYPE;
        }
        assert!(found, "{:?}", answer.labels_set);
    }

    fn labels(&self) {
        let request = types::LabelNamesRequest {
            matchers: vec![format!("{{service_name=\"{SERVICE}\"}}")],
            start: self.start,
            end: self.end,
        };
        let answer: types::LabelNamesResponse = self.ask("LabelNames", &request);
        for name in [
            "__name__",
            "__period_type__",
            "__period_unit__",
            "__profile_type__",
            "__service_name__",
            "__type__",
            "__unit__",
            "service_name",
        ] {
            assert!(
                answer.names.iter().any(|n| n == name),
                "{name}: {:?}",
                answer.names
            );
        }
        let request = types::LabelValuesRequest {
            name: "service_name".to_owned(),
            matchers: vec![format!("{{service_name=\"{SERVICE}\"}}")],
            start: self.start,
            end: self.end,
        };
        let answer: types::LabelValuesResponse = self.ask("LabelValues", &request);
        assert_eq!(answer.names, [SERVICE]);
    }

    fn points(&self, request: querier::SelectSeriesRequest) -> types::Series {
        let request = querier::SelectSeriesRequest {
            profile_typeID: TYPE.to_owned(),
            label_selector: self.selector(),
            start: self.start,
            end: self.end,
            ..request
        };
        let mut answer: querier::SelectSeriesResponse = self.ask("SelectSeries", &request);
        assert_eq!(answer.series.len(), 1, "{:?}", answer.series);
        let series = answer.series.remove(0);
        assert_eq!(series.points.len(), 1, "{series:?}");
        series
    }

    fn select_series(&self) {
        let series = self.points(querier::SelectSeriesRequest {
            step: 1000.0,
            group_by: vec!["service_name".to_owned()],
            ..querier::SelectSeriesRequest::default()
        });
        assert_eq!(series.labels.len(), 1, "{series:?}");
        assert_eq!(series.labels[0].value, SERVICE);
        assert_eq!(
            series.points[0].timestamp, self.start,
            "the bucket's right edge"
        );
    }

    fn flame_graphs(&self) {
        let answer: querier::SelectMergeStacktracesResponse =
            self.ask("SelectMergeStacktraces", &self.stacktraces());
        let graph = answer.flamegraph.into_option().expect("a flame graph");
        assert_shape(&graph, 3, 30);

        let request = querier::SelectMergeSpanProfileRequest {
            profile_typeID: TYPE.to_owned(),
            label_selector: self.selector(),
            span_selector: vec![SPAN.to_owned()],
            start: self.start,
            end: self.end,
            ..querier::SelectMergeSpanProfileRequest::default()
        };
        let answer: querier::SelectMergeSpanProfileResponse =
            self.ask("SelectMergeSpanProfile", &request);
        let graph = answer.flamegraph.into_option().expect("a flame graph");
        assert_shape(&graph, 2, 20);
    }

    fn stats(&self) {
        let answer: types::GetProfileStatsResponse =
            self.ask("GetProfileStats", &types::GetProfileStatsRequest::default());
        assert!(answer.data_ingested);
        assert!(answer.oldest_profile_time <= self.start, "{answer:?}");
        assert!(answer.newest_profile_time >= self.start, "{answer:?}");
    }

    fn render(&self) {
        let query: String = format!("{TYPE}{}", self.selector())
            .bytes()
            .map(|b| format!("%{b:02X}"))
            .collect();
        let (start, end) = (self.start, self.end);
        let single =
            format!("/pyroscope/render?query={query}&from={start}&until={end}&format=json");
        let double = format!(
            "/pyroscope/render-diff?leftQuery={query}&leftFrom={start}&leftUntil={end}&rightQuery={query}&rightFrom={start}&rightUntil={end}"
        );
        for path in [single, double] {
            let answer = self.server.get(&path).expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.body);
            let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
            let count = |key: &str| body["flamebearer"][key].as_array().map(Vec::len);
            assert_eq!(
                (count("names"), count("levels")),
                (Some(3), Some(3)),
                "{body}"
            );
            flamebearer_rows(&body).unwrap_or_else(|wrong| panic!("{wrong}: {body}"));
        }
    }

    /// What the extended set adds.
    fn extended_probes(&self) {
        self.profile_types();
        self.series();
        self.labels();
        self.select_series();
        self.flame_graphs();
        self.stats();
        self.render();
    }

    /// What the whole set adds: an exemplar, and the profile that it names.
    fn exemplar_probes(&self) {
        let series = self.points(querier::SelectSeriesRequest {
            step: 5.0,
            exemplar_type: EnumValue::from(types::ExemplarType::EXEMPLAR_TYPE_INDIVIDUAL),
            ..querier::SelectSeriesRequest::default()
        });
        let exemplars = &series.points[0].exemplars;
        assert_eq!(exemplars.len(), 1, "{series:?}");
        assert_eq!(
            exemplars[0].value, 30,
            "the whole profile, its span included"
        );
        assert!(!exemplars[0].profile_id.is_empty(), "{series:?}");
        assert_eq!(exemplars[0].timestamp, self.start);
        let request = querier::SelectMergeStacktracesRequest {
            profile_id_selector: vec![exemplars[0].profile_id.clone()],
            ..self.stacktraces()
        };
        let answer: querier::SelectMergeStacktracesResponse =
            self.ask("SelectMergeStacktraces", &request);
        let graph = answer.flamegraph.into_option().expect("a flame graph");
        assert_shape(&graph, 3, 30);
    }
}

/// As many names as levels, and this total.
fn assert_shape(graph: &querier::FlameGraph, levels: usize, total: i64) {
    assert_eq!(graph.names.len(), levels, "{graph:?}");
    assert_eq!(graph.levels.len(), levels, "{graph:?}");
    assert_eq!(graph.total, total, "{graph:?}");
    rows(graph).unwrap_or_else(|wrong| panic!("{wrong}: {graph:?}"));
}

#[test]
fn every_probe_succeeds_in_every_encoding() {
    let data = tempfile::tempdir().expect("a directory");
    let server = ServerProcess::start(&data.path().join("data"), &[]);
    for encoding in Encoding::ALL {
        let round = Round::ingest(&server, encoding);
        round.default_probes();
        round.extended_probes();
        round.exemplar_probes();
    }
}

/// A round that was before the range still counts in the first, long bucket of the series, and
/// nowhere else.
#[test]
fn a_second_round_of_probes_succeeds() {
    let data = tempfile::tempdir().expect("a directory");
    let server = ServerProcess::start(&data.path().join("data"), &[]);
    for round in 1..=2 {
        // Rounds are more than a millisecond apart.
        std::thread::sleep(std::time::Duration::from_millis(5));
        let probes = Round::ingest(&server, Encoding::Proto);
        probes.default_probes();
        probes.extended_probes();
        let series = probes.points(querier::SelectSeriesRequest {
            step: 1000.0,
            ..querier::SelectSeriesRequest::default()
        });
        assert_eq!(series.points[0].value, 30.0 * f64::from(round));
    }
}

/// The profile lies in a block after a clean stop, and the answers are the same.
#[test]
fn every_probe_succeeds_on_what_a_stop_has_flushed() {
    let data = tempfile::tempdir().expect("a directory");
    let data = data.path().join("data");
    let server = ServerProcess::start(&data, &[]);
    let before = Round::ingest(&server, Encoding::Proto);
    before.default_probes();
    let Round {
        encoding,
        instance,
        start,
        end,
        ..
    } = before;
    assert!(server.terminate().success());
    let server = ServerProcess::start(&data, &[]);
    let after = Round {
        server: &server,
        encoding,
        instance,
        start,
        end,
    };
    after.default_probes();
    after.extended_probes();
    after.exemplar_probes();
}
