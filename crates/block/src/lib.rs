//! Scoria block.
