//! Tests of the crate from outside: what goes in as bytes and comes out as a part, and back.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod corpus;
mod encode;
mod formats;
mod ingest;
mod jfr;
mod jfr_corpus;
mod jfr_jvm;
mod jfr_writer;
mod malformed;
mod normalise;
mod policy;
mod round_trip;
mod support;
