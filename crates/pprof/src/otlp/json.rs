//! OTLP/JSON: an export in JSON, rewritten as protobuf of the current generation.
//!
//! The text is read once from front to back and written as it comes, so that it is never held as a
//! tree. What the tables of [`shape`] do not name is passed over, as readers of JSON forms of
//! protobuf do that expect newer senders.
//!
//! # Invariants
//! - Names may be camelCase or snake_case, integers of any width numbers or texts.
//! - Ids are hexadecimal, as OTLP has it; base64, as generic writers of protobuf's JSON make it, is
//!   told apart by its length.
//! - An element of a list is written even if it is null or empty: places in tables count.
//! - The names of all generations mean what they mean there; those of the ones before 1.8 are an
//!   error that names the field.

mod shape;
mod writer;

use std::fmt;

use scoria_model::budget::BudgetExceeded;
use scoria_model::{ByteBudget, Permit};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use shape::{EXPORT, Field, Kind, Shape};
use writer::Writer;

/// Why a text is not an export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// With line and column.
    #[error("{0}")]
    Text(String),
    #[error("{0}; {remedy}", remedy = .0.remedy())]
    Memory(#[from] BudgetExceeded),
}

/// Rewrites an export. The permit covers what is returned.
///
/// # Errors
/// The text is not JSON or not of this shape, or there is no memory for the result.
pub fn transcode(text: &[u8], memory: &ByteBudget) -> Result<(Vec<u8>, Permit), JsonError> {
    let mut writer = Writer::new(text.len() / 4, memory)?;
    let mut reader = serde_json::Deserializer::from_slice(text);
    let top = Message {
        writer: &mut writer,
        shape: &EXPORT,
    };
    let read = top.deserialize(&mut reader).and_then(|()| reader.end());
    let (out, permit) = writer.finish()?;
    read.map_err(|error| JsonError::Text(error.to_string()))?;
    Ok((out, permit))
}

/// The fields of one object, written without a length around them.
struct Message<'w> {
    writer: &'w mut Writer,
    shape: &'static Shape,
}

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shape.what)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(Name(self.shape))? {
            match field {
                Some(field) => map.next_value_seed(Content {
                    writer: self.writer,
                    field,
                    place: InPlace::Field,
                })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A field by its name.
struct Name(&'static Shape);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let field = self.0.field(name);
        match field {
            Some(Field {
                kind: Kind::Before18,
                ..
            }) => Err(E::custom(format_args!(
                "field {name} of {} belongs to a version of OTLP profiles before 1.8, which cannot be read; update the sender to one that speaks 1.10",
                self.0.what
            ))),
            field => Ok(field),
        }
    }
}

/// Whether a value stands alone or in a list, where its place counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InPlace {
    Field,
    List,
}

/// The value of a field.
struct Content<'w> {
    writer: &'w mut Writer,
    field: &'static Field,
    place: InPlace,
}

