//! The bytes of one catalogue entry, and the frame that entries and snapshots share.
//!
//! ```text
//! magic     4   "SCLE" (entry) or "SCSN" (snapshot)
//! format    1   1
//! coding    1   0: the body as it is; 1: zstd
//! version   8   little-endian; the number in the key
//! nonce    16   little-endian; drawn by the writer, so that it knows its own entry again
//! length    4   little-endian; of the body once decoded
//! body      …
//! crc32     4   little-endian; IEEE, over everything before
//! ```
//!
//! The body of an entry is a count of operations, then each as a tag and a length-prefixed
//! payload. All integers in it are LEB128, texts and lists are length-prefixed.
//!
//! # Invariants
//! - What [`Entry::encode`] writes, [`Entry::decode`] reads back; any changed, missing or added
//!   byte is an error.
//! - Nothing is allocated for a count or length that the bytes at hand cannot hold.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use scoria_block::{BlockError, BlockMeta};
use scoria_model::varint::{self, Reader, VarintError};
use scoria_model::{
    BlockId, CatalogueVersion, Epoch, Incarnation, NodeId, Seq, ShardSet, StreamId, TenantId,
};

use super::state::MEMBERS_MAX;
use super::tombstone::{TombstoneId, read_id, read_tenant, read_tombstone};
use super::txn::{Op, WHY_BYTES_MAX};

/// Largest body of an entry, decoded, in bytes.
pub const BODY_BYTES_MAX: usize = 64 << 20;

const FORMAT: u8 = 1;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const HEAD_BYTES: usize = 34;
const CRC_BYTES: usize = 4;
/// Bodies below this are left as they are.
const COMPRESS_FROM: usize = 256;
const ZSTD_LEVEL: i32 = 3;
/// Longest node name, in bytes.
const NODE_BYTES_MAX: usize = 255;

mod tag {
    pub(super) const ADD_BLOCK: u8 = 1;
    pub(super) const OPEN_STREAM: u8 = 2;
    pub(super) const ADVANCE: u8 = 3;
    pub(super) const SEAL_STREAM: u8 = 4;
    pub(super) const CLOSE_STREAM: u8 = 5;
    pub(super) const REMOVE_SLICES: u8 = 6;
    pub(super) const CONDEMN: u8 = 7;
    pub(super) const FORGET: u8 = 8;
    pub(super) const DELETE: u8 = 9;
    pub(super) const RETIRE: u8 = 10;
    pub(super) const QUARANTINE: u8 = 11;
    pub(super) const RELEASE: u8 = 12;
}

/// One commit as it stands in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub version: CatalogueVersion,
    pub nonce: u128,
    pub ops: Vec<Op>,
}

/// Why bytes are no entry or snapshot. Whoever read them adds the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("{length} bytes are too few for a header and a checksum")]
    Short { length: usize },
    #[error("the checksum is {found:#010x}, the bytes give {computed:#010x}: they are damaged")]
    Checksum { found: u32, computed: u32 },
    #[error("the first bytes {found:02x?} are not {expected:?}")]
    Magic {
        found: [u8; 4],
        expected: &'static str,
    },
    #[error("format {found} is not supported; this program reads format {FORMAT}: upgrade it")]
    Format { found: u8 },
    #[error("body coding {found} is unknown")]
    Coding { found: u8 },
    #[error("it says it is version {found}, the key says {expected}")]
    Version { expected: u64, found: u64 },
    #[error("the body is {length} bytes long; the limit is {limit}")]
    TooLong { length: u64, limit: usize },
    #[error("the body does not decompress to the {length} bytes that the header names")]
    Body { length: usize },
    #[error("operation tag {tag} is unknown: a newer program wrote it, upgrade this one")]
    Tag { tag: u8 },
    #[error("{what}: {source}")]
    Field {
        what: &'static str,
        source: VarintError,
    },
    #[error("{what} is not allowed: {found}")]
    Value { what: &'static str, found: String },
    #[error("{left} bytes are left over after {what}")]
    Trailing { what: &'static str, left: usize },
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl Entry {
    /// # Errors
    /// [`EntryError::TooLong`] when the operations do not fit an entry.
    pub fn encode(&self) -> Result<Bytes, EntryError> {
        let mut body = Vec::new();
        varint::put_u64(&mut body, self.ops.len() as u64);
        let mut payload = Vec::new();
        for op in &self.ops {
            payload.clear();
            body.push(put_op(&mut payload, op));
            varint::put_bytes(&mut body, &payload);
        }
        Frame::ENTRY.wrap(self.version, self.nonce, &body)
    }

    /// Reads the bytes stored for `version`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(version: CatalogueVersion, bytes: &[u8]) -> Result<Self, EntryError> {
        let (nonce, body) = Frame::ENTRY.unwrap(version, bytes)?;
        let mut reader = Reader::new(&body);
        let count = reader.count().map_err(field("the count of operations"))?;
        // An operation is at least a tag and a length.
        let mut ops = Vec::with_capacity(count.min(body.len() / 2));
        for _ in 0..count {
            let tag = reader.u8().map_err(field("an operation's tag"))?;
            let payload = reader.bytes().map_err(field("an operation"))?;
            ops.push(read_op(tag, payload)?);
        }
        nothing_left(&reader, "the operations")?;
        Ok(Self {
            version,
            nonce,
            ops,
        })
    }
}

/// The envelope of an object of the catalogue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    magic: &'static str,
    body_bytes_max: usize,
}

