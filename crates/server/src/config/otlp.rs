//! Section `otlp`: the ports that OTLP exporters expect, beside the public listener.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OtlpConfig {
    /// Address of a listener for OTLP over gRPC, by custom on port 4317. None by default: the
    /// public listener takes OTLP too.
    pub grpc_listen: Option<SocketAddr>,
    /// Address of a listener for OTLP over HTTP, by custom on port 4318. None by default: the
    /// public listener takes OTLP too.
    pub http_listen: Option<SocketAddr>,
}
