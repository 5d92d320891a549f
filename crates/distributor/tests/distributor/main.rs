//! The distributor as its listeners use it, before an ingester that keeps what it is given.

mod corpus;
mod corpus_otlp;
mod corpus_routes;
mod decoded;
mod formats;
mod ingest;
mod jfr;
mod otlp;
mod policy;
mod push;
mod support;
