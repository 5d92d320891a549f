//! The clients of remote object stores: from settings to a store that speaks S3, Google Cloud
//! Storage or Azure Blob Storage.
//!
//! # Invariants
//! - A client here does one attempt per call and waits without a limit: retries, time limits and
//!   counting are those of [`crate::guarded`], the same for every store.
//! - A secret is shown by neither `Debug` nor an error.
//!
//! # What it must not know
//! Where the settings come from. Only the platform's own variables (`AWS_*`, `GOOGLE_*`,
//! `AZURE_*`) are read here, and only when [`Credentials::Environment`] says so.

mod refusal;

use std::fmt;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};

use crate::store_client::StoreClient;

pub use refusal::Refusal;

/// A text that opens a door.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

/// Whom the store takes us for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// What the platform offers, first found: its own variables, a web identity's token, the
    /// container's or the instance's role.
    #[default]
    Environment,
    /// A key pair; `session_token` is empty for long-lived ones. For Azure the account and its
    /// key.
    Static {
        access_key_id: String,
        secret_access_key: Secret,
        session_token: Secret,
    },
    /// The key file of a Google service account.
    GoogleKeyFile(String),
    /// Requests are not signed.
    Anonymous,
}

/// How the bucket's name gets into the address of an S3 request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addressing {
    /// In the host name on AWS, in the path at any other endpoint and for names with dots.
    #[default]
    Auto,
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    VirtualHost,
}

/// What a client of a remote store needs to know beside the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// Address of the service; `None` takes the provider's own. One that starts with `http://` is
    /// spoken to without TLS.
    pub endpoint: Option<String>,
    /// `None` takes `AWS_REGION`, else us-east-1.
    pub region: Option<String>,
    pub addressing: Addressing,
    pub credentials: Credentials,
    /// Azure's storage account; `None` takes the platform's variable.
    pub azure_account: Option<String>,
    /// Certificates in PEM that are trusted beside the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// For the connection alone, TLS included.
    pub connect_timeout: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            addressing: Addressing::Auto,
            credentials: Credentials::Environment,
            azure_account: None,
            ca_pem: None,
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// Which service a remote store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    S3,
    Google,
    Azure,
}

impl Service {
    /// The scheme of its URLs.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }
}

/// A bucket (Azure: a container) and the folder in it under which everything lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    pub service: Service,
    pub name: String,
    /// Without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.service.scheme(), self.name)?;
        match self.prefix.is_empty() {
            true => Ok(()),
            false => write!(f, "/{}", self.prefix),
        }
    }
}

/// A client for `bucket`. Nothing is sent yet.
///
/// # Errors
/// Settings that contradict each other, or a certificate that is none.
pub fn client(
    bucket: &Bucket,
    settings: &ClientSettings,
) -> Result<StoreClient, object_store::Error> {
    provide_tls();
    Ok(match bucket.service {
        Service::S3 => StoreClient::under(&bucket.prefix, s3(bucket, settings)?),
        Service::Google => StoreClient::under(&bucket.prefix, google(bucket, settings)?),
        Service::Azure => StoreClient::under(&bucket.prefix, azure(bucket, settings)?),
    })
}

/// The process's TLS implementation, unless it has chosen one.
fn provide_tls() {
    // Refused when there is one, and then that one serves.
    drop(rustls::crypto::ring::default_provider().install_default());
}

