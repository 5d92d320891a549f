//! The samples of one profile as bytes: in full, as logs and heads keep them, and by reference to an
//! earlier profile, as only logs do.
//!
//! ```text
//! full       = form, gcd, sample x n, [links]
//! sample     = node delta << 1 | other, [value / gcd]       other: the value is not the gcd itself
//! links      = count, (span, [trace]) x count, (0 or link number) x n
//! difference = count, gcd, (node delta, value change / gcd) x count
//! repetition = gcd
//! ```
//! Numbers are varints, span and trace ids fixed bytes. Samples rise by (node, link); the first
//! node delta is the node. How many samples there are stands elsewhere.
//!
//! Most values of CPU profiles are one sampling period, so that a sample is little more than the
//! distance to the next node. A heap snapshot mostly repeats the one before it.
//!
//! # Invariants
//! - No two samples have the same (node, link).
//! - A difference never takes part where a value is 0 or a sample has a link, since "changed to 0"
//!   means "gone".

use scoria_block::SampleBatch;
use scoria_model::varint::{Reader, VarintError, put_i64, put_u64};

/// Bits of a full profile's form.
const SIGNED: u8 = 1;
const LINKS: u8 = 2;
const TRACES: u8 = 4;

/// What is wrong with the bytes of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SamplesError {
    #[error("samples: {0}")]
    Varint(#[from] VarintError),
    #[error("samples have the form {0}, which this build does not know")]
    Form(u8),
    #[error("a sample's node {node} is outside the tree of {nodes}")]
    Node { node: u64, nodes: u32 },
    #[error("a sample's node does not come after the one before it")]
    Order,
    #[error("a sample's link {link} is outside the table of {links}")]
    Link { link: u64, links: usize },
    #[error("a changed sample changes by nothing")]
    Unchanged,
    #[error("samples with links or zeros cannot be what others are a difference to")]
    Base,
}

/// The samples of one profile in order, without links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) nodes: Vec<u32>,
    pub(super) values: Vec<i64>,
}

impl Plain {
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        self.values.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    fn push(&mut self, node: u32, value: i64) {
        self.nodes.push(node);
        self.values.push(value);
    }
}

/// The span and trace ids that a profile's samples refer to.
#[derive(Debug, Default)]
pub(super) struct Links<'a> {
    /// 0 for none, else a number in `ids` and one; one per sample.
    pub(super) of: &'a [u32],
    pub(super) ids: &'a [(u64, [u8; 16])],
}

/// The greatest number that divides all values; 1 if there is none or it does not fit.
fn gcd(values: impl IntoIterator<Item = i64>) -> i64 {
    let mut all = 0u64;
    for value in values {
        let (mut a, mut b) = (value.unsigned_abs(), all);
        if b != 0 && a.is_multiple_of(b) {
            continue;
        }
        while b != 0 {
            (a, b) = (b, a % b);
        }
        all = a;
        if all == 1 {
            break;
        }
    }
    i64::try_from(all.max(1)).unwrap_or(1)
}

/// Appends samples in full.
pub(super) fn put_full(samples: &Plain, links: &Links<'_>, out: &mut Vec<u8>) {
    let signed = samples.values.iter().any(|&value| value < 0);
    let has_traces = links.ids.iter().any(|&(_, trace)| trace != [0; 16]);
    let mut form = 0;
    if signed {
        form |= SIGNED;
    }
    if !links.ids.is_empty() {
        form |= LINKS;
    }
    if has_traces {
        form |= TRACES;
    }
    out.push(form);
    let gcd = gcd(samples.values.iter().copied());
    put_u64(out, gcd as u64);
    let mut before = 0;
    for (&node, &value) in samples.nodes.iter().zip(&samples.values) {
        let delta = u64::from(node - before) << 1;
        before = node;
        if value == gcd {
            put_u64(out, delta);
        } else {
            put_u64(out, delta | 1);
            let quotient = value / gcd;
            if signed {
                put_i64(out, quotient);
            } else {
                put_u64(out, quotient as u64);
            }
        }
    }
    if links.ids.is_empty() {
        return;
    }
    put_u64(out, links.ids.len() as u64);
    for (span, trace) in links.ids {
        out.extend_from_slice(&span.to_le_bytes());
        if has_traces {
            out.extend_from_slice(trace);
        }
    }
    for &link in links.of {
        put_u64(out, u64::from(link));
    }
}

