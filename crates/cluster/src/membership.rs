//! Who belongs to the cluster now.
//!
//! # Invariants
//! - A [`View`] never changes; what follows from it (the ring) is computed when it is made.
//! - A reader that holds a view keeps a consistent picture however long it works.
//!
//! # What it must not know
//! What the members are asked for.

use std::sync::Arc;

use scoria_model::NodeId;

use crate::{Member, Ring};

/// One version of the membership.
#[derive(Debug)]
pub struct View {
    version: u64,
    members: Vec<Member>,
    ring: Ring,
}

impl View {
    /// `version` grows with every change of the members.
    pub fn new(version: u64, members: Vec<Member>) -> Self {
        let ring = Ring::new(
            members
                .iter()
                .filter(|member| member.state.takes_writes())
                .map(|member| member.node.clone()),
        );
        Self {
            version,
            members,
            ring,
        }
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// Everyone known, whatever their state.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn member(&self, node: &NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == *node)
    }

    /// The members that a query must ask.
    pub fn answering(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| member.state.answers_queries())
    }

    /// The ring of the members that take writes.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }
}

/// A handle on the current view; cheap to clone.
#[derive(Debug, Clone)]
pub struct Membership {
    view: Arc<View>,
}

impl Membership {
    /// A membership that never changes: the cluster of one process, or of a list in the
    /// configuration.
    pub fn fixed(members: Vec<Member>) -> Self {
        Self {
            view: Arc::new(View::new(1, members)),
        }
    }

    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemberState, Place, Zone};

    fn member(name: &str, state: MemberState) -> Member {
        Member {
            node: NodeId(Arc::from(name)),
            zone: Zone(Arc::from("a")),
            state,
        }
    }

    #[test]
    fn one_node_takes_everything() {
        let membership = Membership::fixed(vec![member("solo", MemberState::Active)]);
        let view = membership.view();
        for fingerprint in 0..100 {
            let place = Place::of_service("tenant", "service");
            let target = view.ring().target(place, fingerprint, 1).unwrap();
            assert_eq!(&*target.0, "solo");
        }
    }

    #[test]
    fn a_leaving_member_answers_and_takes_nothing() {
        let view = View::new(
            7,
            vec![
                member("joining", MemberState::Joining),
                member("active", MemberState::Active),
                member("leaving", MemberState::Leaving),
                member("lost", MemberState::Lost),
            ],
        );
        let answering: Vec<&str> = view.answering().map(|m| &*m.node.0).collect();
        assert_eq!(answering, ["active", "leaving"]);
        let place = Place::of_service("t", "s");
        assert_eq!(view.ring().neighbours(place, 9).count(), 1);
        assert_eq!(view.version(), 7);
        let lost = view.member(&NodeId(Arc::from("lost"))).unwrap();
        assert_eq!(lost.state, MemberState::Lost);
    }

    #[test]
    fn without_a_member_there_is_no_target() {
        let view = View::new(1, Vec::new());
        assert_eq!(view.ring().target(Place::of_service("t", "s"), 1, 3), None);
    }
}
