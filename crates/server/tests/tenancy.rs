//! The header of tenants on every route that the server has, read out of its own sources so that no
//! new one is forgotten.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use reqwest::{Method, Response};
use support::{Running, now_ns, pprof};

/// Pages about the server itself, which hold nothing of a tenant's profiles.
const OWN: [&str; 19] = [
    "/",
    "/ui",
    "/explore",
    "/comparison",
    "/comparison-diff",
    "/ready",
    "/metrics",
    "/runtime_config",
    "/buildinfo",
    "/config",
    "/services",
    "/ring",
    "/distributor/ring",
    "/ring-segment-writer",
    "/api/v1/status/config/diff",
    "/api/v1/status/config/default",
    "/api/v1/status/buildinfo",
    "/api/v1/status/config",
    "/api/v1/status/runtime_config",
];

/// Routes that are for one tenant only.
const FOR_ONE: [&str; 5] = [
    "/ingest",
    "/pyroscope/ingest",
    "/push.v1.PusherService/Push",
    "/api/v1/tenant_limits",
    "/api/v1/tenant/rejections",
];

/// Every text of the router's and the route table's sources that is a path.
fn paths() -> BTreeSet<String> {
    let sources = [
        include_str!("../src/http/mod.rs"),
        include_str!("../src/http/route.rs"),
        include_str!("../src/http/rpc_paths.rs"),
    ];
    let mut paths = BTreeSet::new();
    for source in sources {
        let source = source.split("#[cfg(test)]").next().unwrap();
        let code = source.lines().filter(|line| !line.trim().starts_with("//"));
        for text in code.flat_map(|line| line.split('"').skip(1).step_by(2)) {
            if text.starts_with('/') && !text.contains(['{', ' ']) {
                paths.insert(text.to_owned());
            }
        }
    }
    paths
}

/// Asks with the method that the route takes.
async fn ask(server: &Running, path: &str, tenant: Option<&str>) -> Response {
    let mut answer = None;
    for method in [Method::GET, Method::POST] {
        let is_rpc = path.contains(".v1.") || path.contains(".v1");
        let mut request = server
            .http
            .request(method.clone(), format!("{}{path}", server.url))
            // For a proxy in front; nothing here looks at it.
            .header("authorization", "Basic bm9ib2R5OnNlY3JldA==");
        if method == Method::POST && is_rpc {
            request = request
                .header("content-type", "application/json")
                .body("{}");
        }
        if let Some(tenant) = tenant {
            request = request.header("X-Scope-OrgID", tenant);
        }
        let got = request.send().await.unwrap();
        if got.status() != 405 {
            return got;
        }
        answer = Some(got);
    }
    answer.unwrap()
}

#[tokio::test]
async fn no_route_escapes() {
    let server = Running::start(&["auth.multitenancy_enabled=true"]).await;
    let paths = paths();
    assert!(paths.len() > 20, "{paths:?}");
    for known in OWN.iter().chain(&FOR_ONE) {
        assert!(paths.contains(*known), "{known} is no route");
    }
    let unknown = [
        "/nowhere",
        "/querier.v1.QuerierService/NoSuchMethod",
        "/api/v1/else",
    ];
    for path in paths.iter().map(String::as_str).chain(unknown) {
        if OWN.contains(&path) {
            let answer = ask(&server, path, None).await;
            assert_eq!(answer.status(), 200, "{path} is open");
            continue;
        }
        for missing in [None, Some(""), Some(" ")] {
            let answer = ask(&server, path, missing).await;
            assert_eq!(answer.status(), 401, "{path} with {missing:?}");
            let told = answer.text().await.unwrap();
            assert!(told.contains("no org id"), "{path}: {told}");
        }
        let long = "x".repeat(151);
        for bad in ["..", "a/b", "a b", "a|..", &long] {
            let answer = ask(&server, path, Some(bad)).await;
            assert_eq!(answer.status(), 400, "{path} with {bad}");
            let told = answer.text().await.unwrap();
            assert!(told.contains("X-Scope-OrgID"), "{path}: {told}");
        }
        let several = ask(&server, path, Some("b|a")).await;
        let told = several.text().await.unwrap();
        assert!(
            !FOR_ONE.contains(&path) || told.contains("takes one tenant"),
            "{path} for two tenants: {told}"
        );
        let one = ask(&server, path, Some("a:region=eu")).await.status();
        assert!(one != 401, "{path} for one tenant: {one}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_header_is_ignored_while_there_is_one_tenant_only() {
    let server = Running::start(&[]).await;
    for path in paths() {
        let answer = ask(&server, &path, Some("../x")).await;
        assert_ne!(answer.status(), 401, "{path}");
        let told = answer.text().await.unwrap();
        assert!(!told.contains("X-Scope-OrgID: tenant id"), "{path}: {told}");
    }
    server.stop().await;
}

#[tokio::test]
async fn tenants_see_their_own_and_reads_may_ask_for_several() {
    let server = Running::start(&["auth.multitenancy_enabled=true"]).await;
    for tenant in ["a", "b"] {
        let path = format!("/ingest?name=of-{tenant}&format=pprof&spyName=gospy");
        let request = server.post(&path).header("X-Scope-OrgID", tenant);
        let answer = request.body(pprof()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let refused = server.post("/ingest?name=bad&format=pprof");
    let refused = refused.header("X-Scope-OrgID", "b").body("nonsense");
    assert_eq!(refused.send().await.unwrap().status(), 422);

    let services = async |tenants: &str| {
        let request = server
            .post("/querier.v1.QuerierService/LabelValues")
            .header("content-type", "application/json")
            .header("X-Scope-OrgID", tenants);
        let now = now_ns() / 1_000_000;
        let body = serde_json::json!({
            "name": "service_name",
            "start": now - 3_600_000,
            "end": now + 60_000,
        });
        let answer = request.body(body.to_string()).send().await.unwrap();
        let told: serde_json::Value = answer.json().await.unwrap();
        told["names"].clone()
    };
    let rejections = async |tenant: &str| {
        let url = format!("{}/api/v1/tenant/rejections", server.url);
        let request = server.http.get(url).header("X-Scope-OrgID", tenant);
        let told: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(told["tenant"], tenant);
        told["rejections"].as_array().unwrap().len()
    };
    assert_eq!(services("a").await, serde_json::json!(["of-a"]));
    assert_eq!(services("b").await, serde_json::json!(["of-b"]));
    assert_eq!(services("b|a").await, serde_json::json!(["of-a", "of-b"]));
    assert_eq!((rejections("a").await, rejections("b").await), (0, 1));
    server.stop().await;
}