/// Reads `n` samples in full and hands each to `sink`; whether links follow, and whether they have
/// traces.
fn read_samples(
    reader: &mut Reader<'_>,
    n: usize,
    nodes: u32,
    mut sink: impl FnMut(u32, i64),
) -> Result<u8, SamplesError> {
    let form = reader.u8()?;
    if form & !(SIGNED | LINKS | TRACES) != 0 {
        return Err(SamplesError::Form(form));
    }
    let gcd = reader.u64()? as i64;
    let mut node = 0u64;
    for at in 0..n {
        let code = reader.u64()?;
        let delta = code >> 1;
        if delta == 0 && at > 0 && form & LINKS == 0 {
            return Err(SamplesError::Order);
        }
        node = node.saturating_add(delta);
        if node >= u64::from(nodes) {
            return Err(SamplesError::Node { node, nodes });
        }
        let value = if code & 1 == 0 {
            gcd
        } else if form & SIGNED == 0 {
            (reader.u64()? as i64).wrapping_mul(gcd)
        } else {
            reader.i64()?.wrapping_mul(gcd)
        };
        sink(node as u32, value);
    }
    Ok(form)
}

/// Reads the links of `n` samples and hands each sample's to `sink`.
fn read_links(
    reader: &mut Reader<'_>,
    n: usize,
    form: u8,
    mut sink: impl FnMut(u64, [u8; 16]),
) -> Result<(), SamplesError> {
    let width = if form & TRACES == 0 { 8 } else { 24 };
    let links = reader.count()?;
    let ids = reader.take(links.saturating_mul(width))?;
    for _ in 0..n {
        let link = reader.u64()?;
        if link == 0 {
            sink(0, [0; 16]);
            continue;
        }
        let at = usize::try_from(link - 1).unwrap_or(usize::MAX);
        let id = ids
            .chunks_exact(width)
            .nth(at)
            .ok_or(SamplesError::Link { link, links })?;
        let (span, trace) = id.split_at(8);
        sink(
            u64::from_le_bytes(span.try_into().unwrap_or_default()),
            trace.try_into().unwrap_or_default(),
        );
    }
    Ok(())
}

/// Checks samples in full and steps over them; the sum of their values.
pub(super) fn check_full(
    reader: &mut Reader<'_>,
    n: usize,
    nodes: u32,
) -> Result<i64, SamplesError> {
    let mut total = 0i64;
    let form = read_samples(reader, n, nodes, |_, value| {
        total = total.wrapping_add(value)
    })?;
    if form & LINKS != 0 {
        read_links(reader, n, form, |_, _| {})?;
    }
    Ok(total)
}

/// If samples in full repeat others but for their gcd, that gcd.
pub(super) fn repeated_gcd(before: &[u8], samples: &[u8]) -> Option<u64> {
    let (form_before, _, rest_before) = split_gcd(before)?;
    let (form, gcd, rest) = split_gcd(samples)?;
    (form == form_before && rest == rest_before).then_some(gcd)
}

/// Appends to `out` the samples in full that begin at `start` and end at `end` of it, with another
/// gcd.
pub(super) fn put_repeated(gcd: u64, (start, end): (usize, usize), out: &mut Vec<u8>) {
    let Some((form, _, rest)) = split_gcd(&out[start..end]) else {
        return;
    };
    let rest = end - rest.len()..end;
    out.push(form);
    put_u64(out, gcd);
    out.extend_from_within(rest);
}

/// The form, the gcd and the rest of samples in full.
fn split_gcd(samples: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (&form, rest) = samples.split_first()?;
    let mut reader = Reader::new(rest);
    let gcd = reader.u64().ok()?;
    Some((form, gcd, reader.rest()))
}

/// Fails unless samples in full can be the base of a difference.
pub(super) fn check_plain(bytes: &[u8], n: usize) -> Result<(), SamplesError> {
    let mut zeros = 0;
    let form = read_samples(&mut Reader::new(bytes), n, u32::MAX, |_, value| {
        zeros += usize::from(value == 0);
    })?;
    if form & LINKS == 0 && zeros == 0 {
        Ok(())
    } else {
        Err(SamplesError::Base)
    }
}

