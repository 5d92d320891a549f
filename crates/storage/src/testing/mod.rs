//! An object store with faults and a clock that stands still, for tests.
