//! Rules that rewrite the labels of a series, or drop it, on its way in.
//!
//! They mean what Prometheus's relabelling rules mean: expressions are RE2's and anchored, a
//! missing label equals an empty one, and a label that becomes empty is removed.
//!
//! # Invariants
//! - The same rules make the same labels of the same labels.
//! - No rule makes a value longer than [`VALUE_BYTES_MAX`] or adds labels without number: a mapped
//!   label comes from one that is there.
//!
//! # What it must not know
//! Which labels the server needs or derives; what comes out is checked like what a client sends.

use std::borrow::Cow;

use md5::{Digest, Md5};
use regex::Regex;
use scoria_model::regexp;

/// Longest value that a rule makes; far above what limits allow.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Most labels of a series that rules are given.
pub(crate) const LABELS_MAX: usize = 1024;

/// A label's name and value.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Sets the target if the expression matches.
    #[default]
    Replace,
    /// Drops the series unless the expression matches.
    Keep,
    /// Drops the series if the expression matches.
    Drop,
    /// Drops the series unless the target's value is the source's.
    KeepEqual,
    /// Drops the series if the target's value is the source's.
    DropEqual,
    /// Sets the target to a number below the modulus that the source's value hashes to.
    HashMod,
    /// Copies each label whose name matches to the name that the replacement makes.
    LabelMap,
    /// Removes each label whose name matches.
    LabelDrop,
    /// Removes each label whose name does not match.
    LabelKeep,
    Lowercase,
    Uppercase,
}

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

/// A rule as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleText<'a> {
    /// The labels whose values, put together, are looked at.
    pub source_labels: &'a [String],
    /// Stands between those values.
    pub separator: &'a str,
    pub regex: &'a str,
    pub modulus: u64,
    pub target_label: &'a str,
    /// `$1` and `${name}` stand for what groups of the expression matched.
    pub replacement: &'a str,
    pub action: &'a str,
}

impl Default for RuleText<'_> {
    fn default() -> Self {
        Self {
            source_labels: &[],
            separator: ";",
            regex: "(.*)",
            modulus: 0,
            target_label: "",
            replacement: "$1",
            action: "replace",
        }
    }
}

/// One rule, compiled.
#[derive(Debug, Clone)]
pub struct Rule {
    source: Vec<String>,
    separator: String,
    regex: Regex,
    modulus: u64,
    target: String,
    replacement: String,
    action: Action,
}

/// Whether a series goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Drop,
}

impl Rule {
    /// Compiles a rule.
    ///
    /// # Errors
    /// Says which field is missing or wrong.
    pub fn new(text: &RuleText<'_>) -> Result<Self, String> {
        let wanted = text.action.to_lowercase();
        let known = ACTIONS.iter().find(|(name, _)| *name == wanted);
        let (name, action) = known.ok_or_else(|| {
            let names: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
            format!(
                "there is no action {:?}; there are {}",
                text.action,
                names.join(", ")
            )
        })?;
        let sets = matches!(
            action,
            Action::Replace
                | Action::HashMod
                | Action::Lowercase
                | Action::Uppercase
                | Action::KeepEqual
                | Action::DropEqual
        );
        if sets && text.target_label.is_empty() {
            return Err(format!("action {name} needs a target_label"));
        }
        if *action == Action::HashMod && text.modulus == 0 {
            return Err("action hashmod needs a modulus above 0".to_owned());
        }
        let compared = matches!(action, Action::KeepEqual | Action::DropEqual);
        if compared && text.source_labels.is_empty() {
            return Err(format!("action {name} needs source_labels"));
        }
        let regex = regexp::compile(text.regex).map_err(|error| format!("regex: {error}"))?;
        Ok(Self {
            source: text.source_labels.to_vec(),
            separator: text.separator.to_owned(),
            regex,
            modulus: text.modulus,
            target: text.target_label.to_owned(),
            replacement: text.replacement.to_owned(),
            action: *action,
        })
    }

