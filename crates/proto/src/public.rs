//! The public messages and services, as modules named after their packages, such as `push::v1`,
//! `querier::v1` and `types::v1`.

#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    rustdoc::all,
    unreachable_pub,
    missing_debug_implementations,
    reason = "generated code, checked against its source by tests/generated.rs"
)]

include!("gen/public.rs");
