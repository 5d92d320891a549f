//! Selectors: which series a question is about.
//!
//! The grammar is the one of a Prometheus instant selector without its modifiers:
//! ```text
//! selector = [ name ] "{" [ matcher { "," matcher } [ "," ] ] "}"  |  name
//! matcher  = ( name | string ) op string  |  string
//! op       = "="  "!="  "=~"  "!~"
//! ```
//! A name outside the braces, and a lone string inside them, is a matcher of `__name__`. Strings
//! stand in double or single quotes with Go's escapes, or in back-ticks as they are. Names that
//! are not `[a-zA-Z_][a-zA-Z0-9_]*` must be quoted. `{}` selects everything; an empty text is an
//! error. Regular expressions are RE2's, anchored at both ends.
//!
//! # Invariants
//! - A missing label equals the empty string.
//! - [`Matchers`] printed with `Display` parse back to equal matchers.
//! - Text length, number of matchers and size of a compiled expression are bounded.
//!
//! # What it must not know
//! What labels mean, apart from `__name__` holding a whole profile type id, which old template
//! variables send and which is read as a matcher of the profile type.

mod lexer;

use std::fmt;
use std::sync::Arc;

use regex::Regex;
use scoria_model::labels::names;
use scoria_model::{ProfileType, regexp};

use lexer::{Lexer, Token};

/// Longest selector text, in bytes.
pub const SELECTOR_BYTES_MAX: usize = 64 * 1024;
/// Most matchers of one question, over all its selectors.
pub const MATCHERS_MAX: usize = 256;

/// Why a selector was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("selector, at byte {at}: {what}")]
pub struct SelectorError {
    /// Byte offset into the text.
    pub at: usize,
    pub what: String,
}

impl SelectorError {
    fn new(at: usize, what: impl Into<String>) -> Self {
        Self {
            at,
            what: what.into(),
        }
    }
}

/// What a matcher asks of a label's value.
#[derive(Debug, Clone)]
pub enum Condition {
    Equal(Arc<str>),
    NotEqual(Arc<str>),
    /// The text as it was given and its anchored, compiled form.
    Regex(Arc<str>, Regex),
    NotRegex(Arc<str>, Regex),
}

/// One condition on one label.
#[derive(Debug, Clone)]
pub struct Matcher {
    pub name: Arc<str>,
    pub condition: Condition,
}

impl Matcher {
    /// A matcher that wants exactly `value`.
    pub fn equal(name: &str, value: &str) -> Self {
        Self {
            name: Arc::from(name),
            condition: Condition::Equal(Arc::from(value)),
        }
    }

    /// Whether a label value passes; a missing label has the empty value.
    pub fn passes(&self, value: &str) -> bool {
        match &self.condition {
            Condition::Equal(wanted) => value == &**wanted,
            Condition::NotEqual(wanted) => value != &**wanted,
            Condition::Regex(_, regex) => regex.is_match(value),
            Condition::NotRegex(_, regex) => !regex.is_match(value),
        }
    }

    /// The operator and its operand as they stand in a selector.
    pub fn parts(&self) -> (&'static str, &str) {
        match &self.condition {
            Condition::Equal(text) => ("=", text),
            Condition::NotEqual(text) => ("!=", text),
            Condition::Regex(text, _) => ("=~", text),
            Condition::NotRegex(text, _) => ("!~", text),
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.parts() == other.parts()
    }
}

impl Eq for Matcher {}

/// Matchers that must all pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matchers(Vec<Matcher>);

impl Matchers {
    /// Parses one selector.
    ///
    /// # Errors
    /// Says what is wrong and at which byte.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(SelectorError::new(
                0,
                format!(
                    "the text is {} bytes long; the limit is {SELECTOR_BYTES_MAX}",
                    text.len()
                ),
            ));
        }
        let mut parser = Parser {
            lexer: Lexer::new(text),
            found: Vec::new(),
        };
        parser.selector()?;
        Ok(Self(parser.found))
    }

    /// Parses several selectors whose matchers must all pass. An empty list selects everything.
    ///
    /// # Errors
    /// As [`Matchers::parse`], for the first that is wrong, or when there are too many matchers.
    pub fn parse_all<T: AsRef<str>>(texts: &[T]) -> Result<Self, SelectorError> {
        let mut all = Vec::new();
        for text in texts {
            all.append(&mut Self::parse(text.as_ref())?.0);
            check_count(all.len(), 0)?;
        }
        Ok(Self(all))
    }

    /// Adds a condition.
    pub fn push(&mut self, matcher: Matcher) {
        self.0.push(matcher);
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Matcher> {
        self.0.iter()
    }

    /// Whether all matchers pass, given the value of a label by its name.
    pub fn matches<'v>(&self, value_of: impl Fn(&str) -> Option<&'v str>) -> bool {
        self.0
            .iter()
            .all(|matcher| matcher.passes(value_of(&matcher.name).unwrap_or_default()))
    }

    /// The value that a label must have because of an equality, if there is one.
    pub fn equal_to(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|matcher| match &matcher.condition {
            Condition::Equal(value) if &*matcher.name == name => Some(&**value),
            _ => None,
        })
    }

    /// Cuts them in two: those on labels that follow from the profile type, and the rest.
    pub fn split(&self) -> (Self, Self) {
        let (derived, rest) = self
            .0
            .iter()
            .cloned()
            .partition(|matcher| is_of_type(&matcher.name));
        (Self(derived), Self(rest))
    }
}

