//! Pyroscope's own JSON: a flame graph as levels of bars, as `/pyroscope/render` answers it and as
//! viewers export it.
//!
//! # Invariants
//! - A bar lies inside one of the level above; what does not is refused, not drawn elsewhere.

use scoria_query::merge::TreePartial;
use serde::Deserialize;

use super::forms::{UNKNOWN, check_frames};
use crate::error::CabinetError;

/// Most levels: a stack is no deeper.
const LEVELS_MAX: usize = 10_000;

#[derive(Debug, Deserialize)]
struct File {
    flamebearer: Levels,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
struct Levels {
    names: Vec<String>,
    levels: Vec<Vec<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    format: String,
    units: String,
    name: String,
}

/// A flame graph of one side.
#[derive(Debug)]
pub(super) struct Flamebearer(File);

/// A bar at its absolute place.
struct Bar {
    start: i64,
    end: i64,
    own: i64,
    name: usize,
    /// In the level above.
    parent: usize,
}

impl Flamebearer {
    pub(super) fn parse(text: &str) -> Result<Self, CabinetError> {
        let file: File = serde_json::from_str(text).map_err(|error| {
            CabinetError::invalid(format!(
                "the file is JSON, but no flame graph of Pyroscope: {error}"
            ))
        })?;
        if file.metadata.format == "double" {
            return Err(CabinetError::invalid(
                "the file is a comparison of two profiles; upload each of them by itself",
            ));
        }
        Ok(Self(file))
    }

    /// What the values count.
    pub(super) fn kind(&self) -> &str {
        match self.0.metadata.name.as_str() {
            "" => "samples",
            name => name,
        }
    }

    pub(super) fn unit(&self) -> &str {
        &self.0.metadata.units
    }

    /// The tree; `bytes` is the size of the file.
    pub(super) fn tree(&self, bytes: usize) -> Result<TreePartial, CabinetError> {
        let Levels { names, levels } = &self.0.flamebearer;
        if levels.len() > LEVELS_MAX {
            return Err(CabinetError::invalid(format!(
                "the flame graph has {} levels; the limit is {LEVELS_MAX}",
                levels.len()
            )));
        }
        let mut placed: Vec<Vec<Bar>> = Vec::new();
        for numbers in levels {
            let above = placed.last().map(Vec::as_slice);
            let at = placed.len();
            let bars = place(numbers, above, names.len()).ok_or_else(|| {
                CabinetError::invalid(format!("level {at} of the flame graph makes no sense"))
            })?;
            placed.push(bars);
        }
        let bars = placed
            .iter()
            .enumerate()
            .flat_map(|(level, bars)| bars.iter().map(move |bar| (level, bar)))
            .filter(|(_, bar)| bar.own != 0);
        check_frames(bars.clone().map(|(level, _)| level.max(1)).sum(), bytes)?;
        Ok(TreePartial::from_stacks(bars.map(|(level, bar)| {
            (path(&placed, level, bar, names), bar.own)
        })))
    }
}

/// The bars of a level; `None` when they overlap, have no name or lie in no bar above.
fn place(numbers: &[i64], above: Option<&[Bar]>, n_names: usize) -> Option<Vec<Bar>> {
    let mut bars = Vec::new();
    let mut at = 0i64;
    let mut parent = 0;
    let tuples = numbers.chunks_exact(4);
    if !tuples.remainder().is_empty() {
        return None;
    }
    for tuple in tuples {
        let &[delta, value, own, name] = tuple else {
            return None;
        };
        let start = at.checked_add(not_negative(delta)?)?;
        let end = start.checked_add(not_negative(value)?)?;
        let name = usize::try_from(name).ok().filter(|name| *name < n_names)?;
        if !(0..=value).contains(&own) {
            return None;
        }
        if let Some(above) = above {
            while above.get(parent)?.end < end || above.get(parent)?.end <= start && value > 0 {
                parent += 1;
            }
            if above.get(parent)?.start > start {
                return None;
            }
        }
        bars.push(Bar {
            start,
            end,
            own,
            name,
            parent,
        });
        at = end;
    }
    Some(bars)
}

fn not_negative(number: i64) -> Option<i64> {
    (number >= 0).then_some(number)
}

/// Names from below the root down to a bar; the root itself stands for the total.
fn path<'a>(placed: &[Vec<Bar>], level: usize, bar: &Bar, names: &'a [String]) -> Vec<&'a str> {
    let mut path = Vec::new();
    let (mut level, mut bar) = (level, bar);
    while level > 0 {
        path.push(match names.get(bar.name).map(String::as_str) {
            None | Some("") => UNKNOWN,
            Some(name) => name,
        });
        level -= 1;
        match placed[level].get(bar.parent) {
            Some(above) => bar = above,
            None => break,
        }
    }
    if path.is_empty() {
        path.push(UNKNOWN);
    }
    path.reverse();
    path
}
