//! What is older than its tenant wants it kept, and what was deleted whole.
//!
//! # Invariants
//! - A slice goes only when its last profile is too old, and only as far as profiles themselves
//!   show that time has passed: a clock that jumped ahead deletes nothing.

use std::time::Duration;

use scoria_model::{ShardSet, TenantId, Timestamp};
use scoria_query::deletion::Deletion;
use scoria_storage::{CatalogueState, TombstoneId};

use crate::pieces::{Piece, pieces};
use crate::plan::InputSlices;
use crate::settings::RetentionOf;

/// By how much the clock is believed beyond the newest profile in blocks.
const CLOCK_AHEAD_NS: i64 = 24 * 3_600_000_000_000;

/// The time as far as profiles in blocks show that it has passed; `None` without any.
pub(crate) fn believed(state: &CatalogueState, now: Timestamp) -> Option<Timestamp> {
    let newest = state.blocks().map(|meta| meta.max_time.0).max()?;
    Some(Timestamp(now.0.min(newest.saturating_add(CLOCK_AHEAD_NS))))
}

/// The slices whose profiles are all too old, or all deleted.
pub(crate) fn expired(
    state: &CatalogueState,
    now: Timestamp,
    retention: &RetentionOf,
) -> Vec<InputSlices> {
    let Some(now) = believed(state, now) else {
        return Vec::new();
    };
    let deleted_whole = |piece: &Piece| {
        let mut pending = state.deletions_in(&piece.block, &piece.tenant);
        pending.any(|kept| {
            let tombstone = &kept.tombstone;
            piece.last < tombstone.before
                && Deletion::new(&tombstone.selector, tombstone.before)
                    .is_ok_and(|deletion| deletion.takes_everything())
        })
    };
    let too_old = |last: Timestamp, kept: Duration| {
        let kept = i64::try_from(kept.as_nanos()).unwrap_or(i64::MAX);
        last.0 < now.0.saturating_sub(kept)
    };
    let mut expired = Vec::new();
    for meta in state.blocks() {
        let mut slices: Vec<(TenantId, ShardSet)> = Vec::new();
        for piece in pieces(state, meta) {
            let kept = retention.of(&piece.tenant);
            if !kept.is_some_and(|kept| too_old(piece.last, kept)) && !deleted_whole(&piece) {
                continue;
            }
            match slices.last_mut() {
                Some((tenant, shards)) if *tenant == piece.tenant => {
                    *shards = shards.union(piece.shard);
                }
                _ => slices.push((piece.tenant, piece.shard)),
            }
        }
        if !slices.is_empty() {
            expired.push((meta.id, slices));
        }
    }
    expired
}

/// The deletions of times that retention has passed: nothing that they could hide is kept, whenever
/// it comes.
pub(crate) fn outlived(
    state: &CatalogueState,
    now: Timestamp,
    retention: &RetentionOf,
) -> Vec<TombstoneId> {
    let Some(now) = believed(state, now) else {
        return Vec::new();
    };
    let outlived = |deletion: &&scoria_storage::Deletion| {
        let tombstone = &deletion.tombstone;
        retention.of(&tombstone.tenant).is_some_and(|kept| {
            let kept = i64::try_from(kept.as_nanos()).unwrap_or(i64::MAX);
            let age = now
                .0
                .saturating_sub(tombstone.before.0.max(tombstone.created.0));
            age > kept.saturating_add(CLOCK_AHEAD_NS)
        })
    };
    let deletions = state.deletions().filter(outlived);
    deletions.map(|deletion| deletion.tombstone.id).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use scoria_block::BlockMeta;
    use scoria_model::{CatalogueVersion, Epoch, NodeId, Seq};
    use scoria_storage::catalogue::Entry;
    use scoria_storage::testing::{meta_of, stream_id};
    use scoria_storage::{Op, Tombstone, Txn};

    use super::*;

    const DAY_NS: i64 = CLOCK_AHEAD_NS;

    /// Blocks of two tenants each, one for each day.
    fn state(days: &[i64], deletion: Option<Tombstone>) -> CatalogueState {
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
            let mut meta: BlockMeta = meta_of(day as u128, &stream, (0, 1), &["a/s", "b/s"]);
            meta.min_time = Timestamp(day * DAY_NS);
            meta.max_time = meta.min_time;
            for dataset in &mut meta.datasets {
                (dataset.min_time, dataset.max_time) = (meta.min_time, meta.max_time);
            }
            Arc::new(meta)
        };
        let mut ops = vec![open];
        let flush = Txn::flush(&stream, Epoch(1), (Seq(0), Seq(1)), days.iter().map(block));
        ops.extend(flush.ops);
        ops.extend(deletion.map(|deletion| Op::Delete(Arc::new(deletion))));
        let mut state = CatalogueState::default();
        let entry = Entry {
            version: CatalogueVersion(1),
            nonce: 0,
            ops,
        };
        state.apply(&entry).unwrap();
        state
    }

    fn gone(state: &CatalogueState, day: i64, retention: &RetentionOf) -> Vec<String> {
        let expired = expired(state, Timestamp(day * DAY_NS), retention);
        let name = |(block, slices): InputSlices| {
            let tenants: Vec<String> = slices.iter().map(|(t, _)| t.to_string()).collect();
            format!("{} {}", block.0, tenants.join("+"))
        };
        expired.into_iter().map(name).collect()
    }

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * 86_400)
    }

    #[test]
    fn each_tenant_keeps_what_it_wants_kept() {
        let state = state(&[100, 110, 120], None);
        let all = RetentionOf::fixed(Some(days(30)));
        assert!(gone(&state, 120, &all).is_empty());
        let some = RetentionOf::new(|tenant| (tenant.as_str() == "b").then(|| days(15)));
        assert_eq!(gone(&state, 120, &some), ["100 b"]);
        assert!(gone(&state, 9999, &RetentionOf::fixed(None)).is_empty());
    }

    #[test]
    fn a_clock_that_is_ahead_takes_one_day_at_most() {
        let state = state(&[100, 110, 120], None);
        let all = RetentionOf::fixed(Some(days(15)));
        assert_eq!(gone(&state, 120, &all), ["100 a+b"]);
        assert_eq!(gone(&state, 4000, &all), ["100 a+b"]);
    }

    #[test]
    fn a_tenant_that_was_deleted_whole_is_not_merged_first() {
        let deletion = Tombstone {
            id: TombstoneId(1),
            tenant: TenantId::parse("a").unwrap(),
            selector: "{}".into(),
            before: Timestamp(115 * DAY_NS),
            created: Timestamp(120 * DAY_NS),
        };
        let state = state(&[100, 110, 120], Some(deletion));
        let kept = RetentionOf::fixed(None);
        assert_eq!(gone(&state, 120, &kept), ["100 a", "110 a"]);
        let month = RetentionOf::fixed(Some(days(0)));
        assert!(outlived(&state, Timestamp(120 * DAY_NS), &month).is_empty());
        assert_eq!(outlived(&state, Timestamp(122 * DAY_NS), &kept), []);
    }
}
