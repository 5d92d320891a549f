//! RE2's regular expressions, anchored, on the `regex` crate.
//!
//! Both engines share their grammar but for a few corners, which are rewritten here: `\Q…\E`, a
//! literal `{`, `[`, `&` and `~` inside a class, and the Perl classes, which are ASCII in RE2.
//!
//! # Invariants
//! - The compiled size and the nesting are bounded, and matching takes time linear in the text.
//!
//! # What it must not know
//! Selectors and rules, which expressions are parts of.

use regex::{Regex, RegexBuilder};

/// Largest compiled expression, in bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of groups.
const NEST_MAX: u32 = 100;

/// The expression anchored at both ends; `.` takes line ends, too.
///
/// # Errors
/// Says what is wrong with the expression, or that it is too large.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    // The expression must stand on its own, lest `a)|(b` slip out of the anchors.
    build(&translate(pattern))?;
    build(&format!("^(?s:{})$", translate(pattern)))
}

fn build(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NEST_MAX)
        .build()
        .map_err(|e| match e {
            regex::Error::CompiledTooBig(limit) => {
                format!("the regular expression is too large; the limit is {limit} bytes compiled")
            }
            other => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default();
                format!(
                    "not a regular expression: {}",
                    last.trim_start_matches("error: ")
                )
            }
        })
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    let mut class = Class::Outside;
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '\\' => escape(rest, class, &mut out),
            '{' if class == Class::Outside && !is_repetition(rest) => {
                out.push_str("\\{");
                1
            }
            '[' if class == Class::Outside => {
                let open = if rest.starts_with("[^") { "[^" } else { "[" };
                out.push_str(open);
                class = Class::Start;
                rest = &rest[open.len()..];
                continue;
            }
            '[' if rest.starts_with("[:") => {
                let end = rest.find(":]").map_or(1, |end| end + 2);
                out.push_str(&rest[..end]);
                end
            }
            ']' if class == Class::Start => {
                out.push_str("\\]");
                1
            }
            ']' if class == Class::Inside => {
                out.push(']');
                class = Class::Outside;
                rest = &rest[1..];
                continue;
            }
            '[' | '&' | '~' if class != Class::Outside => {
                out.push('\\');
                out.push(c);
                1
            }
            c => {
                out.push(c);
                c.len_utf8()
            }
        };
        if class == Class::Start {
            class = Class::Inside;
        }
        rest = &rest[taken..];
    }
    out
}

/// Where the translation stands relative to `[…]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Outside,
    /// Right after the opening, where `]` is a literal.
    Start,
    Inside,
}

/// Translates the escape at the front of `rest`; how many bytes of it were taken.
fn escape(rest: &str, class: Class, out: &mut String) -> usize {
    let Some(c) = rest[1..].chars().next() else {
        out.push('\\');
        return 1;
    };
    if c == 'Q' {
        let body = &rest[2..];
        let end = body.find("\\E");
        out.push_str(&regex::escape(&body[..end.unwrap_or(body.len())]));
        return end.map_or(rest.len(), |end| 2 + end + 2);
    }
    let inside = class != Class::Outside;
    let ascii = match c {
        'd' => Some("0-9"),
        'w' => Some("0-9A-Za-z_"),
        's' => Some(r"\t\n\x0c\r "),
        _ => None,
    };
    let negated = match c {
        'D' => Some("[^0-9]"),
        'W' => Some("[^0-9A-Za-z_]"),
        'S' => Some(r"[^\t\n\x0c\r ]"),
        'b' if !inside => Some(r"(?-u:\b)"),
        _ => None,
    };
    match (ascii, negated) {
        (Some(set), _) if inside => out.push_str(set),
        (Some(set), _) => {
            out.push('[');
            out.push_str(set);
            out.push(']');
        }
        (None, Some(set)) => out.push_str(set),
        (None, None) => {
            out.push('\\');
            out.push(c);
        }
    }
    1 + c.len_utf8()
}

/// Whether `{` begins `{n}`, `{n,}` or `{n,m}`; otherwise RE2 takes it as it is.
fn is_repetition(rest: &str) -> bool {
    let Some(end) = rest.find('}') else {
        return false;
    };
    let (least, most) = match rest[1..end].split_once(',') {
        Some((least, most)) => (least, most),
        None => (&rest[1..end], ""),
    };
    !least.is_empty()
        && least.bytes().all(|b| b.is_ascii_digit())
        && most.bytes().all(|b| b.is_ascii_digit())
}
