//! Attributes: keys and values that are text in place, or indexes into the dictionary's strings.
//!
//! # Invariants
//! - A value that has no form as a label (bool, double, bytes, lists, maps) is [`Value::Other`],
//!   never an empty text.
//! - Lists are looked into one level deep, so nesting costs nothing.

use super::fields::{Fields, Malformed, Span};

/// What an attribute says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing, or an empty text.
    #[default]
    Empty,
    Text(Span),
    Number(i64),
    /// Something that cannot be a label.
    Other,
    /// It points outside of the string table.
    Broken {
        index: u32,
    },
}

/// One attribute of a resource, a scope or the dictionary.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attribute {
    pub(super) key: Value,
    pub(super) value: Value,
}

/// The string table, as far as reading attributes needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strings<'a> {
    pub(super) body: &'a [u8],
    pub(super) places: &'a [Span],
}

impl Strings<'_> {
    /// The text at an index where 0 means that none is given.
    fn interned(self, index: u32) -> Value {
        match self.places.get(index as usize) {
            _ if index == 0 => Value::Empty,
            Some(place) if place.is_empty() => Value::Empty,
            Some(&place) => Value::Text(place),
            None => Value::Broken { index },
        }
    }

    /// The text at an index where 0 is an entry like any other.
    pub(super) fn at(self, index: u32) -> Value {
        match self.places.get(index as usize) {
            Some(place) if place.is_empty() => Value::Empty,
            Some(&place) => Value::Text(place),
            None => Value::Broken { index },
        }
    }

    /// A `KeyValue`; `interned` is set if any of its texts is an index.
    pub(super) fn key_value(
        self,
        place: Span,
        interned: &mut bool,
    ) -> Result<Attribute, Malformed> {
        let mut fields = Fields::of(self.body, place, "an attribute");
        let mut attribute = Attribute::default();
        while let Some(tag) = fields.next()? {
            match tag.number {
                1 => match fields.span(tag)? {
                    text if text.is_empty() => {}
                    text => attribute.key = Value::Text(text),
                },
                2 => {
                    let value = fields.span(tag)?;
                    attribute.value = self.any_value(value, interned)?;
                }
                3 => {
                    let index = fields.index(tag)?;
                    if index != 0 {
                        attribute.key = self.interned(index);
                        *interned = true;
                    }
                }
                _ => fields.skip(tag)?,
            }
        }
        Ok(attribute)
    }

    /// A `KeyValueAndUnit` of the dictionary.
    pub(super) fn key_value_and_unit(
        self,
        place: Span,
        interned: &mut bool,
    ) -> Result<Attribute, Malformed> {
        let mut fields = Fields::of(self.body, place, "an attribute of the dictionary");
        let mut attribute = Attribute {
            key: self.at(0),
            value: Value::Empty,
        };
        while let Some(tag) = fields.next()? {
            match tag.number {
                1 => attribute.key = self.at(fields.index(tag)?),
                2 => {
                    let value = fields.span(tag)?;
                    attribute.value = self.any_value(value, interned)?;
                }
                _ => fields.skip(tag)?,
            }
        }
        Ok(attribute)
    }

    /// An `AnyValue`: of a list with exactly one text or integer, that one.
    fn any_value(self, place: Span, interned: &mut bool) -> Result<Value, Malformed> {
        let mut fields = Fields::of(self.body, place, "an attribute value");
        let mut value = Value::Empty;
        while let Some(tag) = fields.next()? {
            if tag.number == 5 {
                let list = fields.span(tag)?;
                value = self.only_value(list, interned)?;
            } else if let Some(scalar) = self.scalar(&mut fields, tag, interned)? {
                value = scalar;
            }
        }
        Ok(value)
    }

    fn only_value(self, list: Span, interned: &mut bool) -> Result<Value, Malformed> {
        let mut values = Fields::of(self.body, list, "a list value");
        let mut only = Value::Other;
        let mut n = 0;
        while let Some(tag) = values.next()? {
            if tag.number != 1 {
                values.skip(tag)?;
                continue;
            }
            n += 1;
            let place = values.span(tag)?;
            let mut fields = Fields::of(self.body, place, "an attribute value");
            while let Some(tag) = fields.next()? {
                if let Some(scalar) = self.scalar(&mut fields, tag, interned)? {
                    only = scalar;
                }
            }
        }
        Ok(if n == 1 { only } else { Value::Other })
    }

    /// Reads a field of an `AnyValue`; `None` for one that says nothing.
    fn scalar(
        self,
        fields: &mut Fields<'_>,
        tag: crate::wire::Tag,
        interned: &mut bool,
    ) -> Result<Option<Value>, Malformed> {
        Ok(Some(match tag.number {
            1 => match fields.span(tag)? {
                text if text.is_empty() => Value::Empty,
                text => Value::Text(text),
            },
            3 => Value::Number(fields.int(tag)? as i64),
            8 => match fields.index(tag)? {
                0 => return Ok(None),
                index => {
                    *interned = true;
                    self.interned(index)
                }
            },
            2 | 4 | 5 | 6 | 7 => {
                fields.skip(tag)?;
                Value::Other
            }
            _ => {
                fields.skip(tag)?;
                return Ok(None);
            }
        }))
    }
}