    /// Whether it only keeps and drops, and changes no label.
    pub fn only_selects(&self) -> bool {
        matches!(self.action, Action::Keep | Action::Drop)
    }

    fn apply(&self, labels: &mut Vec<Pair<'_>>) -> Verdict {
        let drop_if = |drop: bool| if drop { Verdict::Drop } else { Verdict::Keep };
        match self.action {
            Action::Keep => return drop_if(!self.regex.is_match(&self.value(labels))),
            Action::Drop => return drop_if(self.regex.is_match(&self.value(labels))),
            Action::KeepEqual => {
                return drop_if(value_of(labels, &self.target) != self.value(labels));
            }
            Action::DropEqual => {
                return drop_if(value_of(labels, &self.target) == self.value(labels));
            }
            Action::Replace => self.replace(labels),
            Action::HashMod => {
                let residue = hash(&self.value(labels)) % self.modulus.max(1);
                set(labels, &self.target, residue.to_string());
            }
            Action::Lowercase => {
                let value = self.value(labels).to_lowercase();
                set(labels, &self.target, value);
            }
            Action::Uppercase => {
                let value = self.value(labels).to_uppercase();
                set(labels, &self.target, value);
            }
            Action::LabelMap => self.map(labels),
            Action::LabelDrop => labels.retain(|(name, _)| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|(name, _)| self.regex.is_match(name)),
        }
        Verdict::Keep
    }

    /// The values of the source labels, put together.
    fn value(&self, labels: &[Pair<'_>]) -> String {
        let mut value = String::new();
        for (at, name) in self.source.iter().enumerate() {
            if at > 0 {
                value.push_str(&self.separator);
            }
            value.push_str(value_of(labels, name));
        }
        value
    }

    fn replace(&self, labels: &mut Vec<Pair<'_>>) {
        let value = self.value(labels);
        let Some(found) = self.regex.captures(&value) else {
            return;
        };
        let expand = |template: &str| {
            let mut text = String::new();
            found.expand(template, &mut text);
            text
        };
        let target = expand(&self.target);
        if !target.is_empty() {
            let made = expand(&self.replacement);
            set(labels, &target, made);
        }
    }

    fn map(&self, labels: &mut Vec<Pair<'_>>) {
        let mapped = labels.iter().take(LABELS_MAX).filter_map(|(name, value)| {
            let found = self.regex.captures(name)?;
            let mut target = String::new();
            found.expand(&self.replacement, &mut target);
            Some((target, value.to_string()))
        });
        for (target, value) in mapped.collect::<Vec<_>>() {
            if !target.is_empty() {
                set(labels, &target, value);
            }
        }
    }
}

/// Applies the rules in order, until one drops the series.
pub fn apply(rules: &[Rule], labels: &mut Vec<Pair<'_>>) -> Verdict {
    for rule in rules {
        if rule.apply(labels) == Verdict::Drop {
            return Verdict::Drop;
        }
    }
    Verdict::Keep
}

fn value_of<'p>(labels: &'p [Pair<'_>], name: &str) -> &'p str {
    let found = labels.iter().find(|pair| pair.0 == name);
    found.map_or("", |pair| pair.1.as_ref())
}

/// Sets a label, or removes it if the value is empty.
fn set(labels: &mut Vec<Pair<'_>>, name: &str, mut value: String) {
    value.truncate(value.floor_char_boundary(VALUE_BYTES_MAX));
    let at = labels.iter().position(|pair| pair.0 == name);
    match (at, value.is_empty()) {
        (Some(at), true) => drop(labels.remove(at)),
        (Some(at), false) => labels[at].1 = Cow::from(value),
        (None, true) => {}
        (None, false) => labels.push((Cow::from(name.to_owned()), Cow::from(value))),
    }
}

/// The last eight bytes of the text's MD5, the highest first.
fn hash(text: &str) -> u64 {
    let digest = Md5::digest(text.as_bytes());
    digest
        .last_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests;
