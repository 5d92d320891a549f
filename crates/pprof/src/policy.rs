//! What a tenant wants done to its profiles, beyond what limits forbid.
//!
//! # Invariants
//! - No policy refuses a profile: it drops what it is told to drop, and that is counted.
//!
//! # What it must not know
//! Tenants, and who wrote the policy.

use regex::Regex;

use crate::relabel::Rule;

/// The policy of one tenant.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Rewrite or drop each series.
    pub relabelling: Vec<Rule>,
    pub default_rules: DefaultRules,
    /// Keep or drop each sample type, by the labels of the upload, `__type__` and `__unit__`.
    pub sample_types: Vec<Rule>,
    pub promotion: Promotion,
    pub label_names: LabelNames,
    pub keep: Keep,
    pub without_delta: WithoutDelta,
}

/// What profiles that are pushed without `__delta__` are taken for, if it makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WithoutDelta {
    /// Their values count from the start of the process.
    #[default]
    Cumulative,
    /// Their values belong to their interval.
    OfInterval,
}

/// When the rules that repair what known clients send run: the one for the names of Go's own delta
/// profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DefaultRules {
    /// Before the tenant's rules.
    #[default]
    First,
    Last,
    Disabled,
}

/// Which sample labels become labels of a series. The others are left out of the profile, whose
/// samples stay.
#[derive(Debug, Clone, Default)]
pub struct Promotion {
    /// If there are any, only names that match one are promoted.
    pub allow: Vec<Regex>,
    /// Names that match one are not promoted.
    pub deny: Vec<Regex>,
}

impl Promotion {
    /// Whether every label is promoted.
    pub fn takes_all(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    pub fn takes(&self, name: &str) -> bool {
        let any = |list: &[Regex]| list.iter().any(|regex| regex.is_match(name));
        (self.allow.is_empty() || any(&self.allow)) && !any(&self.deny)
    }
}

/// What a label may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LabelNames {
    /// Any text.
    #[default]
    Any,
    /// Letters, digits and underscores; dots become underscores and anything else is refused.
    Plain,
}

/// How much of a profile is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    #[default]
    Whole,
    /// The sums of its values, without stacktraces, in series marked `__sampled__="true"`.
    Totals,
}

#[cfg(test)]
mod tests {
    use scoria_model::regexp;

    use super::*;

    #[test]
    fn promotion_goes_by_both_lists() {
        let list = |texts: &[&str]| -> Vec<Regex> {
            let compiled = texts.iter().map(|text| regexp::compile(text).unwrap());
            compiled.collect()
        };
        let takes = |allow: &[&str], deny: &[&str], name: &str| {
            let promotion = Promotion {
                allow: list(allow),
                deny: list(deny),
            };
            promotion.takes(name)
        };
        assert!(takes(&[], &[], "a"));
        assert!(takes(&["a|b"], &[], "b"));
        assert!(!takes(&["a"], &[], "ab"));
        assert!(!takes(&[], &["thread.*"], "thread.id"));
        assert!(!takes(&["a.*"], &["ab"], "ab"));
    }
}
