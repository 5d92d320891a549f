//! A process of the cluster as the others see it.
//!
//! # Invariants
//! - A member is known by its [`NodeId`]; two members never share one.
//!
//! # What it must not know
//! How the state of a member is learned.

use std::fmt;
use std::sync::Arc;

use scoria_model::NodeId;

/// A failure domain: members of one zone may go down together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Zone(pub Arc<str>);

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a member can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberState {
    /// Starting: it replays what it has and answers nothing yet.
    Joining,
    /// Takes writes and answers queries.
    Active,
    /// Going down: it still answers for what it holds and takes nothing new.
    Leaving,
    /// Not heard of for too long.
    Lost,
}

impl MemberState {
    pub const fn takes_writes(self) -> bool {
        matches!(self, Self::Active)
    }

    pub const fn answers_queries(self) -> bool {
        matches!(self, Self::Active | Self::Leaving)
    }
}

/// One process that keeps recent data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub node: NodeId,
    pub zone: Zone,
    pub state: MemberState,
}