impl Content<'_> {
    fn int<E: de::Error>(self, value: u64) -> Result<(), E> {
        let (writer, number) = (self.writer, self.field.number);
        match (self.field.kind, self.place) {
            (Kind::Int, _) => writer.int(number, value),
            (Kind::Ints, InPlace::List) => writer.varint(value),
            (Kind::Ints, InPlace::Field) => writer.nested(number, |writer| writer.varint(value)),
            (Kind::Fixed, _) => writer.fixed(number, value),
            (Kind::Fixeds, InPlace::List) => writer.eight(value),
            (Kind::Fixeds, InPlace::Field) => writer.nested(number, |writer| writer.eight(value)),
            (Kind::Other, _) => writer.nested(number, |_| {}),
            _ => {
                return Err(E::custom(format_args!(
                    "{} is a number, which it cannot be",
                    self.field.name
                )));
            }
        }
        Ok(())
    }

    fn text<E: de::Error>(self, text: &str) -> Result<(), E> {
        let number = self.field.number;
        match self.field.kind {
            Kind::Text => {
                self.writer.bytes(number, text.as_bytes());
                Ok(())
            }
            Kind::Id => match id(text) {
                Some((bytes, length)) => {
                    self.writer.bytes(number, &bytes[..length]);
                    Ok(())
                }
                None => Err(E::custom(format_args!(
                    "{} is neither hexadecimal nor base64 of an id",
                    self.field.name
                ))),
            },
            Kind::Other => {
                self.writer.nested(number, |_| {});
                Ok(())
            }
            Kind::Int | Kind::Ints | Kind::Fixed | Kind::Fixeds => match integer(text) {
                Some(value) => self.int(value),
                None => Err(E::custom(format_args!(
                    "{} is no integer of 64 bits",
                    self.field.name
                ))),
            },
            Kind::Message(shape) => Err(E::custom(format_args!(
                "{} is a text, not {}",
                self.field.name, shape.what
            ))),
            Kind::Before18 => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.writer.is_full() {
            return Err(de::Error::custom("no memory is left"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Content<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {}", self.field.name)
    }

    /// Null: nothing, but in a list the default.
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        if self.place == InPlace::Field {
            return Ok(());
        }
        match self.field.kind {
            Kind::Ints | Kind::Fixeds => self.int(0),
            _ => {
                self.writer.nested(self.field.number, |_| {});
                Ok(())
            }
        }
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.int(u64::from(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.int(value as u64)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.int(value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        match (self.field.kind, whole(value)) {
            (Kind::Other, _) => self.int(0),
            (_, Some(value)) => self.int(value),
            (_, None) => Err(E::custom(format_args!(
                "{} is {value}, not an integer of 64 bits",
                self.field.name
            ))),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Content { writer, field, .. } = self;
        let mut elements = |writer: &mut Writer| -> Result<(), A::Error> {
            let place = InPlace::List;
            while list
                .next_element_seed(Content {
                    writer: &mut *writer,
                    field,
                    place,
                })?
                .is_some()
            {}
            Ok(())
        };
        match field.kind {
            Kind::Ints | Kind::Fixeds => writer.nested(field.number, elements),
            _ => elements(writer),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Kind::Message(shape) = self.field.kind else {
            return Err(de::Error::custom(format_args!(
                "{} is an object, which it cannot be",
                self.field.name
            )));
        };
        self.writer.nested(self.field.number, |writer| {
            Message { writer, shape }.visit_map(map)
        })
    }
}

/// An integer as text, with a fraction or exponent that leaves it whole if need be.
fn integer(text: &str) -> Option<u64> {
    let text = text.trim();
    let whole_number = || whole(text.parse().ok()?);
    text.parse::<u64>()
        .or_else(|_| text.parse::<i64>().map(|value| value as u64))
        .ok()
        .or_else(whole_number)
}

fn whole(value: f64) -> Option<u64> {
    const TOO_LARGE: f64 = 18_446_744_073_709_551_616.0;
    const TOO_SMALL: f64 = -9_223_372_036_854_775_808.0;
    if value.fract() != 0.0 || !(TOO_SMALL..TOO_LARGE).contains(&value) {
        return None;
    }
    Some(if value < 0.0 {
        value as i64 as u64
    } else {
        value as u64
    })
}

/// The bytes of an id and how many there are: 16 or 8, or none for an empty text.
fn id(text: &str) -> Option<([u8; 16], usize)> {
    let mut bytes = [0; 16];
    let digits = text.as_bytes();
    match digits.len() {
        0 => Some((bytes, 0)),
        32 | 16 => {
            for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                let pair = std::str::from_utf8(pair).ok()?;
                *byte = u8::from_str_radix(pair, 16).ok()?;
            }
            Some((bytes, digits.len() / 2))
        }
        _ => base64(
            digits
                .strip_suffix(b"==")
                .or_else(|| digits.strip_suffix(b"="))
                .unwrap_or(digits),
            bytes,
        ),
    }
}

/// Without its padding: 22 digits are 16 bytes, 11 are 8.
fn base64(digits: &[u8], mut bytes: [u8; 16]) -> Option<([u8; 16], usize)> {
    let length = match digits.len() {
        22 => 16,
        11 => 8,
        _ => return None,
    };
    let (mut bits, mut n_bits, mut at) = (0_u32, 0, 0);
    for &digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        n_bits += 6;
        if n_bits >= 8 && at < length {
            n_bits -= 8;
            bytes[at] = (bits >> n_bits) as u8;
            at += 1;
        }
    }
    Some((bytes, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let hex = id("0102030405060708090a0b0c0d0e0f10").unwrap();
        assert_eq!(
            hex,
            ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], 16)
        );
        assert_eq!(id("AQIDBAUGBwgJCgsMDQ4PEA=="), Some(hex));
        let span = id("0102030405060708").unwrap();
        assert_eq!((span.1, span.0[7]), (8, 8));
        assert_eq!(id("AQIDBAUGBwg="), Some(span));
        assert_eq!(id(""), Some(([0; 16], 0)));
        for bad in ["0", "zz02030405060708", "AQIDBAUGBw!=", "ééééé+"] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }

    #[test]
    fn integers() {
        assert_eq!(integer("18446744073709551615"), Some(u64::MAX));
        assert_eq!(integer("-1"), Some(u64::MAX));
        assert_eq!(integer("1e3"), Some(1000));
        for bad in ["", "x", "1.5", "1e30", "NaN", "inf"] {
            assert_eq!(integer(bad), None, "{bad}");
        }
    }
}
