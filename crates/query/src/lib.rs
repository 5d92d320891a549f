//! Scoria query.
