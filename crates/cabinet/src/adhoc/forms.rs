//! The forms of files that somebody may want to look at, told apart by their content.
//!
//! # Invariants
//! - What is decompressed never exceeds the limit.
//! - Nothing is taken for a form that its content does not fit; the error names the forms.

use std::borrow::Cow;

use scoria_model::ByteBudget;
use scoria_pprof::speedscope::{Group, Scale, Speedscope, Unit};
use scoria_pprof::stacks::{Measure, Stacks};
use scoria_pprof::{Decompressor, DraftTerms, RawProfile};
use scoria_query::merge::TreePartial;
use scoria_query::render::side;

use super::flamebearer::Flamebearer;
use super::perf_script;
use super::pprof_tree::pprof_tree;
use crate::error::CabinetError;

/// What a frame without any name is shown as.
pub(super) const UNKNOWN: &str = "[unknown]";

/// What only a speedscope file names.
const SPEEDSCOPE: &str = "speedscope.app/file-format-schema";

/// Frames over all stacks that a file may have beside those that its size allows.
const FRAMES_MIN: usize = 64 << 10;
/// Frames over all stacks that any file may have.
const FRAMES_MAX: usize = 2 << 20;
/// Frames for each byte of the file: stacks share frames, and one place may be several inlined ones.
const FRAMES_PER_BYTE: usize = 4;
/// Memory for each frame, at most.
const FRAME_BYTES: usize = 32;
/// Memory for reading a file, as a multiple of its size decompressed.
const MEMORY_FACTOR: usize = 8;

/// Frames that a file of `bytes` may have over all stacks.
pub(super) fn frames_max(bytes: usize) -> usize {
    bytes
        .saturating_mul(FRAMES_PER_BYTE)
        .clamp(FRAMES_MIN, FRAMES_MAX)
}

/// Memory that reading a file of `bytes` takes.
pub(super) fn memory_for(bytes: usize) -> u64 {
    let frames = frames_max(bytes) * FRAME_BYTES;
    bytes.saturating_mul(MEMORY_FACTOR).saturating_add(frames) as u64
}

/// # Errors
/// There are more frames than a file of this size may have.
pub(super) fn check_frames(frames: usize, bytes: usize) -> Result<(), CabinetError> {
    let limit = frames_max(bytes);
    if frames > limit {
        return Err(CabinetError::invalid(format!(
            "the stacks of the profile have {frames} frames; the limit for a file of {bytes} bytes is {limit}"
        )));
    }
    Ok(())
}

/// A kind of value that a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeName {
    /// As the client chooses it: the kind, and the unit too where two types share the kind.
    pub name: String,
    pub kind: String,
    pub unit: String,
}

impl TypeName {
    fn new(kind: &str, unit: &str) -> Self {
        Self {
            name: kind.to_owned(),
            kind: kind.to_owned(),
            unit: unit.to_owned(),
        }
    }
}

/// The values of one type.
#[derive(Debug)]
pub struct Drawn {
    /// Never empty.
    pub types: Vec<TypeName>,
    chosen: usize,
    pub tree: TreePartial,
}

impl Drawn {
    /// The type whose values they are.
    pub fn chosen(&self) -> &TypeName {
        &self.types[self.chosen]
    }
}

