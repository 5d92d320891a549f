use proptest::prelude::*;

use super::*;

fn rule(action: &str, source: &[&str], regex: &str, target: &str, replacement: &str) -> Rule {
    let source: Vec<String> = source.iter().map(|name| (*name).to_owned()).collect();
    Rule::new(&RuleText {
        source_labels: &source,
        regex,
        target_label: target,
        replacement,
        action,
        modulus: 8,
        ..RuleText::default()
    })
    .unwrap()
}

/// `a=1 b=2`; nothing if the series is dropped.
fn applied(rules: &[Rule], labels: &str) -> Option<String> {
    let mut pairs: Vec<Pair<'_>> = labels
        .split_whitespace()
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (Cow::from(name), Cow::from(value)))
        .collect();
    if apply(rules, &mut pairs) == Verdict::Drop {
        return None;
    }
    pairs.sort();
    let pairs = pairs.iter().map(|(name, value)| format!("{name}={value}"));
    Some(pairs.collect::<Vec<_>>().join(" "))
}

#[test]
fn every_action() {
    // action, sources, expression, target, replacement, labels, what becomes of them
    type Row = (
        &'static str,
        &'static [&'static str],
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        Option<&'static str>,
    );
    let table: &[Row] = &[
        (
            "replace",
            &["a"],
            "x(.*)",
            "b",
            "y$1",
            "a=x1",
            Some("a=x1 b=y1"),
        ),
        ("replace", &["a"], "x", "b", "y", "a=xx", Some("a=xx")),
        (
            "replace",
            &["a", "b"],
            "(.*);(.*)",
            "c",
            "${2}-$1",
            "a=1 b=2",
            Some("a=1 b=2 c=2-1"),
        ),
        ("replace", &["a"], "(.*)", "a", "", "a=1 b=2", Some("b=2")),
        (
            "replace",
            &["a"],
            "(?P<n>.*)",
            "${n}",
            "v",
            "a=t",
            Some("a=t t=v"),
        ),
        ("replace", &["a"], "(.*)", "b", "$1", "c=1", Some("c=1")),
        ("keep", &["a"], "1|2", "", "", "a=2", Some("a=2")),
        ("keep", &["a"], "1|2", "", "", "a=12", None),
        ("drop", &["a"], "1", "", "", "a=1", None),
        ("drop", &["a"], "", "", "", "b=1", None),
        ("drop", &["a"], "1", "", "", "a=11", Some("a=11")),
        (
            "keepequal",
            &["a"],
            "(.*)",
            "b",
            "",
            "a=1 b=1",
            Some("a=1 b=1"),
        ),
        ("keepequal", &["a"], "(.*)", "b", "", "a=1 b=2", None),
        ("dropequal", &["a"], "(.*)", "b", "", "a=1 b=1", None),
        ("dropequal", &["a"], "(.*)", "b", "", "a=1", Some("a=1")),
        (
            "labelmap",
            &[],
            "k_(.+)",
            "",
            "$1",
            "k_a=1 c=2",
            Some("a=1 c=2 k_a=1"),
        ),
        ("labeldrop", &[], "k_.*", "", "", "k_a=1 c=2", Some("c=2")),
        ("labelkeep", &[], "c|d", "", "", "k_a=1 c=2", Some("c=2")),
        ("lowercase", &["a"], "(.*)", "a", "", "a=XÄ", Some("a=xä")),
        ("Uppercase", &["a"], "(.*)", "b", "", "a=x", Some("a=x b=X")),
    ];
    for (action, source, regex, target, replacement, labels, expected) in table {
        let made = applied(&[rule(action, source, regex, target, replacement)], labels);
        assert_eq!(made.as_deref(), *expected, "{action} {regex} on {labels}");
    }
}

