//! What Grafana asks: every view of Profiles Drilldown and every query of the data source, each
//! request as it is sent, and each answer read by the rules of its converter.

use std::collections::{BTreeMap, BTreeSet};

use buffa::Message;
use scoria_proto::public::google::v1::Profile;
use scoria_proto::public::querier::v1 as querier;
use scoria_proto::public::types::v1 as types;
use scoria_tests::connect::{Encoding, call};
use scoria_tests::frames::{Cell, Row, diff_rows, flamebearer_rows, heatmap_cells, rate, rows};
use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, now_ns};
use serde_json::{Value, json};

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
/// What each profile of the shop holds, root first, in CPU nanoseconds.
const STACKS: [(&str, i64); 3] = [
    ("main.main;net/http.serve;shop.checkout", 30_000_000),
    ("main.main;net/http.serve;shop.search", 20_000_000),
    ("main.main;runtime.gc", 10_000_000),
];
const PROFILES: i64 = 8;
const STEP_MS: i64 = 15_000;
const PER_PROFILE: i64 = 60_000_000;
const TOTAL: i64 = PROFILES * PER_PROFILE;

/// A server with a shop on two pods, one profile per step, and a cart with a single profile.
struct Shop {
    server: ServerProcess,
    start: i64,
    end: i64,
    _data: tempfile::TempDir,
}

fn profile(time_ms: i64, stacks: &[(&str, i64)]) -> TestProfile {
    let stacks = stacks
        .iter()
        .map(|(stack, value)| (stack.split(';').map(str::to_owned).collect(), *value));
    TestProfile::cpu(time_ms * 1_000_000, stacks)
}

impl Shop {
    fn open() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let server = ServerProcess::start(&data.path().join("data"), &[]);
        let end = now_ns() / 1_000_000 / STEP_MS * STEP_MS;
        let start = end - PROFILES * STEP_MS;
        for n in 0..PROFILES {
            let pod = if n % 2 == 0 { "a" } else { "b" };
            let taken = profile(start + n * STEP_MS + 1000, &STACKS);
            let name = format!("shop%7Bpod%3D{pod}%7D");
            let answer = server.ingest(&name, &taken).expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        let cart = profile(end - 1000, &[("main.main;cart.add", 5_000_000)]);
        let answer = server.ingest("cart", &cart).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        Self {
            server,
            start,
            end,
            _data: data,
        }
    }

