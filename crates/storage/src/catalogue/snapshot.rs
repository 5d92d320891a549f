//! The bytes of a snapshot: one version of the catalogue, so that opening it does not fold the log
//! from its beginning.
//!
//! The frame is the one of [`super::entry`]; the body is the streams, then the blocks, each list a
//! count and its items, sorted by id.
//!
//! # Invariants
//! A snapshot of version n equals the fold of the entries 1 to n (C1). It is an optimisation: the
//! catalogue opens without it, and a damaged one is passed over.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use scoria_block::BlockMeta;
use scoria_model::varint::{self, Reader};
use scoria_model::{CatalogueVersion, Epoch, StreamId};

use super::entry::{
    EntryError, Frame, field, nothing_left, put_members, put_stream, read_members, read_seq,
    read_stream,
};
use super::state::{CatalogueState, StreamState};

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
    FRAME.wrap(state.version(), 0, &body)
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
    nothing_left(&reader, "the blocks")?;
    Ok(CatalogueState::from_parts(version, blocks, streams))
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
