//! Tombstones: what was deleted on demand.
//!
//! A deletion takes effect with its entry in the log: from then on queries leave out what it names,
//! and merges write it no more. The same bytes lie in the store as an object of their own, put
//! before the commit, so that a catalogue that is rebuilt from the bucket knows of every deletion.
//!
//! # Invariants
//! - A tombstone never changes. What it names is decided by profile time and labels alone, so that
//!   profiles that arrive after it, be it from heads or late, are hidden as well.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use scoria_model::varint::{self, Reader};
use scoria_model::{BlockId, CatalogueVersion, TenantId, Timestamp};

use super::entry::{EntryError, field, nothing_left};

/// Longest selector of a tombstone, in bytes.
pub const SELECTOR_BYTES_MAX: usize = 64 << 10;

/// The id of a tombstone: a ULID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TombstoneId(pub u128);

impl fmt::Display for TombstoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        BlockId(self.0).fmt(f)
    }
}

impl FromStr for TombstoneId {
    type Err = scoria_model::ids::BlockIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<BlockId>().map(|id| Self(id.0))
    }
}

/// A deletion: the profiles of a tenant that a selector takes and that are older than a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    pub id: TombstoneId,
    pub tenant: TenantId,
    /// As it was asked for; `{}` takes everything.
    pub selector: Arc<str>,
    /// Exclusive.
    pub before: Timestamp,
    /// When it was asked for, by the clock of the process that took the request.
    pub created: Timestamp,
}

impl Tombstone {
    /// The bytes of its object, which are also its payload in entries.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0.to_le_bytes());
        varint::put_bytes(out, self.tenant.as_str().as_bytes());
        varint::put_bytes(out, self.selector.as_bytes());
        varint::put_i64(out, self.before.0);
        varint::put_i64(out, self.created.0);
    }

    /// Reads the bytes of its object.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let mut reader = Reader::new(bytes);
        let tombstone = read_tombstone(&mut reader)?;
        nothing_left(&reader, "a tombstone")?;
        Ok(tombstone)
    }
}

/// A tombstone and the version of the catalogue that it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    pub tombstone: Arc<Tombstone>,
    pub since: CatalogueVersion,
}

pub(super) fn read_id(reader: &mut Reader<'_>) -> Result<u128, EntryError> {
    let bytes = reader.take(16).map_err(field("an id"))?;
    let bytes = <[u8; 16]>::try_from(bytes).unwrap_or_default();
    Ok(u128::from_le_bytes(bytes))
}

pub(super) fn read_tenant(reader: &mut Reader<'_>) -> Result<TenantId, EntryError> {
    let value = |found: String| EntryError::Value {
        what: "a tenant",
        found,
    };
    let bytes = reader.bytes().map_err(field("a tenant"))?;
    let text = std::str::from_utf8(bytes).map_err(|_| value("not UTF-8".into()))?;
    TenantId::parse(text).map_err(|error| value(error.to_string()))
}

pub(super) fn read_tombstone(reader: &mut Reader<'_>) -> Result<Tombstone, EntryError> {
    let id = TombstoneId(read_id(reader)?);
    let tenant = read_tenant(reader)?;
    let value = |found: String| EntryError::Value {
        what: "a selector",
        found,
    };
    let selector = reader.bytes().map_err(field("a selector"))?;
    if selector.len() > SELECTOR_BYTES_MAX {
        return Err(value(format!(
            "{} bytes; the limit is {SELECTOR_BYTES_MAX}",
            selector.len()
        )));
    }
    let selector = std::str::from_utf8(selector).map_err(|_| value("not UTF-8".into()))?;
    Ok(Tombstone {
        id,
        tenant,
        selector: Arc::from(selector),
        before: Timestamp(reader.i64().map_err(field("a deletion's time"))?),
        created: Timestamp(reader.i64().map_err(field("a deletion's time"))?),
    })
}
