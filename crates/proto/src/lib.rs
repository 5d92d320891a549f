//! Scoria proto.
