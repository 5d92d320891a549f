//! What a tenant's policy does to an upload: rules, lists, caps and totals.

use std::sync::Arc;

use proptest::prelude::*;
use scoria_model::{DiscardReason as Reason, Limits, regexp};
use scoria_pprof::policy::{DefaultRules, Keep, LabelNames, WithoutDelta};
use scoria_pprof::relabel::{Rule, RuleText};
use scoria_pprof::{Normalised, Normaliser, Policy, Rejection};

use crate::support::{LABELS, Row, any_time, folded, push, small, totals};

const CPU: &[(&str, &str)] = &[("cpu", "nanoseconds")];
const TYPE: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";

fn under(policy: Policy, rows: &[Row<'_>]) -> Normalised {
    with_limits(policy, rows, &any_time()).unwrap()
}

fn with_limits(policy: Policy, rows: &[Row<'_>], limits: &Limits) -> Result<Normalised, Rejection> {
    let mut normaliser = Normaliser::new(7);
    normaliser.set_policy(&Arc::new(policy));
    normaliser.normalise(&push(&small(CPU, rows), LABELS), limits)
}

fn rule(action: &str, source: &str, regex: &str, target: &str, replacement: &str) -> Rule {
    Rule::new(&RuleText {
        source_labels: &[source.to_owned()],
        regex,
        target_label: target,
        replacement,
        action,
        ..RuleText::default()
    })
    .unwrap()
}

fn relabelling(rules: Vec<Rule>) -> Policy {
    Policy {
        relabelling: rules,
        ..Policy::default()
    }
}

fn series(normalised: &Normalised) -> Vec<String> {
    let labels = folded(normalised).into_keys();
    labels
        .map(|key| key.trim_end_matches(TYPE).trim_end().to_owned())
        .collect()
}

const TWO_GROUPS: &[Row<'_>] = &[
    (&["a"], &[1], &[("pod", "x")]),
    (&["b"], &[2], &[("pod", "y")]),
];

#[test]
fn rules_see_promoted_labels_and_what_they_drop_is_counted() {
    let drop = relabelling(vec![rule("drop", "pod", "x", "", "")]);
    let dropped = under(drop, TWO_GROUPS);
    assert_eq!(
        series(&dropped),
        [r#"{__name__="process_cpu", pod="y", service_name="api"}"#]
    );
    assert_eq!(dropped.told.dropped.get(Reason::DroppedByRelabelRules), 1);

    let all = under(
        relabelling(vec![rule("drop", "service_name", "api", "", "")]),
        TWO_GROUPS,
    );
    assert!(all.part.profiles.is_empty());
    assert_eq!(all.told.dropped.get(Reason::DroppedByRelabelRules), 2);
}

#[test]
fn series_that_become_equal_are_one() {
    let merged = under(
        relabelling(vec![rule("labeldrop", "", "pod", "", "")]),
        TWO_GROUPS,
    );
    let all = folded(&merged);
    assert_eq!(all.len(), 1);
    assert_eq!(totals(&merged)[TYPE], 3);
}

#[test]
fn a_label_that_the_server_needs_can_be_removed_only_to_be_missed() {
    let policy = relabelling(vec![rule("labeldrop", "", "service_name", "", "")]);
    let refused = with_limits(policy, TWO_GROUPS, &any_time()).unwrap_err();
    assert_eq!(refused.reason, Reason::MissingLabels);
}

#[test]
fn rules_may_bring_an_upload_under_the_limit_of_labels() {
    let limits = Limits {
        max_label_names_per_series: 2,
        ..any_time()
    };
    let labels = [LABELS, &[("extra_1", "x"), ("extra_2", "x")]].concat();
    let bytes = small(CPU, &[(&["a"], &[1], &[])]);
    let mut normaliser = Normaliser::new(7);
    let mut run = |policy: Policy| {
        normaliser.set_policy(&Arc::new(policy));
        normaliser.normalise(&push(&bytes, &labels), &limits)
    };
    let refused = run(Policy::default()).unwrap_err();
    assert_eq!(refused.reason, Reason::MaxLabelNamesPerSeries);
    let rules = vec![rule("labeldrop", "", "extra_.*", "", "")];
    assert_eq!(series(&run(relabelling(rules)).unwrap()).len(), 1);
}

#[test]
fn default_rules_run_first_or_last_or_not_at_all() {
    let bytes = small(&[("alloc_space", "bytes")], &[(&["a"], &[1], &[])]);
    let labels = [("__name__", "godeltaprof_memory"), ("service_name", "api")];
    let name = |default_rules, rules: Vec<Rule>| {
        let mut normaliser = Normaliser::new(7);
        normaliser.set_policy(&Arc::new(Policy {
            default_rules,
            relabelling: rules,
            ..Policy::default()
        }));
        let normalised = normaliser.normalise(&push(&bytes, &labels), &any_time());
        let key = folded(&normalised.unwrap()).into_keys().next();
        let key = key.unwrap_or_default();
        key.rsplit(' ')
            .next()
            .unwrap()
            .split(':')
            .next()
            .unwrap()
            .to_owned()
    };
    let seen = || vec![rule("replace", "__name__", "memory", "__name__", "seen")];
    assert_eq!(name(DefaultRules::First, seen()), "seen");
    assert_eq!(name(DefaultRules::Last, seen()), "memory");
    assert_eq!(name(DefaultRules::Disabled, seen()), "godeltaprof_memory");
}

#[test]
fn sample_types_are_kept_and_dropped_by_rules() {
    let types = [("alloc_space", "bytes"), ("inuse_space", "bytes")];
    let rows: &[Row<'_>] = &[(&["a"], &[5, 0], &[]), (&["b"], &[-1, 7], &[])];
    let run = |rules: Vec<Rule>| {
        let mut normaliser = Normaliser::new(7);
        normaliser.set_policy(&Arc::new(Policy {
            sample_types: rules,
            ..Policy::default()
        }));
        let labels = [("__name__", "memory"), ("service_name", "api")];
        normaliser
            .normalise(&push(&small(&types, rows), &labels), &any_time())
            .unwrap()
    };
    let kept = run(vec![rule("drop", "__type__", "alloc_.*", "", "")]);
    assert_eq!(
        totals(&kept).into_iter().collect::<Vec<_>>(),
        [("memory:inuse_space:bytes:cpu:nanoseconds".to_owned(), 7)]
    );
    assert_eq!(kept.told.dropped.get(Reason::DroppedByRelabelRules), 1);
    let none = run(vec![rule("keep", "__unit__", "count", "", "")]);
    assert!(none.part.profiles.is_empty());
}

#[test]
fn lists_say_what_is_promoted_and_the_samples_stay() {
    let rows: &[Row<'_>] = &[
        (&["a"], &[1], &[("thread.id", "1"), ("pod", "x")]),
        (&["a"], &[2], &[("thread.id", "2"), ("pod", "x")]),
    ];
    let list = |text: &str| vec![regexp::compile(text).unwrap()];
    let mut deny = Policy::default();
    deny.promotion.deny = list("thread.*");
    let mut allow = Policy::default();
    allow.promotion.allow = list("pod");
    for policy in [deny, allow] {
        let narrowed = under(policy, rows);
        assert_eq!(
            series(&narrowed),
            [r#"{__name__="process_cpu", pod="x", service_name="api"}"#]
        );
        assert_eq!(totals(&narrowed)[TYPE], 3);
        assert_eq!(narrowed.told.dropped.get(Reason::LabelDemoted), 2);
    }
}

#[test]
fn promoted_labels_never_push_a_series_over_its_limit() {
    let rows: &[Row<'_>] = &[(&["a"], &[1], &[("d", "1"), ("c", "1"), ("b", "1")])];
    let limits = |names, promoted| Limits {
        max_label_names_per_series: names,
        max_promoted_labels_per_series: promoted,
        ..any_time()
    };
    for limits in [limits(4, 0), limits(30, 2)] {
        let demoted = with_limits(Policy::default(), rows, &limits).unwrap();
        assert_eq!(
            series(&demoted),
            [r#"{__name__="process_cpu", b="1", c="1", service_name="api"}"#]
        );
        assert_eq!(demoted.told.dropped.get(Reason::LabelDemoted), 1);
    }
}

#[test]
fn the_label_with_the_most_values_is_left_out_first() {
    let threads: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    let labels: Vec<[(&str, &str); 2]> = threads
        .iter()
        .map(|n| {
            [
                ("thread", n.as_str()),
                ("pod", if n.len() == 1 { "x" } else { "y" }),
            ]
        })
        .collect();
    let rows: Vec<Row<'_>> = labels
        .iter()
        .map(|l| (&["a"][..], &[1][..], &l[..]))
        .collect();
    let limits = Limits {
        max_promoted_series_per_profile: 10,
        ..any_time()
    };
    let narrowed = with_limits(Policy::default(), &rows, &limits).unwrap();
    assert_eq!(series(&narrowed).len(), 2, "one for each pod");
    assert_eq!(totals(&narrowed)[TYPE], 50);
    assert_eq!(narrowed.told.dropped.get(Reason::LabelDemoted), 50);
}

#[test]
fn totals_keep_the_sums_and_nothing_else() {
    let rows: &[Row<'_>] = &[
        (&["leaf", "root"], &[1], &[("span_id", "0011223344556677")]),
        (&["root"], &[2], &[]),
        (&["root"], &[4], &[("pod", "x")]),
    ];
    let stripped = under(
        Policy {
            keep: Keep::Totals,
            ..Policy::default()
        },
        rows,
    );
    let all: Vec<(String, Vec<String>)> = folded(&stripped).into_iter().collect();
    let sampled = r#"{__name__="process_cpu", __sampled__="true""#;
    assert_eq!(
        all,
        [
            (
                format!(r#"{sampled}, pod="x", service_name="api"}} {TYPE}"#),
                vec![" 4".to_owned()]
            ),
            (
                format!(r#"{sampled}, service_name="api"}} {TYPE}"#),
                vec![" 3".to_owned()]
            ),
        ]
    );
}

#[test]
fn names_are_made_plain_if_wanted() {
    let plain = || Policy {
        label_names: LabelNames::Plain,
        ..Policy::default()
    };
    let named = |label: &str| {
        let labels = [(label, "x")];
        let rows: &[Row<'_>] = &[(&["a"], &[1], &labels)];
        with_limits(plain(), rows, &any_time()).map(|n| series(&n).remove(0))
    };
    assert!(named("k8s.pod").unwrap().contains(r#"k8s_pod="x""#));
    assert_eq!(named("a-b").unwrap_err().reason, Reason::InvalidLabels);
    assert_eq!(
        named("service.name").unwrap_err().reason,
        Reason::DuplicateLabelNames
    );
}

#[test]
fn profiles_that_count_from_the_start_are_marked_unless_somebody_says_otherwise() {
    let marked = |name: &str, kind: &str, delta: Option<&str>, without_delta| {
        let bytes = small(&[(kind, "bytes")], &[(&["a"], &[1], &[])]);
        let mut labels = vec![("__name__", name), ("service_name", "api")];
        labels.extend(delta.map(|delta| ("__delta__", delta)));
        let mut normaliser = Normaliser::new(7);
        normaliser.set_policy(&Arc::new(Policy {
            without_delta,
            ..Policy::default()
        }));
        let normalised = normaliser.normalise(&push(&bytes, &labels), &any_time());
        let key = folded(&normalised.unwrap()).into_keys().next().unwrap();
        key.contains(r#"__cumulative__="true""#)
    };
    use WithoutDelta::{Cumulative, OfInterval};
    let table = [
        ("memory", "alloc_space", None, Cumulative, true),
        ("memory", "alloc_space", Some("true"), Cumulative, true),
        ("memory", "alloc_space", Some("false"), Cumulative, false),
        ("memory", "alloc_space", None, OfInterval, false),
        ("memory", "inuse_space", None, Cumulative, false),
        ("memory", "alloc_size", None, Cumulative, false),
        ("mutex", "delay", None, Cumulative, true),
        ("process_cpu", "cpu", None, Cumulative, false),
    ];
    for (name, kind, delta, without_delta, expected) in table {
        let found = marked(name, kind, delta, without_delta);
        assert_eq!(found, expected, "{name} {kind} {delta:?}");
    }
}

proptest! {
    #[test]
    fn no_policy_about_labels_changes_what_is_counted(
        values in proptest::collection::vec((1i64..100, 0u8..6, 0u8..4), 1..40),
        cap in 1u64..8, per_series in 0u64..3, deny in any::<bool>(),
    ) {
        let texts: Vec<(i64, String, String)> = values
            .iter()
            .map(|(value, a, b)| (*value, a.to_string(), b.to_string()))
            .collect();
        let labels: Vec<[(&str, &str); 2]> = texts
            .iter()
            .map(|(_, a, b)| [("a", a.as_str()), ("b", b.as_str())])
            .collect();
        let rows: Vec<Row<'_>> = texts
            .iter()
            .zip(&labels)
            .map(|((value, _, _), labels)| {
                (&["f"][..], std::slice::from_ref(value), &labels[..])
            })
            .collect();
        let limits = Limits {
            max_promoted_series_per_profile: cap,
            max_promoted_labels_per_series: per_series,
            ..any_time()
        };
        let mut policy = Policy::default();
        if deny {
            policy.promotion.deny = vec![regexp::compile("a").unwrap()];
        }
        let normalised = with_limits(policy, &rows, &limits).unwrap();
        let sum: i64 = values.iter().map(|(value, _, _)| value).sum();
        prop_assert_eq!(totals(&normalised)[TYPE], i128::from(sum));
        // Samples without labels, of which there are none here, would be one series more.
        prop_assert!(series(&normalised).len() as u64 <= cap);
    }
}
