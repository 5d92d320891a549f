//! Section `store`: how the object store that `storage.url` names is reached. It matters for
//! `s3://`, `gs://` and `az://`.

use std::path::PathBuf;
use std::time::Duration;

use scoria_storage::{
    Addressing, ClientSettings, Credentials, HedgePolicy, RequestPolicy, Secret as StoreSecret,
};
use serde::{Deserialize, Serialize};

use super::secret::Secret;
use super::units::{ByteSize, Span};

/// How the bucket's name gets into the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreAddressing {
    #[default]
    Auto,
    Path,
    VirtualHost,
}

/// Whom the store takes the process for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreCredentials {
    #[default]
    Environment,
    Static,
    GoogleKeyFile,
    Anonymous,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreConfig {
    /// Address of the service, such as `https://minio.example:9000`; empty takes the provider's
    /// own. With `http://` it is spoken to without TLS.
    pub endpoint: String,
    /// Region of the bucket; empty takes `AWS_REGION`, else `us-east-1`.
    pub region: String,
    /// Where the bucket's name goes: `virtual-host` into the host, `path` into the path, `auto`
    /// into the host on AWS and into the path at any other endpoint.
    pub addressing: StoreAddressing,
    /// `environment`: what the platform offers, first found of its own variables (`AWS_*`,
    /// `GOOGLE_*`, `AZURE_*`), a web identity's token, the container's or the instance's role.
    /// `static`: the keys below. `google-key-file`: the file below. `anonymous`: unsigned.
    pub credentials: StoreCredentials,
    /// Access key id for `static`; for Azure the account.
    pub access_key_id: String,
    /// Secret access key for `static`; for Azure the account's key. Never shown.
    pub secret_access_key: Secret,
    /// Session token that belongs to a short-lived key pair; empty for none. Never shown.
    pub session_token: Secret,
    /// Key file of a Google service account, for `google-key-file`.
    pub google_key_file: PathBuf,
    /// Storage account on Azure; empty takes `AZURE_STORAGE_ACCOUNT_NAME`.
    pub azure_account: String,
    /// PEM file with certificates that are trusted beside the system's; empty for none.
    pub ca_file: PathBuf,
    /// Time to connect, TLS included.
    pub connect_timeout: Span,
    /// Time for one request until its answer begins; a body has the time on top that it takes at
    /// `min_throughput`.
    pub request_timeout: Span,
    /// Slowest transfer of a body that is waited for, per second.
    pub min_throughput: ByteSize,
    /// Most tries of one request that may succeed later, the first one included. Waits between
    /// them double from 100 ms up to 3 s and are drawn between half of that and all of it.
    pub attempts: u32,
    /// Time after which a request is not tried again.
    pub retry_for: Span,
    /// Most requests under way at the same time; queries get three quarters of them.
    pub max_requests: u32,
    /// Most requests begun in a second; 0 for no limit.
    pub requests_per_second: u32,
    /// A read of a query that takes longer than this, and longer than 95 of 100 lately, is sent a
    /// second time beside the first; 0 switches that off.
    pub hedge_after: Span,
    /// Most second reads in a thousand reads.
    pub hedge_per_mille: u32,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let policy = RequestPolicy::remote();
        Self {
            endpoint: String::new(),
            region: String::new(),
            addressing: StoreAddressing::Auto,
            credentials: StoreCredentials::Environment,
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            session_token: Secret::default(),
            google_key_file: PathBuf::new(),
            azure_account: String::new(),
            ca_file: PathBuf::new(),
            connect_timeout: Span(Duration::from_secs(5)),
            request_timeout: Span(policy.timeout),
            min_throughput: ByteSize(policy.bytes_per_second_min),
            attempts: policy.attempts,
            retry_for: Span(policy.retry_for),
            max_requests: policy.requests_max as u32,
            requests_per_second: policy.requests_per_second,
            hedge_after: Span(Duration::from_millis(200)),
            hedge_per_mille: 50,
        }
    }
}

