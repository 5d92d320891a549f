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

/// Bytes of a client's text that one message repeats.
const MAX_SHOWN: usize = 256;
/// Bytes of labels after which a message names no more of them.
const MAX_LABELS_SHOWN: usize = 4096;

/// A text from outside, as much of it as belongs into a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a>(pub &'a str);

impl<'a> Shown<'a> {
    fn parts(self) -> (&'a str, &'static str) {
        if self.0.len() <= MAX_SHOWN {
            return (self.0, "");
        }
        (&self.0[..self.0.floor_char_boundary(MAX_SHOWN)], "…")
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, rest) = self.parts();
        write!(f, "{head}{rest}")
    }
}

/// Label pairs in the form that messages show: `{a="x", b="y"}`, sorted by name, long ones cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LabelText<'a>(pub &'a [(&'a str, &'a str)]);

impl fmt::Display for LabelText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs = self.0.to_vec();
        pairs.sort_unstable();
        f.write_str("{")?;
        let mut n_shown = 0;
        for (at, (name, value)) in pairs.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            if n_shown > MAX_LABELS_SHOWN {
                write!(f, "{comma}…")?;
                break;
            }
            let (value, rest) = Shown(value).parts();
            write!(f, "{comma}{}={value:?}{rest}", Shown(name))?;
            n_shown += name.len().min(MAX_SHOWN) + value.len();
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_cut() {
        assert_eq!(
            LabelText(&[("b", "y"), ("a", "x\"")]).to_string(),
            r#"{a="x\"", b="y"}"#
        );
        let long = "é".repeat(200);
        let text = LabelText(&[("a", &long)]).to_string();
        assert!(text.ends_with("é\"…}") && text.len() < 300, "{text}");
        let many = vec![("name", long.as_str()); 1000];
        let text = LabelText(&many).to_string();
        assert!(text.ends_with(", …}") && text.len() < 6000);
    }
}
