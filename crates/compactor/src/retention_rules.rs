//! Profiles that a tenant keeps for less time than the rest: by type, by label.
//!
//! A rule becomes a deletion each day, of what is older than its period then: hidden at once in
//! blocks, heads and what comes late, and written no more by the next merge.
//!
//! # Invariants
//! - Compactors that see the same rule on the same day make the same deletion, id and all, so that
//!   one commit of several counts.
//! - Times of deletions are starts of days (UTC), as blocks of the last level are cut: each of those
//!   is written once more for a rule, not each day.
//! - A clock that jumped ahead deletes one day at most, as in [`crate::retention`].

use std::collections::BTreeSet;
use std::sync::Arc;

use scoria_model::limits::RetentionRule;
use scoria_model::{TenantId, Timestamp};
use scoria_query::deletion::Deletion;
use scoria_storage::{CatalogueState, Tombstone, TombstoneId};
use xxhash_rust::xxh3::Xxh3;

use crate::retention::believed;
use crate::settings::RetentionOf;

const DAY_NS: i64 = 24 * 3_600_000_000_000;

/// The deletions that rules ask for and that are not in force yet.
pub(crate) fn due(
    state: &CatalogueState,
    now: Timestamp,
    retention: &RetentionOf,
) -> Vec<Tombstone> {
    let Some(now) = believed(state, now) else {
        return Vec::new();
    };
    let tenants: BTreeSet<&TenantId> = state
        .blocks()
        .flat_map(|meta| meta.datasets.iter().map(|dataset| &dataset.tenant))
        .collect();
    let mut due = Vec::new();
    for tenant in tenants {
        for rule in retention.rules_of(tenant).iter() {
            let tombstone = tombstone(tenant, rule, now);
            if !in_force(state, &tombstone) && finds_any(state, &tombstone) {
                due.push(tombstone);
            }
        }
    }
    due
}

