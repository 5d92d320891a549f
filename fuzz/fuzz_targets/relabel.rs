//! Relabelling rules of any text on labels of any text: the first lines are labels, `name=value`, up
//! to an empty one; each line behind it is a rule of seven words with tabs between them.
#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use scoria_pprof::relabel::{Pair, Rule, RuleText, apply};

fuzz_target!(|text: &str| {
    let (labels, rules) = text.split_once("\n\n").unwrap_or((text, ""));
    let labels = labels.lines().filter_map(|line| line.split_once('='));
    let labels: Vec<Pair<'_>> = labels
        .map(|(name, value)| (Cow::from(name), Cow::from(value)))
        .collect();
    let rules: Vec<Rule> = rules.lines().take(8).filter_map(rule).collect();
    let (mut once, mut again) = (labels.clone(), labels.clone());
    let verdict = apply(&rules, &mut once);
    assert_eq!(apply(&rules, &mut again), verdict);
    assert_eq!(once, again, "the same rules make the same labels");
    // A label is copied once a rule at most, so that few rules cannot make labels without number.
    assert!(once.len() <= (labels.len() + 1) << rules.len());
    for (name, value) in &once {
        let sent = labels.iter().any(|(_, sent)| sent == value);
        assert!(sent || value.len() <= 64 << 10, "{name:?}");
    }
});

fn rule(line: &str) -> Option<Rule> {
    let mut words = line.split('\t');
    let mut word = || words.next().unwrap_or_default();
    let action = word();
    let sources: Vec<String> = word().split(',').map(str::to_owned).collect();
    let text = RuleText {
        action,
        source_labels: &sources,
        separator: word(),
        regex: word(),
        target_label: word(),
        replacement: word(),
        modulus: word().parse().unwrap_or_default(),
    };
    Rule::new(&text).ok()
}
