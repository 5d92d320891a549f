//! The pages that say what holds the read and the write interface name tests that exist, and leave
//! no rule out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Points of the acceptance checklist of the read interface.
const POINTS: [&str; 10] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];

/// Sections of the write interface. A rule of one has its number in front.
const SECTIONS: [&str; 55] = [
    "0.1", "0.2", "0.3", "0.4", "0.5", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "1.8",
    "1.9", "1.10", "1.11", "1.12", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.8", "3.1",
    "3.2", "3.3", "3.4", "3.5", "3.6", "3.7", "4.1", "4.2", "4.3", "4.4", "4.5", "4.6", "5", "7",
    "10.1", "10.2", "10.3", "10.4", "10.5", "10.6", "10.7", "10.8", "10.9", "10.10", "10.11",
    "10.12", "10.13", "10.14", "10.15",
];

/// Those of the read interface that are listed rule by rule. 10.26 is about documents of others.
const READ_SECTIONS: [&str; 51] = [
    "4.1", "4.2", "4.3", "5.1", "5.2", "6.1", "6.2", "6.3", "6.4", "6.5", "6.6", "7", "8.1", "8.2",
    "9.1", "9.2", "9.3", "10.1", "10.2", "10.3", "10.4", "10.5", "10.6", "10.7", "10.8", "10.9",
    "10.10", "10.11", "10.12", "10.13", "10.14", "10.15", "10.16", "10.17", "10.18", "10.19",
    "10.20", "10.21", "10.22", "10.23", "10.24", "10.25", "10.27", "10.28", "10.29", "10.30",
    "10.31", "10.32", "10.33", "10.34", "10.35",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page(name: &str) -> String {
    let page = root().join("docs/reference").join(name);
    std::fs::read_to_string(page).expect("the page")
}

/// Files and tests that a piece of a page names.
fn tests_of(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|name| name.split_once("::")).collect()
}

/// What is wrong with a name, if anything is.
fn missing((file, test): (&str, &str)) -> Option<String> {
    let Ok(source) = std::fs::read_to_string(root().join(file)) else {
        return Some(format!("there is no file {file}"));
    };
    let function = format!("fn {test}(");
    let at = source.find(&function);
    let before = at.map(|at| source[..at].trim_end_matches("async ").trim_end());
    // The attribute stands right above, others between at most.
    let is_test = before.is_some_and(|before| {
        let above = before.rsplit("\n\n").next().unwrap_or(before);
        above.contains("#[test]") || above.contains("#[tokio::test")
    });
    (!is_test).then(|| format!("{file} has no test {test}"))
}

fn check_names(page: &str, at_least: usize) {
    let named: BTreeSet<(&str, &str)> = tests_of(page).into_iter().collect();
    assert!(named.len() > at_least, "{named:?}");
    let wrong: Vec<String> = named.into_iter().filter_map(missing).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The rows of a page's tables, by their first cell, without the heads.
fn rows(page: &str) -> Vec<(&str, &str)> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| Some((row.split(" | ").next()?.strip_prefix("| ")?, row)));
    cells
        .filter(|(first, _)| !["point", "rule", "what"].contains(first))
        .collect()
}

#[test]
fn every_test_that_the_pages_name_exists() {
    check_names(&page("read-acceptance.md"), 150);
    check_names(&page("write-acceptance.md"), 200);
}

#[test]
fn no_point_of_the_checklist_is_without_a_test() {
    let page = page("read-acceptance.md");
    let list = page
        .split("## ")
        .find(|part| part.starts_with("The acceptance"));
    let rows = rows(list.expect("the checklist"));
    let points: Vec<&str> = rows.iter().map(|(point, _)| *point).collect();
    assert_eq!(points, POINTS);
    for (_, row) in rows {
        assert!(!tests_of(row).is_empty(), "{row}");
    }
}

/// Each section has a rule, and each rule a test.
fn check_rules(page: &str, sections: &[&str]) {
    let rows = rows(page);
    for section in sections {
        let is_of = |(rule, _): &&(&str, &str)| {
            let rest = rule.strip_prefix(section);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '.']))
        };
        assert!(
            rows.iter().any(|row| is_of(&row)),
            "nothing holds {section}"
        );
    }
    for (_, row) in rows {
        assert!(!tests_of(row).is_empty(), "{row}");
    }
}

#[test]
fn no_rule_of_the_read_interface_is_without_a_test() {
    check_rules(&page("read-acceptance.md"), &READ_SECTIONS);
}

#[test]
fn no_rule_of_the_write_interface_is_without_a_test() {
    check_rules(&page("write-acceptance.md"), &SECTIONS);
}
