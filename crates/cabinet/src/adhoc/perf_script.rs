//! The output of `perf script`: for each sample a line that says what was hit, and below it a line
//! for each frame, leaf first.
//!
//! ```text
//! java 1234 [002] 100.5: 250000 cycles:
//!         7f0a12 memcpy+0x12 (/usr/lib/libc.so.6)
//!         7f0b00 [unknown] (/usr/bin/java)
//! ```

use scoria_query::merge::TreePartial;

/// Whether the first lines are those of such an output.
pub(super) fn looks_like(text: &str) -> bool {
    let mut lines = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let head = lines
        .next()
        .is_some_and(|line| !line.starts_with([' ', '\t']) && line.trim_end().ends_with(':'));
    head && lines.next().is_some_and(|line| frame(line).is_some())
}

/// One for each sample, below the name of the command.
pub(super) fn tree(text: &str) -> TreePartial {
    let mut stacks: Vec<(Vec<&str>, i64)> = Vec::new();
    for line in text.lines() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            if let (Some((stack, _)), Some(name)) = (stacks.last_mut(), frame(line)) {
                stack.push(name);
            }
        } else {
            stacks.push((vec![command(line)], 1));
        }
    }
    // The command comes first and is the root; the frames follow leaf first.
    TreePartial::from_stacks(stacks.iter().map(|(stack, value)| {
        let frames = stack.iter().skip(1).rev();
        (stack.iter().take(1).chain(frames).copied(), *value)
    }))
}

/// What stands before the process number.
fn command(line: &str) -> &str {
    let number = |word: &str| word.bytes().all(|b| b.is_ascii_digit() || b == b'/');
    let mut end = 0;
    for word in line.split(' ') {
        if end > 0 && !word.is_empty() && number(word) {
            return line[..end].trim();
        }
        end += word.len() + 1;
    }
    line.trim()
}

/// The name of a frame: its symbol without the offset, or else the file that it lies in.
fn frame(line: &str) -> Option<&str> {
    let line = line.strip_prefix([' ', '\t'])?.trim();
    let (address, rest) = line.split_once(' ')?;
    if !address.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let rest = rest.trim();
    let (symbol, file) = match rest.rsplit_once(" (") {
        Some((symbol, file)) => (symbol.trim(), file.trim_end_matches(')')),
        None => (rest, ""),
    };
    let symbol = symbol.rsplit_once("+0x").map_or(symbol, |(name, _)| name);
    if symbol.is_empty() || symbol == "[unknown]" {
        let name = file.rsplit('/').next().unwrap_or_default();
        return Some(if name.is_empty() { "[unknown]" } else { name });
    }
    Some(symbol)
}
