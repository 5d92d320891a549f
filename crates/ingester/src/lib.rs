//! Scoria ingester.
