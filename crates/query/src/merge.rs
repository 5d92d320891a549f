//! Partials: what one piece of data answers, and how answers become one.
//!
//! ```text
//! batches ─► FunctionTotals ─► TreePartial ────────────────┐
//!         └► StackTotals ────► ProfilePartial ─────────────┤
//! profile rows ─► Series, Values, Labels or StatsPartial ──┴─► Merger ─► Partial
//! ```
//! Everything that joins is joined by content (names, locations, labels), never by the ids of one
//! piece of data.
//!
//! # Invariants
//! - Merging is commutative and associative up to the order of ids, which no answer shows: any
//!   split of the data gives the same answer.
//! - Parents come before children in every tree.
//! - Values saturate instead of wrapping.
//!
//! # What it must not know
//! Where a partial came from and how it will be shown.

mod kept;
mod labels;
mod profile;
mod series;
mod texts;
mod totals;
mod tree;
mod values;

pub(crate) use kept::{Kept, NodeSet};
pub use labels::{LabelsMerger, LabelsPartial, SortedTexts, StatsPartial};
pub use profile::{Period, ProfileMerger, ProfilePartial};
pub use series::{Exemplar, GroupKey, Point, SeriesPartial, Subject};
pub use texts::Texts;
pub use totals::{FunctionTotals, OutsideStacks, SampleFilter, StackTotals};
pub(crate) use tree::{TreeBuilder, TreeShape, add_up};
pub use tree::{TreeMerger, TreePartial};
pub(crate) use values::put;
pub use values::{Value, ValuesPartial};

use scoria_symbols::SymbolsError;

use crate::scan::What;

/// The answer of one piece of data to a scan.
#[derive(Debug, Clone, PartialEq)]
pub enum Partial {
    Labels(LabelsPartial),
    Tree(TreePartial),
    Profile(ProfilePartial),
    Series(SeriesPartial),
    Values(ValuesPartial),
    Stats(StatsPartial),
}

/// A partial does not answer the scan that it was merged for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a partial of kind {actual} came where {expected} was asked for")]
pub struct KindMismatch {
    pub actual: &'static str,
    pub expected: &'static str,
}

impl Partial {
    /// A word for errors.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Labels(_) => "labels",
            Self::Tree(_) => "tree",
            Self::Profile(_) => "profile",
            Self::Series(_) => "series",
            Self::Values(_) => "values",
            Self::Stats(_) => "stats",
        }
    }

    /// Memory held.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Labels(labels) => labels.bytes(),
            Self::Tree(tree) => tree.bytes(),
            Self::Profile(profile) => profile.bytes(),
            Self::Series(series) => series.bytes(),
            Self::Values(values) => values.bytes(),
            Self::Stats(_) => 0,
        }
    }
}

impl Partial {
    /// The mean of `n` profiles whose values were added up; each value is rounded down.
    pub fn into_mean(mut self, n: u64) -> Self {
        let n = i64::try_from(n.max(1)).unwrap_or(i64::MAX);
        match &mut self {
            Self::Tree(tree) => tree.divide(n),
            Self::Profile(profile) => profile.divide(n),
            // A point knows how many profiles it is made of.
            Self::Series(series) => series.divide(),
            Self::Labels(_) | Self::Values(_) | Self::Stats(_) => {}
        }
        self
    }
}

/// Joins partials of one kind.
#[derive(Debug)]
pub enum Merger {
    Labels(LabelsMerger),
    Tree(Box<TreeMerger>),
    Profile(Box<ProfileMerger>),
    Series(SeriesPartial),
    Values(ValuesPartial),
    Stats(StatsPartial),
}

impl Merger {
    /// For partials that answer a scan for `what`.
    pub fn new(what: &What) -> Self {
        match what {
            What::LabelNames | What::LabelValues(_) | What::Series(_) => {
                Self::Labels(LabelsMerger::default())
            }
            What::Tree(_) => Self::Tree(Box::default()),
            What::Profile(_) => Self::Profile(Box::default()),
            What::TimeSeries(_) => Self::Series(SeriesPartial::default()),
            What::Heatmap(_) => Self::Values(ValuesPartial::default()),
            What::Stats => Self::Stats(StatsPartial::default()),
        }
    }

    /// Takes one partial in.
    ///
    /// # Errors
    /// [`KindMismatch`]; nothing is taken then.
    pub fn add(&mut self, partial: Partial) -> Result<(), KindMismatch> {
        match (self, partial) {
            (Self::Labels(into), Partial::Labels(labels)) => into.add(labels),
            (Self::Tree(into), Partial::Tree(tree)) => into.take(tree),
            (Self::Profile(into), Partial::Profile(profile)) => into.add(&profile),
            (Self::Series(into), Partial::Series(series)) => into.merge(series),
            (Self::Values(into), Partial::Values(values)) => into.merge(values),
            (Self::Stats(into), Partial::Stats(stats)) => into.merge(stats),
            (into, partial) => {
                return Err(KindMismatch {
                    actual: partial.kind(),
                    expected: into.kind(),
                });
            }
        }
        Ok(())
    }

    /// As [`Merger::add`], for a partial that others use, too. Trees and profiles are not copied.
    ///
    /// # Errors
    /// As [`Merger::add`].
    pub fn add_shared(&mut self, partial: &Partial) -> Result<(), KindMismatch> {
        match (self, partial) {
            (Self::Tree(into), Partial::Tree(tree)) => into.add(tree),
            (Self::Profile(into), Partial::Profile(profile)) => into.add(profile),
            (into, partial) => return into.add(partial.clone()),
        }
        Ok(())
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Labels(_) => "labels",
            Self::Tree(_) => "tree",
            Self::Profile(_) => "profile",
            Self::Series(_) => "series",
            Self::Values(_) => "values",
            Self::Stats(_) => "stats",
        }
    }

    /// Memory held.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Labels(labels) => labels.bytes(),
            Self::Tree(tree) => tree.bytes(),
            Self::Profile(profile) => profile.bytes(),
            Self::Series(series) => series.bytes(),
            Self::Values(values) => values.bytes(),
            Self::Stats(_) => 0,
        }
    }

    /// All that was taken in, as one partial.
    ///
    /// # Errors
    /// As [`ProfileMerger::finish`].
    pub fn finish(self) -> Result<Partial, SymbolsError> {
        Ok(match self {
            Self::Labels(labels) => Partial::Labels(labels.finish()),
            Self::Tree(tree) => Partial::Tree(tree.finish()),
            Self::Profile(profile) => Partial::Profile(profile.finish()?),
            Self::Series(series) => Partial::Series(series),
            Self::Values(values) => Partial::Values(values),
            Self::Stats(stats) => Partial::Stats(stats),
        })
    }
}