impl Frame {
    const ENTRY: Self = Self {
        magic: "SCLE",
        body_bytes_max: BODY_BYTES_MAX,
    };

    /// `magic` has four bytes.
    pub(super) const fn new(magic: &'static str, body_bytes_max: usize) -> Self {
        Self {
            magic,
            body_bytes_max,
        }
    }

    pub(super) fn wrap(
        self,
        version: CatalogueVersion,
        nonce: u128,
        body: &[u8],
    ) -> Result<Bytes, EntryError> {
        let length = u32::try_from(body.len())
            .ok()
            .filter(|_| body.len() <= self.body_bytes_max)
            .ok_or(EntryError::TooLong {
                length: body.len() as u64,
                limit: self.body_bytes_max,
            })?;
        let packed = (body.len() >= COMPRESS_FROM)
            .then(|| zstd::bulk::compress(body, ZSTD_LEVEL).ok())
            .flatten()
            .filter(|packed| packed.len() < body.len());
        let (coding, stored) = match &packed {
            Some(packed) => (ZSTD, packed.as_slice()),
            None => (PLAIN, body),
        };
        let mut out = Vec::with_capacity(HEAD_BYTES + stored.len() + CRC_BYTES);
        out.extend_from_slice(self.magic.as_bytes());
        out.push(FORMAT);
        out.push(coding);
        out.extend_from_slice(&version.0.to_le_bytes());
        out.extend_from_slice(&nonce.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(stored);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        Ok(Bytes::from(out))
    }

    /// The nonce and the decoded body.
    pub(super) fn unwrap(
        self,
        version: CatalogueVersion,
        bytes: &[u8],
    ) -> Result<(u128, Cow<'_, [u8]>), EntryError> {
        let short = || EntryError::Short {
            length: bytes.len(),
        };
        let (checked, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or_else(short)?;
        let (head, stored) = checked
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or_else(short)?;
        let found = u32::from_le_bytes(*crc);
        let computed = crc32fast::hash(checked);
        if found != computed {
            return Err(EntryError::Checksum { found, computed });
        }
        let mut head = Head(head);
        let magic = head.take::<4>();
        if magic != self.magic.as_bytes() {
            return Err(EntryError::Magic {
                found: magic,
                expected: self.magic,
            });
        }
        let [format] = head.take::<1>();
        if format != FORMAT {
            return Err(EntryError::Format { found: format });
        }
        let [coding] = head.take::<1>();
        let found = u64::from_le_bytes(head.take());
        if found != version.0 {
            return Err(EntryError::Version {
                expected: version.0,
                found,
            });
        }
        let nonce = u128::from_le_bytes(head.take());
        let length = u32::from_le_bytes(head.take()) as usize;
        Ok((nonce, self.body(coding, stored, length)?))
    }

    fn body(self, coding: u8, stored: &[u8], length: usize) -> Result<Cow<'_, [u8]>, EntryError> {
        if length > self.body_bytes_max {
            return Err(EntryError::TooLong {
                length: length as u64,
                limit: self.body_bytes_max,
            });
        }
        match coding {
            PLAIN if stored.len() == length => Ok(Cow::Borrowed(stored)),
            PLAIN => Err(EntryError::Body { length }),
            ZSTD => inflate(stored, length).map(Cow::Owned),
            found => Err(EntryError::Coding { found }),
        }
    }
}

/// Decompresses to exactly `length` bytes; memory grows with what really comes out.
fn inflate(stored: &[u8], length: usize) -> Result<Vec<u8>, EntryError> {
    use std::io::Read;

    let damaged = |_| EntryError::Body { length };
    let mut body = Vec::new();
    zstd::stream::read::Decoder::with_buffer(stored)
        .map_err(damaged)?
        .take(length as u64 + 1)
        .read_to_end(&mut body)
        .map_err(damaged)?;
    if body.len() == length {
        Ok(body)
    } else {
        Err(EntryError::Body { length })
    }
}

/// The fixed fields, front to back; the caller takes [`HEAD_BYTES`] in all.
struct Head<'a>(&'a [u8]);

