//! The hash ring: pure placement of keys on members.
//!
//! Each member stands on the ring with [`TOKENS_PER_MEMBER`] tokens. A service's place on the ring
//! is the hash of its tenant and name; the members met from there on, each once, are its
//! successors, and the first k of them its neighbours. Among the k a series goes to the one with
//! the highest weight for its fingerprint (rendezvous), so that a neighbour that comes or goes
//! moves only the series it wins or had.
//!
//! # Invariants
//! - The successors of any place are all members, each once.
//! - Nothing depends on the order in which the members were given.
//!
//! # What it must not know
//! States, zones, addresses, load.

use std::hash::{Hash, Hasher};

use hashring::HashRing;
use scoria_model::NodeId;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Enough that the shares of ten members differ by about a tenth.
pub const TOKENS_PER_MEMBER: u32 = 128;

/// Where a service stands on the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u64);

impl Place {
    pub fn of_service(tenant: &str, service: &str) -> Self {
        let mut key = Vec::with_capacity(tenant.len() + service.len() + 1);
        key.extend_from_slice(tenant.as_bytes());
        // No tenant id contains this byte, so no two pairs give the same key.
        key.push(0xff);
        key.extend_from_slice(service.as_bytes());
        Self(xxh3_64(&key))
    }
}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0.to_le_bytes());
    }
}

/// One of a member's places on the ring.
#[derive(Debug, Clone, Copy)]
struct Token {
    /// Hash of the member's name.
    member_hash: u64,
    /// Which of the member's tokens.
    nth: u32,
    /// Index into [`Ring::members`]; it takes no part in the token's hash, since it changes when
    /// other members come and go.
    member: u32,
}

impl Hash for Token {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.member_hash.to_le_bytes());
        state.write(&self.nth.to_le_bytes());
    }
}

/// The members and their tokens, with each token's successors worked out.
#[derive(Debug)]
pub struct Ring {
    /// Sorted, each once.
    members: Vec<NodeId>,
    member_hashes: Vec<u64>,
    /// With its default hasher, SipHash without a key: the same in every process.
    tokens: HashRing<Token>,
    /// `members.len()` member indexes for each token, at `member * TOKENS_PER_MEMBER + nth`.
    successors: Vec<u32>,
}

impl Ring {
    pub fn new(members: impl IntoIterator<Item = NodeId>) -> Self {
        let mut members: Vec<NodeId> = members.into_iter().collect();
        members.sort();
        members.dedup();
        let member_hashes: Vec<u64> = members
            .iter()
            .map(|node| xxh3_64(node.0.as_bytes()))
            .collect();

        let tokens = member_hashes
            .iter()
            .enumerate()
            .flat_map(|(member, &member_hash)| {
                (0..TOKENS_PER_MEMBER).map(move |nth| Token {
                    member_hash,
                    nth,
                    member: member as u32,
                })
            })
            .collect();
        let mut ring = HashRing::new();
        ring.batch_add(tokens);

        let order: Vec<Token> = ring.clone().into_iter().collect();
        Self {
            successors: successors(&order, members.len()),
            members,
            member_hashes,
            tokens: ring,
        }
    }

    /// All members, sorted by name.
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// The first `k` members from a place on; all of them if there are fewer.
    pub fn neighbours(&self, place: Place, k: usize) -> impl Iterator<Item = &NodeId> {
        self.successors_of(place)
            .iter()
            .take(k)
            .map(|&member| &self.members[member as usize])
    }

    /// The one of a service's `k` neighbours that the series goes to. `None` only if the ring is
    /// empty; a `k` of 0 counts as 1.
    pub fn target(&self, place: Place, fingerprint: u64, k: usize) -> Option<&NodeId> {
        let neighbours = self.successors_of(place).iter().take(k.max(1));
        let best = neighbours.max_by_key(|&&member| {
            let seed = self.member_hashes[member as usize];
            (xxh3_64_with_seed(&fingerprint.to_le_bytes(), seed), member)
        })?;
        Some(&self.members[*best as usize])
    }

    fn successors_of(&self, place: Place) -> &[u32] {
        let Some(token) = self.tokens.get(&place) else {
            return &[];
        };
        let row = token.member as usize * TOKENS_PER_MEMBER as usize + token.nth as usize;
        let n_members = self.members.len();
        &self.successors[row * n_members..(row + 1) * n_members]
    }
}

/// For each token, the members met from it on, each once. Walks the ring backwards, so that a
/// token's list is its own member in front of the list of the token behind it.
fn successors(order: &[Token], n_members: usize) -> Vec<u32> {
    let mut table = vec![0; order.len() * n_members];
    let mut recent: Vec<u32> = Vec::with_capacity(n_members);
    // Twice around: the first round finds out what follows the last token.
    for (step, token) in order.iter().rev().chain(order.iter().rev()).enumerate() {
        recent.retain(|&member| member != token.member);
        recent.insert(0, token.member);
        if step >= order.len() {
            let row = token.member as usize * TOKENS_PER_MEMBER as usize + token.nth as usize;
            table[row * n_members..(row + 1) * n_members].copy_from_slice(&recent);
        }
    }
    table
}

#[cfg(test)]
mod tests;
