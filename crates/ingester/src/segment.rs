//! Log segments: the files in which records become durable.
//!
//! ```text
//! segment   header | frame | frame | ... | end frame (only when sealed without a failure)
//! header    magic "SCORIALG" | version u16 | 0 u16 | salt u32 | generation u64 | first seq u64
//!           | created, ms since the epoch i64 | length of the stream id u16 | crc32 of the above
//!           | stream id | crc32 of the above
//! frame     marker "SFRM" | crc32 | stored length u32 | raw length u32 | first seq u64 | count u32
//!           | kind u8 | flags u8 | 0 u16 | body
//! body      count times: length varint, bytes; one zstd frame of that when flags has bit 0
//! ```
//! Integers are little-endian. A frame's checksum starts from the segment's salt and covers all
//! that follows it, so that neither a frame of another segment nor bytes that a client chose are
//! taken for a frame of this one. One batch is one frame, so a batch is there as a whole or not.
//!
//! Frames of kind *retry keys* hold records that have no sequence number: what earlier segments
//! knew of resends. The record at `i` of a *records* frame has the sequence number first seq + i.
//!
//! # Invariants
//! - A writer that failed once refuses everything afterwards.
//! - A reader tells a torn tail (a bad frame with nothing valid behind it) from damage in the
//!   middle (a bad frame with a valid one behind it), and never passes over the second.
//! - Every length is checked against what is left of the file before anything is allocated.
//!
//! # What it must not know
//! What a record says.

mod disk;
mod frame;
mod header;
mod name;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use disk::{DirDisk, DiskFile, LogDisk, LogFile, SegmentBytes};
pub use frame::{FRAME_RAW_BYTES_MAX, Frame, FrameKind};
pub use header::{HEADER_BYTES_MAX, SegmentHeader};
pub use name::SegmentName;
pub use reader::{SegmentEnd, SegmentReader, Step};
pub use writer::SegmentWriter;

use std::io;

/// Why a segment, or a part of it, cannot be used. Offsets are bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error("log segment {name}: cannot read at offset {offset}: {source}")]
    Read {
        name: String,
        offset: u64,
        source: io::Error,
    },
    #[error(
        "log segment {name}: its creation was cut off after {bytes} bytes, before it held anything"
    )]
    Unborn { name: String, bytes: u64 },
    #[error("log segment {name}: damaged at offset {offset}: {what}")]
    Damaged {
        name: String,
        offset: u64,
        what: String,
    },
    #[error(
        "log segment {name}: it has version {found}, this build reads version {known}; use a newer build"
    )]
    Version {
        name: String,
        found: u16,
        known: u16,
    },
}
