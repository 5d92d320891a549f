//! Dense accumulation: one sum per stack, or per function node that stacks end at. This is the loop
//! that a query spends its time in.

use scoria_block::SampleBatch;

use crate::scan::StackFilter;

/// The sum of sample values per stack: a node where samples come from a head, a rank where they
/// come from a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackTotals {
    totals: Vec<i64>,
}

/// The sum of sample values per node of a function tree, in which stacktraces of many locations may
/// be one: a tree needs no sums per stack, which would be as much memory again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionTotals {
    totals: Vec<i64>,
}

/// A sample names a stack that the dataset does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sample has the stack {stack}, but the dataset has only {n_stacks}")]
pub struct OutsideStacks {
    pub stack: u32,
    pub n_stacks: usize,
}

/// Span and trace ids, prepared for asking sample by sample.
#[derive(Debug, Clone, Default)]
pub struct SampleFilter {
    spans: Vec<u64>,
    traces: Vec<[u8; 16]>,
}

impl SampleFilter {
    pub fn new(filter: &StackFilter) -> Self {
        let mut spans = filter.spans.clone();
        let mut traces = filter.traces.clone();
        spans.sort_unstable();
        traces.sort_unstable();
        Self { spans, traces }
    }

    /// Whether every sample passes.
    pub fn is_open(&self) -> bool {
        self.spans.is_empty() && self.traces.is_empty()
    }

    /// Whether one sample of a batch passes.
    pub fn passes(&self, batch: &SampleBatch, sample: usize) -> bool {
        (self.spans.is_empty() || self.spans.binary_search(&batch.span_of(sample)).is_ok())
            && (self.traces.is_empty()
                || self.traces.binary_search(&batch.trace_of(sample)).is_ok())
    }

    /// Hands on stacks and values of the samples of a batch that pass, as many at a time as there
    /// are.
    fn each<E>(
        &self,
        batch: &SampleBatch,
        mut add: impl FnMut(&[u32], &[i64]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.is_open() {
            return add(&batch.stack, &batch.value);
        }
        let mut passing = (0..batch.len()).filter(|&sample| self.passes(batch, sample));
        passing.try_for_each(|at| add(&batch.stack[at..=at], &batch.value[at..=at]))
    }
}

impl FunctionTotals {
    /// For a tree of `n_nodes` nodes.
    pub fn new(n_nodes: usize) -> Self {
        Self {
            totals: vec![0; n_nodes],
        }
    }

    /// Sums per stack as those of a tree of `n_nodes` nodes. `node_of` has the node of each stack.
    ///
    /// # Errors
    /// [`OutsideStacks`] if a stack with a value has no node in the tree.
    pub fn of_stacks(
        stacks: &StackTotals,
        node_of: &[u32],
        n_nodes: usize,
    ) -> Result<Self, OutsideStacks> {
        let mut totals = vec![0; n_nodes];
        let used = (0..).zip(&stacks.totals).filter(|&(_, &value)| value != 0);
        for (stack, &value) in used {
            let node = node_of.get(stack as usize);
            let Some(total) = node.and_then(|&node| totals.get_mut(node as usize)) else {
                let n_stacks = node_of.len();
                return Err(OutsideStacks { stack, n_stacks });
            };
            *total = i64::saturating_add(*total, value);
        }
        Ok(Self { totals })
    }

    /// Adds the samples of a batch that pass. `node_of` has the node of each stack, which must be
    /// one of the tree.
    ///
    /// # Errors
    /// [`OutsideStacks`]; part of the batch may have been added then.
    pub fn add(
        &mut self,
        batch: &SampleBatch,
        filter: &SampleFilter,
        node_of: &[u32],
    ) -> Result<(), OutsideStacks> {
        let totals = &mut self.totals;
        filter.each(batch, |stacks, values| {
            for (&stack, &value) in stacks.iter().zip(values) {
                let node = node_of.get(stack as usize);
                let Some(total) = node.and_then(|&node| totals.get_mut(node as usize)) else {
                    let n_stacks = node_of.len();
                    return Err(OutsideStacks { stack, n_stacks });
                };
                *total = total.saturating_add(value);
            }
            Ok(())
        })
    }

    /// The sums, by node.
    pub(crate) fn into_vec(self) -> Vec<i64> {
        self.totals
    }
}

impl StackTotals {
    /// For stacks `0..n_stacks`.
    pub fn new(n_stacks: usize) -> Self {
        Self {
            totals: vec![0; n_stacks],
        }
    }

