//! Scoria pprof.
