//! Clients: they send requests to their node, and send them again under the same keys when the
//! answer is an error or does not come.

use scoria_storage::testing::Seeded;

use super::profiles::PartId;

/// A request as its client sees it.
#[derive(Debug, Clone)]
pub struct Request {
    pub node: usize,
    pub parts: Vec<PartId>,
    pub attempts: u32,
    pub state: RequestState,
}

/// What a client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestState {
    /// Not sent, or to be sent again.
    Waiting,
    Sent,
    Acknowledged,
    /// The client lost patience: the profiles are there once or not at all.
    GivenUp,
}

/// What is known of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knowledge {
    pub node: usize,
    /// Whether any ingester has been handed it.
    pub sent: Sent,
    pub acknowledged: Acknowledged,
}

/// Whether a profile was ever sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Never,
    Once,
}

/// Whether an ingester has said that a profile is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    No,
    Yes,
}

/// All requests and profiles of a run.
#[derive(Debug)]
pub struct Clients {
    pub requests: Vec<Request>,
    pub parts: Vec<Knowledge>,
    seeded: Seeded,
}

impl Clients {
    pub fn new(seeded: Seeded) -> Self {
        Self {
            requests: Vec::new(),
            parts: Vec::new(),
            seeded,
        }
    }

    /// A request of one to three profiles.
    pub fn add_request(&mut self, node: usize) -> usize {
        let n_parts = 1 + self.seeded.below(3);
        let parts = (0..n_parts).map(|_| self.add_part(node)).collect();
        self.requests.push(Request {
            node,
            parts,
            attempts: 0,
            state: RequestState::Waiting,
        });
        self.requests.len() - 1
    }

    fn add_part(&mut self, node: usize) -> PartId {
        self.parts.push(Knowledge {
            node,
            sent: Sent::Never,
            acknowledged: Acknowledged::No,
        });
        PartId(self.parts.len() as u32 - 1)
    }

    /// Marks a request as sent; its profiles. A resend may carry a new profile along, and may not
    /// repeat all of the old ones' order.
    pub fn send(&mut self, request: usize) -> Vec<PartId> {
        let node = self.requests[request].node;
        if self.requests[request].attempts > 0 {
            if self.seeded.chance(150) {
                let part = self.add_part(node);
                self.requests[request].parts.push(part);
            }
            if self.seeded.chance(200) {
                self.requests[request].parts.reverse();
            }
        }
        let sent = &mut self.requests[request];
        sent.attempts += 1;
        sent.state = RequestState::Sent;
        for part in &sent.parts {
            self.parts[part.0 as usize].sent = Sent::Once;
        }
        sent.parts.clone()
    }

    /// A node said that these are stored, whether or not the client heard it.
    pub fn stored(&mut self, parts: &[PartId]) {
        for part in parts {
            self.parts[part.0 as usize].acknowledged = Acknowledged::Yes;
        }
    }

    /// Whether the client, which heard of a failure, tries again.
    pub fn tries_again(&mut self, request: usize) -> TriesAgain {
        let patience = 2 + self.seeded.below(40) as u32;
        let request = &mut self.requests[request];
        if request.attempts > patience {
            request.state = RequestState::GivenUp;
            return TriesAgain::No;
        }
        request.state = RequestState::Waiting;
        TriesAgain::Yes
    }

    /// Whether every request has ended.
    pub fn are_settled(&self) -> bool {
        let ended = |state| matches!(state, RequestState::Acknowledged | RequestState::GivenUp);
        self.requests.iter().all(|request| ended(request.state))
    }
}

/// What a client does after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriesAgain {
    Yes,
    No,
}
