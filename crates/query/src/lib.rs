//! Scoria query.
pub mod request;
pub mod scan;
pub mod selector;