impl Head<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }
}

pub(super) fn field(what: &'static str) -> impl Fn(VarintError) -> EntryError {
    move |source| EntryError::Field { what, source }
}

pub(super) fn nothing_left(reader: &Reader<'_>, what: &'static str) -> Result<(), EntryError> {
    match reader.rest().len() {
        0 => Ok(()),
        left => Err(EntryError::Trailing { what, left }),
    }
}

/// Writes the payload and returns its tag.
fn put_op(out: &mut Vec<u8>, op: &Op) -> u8 {
    match op {
        Op::AddBlock(meta) => {
            meta.encode(out);
            tag::ADD_BLOCK
        }
        Op::OpenStream {
            stream,
            epoch,
            owner,
            members,
            quorum,
        } => {
            put_stream(out, stream);
            varint::put_u64(out, epoch.0);
            put_members(out, owner, members, *quorum);
            tag::OPEN_STREAM
        }
        Op::Advance {
            stream,
            epoch,
            from,
            to,
        } => {
            put_stream(out, stream);
            varint::put_u64(out, epoch.0);
            varint::put_u64(out, from.0);
            varint::put_u64(out, to.0);
            tag::ADVANCE
        }
        Op::SealStream {
            stream,
            epoch,
            owner,
        } => {
            put_stream(out, stream);
            varint::put_u64(out, epoch.0);
            put_node(out, owner);
            tag::SEAL_STREAM
        }
        Op::CloseStream { stream, epoch, at } => {
            put_stream(out, stream);
            varint::put_u64(out, epoch.0);
            varint::put_u64(out, at.0);
            tag::CLOSE_STREAM
        }
        Op::RemoveSlices { block, slices } => {
            out.extend_from_slice(&block.0.to_le_bytes());
            put_slices(out, slices);
            tag::REMOVE_SLICES
        }
        Op::Condemn(block) => {
            out.extend_from_slice(&block.0.to_le_bytes());
            tag::CONDEMN
        }
        Op::Forget(block) => {
            out.extend_from_slice(&block.0.to_le_bytes());
            tag::FORGET
        }
        Op::Delete(tombstone) => {
            tombstone.encode(out);
            tag::DELETE
        }
        Op::Retire(id) => {
            out.extend_from_slice(&id.0.to_le_bytes());
            tag::RETIRE
        }
        Op::Quarantine { block, slices, why } => {
            out.extend_from_slice(&block.0.to_le_bytes());
            put_slices(out, slices);
            varint::put_bytes(out, why.as_bytes());
            tag::QUARANTINE
        }
        Op::Release(block) => {
            out.extend_from_slice(&block.0.to_le_bytes());
            tag::RELEASE
        }
    }
}

pub(super) fn put_slices<'a>(
    out: &mut Vec<u8>,
    slices: impl IntoIterator<Item = &'a (TenantId, ShardSet), IntoIter: ExactSizeIterator>,
) {
    let slices = slices.into_iter();
    varint::put_u64(out, slices.len() as u64);
    for (tenant, shards) in slices {
        varint::put_bytes(out, tenant.as_str().as_bytes());
        varint::put_u64(out, u64::from(shards.bits()));
    }
}

pub(super) fn read_slices(
    reader: &mut Reader<'_>,
) -> Result<Vec<(TenantId, ShardSet)>, EntryError> {
    let count = reader.count().map_err(field("the count of slices"))?;
    let slice = |reader: &mut Reader<'_>| {
        let tenant = read_tenant(reader)?;
        let bits = reader.u32().map_err(field("shards"))?;
        let bits = u16::try_from(bits).map_err(|_| EntryError::Value {
            what: "a set of shards",
            found: bits.to_string(),
        })?;
        Ok((tenant, ShardSet::from_bits(bits)))
    };
    (0..count).map(|_| slice(reader)).collect()
}

/// The reason of a quarantine.
pub(super) fn read_why(reader: &mut Reader<'_>) -> Result<Arc<str>, EntryError> {
    let value = |found: String| EntryError::Value {
        what: "the reason of a quarantine",
        found,
    };
    let bytes = reader.bytes().map_err(field("a reason"))?;
    if bytes.len() > WHY_BYTES_MAX {
        return Err(value(format!(
            "{} bytes; the limit is {WHY_BYTES_MAX}",
            bytes.len()
        )));
    }
    let why = std::str::from_utf8(bytes).map_err(|_| value("not UTF-8".into()))?;
    Ok(Arc::from(why))
}

