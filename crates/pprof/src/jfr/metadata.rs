//! The classes of a chunk: what its metadata says about the fields of its events and constants.
//!
//! # Invariants
//! - Nothing is taken for granted about the layout of a class: what the metadata does not say is
//!   not there.
//! - The tree of elements, and how many there are, are limited.
//!
//! # What it must not know
//! Which classes mean something.

use std::borrow::Cow;

use super::cursor::Cursor;
use super::error::JfrError;

/// The JDK's metadata has about ten thousand.
const TEXTS_MAX: usize = 1 << 17;
const ELEMENTS_MAX: usize = 1 << 17;
/// root, metadata, class, field, annotation.
const DEPTH_MAX: usize = 16;

/// A field of a class.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) class: u64,
    /// Whether it holds the key of a constant and not the value.
    pub(crate) is_constant: bool,
    pub(crate) is_array: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Class<'a> {
    pub(crate) id: u64,
    pub(crate) name: Cow<'a, str>,
    pub(crate) fields: Vec<Field<'a>>,
}

/// The classes of a chunk by id.
#[derive(Debug, Default)]
pub(crate) struct Metadata<'a> {
    classes: Vec<Class<'a>>,
    held: u64,
}

impl<'a> Metadata<'a> {
    /// Reads the event of a chunk's metadata, behind its size and type.
    pub(crate) fn read(cursor: &mut Cursor<'a, '_>) -> Result<Self, JfrError> {
        const START_DURATION_AND_ID: usize = 3;
        for _ in 0..START_DURATION_AND_ID {
            cursor.varint()?;
        }
        let at = cursor.at();
        let n = cursor.count(1)?;
        if n > TEXTS_MAX {
            return Err(JfrError::TooMany {
                at,
                what: "texts in its metadata",
                limit: TEXTS_MAX,
            });
        }
        cursor
            .allowance()
            .hold((n * size_of::<Cow<'_, str>>()) as u64)?;
        let mut texts = Vec::with_capacity(n);
        for _ in 0..n {
            texts.push(cursor.text()?.decode());
        }
        let mut tree = Tree {
            texts: &texts,
            classes: Vec::new(),
            n_elements: 0,
        };
        tree.element(cursor, 0)?;
        let held = tree.held_bytes() + (n * size_of::<Cow<'_, str>>()) as u64;
        let mut classes = tree.classes;
        classes.sort_by_key(|class| class.id);
        classes.dedup_by_key(|class| class.id);
        Ok(Self { classes, held })
    }

    /// Bytes of memory that it has taken from the allowance.
    pub(crate) const fn held_bytes(&self) -> u64 {
        self.held
    }

    pub(crate) fn n_classes(&self) -> usize {
        self.classes.len()
    }

    /// The place of a class among the classes.
    pub(crate) fn place(&self, id: u64) -> Option<usize> {
        self.classes
            .binary_search_by_key(&id, |class| class.id)
            .ok()
    }

    pub(crate) fn class(&self, place: usize) -> &Class<'a> {
        &self.classes[place]
    }

    /// The class of a name, with its place.
    pub(crate) fn named(&self, name: &str) -> Option<(usize, &Class<'a>)> {
        let mut classes = self.classes.iter().enumerate();
        classes.find(|(_, class)| class.name == name)
    }
}

/// The elements of the metadata on their way to classes.
struct Tree<'t, 'a> {
    texts: &'t [Cow<'a, str>],
    classes: Vec<Class<'a>>,
    n_elements: usize,
}

/// The attributes of an element that mean something, empty where it has none.
#[derive(Default)]
struct Attributes<'t, 'a> {
    id: &'t str,
    class: &'t str,
    constant: &'t str,
    dimension: &'t str,
    name: Cow<'a, str>,
}

/// Of an element that is kept: a class or a field, in a vector that doubles.
const ELEMENT_BYTES: u64 = 2 * size_of::<Class<'_>>() as u64;

impl<'t, 'a> Tree<'t, 'a> {
    const fn held_bytes(&self) -> u64 {
        self.n_elements as u64 * ELEMENT_BYTES
    }

    fn element(&mut self, cursor: &mut Cursor<'a, '_>, depth: usize) -> Result<(), JfrError> {
        let at = cursor.at();
        let too_many = |what, limit| JfrError::TooMany { at, what, limit };
        self.n_elements += 1;
        if self.n_elements > ELEMENTS_MAX {
            return Err(too_many("elements in its metadata", ELEMENTS_MAX));
        }
        if depth > DEPTH_MAX {
            return Err(too_many(
                "elements inside each other in its metadata",
                DEPTH_MAX,
            ));
        }
        cursor.allowance().hold(ELEMENT_BYTES)?;
        let kind = self.text(cursor)?;
        let attributes = self.attributes(cursor)?;
        match &**kind {
            "class" => self.classes.push(Class {
                id: number(attributes.id).ok_or(JfrError::Damaged {
                    at,
                    problem: "a class has an id that is not an integer",
                })?,
                name: attributes.name,
                fields: Vec::new(),
            }),
            "field" => {
                let field = Field {
                    name: attributes.name,
                    class: number(attributes.class).ok_or(JfrError::Damaged {
                        at,
                        problem: "a field has a class that is not an integer",
                    })?,
                    is_constant: attributes.constant == "true",
                    is_array: !matches!(attributes.dimension, "" | "0"),
                };
                if let Some(class) = self.classes.last_mut() {
                    class.fields.push(field);
                }
            }
            _ => {}
        }
        for _ in 0..cursor.count(3)? {
            self.element(cursor, depth + 1)?;
        }
        Ok(())
    }

    fn attributes(&self, cursor: &mut Cursor<'a, '_>) -> Result<Attributes<'t, 'a>, JfrError> {
        let mut attributes = Attributes::default();
        for _ in 0..cursor.count(2)? {
            let key = self.text(cursor)?;
            let value = self.text(cursor)?;
            match &**key {
                "id" => attributes.id = value,
                "class" => attributes.class = value,
                "constantPool" => attributes.constant = value,
                "dimension" => attributes.dimension = value,
                "name" => attributes.name = value.clone(),
                _ => {}
            }
        }
        Ok(attributes)
    }

    fn text(&self, cursor: &mut Cursor<'a, '_>) -> Result<&'t Cow<'a, str>, JfrError> {
        let at = cursor.at();
        let text = usize::try_from(cursor.varint()?).ok();
        let text = text.and_then(|text| self.texts.get(text));
        text.ok_or(JfrError::Damaged {
            at,
            problem: "the metadata names a text that it does not have",
        })
    }
}

fn number(text: &str) -> Option<u64> {
    let signed = || text.parse::<i64>().map(|id| id as u64);
    text.parse().or_else(|_| signed()).ok()
}
