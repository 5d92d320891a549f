//! Reading a segment back, and telling where it ends.

use std::io;

use super::frame::{FRAME_HEADER_BYTES, FrameHeader, MARKER};
use super::header::{HEADER_BYTES_MAX, HeaderError, SegmentHeader};
use super::{Frame, FrameKind, SegmentBytes, SegmentError};

/// How much is looked through at once for a frame behind damage.
const WINDOW_BYTES: usize = 1 << 20;

/// Goes through the frames of one segment.
#[derive(Debug)]
pub struct SegmentReader<B> {
    name: String,
    bytes: B,
    length: u64,
    header: SegmentHeader,
    at: u64,
    sealed: bool,
}

/// The next frame, or why there is none.
#[derive(Debug)]
pub enum Step {
    Frame(Frame),
    End(SegmentEnd),
}

/// How a segment ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentEnd {
    /// With the frame that a seal writes.
    Sealed,
    /// With its last batch: the process died, or the segment failed.
    Unsealed,
    /// With the beginning of a batch that was never acknowledged.
    Torn { offset: u64, bytes: u64 },
    /// Not here: what is at `offset` is unreadable, but `resumes_at` there is a valid frame again.
    Damaged {
        offset: u64,
        resumes_at: u64,
        what: String,
    },
}

impl<B: SegmentBytes> SegmentReader<B> {
    /// Reads the header. `name` stands in errors.
    ///
    /// # Errors
    /// [`SegmentError::Unborn`] for a file whose creation did not get as far as its first sync;
    /// anything else means that the segment cannot be used at all.
    pub fn open(name: &str, bytes: B) -> Result<Self, SegmentError> {
        let read = |offset| {
            move |source| SegmentError::Read {
                name: name.to_owned(),
                offset,
                source,
            }
        };
        let length = bytes.length().map_err(read(0))?;
        let mut front = vec![0; length.min(HEADER_BYTES_MAX as u64) as usize];
        bytes.read_at(&mut front, 0).map_err(read(0))?;
        let unborn = || SegmentError::Unborn {
            name: name.to_owned(),
            bytes: length,
        };
        if front.iter().all(|&b| b == 0) {
            return Err(unborn());
        }
        let (header, header_bytes) = SegmentHeader::decode(&front).map_err(|e| match e {
            HeaderError::Short => unborn(),
            HeaderError::Version(found) => SegmentError::Version {
                name: name.to_owned(),
                found,
                known: 1,
            },
            HeaderError::Broken(what) => SegmentError::Damaged {
                name: name.to_owned(),
                offset: 0,
                what: what.to_owned(),
            },
        })?;
        Ok(Self {
            name: name.to_owned(),
            bytes,
            length,
            header,
            at: header_bytes as u64,
            sealed: false,
        })
    }

    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// The next frame. After an end it gives the same end again.
    ///
    /// # Errors
    /// [`SegmentError::Read`] when the disk fails.
    pub fn step(&mut self) -> Result<Step, SegmentError> {
        if self.at >= self.length {
            return Ok(Step::End(if self.sealed {
                SegmentEnd::Sealed
            } else {
                SegmentEnd::Unsealed
            }));
        }
        match self.frame_at(self.at)? {
            Ok((frame, next)) if !self.sealed => {
                self.at = next;
                self.sealed = frame.kind == FrameKind::End;
                if self.sealed {
                    return self.step();
                }
                Ok(Step::Frame(frame))
            }
            Ok(_) => self.end("a frame lies behind the end of the segment"),
            Err(what) => self.end(what),
        }
    }

    /// What the segment ends with, given that it is bad where the reader stands.
    fn end(&self, what: &'static str) -> Result<Step, SegmentError> {
        Ok(Step::End(match self.next_valid(self.at + 1)? {
            Some(resumes_at) => SegmentEnd::Damaged {
                offset: self.at,
                resumes_at,
                what: what.to_owned(),
            },
            None => SegmentEnd::Torn {
                offset: self.at,
                bytes: self.length - self.at,
            },
        }))
    }

    /// The frame at `offset` and where the next one would start, or what is wrong there.
    #[allow(
        clippy::type_complexity,
        reason = "outer: the disk failed; inner: the bytes are bad"
    )]
    fn frame_at(&self, offset: u64) -> Result<Result<(Frame, u64), &'static str>, SegmentError> {
        let Some((header, fixed, stored)) = self.stored_at(offset)? else {
            return Ok(Err("a frame is cut off or its header is bad"));
        };
        let next = offset + FRAME_HEADER_BYTES as u64 + stored.len() as u64;
        let frame = header.open(self.header.salt, offset, &fixed, stored);
        Ok(frame.map(|frame| (frame, next)))
    }

    #[allow(
        clippy::type_complexity,
        reason = "the three parts of a stored frame, used by the two callers only"
    )]
    fn stored_at(
        &self,
        offset: u64,
    ) -> Result<Option<(FrameHeader, [u8; FRAME_HEADER_BYTES], Vec<u8>)>, SegmentError> {
        let left = self.length - offset;
        if left < FRAME_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut fixed = [0; FRAME_HEADER_BYTES];
        self.read(&mut fixed, offset)?;
        let Ok(header) = FrameHeader::decode(&fixed) else {
            return Ok(None);
        };
        if u64::from(header.stored) > left - FRAME_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut stored = vec![0; header.stored as usize];
        self.read(&mut stored, offset + FRAME_HEADER_BYTES as u64)?;
        Ok(Some((header, fixed, stored)))
    }

    /// Where the first valid frame at or after `from` starts.
    fn next_valid(&self, from: u64) -> Result<Option<u64>, SegmentError> {
        let mut at = from;
        while at < self.length {
            let size = (self.length - at).min(WINDOW_BYTES as u64) as usize;
            let mut window = vec![0; size];
            self.read(&mut window, at)?;
            for found in positions(&window, &MARKER) {
                let offset = at + found as u64;
                if let Some((header, fixed, stored)) = self.stored_at(offset)?
                    && header.matches(self.header.salt, &fixed, &stored)
                {
                    return Ok(Some(offset));
                }
            }
            if size < WINDOW_BYTES {
                break;
            }
            // A marker may lie across the edge of the window.
            at += (size - (MARKER.len() - 1)) as u64;
        }
        Ok(None)
    }

    fn read(&self, into: &mut [u8], offset: u64) -> Result<(), SegmentError> {
        self.bytes
            .read_at(into, offset)
            .map_err(|source: io::Error| SegmentError::Read {
                name: self.name.clone(),
                offset,
                source,
            })
    }
}

fn positions<'a>(window: &'a [u8], marker: &'a [u8; 4]) -> impl Iterator<Item = usize> + 'a {
    window
        .windows(marker.len())
        .enumerate()
        .filter(move |(_, bytes)| bytes == marker)
        .map(|(at, _)| at)
}
