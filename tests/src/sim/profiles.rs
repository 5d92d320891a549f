//! The profiles that simulated clients send, each recognisable by the name of its leaf function,
//! and reading them back out of heads and blocks.
//!
//! Profiles share functions with others, so that a record means nothing without the ones before
//! it, and a dictionary id that no logged record defines shows as a wrong or unreadable profile.

use bytes::Bytes;
use scoria_block::SampleBatch;
use scoria_ingester::head::Heads;
use scoria_model::part::{Function, Line, NONE, Part, ProfileRow};
use scoria_model::{Labels, ProfileType, RetryKey, Seq, TenantId, Timestamp};
use scoria_symbols::Symbols;

/// A profile of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId(pub u32);

/// One stored profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stored {
    pub seq: Seq,
    pub part: PartId,
}

impl PartId {
    pub fn key(self) -> RetryKey {
        RetryKey((0x5c07_1a00_u128 << 64 | u128::from(self.0)).to_be_bytes())
    }

    pub fn tenant(self) -> TenantId {
        TenantId::anonymous()
    }

    fn service(self) -> &'static str {
        ["api", "web"][self.0 as usize % 2]
    }

    /// Leaf function and value of each sample.
    fn samples(self) -> [(String, i64); 2] {
        [
            (format!("part {}", self.0), 1 + i64::from(self.0)),
            (format!("shared {}", self.0 % 4), 2 + i64::from(self.0 % 5)),
        ]
    }

    /// As a distributor hands it over.
    pub fn encode(self) -> Bytes {
        let mut part = Part::default();
        let leaves = self.samples();
        for name in ["main", &leaves[0].0, &leaves[1].0] {
            let name = part.strings.push(name);
            let at = part.functions.len() as u32;
            part.functions.push(Function {
                name,
                ..Function::default()
            });
            let line = Line {
                function: at,
                line: 1,
            };
            part.push_location((NONE, 0), [line]);
        }
        for leaf in [1, 2] {
            part.frames.extend([leaf, 0]);
            part.stack_ends.push(part.frames.len() as u32);
        }
        let series = Labels::from_pairs([
            ("service_name", self.service()),
            ("pod", ["a", "b", "c"][self.0 as usize % 3]),
        ]);
        part.push_series(&series);
        part.push_type(&self.kind());
        part.sample_stack = [0, 1].into();
        part.sample_value = leaves.map(|(_, value)| value).into();
        part.profiles.push(ProfileRow {
            series: 0,
            kind: 0,
            time: Timestamp(1_700_000_000_000_000_000 + i64::from(self.0)),
            duration_ns: 1_000_000_000,
            period: 1,
            samples_end: 2,
        });
        part.end_write(self.key());
        let mut out = Vec::new();
        part.encode(&mut out);
        Bytes::from(out)
    }

    fn kind(self) -> ProfileType {
        if self.0.is_multiple_of(4) {
            ProfileType::new("memory", ("inuse_space", "bytes"), ("space", "bytes"))
        } else {
            ProfileType::new(
                "process_cpu",
                ("cpu", "nanoseconds"),
                ("cpu", "nanoseconds"),
            )
        }
    }
}

/// The profiles of heads whose records are in `(from, to]`.
///
/// # Errors
/// Says which profile is not what a client sent (D4).
pub fn stored_in(heads: &Heads, (from, to): (Seq, Seq)) -> Result<Vec<Stored>, String> {
    let mut stored = Vec::new();
    let mut batch = SampleBatch::default();
    for head in heads.iter() {
        let snapshot = head.snapshot();
        for row in snapshot.rows().iter().flat_map(|chunk| chunk.iter()) {
            let seq = Seq(row.seq);
            if seq <= from || seq > to {
                continue;
            }
            let named = |what: String| format!("record {} of {}: {what}", seq.0, head.service());
            batch.clear();
            let decoded = snapshot.samples(&row, &mut batch);
            decoded.map_err(|error| named(error.to_string()))?;
            let part = recognise(&batch, snapshot.symbols(), row.total).map_err(named)?;
            stored.push(Stored { seq, part });
        }
    }
    stored.sort_unstable();
    Ok(stored)
}

/// The profile whose samples these are, stacks being nodes of `symbols`.
///
/// # Errors
/// Says what they are instead (D4).
pub fn recognise(batch: &SampleBatch, symbols: &Symbols, total: i64) -> Result<PartId, String> {
    let mut found: Vec<(String, i64)> = (0..batch.len())
        .map(|at| (leaf_name(symbols, batch.stack[at]), batch.value[at]))
        .collect();
    found.sort();
    let part = found
        .iter()
        .find_map(|(name, _)| name.strip_prefix("part ")?.parse().ok())
        .map(PartId)
        .ok_or_else(|| format!("no client sent {found:?}"))?;
    let mut sent = part.samples();
    sent.sort();
    let sum: i64 = sent.iter().map(|(_, value)| value).sum();
    if found == sent && total == sum {
        Ok(part)
    } else {
        Err(format!("{found:?}, total {total}, was sent as {sent:?}"))
    }
}

fn leaf_name(symbols: &Symbols, node: u32) -> String {
    if node as usize >= symbols.nodes_len() {
        return format!("(no node {node})");
    }
    let location = symbols.node_location(node);
    if location == NONE {
        return "(root)".to_owned();
    }
    let lines = symbols.location(location).lines;
    match lines.first() {
        Some(line) if line.function != NONE => {
            let name = symbols.function(line.function).name;
            symbols.string(name).to_owned()
        }
        _ => "(no function)".to_owned(),
    }
}
