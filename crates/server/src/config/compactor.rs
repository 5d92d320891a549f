//! Section `compactor`: how blocks are merged, and when what nobody needs is deleted.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::policies::NameList;
use super::units::{ByteSize, Span};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CompactorConfig {
    /// How often the catalogue is looked through for work.
    pub interval: Span,
    /// Memory of one merge; what does not fit makes several blocks. At most a twelfth of
    /// `memory.limit` is taken.
    pub memory: ByteSize,
    /// How long after its end an hour or a day is merged.
    pub settle: Span,
    /// A tenant that stores less than this in an hour shares its blocks with others.
    pub small_tenant: ByteSize,
    /// How long the objects of blocks stay that nothing refers to any more; longer than any query
    /// runs.
    pub garbage_grace: Span,
    /// How long the objects of blocks stay that were never committed; longer than any upload takes.
    pub orphan_grace: Span,
    /// Labels by which roll-ups are kept apart, at most 3 with few values each, such as
    /// `namespace` or `version`: queries that select by them read roll-ups, too.
    pub rollup_labels: RollupLabels,
}

/// Names of labels: a list, or a text with commas between them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct RollupLabels(pub NameList);

impl RollupLabels {
    /// Each combination of values is rolled up by itself: with many labels nothing is saved.
    const MAX: usize = 3;
}

impl<'de> Deserialize<'de> for RollupLabels {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let names = NameList::deserialize(d)?;
        match names.0.len() {
            0..=Self::MAX => Ok(Self(names)),
            n => Err(serde::de::Error::custom(format!(
                "{n} labels where at most {} can be kept in roll-ups",
                Self::MAX
            ))),
        }
    }
}

impl Default for CompactorConfig {
    fn default() -> Self {
        Self {
            interval: Span(Duration::from_secs(30)),
            memory: ByteSize(256 << 20),
            settle: Span(Duration::from_secs(5 * 60)),
            small_tenant: ByteSize(8 << 20),
            garbage_grace: Span(Duration::from_secs(15 * 60)),
            orphan_grace: Span(Duration::from_secs(6 * 3600)),
            rollup_labels: RollupLabels::default(),
        }
    }
}
