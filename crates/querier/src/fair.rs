//! Who is next: work of several tenants that waits for the same thing.
//!
//! Each tenant has a line of its own and pays for what it is given, less if it weighs more. The
//! tenant that has paid least is next, so one with a thousand queries delays another's first by
//! one.
//!
//! # Invariants
//! - Within a tenant the order is that of arrival.
//! - Nobody is passed over because their work is large: what does not fit yet holds up the others
//!   until it does.
//! - Who comes back after a pause has saved nothing up.
//!
//! # What it must not know
//! Time, memory, and what the work is.

use std::collections::{BTreeMap, VecDeque};

use scoria_model::TenantId;

/// Waiting work by tenant.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    lines: BTreeMap<TenantId, Line<T>>,
    /// What the tenant that was served last had paid before.
    paid: u64,
    len: usize,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<(Price, T)>,
    paid: u64,
}

/// What a piece of work costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Price {
    pub(crate) bytes: u64,
    /// The tenant's share in relation to others'; 0 counts as 1.
    pub(crate) weight: u64,
}

impl Price {
    /// Even work that reads nothing takes its turn.
    const LEAST: u64 = 1 << 20;

    fn due(self) -> u64 {
        self.bytes.max(Self::LEAST) / self.weight.max(1)
    }
}

/// What to do with the one that is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Take,
    /// It waits on, and everybody behind it.
    Hold,
    /// It waits on because its tenant has all that it may have; others go before it.
    Pass,
    /// Nobody waits for it any more.
    Forget,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            lines: BTreeMap::new(),
            paid: 0,
            len: 0,
        }
    }
}

impl<T> FairQueue<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, tenant: TenantId, price: Price, work: T) {
        let paid = self.paid;
        let line = self.lines.entry(tenant).or_insert_with(|| Line {
            waiting: VecDeque::new(),
            paid,
        });
        line.waiting.push_back((price, work));
        self.len += 1;
    }

    /// The work that is next, if `judge` takes it.
    pub(crate) fn next(&mut self, mut judge: impl FnMut(&T) -> Turn) -> Option<T> {
        // A tenant stays on the books until the others have caught up with what it paid.
        let paid = self.paid;
        self.lines
            .retain(|_, line| !line.waiting.is_empty() || line.paid > paid);
        let mut lines: Vec<&mut Line<T>> = self.lines.values_mut().collect();
        // The sort is stable: of equals the first by name.
        lines.sort_by_key(|line| line.paid);
        for line in lines {
            while let Some((price, first)) = line.waiting.front() {
                let due = price.due();
                match judge(first) {
                    Turn::Hold => return None,
                    Turn::Pass => break,
                    Turn::Forget => {
                        line.waiting.pop_front();
                        self.len -= 1;
                    }
                    Turn::Take => {
                        self.paid = self.paid.max(line.paid);
                        line.paid = line.paid.saturating_add(due);
                        self.len -= 1;
                        return line.waiting.pop_front().map(|(_, work)| work);
                    }
                }
            }
        }
        None
    }

    /// Drops work that nobody waits for any more.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for line in self.lines.values_mut() {
            line.waiting.retain(|(_, work)| keep(work));
        }
        self.len = self.lines.values().map(|line| line.waiting.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(work: &[(&str, u64, u64)]) -> FairQueue<String> {
        let mut queue = FairQueue::default();
        for (at, &(tenant, mib, weight)) in work.iter().enumerate() {
            let price = Price {
                bytes: mib << 20,
                weight,
            };
            let tenant = TenantId::parse(tenant).unwrap();
            queue.push(tenant.clone(), price, format!("{tenant}{at}"));
        }
        queue
    }

    fn order(queue: &mut FairQueue<String>) -> String {
        let mut order = Vec::new();
        while let Some(work) = queue.next(|_| Turn::Take) {
            order.push(work);
        }
        order.join(" ")
    }

    #[test]
    fn tenants_take_turns_however_much_one_asks() {
        let mut queue = queue(&[("a", 1, 1), ("a", 1, 1), ("a", 1, 1), ("b", 1, 1)]);
        assert_eq!(order(&mut queue), "a0 b3 a1 a2");
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn who_reads_more_comes_less_often_and_who_weighs_more_more_often() {
        let mut by_size = queue(&[
            ("a", 3, 1),
            ("a", 3, 1),
            ("b", 1, 1),
            ("b", 1, 1),
            ("b", 1, 1),
        ]);
        assert_eq!(order(&mut by_size), "a0 b2 b3 b4 a1");
        let mut by_weight = queue(&[
            ("a", 2, 1),
            ("a", 2, 1),
            ("b", 2, 2),
            ("b", 2, 2),
            ("b", 2, 2),
        ]);
        assert_eq!(order(&mut by_weight), "a0 b2 b3 a1 b4");
    }

    #[test]
    fn large_work_holds_up_the_rest_and_forgotten_work_does_not() {
        let mut queue = queue(&[("a", 9, 1), ("b", 1, 1)]);
        assert_eq!(queue.next(|_| Turn::Hold), None);
        assert_eq!(queue.len(), 2);
        let next = queue.next(|work| {
            if work == "a0" {
                Turn::Forget
            } else {
                Turn::Take
            }
        });
        assert_eq!(next.as_deref(), Some("b1"));
    }

    #[test]
    fn a_tenant_that_has_all_it_may_have_lets_others_pass() {
        let mut queue = queue(&[("a", 1, 1), ("a", 1, 1), ("b", 1, 1)]);
        let next = queue.next(|work| {
            if work.starts_with('a') {
                Turn::Pass
            } else {
                Turn::Take
            }
        });
        assert_eq!(next.as_deref(), Some("b2"));
        assert_eq!(order(&mut queue), "a0 a1");
    }

    #[test]
    fn a_pause_saves_nothing_up() {
        let mut queue = queue(&[("a", 100, 1), ("a", 100, 1)]);
        queue.next(|_| Turn::Take);
        queue.next(|_| Turn::Take);
        let price = Price {
            bytes: 1 << 20,
            weight: 1,
        };
        for at in 0..3 {
            queue.push(TenantId::parse("b").unwrap(), price, format!("b{at}"));
        }
        queue.push(TenantId::parse("a").unwrap(), price, "a9".to_owned());
        // `a` had its 200 MiB; `b` begins where `a` stood before the last of them.
        assert!(order(&mut queue).starts_with("b0 b1"));
        queue.push(TenantId::parse("c").unwrap(), price, "c".to_owned());
        queue.retain(|_| false);
        assert_eq!((queue.len(), queue.next(|_| Turn::Take)), (0, None));
    }
}
