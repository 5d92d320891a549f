//! The labels that travel beside a recording: a protobuf LabelsSnapshot.
//!
//! ```text
//! LabelsSnapshot { 1: map<int64 context, Context>  2: map<int64 id, string> }
//! Context        { 1: map<int64 id of the name, int64 id of the value> }
//! ```
//!
//! # Invariants
//! - Of several entries with the same key the last one counts, as in every protobuf map.
//! - A label whose name or value is not in the snapshot is not there.
//!
//! # What it must not know
//! Which labels mean something.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use scoria_model::{ByteBudget, Permit};

use super::error::JfrError;
use crate::raw::DecodeError;
use crate::wire::Cursor;

/// Labels of one context: far more than a series may have.
const LABELS_MAX: usize = 256;

/// Name and value of a label.
pub(crate) type Label<'a> = (&'a [u8], &'a [u8]);

/// The contexts and texts that the events of a recording name.
#[derive(Debug)]
pub struct Snapshot<'a> {
    contexts: HashMap<u64, &'a [u8], FixedState>,
    texts: HashMap<u64, &'a [u8], FixedState>,
    _permit: Permit,
}

impl<'a> Snapshot<'a> {
    /// Reads a snapshot; no bytes are one without labels.
    ///
    /// # Errors
    /// The bytes are not such a message, or there is no memory for it.
    pub fn read(bytes: &'a [u8], seed: u64, memory: &ByteBudget) -> Result<Self, JfrError> {
        /// An entry has at least four bytes and takes at most twice 25 in a table.
        const EXPANSION_MAX: u64 = 13;
        let hash = FixedState::with_seed(seed);
        let mut snapshot = Self {
            contexts: HashMap::with_hasher(hash.clone()),
            texts: HashMap::with_hasher(hash),
            _permit: memory.try_acquire(bytes.len() as u64 * EXPANSION_MAX)?,
        };
        snapshot.fill(bytes).map_err(refuse)?;
        Ok(snapshot)
    }

    fn fill(&mut self, bytes: &'a [u8]) -> Result<(), DecodeError> {
        let mut cursor = Cursor::new(bytes);
        while let Some(tag) = cursor.tag()? {
            let map = match tag.number {
                1 => &mut self.contexts,
                2 => &mut self.texts,
                _ => {
                    cursor.skip(tag)?;
                    continue;
                }
            };
            let mut entry = cursor.sub(tag, "labels snapshot")?;
            let (mut key, mut value) = (0, &b""[..]);
            while let Some(tag) = entry.tag()? {
                match tag.number {
                    1 => key = entry.int(tag, "labels snapshot entry")?,
                    2 => value = entry.sub(tag, "labels snapshot entry")?.rest(),
                    _ => entry.skip(tag)?,
                }
            }
            map.insert(key, value);
        }
        Ok(())
    }

    /// The text of an id; `None` if there is none, or it is empty.
    pub(crate) fn text(&self, id: u64) -> Option<&'a [u8]> {
        let text = self.texts.get(&id)?;
        (!text.is_empty()).then_some(text)
    }

    /// The labels of a context, as texts.
    pub(crate) fn labels(&self, context: u64) -> Result<Vec<Label<'a>>, JfrError> {
        let Some(bytes) = self.contexts.get(&context) else {
            return Ok(Vec::new());
        };
        let pairs = pairs(bytes).map_err(refuse)?;
        if pairs.len() > LABELS_MAX {
            return Err(JfrError::Labels {
                detail: format!(
                    "context {context} has {} labels, {LABELS_MAX} are allowed",
                    pairs.len()
                ),
            });
        }
        let mut labels: Vec<Label<'_>> = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let (Some(name), Some(value)) = (self.text(name), self.text(value)) else {
                continue;
            };
            match labels.iter_mut().find(|(known, _)| *known == name) {
                Some(label) => label.1 = value,
                None => labels.push((name, value)),
            }
        }
        Ok(labels)
    }
}

/// The entries of a context's map, at most one more than may be.
fn pairs(context: &[u8]) -> Result<Vec<(u64, u64)>, DecodeError> {
    let mut pairs = Vec::new();
    let mut cursor = Cursor::new(context);
    while let Some(tag) = cursor.tag()? {
        if tag.number != 1 {
            cursor.skip(tag)?;
            continue;
        }
        let mut entry = cursor.sub(tag, "context")?;
        let (mut name, mut value) = (0, 0);
        while let Some(tag) = entry.tag()? {
            match tag.number {
                1 => name = entry.int(tag, "context entry")?,
                2 => value = entry.int(tag, "context entry")?,
                _ => entry.skip(tag)?,
            }
        }
        pairs.push((name, value));
        if pairs.len() > LABELS_MAX {
            break;
        }
    }
    Ok(pairs)
}

fn refuse(error: DecodeError) -> JfrError {
    JfrError::Labels {
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{context 3: {text 1: text 2}}, {1: "thread", 2: "pool-1"}`
    const BYTES: &[u8] =
        b"\x0a\x0a\x08\x03\x12\x06\x0a\x04\x08\x01\x10\x02\x12\x0a\x08\x01\x12\x06thread\x12\x0a\x08\x02\x12\x06pool-1";

    fn read(bytes: &[u8]) -> Result<Snapshot<'_>, JfrError> {
        Snapshot::read(bytes, 1, &ByteBudget::new("test", 1 << 40))
    }

    #[test]
    fn contexts_and_texts() {
        let snapshot = read(BYTES).unwrap();
        let labels = snapshot.labels(3).unwrap();
        assert_eq!(labels, [(&b"thread"[..], &b"pool-1"[..])]);
        assert_eq!(snapshot.labels(4).unwrap(), []);
        assert_eq!(snapshot.text(2), Some(&b"pool-1"[..]));
        assert_eq!(snapshot.text(0), None);
        assert_eq!(read(b"").unwrap().labels(0).unwrap(), []);
    }

    #[test]
    fn what_is_missing_is_left_out() {
        let without_texts = read(&BYTES[..12]).unwrap();
        assert_eq!(without_texts.labels(3).unwrap(), []);
    }

    #[test]
    fn damage_and_excess() {
        for cut in 1..BYTES.len() {
            let boundary = [12, 24].contains(&cut);
            assert_eq!(read(&BYTES[..cut]).is_ok(), boundary, "{cut}");
        }
        let mut context = Vec::new();
        for _ in 0..=LABELS_MAX {
            context.extend_from_slice(b"\x0a\x04\x08\x01\x10\x02");
        }
        let length = context.len() as u64;
        let varint = [(length & 0x7f) as u8 | 0x80, (length >> 7) as u8];
        let entry_length = length + 3;
        let mut bytes = vec![
            0x0a,
            (entry_length & 0x7f) as u8 | 0x80,
            (entry_length >> 7) as u8,
        ];
        bytes.extend_from_slice(&[0x12, varint[0], varint[1]]);
        bytes.extend_from_slice(&context);
        let snapshot = read(&bytes).unwrap();
        assert!(matches!(snapshot.labels(0), Err(JfrError::Labels { .. })));
    }
}
