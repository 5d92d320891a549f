//! The distributor as its listeners use it, before an ingester that keeps what it is given.

mod corpus;
mod decoded;
mod ingest;
mod push;
mod support;
