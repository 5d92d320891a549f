//! What both benchmarks ask of a server over HTTP.

use std::collections::HashMap;

use anyhow::{Context, bail};

/// A server under measurement.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    tenant: Option<String>,
}

/// Sums of the server's own metrics, by name over all labels.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics(HashMap<String, f64>);

impl Metrics {
    /// The sum of a metric, 0 where the server has none of that name.
    pub(super) fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// How much a counter grew since `before`.
    pub(super) fn since(&self, before: &Self, name: &str) -> f64 {
        self.get(name) - before.get(name)
    }
}

impl Client {
    pub(super) fn new(url: &str, tenant: Option<&str>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .build()
            .context("building the HTTP client")?;
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            tenant: tenant.map(str::to_owned),
        })
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.post(format!("{}{path}", self.url));
        match &self.tenant {
            Some(tenant) => request.header("X-Scope-OrgID", tenant),
            None => request,
        }
    }

    /// Sends one encoded push.v1 request and waits for its 200.
    pub(super) async fn push(&self, body: bytes::Bytes) -> anyhow::Result<()> {
        let request = self.post("/push.v1.PusherService/Push");
        self.send(request.header("Content-Type", "application/proto"), body)
            .await
    }

    /// Sends one gzipped export of OTLP profiles and waits for its 200.
    pub(super) async fn export(&self, body: bytes::Bytes) -> anyhow::Result<()> {
        let request = self.post("/v1development/profiles");
        let request = request.header("Content-Type", "application/x-protobuf");
        self.send(request.header("Content-Encoding", "gzip"), body)
            .await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        body: bytes::Bytes,
    ) -> anyhow::Result<()> {
        let reply = request
            .body(body)
            .send()
            .await
            .with_context(|| format!("pushing to {}", self.url))?;
        let status = reply.status();
        if !status.is_success() {
            bail!(
                "the server answered {status}: {}",
                reply.text().await.unwrap_or_default()
            );
        }
        Ok(())
    }

    /// A Connect JSON call of the query service.
    pub(super) async fn query(
        &self,
        method: &str,
        request: &serde_json::Value,
    ) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_slice(
            &self.answer(method, request).await?,
        )?)
    }

    /// As [`query`](Self::query), the answer as it came: reading it would take the machine from
    /// the server.
    pub(super) async fn answer(
        &self,
        method: &str,
        request: &serde_json::Value,
    ) -> anyhow::Result<bytes::Bytes> {
        let path = format!("/querier.v1.QuerierService/{method}");
        let reply = self.post(&path).json(request).send().await.context(path)?;
        let status = reply.status();
        let body = reply.bytes().await?;
        if !status.is_success() {
            bail!(
                "{method} was answered {status}: {}",
                String::from_utf8_lossy(&body)
            );
        }
        Ok(body)
    }

    pub(super) async fn metrics(&self) -> anyhow::Result<Metrics> {
        let url = format!("{}/metrics", self.url);
        let text = self
            .http
            .get(&url)
            .send()
            .await
            .with_context(|| url.clone())?
            .text()
            .await?;
        let mut sums = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let name = series.split('{').next().unwrap_or(series);
            *sums.entry(name.to_owned()).or_insert(0.0) += value.parse::<f64>().unwrap_or(0.0);
        }
        Ok(Metrics(sums))
    }
}