    /// A call as a browser makes it.
    fn json(&self, path: &str, body: &Value) -> Value {
        let headers = [("content-type", "application/json")];
        let reply = self
            .server
            .post(path, &headers, body.to_string().into_bytes());
        let text = String::from_utf8_lossy(&reply.body);
        assert_eq!(reply.status, 200, "{path} {body}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    fn query(&self, method: &str, body: &Value) -> Value {
        self.json(&format!("/querier.v1.QuerierService/{method}"), body)
    }

    /// The range and selector of the shop, as Drilldown writes it, with `more` beside.
    fn about_shop(&self, more: &Value) -> Value {
        let mut body = json!({
            "profileTypeID": CPU,
            "labelSelector": "{service_name=\"shop\",}",
            "start": self.start,
            "end": self.end,
        });
        let into = body.as_object_mut().expect("an object");
        into.extend(more.as_object().expect("an object").clone());
        body
    }

    fn get(&self, path: &str) -> String {
        let answer = self.server.get(path).expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    /// The shop's query as the legacy API takes it, with its range.
    fn legacy(&self, prefix: &str) -> String {
        let query = encoded(&format!("{CPU}{{service_name=\"shop\",}}"));
        let names = if prefix.is_empty() {
            ["query", "from", "until"].map(str::to_owned)
        } else {
            ["Query", "From", "Until"].map(|name| format!("{prefix}{name}"))
        };
        let [q, from, until] = names;
        format!("{q}={query}&{from}={}&{until}={}", self.start, self.end)
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// Own values by name, over all sides together.
fn own_by_name(rows: &[Row]) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for row in rows {
        *sums.entry(row.label.clone()).or_default() += row.own.iter().sum::<i64>();
    }
    sums.retain(|_, value| *value != 0);
    sums
}

/// What the shop's functions have in `times` profiles.
fn expected(times: i64) -> BTreeMap<String, i64> {
    STACKS
        .iter()
        .map(|(stack, value)| {
            let leaf = stack.rsplit(';').next().unwrap_or_default();
            (leaf.to_owned(), value * times)
        })
        .collect()
}

/// Points of one series, checked against its buckets: right edges, in order, inside the range.
fn points(series: &Value, start: i64, end: i64, step_ms: i64) -> Vec<(i64, f64)> {
    let points: Vec<(i64, f64)> = series["points"]
        .as_array()
        .expect("points")
        .iter()
        .map(|point| {
            let at = point["timestamp"].as_str().expect("int64 as a string");
            (
                at.parse().expect("a number"),
                point["value"].as_f64().expect("a value"),
            )
        })
        .collect();
    assert!(points.is_sorted_by(|a, b| a.0 < b.0), "{points:?}");
    for (at, _) in &points {
        assert_eq!((at - start) % step_ms, 0, "{at} is no edge");
        assert!(
            (start..=end).contains(at),
            "{at} is outside of {start}..={end}"
        );
    }
    points
}

fn labels(set: &Value) -> BTreeMap<String, String> {
    let pairs = set["labels"].as_array().cloned().unwrap_or_default();
    pairs
        .iter()
        .map(|pair| {
            let text = |key: &str| pair[key].as_str().unwrap_or_default().to_owned();
            (text("name"), text("value"))
        })
        .collect()
}

/// The app starts: without data it shows how to send some, with data its views.
#[test]
fn drilldown_starts() {
    let data = tempfile::tempdir().expect("a directory");
    let server = ServerProcess::start(&data.path().join("data"), &[]);
    let empty = Shop {
        server,
        start: 0,
        end: 0,
        _data: data,
    };
    assert_eq!(empty.query("GetProfileStats", &json!({})), json!({}));
    drop(empty);
    let shop = Shop::open();
    let stats = shop.query("GetProfileStats", &json!({}));
    assert_eq!(stats["dataIngested"], true, "{stats}");

    let get = "/settings.v1.SettingsService/Get";
    assert_eq!(shop.json(get, &json!({})), json!({}), "defaults");
    let setting = json!({"setting": {
        "name": "pluginSettings",
        "value": "{\"collapsedFlamegraphs\":true,\"maxNodes\":16384}",
    }});
    shop.json("/settings.v1.SettingsService/Set", &setting);
    let kept = shop.json(get, &json!({}));
    assert_eq!(kept["settings"][0]["value"], setting["setting"]["value"]);
    // The settings outlive the process.
    let Shop { server, _data, .. } = shop;
    assert!(server.terminate().success());
    let again = ServerProcess::start(&_data.path().join("data"), &[]);
    let body = again.post(get, &[("content-type", "application/json")], b"{}".to_vec());
    let body: Value = serde_json::from_slice(&body.body).expect("JSON");
    assert_eq!(body, kept);
}

/// All services, all profile types, favourites: one call, then a series for each panel.
#[test]
fn the_list_of_services() {
    let shop = Shop::open();
    let (start, end) = (
        shop.start / 10_000 * 10_000,
        shop.end / 10_000 * 10_000 + 10_000,
    );
    for matchers in [json!([]), json!(["{}"])] {
        let body = json!({
            "matchers": matchers,
            "labelNames": ["service_name", "__profile_type__"],
            "start": start,
            "end": end,
        });
        let answer = shop.query("Series", &body);
        let sets = answer["labelsSet"].as_array().expect("sets");
        let found: BTreeSet<(String, String)> = sets
            .iter()
            .map(|set| {
                let labels = labels(set);
                assert_eq!(labels.len(), 2, "{labels:?}");
                (
                    labels["service_name"].clone(),
                    labels["__profile_type__"].clone(),
                )
            })
            .collect();
        let both = ["cart", "shop"].map(|service| (service.to_owned(), CPU.to_owned()));
        assert_eq!(found, BTreeSet::from(both), "{matchers}");
    }

    let panel = shop.about_shop(&json!({"step": 15}));
    let answer = shop.query("SelectSeries", &panel);
    let series = answer["series"].as_array().expect("series");
    assert_eq!(series.len(), 1, "{answer}");
    assert_eq!(labels(&series[0]), BTreeMap::new());
    let points = points(&series[0], shop.start, shop.end, STEP_MS);
    assert_eq!(
        points.len() as i64,
        PROFILES,
        "one bucket per profile: {points:?}"
    );
    for (_, value) in points {
        assert_eq!(value, PER_PROFILE as f64, "a sum, not a rate");
        let (cores, unit) = rate("nanoseconds", true, value, 15.0);
        assert_eq!(unit, "cores");
        assert!((cores - 0.004).abs() < 1e-9, "{cores}");
    }
}

/// The labels view: names, values, and the series of the ten largest values.
#[test]
fn the_labels_of_a_service() {
    let shop = Shop::open();
    let matcher = format!("{{__profile_type__=\"{CPU}\",service_name=\"shop\"}}");
    let range = |more: Value| {
        let mut body = json!({"matchers": [matcher], "start": shop.start, "end": shop.end});
        let into = body.as_object_mut().expect("an object");
        into.extend(more.as_object().expect("an object").clone());
        body
    };
    let names = shop.query("LabelNames", &range(json!({})));
    let names: Vec<&str> = names["names"]
        .as_array()
        .expect("names")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        names.contains(&"pod") && names.contains(&"service_name"),
        "{names:?}"
    );
    let values = shop.query("LabelValues", &range(json!({"name": "pod"})));
    assert_eq!(values["names"], json!(["a", "b"]));

    let grouped = shop.about_shop(&json!({"step": 15, "groupBy": ["pod"], "limit": "10"}));
    let answer = shop.query("SelectSeries", &grouped);
    let mut sums = BTreeMap::new();
    for series in answer["series"].as_array().expect("series") {
        let sum: f64 = points(series, shop.start, shop.end, STEP_MS)
            .iter()
            .map(|(_, value)| value)
            .sum();
        sums.insert(labels(series), sum);
    }
    let half = (TOTAL / 2) as f64;
    let of = |pod: &str| BTreeMap::from([("pod".to_owned(), pod.to_owned())]);
    assert_eq!(sums, BTreeMap::from([(of("a"), half), (of("b"), half)]));
    let limited = shop.about_shop(&json!({"step": 15, "groupBy": ["pod"], "limit": 1}));
    let limited = shop.query("SelectSeries", &limited);
    assert_eq!(limited["series"].as_array().map(Vec::len), Some(1));
}

/// Every operator of the filter bar, and the sugar that it turns into regular expressions.
#[test]
fn filters() {
    let shop = Shop::open();
    let half = TOTAL / 2;
    for (filter, total) in [
        ("pod=\"a\",", half),
        ("pod!=\"a\",", half),
        ("pod=~\"a|b\",", TOTAL),
        ("pod!~\"a|b\",", 0),
        ("pod=\"\",", 0),
        ("region=\"\",", TOTAL),
        ("pod=~\"a\",pod!=\"b\",", half),
    ] {
        let mut body = shop.about_shop(&json!({}));
        body["labelSelector"] = json!(format!("{{service_name=\"shop\",{filter}}}"));
        let answer = shop.query("SelectMergeStacktraces", &body);
        let graph: querier::FlameGraph =
            serde_json::from_value(answer["flamegraph"].clone()).expect("a flame graph");
        assert_eq!(graph.total, total, "{filter}");
        rows(&graph).unwrap_or_else(|wrong| panic!("{filter}: {wrong}"));
    }
}

/// The flame graph in both encodings: the same rows, with more nodes than the default asked for.
#[test]
fn the_flame_graph() {
    let shop = Shop::open();
    let answer = shop.query(
        "SelectMergeStacktraces",
        &shop.about_shop(&json!({"maxNodes": "16384"})),
    );
    let from_json: querier::FlameGraph =
        serde_json::from_value(answer["flamegraph"].clone()).expect("a flame graph");
    let request = querier::SelectMergeStacktracesRequest {
        profile_typeID: CPU.to_owned(),
        label_selector: "{service_name=\"shop\",}".to_owned(),
        start: shop.start,
        end: shop.end,
        max_nodes: Some(16_384),
        ..querier::SelectMergeStacktracesRequest::default()
    };
    let path = "/querier.v1.QuerierService/SelectMergeStacktraces";
    let from_proto: querier::SelectMergeStacktracesResponse =
        call(&shop.server, Encoding::Proto, path, &request).expect("an answer");
    assert_eq!(from_proto.flamegraph.as_option(), Some(&from_json));

    let rows = rows(&from_json).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!((rows[0].level, rows[0].label.as_str()), (0, "total"));
    assert_eq!(rows[0].values, [TOTAL]);
    assert_eq!(own_by_name(&rows), expected(PROFILES));

    let few = shop.about_shop(&json!({"maxNodes": 2}));
    let few = shop.query("SelectMergeStacktraces", &few);
    let few: querier::FlameGraph =
        serde_json::from_value(few["flamegraph"].clone()).expect("a flame graph");
    assert_eq!(few.total, TOTAL, "truncation keeps the total");
    assert!(
        few.names.iter().any(|name| name == "other"),
        "{:?}",
        few.names
    );

    let nothing = shop.about_shop(&json!({"labelSelector": "{service_name=\"nobody\",}"}));
    let nothing = shop.query("SelectMergeStacktraces", &nothing);
    assert_eq!(nothing["flamegraph"]["names"], json!(["total"]));
    assert_eq!(
        nothing["flamegraph"]["levels"],
        json!([{"values": ["0", "0", "0", "0"]}])
    );
}

/// Newer apps ask for forms that no server may know, in fields that none has: never an error.
#[test]
fn questions_of_newer_apps() {
    let shop = Shop::open();
    for format in [
        "PROFILE_FORMAT_FUNCTIONS",
        "PROFILE_FORMAT_SANDWICH",
        "WHATEVER",
    ] {
        // The app falls back where the answer is a flame graph.
        let answers = match format {
            "PROFILE_FORMAT_FUNCTIONS" => "functions",
            _ => "flamegraph",
        };
        let body = shop.about_shop(&json!({
            "format": format,
            "someNewField": {"a": [1, 2]},
            "stackTraceSelector": {"frameFilter": {"name": "x"}},
        }));
        let answer = shop.query("SelectMergeStacktraces", &body);
        assert!(answer[answers].is_object(), "{format}: {answer}");
        let side = shop.about_shop(&json!({"format": format}));
        let body = json!({"left": side, "right": side, "format": format, "maxNodes": "100"});
        let answer = shop.query("Diff", &body);
        assert!(answer[answers].is_object(), "{format}: {answer}");
    }
}

/// The tables beside flame graph and comparison: whole sums, however few rows are asked for.
#[test]
fn tables_of_functions() {
    let shop = Shop::open();
    let format = "PROFILE_FORMAT_FUNCTIONS";
    let asked = shop.about_shop(&json!({"format": format, "maxNodes": 1}));
    let answer = shop.query("SelectMergeStacktraces", &asked);
    let one = &answer["functions"];
    let asked = shop.about_shop(&json!({"format": format}));
    let answer = shop.query("SelectMergeStacktraces", &asked);
    let all = &answer["functions"];
    let rows = |table: &Value| table["functions"].as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_str().map_or(0, |text| text.parse().unwrap_or(0));
    assert_eq!(
        (rows(one).len(), &one["total"]),
        (1, &json!(TOTAL.to_string()))
    );
    assert_eq!(one["total"], all["total"]);
    assert_eq!(one["totalFunctions"], rows(all).len().to_string());
    assert_eq!(rows(one)[0], rows(all)[0]);
    let own: i64 = rows(all).iter().map(|row| number(&row["self"])).sum();
    assert_eq!(own, TOTAL, "each stacktrace ends in one function");
    let total = |table: &Value, name: &str| {
        let rows = rows(table);
        let row = rows.iter().find(|row| row["name"] == name).cloned();
        row.unwrap_or_else(|| panic!("{name}: {table}"))
    };
    let side = shop.about_shop(&json!({}));
    let body = json!({"left": side, "right": side, "format": format, "maxNodes": "100"});
    let answer = shop.query("Diff", &body);
    let both = &answer["functions"];
    assert_eq!(both["leftTotal"], both["rightTotal"]);
    assert_eq!(both["leftTotal"], all["total"]);
    for row in rows(both) {
        let name = row["name"].as_str().expect("a name");
        let alone = total(all, name);
        for (of_both, of_one) in [
            ("leftSelf", "self"),
            ("rightSelf", "self"),
            ("leftTotal", "total"),
            ("rightTotal", "total"),
        ] {
            assert_eq!(row[of_both], alone[of_one], "{name} {of_both}");
        }
    }
    assert_eq!(rows(both).len(), rows(all).len());
    // A name that no profile has: an empty table, and not a flame graph.
    let mut none = shop.about_shop(&json!({"format": format}));
    none["labelSelector"] = json!("{service_name=\"nobody\"}");
    let answer = shop.query("SelectMergeStacktraces", &none);
    assert_eq!(answer["functions"], json!({}));
}

/// The comparison, as older apps ask it and as newer ones do.
#[test]
fn the_comparison() {
    let shop = Shop::open();
    let middle = shop.start + PROFILES / 2 * STEP_MS;
    let mut left = shop.about_shop(&json!({}));
    left["end"] = json!(middle);
    let right = shop.about_shop(&json!({}));
    let answer = shop.query("Diff", &json!({"left": left, "right": right}));
    let graph: querier::FlameGraphDiff =
        serde_json::from_value(answer["flamegraph"].clone()).expect("a comparison");
    let rows = diff_rows(&graph).unwrap_or_else(|wrong| panic!("{wrong}: {graph:?}"));
    assert_eq!(rows[0].values, [TOTAL / 2, TOTAL]);
    assert_eq!(own_by_name(&rows), expected(PROFILES + PROFILES / 2));

    let path = format!(
        "/pyroscope/render-diff?{}&{}&max-nodes=16384",
        shop.legacy("left"),
        shop.legacy("right")
    );
    let body: Value = serde_json::from_str(&shop.get(&path)).expect("JSON");
    let rows = flamebearer_rows(&body).unwrap_or_else(|wrong| panic!("{wrong}: {body}"));
    assert_eq!(rows[0].values, [TOTAL, TOTAL]);
    assert_eq!(own_by_name(&rows), expected(2 * PROFILES));
    assert_eq!(body["leftTicks"], TOTAL);
    assert_eq!(body["rightTicks"], TOTAL);
}

/// Function details: a profile below a call site, read in the browser by its JSON names.
#[test]
fn details_of_a_function() {
    let shop = Shop::open();
    let body = shop.about_shop(&json!({
        "maxNodes": 500,
        "stackTraceSelector": {"callSite": [{"name": "main.main"}, {"name": "net/http.serve"}]},
    }));
    let profile = shop.query("SelectMergeProfile", &body);
    let strings = profile["stringTable"].as_array().expect("strings");
    assert_eq!(strings[0], "");
    let mut total = 0;
    for sample in profile["sample"].as_array().expect("samples") {
        let value = sample["value"][0].as_str().expect("int64 as a string");
        total += value.parse::<i64>().expect("a number");
        let leaf = &sample["locationId"][0];
        let locations = profile["location"].as_array().expect("locations");
        let location = locations
            .iter()
            .find(|l| &l["id"] == leaf)
            .expect("it exists");
        let function = &location["line"][0]["functionId"];
        let functions = profile["function"].as_array().expect("functions");
        let function = functions
            .iter()
            .find(|f| &f["id"] == function)
            .expect("it exists");
        let name: usize = function["name"]
            .as_str()
            .and_then(|name| name.parse().ok())
            .expect("int64 as a string");
        let name = strings[name].as_str().unwrap_or_default();
        assert!(["shop.checkout", "shop.search"].contains(&name), "{name}");
    }
    assert_eq!(total, PROFILES * 50_000_000, "only below the call site");
}

/// The series of a heatmap, read by the converter's rules.
fn heatmap(answer: &Value) -> Vec<(types::HeatmapSeries, Vec<Cell>)> {
    let series = answer["series"].as_array().cloned().unwrap_or_default();
    let read = |series: Value| {
        let series: types::HeatmapSeries = serde_json::from_value(series).expect("a heatmap");
        let cells = heatmap_cells(&series).unwrap_or_else(|wrong| panic!("{wrong}: {series:?}"));
        (series, cells)
    };
    series.into_iter().map(read).collect()
}

/// The heatmap of single profiles: the data source asks with the step of the panel.
#[test]
fn the_heatmap_of_profiles() {
    let shop = Shop::open();
    // One larger profile, so that there are two rows.
    let large = profile(
        shop.end - 1000,
        &[("main.main;shop.report", 2 * PER_PROFILE)],
    );
    let answer = shop.server.ingest("shop%7Bpod%3Da%7D", &large);
    assert_eq!(answer.expect("an answer").status, 200);
    let ask = |more: Value| {
        let mut body = shop.about_shop(&json!({
            "step": 15,
            "queryType": "HEATMAP_QUERY_TYPE_INDIVIDUAL",
            "exemplarType": "EXEMPLAR_TYPE_INDIVIDUAL",
        }));
        let into = body.as_object_mut().expect("an object");
        into.extend(more.as_object().expect("an object").clone());
        heatmap(&shop.query("SelectHeatmap", &body))
    };
    let all = ask(json!({}));
    assert_eq!(all.len(), 1, "no group, one series");
    let (series, cells) = &all[0];
    let counted: i32 = cells.iter().map(|cell| cell.count).sum();
    assert_eq!(i64::from(counted), PROFILES + 1);
    for cell in cells {
        assert_eq!((cell.x_max - shop.start) % STEP_MS, 0, "{cell:?}");
        assert!(cell.y_max > cell.y_min, "{cell:?}");
    }
    let top = cells.iter().max_by(|a, b| a.y_min.total_cmp(&b.y_min));
    let top = top.expect("cells");
    assert_eq!((top.x_max, top.count), (shop.end, 1));
    assert!(top.y_max >= (2 * PER_PROFILE) as f64 - 20.0, "{top:?}");
    let exemplars = series.slots.iter().flat_map(|slot| &slot.exemplars);
    let exemplars: Vec<&types::Exemplar> = exemplars.collect();
    assert_eq!(exemplars.len(), cells.len(), "one for each cell");
    let largest = exemplars.iter().max_by_key(|e| e.value).expect("exemplars");
    assert_eq!(largest.value, 2 * PER_PROFILE);

    // A click on it asks for the profile alone.
    let one = shop.about_shop(&json!({"profileIdSelector": [largest.profile_id]}));
    let graph: querier::FlameGraph =
        serde_json::from_value(shop.query("SelectMergeStacktraces", &one)["flamegraph"].clone())
            .expect("a flame graph");
    assert_eq!(graph.total, 2 * PER_PROFILE);

    let grouped = ask(json!({"groupBy": ["pod"], "limit": "1"}));
    assert_eq!(grouped.len(), 1, "the limit");
    assert_eq!(grouped[0].0.labels[0].value, "a", "the one with the most");
}

/// The heatmap of spans, whose cells lead to traces.
#[test]
fn the_heatmap_of_spans() {
    let shop = Shop::open();
    let span = "00000bac2a5ab0c7";
    let mut of_span = profile(shop.end - 2000, &[("main.main;shop.pay", 7_000_000)]);
    of_span.span = Some(span.to_owned());
    let answer = shop.server.ingest("shop", &of_span).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body = shop.about_shop(&json!({
        "step": 15,
        "queryType": "HEATMAP_QUERY_TYPE_SPAN",
        "exemplarType": "EXEMPLAR_TYPE_SPAN",
    }));
    let all = heatmap(&shop.query("SelectHeatmap", &body));
    assert_eq!(all.len(), 1);
    let (series, cells) = &all[0];
    assert_eq!(
        cells.len(),
        1,
        "what has no span has no place in it: {cells:?}"
    );
    assert_eq!((cells[0].x_max, cells[0].count), (shop.end, 1));
    let exemplar = &series.slots[0].exemplars[0];
    assert_eq!(
        (exemplar.span_id.as_str(), exemplar.value),
        (span, 7_000_000)
    );
    assert_eq!(exemplar.timestamp, shop.end - 2000, "its own time");

    // Trace to profiles: the span's own flame graph, a little around it.
    let mut related = shop.about_shop(&json!({"spanSelector": [span]}));
    related["start"] = json!(shop.end - 32_000);
    related["end"] = json!(shop.end + 28_000);
    let answer = shop.query("SelectMergeSpanProfile", &related);
    let graph: querier::FlameGraph =
        serde_json::from_value(answer["flamegraph"].clone()).expect("a flame graph");
    let rows = rows(&graph).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(rows.len() > 1, "a single row is shown as no data");
    assert_eq!(rows[0].values, [7_000_000]);
}

/// Exemplars beside a series: the data source shows them with their own time and labels.
#[test]
fn exemplars_beside_a_series() {
    let shop = Shop::open();
    let body = shop.about_shop(&json!({"step": 15, "exemplarType": "EXEMPLAR_TYPE_INDIVIDUAL"}));
    let answer = shop.query("SelectSeries", &body);
    let mut seen = 0;
    for point in answer["series"][0]["points"].as_array().expect("points") {
        let exemplars = point["exemplars"].as_array().expect("exemplars");
        assert_eq!(exemplars.len(), 1, "at most one for a point");
        assert_eq!(exemplars[0]["value"], PER_PROFILE.to_string());
        let at = exemplars[0]["timestamp"]
            .as_str()
            .expect("int64 as a string");
        let at: i64 = at.parse().expect("a number");
        assert_eq!((at - shop.start) % STEP_MS, 1000, "the profile's own time");
        let labels = labels(&exemplars[0]);
        assert!(labels.contains_key("pod"), "{labels:?}");
        seen += 1;
    }
    assert_eq!(seen, PROFILES);
}

/// The exports: JSON and DOT by the older API, pprof by the newer one.
#[test]
fn exports() {
    let shop = Shop::open();
    let path = format!("/pyroscope/render?{}&format=json", shop.legacy(""));
    let body: Value = serde_json::from_str(&shop.get(&path)).expect("JSON");
    let rows = flamebearer_rows(&body).unwrap_or_else(|wrong| panic!("{wrong}: {body}"));
    assert_eq!(own_by_name(&rows), expected(PROFILES));
    assert_eq!(body["metadata"]["units"], "samples");
    assert_eq!(body["metadata"]["sampleRate"], 1_000_000_000);
    let timeline = &body["timeline"];
    assert_eq!(timeline["durationDelta"], 15);
    let samples = timeline["samples"].as_array().expect("samples");
    let sum: i64 = samples.iter().filter_map(Value::as_i64).sum();
    assert_eq!(sum, TOTAL, "{timeline}");

    let dot = shop.get(&format!(
        "/pyroscope/render?{}&format=dot&max-nodes=100",
        shop.legacy("")
    ));
    assert!(dot.starts_with("digraph"), "{dot}");
    assert!(
        dot.contains("N1 [label=") && dot.contains("shop.checkout"),
        "{dot}"
    );
    assert!(dot.contains(" -> N1 [label="), "{dot}");

    let request = querier::SelectMergeProfileRequest {
        profile_typeID: CPU.to_owned(),
        label_selector: "{service_name=\"shop\",}".to_owned(),
        start: shop.start,
        end: shop.end,
        ..querier::SelectMergeProfileRequest::default()
    };
    let headers = [("content-type", "application/proto")];
    let path = "/querier.v1.QuerierService/SelectMergeProfile";
    let reply = shop.server.post(path, &headers, request.encode_to_vec());
    assert_eq!(reply.status, 200);
    let profile = Profile::decode_from_slice(&reply.body).expect("a pprof message");
    let total: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
    assert_eq!(total, TOTAL);
}

/// "Save & test", the editor's lists, and the template variables of old dashboards.
#[test]
fn the_data_source() {
    let shop = Shop::open();
    let early = shop.query("ProfileTypes", &json!({"start": 1000, "end": 4000}));
    assert_eq!(
        early,
        json!({}),
        "the health check is about the status only"
    );
    for body in [json!({}), json!({"start": shop.start, "end": shop.end})] {
        let types = shop.query("ProfileTypes", &body);
        let kind = &types["profileTypes"][0];
        assert_eq!(kind["ID"], CPU, "{types}");
        assert_eq!(kind["sampleType"], "cpu");
        assert_eq!(kind["sampleUnit"], "nanoseconds");
        assert_eq!(kind["periodType"], "cpu");
        assert_eq!(kind["periodUnit"], "nanoseconds");
    }
    let old = json!({
        "matchers": [format!("{CPU}{{}}")],
        "start": shop.start,
        "end": shop.end,
    });
    shop.query("LabelNames", &old);
    // A dashboard of the last month, which no limit refuses unless somebody sets one.
    let month = json!({"start": shop.end - 30 * 86_400_000, "step": 3600});
    shop.query("SelectSeries", &shop.about_shop(&month));
    let month = shop.query("SelectMergeStacktraces", &shop.about_shop(&month));
    assert_eq!(month["flamegraph"]["total"], TOTAL.to_string());
    let future = shop.about_shop(&json!({"step": 15, "end": shop.end + 3_600_000}));
    let answer = shop.query("SelectSeries", &future);
    let sum: f64 = points(
        &answer["series"][0],
        shop.start,
        shop.end + 3_600_000,
        STEP_MS,
    )
    .iter()
    .map(|(_, value)| value)
    .sum();
    assert_eq!(sum, TOTAL as f64, "ranges may end in the future");
}
