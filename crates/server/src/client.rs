//! A client of a Scoria server, for the verbs of the command line and for self-profiling: Connect
//! calls in protobuf over HTTP.

use std::time::Duration;

use anyhow::{Context, bail};
use buffa::Message;
use http::header::CONTENT_TYPE;
use scoria_proto::public::push::v1::{PushRequest, PushResponse, RawProfileSeries, RawSample};
use scoria_proto::public::types::v1::LabelPair;

/// Longest wait for a connection, and for an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Memory that the small elements of one answer may take: a flame graph has millions.
const ANSWER_ELEMENT_BYTES: usize = 1 << 30;

/// One profile to push.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) labels: Vec<(String, String)>,
    /// A pprof, plain or gzip.
    pub(crate) profile: Vec<u8>,
}

/// A server, by its URL.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    tenant: Option<String>,
}

impl Client {
    pub(crate) fn new(url: &str, tenant: Option<&str>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .build()
            .context("making an HTTP client")?;
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            tenant: tenant.map(str::to_owned),
        })
    }

    /// Pushes one profile.
    pub(crate) async fn push(&self, upload: Upload) -> anyhow::Result<()> {
        let labels = upload
            .labels
            .into_iter()
            .map(|(name, value)| LabelPair { name, value });
        let request = PushRequest {
            series: vec![RawProfileSeries {
                labels: labels.collect(),
                samples: vec![RawSample {
                    raw_profile: upload.profile,
                    ID: String::new(),
                }],
                ..Default::default()
            }],
        };
        let _: PushResponse = self.call("push.v1.PusherService/Push", &request).await?;
        Ok(())
    }

    /// A method of the query service.
    pub(crate) async fn query<Answer: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> anyhow::Result<Answer> {
        self.call(&format!("querier.v1.QuerierService/{method}"), request)
            .await
    }

    async fn call<Answer: Message + Default>(
        &self,
        path: &str,
        request: &impl Message,
    ) -> anyhow::Result<Answer> {
        let bytes = self.call_for_bytes(path, request).await?;
        buffa::DecodeOptions::new()
            .with_element_memory_limit(ANSWER_ELEMENT_BYTES)
            .decode_from_slice(&bytes)
            .context("the server's answer cannot be read")
    }

    /// As [`Client::query`], without decoding the answer.
    pub(crate) async fn query_bytes(
        &self,
        method: &str,
        request: &impl Message,
    ) -> anyhow::Result<bytes::Bytes> {
        let path = format!("querier.v1.QuerierService/{method}");
        self.call_for_bytes(&path, request).await
    }

    /// Posts without a body; the answer's bytes.
    pub(crate) async fn post(
        &self,
        path: &str,
        parameters: &[(&str, String)],
    ) -> anyhow::Result<bytes::Bytes> {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        self.send(self.http.post(format!("{}/{path}?{query}", self.url)))
            .await
    }

    async fn call_for_bytes(
        &self,
        path: &str,
        request: &impl Message,
    ) -> anyhow::Result<bytes::Bytes> {
        let url = format!("{}/{path}", self.url);
        let call = self
            .http
            .post(&url)
            .header(CONTENT_TYPE, "application/proto")
            .header("Accept", "*/*; allow-utf8-labelnames=true")
            .body(request.encode_to_vec());
        self.send(call).await
    }

    async fn send(&self, mut call: reqwest::RequestBuilder) -> anyhow::Result<bytes::Bytes> {
        if let Some(tenant) = &self.tenant {
            call = call.header("X-Scope-OrgID", tenant);
        }
        let answer = call
            .send()
            .await
            .with_context(|| format!("no answer from {}; is a server running there?", self.url))?;
        let status = answer.status();
        let bytes = answer.bytes().await.context("the answer broke off")?;
        if !status.is_success() {
            bail!("{}", refusal(status, &bytes));
        }
        Ok(bytes)
    }
}

/// What the server said about a request that it refused.
fn refusal(status: reqwest::StatusCode, body: &[u8]) -> String {
    let told: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = told.as_ref().and_then(|told| told.get("message")?.as_str());
    match message {
        Some(message) => message.to_owned(),
        None => format!("the server answered {status}"),
    }
}
