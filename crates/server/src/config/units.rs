//! Values with a unit: sizes (`512MiB`) and lengths of time (`15m`), as people write them.
//!
//! # Invariants
//! - A text that parses and is written again means the same.
//! - A number without a unit is refused where it could mean several things: a length of time needs
//!   its unit, except 0; a bare size counts bytes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

/// A length of time with its unit: `250ms`, `15m`, `1h30m`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span(pub Duration);

/// A length of time for a key that ends in `_ms`: a bare number counts milliseconds, and a text is
/// read as a [`Span`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Millis(pub u64);

/// Why a value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error(
        "{0:?} is not a size; write bytes or a number with KiB, MiB, GiB, TiB, kB, MB, GB or TB"
    )]
    Size(String),
    #[error(
        "{0:?} is not a length of time; write numbers with ms, s, m, h, d or w, such as 15m or 1h30m"
    )]
    Time(String),
}

const SIZES: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Unit and nanoseconds, longest first; `ms` stands before `m` and `s`, which it contains.
const TIMES: [(&str, u128); 9] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("w", 604_800_000_000_000),
    ("y", 31_536_000_000_000_000),
];

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refused = || UnitError::Size(text.to_owned());
        let trimmed = text.trim();
        let unit = SIZES
            .iter()
            .find_map(|(name, bytes)| Some((trimmed.strip_suffix(name)?, *bytes)));
        let (number, bytes) = unit.unwrap_or((trimmed, 1));
        let number = number.trim();
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(bytes).map(Self).ok_or_else(refused);
        }
        let fraction: f64 = number.parse().map_err(|_| refused())?;
        let product = fraction * bytes as f64;
        if !product.is_finite() || !(0.0..1e19).contains(&product) || bytes == 1 {
            return Err(refused());
        }
        Ok(Self(product as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SIZES[..4]
            .iter()
            .find(|(_, b)| self.0 != 0 && self.0.is_multiple_of(*b));
        match exact {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refused = || UnitError::Time(text.to_owned());
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if rest.is_empty() {
            return Err(refused());
        }
        let mut nanos: u128 = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| refused())?;
            let (unit, tail) = TIMES
                .iter()
                .find_map(|(name, nanos)| Some((*nanos, tail.strip_prefix(name)?)))
                .ok_or_else(refused)?;
            nanos += u128::from(number) * unit;
            rest = tail;
        }
        let nanos = u64::try_from(nanos).map_err(|_| refused())?;
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        let longest_first = [0, 1, 5, 6, 2, 3, 4].map(|at| TIMES[at]);
        for (name, unit) in longest_first {
            if nanos >= unit {
                write!(f, "{}{name}", nanos / unit)?;
                nanos %= unit;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Span(Duration::from_millis(self.0)).fmt(f)
    }
}

impl FromStr for Millis {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if let Ok(ms) = text.trim().parse() {
            return Ok(Self(ms));
        }
        let span: Span = text.parse()?;
        u64::try_from(span.0.as_millis())
            .map(Self)
            .map_err(|_| UnitError::Time(text.to_owned()))
    }
}

/// Takes a text, or a bare number as its text.
struct TextOrNumber<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = UnitError>> Visitor<'_> for TextOrNumber<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number with its unit")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! as_text {
    ($($unit:ty),*) => {$(
        impl Serialize for $unit {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_any(TextOrNumber(std::marker::PhantomData))
            }
        }
    )*};
}
as_text!(ByteSize, Span, Millis);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("0", 0, "0B"),
            ("512MiB", 512 << 20, "512MiB"),
            ("1.5 GiB", 3 << 29, "1536MiB"),
            ("1GB", 1_000_000_000, "1000000000B"),
            ("4096", 4096, "4KiB"),
        ];
        for (text, bytes, written) in cases {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(
                (size.0, size.to_string().as_str()),
                (bytes, written),
                "{text}"
            );
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for text in [
            "",
            "MiB",
            "-1",
            "1.5",
            "12 mb",
            "99999999999TiB",
            "NaNMiB",
            "infGiB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn times() {
        let cases = [
            ("0", 0, "0s"),
            ("250ms", 250, "250ms"),
            ("15m", 900_000, "15m"),
            ("90m", 5_400_000, "1h30m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("7d", 604_800_000, "7d"),
            ("1w", 604_800_000, "7d"),
            ("1m1s1ms", 61_001, "1m1s1ms"),
        ];
        for (text, ms, written) in cases {
            let span: Span = text.parse().unwrap();
            assert_eq!(
                (span.0.as_millis(), span.to_string().as_str()),
                (ms, written),
                "{text}"
            );
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        for text in ["", "15", "m", "1 h", "-1s", "1x", "99999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!("1500".parse(), Ok(Millis(1500)));
        assert_eq!("1h".parse(), Ok(Millis(3_600_000)));
    }
}
