//! `docs/reference/read-acceptance.md` names tests that exist, and leaves no point out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Points of the acceptance checklist.
const POINTS: [&str; 10] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    let page = root().join("docs/reference/read-acceptance.md");
    std::fs::read_to_string(page).expect("the page")
}

/// Files and tests that a piece of the page names.
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

#[test]
fn every_test_that_the_page_names_exists() {
    let page = page();
    let named: BTreeSet<(&str, &str)> = tests_of(&page).into_iter().collect();
    assert!(named.len() > 60, "{named:?}");
    let wrong: Vec<String> = named.into_iter().filter_map(missing).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_point_of_the_checklist_is_without_a_test() {
    let page = page();
    let list = page
        .split("## ")
        .find(|part| part.starts_with("The acceptance"));
    let rows: Vec<&str> = list
        .expect("the checklist")
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| point"))
        .collect();
    let points: Vec<&str> = rows
        .iter()
        .filter_map(|row| row.split(" | ").next()?.strip_prefix("| "))
        .collect();
    assert_eq!(points, POINTS);
    for row in rows {
        assert!(!tests_of(row).is_empty(), "{row}");
    }
}
