//! The nearest of some names, for the error about one that does not exist.

/// The name that takes the fewest edits to reach from `text`, if any is near enough to be meant.
pub(super) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let tolerated = (text.chars().count() / 3).max(2);
    names
        .map(|name| (edits(text, name), name))
        .filter(|(edits, _)| *edits <= tolerated)
        .min()
        .map(|(_, name)| name)
}

/// Insertions, deletions and replacements between two texts.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["listen", "target", "drain_timeout"];
        let find = |text| nearest(text, names.into_iter());
        assert_eq!(find("listn"), Some("listen"));
        assert_eq!(find("drain_time_out"), Some("drain_timeout"));
        assert_eq!(find("quux"), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
