//! Writing a segment.

use std::io;

use scoria_model::Seq;

use super::frame::{FrameEncoder, FrameKind};
use super::{LogDisk, LogFile, SegmentHeader, SegmentName};

/// Appends batches to one segment.
#[derive(Debug)]
pub struct SegmentWriter {
    file: Box<dyn LogFile>,
    encoder: FrameEncoder,
    buffer: Vec<u8>,
    length: u64,
    failed: bool,
}

impl SegmentWriter {
    /// Creates the segment with its header and the records that carry retry keys, all durable when
    /// this returns.
    ///
    /// # Errors
    /// Whatever the disk said; what is left of the file is removed if the disk lets it.
    pub fn create(
        disk: &dyn LogDisk,
        header: &SegmentHeader,
        retry_keys: &[Vec<u8>],
    ) -> io::Result<Self> {
        let name = SegmentName {
            stream: header.stream.clone(),
            generation: header.generation,
        }
        .to_string();
        let file = disk.create(&name)?;
        let started = Self::start(file, header, retry_keys);
        if started.is_err() {
            // The segment holds nothing: where this fails too, the next start finds it empty.
            let _ = disk.delete(&name);
        }
        started
    }

    fn start(
        file: Box<dyn LogFile>,
        header: &SegmentHeader,
        retry_keys: &[Vec<u8>],
    ) -> io::Result<Self> {
        let mut writer = Self {
            file,
            encoder: FrameEncoder::new(header.salt)?,
            buffer: header.encode(),
            length: 0,
            failed: false,
        };
        if !retry_keys.is_empty() {
            let Self {
                encoder, buffer, ..
            } = &mut writer;
            encoder.encode(FrameKind::RetryKeys, header.first_seq, retry_keys, buffer)?;
        }
        writer.write_buffer()?;
        Ok(writer)
    }

    /// Writes one batch and makes it durable; the length of the segment now. After an error nobody
    /// knows how much of the batch is on the disk, and every further call fails.
    ///
    /// # Errors
    /// Whatever the disk said.
    pub fn append(&mut self, first_seq: Seq, records: &[impl AsRef<[u8]>]) -> io::Result<u64> {
        self.write_frame(FrameKind::Records, first_seq, records)
    }

    /// Marks the segment as complete, so that damage to its last batch cannot pass for a torn tail.
    ///
    /// # Errors
    /// As [`SegmentWriter::append`]; nothing is lost by it but that distinction.
    pub fn finish(mut self, next_seq: Seq) -> io::Result<()> {
        self.write_frame(FrameKind::End, next_seq, &[] as &[&[u8]])?;
        Ok(())
    }

    /// Bytes of the segment.
    pub fn length(&self) -> u64 {
        self.length
    }

    fn write_frame(
        &mut self,
        kind: FrameKind,
        first_seq: Seq,
        records: &[impl AsRef<[u8]>],
    ) -> io::Result<u64> {
        if self.failed {
            return Err(io::Error::other("the segment failed before"));
        }
        self.buffer.clear();
        let encoded = self
            .encoder
            .encode(kind, first_seq, records, &mut self.buffer);
        if let Err(e) = encoded {
            self.failed = true;
            return Err(e);
        }
        self.write_buffer()?;
        Ok(self.length)
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        let written = self
            .file
            .append(&self.buffer)
            .and_then(|()| self.file.sync());
        self.failed = written.is_err();
        self.length += self.buffer.len() as u64;
        // One huge batch must not hold its memory for ever.
        self.buffer.shrink_to(1 << 20);
        written
    }
}
