//! Merged stacktraces in the forms that clients ask for.

use scoria_query::merge::{Partial, TreePartial};
use scoria_query::render::{self, Flamegraph, FunctionTable, PprofOptions, cost};
use scoria_query::request::{NameForm, ProfileFormat, Stacktraces};
use scoria_query::selector::is_plain_name;

use crate::error::{ErrorKind, QueryError};

/// Merged stacktraces in the form that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Merged {
    Flamegraph(Flamegraph),
    /// No bytes if there is no data.
    Tree(Vec<u8>),
    /// An empty text if there is no data.
    Dot(String),
    /// Bytes of a google.v1.Profile, not compressed; none if there is no data.
    Pprof(Vec<u8>),
    Functions(FunctionTable),
}

impl Merged {
    /// Memory held, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Flamegraph(graph) => {
                let names = graph.names.iter().map(|name| name.len() + 24);
                let levels = graph.levels.iter().map(|level| 8 * level.len() + 24);
                names.chain(levels).sum()
            }
            Self::Tree(bytes) | Self::Pprof(bytes) => bytes.len(),
            Self::Dot(text) => text.len(),
            Self::Functions(table) => table.rows.iter().map(|row| row.name.len() + 40).sum(),
        };
        bytes as u64
    }

    /// Memory that a copy takes and its encodings up to the text that is sent; of a profile all but
    /// the text, which [`cost::pprof_in_json`] tells.
    pub(crate) fn bytes_written(&self) -> u64 {
        /// The copy, the message, and that put into another.
        const OF_BYTES: u64 = 4;
        /// The copy, the message there and back, and eight bytes as a number in quotes.
        const OF_VALUES: u64 = 12;
        match self {
            Self::Pprof(_) => OF_BYTES * self.bytes(),
            _ => OF_VALUES * self.bytes(),
        }
    }
}

pub(crate) fn is_shown(name: &str, form: NameForm) -> bool {
    form == NameForm::Any || is_plain_name(name)
}

pub(crate) fn unexpected(partial: &Partial) -> QueryError {
    let what = format!("a partial of kind {} answers this query", partial.kind());
    QueryError::new(ErrorKind::Internal, what)
}

/// The answer without data.
pub(crate) fn nothing(format: ProfileFormat) -> Merged {
    match format {
        ProfileFormat::Flamegraph => {
            Merged::Flamegraph(render::flamegraph(&TreePartial::default(), 0))
        }
        ProfileFormat::Tree => Merged::Tree(Vec::new()),
        ProfileFormat::Dot => Merged::Dot(String::new()),
        ProfileFormat::Pprof => Merged::Pprof(Vec::new()),
        ProfileFormat::Functions => {
            Merged::Functions(render::functions(&TreePartial::default(), 0))
        }
    }
}

/// The answer in the form that was asked for. `take` is asked for the memory that this takes
/// before it is.
pub(crate) fn merged(
    partial: Partial,
    plan: &Stacktraces,
    take: &mut dyn FnMut(u64) -> Result<(), QueryError>,
) -> Result<Merged, QueryError> {
    match (plan.format, partial) {
        (ProfileFormat::Flamegraph, Partial::Tree(tree)) => {
            take(cost::cutting(&tree, plan.max_nodes))?;
            let cut = render::truncate(tree, plan.max_nodes);
            take(cost::cutting(&cut, plan.max_nodes_asked) + cost::flamegraph(&cut))?;
            let graph = render::flamegraph(&cut, plan.max_nodes_asked);
            Ok(Merged::Flamegraph(graph))
        }
        (ProfileFormat::Tree, Partial::Tree(tree)) => {
            take(cost::cutting(&tree, plan.max_nodes))?;
            let cut = render::truncate(tree, plan.max_nodes);
            take(cost::tree_bytes(&cut))?;
            Ok(Merged::Tree(render::tree_bytes(&cut, 0)))
        }
        (ProfileFormat::Dot, Partial::Tree(tree)) => {
            take(cost::dot(&tree, plan.max_nodes_asked))?;
            let dot = render::dot(&tree, &plan.profile_type, plan.max_nodes_asked);
            Ok(Merged::Dot(dot))
        }
        (ProfileFormat::Functions, Partial::Tree(tree)) => {
            take(cost::top(&tree))?;
            Ok(Merged::Functions(render::functions(&tree, plan.max_nodes)))
        }
        (ProfileFormat::Pprof, Partial::Profile(profile)) => {
            take(cost::pprof(&profile, plan.max_nodes))?;
            let options = PprofOptions {
                kind: &plan.profile_type,
                end_ms: plan.end_ms,
                max_nodes: plan.max_nodes,
                go_pgo: plan.go_pgo,
            };
            Ok(Merged::Pprof(render::pprof(&profile, &options)))
        }
        (_, other) => Err(unexpected(&other)),
    }
}
