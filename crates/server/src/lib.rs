//! The binary `scoria`.

pub mod config;
pub mod targets;