fn s3(bucket: &Bucket, settings: &ClientSettings) -> Result<AmazonS3, object_store::Error> {
    let mut builder = match settings.credentials {
        Credentials::Environment => AmazonS3Builder::from_env(),
        _ => AmazonS3Builder::new(),
    };
    builder = builder
        .with_bucket_name(&bucket.name)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_http_connector(refusal::Connector::default())
        .with_retry(one_attempt());
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    match &settings.credentials {
        Credentials::Static {
            access_key_id,
            secret_access_key,
            session_token,
        } => {
            builder = builder
                .with_access_key_id(access_key_id)
                .with_secret_access_key(&secret_access_key.0);
            if !session_token.0.is_empty() {
                builder = builder.with_token(&session_token.0);
            }
        }
        Credentials::Anonymous => builder = builder.with_skip_signature(true),
        Credentials::Environment | Credentials::GoogleKeyFile(_) => {}
    }
    let endpoint = settings.endpoint.clone().or_else(|| {
        builder
            .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
            .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint))
    });
    let by_host = match settings.addressing {
        Addressing::VirtualHost => true,
        Addressing::Path => false,
        // A name with dots matches no wildcard certificate.
        Addressing::Auto => endpoint.is_none() && !bucket.name.contains('.'),
    };
    let plain = endpoint.as_deref().is_some_and(is_plain);
    builder = builder.with_virtual_hosted_style_request(by_host);
    if let Some(endpoint) = endpoint {
        let endpoint = match by_host {
            true => in_host(&endpoint, &bucket.name),
            false => endpoint,
        };
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    let options = client_options(settings)?.with_allow_http(plain);
    builder.with_client_options(options).build()
}

fn google(
    bucket: &Bucket,
    settings: &ClientSettings,
) -> Result<GoogleCloudStorage, object_store::Error> {
    let mut builder = match settings.credentials {
        Credentials::Environment => GoogleCloudStorageBuilder::from_env(),
        _ => GoogleCloudStorageBuilder::new(),
    };
    builder = builder
        .with_bucket_name(&bucket.name)
        .with_http_connector(refusal::Connector::default())
        .with_retry(one_attempt());
    match &settings.credentials {
        Credentials::GoogleKeyFile(path) => builder = builder.with_service_account_path(path),
        Credentials::Anonymous => builder = builder.with_skip_signature(true),
        Credentials::Environment | Credentials::Static { .. } => {}
    }
    let mut options = client_options(settings)?;
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_base_url(endpoint);
        options = options.with_allow_http(is_plain(endpoint));
    }
    builder.with_client_options(options).build()
}

fn azure(
    bucket: &Bucket,
    settings: &ClientSettings,
) -> Result<MicrosoftAzure, object_store::Error> {
    let mut builder = match settings.credentials {
        Credentials::Environment => MicrosoftAzureBuilder::from_env(),
        _ => MicrosoftAzureBuilder::new(),
    };
    builder = builder
        .with_container_name(&bucket.name)
        .with_http_connector(refusal::Connector::default())
        .with_retry(one_attempt());
    if let Some(account) = &settings.azure_account {
        builder = builder.with_account(account);
    }
    match &settings.credentials {
        Credentials::Static {
            access_key_id,
            secret_access_key,
            ..
        } => {
            if settings.azure_account.is_none() {
                builder = builder.with_account(access_key_id);
            }
            builder = builder.with_access_key(&secret_access_key.0);
        }
        Credentials::Anonymous => builder = builder.with_skip_signature(true),
        Credentials::Environment | Credentials::GoogleKeyFile(_) => {}
    }
    let mut options = client_options(settings)?;
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
        options = options.with_allow_http(is_plain(endpoint));
    }
    builder.with_client_options(options).build()
}

fn client_options(settings: &ClientSettings) -> Result<ClientOptions, object_store::Error> {
    let mut options = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(settings.connect_timeout);
    if let Some(pem) = &settings.ca_pem {
        for certificate in Certificate::from_pem_bundle(pem)? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

/// What the guard around the client does better must not happen twice.
fn one_attempt() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 0,
        retry_timeout: Duration::ZERO,
    }
}

fn is_plain(endpoint: &str) -> bool {
    endpoint
        .get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
}

/// `https://host` as `https://bucket.host`, unless the name is there already.
fn in_host(endpoint: &str, bucket: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.split_once("://") {
        Some((scheme, host)) if !host.starts_with(&format!("{bucket}.")) => {
            format!("{scheme}://{bucket}.{host}")
        }
        _ => endpoint.to_owned(),
    }
}

#[cfg(test)]
mod tests;
