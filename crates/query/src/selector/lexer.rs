//! Cuts a selector into tokens and undoes the quoting of strings.

use std::fmt;

use super::SelectorError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Open,
    Close,
    Comma,
    /// `=`, `!=`, `=~` or `!~`.
    Op(&'static str),
    /// An unquoted name; may hold colons.
    Name(String),
    /// A quoted string, unquoted.
    Text(String),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("{"),
            Self::Close => f.write_str("}"),
            Self::Comma => f.write_str("a comma"),
            Self::Op(op) => f.write_str(op),
            Self::Name(name) => write!(f, "the name {name}"),
            Self::Text(text) => write!(f, "the string {text:?}"),
            Self::End => f.write_str("the end"),
        }
    }
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    last: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            last: 0,
        }
    }

    /// Where the token given out last began.
    pub(super) fn last(&self) -> usize {
        self.last
    }

    /// The next token and where it begins. After the end it is the end again.
    pub(super) fn next(&mut self) -> Result<(usize, Token), SelectorError> {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.at += rest.len() - trimmed.len();
        self.last = self.at;
        let at = self.at;
        let Some(first) = trimmed.chars().next() else {
            return Ok((at, Token::End));
        };
        let (token, length) = match first {
            '{' => (Token::Open, 1),
            '}' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '=' if trimmed[1..].starts_with('~') => (Token::Op("=~"), 2),
            '=' => (Token::Op("="), 1),
            '!' if trimmed[1..].starts_with('=') => (Token::Op("!="), 2),
            '!' if trimmed[1..].starts_with('~') => (Token::Op("!~"), 2),
            '"' | '\'' | '`' => {
                let (text, length) = unquote(trimmed, first, at)?;
                (Token::Text(text), length)
            }
            'a'..='z' | 'A'..='Z' | '_' | ':' => {
                let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
                let length = trimmed.find(|c| !part(c)).unwrap_or(trimmed.len());
                (Token::Name(trimmed[..length].to_owned()), length)
            }
            other => {
                return Err(SelectorError::new(
                    at,
                    format!("unexpected {other:?}; names with other characters must be quoted"),
                ));
            }
        };
        self.at += length;
        Ok((at, token))
    }
}

/// Undoes the quoting of the string at the front of `text`; the string and how many bytes it took.
fn unquote(text: &str, quote: char, at: usize) -> Result<(String, usize), SelectorError> {
    let body = &text[1..];
    let open = || SelectorError::new(at, format!("the string is not closed; it wants a {quote}"));
    if quote == '`' {
        let end = body.find('`').ok_or_else(open)?;
        return Ok((body[..end].to_owned(), end + 2));
    }
    let mut out: Vec<u8> = Vec::new();
    let mut chars = body.char_indices();
    while let Some((offset, c)) = chars.next() {
        match c {
            c if c == quote => {
                let text = String::from_utf8(out)
                    .map_err(|_| SelectorError::new(at, "the escapes do not make UTF-8"))?;
                return Ok((text, offset + 2));
            }
            '\n' => {
                return Err(SelectorError::new(
                    at + 1 + offset,
                    "a line break inside a quoted string; write \\n",
                ));
            }
            '\\' => {
                let length = unescape(&body[offset + 1..], quote, &mut out).ok_or_else(|| {
                    SelectorError::new(at + 1 + offset, "an escape that is not one of Go's")
                })?;
                // The escape's characters are ASCII, so bytes are characters.
                for _ in 0..length {
                    chars.next();
                }
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err(open())
}

/// Appends what the escape after a backslash stands for; how long it is.
fn unescape(text: &str, quote: char, out: &mut Vec<u8>) -> Option<usize> {
    let first = text.chars().next()?;
    let plain = match first {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        c if c == quote => c as u8,
        'x' => {
            out.push(u8::try_from(digits(text, 1, 2, 16)?).ok()?);
            return Some(3);
        }
        '0'..='7' => {
            out.push(u8::try_from(digits(text, 0, 3, 8)?).ok()?);
            return Some(3);
        }
        'u' => return code_point(text, 4, out),
        'U' => return code_point(text, 8, out),
        _ => return None,
    };
    out.push(plain);
    Some(1)
}

fn code_point(text: &str, length: usize, out: &mut Vec<u8>) -> Option<usize> {
    let c = char::from_u32(digits(text, 1, length, 16)?)?;
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    Some(1 + length)
}

fn digits(text: &str, from: usize, length: usize, radix: u32) -> Option<u32> {
    let digits = text.get(from..from + length)?;
    // `from_str_radix` takes a sign, an escape does not.
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}