/// Whether a label's value follows from the profile type alone.
pub fn is_of_type(name: &str) -> bool {
    matches!(
        name,
        names::PROFILE_TYPE
            | names::TYPE
            | names::UNIT
            | names::PERIOD_TYPE
            | names::PERIOD_UNIT
            | names::NAME
    )
}

impl<'a> IntoIterator for &'a Matchers {
    type Item = &'a Matcher;
    type IntoIter = std::slice::Iter<'a, Matcher>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Matchers {
    /// Selector text that parses back to the same matchers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, matcher) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            if is_plain_name(&matcher.name) {
                f.write_str(&matcher.name)?;
            } else {
                write_quoted(f, &matcher.name)?;
            }
            let (op, operand) = matcher.parts();
            f.write_str(op)?;
            write_quoted(f, operand)?;
        }
        f.write_str("}")
    }
}

/// Whether a label name may stand without quotes.
pub fn is_plain_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next();
    first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_ascii_control() => write!(f, "\\x{:02x}", c as u32)?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

fn check_count(count: usize, at: usize) -> Result<(), SelectorError> {
    if count > MATCHERS_MAX {
        return Err(SelectorError::new(
            at,
            format!("more than {MATCHERS_MAX} matchers"),
        ));
    }
    Ok(())
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    found: Vec<Matcher>,
}

impl Parser<'_> {
    fn selector(&mut self) -> Result<(), SelectorError> {
        let (at, mut token) = self.lexer.next()?;
        let named = match token {
            Token::Name(name) => {
                self.add_equal(names::NAME, &name, at)?;
                token = self.lexer.next()?.1;
                true
            }
            _ => false,
        };
        match token {
            Token::Open => self.braces()?,
            Token::End if named => return Ok(()),
            Token::End => {
                return Err(SelectorError::new(
                    at,
                    "the text is empty; {} selects everything",
                ));
            }
            other => {
                return Err(SelectorError::new(
                    self.lexer.last(),
                    format!("expected {{, found {other}"),
                ));
            }
        }
        match self.lexer.next()? {
            (_, Token::End) => Ok(()),
            (at, other) => Err(SelectorError::new(
                at,
                format!("expected the end of the selector, found {other}"),
            )),
        }
    }

    /// What follows an opening brace, up to and with the closing one.
    fn braces(&mut self) -> Result<(), SelectorError> {
        loop {
            let (at, token) = self.lexer.next()?;
            let (name, quoted) = match token {
                Token::Close => return Ok(()),
                Token::Name(name) if name.contains(':') => {
                    return Err(SelectorError::new(
                        at,
                        format!("the label name {name} must be quoted"),
                    ));
                }
                Token::Name(name) => (name, false),
                Token::Text(name) => (name, true),
                other => {
                    return Err(SelectorError::new(
                        at,
                        format!("expected a label name or }}, found {other}"),
                    ));
                }
            };
            let (op_at, op) = self.lexer.next()?;
            let ended = match op {
                Token::Comma | Token::Close if quoted => {
                    self.add_equal(names::NAME, &name, at)?;
                    op == Token::Close
                }
                Token::Op(op) => {
                    self.operand(&name, op, at)?;
                    self.separator()?
                }
                other => {
                    return Err(SelectorError::new(
                        op_at,
                        format!("expected =, !=, =~ or !~ after {name:?}, found {other}"),
                    ));
                }
            };
            if ended {
                return Ok(());
            }
        }
    }

    /// A comma, or the closing brace that ends the list.
    fn separator(&mut self) -> Result<bool, SelectorError> {
        match self.lexer.next()? {
            (_, Token::Comma) => Ok(false),
            (_, Token::Close) => Ok(true),
            (at, other) => Err(SelectorError::new(
                at,
                format!("expected , or }}, found {other}"),
            )),
        }
    }

    fn operand(&mut self, name: &str, op: &'static str, at: usize) -> Result<(), SelectorError> {
        if name.is_empty() {
            return Err(SelectorError::new(at, "a label name is empty"));
        }
        let value = match self.lexer.next()? {
            (value_at, Token::Text(value)) => (value_at, value),
            (value_at, other) => {
                return Err(SelectorError::new(
                    value_at,
                    format!("expected a quoted value after {name}{op}, found {other}"),
                ));
            }
        };
        let (value_at, value) = value;
        let compiled = || {
            regexp::compile(&value)
                .map_err(|why| SelectorError::new(value_at, format!("{value:?}: {why}")))
        };
        let condition = match op {
            "=" => return self.add_equal(name, &value, at),
            "!=" => Condition::NotEqual(Arc::from(value)),
            "=~" => Condition::Regex(Arc::from(value.as_str()), compiled()?),
            _ => Condition::NotRegex(Arc::from(value.as_str()), compiled()?),
        };
        self.add(
            Matcher {
                name: Arc::from(name),
                condition,
            },
            at,
        )
    }

    fn add_equal(&mut self, name: &str, value: &str, at: usize) -> Result<(), SelectorError> {
        let matcher = match value.parse::<ProfileType>() {
            Ok(kind) if name == names::NAME => {
                Matcher::equal(names::PROFILE_TYPE, &kind.to_string())
            }
            _ => Matcher::equal(name, value),
        };
        self.add(matcher, at)
    }

    fn add(&mut self, matcher: Matcher, at: usize) -> Result<(), SelectorError> {
        self.found.push(matcher);
        check_count(self.found.len(), at)
    }
}

#[cfg(test)]
mod tests;
