//! What must hold, checked from outside: the checker folds the log itself and counts profiles.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use scoria_model::{BlockId, CatalogueVersion};
use scoria_storage::CatalogueState;
use scoria_storage::catalogue::Entry;
use scoria_storage::catalogue::committer::fold;

use super::blocks;
use super::bucket::Bucket;
use super::clients::{Acknowledged, Knowledge, Sent};
use super::profiles::{PartId, Stored};

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's name.
    pub rule: &'static str,
    pub what: String,
    /// Virtual time.
    pub at: Duration,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.as_secs_f64();
        write!(f, "{} does not hold at {at:.4}s: {}", self.rule, self.what)
    }
}

/// A rule and what broke it; the world adds the time.
pub type Broken = (&'static str, String);

/// Every version of the catalogue, from the log's own bytes.
#[derive(Debug, Default)]
pub struct Checker {
    /// By number, the newest apart.
    older: Vec<Arc<CatalogueState>>,
    newest: Arc<CatalogueState>,
    /// Nonce and version of every entry.
    nonces: BTreeMap<u128, CatalogueVersion>,
    blocks: BTreeMap<BlockId, Vec<Stored>>,
}

impl Checker {
    /// The newest version.
    pub fn newest(&self) -> &Arc<CatalogueState> {
        &self.newest
    }

    /// The version with this number, if it exists.
    pub fn version(&self, version: CatalogueVersion) -> Option<&Arc<CatalogueState>> {
        if version == self.newest.version() {
            return Some(&self.newest);
        }
        self.older.get(version.0 as usize)
    }

    /// Which version an entry with this nonce made.
    pub fn version_of(&self, nonce: u128) -> Option<CatalogueVersion> {
        self.nonces.get(&nonce).copied()
    }

    /// What a live block holds.
    pub fn block(&self, id: BlockId) -> &[Stored] {
        self.blocks.get(&id).map_or(&[], Vec::as_slice)
    }

    /// An entry has come to stand in the log (C1, C2, C4; S1, S2 and C3 by the fold).
    pub fn entry_landed(&mut self, bytes: &Bytes, bucket: &Bucket) -> Result<(), Broken> {
        let mut state = (**self.newest()).clone();
        let nonce = fold(&mut state, bytes).map_err(|corrupt| ("C1", corrupt.to_string()))?;
        let version = state.version();
        if let Some(before) = self.nonces.insert(nonce, version) {
            let what = format!(
                "one commit stands in versions {} and {}",
                before.0, version.0
            );
            return Err(("C4", what));
        }
        let entry = Entry::decode(version, bytes).map_err(|error| ("C1", error.to_string()))?;
        if entry.version != version {
            return Err((
                "C1",
                format!("entry {} made version {}", entry.version.0, version.0),
            ));
        }
        for meta in state.blocks() {
            if self.blocks.contains_key(&meta.id) {
                continue;
            }
            let stored = blocks::read(meta, bucket).map_err(|what| ("C2", what))?;
            self.blocks.insert(meta.id, stored);
        }
        let older = std::mem::replace(&mut self.newest, Arc::new(state));
        self.older.push(older);
        Ok(())
    }
}

/// How often each profile was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally(BTreeMap<PartId, u32>);

impl Tally {
    pub fn add<'a>(&mut self, stored: impl IntoIterator<Item = &'a Stored>) {
        for one in stored {
            *self.0.entry(one.part).or_default() += 1;
        }
    }

    /// Only the profiles of nodes that `wanted` takes.
    pub fn of_nodes(mut self, parts: &[Knowledge], wanted: impl Fn(usize) -> bool) -> Self {
        let node_of = |part: &PartId| parts.get(part.0 as usize).map(|known| known.node);
        self.0.retain(|part, _| node_of(part).is_none_or(&wanted));
        self
    }

    /// D1, D2 and D3 over all profiles of the nodes that `complete` takes; D2 and D3 for the rest,
    /// whose tails cannot be read now.
    pub fn check(
        &self,
        parts: &[Knowledge],
        complete: impl Fn(usize) -> bool,
    ) -> Result<(), Broken> {
        for part in self.0.keys() {
            if part.0 as usize >= parts.len() {
                return Err(("D4", format!("profile {} was never made", part.0)));
            }
        }
        for (at, known) in parts.iter().enumerate() {
            let part = PartId(at as u32);
            let count = self.0.get(&part).copied().unwrap_or_default();
            let acknowledged = known.acknowledged == Acknowledged::Yes;
            if acknowledged && count == 0 && complete(known.node) {
                return Err(("D1", format!("profile {at} was acknowledged and is gone")));
            }
            if count > 1 {
                let rule = if acknowledged { "D2" } else { "D3" };
                return Err((rule, format!("profile {at} counts {count} times")));
            }
            if count > 0 && known.sent == Sent::Never {
                return Err(("D3", format!("profile {at} was never sent")));
            }
        }
        Ok(())
    }
}