/// Appends samples in full that have no links to `out`.
pub(super) fn read_plain(bytes: &[u8], n: usize, out: &mut Plain) -> Result<(), SamplesError> {
    read_samples(&mut Reader::new(bytes), n, u32::MAX, |node, value| {
        out.push(node, value);
    })?;
    Ok(())
}

/// Whether samples in full name a span or a trace.
pub fn has_links(full: &[u8]) -> bool {
    full.first().is_some_and(|form| form & LINKS != 0)
}

/// Appends `n` samples in full to `batch`: what a head does to answer.
///
/// # Errors
/// For bytes that are not what a record handed out.
pub fn decode(bytes: &[u8], n: usize, batch: &mut SampleBatch) -> Result<(), SamplesError> {
    let reader = &mut Reader::new(bytes);
    let held = batch.len();
    batch.stack.reserve(n);
    batch.value.reserve(n);
    let (stack, value) = (&mut batch.stack, &mut batch.value);
    let form = read_samples(reader, n, u32::MAX, |node, number| {
        stack.push(node);
        value.push(number);
    })?;
    if form & LINKS != 0 {
        batch.span.resize(held, 0);
        let (spans, traces) = (&mut batch.span, &mut batch.trace);
        if form & TRACES != 0 || !traces.is_empty() {
            traces.resize(held, [0; 16]);
            read_links(reader, n, form, |span, trace| {
                spans.push(span);
                traces.push(trace);
            })?;
        } else {
            read_links(reader, n, form, |span, _| spans.push(span))?;
        }
        return Ok(());
    }
    // A batch that has links has one per sample.
    if !batch.span.is_empty() {
        batch.span.resize(held + n, 0);
    }
    if !batch.trace.is_empty() {
        batch.trace.resize(held + n, [0; 16]);
    }
    Ok(())
}

/// Appends what changed from `base` to `new`.
pub(super) fn put_difference(base: &Plain, new: &Plain, out: &mut Vec<u8>) {
    let mut changes: Vec<(u32, i64)> = Vec::new();
    let (mut b, mut n) = (0, 0);
    while b < base.len() || n < new.len() {
        let of_base = base.nodes.get(b).copied().unwrap_or(u32::MAX);
        let of_new = new.nodes.get(n).copied().unwrap_or(u32::MAX);
        let node = of_base.min(of_new);
        let (mut before, mut after) = (0, 0);
        if of_base == node {
            before = base.values[b];
            b += 1;
        }
        if of_new == node {
            after = new.values[n];
            n += 1;
        }
        if before != after {
            changes.push((node, after.wrapping_sub(before)));
        }
    }
    let gcd = gcd(changes.iter().map(|&(_, change)| change));
    put_u64(out, changes.len() as u64);
    put_u64(out, gcd as u64);
    let mut before = 0;
    for (node, change) in changes {
        put_u64(out, u64::from(node - before));
        put_i64(out, change / gcd);
        before = node;
    }
}

/// Reads a difference and puts the profile it makes of `base` into `new`.
pub(super) fn apply_difference(
    base: &Plain,
    reader: &mut Reader<'_>,
    nodes: u32,
    new: &mut Plain,
) -> Result<(), SamplesError> {
    new.clear();
    let changes = reader.count()?;
    let gcd = reader.u64()? as i64;
    let mut b = 0;
    let mut node = 0u64;
    for at in 0..changes {
        let delta = reader.u64()?;
        if delta == 0 && at > 0 {
            return Err(SamplesError::Order);
        }
        node = node.saturating_add(delta);
        if node >= u64::from(nodes) {
            return Err(SamplesError::Node { node, nodes });
        }
        let change = reader.i64()?.wrapping_mul(gcd);
        if change == 0 {
            return Err(SamplesError::Unchanged);
        }
        let same = base.nodes[b..].partition_point(|&held| u64::from(held) < node);
        new.nodes.extend_from_slice(&base.nodes[b..b + same]);
        new.values.extend_from_slice(&base.values[b..b + same]);
        b += same;
        let mut value = change;
        if base
            .nodes
            .get(b)
            .is_some_and(|&held| u64::from(held) == node)
        {
            value = base.values[b].wrapping_add(change);
            b += 1;
        }
        if value != 0 {
            new.push(node as u32, value);
        }
    }
    new.nodes.extend_from_slice(&base.nodes[b..]);
    new.values.extend_from_slice(&base.values[b..]);
    Ok(())
}
