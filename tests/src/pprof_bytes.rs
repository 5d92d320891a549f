//! pprof messages written by hand, field by field, so that tests which push them lean on nothing of
//! the code they test.

use std::collections::HashMap;

/// Texts numbered by first use.
#[derive(Debug, Default)]
struct Numbered {
    in_order: Vec<String>,
    numbers: HashMap<String, u64>,
}

impl Numbered {
    fn number(&mut self, text: &str) -> u64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.in_order.len() as u64;
        self.in_order.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }
}

/// The stacks of one profile, root first, each with its value.
#[derive(Debug, Clone)]
pub struct TestProfile {
    pub time_ns: i64,
    pub sample_type: (&'static str, &'static str),
    pub stacks: Vec<(Vec<String>, i64)>,
    /// The span that all samples are of, in 16 hexadecimal digits.
    pub span: Option<String>,
}

impl TestProfile {
    /// A CPU profile of one stack per leaf.
    pub fn cpu(time_ns: i64, stacks: impl IntoIterator<Item = (Vec<String>, i64)>) -> Self {
        Self {
            time_ns,
            sample_type: ("cpu", "nanoseconds"),
            stacks: stacks.into_iter().collect(),
            span: None,
        }
    }

    /// The uncompressed message.
    pub fn encode(&self) -> Vec<u8> {
        let mut strings = Numbered::default();
        strings.number("");
        let kind = value_type(
            strings.number(self.sample_type.0),
            strings.number(self.sample_type.1),
        );
        let period = value_type(strings.number("cpu"), strings.number("nanoseconds"));
        let mut names = Numbered::default();
        let mut samples = Vec::new();
        for (stack, value) in &self.stacks {
            let mut sample = Vec::new();
            for name in stack.iter().rev() {
                put_number(&mut sample, 1, names.number(name) + 1);
            }
            put_number(&mut sample, 2, *value as u64);
            if let Some(span) = &self.span {
                let mut label = Vec::new();
                put_number(&mut label, 1, strings.number("span_id"));
                put_number(&mut label, 2, strings.number(span));
                put_message(&mut sample, 3, &label);
            }
            samples.push(sample);
        }
        let mut out = Vec::new();
        put_message(&mut out, 1, &kind);
        samples
            .iter()
            .for_each(|sample| put_message(&mut out, 2, sample));
        for (at, name) in names.in_order.iter().enumerate() {
            let id = at as u64 + 1;
            let mut line = Vec::new();
            put_number(&mut line, 1, id);
            let mut location = Vec::new();
            put_number(&mut location, 1, id);
            put_message(&mut location, 4, &line);
            put_message(&mut out, 4, &location);
            let mut function = Vec::new();
            put_number(&mut function, 1, id);
            put_number(&mut function, 2, strings.number(name));
            put_message(&mut out, 5, &function);
        }
        strings
            .in_order
            .iter()
            .for_each(|s| put_message(&mut out, 6, s.as_bytes()));
        put_number(&mut out, 9, self.time_ns as u64);
        put_number(&mut out, 10, 10_000_000_000);
        put_message(&mut out, 11, &period);
        put_number(&mut out, 12, 10_000_000);
        out
    }
}

fn value_type(kind: u64, unit: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, 1, kind);
    put_number(&mut out, 2, unit);
    out
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(out, field << 3);
    put_varint(out, value);
}

/// A field that has a length.
pub fn put_message(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