#[test]
fn hashmod_is_the_one_that_others_compute() {
    // What `md5sum` prints is cut in half.
    assert_eq!(hash(""), 0xe980_0998_ecf8_427e);
    assert_eq!(hash("foo"), 0xedef_654f_ccc4_a4d8);
    let made = applied(&[rule("hashmod", &["a"], "(.*)", "n", "")], "b=1");
    assert_eq!(
        made.unwrap(),
        format!("b=1 n={}", 0xe980_0998_ecf8_427e_u64 % 8)
    );
}

#[test]
fn later_rules_see_what_earlier_ones_made() {
    let rules = [
        rule("replace", &["a"], "(.*)", "b", "$1$1"),
        rule("drop", &["b"], "11", "", ""),
    ];
    assert_eq!(applied(&rules, "a=1"), None);
    assert_eq!(applied(&rules, "a=2").unwrap(), "a=2 b=22");
}

#[test]
fn what_is_wrong_with_a_rule() {
    let told = |text: RuleText<'_>| Rule::new(&text).unwrap_err();
    let action = |action| RuleText {
        action,
        target_label: "",
        ..RuleText::default()
    };
    assert!(told(action("rename")).contains("there is no action \"rename\"; there are replace"));
    assert!(told(action("replace")).contains("target_label"));
    assert!(told(action("keepequal")).contains("target_label"));
    let modulus = RuleText {
        action: "hashmod",
        target_label: "a",
        ..RuleText::default()
    };
    assert!(told(modulus).contains("modulus"));
    let regex = RuleText {
        regex: "(",
        action: "keep",
        ..RuleText::default()
    };
    assert!(told(regex).contains("regex: "));
}

#[test]
fn values_do_not_grow_without_end() {
    let double = rule("replace", &["a"], "(?s)(.*)", "a", "$1$1");
    let rules = vec![double; 64];
    let made = applied(&rules, "a=x").unwrap();
    assert_eq!(made.len(), "a=".len() + VALUE_BYTES_MAX);
}

fn labels() -> impl Strategy<Value = Vec<(String, String)>> {
    proptest::collection::vec(("[a-d]", "[0-9x]{0,3}"), 0..6)
}

proptest! {
    #[test]
    fn keep_and_drop_are_opposites(pairs in labels(), regex in "[0-9x]{1,2}(\\.\\*)?") {
        let verdict = |action| {
            let mut pairs: Vec<Pair<'_>> = pairs
                .iter()
                .map(|(name, value)| (Cow::from(name), Cow::from(value)))
                .collect();
            let before = pairs.clone();
            let verdict = apply(&[rule(action, &["a", "b"], &regex, "", "")], &mut pairs);
            assert_eq!(pairs, before, "selecting changes no label");
            verdict
        };
        prop_assert_ne!(verdict("keep"), verdict("drop"));
    }

    #[test]
    fn labeldrop_and_labelkeep_part_the_labels(pairs in labels(), regex in "[a-d](\\|[a-d])?") {
        let left = |action| {
            let mut pairs: Vec<Pair<'_>> = pairs
                .iter()
                .map(|(name, value)| (Cow::from(name), Cow::from(value)))
                .collect();
            apply(&[rule(action, &[], &regex, "", "")], &mut pairs);
            pairs.len()
        };
        prop_assert_eq!(left("labeldrop") + left("labelkeep"), pairs.len());
    }

    #[test]
    fn a_value_set_is_found_again_and_an_empty_one_is_gone(pairs in labels(), value in "[0-9x]{0,3}") {
        let mut pairs: Vec<Pair<'_>> = pairs
            .iter()
            .map(|(name, value)| (Cow::from(name), Cow::from(value)))
            .collect();
        pairs.sort();
        pairs.dedup_by(|a, b| a.0 == b.0);
        let made = rule("replace", &[], "(.*)", "new", &value);
        apply(&[made], &mut pairs);
        prop_assert_eq!(value_of(&pairs, "new"), value.as_str());
        let empty = pairs.iter().any(|pair| pair.0 == "new" && pair.1.is_empty());
        prop_assert!(!empty);
    }
}
