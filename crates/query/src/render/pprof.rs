//! Merged profiles as google.v1.Profile bytes.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use scoria_model::ProfileType;
use scoria_model::part::NONE;
use scoria_pprof::ProfileEncoder;
use scoria_pprof::encode::{FunctionRow, MappingRow};
use scoria_symbols::Symbols;

use super::truncate::{OTHER, threshold};
use crate::merge::{Period, ProfilePartial};
use crate::request::{Callees, GoPgo};

/// How to write a profile.
#[derive(Debug, Clone, Copy)]
pub struct PprofOptions<'a> {
    pub kind: &'a ProfileType,
    /// End of the range, Unix milliseconds; becomes the profile's time.
    pub end_ms: i64,
    /// Nodes that the profile is cut to; 0 = all.
    pub max_nodes: usize,
    pub go_pgo: Option<GoPgo>,
}

/// A location in a sample: an id of the symbols, the same without the line of its innermost call,
/// or what was cut.
const WITHOUT_LINE: u32 = 1 << 31;
const CUT: u32 = NONE;

/// Writes a profile; one without values is no bytes.
pub fn pprof(profile: &ProfilePartial, options: &PprofOptions<'_>) -> Vec<u8> {
    let stacks = stacks(profile, options);
    if stacks.is_empty() {
        return Vec::new();
    }
    let kind = options.kind;
    let mut writer = Writer {
        symbols: profile.symbols(),
        out: ProfileEncoder::new(),
        mappings: BTreeMap::new(),
        functions: BTreeMap::new(),
        locations: HashMap::default(),
    };
    writer.out.sample_type(&kind.sample_type, &kind.sample_unit);
    writer.out.default_sample_type(&kind.sample_type);
    let period = match profile.period() {
        Period::Known(period) if period > 0 => period,
        _ => guessed_period(&kind.name),
    };
    writer
        .out
        .period(&kind.period_type, &kind.period_unit, period);
    writer.out.time(options.end_ms.saturating_mul(1_000_000), 0);
    for (stack, value) in stacks {
        let ids: Vec<u64> = stack.into_iter().map(|at| writer.location(at)).collect();
        writer.out.sample(ids, &[value], &[]);
    }
    writer.out.finish()
}

fn guessed_period(name: &str) -> i64 {
    match name {
        "process_cpu" => 1_000_000_000,
        "memory" => 524_288,
        _ => 1,
    }
}

/// Values by stacktrace, leaf first, after cutting. Sorted, so that equal content gives equal
/// output as far as ids allow.
fn stacks(profile: &ProfilePartial, options: &PprofOptions<'_>) -> Vec<(Vec<u32>, i64)> {
    let symbols = profile.symbols();
    let totals = profile.totals();
    let counted = totals[1..].iter().copied().filter(|&total| total > 0);
    let least = threshold(counted, options.max_nodes);
    // Where a stacktrace is cut: at its last node that is large enough.
    let mut kept: Vec<u32> = Vec::with_capacity(totals.len());
    for (at, (parent, _)) in symbols.nodes().enumerate() {
        kept.push(match kept.get(parent as usize) {
            // Totals fall towards the leaf, so a small node has only small nodes below it.
            Some(&above) if totals[at] < least => above,
            _ => at as u32,
        });
    }
    let mut cut = vec![0i64; totals.len()];
    let mut found: Vec<(Vec<u32>, i64)> = Vec::new();
    for (at, &own) in profile
        .own()
        .iter()
        .enumerate()
        .filter(|&(_, &own)| own != 0)
    {
        let node = kept[at];
        if node as usize == at {
            found.push((symbols.stack(node).collect(), own));
        } else {
            cut[node as usize] = cut[node as usize].saturating_add(own);
        }
    }
    for (node, &sum) in cut.iter().enumerate().filter(|&(_, &sum)| sum != 0) {
        let stack = std::iter::once(CUT).chain(symbols.stack(node as u32));
        found.push((stack.collect(), sum));
    }
    match options.go_pgo {
        None => found,
        Some(pgo) => for_pgo(found, pgo),
    }
}

/// Keeps what a compiler wants: the frames next to the leaf, maybe without the leaf's line.
fn for_pgo(stacks: Vec<(Vec<u32>, i64)>, pgo: GoPgo) -> Vec<(Vec<u32>, i64)> {
    let mut merged: BTreeMap<Vec<u32>, i64> = BTreeMap::new();
    for (mut stack, value) in stacks {
        if pgo.keep_locations > 0 {
            stack.truncate(pgo.keep_locations as usize);
        }
        if let Some(leaf) = stack.first_mut()
            && pgo.callees == Callees::Aggregated
            && *leaf != CUT
        {
            *leaf |= WITHOUT_LINE;
        }
        let sum = merged.entry(stack).or_default();
        *sum = sum.saturating_add(value);
    }
    merged.into_iter().collect()
}

struct Writer<'a> {
    symbols: &'a Symbols,
    out: ProfileEncoder,
    /// Ids in the output by ids of the symbols.
    mappings: BTreeMap<u32, u64>,
    functions: BTreeMap<u32, u64>,
    locations: HashMap<u32, u64, FixedState>,
}

impl Writer<'_> {
    fn location(&mut self, at: u32) -> u64 {
        if let Some(&id) = self.locations.get(&at) {
            return id;
        }
        let id = if at == CUT {
            let function = self.out.function(&FunctionRow {
                name: OTHER,
                ..FunctionRow::default()
            });
            self.out.location(0, 0, &[(function, 0)])
        } else {
            self.known_location(at)
        };
        self.locations.insert(at, id);
        id
    }

    fn known_location(&mut self, at: u32) -> u64 {
        let row = self.symbols.location(at & !WITHOUT_LINE);
        let mapping = self.mapping(row.mapping);
        let mut lines = Vec::with_capacity(row.lines.len());
        for line in row.lines.iter().filter(|line| line.function != NONE) {
            lines.push((self.function(line.function), line.line));
        }
        if at & WITHOUT_LINE != 0
            && let Some(first) = lines.first_mut()
        {
            first.1 = 0;
        }
        self.out.location(mapping, row.address, &lines)
    }

    fn mapping(&mut self, at: u32) -> u64 {
        if at == NONE {
            return 0;
        }
        if let Some(&id) = self.mappings.get(&at) {
            return id;
        }
        let row = self.symbols.mapping(at);
        let id = self.out.mapping(&MappingRow {
            start: row.start,
            limit: row.limit,
            offset: row.offset,
            filename: self.symbols.string(row.filename),
            build_id: self.symbols.string(row.build_id),
            flags: row.flags,
        });
        self.mappings.insert(at, id);
        id
    }

    fn function(&mut self, at: u32) -> u64 {
        if let Some(&id) = self.functions.get(&at) {
            return id;
        }
        let row = self.symbols.function(at);
        let id = self.out.function(&FunctionRow {
            name: self.symbols.string(row.name),
            system_name: self.symbols.string(row.system_name),
            filename: self.symbols.string(row.filename),
            start_line: row.start_line,
        });
        self.functions.insert(at, id);
        id
    }
}

#[cfg(test)]
mod tests;
