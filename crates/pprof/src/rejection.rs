//! Refusals: a reason for the metrics and a sentence for the sender.

use std::fmt;

use scoria_model::DiscardReason;

/// Why a profile, or one label group of it, was refused. The message names the labels, the value
/// found and the limit with its configuration key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    pub reason: DiscardReason,
    pub message: String,
}

impl Rejection {
    pub fn new(reason: DiscardReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    pub(crate) fn malformed(labels: &LabelText<'_>, problem: impl fmt::Display) -> Self {
        Self::new(
            DiscardReason::MalformedProfile,
            format!("profile with labels '{labels}' is malformed: {problem}"),
        )
    }
}

/// Label pairs in the form that messages show: `{a="x", b="y"}`, sorted by name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LabelText<'a>(pub &'a [(&'a str, &'a str)]);

impl fmt::Display for LabelText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs = self.0.to_vec();
        pairs.sort_unstable();
        f.write_str("{")?;
        for (at, (name, value)) in pairs.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}
