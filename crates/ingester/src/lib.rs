//! Scoria ingester.

pub mod record;
