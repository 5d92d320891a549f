//! How to read, or to pass over, the values of one class: its fields in order, flattened.
//!
//! # Invariants
//! - A layout is finite and small, whatever the metadata says about classes inside classes.
//! - Elements of an array take at least a byte each, so that reading takes work by the byte.
//!
//! # What it must not know
//! Which fields mean what: the reader of an event or a constant names those that it wants.

use super::cursor::{Cursor, Text};
use super::error::JfrError;
use super::metadata::{Class, Metadata};

/// The JDK's largest event has about seventy fields.
const STEPS_MAX: usize = 4096;
/// Classes inside classes; the JDK has two.
const DEPTH_MAX: usize = 8;
/// Marks a field that nobody wants.
const UNWANTED: u8 = u8::MAX;

/// What stands in a wanted field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Value<'a> {
    /// The class has no such field.
    #[default]
    Absent,
    /// An integer, or the key of a constant.
    Number(u64),
    Text(Text<'a>),
    /// An array that starts at this place, with its count.
    ArrayAt(usize),
}

impl Value<'_> {
    /// The integer; 0 if there is none.
    pub(crate) const fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            _ => 0,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Integer,
    Byte,
    /// Floating point numbers, which nobody wants.
    Bytes(u8),
    Text,
    /// With the place of its element among the layout's arrays.
    Array(u16),
}

#[derive(Debug, Clone, Copy)]
struct Step {
    kind: Kind,
    slot: u8,
}

/// The fields of a class in the order in which their values stand.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    steps: Vec<Step>,
    arrays: Vec<Layout>,
    /// The least that a value takes.
    bytes_min: usize,
}

impl Layout {
    /// The layout of the class at `place`. The value of the field `wanted[n]` is put into slot `n`.
    ///
    /// `at` is the place to name in an error.
    pub(crate) fn of(
        metadata: &Metadata<'_>,
        place: usize,
        wanted: &[&str],
        at: usize,
    ) -> Result<Self, JfrError> {
        let mut builder = Builder {
            metadata,
            at,
            n_steps: 0,
        };
        let mut layout = Self::default();
        let class = metadata.class(place);
        if let Some(kind) = primitive(&class.name) {
            // Texts are a class whose constants are only themselves.
            layout.push(kind, if wanted.is_empty() { UNWANTED } else { 0 });
        } else {
            builder.fields(&mut layout, class, Slots::Wanted(wanted), 0)?;
        }
        Ok(layout)
    }

    pub(crate) const fn bytes_min(&self) -> usize {
        self.bytes_min
    }

    /// Fields, those of arrays' elements included.
    pub(crate) fn n_steps(&self) -> usize {
        let arrays = self.arrays.iter().map(Self::n_steps);
        self.steps.len() + arrays.sum::<usize>()
    }

    fn push(&mut self, kind: Kind, slot: u8) {
        self.bytes_min += match kind {
            Kind::Bytes(n) => usize::from(n),
            _ => 1,
        };
        self.steps.push(Step { kind, slot });
    }

    /// Reads one value; what was wanted of it goes into `slots`.
    pub(crate) fn read<'a>(
        &self,
        cursor: &mut Cursor<'a, '_>,
        slots: &mut [Value<'a>],
    ) -> Result<(), JfrError> {
        for step in &self.steps {
            let value = match step.kind {
                Kind::Integer => Value::Number(cursor.varint()?),
                Kind::Byte => Value::Number(u64::from(cursor.byte()?)),
                Kind::Bytes(n) => {
                    cursor.take(usize::from(n))?;
                    Value::Absent
                }
                Kind::Text => Value::Text(cursor.text()?),
                Kind::Array(element) => {
                    let at = cursor.at();
                    let element = &self.arrays[usize::from(element)];
                    for _ in 0..cursor.count(element.bytes_min)? {
                        element.read(cursor, &mut [])?;
                    }
                    Value::ArrayAt(at)
                }
            };
            if let Some(slot) = slots.get_mut(usize::from(step.slot)) {
                *slot = value;
            }
        }
        Ok(())
    }
}

/// Which slots the fields of a class go to.
#[derive(Clone, Copy)]
enum Slots<'w> {
    /// By name.
    Wanted(&'w [&'w str]),
    /// The only field of the class stands for the whole.
    Only(u8),
}

impl Slots<'_> {
    fn of(self, name: &str) -> u8 {
        match self {
            Self::Wanted(wanted) => {
                let slot = wanted.iter().position(|wanted| *wanted == name);
                slot.map_or(UNWANTED, |slot| slot as u8)
            }
            Self::Only(slot) => slot,
        }
    }
}

struct Builder<'m, 'a> {
    metadata: &'m Metadata<'a>,
    at: usize,
    n_steps: usize,
}

impl Builder<'_, '_> {
    fn fields(
        &mut self,
        layout: &mut Layout,
        class: &Class<'_>,
        slots: Slots<'_>,
        depth: usize,
    ) -> Result<(), JfrError> {
        for field in &class.fields {
            let slot = slots.of(&field.name);
            if !field.is_array {
                self.field(layout, (field.class, field.is_constant), slot, depth)?;
                continue;
            }
            self.step(depth)?;
            let mut element = Layout::default();
            let of = (field.class, field.is_constant);
            self.field(&mut element, of, UNWANTED, depth + 1)?;
            let place = layout.arrays.len() as u16;
            layout.arrays.push(element);
            layout.push(Kind::Array(place), slot);
        }
        Ok(())
    }

    fn field(
        &mut self,
        layout: &mut Layout,
        (class, is_constant): (u64, bool),
        slot: u8,
        depth: usize,
    ) -> Result<(), JfrError> {
        self.step(depth)?;
        if is_constant {
            layout.push(Kind::Integer, slot);
            return Ok(());
        }
        let metadata = self.metadata;
        let place = metadata.place(class).ok_or(JfrError::Damaged {
            at: self.at,
            problem: "a field has a class that the metadata does not describe",
        })?;
        let class = metadata.class(place);
        if let Some(kind) = primitive(&class.name) {
            layout.push(kind, slot);
            return Ok(());
        }
        let slots = match class.fields.len() {
            1 => Slots::Only(slot),
            _ => Slots::Wanted(&[]),
        };
        self.fields(layout, class, slots, depth + 1)
    }

    fn step(&mut self, depth: usize) -> Result<(), JfrError> {
        self.n_steps += 1;
        let too_many = |what, limit| {
            Err(JfrError::TooMany {
                at: self.at,
                what,
                limit,
            })
        };
        if self.n_steps > STEPS_MAX {
            return too_many("fields in one class", STEPS_MAX);
        }
        if depth > DEPTH_MAX {
            return too_many("classes inside each other", DEPTH_MAX);
        }
        Ok(())
    }
}

fn primitive(class: &str) -> Option<Kind> {
    Some(match class {
        "boolean" | "byte" => Kind::Byte,
        "char" | "short" | "int" | "long" => Kind::Integer,
        "float" => Kind::Bytes(4),
        "double" => Kind::Bytes(8),
        "java.lang.String" => Kind::Text,
        _ => return None,
    })
}
