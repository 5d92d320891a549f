//! A pinned catalogue version, and whether the tails of ingesters go with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use scoria_model::{CatalogueVersion, StreamId};
use scoria_proto::ingester as proto;
use scoria_storage::CatalogueState;

/// One version of the catalogue, held while a query runs.
#[derive(Debug, Clone)]
pub(crate) struct Pin {
    pub(crate) state: Arc<CatalogueState>,
}

/// How the answers of all ingesters fit a pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fit {
    Whole,
    /// The pin is too old for what ingesters still have.
    Gone,
    /// An ingester serves a stream that the pin does not know.
    Unknown(String),
    /// An ingester has seen a newer version. Streams that were opened and finished in between are
    /// known neither to the pin nor to any tail.
    Newer(CatalogueVersion),
    /// The pin knows streams with records outside of blocks that nobody serves.
    Unserved(Vec<StreamId>),
}

impl Pin {
    /// What a Select carries of it.
    pub(crate) fn to_proto(&self) -> proto::Pin {
        proto::Pin {
            catalogue_version: self.state.version().0,
            committed: self
                .state
                .streams()
                .map(|(stream, state)| proto::StreamCommitted {
                    stream: stream.to_string(),
                    seq: state.committed.0,
                })
                .collect(),
        }
    }

    /// Judges the answers of all ingesters together.
    pub(crate) fn fit<'a>(
        &self,
        answers: impl IntoIterator<Item = &'a proto::SelectResponse>,
    ) -> Fit {
        let mut served = BTreeSet::new();
        let mut unknown = None;
        let mut newest = self.state.version();
        for answer in answers {
            newest = newest.max(CatalogueVersion(answer.catalogue_version));
            if answer.gone {
                return Fit::Gone;
            }
            for tail in &answer.streams {
                let known = tail.stream.parse::<StreamId>().ok();
                let state = known.as_ref().and_then(|id| self.state.stream(id));
                match (known, state) {
                    (Some(stream), Some(state)) => {
                        if tail.from_seq > state.committed.0 {
                            return Fit::Gone;
                        }
                        served.insert(stream);
                    }
                    _ => unknown = Some(tail.stream.clone()),
                }
            }
        }
        if let Some(stream) = unknown {
            return Fit::Unknown(stream);
        }
        let unserved: Vec<StreamId> = self
            .state
            .open_streams()
            .map(|(stream, _)| stream)
            .filter(|stream| !served.contains(stream))
            .cloned()
            .collect();
        if !unserved.is_empty() {
            return Fit::Unserved(unserved);
        }
        if newest > self.state.version() {
            return Fit::Newer(newest);
        }
        Fit::Whole
    }
}