/// A file whose form is known.
enum Form<'a> {
    Pprof(Box<RawProfile<'a>>),
    Flamebearer(Flamebearer),
    Speedscope(Box<Speedscope<'a>>),
    /// Lines of a stack and a number.
    Collapsed(&'a str),
    PerfScript(&'a str),
}

/// The values of the type that is wanted, or of the first. `limit` bounds what a compressed file may
/// become; 0 means no limit.
///
/// # Errors
/// The file is of no known form, lacks the type, has values below zero, or is larger or deeper than
/// it may be.
pub fn draw(body: &[u8], wanted: Option<&str>, limit: u64) -> Result<Drawn, CabinetError> {
    let mut decompressor = Decompressor::new();
    let plain = plain(&mut decompressor, body, limit)?;
    let form = Form::of(&plain)?;
    let bytes = plain.len();
    let types = form.types()?;
    let chosen = match wanted.filter(|wanted| !wanted.is_empty()) {
        None => Some(0),
        Some(wanted) => types.iter().position(|t| t.name == wanted),
    };
    let Some(chosen) = chosen else {
        let names: Vec<&str> = types.iter().map(|t| t.name.as_str()).collect();
        return Err(CabinetError::invalid(format!(
            "the profile has no sample type {:?}; it has {}",
            wanted.unwrap_or_default(),
            names.join(", ")
        )));
    };
    let tree = form.tree(chosen, bytes)?;
    if let Err(below) = side(&tree, 0) {
        return Err(CabinetError::invalid(format!(
            "the profile has values below zero, such as {}, which no flame graph can show; if it is the difference of two profiles, upload both and compare them",
            below.value
        )));
    }
    Ok(Drawn {
        types,
        chosen,
        tree,
    })
}

/// The types that a file holds; `limit` as in [`draw`].
///
/// # Errors
/// The file is of no known form, or larger than it may be.
pub fn types_of(body: &[u8], limit: u64) -> Result<Vec<TypeName>, CabinetError> {
    let mut decompressor = Decompressor::new();
    let plain = plain(&mut decompressor, body, limit)?;
    Form::of(&plain)?.types()
}

fn plain<'a>(
    decompressor: &'a mut Decompressor,
    body: &'a [u8],
    limit: u64,
) -> Result<Cow<'a, [u8]>, CabinetError> {
    if !scoria_pprof::gunzip::is_gzip(body) {
        return Ok(Cow::Borrowed(body));
    }
    let limit = if limit == 0 { u64::MAX } else { limit };
    let plain = decompressor.decompress(body, limit);
    plain
        .map(Cow::Borrowed)
        .map_err(|error| CabinetError::invalid(error.to_string()))
}

impl<'a> Form<'a> {
    fn of(body: &'a [u8]) -> Result<Self, CabinetError> {
        if let Some(text) = as_text(body) {
            let start = text.trim_start();
            if start.starts_with('{') && start.contains(SPEEDSCOPE) {
                let file = Speedscope::parse(start.as_bytes()).map_err(refused)?;
                return Ok(Self::Speedscope(Box::new(file)));
            }
            if start.starts_with('{') {
                return Flamebearer::parse(start).map(Self::Flamebearer);
            }
            if perf_script::looks_like(text) {
                return Ok(Self::PerfScript(text));
            }
            return Ok(Self::Collapsed(text));
        }
        let raw = RawProfile::decode(body).map_err(|error| {
            CabinetError::invalid(format!(
                "the file is none of pprof, Pyroscope JSON, speedscope, collapsed stacks and perf script output; as pprof: {error}"
            ))
        })?;
        Ok(Self::Pprof(Box::new(raw)))
    }

    fn types(&self) -> Result<Vec<TypeName>, CabinetError> {
        let mut types: Vec<TypeName> = match self {
            Self::Pprof(raw) => raw
                .columns
                .sample_types
                .iter()
                .map(|t| {
                    let text = |at| String::from_utf8_lossy(raw.text(at)).into_owned();
                    TypeName::new(&text(t.kind), &text(t.unit))
                })
                .collect(),
            Self::Flamebearer(graph) => vec![TypeName::new(graph.kind(), graph.unit())],
            Self::Speedscope(file) => file
                .groups()
                .iter()
                .map(|group| TypeName::new(&group.name, unit_of(group)))
                .collect(),
            Self::Collapsed(_) | Self::PerfScript(_) => vec![TypeName::new("samples", "count")],
        };
        if types.is_empty() {
            return Err(CabinetError::invalid("the profile has no sample types"));
        }
        for at in 0..types.len() {
            let shared = types.iter().filter(|t| t.kind == types[at].kind).count() > 1;
            if shared {
                types[at].name = format!("{}:{}", types[at].kind, types[at].unit);
            }
        }
        Ok(types)
    }

    fn tree(&self, chosen: usize, bytes: usize) -> Result<TreePartial, CabinetError> {
        match self {
            Self::Pprof(raw) => pprof_tree(raw, chosen, bytes),
            Self::Flamebearer(graph) => graph.tree(bytes),
            Self::Speedscope(file) => speedscope_tree(file, chosen, bytes),
            Self::Collapsed(text) => collapsed_tree(text),
            Self::PerfScript(text) => Ok(perf_script::tree(text)),
        }
    }
}

fn refused(error: impl std::fmt::Display) -> CabinetError {
    CabinetError::invalid(error.to_string())
}

/// In what the values of a group are told.
fn unit_of(group: &Group) -> &'static str {
    match group.unit {
        Unit::None => "count",
        Unit::Bytes => "bytes",
        _ => "nanoseconds",
    }
}

fn speedscope_tree(
    file: &Speedscope<'_>,
    chosen: usize,
    bytes: usize,
) -> Result<TreePartial, CabinetError> {
    let groups = file.groups();
    let Some(group) = groups.get(chosen) else {
        return Ok(TreePartial::default());
    };
    // The caller has paid for this much.
    let terms = DraftTerms {
        seed: uuid::Uuid::new_v4().as_u64_pair().0,
        memory: ByteBudget::new("ad hoc profile", memory_for(bytes)),
        max_bytes: 0,
    };
    let measure = Measure {
        kind: &group.name,
        unit: unit_of(group),
        period_type: ("", ""),
        period: 0,
        factor: 1,
    };
    let scale = Scale {
        power: group.unit.nanoseconds_power().unwrap_or_default(),
        factor: 1,
    };
    let mut stacks = Stacks::new(&terms, &measure, 0, bytes as u64).map_err(refused)?;
    file.fill(group, scale, &mut stacks).map_err(refused)?;
    let mut draft = stacks.finish();
    pprof_tree(&draft.raw(), 0, bytes)
}

/// The file as text, if it is nothing but text: no message of protobuf is, for each holds at least
/// the empty string with a length of zero.
fn as_text(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    let printable = text
        .bytes()
        .all(|b| b >= b' ' || matches!(b, b'\n' | b'\r' | b'\t'));
    (printable && !text.trim().is_empty()).then_some(text)
}

fn collapsed_tree(text: &str) -> Result<TreePartial, CabinetError> {
    let mut stacks = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let parsed = line
            .rsplit_once([' ', '\t'])
            .and_then(|(stack, value)| Some((stack.trim_end(), value.parse::<i64>().ok()?)));
        let Some((stack, value)) = parsed else {
            return Err(CabinetError::invalid(format!(
                "line {} is no collapsed stack: write frames joined by ; and then a number",
                at + 1
            )));
        };
        stacks.push((stack, value));
    }
    Ok(TreePartial::from_folded(stacks))
}
