//! The bytes of a snapshot: one version of the catalogue, so that opening it does not fold the log
//! from its beginning.
//!
//! The frame is the one of [`super::entry`]; the body is the streams, then the blocks, each list a
//! count and its items, sorted by id. Where there is more to say than version 1 of the program
//! could, four lists follow: removed slices by block, the versions that added merged blocks, garbage
//! with the version since which it is, deletions with theirs. A fifth one, of quarantined slices,
//! comes last if there are any.
//!
//! # Invariants
//! A snapshot of version n equals the fold of the entries 1 to n (C1). It is an optimisation: the
//! catalogue opens without it, and a damaged one is passed over.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use scoria_block::BlockMeta;
use scoria_model::varint::{self, Reader};
use scoria_model::{BlockId, CatalogueVersion, Epoch, StreamId};

use super::entry::{
    EntryError, Frame, field, nothing_left, put_members, put_slices, put_stream, read_members,
    read_seq, read_slices, read_stream, read_why,
};
use super::slices::{Quarantined, Removed};
use super::state::{CatalogueState, Parts, StreamState};
use super::tombstone::{Deletion, read_id, read_tombstone};

/// Largest body of a snapshot, decoded, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 30;

const FRAME: Frame = Frame::new("SCSN", BODY_BYTES_MAX);

/// The bytes of `state`.
///
/// # Errors
/// [`EntryError::TooLong`] when the state does not fit a snapshot.
pub fn encode(state: &CatalogueState) -> Result<Bytes, EntryError> {
    let mut body = Vec::new();
    varint::put_u64(&mut body, state.streams().len() as u64);
    for (id, stream) in state.streams() {
        put_stream(&mut body, id);
        varint::put_u64(&mut body, stream.epoch.0);
        put_members(&mut body, &stream.owner, &stream.members, stream.quorum);
        varint::put_u64(&mut body, stream.committed.0);
        match stream.sealed_at {
            None => body.push(0),
            Some(at) => {
                body.push(1);
                varint::put_u64(&mut body, at.0);
            }
        }
    }
    varint::put_u64(&mut body, state.blocks().len() as u64);
    let mut payload = Vec::new();
    for meta in state.blocks() {
        payload.clear();
        meta.encode(&mut payload);
        varint::put_bytes(&mut body, &payload);
    }
    if !state.parts().is_empty() {
        put_parts(&mut body, state.parts());
    }
    FRAME.wrap(state.version(), 0, &body)
}

fn put_parts(body: &mut Vec<u8>, parts: &Parts) {
    varint::put_u64(body, parts.removed.len() as u64);
    for (block, removed) in &parts.removed {
        body.extend_from_slice(&block.0.to_le_bytes());
        let slices: Vec<_> = removed.iter().map(|(t, s)| (t.clone(), *s)).collect();
        put_slices(body, &slices);
    }
    for versions in [&parts.merged, &parts.garbage] {
        varint::put_u64(body, versions.len() as u64);
        for (block, version) in versions {
            body.extend_from_slice(&block.0.to_le_bytes());
            varint::put_u64(body, version.0);
        }
    }
    varint::put_u64(body, parts.deletions.len() as u64);
    for deletion in parts.deletions.values() {
        deletion.tombstone.encode(body);
        varint::put_u64(body, deletion.since.0);
    }
    if parts.quarantined.is_empty() {
        return;
    }
    varint::put_u64(body, parts.quarantined.len() as u64);
    for (block, quarantined) in &parts.quarantined {
        body.extend_from_slice(&block.0.to_le_bytes());
        let slices: Vec<_> = quarantined
            .slices
            .iter()
            .map(|(t, s)| (t.clone(), *s))
            .collect();
        put_slices(body, &slices);
        varint::put_bytes(body, quarantined.why.as_bytes());
        varint::put_u64(body, quarantined.since.0);
    }
}

fn read_parts(reader: &mut Reader<'_>) -> Result<Parts, EntryError> {
    let mut parts = Parts::default();
    for _ in 0..reader.count().map_err(field("the count of blocks"))? {
        let block = BlockId(read_id(reader)?);
        let removed: Removed = read_slices(reader)?.into_iter().collect();
        parts.removed.insert(block, Arc::new(removed));
    }
    for versions in [&mut parts.merged, &mut parts.garbage] {
        for _ in 0..reader.count().map_err(field("the count of blocks"))? {
            let block = BlockId(read_id(reader)?);
            versions.insert(block, read_version(reader)?);
        }
    }
    for _ in 0..reader.count().map_err(field("the count of deletions"))? {
        let tombstone = Arc::new(read_tombstone(reader)?);
        let since = read_version(reader)?;
        let deletion = Deletion { tombstone, since };
        parts.deletions.insert(deletion.tombstone.id, deletion);
    }
    if reader.is_empty() {
        return Ok(parts);
    }
    for _ in 0..reader.count().map_err(field("the count of blocks"))? {
        let block = BlockId(read_id(reader)?);
        let quarantined = Quarantined {
            slices: read_slices(reader)?.into_iter().collect(),
            why: read_why(reader)?,
            since: read_version(reader)?,
        };
        parts.quarantined.insert(block, quarantined);
    }
    Ok(parts)
}

fn read_version(reader: &mut Reader<'_>) -> Result<CatalogueVersion, EntryError> {
    reader
        .u64()
        .map(CatalogueVersion)
        .map_err(field("a version"))
}

/// Reads the snapshot stored for `version`.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(version: CatalogueVersion, bytes: &[u8]) -> Result<CatalogueState, EntryError> {
    let (_, body) = FRAME.unwrap(version, bytes)?;
    let mut reader = Reader::new(&body);
    let mut streams = BTreeMap::new();
    for _ in 0..reader.count().map_err(field("the count of streams"))? {
        let (id, stream) = read_stream_state(&mut reader)?;
        if let Some((id, _)) = streams.insert(id.clone(), stream).map(|old| (id, old)) {
            return Err(EntryError::Value {
                what: "a stream listed twice",
                found: id.to_string(),
            });
        }
    }
    let mut blocks = BTreeMap::new();
    for _ in 0..reader.count().map_err(field("the count of blocks"))? {
        let payload = reader.bytes().map_err(field("a block"))?;
        let meta = Arc::new(BlockMeta::decode(payload)?);
        if let Some(twice) = blocks.insert(meta.id, meta) {
            return Err(EntryError::Value {
                what: "a block listed twice",
                found: twice.id.to_string(),
            });
        }
    }
    let parts = match reader.is_empty() {
        true => Parts::default(),
        false => read_parts(&mut reader)?,
    };
    nothing_left(&reader, "the lists")?;
    Ok(CatalogueState::from_parts(version, blocks, streams, parts))
}

fn read_stream_state(reader: &mut Reader<'_>) -> Result<(StreamId, StreamState), EntryError> {
    let id = read_stream(reader)?;
    let epoch = Epoch(reader.u64().map_err(field("a stream's epoch"))?);
    let (owner, members, quorum) = read_members(reader)?;
    let committed = read_seq(reader)?;
    let sealed_at = match reader.u8().map_err(field("a stream's end"))? {
        0 => None,
        1 => Some(read_seq(reader)?),
        found => {
            return Err(EntryError::Value {
                what: "a stream's end",
                found: found.to_string(),
            });
        }
    };
    let state = StreamState {
        epoch,
        owner,
        members,
        quorum,
        committed,
        sealed_at,
    };
    Ok((id, state))
}
