//! A server in the test's process, on a free port, with its objects in memory.

#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "shared by test programs that each use a part; a test fails by panicking"
)]

use std::path::Path;

use reqwest::{Client, RequestBuilder, Response};
use scoria_pprof::ProfileEncoder;
use scoria_pprof::encode::FunctionRow;
use scoria_server::config::{Config, Layers};
use scoria_server::serve::Server;

pub struct Running {
    pub url: String,
    pub http: Client,
    server: Server,
    _data: tempfile::TempDir,
}

/// The configuration of a test: defaults, a free port, a directory of its own, and what is set.
pub fn config(data: &Path, sets: &[&str]) -> Config {
    let mut all = vec![
        "server.listen=127.0.0.1:0".to_owned(),
        "storage.url=memory:".to_owned(),
        "memory.limit=1GiB".to_owned(),
        format!("storage.data_dir={}", data.display()),
    ];
    all.extend(sets.iter().map(|set| (*set).to_owned()));
    let layers = Layers {
        sets: all,
        ..Layers::default()
    };
    layers.load().unwrap()
}

impl Running {
    pub async fn start(sets: &[&str]) -> Self {
        // A second install is refused, and then the first one serves.
        drop(rustls::crypto::ring::default_provider().install_default());
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(config(data.path(), sets)).await.unwrap();
        Self {
            url: format!("http://{}", server.address()),
            http: Client::new(),
            server,
            _data: data,
        }
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.url))
    }

    pub async fn get(&self, path: &str) -> Response {
        let url = format!("{}{path}", self.url);
        self.http.get(url).send().await.unwrap()
    }

    /// A call of the query service in JSON: status and answer.
    pub async fn query(&self, method: &str, body: &str) -> (u16, serde_json::Value) {
        let path = format!("/querier.v1.QuerierService/{method}");
        let request = self.post(&path).header("content-type", "application/json");
        let answer = request.body(body.to_owned()).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// Pushes a profile of `service`, and expects success.
    pub async fn push(&self, service: &str) {
        let path = format!("/ingest?name={service}&format=pprof&spyName=gospy");
        let answer = self.post(&path).body(pprof()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }

    /// The listeners for OTLP alone: gRPC, then HTTP.
    pub fn otlp_urls(&self) -> Vec<String> {
        let addresses = self.server.otlp_addresses().iter();
        addresses
            .map(|address| format!("http://{address}"))
            .collect()
    }

    pub async fn stop(self) {
        self.server.stop().await;
    }
}

pub fn now_ns() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

/// Two stacks, root first: `main;work` 20 ms and `main` 10 ms, dated now.
pub fn pprof() -> Vec<u8> {
    let mut profile = ProfileEncoder::new();
    profile.sample_type("cpu", "nanoseconds");
    profile.period("cpu", "nanoseconds", 10_000_000);
    profile.time(now_ns(), 10_000_000_000);
    let locations: Vec<u64> = ["main", "work"]
        .iter()
        .map(|name| {
            let function = profile.function(&FunctionRow {
                name,
                ..FunctionRow::default()
            });
            profile.location(0, 0, &[(function, 1)])
        })
        .collect();
    profile.sample([locations[1], locations[0]], &[20_000_000], &[]);
    profile.sample([locations[0]], &[10_000_000], &[]);
    profile.finish()
}
