//! Scans and partials as bytes: what a querier and an ingester say to each other.
//!
//! ```text
//! scan    = version, selector text, range, kind, what that kind needs
//! partial = version, kind, columns of that kind
//! ```
//! All numbers are LEB128, zigzag where they can be negative.
//!
//! # Invariants
//! - What is decoded takes no more memory than a small multiple of its bytes, and everything in it
//!   is inside its tables.
//!
//! # What it must not know
//! Who speaks to whom.

mod partial;

use std::sync::Arc;

use scoria_model::varint::{Reader, VarintError, put_bytes, put_i64, put_u64};
use scoria_model::{ProfileId, TimeRange};
use scoria_symbols::SymbolsError;

pub use partial::{decode_partial, encode_partial};

use crate::scan::{
    Buckets, Exemplars, Heatmap, HeatmapOf, Scan, StackFilter, Stripped, TimeSeries, What,
};
use crate::selector::{Matchers, SelectorError};

/// The first byte of everything here.
const VERSION: u8 = 2;

/// What is wrong with the bytes of a scan or of a partial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("version {actual} is not known; this program reads version {VERSION}")]
    Version { actual: u8 },
    #[error("{what}: unknown kind {actual}")]
    Kind { what: &'static str, actual: u64 },
    #[error(transparent)]
    Varint(#[from] VarintError),
    #[error("{what} is not UTF-8")]
    Utf8 { what: &'static str },
    #[error("{what} {at}: {value} is outside its table of {size}")]
    Index {
        what: &'static str,
        at: usize,
        value: u64,
        size: usize,
    },
    #[error("{what} {at} is there already")]
    Repeated { what: &'static str, at: usize },
    #[error("the value {value} of node {at} is negative")]
    Negative { at: usize, value: i64 },
    #[error("{left} bytes are left over")]
    LeftOver { left: usize },
    #[error(transparent)]
    Selector(#[from] SelectorError),
    #[error(transparent)]
    Symbols(#[from] SymbolsError),
}

/// A scan as bytes.
pub fn encode_scan(scan: &Scan) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_bytes(&mut out, scan.matchers.to_string().as_bytes());
    put_i64(&mut out, scan.range.start_ms);
    put_i64(&mut out, scan.range.end_ms);
    match &scan.what {
        What::LabelNames => out.push(0),
        What::LabelValues(name) => {
            out.push(1);
            put_bytes(&mut out, name.as_bytes());
        }
        What::Series(names) => {
            out.push(2);
            put_texts(&mut out, names);
        }
        What::Tree(filter) => {
            out.push(3);
            put_filter(&mut out, filter);
        }
        What::Profile(filter) => {
            out.push(4);
            put_filter(&mut out, filter);
        }
        What::TimeSeries(series) => {
            out.push(5);
            let (first, last) = series.buckets.edges_ms();
            put_i64(&mut out, first);
            put_i64(&mut out, last);
            put_i64(&mut out, series.buckets.step_ms());
            put_texts(&mut out, &series.group_by);
            out.push(match series.exemplars {
                Exemplars::None => 0,
                Exemplars::Individual => 1,
                Exemplars::Span => 2,
            });
            put_filter(&mut out, &series.filter);
            out.push(match series.stripped {
                Stripped::LeftOut => 0,
                Stripped::Counted => 1,
            });
        }
        What::Stats => out.push(6),
        What::Heatmap(heatmap) => {
            out.push(7);
            put_texts(&mut out, &heatmap.group_by);
            out.push(match heatmap.of {
                HeatmapOf::Profiles => 0,
                HeatmapOf::Spans => 1,
            });
        }
    }
    out
}

/// The scan that [`encode_scan`] wrote.
///
/// # Errors
/// See [`WireError`].
pub fn decode_scan(bytes: &[u8]) -> Result<Scan, WireError> {
    let mut from = Reader::new(bytes);
    check_version(&mut from)?;
    let matchers = Matchers::parse(text(&mut from, "the selector")?)?;
    let range = TimeRange {
        start_ms: from.i64()?,
        end_ms: from.i64()?,
    };
    let what = match from.u8()? {
        0 => What::LabelNames,
        1 => What::LabelValues(Arc::from(text(&mut from, "a label name")?)),
        2 => What::Series(texts(&mut from, "a label name")?),
        3 => What::Tree(filter(&mut from)?),
        4 => What::Profile(filter(&mut from)?),
        5 => What::TimeSeries(time_series(&mut from)?),
        6 => What::Stats,
        7 => What::Heatmap(Heatmap {
            group_by: texts(&mut from, "a label name")?,
            of: match from.u8()? {
                0 => HeatmapOf::Profiles,
                1 => HeatmapOf::Spans,
                actual => {
                    return Err(WireError::Kind {
                        what: "heatmap",
                        actual: u64::from(actual),
                    });
                }
            },
        }),
        actual => {
            return Err(WireError::Kind {
                what: "scan",
                actual: u64::from(actual),
            });
        }
    };
    check_end(&from)?;
    Ok(Scan {
        matchers,
        range,
        what,
    })
}

fn time_series(from: &mut Reader<'_>) -> Result<TimeSeries, WireError> {
    let range = TimeRange {
        start_ms: from.i64()?,
        end_ms: from.i64()?,
    };
    let buckets = Buckets::new(range, from.i64()?);
    let group_by = texts(from, "a label name")?;
    let exemplars = match from.u8()? {
        0 => Exemplars::None,
        1 => Exemplars::Individual,
        2 => Exemplars::Span,
        actual => {
            return Err(WireError::Kind {
                what: "exemplars",
                actual: u64::from(actual),
            });
        }
    };
    Ok(TimeSeries {
        buckets,
        group_by,
        exemplars,
        filter: filter(from)?,
        stripped: match from.u8()? {
            0 => Stripped::LeftOut,
            1 => Stripped::Counted,
            actual => {
                return Err(WireError::Kind {
                    what: "stripped profiles",
                    actual: u64::from(actual),
                });
            }
        },
    })
}

fn put_filter(out: &mut Vec<u8>, filter: &StackFilter) {
    put_texts(out, &filter.call_site);
    put_u64(out, filter.spans.len() as u64);
    filter
        .spans
        .iter()
        .for_each(|span| out.extend_from_slice(&span.to_le_bytes()));
    put_u64(out, filter.traces.len() as u64);
    filter
        .traces
        .iter()
        .for_each(|trace| out.extend_from_slice(trace));
    put_u64(out, filter.profiles.len() as u64);
    filter
        .profiles
        .iter()
        .for_each(|profile| out.extend_from_slice(&profile.0.to_le_bytes()));
}

fn filter(from: &mut Reader<'_>) -> Result<StackFilter, WireError> {
    Ok(StackFilter {
        call_site: texts(from, "a function name")?,
        spans: many(from, |r| Ok(u64::from_le_bytes(fixed(r)?)))?,
        traces: many(from, fixed)?,
        profiles: many(from, |r| Ok(ProfileId(u128::from_le_bytes(fixed(r)?))))?,
    })
}

fn put_texts(out: &mut Vec<u8>, texts: &[Arc<str>]) {
    put_u64(out, texts.len() as u64);
    texts
        .iter()
        .for_each(|text| put_bytes(out, text.as_bytes()));
}

fn texts(from: &mut Reader<'_>, what: &'static str) -> Result<Vec<Arc<str>>, WireError> {
    many(from, |r| Ok(Arc::from(text(r, what)?)))
}

fn many<'a, T>(
    from: &mut Reader<'a>,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let n = from.count()?;
    // A count only says how many bytes there are at least, so memory grows with what is read.
    let mut all = Vec::new();
    for _ in 0..n {
        all.push(read(from)?);
    }
    Ok(all)
}

fn fixed<const N: usize>(from: &mut Reader<'_>) -> Result<[u8; N], WireError> {
    let bytes = from.take(N)?;
    bytes
        .try_into()
        .map_err(|_| WireError::Varint(VarintError::Truncated))
}

fn text<'a>(from: &mut Reader<'a>, what: &'static str) -> Result<&'a str, WireError> {
    std::str::from_utf8(from.bytes()?).map_err(|_| WireError::Utf8 { what })
}

fn check_version(from: &mut Reader<'_>) -> Result<(), WireError> {
    match from.u8()? {
        VERSION => Ok(()),
        actual => Err(WireError::Version { actual }),
    }
}

fn check_end(from: &Reader<'_>) -> Result<(), WireError> {
    match from.rest().len() {
        0 => Ok(()),
        left => Err(WireError::LeftOver { left }),
    }
}

/// An index into a table of `size`.
fn index(
    from: &mut Reader<'_>,
    (what, at): (&'static str, usize),
    size: usize,
) -> Result<u32, WireError> {
    let value = from.u64()?;
    match u32::try_from(value) {
        Ok(id) if (id as usize) < size => Ok(id),
        _ => Err(WireError::Index {
            what,
            at,
            value,
            size,
        }),
    }
}

/// The value of a node; values are never negative.
fn own(from: &mut Reader<'_>, at: usize) -> Result<i64, WireError> {
    let value = from.i64()?;
    if value < 0 {
        return Err(WireError::Negative { at, value });
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
