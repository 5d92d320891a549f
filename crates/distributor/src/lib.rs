//! Scoria distributor.
