//! Scoria symbols.
