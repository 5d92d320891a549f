//! The message's fields, one after the other, into columns.

use super::{
    BAD_INDEX, Columns, DecodeError, FRAMES_AT_ONCE, NUMBER, Place, RawFunction, RawLabel, RawLine,
};
use super::{RawLocation, RawMapping, SampleEnds, ValueType};
use crate::wire::{self, Cursor, Tag, VARINT};

/// Whether the bytes have the shape of a profile, from the first field to the last: what tells them
/// from text and from other formats when nobody says what they are. Reads no more than the outermost
/// fields.
pub fn has_shape(bytes: &[u8]) -> bool {
    let mut cursor = Cursor::new(bytes);
    let mut n_types = 0;
    loop {
        let read = match cursor.tag() {
            Ok(None) => return n_types > 0,
            Ok(Some(tag)) => match tag.number {
                1 => {
                    n_types += 1;
                    let content = cursor.sub(tag, "shape");
                    content.and_then(|content| value_type(content).map(drop))
                }
                2..=6 | 11 => cursor.sub(tag, "shape").map(drop),
                7..=10 | 12 | 14 | 15 => cursor.int(tag, "shape").map(drop),
                13 => cursor.skip(tag),
                _ => return false,
            },
            Err(error) => Err(error),
        };
        if read.is_err() {
            return false;
        }
    }
}

impl Columns {
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        const WHAT: &str = "top level";
        let mut cursor = Cursor::new(bytes);
        while let Some(tag) = cursor.tag()? {
            match tag.number {
                1 => {
                    let kind = value_type(cursor.sub(tag, WHAT)?)?;
                    self.sample_types.push(kind);
                }
                2 => self.read_sample(cursor.sub(tag, WHAT)?)?,
                3 => {
                    let mapping = mapping(cursor.sub(tag, WHAT)?)?;
                    self.mappings.push(mapping);
                }
                4 => self.read_location(cursor.sub(tag, WHAT)?)?,
                5 => {
                    let function = function(cursor.sub(tag, WHAT)?)?;
                    self.functions.push(function);
                }
                6 => {
                    let text = cursor.sub(tag, WHAT)?;
                    self.strings.push(Place {
                        start: text.at() as u32,
                        length: text.n_left() as u32,
                    });
                }
                7 | 8 | 14 | 15 => drop(cursor.int(tag, WHAT)?),
                9 => self.time_ns = cursor.int(tag, WHAT)? as i64,
                10 => self.duration_ns = cursor.int(tag, WHAT)? as i64,
                11 => self.period_type = value_type(cursor.sub(tag, WHAT)?)?,
                12 => self.period = cursor.int(tag, WHAT)? as i64,
                13 => wire::repeated(&mut cursor, tag, WHAT, drop)?,
                _ => cursor.skip(tag)?,
            }
        }
        Ok(())
    }

    fn read_sample(&mut self, mut cursor: Cursor<'_>) -> Result<(), DecodeError> {
        const WHAT: &str = "sample";
        while let Some(tag) = cursor.tag()? {
            match tag.number {
                1 if tag.wire == VARINT => {
                    let id = cursor.varint()?;
                    self.frames.push(self.wide_ids.frame(id));
                }
                1 => self.read_frames(cursor.sub(tag, WHAT)?)?,
                2 => {
                    let values = &mut self.values;
                    wire::repeated(&mut cursor, tag, WHAT, |value| values.push(value as i64))?;
                }
                3 => {
                    let (label, unit) = label(cursor.sub(tag, WHAT)?)?;
                    self.labels.push(label);
                    self.label_unit_max = self.label_unit_max.max(unit);
                }
                _ => cursor.skip(tag)?,
            }
        }
        self.samples.push(SampleEnds {
            frames: self.frames.len() as u32,
            values: self.values.len() as u32,
            labels: self.labels.len() as u32,
        });
        Ok(())
    }

    fn read_frames(&mut self, mut ids: Cursor<'_>) -> Result<(), DecodeError> {
        let mut frames = [0; FRAMES_AT_ONCE];
        while !ids.is_at_end() {
            let mut n = 0;
            for frame in &mut frames {
                *frame = self.wide_ids.frame(ids.varint()?);
                n += 1;
                if ids.is_at_end() {
                    break;
                }
            }
            self.frames.extend_from_slice(&frames[..n]);
        }
        Ok(())
    }

    fn read_location(&mut self, mut cursor: Cursor<'_>) -> Result<(), DecodeError> {
        const WHAT: &str = "location";
        let mut row = RawLocation::default();
        while let Some(tag) = cursor.tag()? {
            match tag.number {
                1 => row.id = cursor.int(tag, WHAT)?,
                2 => row.mapping = cursor.int(tag, WHAT)?,
                3 => row.address = cursor.int(tag, WHAT)?,
                4 => {
                    let line = line(cursor.sub(tag, WHAT)?)?;
                    self.locations.push_line(line);
                }
                5 => drop(cursor.int(tag, WHAT)?),
                _ => cursor.skip(tag)?,
            }
        }
        self.locations.push(row);
        Ok(())
    }
}
fn index(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(BAD_INDEX)
}