    /// Adds the samples of a batch that pass.
    ///
    /// # Errors
    /// [`OutsideStacks`]; part of the batch may have been added then.
    pub fn add(&mut self, batch: &SampleBatch, filter: &SampleFilter) -> Result<(), OutsideStacks> {
        let totals = &mut self.totals;
        filter.each(batch, |stacks, values| {
            let n_stacks = totals.len();
            for (&stack, &value) in stacks.iter().zip(values) {
                let Some(total) = totals.get_mut(stack as usize) else {
                    return Err(OutsideStacks { stack, n_stacks });
                };
                *total = total.saturating_add(value);
            }
            Ok(())
        })
    }

    /// The sums, by stack.
    pub fn as_slice(&self) -> &[i64] {
        &self.totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_filters_and_refuses() {
        let batch = SampleBatch {
            stack: vec![0, 2, 0],
            value: vec![1, 2, i64::MAX],
            span: vec![0, 7, 7],
            trace: vec![[0; 16], [1; 16], [2; 16]],
        };
        let mut totals = StackTotals::new(3);
        totals.add(&batch, &SampleFilter::default()).unwrap();
        assert_eq!(totals.as_slice(), [i64::MAX, 0, 2]);
        let spans = SampleFilter::new(&StackFilter {
            spans: vec![9, 7],
            ..StackFilter::default()
        });
        let mut totals = StackTotals::new(3);
        totals.add(&batch, &spans).unwrap();
        assert_eq!(totals.as_slice(), [i64::MAX, 0, 2]);
        let traces = SampleFilter::new(&StackFilter {
            traces: vec![[1; 16]],
            ..StackFilter::default()
        });
        let mut totals = StackTotals::new(3);
        totals.add(&batch, &traces).unwrap();
        assert_eq!(totals.as_slice(), [0, 0, 2]);
        let mut small = StackTotals::new(2);
        assert_eq!(
            small.add(&batch, &SampleFilter::default()),
            Err(OutsideStacks {
                stack: 2,
                n_stacks: 2
            })
        );
    }

    #[test]
    fn stacks_of_one_node_are_one_sum() {
        let batch = SampleBatch {
            stack: vec![0, 2, 1, 0],
            value: vec![1, 2, i64::MAX, 4],
            span: vec![0, 7, 0, 7],
            ..SampleBatch::default()
        };
        let node_of = [1, 3, 1];
        let mut totals = FunctionTotals::new(4);
        totals
            .add(&batch, &SampleFilter::default(), &node_of)
            .unwrap();
        assert_eq!(totals.totals, [0, 7, 0, i64::MAX]);
        let spans = SampleFilter::new(&StackFilter {
            spans: vec![7],
            ..StackFilter::default()
        });
        let mut totals = FunctionTotals::new(4);
        totals.add(&batch, &spans, &node_of).unwrap();
        assert_eq!(totals.totals, [0, 6, 0, 0]);
        let mut stacks = StackTotals::new(3);
        stacks.add(&batch, &SampleFilter::default()).unwrap();
        let by_way_of_stacks = FunctionTotals::of_stacks(&stacks, &node_of, 4).unwrap();
        assert_eq!(by_way_of_stacks.totals, [0, 7, 0, i64::MAX]);
        let small = FunctionTotals::of_stacks(&stacks, &node_of, 2).unwrap_err();
        assert_eq!((small.stack, small.n_stacks), (1, 3));
        let outside = |stack, n_stacks| Err(OutsideStacks { stack, n_stacks });
        let open = SampleFilter::default();
        assert_eq!(totals.add(&batch, &open, &node_of[..2]), outside(2, 2));
        let mut small = FunctionTotals::new(2);
        assert_eq!(small.add(&batch, &open, &node_of), outside(1, 3));
    }

    #[test]
    fn a_batch_without_ids_passes_no_id_filter() {
        let batch = SampleBatch {
            stack: vec![0],
            value: vec![1],
            ..SampleBatch::default()
        };
        let filter = SampleFilter::new(&StackFilter {
            spans: vec![3],
            ..StackFilter::default()
        });
        let mut totals = StackTotals::new(1);
        totals.add(&batch, &filter).unwrap();
        assert_eq!(totals.as_slice(), [0]);
    }
}
