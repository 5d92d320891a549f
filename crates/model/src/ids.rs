//! The ids of nodes, streams, blocks and profiles.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A process of the cluster, by its configured name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub Arc<str>);

/// One life of a node: a new number at every start, so that a node that comes back with an empty
/// disk is never taken for its former self.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

/// An append-only log: `(node, incarnation, n)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub n: u32,
}

/// Why a stream id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stream id {text:?} is not of the form node.incarnation.n with a hexadecimal incarnation")]
pub struct StreamIdError {
    pub text: String,
}

impl fmt::Display for StreamId {
    /// `node.00000000deadbeef.3`, safe as a path segment when the node name is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}.{}", self.node.0, self.incarnation.0, self.n)
    }
}

impl FromStr for StreamId {
    type Err = StreamIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (rest, n) = text.rsplit_once('.')?;
            let (node, incarnation) = rest.rsplit_once('.')?;
            Some(Self {
                node: NodeId(Arc::from(node)),
                incarnation: Incarnation(u64::from_str_radix(incarnation, 16).ok()?),
                n: n.parse().ok()?,
            })
        };
        parse().ok_or_else(|| StreamIdError {
            text: text.to_owned(),
        })
    }
}

impl StreamId {
    /// A number for [`ProfileId`]s; equal ids always give equal numbers.
    pub fn hash64(&self) -> u64 {
        xxhash_rust::xxh64::xxh64(self.to_string().as_bytes(), 0)
    }
}

/// The place of a record in its stream; the first record has 1, so `Seq(0)` means "nothing yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seq(pub u64);

impl Seq {
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Who may write a stream: a higher epoch fences a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(pub u64);

/// The number of the last catalogue entry that a view has folded in; 0 is the empty catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct CatalogueVersion(pub u64);

/// A block, by the ULID under which its tables lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u128);

impl fmt::Display for BlockId {
    /// Crockford base 32, 26 characters, as ULIDs are written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        for at in (0..26).rev() {
            let digit = (self.0 >> (at * 5)) & 31;
            write!(f, "{}", char::from(DIGITS[digit as usize]))?;
        }
        Ok(())
    }
}

/// Why a block id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block id {text:?} is not a ULID of 26 characters")]
pub struct BlockIdError {
    pub text: String,
}

impl FromStr for BlockId {
    type Err = BlockIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || BlockIdError {
            text: text.to_owned(),
        };
        if text.len() != 26 || text.as_bytes()[0] > b'7' {
            return Err(refuse());
        }
        let mut id = 0u128;
        for byte in text.bytes() {
            let digit = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
                .iter()
                .position(|&d| d == byte.to_ascii_uppercase())
                .ok_or_else(refuse)?;
            id = (id << 5) | digit as u128;
        }
        Ok(Self(id))
    }
}

/// The key by which a resent write is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RetryKey(pub [u8; 16]);

impl fmt::Debug for RetryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RetryKey({:032x})", u128::from_be_bytes(self.0))
    }
}

/// The id under which a stored profile is shown (an RFC 9562 version 8 UUID). It follows from the
/// profile's place in its stream, so it costs no bytes of its own: 48 bits of the stream's hash,
/// then 56 bits of sequence number and 16 bits of place within the record around the fixed bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileId(pub u128);

impl ProfileId {
    pub fn new(stream_hash: u64, seq: Seq, place: u16) -> Self {
        let head = u128::from(stream_hash >> 16) << 80;
        let tail = (u128::from(seq.0 & 0xff_ffff_ffff_ffff) << 16) | u128::from(place);
        // 72 bits of `tail` go around the version (bits 76..80) and the variant (bits 62..64).
        let above = (tail >> 62) & 0xfff;
        let below = tail & ((1 << 62) - 1);
        Self(head | (0x8 << 76) | (above << 64) | (0b10 << 62) | below)
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            (v >> 96) as u32,
            (v >> 80) as u16,
            (v >> 64) as u16,
            (v >> 48) as u16,
            v & 0xffff_ffff_ffff
        )
    }
}

/// Why a profile id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("profile id {text:?} is not a UUID")]
pub struct ProfileIdError {
    pub text: String,
}

impl FromStr for ProfileId {
    type Err = ProfileIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ProfileIdError {
            text: text.to_owned(),
        };
        let digits: String = text.chars().filter(|&c| c != '-').collect();
        if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        u128::from_str_radix(&digits, 16)
            .map(Self)
            .map_err(|_| refuse())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_ids_read_back_and_sort_as_text() {
        let ids = [BlockId(0), BlockId(1 << 80), BlockId(u128::MAX)];
        let texts: Vec<String> = ids.iter().map(BlockId::to_string).collect();
        assert!(texts.is_sorted());
        for (id, text) in ids.iter().zip(&texts) {
            assert_eq!(text.parse::<BlockId>().unwrap(), *id);
        }
        assert!("8".repeat(26).parse::<BlockId>().is_err());
    }

    #[test]
    fn stream_ids_read_back_even_with_dots_in_the_node_name() {
        let id = StreamId {
            node: NodeId(Arc::from("scoria-0.eu")),
            incarnation: Incarnation(9),
            n: 2,
        };
        assert_eq!(id.to_string().parse::<StreamId>().unwrap(), id);
    }

    #[test]
    fn profile_ids_are_distinct_uuids() {
        let mut seen = std::collections::HashSet::new();
        for seq in 0..50 {
            for place in 0..50 {
                let id = ProfileId::new(u64::MAX, Seq(seq << 40), place);
                assert!(seen.insert(id));
                let text = id.to_string();
                assert_eq!(&text[14..15], "8", "{text}");
                assert!("89ab".contains(&text[19..20]), "{text}");
                assert_eq!(text.parse::<ProfileId>().unwrap(), id);
            }
        }
    }
}
