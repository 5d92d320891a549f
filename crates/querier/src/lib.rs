//! Scoria querier.
