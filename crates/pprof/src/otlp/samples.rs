//! Reads a profile's own fields and its samples.

use super::fields::{Fields, Malformed, Span};
use super::layout::Layout;

/// What a profile says about all of its samples; texts are string indexes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Header {
    pub(super) sample_type: (u32, u32),
    pub(super) period_type: (u32, u32),
    pub(super) period: i64,
    pub(super) time_ns: u64,
    pub(super) duration_ns: u64,
}

/// One sample.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    pub(super) stack: u32,
    pub(super) link: u32,
    /// The sum of its values; without any, the number of its timestamps.
    pub(super) value: i64,
}

/// What is wrong with a sample.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadSample {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("it has neither values nor timestamps")]
    NoValue,
    #[error("the sum of its values overflows 64 bits")]
    Overflow,
}

const PROFILE: &str = "a profile";
const SAMPLE: &str = "a sample";
/// The field of a profile that its samples are.
const SAMPLES: u32 = 2;

impl Header {
    pub(super) fn read(body: &[u8], profile: Span) -> Result<Self, Malformed> {
        let mut fields = Fields::of(body, profile, PROFILE);
        let mut header = Self::default();
        while let Some(tag) = fields.next()? {
            match tag.number {
                1 => header.sample_type = value_type(body, fields.span(tag)?)?,
                3 => header.time_ns = fields.nanos(tag)?,
                4 => header.duration_ns = fields.nanos(tag)?,
                5 => header.period_type = value_type(body, fields.span(tag)?)?,
                6 => header.period = fields.int(tag)? as i64,
                _ => fields.skip(tag)?,
            }
        }
        Ok(header)
    }
}

fn value_type(body: &[u8], place: Span) -> Result<(u32, u32), Malformed> {
    let mut fields = Fields::of(body, place, "a value type");
    let mut texts = (0, 0);
    while let Some(tag) = fields.next()? {
        match tag.number {
            1 => texts.0 = fields.index(tag)?,
            2 => texts.1 = fields.index(tag)?,
            _ => fields.skip(tag)?,
        }
    }
    Ok(texts)
}

/// The places of a profile's samples.
pub(super) struct Samples<'a> {
    fields: Fields<'a>,
}

impl<'a> Samples<'a> {
    pub(super) fn of(body: &'a [u8], profile: Span) -> Self {
        Self {
            fields: Fields::of(body, profile, PROFILE),
        }
    }

    fn seek(&mut self) -> Result<Option<Span>, Malformed> {
        while let Some(tag) = self.fields.next()? {
            if tag.number == SAMPLES {
                return self.fields.span(tag).map(Some);
            }
            self.fields.skip(tag)?;
        }
        Ok(None)
    }
}

impl Iterator for Samples<'_> {
    type Item = Result<Span, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.seek().transpose();
        if matches!(next, Some(Err(_))) {
            // Nothing behind an error can be made out.
            self.fields = Fields::of(&[], Span::default(), PROFILE);
        }
        next
    }
}

impl Sample {
    /// Reads a sample in the layout; its attribute indexes replace what is in `attributes`.
    pub(super) fn read(
        body: &[u8],
        place: Span,
        layout: Layout,
        attributes: &mut Vec<u32>,
    ) -> Result<Self, BadSample> {
        attributes.clear();
        let mut fields = Fields::of(body, place, SAMPLE);
        let mut sample = Self::default();
        let (mut n_values, mut n_times) = (0_u64, 0_i64);
        let mut sum = Some(0_i64);
        while let Some(tag) = fields.next()? {
            let number = tag.number;
            if number == 1 {
                sample.stack = fields.index(tag)?;
            } else if number == layout.link() {
                sample.link = fields.index(tag)?;
            } else if number == layout.attributes() && tag.is_packed() {
                fields.ints(tag, |index| {
                    attributes.push(u32::try_from(index).unwrap_or(u32::MAX));
                })?;
            } else if number == layout.values() && tag.is_packed() {
                fields.ints(tag, |value| {
                    n_values += 1;
                    sum = sum.and_then(|sum| sum.checked_add(value as i64));
                })?;
            } else if number == 5 && tag.is_packed() {
                n_times += i64::from(fields.span(tag)?.length / 8);
            } else if (2..=5).contains(&number) {
                return Err(fields.unexpected(tag).into());
            } else {
                fields.skip(tag)?;
            }
        }
        sample.value = match (n_values, n_times) {
            (0, 0) => return Err(BadSample::NoValue),
            (0, times) => times,
            _ => sum.ok_or(BadSample::Overflow)?,
        };
        Ok(sample)
    }
}
