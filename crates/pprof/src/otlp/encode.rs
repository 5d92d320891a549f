//! Writes exports in each generation: what the load generator sends and tests compare.
//!
//! # Invariants
//! - Entry 0 of every table is the one that stands for none; equal entries are one.

use hashbrown::HashMap;

/// A version of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    V1_8,
    V1_9,
    V1_10,
}

impl Generation {
    pub const ALL: [Self; 3] = [Self::V1_8, Self::V1_9, Self::V1_10];

    /// The fields of a sample: attributes, link, values.
    const fn sample_fields(self) -> [u32; 3] {
        match self {
            Self::V1_8 | Self::V1_9 => [3, 4, 2],
            Self::V1_10 => [2, 3, 4],
        }
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AttributeValue<'a> {
    Text(&'a str),
    Number(i64),
    Bool(bool),
    /// A list with one text.
    List(&'a str),
}

/// Where whole texts of attributes are written: in place, or as indexes (since 1.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    InPlace,
    Interned,
}

/// What a profile says about its samples.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProfileHeader<'a> {
    pub sample_type: (&'a str, &'a str),
    /// Left out if both texts are empty.
    pub period_type: (&'a str, &'a str),
    pub period: i64,
    pub time_ns: u64,
    pub duration_ns: u64,
    /// Left out if empty.
    pub profile_id: &'a [u8],
}

/// A sample; indexes are what the encoder returned.
#[derive(Debug, Clone, Copy, Default)]
pub struct SampleRow<'a> {
    pub stack: u32,
    pub attributes: &'a [u32],
    pub link: u32,
    pub values: &'a [i64],
    pub times_ns: &'a [u64],
}

/// Puts an export together: entries of the tables first, then `resource`, `scope` and `profile` in
/// the order in which they nest.
#[derive(Debug)]
pub struct ExportEncoder {
    generation: Generation,
    texts: Texts,
    tables: [Table; 7],
    resource: Vec<u8>,
    scope: Vec<u8>,
    out: Vec<u8>,
}

/// One table of the dictionary: its entries' bytes, and which one is where.
#[derive(Debug, Default)]
struct Table(HashMap<Vec<u8>, u32>, Vec<u8>);

const MAPPINGS: usize = 0;
const LOCATIONS: usize = 1;
const FUNCTIONS: usize = 2;
const LINKS: usize = 3;
const STRINGS: usize = 4;
const ATTRIBUTES: usize = 5;
const STACKS: usize = 6;

impl ExportEncoder {
    pub fn new(generation: Generation, texts: Texts) -> Self {
        let mut encoder = Self {
            generation,
            texts,
            tables: Default::default(),
            resource: Vec::new(),
            scope: Vec::new(),
            out: Vec::new(),
        };
        for table in 0..encoder.tables.len() {
            encoder.entry(table, Vec::new());
        }
        encoder
    }

    fn entry(&mut self, table: usize, entry: Vec<u8>) -> u32 {
        let Table(known, bytes) = &mut self.tables[table];
        if let Some(&at) = known.get(&entry) {
            return at;
        }
        field(bytes, table as u32 + 1, &entry);
        let at = known.len() as u32;
        known.insert(entry, at);
        at
    }

    pub fn string(&mut self, text: &str) -> u32 {
        self.entry(STRINGS, text.as_bytes().to_vec())
    }

    /// A function with its file.
    pub fn function(&mut self, name: &str, filename: &str) -> u32 {
        let (name, filename) = (self.string(name), self.string(filename));
        let mut entry = Vec::new();
        int(&mut entry, 1, u64::from(name));
        int(&mut entry, 3, u64::from(filename));
        self.entry(FUNCTIONS, entry)
    }

    /// A mapping from `range` with attributes such as build ids.
    pub fn mapping(&mut self, filename: &str, range: (u64, u64), attributes: &[u32]) -> u32 {
        let filename = self.string(filename);
        let mut entry = Vec::new();
        int(&mut entry, 1, range.0);
        int(&mut entry, 2, range.1);
        int(&mut entry, 4, u64::from(filename));
        ints(&mut entry, 5, attributes.iter().map(|&at| u64::from(at)));
        self.entry(MAPPINGS, entry)
    }

    /// A location with its (function, line)s, innermost first.
    pub fn location(&mut self, mapping: u32, address: u64, lines: &[(u32, i64)]) -> u32 {
        let mut entry = Vec::new();
        int(&mut entry, 1, u64::from(mapping));
        int(&mut entry, 2, address);
        for &(function, number) in lines {
            let mut line = Vec::new();
            int(&mut line, 1, u64::from(function));
            int(&mut line, 2, number as u64);
            field(&mut entry, 3, &line);
        }
        self.entry(LOCATIONS, entry)
    }

    /// A stack of locations, leaf first.
    pub fn stack(&mut self, locations: &[u32]) -> u32 {
        let mut entry = Vec::new();
        ints(&mut entry, 1, locations.iter().map(|&at| u64::from(at)));
        self.entry(STACKS, entry)
    }

    pub fn link(&mut self, trace: [u8; 16], span: [u8; 8]) -> u32 {
        let mut entry = Vec::new();
        field(&mut entry, 1, &trace);
        field(&mut entry, 2, &span);
        self.entry(LINKS, entry)
    }

