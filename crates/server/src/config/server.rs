//! Section `server`: which roles run here and where they listen.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::Span;
use crate::targets::Targets;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerConfig {
    /// The roles that this process runs: `all`, or a list such as `distributor,querier`.
    pub target: Targets,
    /// Address of the public listener. It serves everything: writes, queries, the page, metrics.
    /// Port 0 takes a free one and logs it.
    pub listen: SocketAddr,
    /// How long a stop waits for requests under way before it drops them.
    pub drain_timeout: Span,
    /// How long a client may take to send the head of a request.
    pub header_timeout: Span,
    /// How long a client may take to send the body of a request. Executables take as long as a
    /// request may.
    pub read_timeout: Span,
    /// How long a request may take before it is answered with a deadline error.
    pub request_timeout: Span,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            target: Targets::all(),
            listen: SocketAddr::from(([127, 0, 0, 1], 4040)),
            drain_timeout: Span(Duration::from_secs(30)),
            header_timeout: Span(Duration::from_secs(30)),
            read_timeout: Span(Duration::from_secs(30)),
            request_timeout: Span(Duration::from_secs(120)),
        }
    }
}
