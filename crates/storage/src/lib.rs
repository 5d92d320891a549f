//! Scoria storage.
