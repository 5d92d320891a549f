//! Guesses the language of a profiled program.

/// What the program was written in, as statistics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    Go,
    Java,
    Ruby,
    NodeJs,
    DotNet,
    Python,
    Php,
    Rust,
    Unknown,
}

impl Language {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Java => "java",
            Self::Ruby => "ruby",
            Self::NodeJs => "nodejs",
            Self::DotNet => "dotnet",
            Self::Python => "python",
            Self::Php => "php",
            Self::Rust => "rust",
            Self::Unknown => "unknown",
        }
    }

    /// The language that a known profiler is for.
    pub fn of_spy(spy: &str) -> Option<Self> {
        Some(match spy {
            "gospy" => Self::Go,
            "javaspy" | "grafana-agent.java" => Self::Java,
            "rbspy" => Self::Ruby,
            "nodespy" => Self::NodeJs,
            "dotnetspy" => Self::DotNet,
            "pyspy" => Self::Python,
            "phpspy" => Self::Php,
            "pyroscope-rs" => Self::Rust,
            _ => return None,
        })
    }

    /// The first language that a string of the profile betrays.
    pub fn of_strings<'a>(strings: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut guesses = strings.into_iter().filter_map(Self::of_string);
        guesses.next().unwrap_or(Self::Unknown)
    }

    /// The language that a string betrays.
    pub fn of_string(text: &[u8]) -> Option<Self> {
        of_string(text)
    }
}

fn of_string(text: &[u8]) -> Option<Language> {
    let prefixed = |prefixes: &[&str]| prefixes.iter().any(|p| text.starts_with(p.as_bytes()));
    let suffixed = |suffixes: &[&str]| suffixes.iter().any(|s| text.ends_with(s.as_bytes()));
    if suffixed(&[".go"]) || prefixed(&["/usr/local/go/"]) {
        Some(Language::Go)
    } else if prefixed(&["java/", "sun/"]) {
        Some(Language::Java)
    } else if suffixed(&[".rb"]) || contains(text, b"gems/") {
        Some(Language::Ruby)
    } else if suffixed(&[".js"]) || prefixed(&["./node_modules/"]) {
        Some(Language::NodeJs)
    } else if prefixed(&["System.", "Microsoft."]) {
        Some(Language::DotNet)
    } else if suffixed(&[".py"]) {
        Some(Language::Python)
    } else if suffixed(&["main.rs", "core.rs"]) {
        Some(Language::Rust)
    } else {
        None
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.len() >= part.len() && memchr::memmem::find(text, part).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_string_that_tells_decides() {
        let strings = ["", "samples", "/usr/local/go/src/runtime/proc.s", "a.py"];
        let guess = Language::of_strings(strings.map(str::as_bytes));
        assert_eq!(guess, Language::Go);
        let guess = Language::of_strings(["x", "lib/gems/a"].map(str::as_bytes));
        assert_eq!(guess, Language::Ruby);
        assert_eq!(Language::of_strings([&b"cpu"[..]]), Language::Unknown);
    }
}
