//! The older HTTP API: `/pyroscope/render-diff` and `/pyroscope/label-values`, by their parameters,
//! and what all its routes share.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::Running;

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const MEMORY: &str = "memory:alloc_space:bytes:space:bytes";

fn selector(service: &str) -> String {
    format!("{CPU}%7Bservice_name%3D%22{service}%22%7D")
}

async fn get(server: &Running, path: &str) -> (u16, Value) {
    let answer = server.get(path).await;
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[tokio::test]
async fn render_diff_by_its_parameters() {
    let server = Running::start(&[]).await;
    server.push("shop").await;
    let shop = selector("shop");
    let none = selector("nobody");
    let hour = "leftFrom=now-1h&leftUntil=now&rightFrom=now-1h&rightUntil=now";
    let table = [
        (format!("leftQuery={shop}&rightQuery={shop}&{hour}"), 200),
        (format!("leftQuery={shop}&rightQuery={shop}"), 200),
        (format!("leftQuery={shop}&rightQuery={none}&{hour}"), 200),
        (format!("leftQuery={none}&rightQuery={none}&{hour}"), 200),
        (
            format!("leftQuery={shop}&rightQuery={shop}&{hour}&max-nodes=0"),
            200,
        ),
        (
            format!("leftQuery={shop}&rightQuery={shop}&{hour}&max-nodes=x"),
            200,
        ),
        (
            format!("leftQuery={shop}&rightQuery={shop}&{hour}&maxNodes=2000000"),
            400,
        ),
        (format!("leftQuery={shop}&{hour}"), 400),
        (format!("rightQuery={shop}&{hour}"), 400),
        (hour.to_owned(), 400),
        (
            format!("leftQuery={shop}&rightQuery={MEMORY}%7B%7D&{hour}"),
            400,
        ),
        (format!("leftQuery=%7B%7D&rightQuery={shop}&{hour}"), 400),
        (
            format!("leftQuery={CPU}%7Ba%3D&rightQuery={shop}&{hour}"),
            400,
        ),
        (
            format!("leftQuery={shop}&rightQuery={shop}&leftFrom=0&rightFrom=now-1h"),
            400,
        ),
        (
            format!("leftQuery={shop}&rightQuery={shop}&leftFrom=now-1h&leftUntil=0"),
            400,
        ),
        (
            format!("leftQuery={shop}&rightQuery={shop}&rightFrom=now&rightUntil=now-1h"),
            400,
        ),
    ];
    for (query, expected) in table {
        let (status, body) = get(&server, &format!("/pyroscope/render-diff?{query}")).await;
        assert_eq!(status, expected, "{query}: {body}");
        if status == 400 {
            assert_eq!(body["code"], "invalid_argument", "{query}");
        } else {
            assert_eq!(body["metadata"]["format"], "double", "{query}");
            assert_eq!(body["flamebearer"]["names"][0], "total", "{query}");
            assert_eq!(body["timeline"], Value::Null, "{query}");
        }
    }

    let query = format!("leftQuery={shop}&rightQuery={none}&{hour}");
    let (_, body) = get(&server, &format!("/pyroscope/render-diff?{query}")).await;
    assert_eq!(body["leftTicks"], 30_000_000);
    assert_eq!(body["rightTicks"], 0);
    assert_eq!(body["flamebearer"]["numTicks"], 30_000_000);
    assert_eq!(
        body["flamebearer"]["levels"][0],
        json!([0, 30_000_000, 0, 0, 0, 0, 0])
    );
    server.stop().await;
}

#[tokio::test]
async fn label_values_are_an_array() {
    let server = Running::start(&[]).await;
    let (status, body) = get(&server, "/pyroscope/label-values?label=service_name").await;
    assert_eq!((status, body), (200, json!([])), "an empty store");
    for service in ["shop", "cart"] {
        server.push(service).await;
    }
    let table = [
        ("label=__name__", json!([CPU])),
        ("label=service_name", json!(["cart", "shop"])),
        (
            "label=service_name&from=now-1h&until=now",
            json!(["cart", "shop"]),
        ),
        ("label=service_name&from=now-3h&until=now-2h", json!([])),
        (
            "label=service_name&query=%7Bservice_name%3D~%22s.*%22%7D",
            json!(["shop"]),
        ),
        ("label=__profile_type__", json!([CPU])),
        ("label=nothing", json!([])),
    ];
    for (query, expected) in table {
        let answer = get(&server, &format!("/pyroscope/label-values?{query}")).await;
        assert_eq!(answer, (200, expected), "{query}");
    }
    for bad in [
        "",
        "label=",
        "label=a&query=%7Ba%3D",
        "label=a&from=now&until=now-1h",
    ] {
        let (status, body) = get(&server, &format!("/pyroscope/label-values?{bad}")).await;
        assert_eq!(status, 400, "{bad}");
        assert_eq!(body["code"], "invalid_argument", "{bad}");
    }
    server.stop().await;
}

#[tokio::test]
async fn all_routes_take_get_only_and_compress() {
    let server = Running::start(&[]).await;
    server.push("shop").await;
    let shop = selector("shop");
    let routes = [
        format!("/pyroscope/render?query={shop}&from=now-1h"),
        format!("/pyroscope/render-diff?leftQuery={shop}&rightQuery={shop}"),
        "/pyroscope/label-values?label=service_name".to_owned(),
    ];
    for route in &routes {
        let refused = server.post(route).send().await.unwrap();
        assert_eq!(refused.status(), 405, "{route}");
        assert_eq!(refused.headers()["allow"], "GET", "{route}");
    }
    let url = format!("{}{}", server.url, routes[0]);
    let plain = reqwest::Client::builder().no_gzip().build().unwrap();
    let zipped = plain.get(&url).header("accept-encoding", "gzip");
    let zipped = zipped.send().await.unwrap();
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
    let dot = server
        .get(&format!(
            "/pyroscope/render?query={}&from=now-1h&format=dot",
            selector("nobody")
        ))
        .await;
    assert_eq!(dot.status(), 200);
    assert_eq!(dot.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(dot.text().await.unwrap(), "", "no data, no graph");
    server.stop().await;
}