/// What `rule` deletes today.
fn tombstone(tenant: &TenantId, rule: &RetentionRule, now: Timestamp) -> Tombstone {
    let period = i64::try_from(rule.period_ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    let oldest = now.0.saturating_sub(period);
    let before = Timestamp(oldest.saturating_sub(oldest.rem_euclid(DAY_NS)));
    // Not when it is noticed, which differs between compactors.
    let created = Timestamp(before.0.saturating_add(period));
    Tombstone {
        id: id_of(tenant, &rule.selector, before, created),
        tenant: tenant.clone(),
        selector: Arc::from(rule.selector.as_str()),
        before,
        created,
    }
}

/// A ULID: milliseconds, then 80 bits of what the deletion is.
fn id_of(tenant: &TenantId, selector: &str, before: Timestamp, created: Timestamp) -> TombstoneId {
    let mut hash = Xxh3::new();
    for part in [tenant.as_str().as_bytes(), selector.as_bytes()] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(&before.0.to_le_bytes());
    hash.update(&created.0.to_le_bytes());
    let millis = created.millis().max(0) as u128 & ((1 << 48) - 1);
    TombstoneId(millis << 80 | hash.digest128() & ((1 << 80) - 1))
}

/// Whether a deletion that is in force takes all that this one would.
fn in_force(state: &CatalogueState, wanted: &Tombstone) -> bool {
    state.deletions().any(|deletion| {
        let kept = &deletion.tombstone;
        kept.id == wanted.id
            || kept.tenant == wanted.tenant
                && kept.selector == wanted.selector
                && kept.before >= wanted.before
    })
}

fn finds_any(state: &CatalogueState, wanted: &Tombstone) -> bool {
    // One that cannot be read takes nothing; settings are checked before they come here.
    let Ok(deletion) = Deletion::new(&wanted.selector, wanted.before) else {
        return false;
    };
    state.blocks().any(|meta| {
        meta.min_time < wanted.before
            && state.live_datasets(meta).any(|(_, dataset)| {
                dataset.tenant == wanted.tenant
                    && deletion.may_hide(&dataset.service, &dataset.kinds, dataset.min_time)
            })
    })
}

#[cfg(test)]
mod tests {
    use scoria_block::BlockMeta;
    use scoria_model::{CatalogueVersion, Epoch, NodeId, Seq};
    use scoria_storage::catalogue::Entry;
    use scoria_storage::testing::{meta_of, stream_id};
    use scoria_storage::{Op, Txn};

    use super::*;

    const DAY_MS: u64 = 24 * 3_600_000;
    const NONE: [i64; 0] = [];

    /// Blocks of tenant `a`, one for each day.
    fn state(days: &[i64]) -> CatalogueState {
        let stream = stream_id(0);
        let node = NodeId("a".into());
        let open = Op::OpenStream {
            stream: stream.clone(),
            epoch: Epoch(1),
            owner: node.clone(),
            members: vec![node],
            quorum: 1,
        };
        let block = |&day: &i64| {
            let mut meta: BlockMeta = meta_of(day as u128, &stream, (0, 1), &["a/s"]);
            meta.min_time = Timestamp(day * DAY_NS);
            meta.max_time = meta.min_time;
            for dataset in &mut meta.datasets {
                (dataset.min_time, dataset.max_time) = (meta.min_time, meta.max_time);
            }
            Arc::new(meta)
        };
        let mut state = CatalogueState::default();
        let flush = Txn::flush(&stream, Epoch(1), (Seq(0), Seq(1)), days.iter().map(block));
        commit(&mut state, [open].into_iter().chain(flush.ops).collect());
        state
    }

    fn commit(state: &mut CatalogueState, ops: Vec<Op>) {
        let entry = Entry {
            version: CatalogueVersion(state.version().0 + 1),
            nonce: 0,
            ops,
        };
        state.apply(&entry).unwrap();
    }

    fn rules(selector: &str, days: u64) -> RetentionOf {
        let rule = RetentionRule {
            selector: selector.into(),
            period_ms: days * DAY_MS,
        };
        let rules: Arc<[RetentionRule]> = Arc::from([rule]);
        RetentionOf::fixed(None).with_rules(move |tenant| match tenant.as_str() {
            "a" => Arc::clone(&rules),
            _ => Arc::from([]),
        })
    }

    /// Days before which the rule deletes at an hour of a day.
    fn days_due(
        state: &CatalogueState,
        (day, hour): (i64, i64),
        retention: &RetentionOf,
    ) -> Vec<i64> {
        let now = Timestamp(day * DAY_NS + hour * DAY_NS / 24);
        let due = due(state, now, retention);
        due.iter().map(|t| t.before.0 / DAY_NS).collect()
    }

    #[test]
    fn a_rule_deletes_whole_days_once() {
        let mut state = state(&[100, 110, 120]);
        let week = rules(r#"{service_name="s"}"#, 7);
        assert_eq!(days_due(&state, (120, 13), &week), [113]);
        let now = Timestamp(120 * DAY_NS);
        let first = due(&state, now, &week);
        let again = due(&state, Timestamp(now.0 + DAY_NS / 2), &week);
        assert_eq!(first, again, "whoever looks that day");
        let deleted = first.into_iter().map(|t| Op::Delete(Arc::new(t)));
        commit(&mut state, deleted.collect());
        assert_eq!(days_due(&state, (120, 20), &week), NONE);
        assert_eq!(days_due(&state, (121, 0), &week), [114]);
        // A rule that keeps more takes nothing back and deletes nothing anew.
        assert_eq!(
            days_due(&state, (121, 0), &rules(r#"{service_name="s"}"#, 9)),
            NONE
        );
    }

    #[test]
    fn nothing_is_deleted_where_nothing_is_that_old_or_of_that_kind() {
        let state = state(&[118, 120]);
        assert_eq!(days_due(&state, (120, 0), &rules("{pod=\"a\"}", 7)), NONE);
        assert_eq!(days_due(&state, (120, 0), &rules("{pod=\"a\"}", 1)), [119]);
        let elsewhere = rules(r#"{service_name="other"}"#, 1);
        assert_eq!(days_due(&state, (120, 0), &elsewhere), NONE);
        assert_eq!(days_due(&state, (120, 0), &RetentionOf::fixed(None)), NONE);
    }

    #[test]
    fn a_clock_that_is_ahead_takes_one_day_at_most() {
        let state = state(&[100, 110, 120]);
        assert_eq!(days_due(&state, (4000, 0), &rules("{pod=\"a\"}", 7)), [114]);
    }
}