fn value_type(mut cursor: Cursor<'_>) -> Result<ValueType, DecodeError> {
    const WHAT: &str = "value type";
    let mut row = ValueType::default();
    while let Some(tag) = cursor.tag()? {
        match tag.number {
            1 => row.kind = index(cursor.int(tag, WHAT)?),
            2 => row.unit = index(cursor.int(tag, WHAT)?),
            _ => cursor.skip(tag)?,
        }
    }
    Ok(row)
}

/// With the index of its unit.
#[inline]
fn label(mut cursor: Cursor<'_>) -> Result<(RawLabel, u32), DecodeError> {
    const WHAT: &str = "label";
    let mut row = RawLabel::default();
    let (mut number, mut unit) = (0, 0);
    while let Some(tag) = cursor.tag()? {
        match tag.number {
            1 => row.key = index(cursor.int(tag, WHAT)?),
            2 => row.text = index(cursor.int(tag, WHAT)?),
            3 => number = cursor.int(tag, WHAT)?,
            4 => unit = index(cursor.int(tag, WHAT)?),
            _ => cursor.skip(tag)?,
        }
    }
    if row.text == 0 && (number != 0 || unit != 0) {
        row.text = NUMBER;
    }
    Ok((row, unit))
}

#[inline]
fn line(mut cursor: Cursor<'_>) -> Result<RawLine, DecodeError> {
    const WHAT: &str = "line";
    let mut row = RawLine::default();
    while let Some(tag) = cursor.tag()? {
        match tag.number {
            1 => row.function = cursor.int(tag, WHAT)?,
            2 => row.line = cursor.int(tag, WHAT)? as i64,
            3 => drop(cursor.int(tag, WHAT)?),
            _ => cursor.skip(tag)?,
        }
    }
    Ok(row)
}

#[inline]
fn function(mut cursor: Cursor<'_>) -> Result<RawFunction, DecodeError> {
    const WHAT: &str = "function";
    let mut row = RawFunction::default();
    while let Some(tag) = cursor.tag()? {
        match tag.number {
            1 => row.id = cursor.int(tag, WHAT)?,
            2 => row.name = index(cursor.int(tag, WHAT)?),
            3 => row.system_name = index(cursor.int(tag, WHAT)?),
            4 => row.filename = index(cursor.int(tag, WHAT)?),
            5 => row.start_line = cursor.int(tag, WHAT)? as i64,
            _ => cursor.skip(tag)?,
        }
    }
    Ok(row)
}

fn mapping(mut cursor: Cursor<'_>) -> Result<RawMapping, DecodeError> {
    const WHAT: &str = "mapping";
    let mut row = RawMapping::default();
    while let Some(tag) = cursor.tag()? {
        match tag.number {
            1 => row.id = cursor.int(tag, WHAT)?,
            2 => row.start = cursor.int(tag, WHAT)?,
            3 => row.limit = cursor.int(tag, WHAT)?,
            4 => row.offset = cursor.int(tag, WHAT)?,
            5 => row.filename = index(cursor.int(tag, WHAT)?),
            6 => row.build_id = index(cursor.int(tag, WHAT)?),
            7..=10 => read_flag(&mut cursor, tag, &mut row.flags)?,
            _ => cursor.skip(tag)?,
        }
    }
    Ok(row)
}

/// The four flags are fields 7 to 10 and bits 0 to 3.
fn read_flag(cursor: &mut Cursor<'_>, tag: Tag, flags: &mut u32) -> Result<(), DecodeError> {
    let bit = 1 << (tag.number - 7);
    if cursor.int(tag, "mapping")? == 0 {
        *flags &= !bit;
    } else {
        *flags |= bit;
    }
    Ok(())
}
