//! The binary `scoria`: configuration, listeners, routes, the roles put together, and the verbs of
//! the command line.
//!
//! ```text
//! cli ─► config ─► serve ─┬─► listener ─► http (edge ─► routes) ─┐
//!                         └─► roles ◄─────────────────────────────┘
//! ```
//!
//! # Invariants
//! - Nothing depends on this crate, and nothing but [`config`] reads the environment for a setting.
//! - Every route passes the same edge: method, tenant, memory, body, metric.
//! - Roles meet through their `proto` clients, also inside one process.
//!
//! # What it must not know
//! Anything inside a role.

mod bench;
pub mod cli;
mod client;
pub mod config;
pub mod http;
mod listener;
pub mod memory;
mod object_store;
mod query_runtime;
pub mod readiness;
mod roles;
pub mod runtime_config;
mod self_profile;
pub mod serve;
pub mod targets;
mod telemetry;
mod ui;
mod usage;
