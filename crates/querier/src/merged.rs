//! Merged stacktraces in the forms that clients ask for.

use scoria_query::merge::{Partial, ProfilePartial, TreePartial};
use scoria_query::render::{self, Flamegraph, PprofOptions};
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
        };
        bytes as u64
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
    }
}

/// Memory that [`merged`] and the encoding of its answer take beside the partial, at most, roughly.
pub(crate) fn merged_bytes(partial: &Partial, plan: &Stacktraces) -> u64 {
    /// The answer as values, as a message and as text, one after the other but not without overlap.
    const FORMS: u64 = 4;
    let (bytes, nodes) = match partial {
        Partial::Tree(tree) => (tree.bytes(), tree.len() as u64),
        Partial::Profile(profile) => (profile.bytes(), profile.own().len() as u64),
        _ => (0, 0),
    };
    let shown = match plan.max_nodes {
        0 => nodes,
        most => nodes.min(most as u64),
    };
    // Names are copied, and each node has a total and a mark to choose by, whatever is shown.
    bytes
        + 9 * nodes
        + FORMS * (u128::from(bytes) * u128::from(shown) / u128::from(nodes.max(1))) as u64
}

/// The answer in the form that was asked for.
pub(crate) fn merged(partial: &Partial, plan: &Stacktraces) -> Result<Merged, QueryError> {
    let (tree, profile): (Option<&TreePartial>, Option<&ProfilePartial>) = match partial {
        Partial::Tree(tree) => (Some(tree), None),
        Partial::Profile(profile) => (None, Some(profile)),
        other => return Err(unexpected(other)),
    };
    let merged = match (plan.format, tree, profile) {
        (ProfileFormat::Flamegraph, Some(tree), _) => {
            let cut = render::truncate(tree, plan.max_nodes);
            Merged::Flamegraph(render::flamegraph(&cut, plan.max_nodes_asked))
        }
        (ProfileFormat::Tree, Some(tree), _) => {
            Merged::Tree(render::tree_bytes(tree, plan.max_nodes))
        }
        (ProfileFormat::Dot, Some(tree), _) => {
            Merged::Dot(render::dot(tree, &plan.profile_type, plan.max_nodes_asked))
        }
        (ProfileFormat::Pprof, _, Some(profile)) => Merged::Pprof(render::pprof(
            profile,
            &PprofOptions {
                kind: &plan.profile_type,
                end_ms: plan.end_ms,
                max_nodes: plan.max_nodes,
                go_pgo: plan.go_pgo,
            },
        )),
        _ => return Err(unexpected(partial)),
    };
    Ok(merged)
}
