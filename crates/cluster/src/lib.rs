//! Scoria cluster.
