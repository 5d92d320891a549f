//! What is wrong at present, for `/ready` and for refusing cheaply.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use crate::stream::Problem;

/// Whether the ingester can do its work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Why it is not ready; ready when empty.
    pub problems: Vec<String>,
    /// What somebody should look at although it works.
    pub warnings: Vec<String>,
}

impl Status {
    pub fn is_ready(&self) -> bool {
        self.problems.is_empty()
    }
}

/// The problems of all streams, as they were last reported.
#[derive(Debug, Default)]
pub(crate) struct Health {
    problems: RwLock<BTreeMap<usize, Vec<Problem>>>,
    warnings: RwLock<Vec<String>>,
}

impl Health {
    pub(crate) fn set(&self, slot: usize, problems: Vec<Problem>) {
        self.problems.write().insert(slot, problems);
    }

    pub(crate) fn warn(&self, warnings: impl IntoIterator<Item = String>) {
        self.warnings.write().extend(warnings);
    }

    /// Why no push can be taken, if that is so.
    pub(crate) fn refusing(&self) -> Option<String> {
        let problems = self.problems.read();
        problems
            .values()
            .flatten()
            .find(|p| matches!(p, Problem::Log { .. } | Problem::Fenced))
            .map(ToString::to_string)
    }

    pub(crate) fn status(&self) -> Status {
        let problems = self.problems.read();
        Status {
            problems: problems
                .values()
                .flatten()
                .map(ToString::to_string)
                .collect(),
            warnings: self.warnings.read().clone(),
        }
    }
}
