//! The services beside queries and pushes: what Drilldown keeps, rules, and what the server says of
//! itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::Running;

/// A call in JSON; status and answer.
async fn call(server: &Running, path: &str, tenant: &str, body: &Value) -> (u16, Value) {
    let request = server.post(path).header("x-scope-orgid", tenant).json(body);
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_default())
}

const GET: &str = "/settings.v1.SettingsService/Get";
const SET: &str = "/settings.v1.SettingsService/Set";
const DELETE: &str = "/settings.v1.SettingsService/Delete";

#[tokio::test]
async fn settings_by_their_rules() {
    let server = Running::start(&["auth.multitenancy_enabled=true"]).await;
    let none = json!({});
    assert_eq!(call(&server, GET, "a", &none).await, (200, none.clone()));
    let set = |name: &str, value: &str, at: Value| json!({"setting": {"name": name, "value": value, "modifiedAt": at}});
    let plugin = set(
        "pluginSettings",
        "{\"maxNodes\":16384}",
        json!("1700000000000"),
    );
    let stored = call(&server, SET, "a", &plugin).await;
    assert_eq!(stored, (200, plugin.clone()));
    let (status, stamped) = call(&server, SET, "a", &set("another", "x", json!(0))).await;
    assert_eq!(status, 200);
    let at: i64 = stamped["setting"]["modifiedAt"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(at > 1_700_000_000_000, "{at}");

    let (_, all) = call(&server, GET, "a", &none).await;
    let names: Vec<&str> = all["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["another", "pluginSettings"]);
    assert_eq!(call(&server, GET, "b", &none).await, (200, none.clone()));

    let far = json!("9000000000000");
    let table = [
        (
            SET,
            "a",
            set("pluginSettings", "old", json!(1)),
            409,
            "already_exists",
        ),
        (SET, "a", json!({}), 400, "invalid_argument"),
        (SET, "a", set("", "x", json!(1)), 400, "invalid_argument"),
        (SET, "a", set("future", "x", far), 200, ""),
        (
            DELETE,
            "a",
            json!({"name": "future"}),
            409,
            "already_exists",
        ),
        (DELETE, "a", json!({"name": "nothing"}), 200, ""),
        (DELETE, "a", json!({}), 400, "invalid_argument"),
        (DELETE, "a", json!({"name": "another"}), 200, ""),
        (GET, "a|b", json!({}), 400, "invalid_argument"),
        (SET, "a|b", plugin, 400, "invalid_argument"),
        (GET, "", json!({}), 401, "unauthenticated"),
    ];
    for (path, tenant, body, status, code) in table {
        let (got, answer) = call(&server, path, tenant, &body).await;
        assert_eq!(got, status, "{path} {tenant} {body}: {answer}");
        assert_eq!(
            answer["code"].as_str().unwrap_or_default(),
            code,
            "{path} {body}"
        );
    }
    let (_, all) = call(&server, GET, "a", &none).await;
    assert_eq!(all["settings"].as_array().unwrap().len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn recording_rules_by_their_rules() {
    let server = Running::start(&["auth.multitenancy_enabled=true"]).await;
    let path = |method: &str| format!("/settings.v1.RecordingRulesService/{method}");
    let rule = json!({
        "metricName": "profiles_recorded_cpu",
        "matchers": ["{__profile_type__=\"process_cpu:cpu:nanoseconds:cpu:nanoseconds\"}"],
        "groupBy": ["pod"],
        "externalLabels": [{"name": "team", "value": "a"}],
        "stacktraceFilter": {"functionName": {"functionName": "main.work", "metricType": "TOTAL"}},
    });
    let upsert = path("UpsertRecordingRule");
    let (status, made) = call(&server, &upsert, "a", &rule).await;
    assert_eq!(status, 200, "{made}");
    let made = &made["rule"];
    assert_eq!(
        made["profileType"],
        "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
    );
    assert_eq!(made["generation"], "1");
    assert_eq!(made["externalLabels"], rule["externalLabels"]);
    assert_eq!(
        made["stacktraceFilter"]["functionName"]["functionName"],
        "main.work"
    );
    let id = made["id"].as_str().unwrap();

    let listed = call(&server, &path("ListRecordingRules"), "a", &json!({})).await;
    assert_eq!(listed, (200, json!({"rules": [made]})));
    let got = call(&server, &path("GetRecordingRule"), "a", &json!({"id": id})).await;
    assert_eq!(got, (200, json!({"rule": made})));

    let mut stale = rule.clone();
    stale["id"] = json!(id);
    let mut next = stale.clone();
    next["generation"] = json!("1");
    let mut wrong_name = rule.clone();
    wrong_name["metricName"] = json!("cpu");
    let mut no_function = rule.clone();
    no_function["stacktraceFilter"] = json!({});
    let (get, delete) = (path("GetRecordingRule"), path("DeleteRecordingRule"));
    let table = [
        (&upsert, "a", stale, 409, "already_exists"),
        (&upsert, "a", next, 200, ""),
        (&upsert, "a", wrong_name, 400, "invalid_argument"),
        (&upsert, "a", no_function, 400, "invalid_argument"),
        (&upsert, "a|b", rule, 400, "invalid_argument"),
        (&get, "b", json!({"id": id}), 404, "not_found"),
        (
            &get,
            "a",
            json!({"id": "no-letters"}),
            400,
            "invalid_argument",
        ),
        (&delete, "b", json!({"id": id}), 404, "not_found"),
        (&delete, "a", json!({"id": id}), 200, ""),
        (&get, "a", json!({"id": id}), 404, "not_found"),
    ];
    for (path, tenant, body, status, code) in table {
        let (got, answer) = call(&server, path, tenant, &body).await;
        assert_eq!(got, status, "{path} {tenant} {body}: {answer}");
        assert_eq!(
            answer["code"].as_str().unwrap_or_default(),
            code,
            "{path} {body}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn what_the_server_says_of_itself() {
    let server = Running::start(&["limits.max_label_name_length=77"]).await;
    let version = call(&server, "/version.v1.Version/Version", "", &json!({})).await;
    assert_eq!(version, (200, json!({"QuerierAPI": "1"})));
    let flags = "/capabilities.v1.FeatureFlagsService/GetFeatureFlags";
    let (status, flags) = call(&server, flags, "", &json!({})).await;
    assert_eq!(status, 200);
    let flags = flags["featureFlags"].as_array().unwrap();
    let names: Vec<&str> = flags.iter().map(|f| f["name"].as_str().unwrap()).collect();
    let known = [
        "pyroscopeRuler",
        "pyroscopeRulerFunctions",
        "utf8LabelNames",
        "v2StorageLayer",
    ];
    assert_eq!(names, known);
    for method in [
        "GithubApp",
        "GithubLogin",
        "GithubRefresh",
        "GetFile",
        "GetCommit",
        "GetCommits",
    ] {
        let path = format!("/vcs.v1.VCSService/{method}");
        let (status, answer) = call(&server, &path, "", &json!({})).await;
        assert_eq!(
            (status, answer["code"].as_str()),
            (501, Some("unimplemented")),
            "{method}"
        );
    }

    let text = async |path: &str| {
        let answer = server.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.unwrap()
    };
    let all = text("/api/v1/status/config").await;
    assert!(all.contains("max_label_name_length: 77"), "{all}");
    assert_eq!(text("/config").await, all);
    let changed = text("/api/v1/status/config/diff").await;
    assert!(changed.contains("max_label_name_length: 77"), "{changed}");
    assert!(!changed.contains("max_label_value_length"), "{changed}");
    let default = text("/api/v1/status/config/default").await;
    assert!(default.contains("max_label_name_length: 1024"), "{default}");
    let build: Value = serde_json::from_str(&text("/buildinfo").await).unwrap();
    assert_eq!(build["status"], "success");
    let services = text("/services").await;
    for part in ["server", "ingester"] {
        let line = format!("{part} => Running\n");
        assert!(services.contains(&line), "{services}");
    }
    for path in ["/ring", "/distributor/ring"] {
        let ring: Value = serde_json::from_str(&text(path).await).unwrap();
        assert_eq!(ring["shards"][0]["state"], "ACTIVE", "{ring}");
    }
    server.stop().await;
}
