//! Who belongs to the cluster, and which of them a series goes to.
//!
//! ```text
//! members ──► View (one version of the membership) ──► Ring (tokens, successor lists)
//!                                                        │
//!                tenant, service ──► k neighbours ◄──────┘
//!                series fingerprint ──► one of the k
//! ```
//!
//! A service's profiles go to few members, so that its symbols stay together; its series spread
//! over those few, so that a large service still has room.
//!
//! # Invariants
//! - Every key maps to a member that takes writes, as long as there is one.
//! - The placement follows from the members' names alone: two processes that know the same members
//!   place every series alike, whatever order they learned them in.
//! - A member that joins or goes moves about its own share of the keys and leaves the others.
//! - Successor lists are computed once for each version of the membership, never for a request.
//!
//! # What it must not know
//! Profiles, blocks, limits, and what a member does with what it gets.

pub mod member;
pub mod membership;
pub mod ring;

pub use member::{Member, MemberState, Zone};
pub use membership::{Membership, View};
pub use ring::{Place, Ring};
