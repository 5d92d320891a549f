//! Scoria compactor.