/// Why the section cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreConfigError {
    #[error("store.credentials is static, but {0} is empty")]
    NoKey(&'static str),
    #[error(
        "{0} is set, but store.credentials is not static; set store.credentials=static to use it"
    )]
    UnusedKey(&'static str),
    #[error("store.credentials is google-key-file, but store.google_key_file is empty")]
    NoKeyFile,
    #[error("store.ca_file {path}: {source}", path = path.display())]
    CaFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{0} must not be 0")]
    Zero(&'static str),
}

impl StoreConfig {
    /// What the store's client needs. Reads the file of certificates.
    ///
    /// # Errors
    /// Settings that contradict each other, and a file that cannot be read.
    pub fn client(&self) -> Result<ClientSettings, StoreConfigError> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let ca_pem =
            match self.ca_file.as_os_str().is_empty() {
                true => None,
                false => Some(std::fs::read(&self.ca_file).map_err(|source| {
                    StoreConfigError::CaFile {
                        path: self.ca_file.clone(),
                        source,
                    }
                })?),
            };
        Ok(ClientSettings {
            endpoint: given(&self.endpoint),
            region: given(&self.region),
            addressing: match self.addressing {
                StoreAddressing::Auto => Addressing::Auto,
                StoreAddressing::Path => Addressing::Path,
                StoreAddressing::VirtualHost => Addressing::VirtualHost,
            },
            credentials: self.credentials()?,
            azure_account: given(&self.azure_account),
            ca_pem,
            connect_timeout: self.connect_timeout.0,
        })
    }

    fn credentials(&self) -> Result<Credentials, StoreConfigError> {
        let keys = [
            ("store.access_key_id", self.access_key_id.is_empty()),
            ("store.secret_access_key", self.secret_access_key.is_empty()),
        ];
        if self.credentials == StoreCredentials::Static {
            if let Some((name, _)) = keys.iter().find(|(_, empty)| *empty) {
                return Err(StoreConfigError::NoKey(name));
            }
        } else if let Some((name, _)) = keys.iter().find(|(_, empty)| !empty) {
            return Err(StoreConfigError::UnusedKey(name));
        }
        Ok(match self.credentials {
            StoreCredentials::Environment => Credentials::Environment,
            StoreCredentials::Anonymous => Credentials::Anonymous,
            StoreCredentials::Static => Credentials::Static {
                access_key_id: self.access_key_id.clone(),
                secret_access_key: StoreSecret(self.secret_access_key.reveal().to_owned()),
                session_token: StoreSecret(self.session_token.reveal().to_owned()),
            },
            StoreCredentials::GoogleKeyFile if self.google_key_file.as_os_str().is_empty() => {
                return Err(StoreConfigError::NoKeyFile);
            }
            StoreCredentials::GoogleKeyFile => {
                Credentials::GoogleKeyFile(self.google_key_file.display().to_string())
            }
        })
    }

    /// How requests to a remote store are sent.
    ///
    /// # Errors
    /// A limit of 0 with which nothing could be sent.
    pub fn policy(&self) -> Result<RequestPolicy, StoreConfigError> {
        let never_zero = [
            ("store.attempts", self.attempts == 0),
            ("store.max_requests", self.max_requests == 0),
            ("store.request_timeout", self.request_timeout.0.is_zero()),
            ("store.min_throughput", self.min_throughput.0 == 0),
        ];
        if let Some((name, _)) = never_zero.iter().find(|(_, zero)| *zero) {
            return Err(StoreConfigError::Zero(name));
        }
        let hedge = !self.hedge_after.0.is_zero() && self.hedge_per_mille > 0;
        Ok(RequestPolicy {
            attempts: self.attempts,
            retry_for: self.retry_for.0,
            timeout: self.request_timeout.0,
            bytes_per_second_min: self.min_throughput.0,
            requests_max: self.max_requests as usize,
            requests_per_second: self.requests_per_second,
            hedge: hedge.then_some(HedgePolicy {
                after_min: self.hedge_after.0,
                share_per_mille: self.hedge_per_mille.min(1000),
            }),
            ..RequestPolicy::remote()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_used_or_refused_by_name() {
        let mut config = StoreConfig {
            secret_access_key: Secret::new("x"),
            ..StoreConfig::default()
        };
        let error = config.client().unwrap_err().to_string();
        assert!(error.contains("store.credentials=static"), "{error}");
        config.credentials = StoreCredentials::Static;
        let error = config.client().unwrap_err().to_string();
        assert!(error.contains("store.access_key_id"), "{error}");
        config.access_key_id = "id".into();
        config.client().unwrap();
        config.ca_file = "/nowhere/ca.pem".into();
        let error = config.client().unwrap_err().to_string();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn limits_of_zero_are_refused() {
        let config = StoreConfig {
            attempts: 0,
            ..StoreConfig::default()
        };
        let error = config.policy().unwrap_err().to_string();
        assert!(error.contains("store.attempts"), "{error}");
        assert_eq!(
            StoreConfig::default().policy().unwrap(),
            RequestPolicy::remote()
        );
    }
}