/// The operations of compaction and deletion.
fn read_later_op(tag: u8, payload: &[u8]) -> Result<Op, EntryError> {
    let mut reader = Reader::new(payload);
    let op = match tag {
        tag::DELETE => Op::Delete(Arc::new(read_tombstone(&mut reader)?)),
        tag::RETIRE => Op::Retire(TombstoneId(read_id(&mut reader)?)),
        tag::CONDEMN => Op::Condemn(BlockId(read_id(&mut reader)?)),
        tag::FORGET => Op::Forget(BlockId(read_id(&mut reader)?)),
        tag::REMOVE_SLICES => Op::RemoveSlices {
            block: BlockId(read_id(&mut reader)?),
            slices: read_slices(&mut reader)?,
        },
        tag::QUARANTINE => Op::Quarantine {
            block: BlockId(read_id(&mut reader)?),
            slices: read_slices(&mut reader)?,
            why: read_why(&mut reader)?,
        },
        tag::RELEASE => Op::Release(BlockId(read_id(&mut reader)?)),
        _ => return Err(EntryError::Tag { tag }),
    };
    nothing_left(&reader, "an operation")?;
    Ok(op)
}

fn read_op(tag: u8, payload: &[u8]) -> Result<Op, EntryError> {
    if tag == tag::ADD_BLOCK {
        return Ok(Op::AddBlock(Arc::new(BlockMeta::decode(payload)?)));
    }
    let known = tag::OPEN_STREAM..=tag::CLOSE_STREAM;
    if !known.contains(&tag) {
        return read_later_op(tag, payload);
    }
    let mut reader = Reader::new(payload);
    let stream = read_stream(&mut reader)?;
    let epoch = Epoch(reader.u64().map_err(field("a stream's epoch"))?);
    let op = match tag {
        tag::OPEN_STREAM => {
            let (owner, members, quorum) = read_members(&mut reader)?;
            Op::OpenStream {
                stream,
                epoch,
                owner,
                members,
                quorum,
            }
        }
        tag::ADVANCE => Op::Advance {
            stream,
            epoch,
            from: read_seq(&mut reader)?,
            to: read_seq(&mut reader)?,
        },
        tag::SEAL_STREAM => Op::SealStream {
            stream,
            epoch,
            owner: read_node(&mut reader)?,
        },
        _ => Op::CloseStream {
            stream,
            epoch,
            at: read_seq(&mut reader)?,
        },
    };
    nothing_left(&reader, "an operation")?;
    Ok(op)
}

pub(super) fn put_stream(out: &mut Vec<u8>, stream: &StreamId) {
    put_node(out, &stream.node);
    varint::put_u64(out, stream.incarnation.0);
    varint::put_u64(out, u64::from(stream.n));
}

pub(super) fn read_stream(reader: &mut Reader<'_>) -> Result<StreamId, EntryError> {
    Ok(StreamId {
        node: read_node(reader)?,
        incarnation: Incarnation(reader.u64().map_err(field("a stream's incarnation"))?),
        n: reader.u32().map_err(field("a stream's number"))?,
    })
}

pub(super) fn read_seq(reader: &mut Reader<'_>) -> Result<Seq, EntryError> {
    reader.u64().map(Seq).map_err(field("a record's number"))
}

fn put_node(out: &mut Vec<u8>, node: &NodeId) {
    varint::put_bytes(out, node.0.as_bytes());
}

fn read_node(reader: &mut Reader<'_>) -> Result<NodeId, EntryError> {
    let bytes = reader.bytes().map_err(field("a node's name"))?;
    let value = |found: String| EntryError::Value {
        what: "a node's name",
        found,
    };
    if bytes.is_empty() || bytes.len() > NODE_BYTES_MAX {
        return Err(value(format!(
            "{} bytes; 1 to {NODE_BYTES_MAX} are allowed",
            bytes.len()
        )));
    }
    let name = std::str::from_utf8(bytes).map_err(|_| value("not UTF-8".into()))?;
    Ok(NodeId(Arc::from(name)))
}

pub(super) fn put_members(out: &mut Vec<u8>, owner: &NodeId, members: &[NodeId], quorum: u32) {
    put_node(out, owner);
    varint::put_u64(out, members.len() as u64);
    members.iter().for_each(|member| put_node(out, member));
    varint::put_u64(out, u64::from(quorum));
}

pub(super) fn read_members(
    reader: &mut Reader<'_>,
) -> Result<(NodeId, Vec<NodeId>, u32), EntryError> {
    let owner = read_node(reader)?;
    let count = reader.count().map_err(field("the count of members"))?;
    if count > MEMBERS_MAX {
        return Err(EntryError::Value {
            what: "the count of members",
            found: format!("{count}; the limit is {MEMBERS_MAX}"),
        });
    }
    let members = (0..count)
        .map(|_| read_node(reader))
        .collect::<Result<_, _>>()?;
    let quorum = reader.u32().map_err(field("a stream's quorum"))?;
    Ok((owner, members, quorum))
}

#[cfg(test)]
mod tests;
