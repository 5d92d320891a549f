//! Answers: what a client sees of a merged partial.
//!
//! # Invariants
//! - A tree that is cut keeps its total; what was cut stands under its parent as `other`.
//! - Bars of a flame graph lie inside their parent's and do not overlap; level 0 always has one.
//! - Equal content gives equal output, whatever the order in which partials came.
//!
//! # What it must not know
//! Where the data came from, and transports.

mod children;
pub mod cost;
mod diff;
mod dot;
pub mod flamebearer;
mod flamegraph;
mod functions;
mod heatmap;
mod pprof;
mod series;
mod svg;
mod top;
mod tree_bytes;
mod truncate;
mod units;

pub use diff::{FlamegraphDiff, NegativeValue, diff, diff_of_sides, side};
pub use dot::dot;
pub use flamegraph::{Flamegraph, flamegraph};
pub use functions::{FunctionDiffRow, FunctionTable, FunctionTableDiff, functions, functions_diff};
pub use heatmap::{HeatmapSeries, HeatmapSlot, heatmap};
pub use pprof::{PprofOptions, pprof};
pub use series::{SeriesPoints, ValuePoint, series};
pub use svg::svg;
pub use top::{TopRow, top};
pub use tree_bytes::{TreeBytesError, decode_tree, tree_bytes};
pub use truncate::{OTHER, truncate};
pub use units::{percentage, scaled};
