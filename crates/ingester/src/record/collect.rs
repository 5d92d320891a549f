//! From the samples of a part to samples in the order of a record.

use std::ops::Range;

use hashbrown::HashMap;
use scoria_model::part::PartView;

use super::samples::{Links, Plain};

/// Sorts one profile after the other; keeps its memory between them.
#[derive(Debug, Default)]
pub(super) struct Collector {
    pub(super) plain: Plain,
    /// Node and index.
    keys: Vec<u64>,
    /// Node and link, and index.
    linked_keys: Vec<(u64, u32)>,
    link_of: Vec<u32>,
    links: Vec<(u64, [u8; 16])>,
    link_ids: HashMap<(u64, [u8; 16]), u32, foldhash::fast::RandomState>,
}

impl Collector {
    /// Takes the samples of `range`; `stack_nodes` holds the node of each of the part's stacks.
    pub(super) fn collect(
        &mut self,
        part: &PartView<'_>,
        range: Range<usize>,
        stack_nodes: &[u32],
    ) {
        self.plain.clear();
        self.link_of.clear();
        self.links.clear();
        if part.sample_span.is_empty() && part.sample_trace.is_empty() {
            self.collect_plain(part, range, stack_nodes);
        } else {
            self.collect_linked(part, range, stack_nodes);
        }
    }

    pub(super) fn links(&self) -> Links<'_> {
        Links {
            of: &self.link_of,
            ids: &self.links,
        }
    }

    /// Whether the profile can be part of a difference.
    pub(super) fn is_plain(&self) -> bool {
        self.links.is_empty() && !self.plain.values.contains(&0)
    }

    fn collect_plain(&mut self, part: &PartView<'_>, range: Range<usize>, stack_nodes: &[u32]) {
        self.keys.clear();
        self.keys.extend(range.map(|sample| {
            let node = stack_nodes[part.sample_stack.get(sample) as usize];
            u64::from(node) << 32 | sample as u64
        }));
        self.keys.sort_unstable();
        for key in &self.keys {
            let node = (key >> 32) as u32;
            let value = part.sample_value.get(*key as u32 as usize);
            match (self.plain.nodes.last(), self.plain.values.last_mut()) {
                (Some(&last), Some(sum)) if last == node => *sum = sum.wrapping_add(value),
                _ => {
                    self.plain.nodes.push(node);
                    self.plain.values.push(value);
                }
            }
        }
    }

    fn collect_linked(&mut self, part: &PartView<'_>, range: Range<usize>, stack_nodes: &[u32]) {
        self.link_ids.clear();
        self.linked_keys.clear();
        for sample in range {
            let node = stack_nodes[part.sample_stack.get(sample) as usize];
            let link = self.link(part.span(sample), part.trace(sample));
            let key = u64::from(node) << 32 | u64::from(link);
            self.linked_keys.push((key, sample as u32));
        }
        self.linked_keys.sort_unstable();
        let mut before = None;
        for &(key, sample) in &self.linked_keys {
            let value = part.sample_value.get(sample as usize);
            match self.plain.values.last_mut() {
                Some(sum) if before == Some(key) => *sum = sum.wrapping_add(value),
                _ => {
                    self.plain.nodes.push((key >> 32) as u32);
                    self.plain.values.push(value);
                    self.link_of.push(key as u32);
                }
            }
            before = Some(key);
        }
    }

    /// 0 for none, else its number and one.
    fn link(&mut self, span: u64, trace: [u8; 16]) -> u32 {
        if span == 0 && trace == [0; 16] {
            return 0;
        }
        *self.link_ids.entry((span, trace)).or_insert_with(|| {
            self.links.push((span, trace));
            self.links.len() as u32
        })
    }
}
