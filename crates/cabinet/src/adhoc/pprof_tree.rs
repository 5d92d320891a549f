//! A tree of one sample type out of a pprof message whose ids and indexes may say anything.
//!
//! # Invariants
//! - Texts are kept once however often they are referred to, so memory follows the file's size.

use std::borrow::Cow;
use std::collections::HashMap;

use scoria_model::PackedSlice;
use scoria_pprof::RawProfile;
use scoria_query::merge::{TreeMerger, TreePartial};

use super::forms::{UNKNOWN, check_frames};
use crate::error::CabinetError;

/// Longest part of a file's name in a frame that nobody has named.
const FILE_NAME_BYTES_MAX: usize = 128;

/// What the frames of a profile are called.
struct Names<'a> {
    raw: &'a RawProfile<'a>,
    /// By string index.
    texts: Vec<Cow<'a, str>>,
    /// By function id: a string index.
    functions: HashMap<u64, u32>,
    /// By location id: where it stands.
    locations: HashMap<u64, usize>,
    /// By where it stands: the address of a location without lines.
    addresses: HashMap<usize, String>,
}

impl<'a> Names<'a> {
    fn of(raw: &'a RawProfile<'a>) -> Self {
        let columns = &raw.columns;
        let texts: Vec<Cow<'a, str>> = (0..raw.n_strings())
            .map(|at| String::from_utf8_lossy(raw.text(u32::try_from(at).unwrap_or(u32::MAX))))
            .collect();
        let text = |at: u32| texts.get(at as usize).map_or("", Cow::as_ref);
        let functions = columns.functions.iter().map(|function| {
            let named = !text(function.name).is_empty();
            let name = if named {
                function.name
            } else {
                function.system_name
            };
            (function.id, name)
        });
        let functions = functions.collect();
        let files: HashMap<u64, u32> = columns
            .mappings
            .iter()
            .map(|mapping| (mapping.id, mapping.filename))
            .collect();
        let places = columns.locations.iter().enumerate();
        let bare = places
            .clone()
            .filter(|(at, _)| raw.lines_of(*at).len() == 0);
        let addresses = bare.map(|(at, location)| {
            let file = files.get(&location.mapping).map_or("", |file| text(*file));
            (at, address(file, location.address))
        });
        let addresses = addresses.collect();
        let locations = places.map(|(at, location)| (location.id, at)).collect();
        Self {
            raw,
            texts,
            functions,
            locations,
            addresses,
        }
    }

    /// How many frames a location is.
    fn count(&self, id: u64) -> usize {
        let at = self.locations.get(&id);
        at.map_or(0, |at| self.raw.lines_of(*at).len().max(1))
    }

    /// The names of a location, outermost first.
    fn of_location(&self, id: u64) -> impl Iterator<Item = &str> {
        let at = self.locations.get(&id).copied();
        let address = at
            .and_then(|at| self.addresses.get(&at))
            .map(String::as_str);
        let lines = at.into_iter().flat_map(|at| self.raw.lines_of(at).rev());
        let lines = lines.map(|line| {
            let name = self.functions.get(&line.function);
            let name = name.and_then(|at| self.texts.get(*at as usize));
            name.map(Cow::as_ref)
                .filter(|name| !name.is_empty())
                .unwrap_or(UNKNOWN)
        });
        address.into_iter().chain(lines)
    }
}

/// The values of the type at `chosen`; `bytes` is the size of the message.
pub(super) fn pprof_tree(
    raw: &RawProfile<'_>,
    chosen: usize,
    bytes: usize,
) -> Result<TreePartial, CabinetError> {
    let names = Names::of(raw);
    let columns = &raw.columns;
    let samples = (0..columns.samples.len()).filter_map(|at| {
        let sample = raw.sample(at);
        let value = columns.values.slice(sample.values()).iter().nth(chosen)?;
        let frames = columns.frames.slice(sample.frames());
        (value != 0).then_some((frames, value))
    });
    let count = |frames: PackedSlice<'_, u32>| {
        let ids = frames.iter().map(|frame| raw.location_id(frame));
        ids.map(|id| names.count(id)).sum::<usize>()
    };
    let mut total = 0usize;
    let mut bare = 0i64;
    for (frames, value) in samples.clone() {
        match count(frames) {
            0 => bare = bare.saturating_add(value),
            more => total = total.saturating_add(more),
        }
    }
    check_frames(total, bytes)?;
    let stacks = samples.filter(|(frames, _)| count(*frames) > 0);
    let stacks = stacks.map(|(frames, value)| {
        let ids = frames.iter().rev().map(|frame| raw.location_id(frame));
        (ids.flat_map(|id| names.of_location(id)), value)
    });
    let mut tree = TreeMerger::default();
    tree.add(&TreePartial::from_stacks(stacks));
    if bare != 0 {
        tree.add(&TreePartial::from_stacks([([UNKNOWN], bare)]));
    }
    Ok(tree.finish())
}

/// A frame that nobody has named: where it lies.
fn address(file: &str, address: u64) -> String {
    let name = file.rsplit('/').next().unwrap_or_default();
    let end = name.len().min(FILE_NAME_BYTES_MAX);
    let name = (end..=name.len())
        .find_map(|end| name.get(..end))
        .unwrap_or_default();
    match (name, address) {
        ("", 0) => UNKNOWN.to_owned(),
        ("", address) => format!("0x{address:x}"),
        (name, address) => format!("{name}+0x{address:x}"),
    }
}
