//! The service by which a distributor and a querier speak to an ingester.
//!
//! [`client`] and [`server`] set the message limits that both ends must agree on; make the client
//! and the server through them and nowhere else.

use crate::Connection;

#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unreachable_pub,
    missing_debug_implementations,
    reason = "generated code, checked against its source by tests/generated.rs"
)]
mod generated {
    include!("gen/scoria.ingester.v1.rs");
}

pub use generated::ingester_client::IngesterClient;
pub use generated::ingester_server::{Ingester, IngesterServer};
pub use generated::{
    Outcome, Pin, PushRequest, PushResponse, SelectRequest, SelectResponse, SelectStats, SpanStats,
    StreamCommitted, StreamTail,
};

/// Largest message either way: the largest request body that a tenant may be allowed to send,
/// decoded and in columns, with room to spare.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// A client that takes messages up to [`MESSAGE_BYTES_MAX`]. Cloning it is cheap, and the clones
/// share one connection.
pub fn client(connection: impl Into<Connection>) -> IngesterClient<Connection> {
    IngesterClient::new(connection.into())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A server that takes messages up to [`MESSAGE_BYTES_MAX`].
pub fn server<S: Ingester>(service: S) -> IngesterServer<S> {
    IngesterServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}
