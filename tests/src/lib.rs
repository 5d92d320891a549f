//! What the tests of the whole share: the built binary as a process and profiles written by hand.
//!
//! Tests of one crate lie in that crate. Here are the ones that need several: the crate graph, the
//! seeded simulation, the binary under kill and caps, real clients, what Grafana asks, and a real
//! S3 server with a proxy before it that spoils requests.

pub mod authority;
pub mod connect;
pub mod fault_proxy;
pub mod frames;
pub mod ledger;
pub mod otlp_bytes;
pub mod pprof_bytes;
pub mod process;
pub mod seaweed;
pub mod sim;
pub mod stuck;
