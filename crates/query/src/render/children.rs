//! The children of every node, sorted by name.

use crate::merge::Texts;

/// Where `other` stands among its siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtherAt {
    /// Where its name puts it.
    ItsName,
    /// After all others.
    End,
}

/// Children by parent.
pub(super) struct Children {
    start: Vec<u32>,
    list: Vec<u32>,
}

impl Children {
    /// Of all nodes but the root that `shown` takes.
    pub(super) fn sorted(
        names: &Texts,
        (parent, name): (&[u32], &[u32]),
        other_at: OtherAt,
        shown: impl Fn(usize) -> bool,
    ) -> Self {
        let mut by_text: Vec<u32> = (0..names.len() as u32).collect();
        by_text.sort_unstable_by_key(|&id| names.get(id));
        let mut rank = vec![0u32; names.len()];
        for (at, &id) in by_text.iter().enumerate() {
            rank[id as usize] = match other_at {
                OtherAt::End if names.get(id) == super::OTHER => u32::MAX,
                _ => at as u32,
            };
        }
        let mut keyed: Vec<(u32, u32, u32)> = (1..parent.len())
            .filter(|&at| shown(at))
            .map(|at| (parent[at], rank[name[at] as usize], at as u32))
            .collect();
        keyed.sort_unstable();
        let mut start = vec![0u32; parent.len() + 1];
        for &(above, _, _) in &keyed {
            start[above as usize + 1] += 1;
        }
        for at in 1..start.len() {
            start[at] += start[at - 1];
        }
        let list = keyed.into_iter().map(|(_, _, at)| at).collect();
        Self { start, list }
    }

    pub(super) fn of(&self, node: u32) -> &[u32] {
        let range = self.start[node as usize] as usize..self.start[node as usize + 1] as usize;
        &self.list[range]
    }
}