    pub fn attribute(&mut self, key: &str, value: &AttributeValue<'_>) -> u32 {
        let value = self.any_value(value);
        let key = self.string(key);
        let mut entry = Vec::new();
        int(&mut entry, 1, u64::from(key));
        field(&mut entry, 2, &value);
        self.entry(ATTRIBUTES, entry)
    }

    fn any_value(&mut self, value: &AttributeValue<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        match value {
            AttributeValue::Text(text) if self.texts == Texts::Interned => {
                let text = self.string(text);
                int(&mut out, 8, u64::from(text));
            }
            AttributeValue::Text(text) => field(&mut out, 1, text.as_bytes()),
            AttributeValue::Number(number) => {
                put(&mut out, 3 << 3);
                put(&mut out, *number as u64);
            }
            AttributeValue::Bool(value) => {
                put(&mut out, 2 << 3);
                put(&mut out, u64::from(*value));
            }
            AttributeValue::List(text) => {
                let only = self.any_value(&AttributeValue::Text(text));
                let mut list = Vec::new();
                field(&mut list, 1, &only);
                field(&mut out, 5, &list);
            }
        }
        out
    }

    fn key_values(&mut self, number: u32, attributes: &[(&str, AttributeValue<'_>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in attributes {
            let value = self.any_value(value);
            let mut pair = Vec::new();
            match self.texts {
                Texts::InPlace => field(&mut pair, 1, key.as_bytes()),
                Texts::Interned => {
                    let key = self.string(key);
                    int(&mut pair, 3, u64::from(key));
                }
            }
            field(&mut pair, 2, &value);
            field(&mut out, number, &pair);
        }
        out
    }

    /// From here on profiles are of a resource with these attributes.
    pub fn resource(&mut self, attributes: &[(&str, AttributeValue<'_>)]) {
        self.end_resource();
        let attributes = self.key_values(1, attributes);
        field(&mut self.resource, 1, &attributes);
    }

    /// From here on profiles are of a scope.
    pub fn scope(&mut self, name: &str, attributes: &[(&str, AttributeValue<'_>)]) {
        self.end_scope();
        let mut scope = Vec::new();
        field(&mut scope, 1, name.as_bytes());
        scope.extend(self.key_values(3, attributes));
        field(&mut self.scope, 1, &scope);
    }

    pub fn profile(&mut self, header: &ProfileHeader<'_>, samples: &[SampleRow<'_>]) {
        let mut out = Vec::new();
        let sample_type = self.value_type(header.sample_type);
        field(&mut out, 1, &sample_type);
        for sample in samples {
            field(&mut out, 2, &self.sample(sample));
        }
        put(&mut out, 3 << 3 | 1);
        out.extend_from_slice(&header.time_ns.to_le_bytes());
        int(&mut out, 4, header.duration_ns);
        if header.period_type != ("", "") {
            let period_type = self.value_type(header.period_type);
            field(&mut out, 5, &period_type);
        }
        int(&mut out, 6, header.period as u64);
        if !header.profile_id.is_empty() {
            let number = match self.generation {
                Generation::V1_8 => 8,
                Generation::V1_9 | Generation::V1_10 => 7,
            };
            field(&mut out, number, header.profile_id);
        }
        field(&mut self.scope, 2, &out);
    }

    fn value_type(&mut self, (kind, unit): (&str, &str)) -> Vec<u8> {
        let texts = [self.string(kind), self.string(unit)];
        let mut out = Vec::new();
        int(&mut out, 1, u64::from(texts[0]));
        int(&mut out, 2, u64::from(texts[1]));
        out
    }

    fn sample(&self, sample: &SampleRow<'_>) -> Vec<u8> {
        let [attributes, link, values] = self.generation.sample_fields();
        let mut out = Vec::new();
        int(&mut out, 1, u64::from(sample.stack));
        ints(
            &mut out,
            attributes,
            sample.attributes.iter().map(|&at| u64::from(at)),
        );
        int(&mut out, link, u64::from(sample.link));
        ints(
            &mut out,
            values,
            sample.values.iter().map(|&value| value as u64),
        );
        if !sample.times_ns.is_empty() {
            let times: Vec<u8> = sample
                .times_ns
                .iter()
                .flat_map(|t| t.to_le_bytes())
                .collect();
            field(&mut out, 5, &times);
        }
        out
    }

    fn end_scope(&mut self) {
        if !self.scope.is_empty() {
            let scope = std::mem::take(&mut self.scope);
            field(&mut self.resource, 2, &scope);
        }
    }

    fn end_resource(&mut self) {
        self.end_scope();
        if !self.resource.is_empty() {
            let resource = std::mem::take(&mut self.resource);
            field(&mut self.out, 1, &resource);
        }
    }

    /// The export's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.end_resource();
        let dictionary: Vec<u8> = self
            .tables
            .iter()
            .flat_map(|table| &table.1)
            .copied()
            .collect();
        field(&mut self.out, 2, &dictionary);
        self.out
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// An integer; 0 is left out.
fn int(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put(out, u64::from(number) << 3);
        put(out, value);
    }
}

fn field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put(out, u64::from(number) << 3 | 2);
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A packed list; an empty one is left out.
fn ints(out: &mut Vec<u8>, number: u32, values: impl Iterator<Item = u64>) {
    let mut packed = Vec::new();
    values.for_each(|value| put(&mut packed, value));
    if !packed.is_empty() {
        field(out, number, &packed);
    }
}
