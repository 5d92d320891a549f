//! What the tests of the whole share: the built binary as a process and profiles written by hand.
//!
//! Tests of one crate lie in that crate. Here are the ones that need several: the crate graph, the
//! seeded simulation, the binary under kill and caps, real clients, and what Grafana asks.

pub mod connect;
pub mod frames;
pub mod pprof_bytes;
pub mod process;
pub mod sim;
