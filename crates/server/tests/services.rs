//! The services beside queries and pushes: what Drilldown keeps, rules, and what the server says of
//! itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
    for unknown in [json!(0), json!(null), json!("-5")] {
        let (status, stamped) = call(&server, SET, "a", &set("another", "x", unknown)).await;
        assert_eq!(status, 200);
        let at = stamped["setting"]["modifiedAt"].as_str().unwrap();
        let at: i64 = at.parse().unwrap();
        assert!(at > 1_700_000_000_000, "{at}");
    }

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
    let another = rule.clone();
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
    for n in 0..26 {
        let (status, answer) = call(&server, &upsert, "a", &another).await;
        let (expected, code) = if n < 25 {
            (200, Value::Null)
        } else {
            (429, json!("resource_exhausted"))
        };
        assert_eq!(
            (status, &answer["code"]),
            (expected, &code),
            "{n}: {answer}"
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
    // Nothing evaluates rules, so that no app promises metrics that never come.
    let enabled = flags.iter().map(|f| f["enabled"] == true);
    assert_eq!(enabled.collect::<Vec<_>>(), [false, false, true, true]);
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

#[tokio::test]
async fn ad_hoc_profiles_from_upload_to_comparison() {
    let server = Running::start(&["auth.multitenancy_enabled=true"]).await;
    let path = |method: &str| format!("/adhocprofiles.v1.AdHocProfileService/{method}");
    let upload = path("Upload");
    let file = |name: &str, body: &[u8]| json!({"name": name, "profile": STANDARD.encode(body)});
    let (status, first) = call(&server, &upload, "a", &file("cpu.pb", &support::pprof())).await;
    assert_eq!(status, 200, "{first}");
    assert_eq!(first["profileTypes"], json!(["cpu"]));
    let drawn: Value = serde_json::from_str(first["flamebearerProfile"].as_str().unwrap()).unwrap();
    assert_eq!(drawn["flamebearer"]["numTicks"], 30_000_000);
    assert_eq!(drawn["metadata"]["units"], "samples");
    let (status, second) = call(&server, &upload, "a", &file("b.txt", b"main;work 7")).await;
    assert_eq!(status, 200, "{second}");

    let (_, listed) = call(&server, &path("List"), "a", &json!({})).await;
    assert_eq!(listed["profiles"].as_array().unwrap().len(), 2);
    let got = call(&server, &path("Get"), "a", &json!({"id": first["id"]})).await;
    assert_eq!(got, (200, first.clone()));
    let same = json!({"leftId": first["id"], "rightId": first["id"]});
    let (status, diff) = call(&server, &path("Diff"), "a", &same).await;
    assert_eq!(status, 200, "{diff}");
    assert_eq!(diff["profileTypes"], json!(["cpu"]));
    let apart = json!({"leftId": first["id"], "rightId": second["id"]});
    let many = json!({"id": first["id"], "maxNodes": "2000000"});
    let many_of_both =
        json!({"leftId": first["id"], "rightId": first["id"], "maxNodes": "2000000"});
    let table = [
        ("Diff", "a", apart, 400),
        ("Get", "b", json!({"id": first["id"]}), 404),
        (
            "Get",
            "a",
            json!({"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV-x"}),
            404,
        ),
        ("Get", "a", json!({"id": "../x"}), 400),
        ("Get", "a", many, 400),
        ("Diff", "a", many_of_both, 400),
        (
            "Get",
            "a",
            json!({"id": first["id"], "profileType": "heap"}),
            400,
        ),
        ("Upload", "a", file("x", b"nothing known"), 400),
        (
            "Upload",
            "a",
            json!({"name": "x", "profile": "a".repeat(5 << 20)}),
            400,
        ),
        ("Upload", "a|b", file("x", b"main 1"), 400),
    ];
    for (method, tenant, body, status) in table {
        let (got, answer) = call(&server, &path(method), tenant, &body).await;
        assert_eq!(got, status, "{method} {tenant}: {answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn executables_from_question_to_deletion() {
    let sets = [
        "auth.multitenancy_enabled=true",
        "debug_info.max_upload_size=1MiB",
    ];
    let server = Running::start(&sets).await;
    let path = |method: &str| format!("/debuginfo.v1alpha1.DebuginfoService/{method}");
    let ask = json!({"file": {
        "gnuBuildId": "ABCDEF12",
        "name": "shop",
        "type": "TYPE_EXECUTABLE_NO_TEXT",
    }});
    let should = path("ShouldInitiateUpload");
    let bytes = async |id: &str, tenant: &str, body: Vec<u8>| {
        let request = server.post(&path(&format!("Upload/{id}"))).body(body);
        let answer = request
            .header("x-scope-orgid", tenant)
            .header("content-type", "text/x-any")
            .send()
            .await
            .unwrap();
        answer.status().as_u16()
    };
    assert_eq!(
        bytes("abcdef12", "a", vec![1; 10]).await,
        412,
        "nobody has asked"
    );
    let (_, verdict) = call(&server, &should, "a", &ask).await;
    assert_eq!(verdict["shouldInitiateUpload"], true, "{verdict}");
    let (_, verdict) = call(&server, &should, "a", &ask).await;
    assert_eq!(
        verdict,
        json!({"reason": "A previous upload is still in-progress and not stale yet (only stale uploads can be retried)."})
    );
    let (status, none) = call(&server, &should, "a", &json!({})).await;
    assert_eq!(status, 200);
    assert!(none.get("shouldInitiateUpload").is_none(), "{none}");

    let id = json!({"gnuBuildId": "abcdef12"});
    let finished = path("UploadFinished");
    let early = call(&server, &finished, "a", &id).await;
    assert_eq!(
        (early.0, early.1["code"].as_str()),
        (400, Some("failed_precondition"))
    );
    assert_eq!(bytes("abcdef12", "a", vec![1; (1 << 20) + 1]).await, 413);
    assert_eq!(bytes("no-hex", "a", vec![1; 10]).await, 400);
    assert_eq!(bytes("abcdef12", "b", vec![1; 10]).await, 412);
    assert_eq!(bytes("abcdef12", "", vec![1; 10]).await, 401);
    assert_eq!(bytes("abcdef12", "a", Vec::new()).await, 200);
    let empty = call(&server, &finished, "a", &id).await;
    assert_eq!(empty.1["code"], "failed_precondition", "no bytes came");
    assert_eq!(bytes("abcdef12", "a", vec![1; 1 << 20]).await, 200);
    assert_eq!(call(&server, &finished, "a", &id).await, (200, json!({})));
    let (_, verdict) = call(&server, &should, "a", &ask).await;
    assert!(verdict.get("shouldInitiateUpload").is_none(), "{verdict}");

    let (_, listed) = call(&server, &path("ListDebuginfo"), "a", &json!({})).await;
    let object = &listed["object"][0];
    assert_eq!(object["file"]["gnuBuildId"], "abcdef12");
    assert_eq!(object["file"]["type"], "TYPE_EXECUTABLE_NO_TEXT");
    assert_eq!(object["state"], "STATE_UPLOADED");
    assert_eq!(object["sizeBytes"], "1048576");
    assert!(
        object["finishedAt"].as_str().unwrap().ends_with('Z'),
        "{object}"
    );
    let delete = path("DeleteDebuginfo");
    assert_eq!(call(&server, &delete, "b", &id).await.0, 404);
    assert_eq!(call(&server, &delete, "a", &id).await, (200, json!({})));
    let empty = call(&server, &path("ListDebuginfo"), "a", &json!({})).await;
    assert_eq!(empty, (200, json!({})));
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_about_executables() {
    let server = Running::start(&[]).await;
    let path = |method: &str| format!("/debuginfo.v1alpha1.DebuginfoService/{method}");
    let id = json!({"gnuBuildId": "abcdef12"});
    let ask = json!({"file": id});
    assert_eq!(
        call(&server, &path("ShouldInitiateUpload"), "", &ask)
            .await
            .0,
        200
    );
    let bytes = async || {
        let request = server.post(&path("Upload/abcdef12")).body(vec![1; 10]);
        let request = request.header("content-type", "text/x-any");
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(bytes().await, 200, "of any type");
    assert_eq!(call(&server, &path("UploadFinished"), "", &id).await.0, 200);
    assert_eq!(bytes().await, 412, "it is there");
    let odd = json!({"gnuBuildId": "no-hex"});
    let unknown = json!({"gnuBuildId": "aaaa"});
    let short = json!({"file": {"gnuBuildId": "a"}});
    for (method, body, status, code) in [
        ("ShouldInitiateUpload", &short, 400, "invalid_argument"),
        ("UploadFinished", &odd, 400, "invalid_argument"),
        ("UploadFinished", &unknown, 404, "not_found"),
        ("UploadFinished", &id, 400, "failed_precondition"),
        ("DeleteDebuginfo", &json!({}), 400, "invalid_argument"),
        ("DeleteDebuginfo", &unknown, 404, "not_found"),
    ] {
        let (got, answer) = call(&server, &path(method), "", body).await;
        let told = (got, &answer["code"]);
        assert_eq!(told, (status, &json!(code)), "{method} {body}");
    }
    server.stop().await;
}
