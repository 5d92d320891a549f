//! What a frame is called: `Class.method`, less what differs from one run of a program to the next.
//!
//! The JVM numbers the classes that it makes up itself, and extracts native libraries to files with
//! random names. Left as they are, one lambda would be another function in every process.
//!
//! # Invariants
//! - Names that people gave are never touched.
//!
//! # What it must not know
//! Recordings.

/// Stands for what was numbered.
const NUMBERED: char = '_';
/// Digits that nobody chose: a hash or a random number.
const RANDOM_DIGITS_MIN: usize = 16;

/// Appends the name of a method of a class to `out`. A frame without a class, such as a stub of the
/// JVM, starts with the dot.
pub(crate) fn append(out: &mut String, class: &str, method: &str) {
    append_class(out, class);
    out.push('.');
    out.push_str(method);
}

fn append_class(out: &mut String, class: &str) {
    if let Some(stem) = lambda(class).or_else(|| accessor(class)) {
        out.push_str(stem);
        out.push(NUMBERED);
    } else if class.contains(".so") {
        append_library(out, class);
    } else {
        out.push_str(class);
    }
}

/// `Shop$$Lambda` of `Shop$$Lambda$14/0x0000000800c3f000`, `Shop$$Lambda$14+0x…`,
/// `Shop$$Lambda.0x…` or `Shop$$Lambda$14`.
fn lambda(class: &str) -> Option<&str> {
    const LAMBDA: &str = "$$Lambda";
    let at = class.rfind(LAMBDA)? + LAMBDA.len();
    let (stem, rest) = class.split_at(at);
    let number = rest.strip_prefix('$');
    let rest = number.unwrap_or(rest);
    let hash = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_numbered = number.is_some() && hash.len() < rest.len();
    let Some(hash) = hash.strip_prefix(['.', '/', '+']) else {
        return (is_numbered && hash.is_empty()).then_some(stem);
    };
    let digits = hash.strip_prefix("0x").unwrap_or(hash);
    let is_hash = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then_some(stem)
}

/// `jdk/internal/reflect/GeneratedMethodAccessor` of one with a number behind it.
fn accessor(class: &str) -> Option<&str> {
    const KINDS: [&str; 3] = [
        "reflect/GeneratedMethodAccessor",
        "reflect/GeneratedConstructorAccessor",
        "reflect/GeneratedSerializationConstructorAccessor",
    ];
    let stem = class.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_one = stem.len() < class.len() && KINDS.iter().any(|kind| stem.ends_with(kind));
    is_one.then_some(stem)
}

/// `libzstd-jni-1.5.1-_.so` of `libzstd-jni-1.5.1-16931311898282279136.so`.
fn append_library(out: &mut String, library: &str) {
    let mut left = library;
    while let Some(first) = left.chars().next() {
        let digits = left.bytes().take_while(u8::is_ascii_hexdigit).count();
        // Words can consist of hexadecimal digits; none with a digit does and is as long.
        let is_random = digits >= RANDOM_DIGITS_MIN
            && left.bytes().take(digits).any(|byte| byte.is_ascii_digit());
        if is_random {
            out.push(NUMBERED);
        }
        let n = digits.max(first.len_utf8());
        if !is_random {
            out.push_str(&left[..n]);
        }
        left = &left[n..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str) -> String {
        let mut out = String::new();
        append(&mut out, name, "m");
        out
    }

    #[test]
    fn classes_and_methods() {
        assert_eq!(class("java/util/HashMap$Node"), "java/util/HashMap$Node.m");
        assert_eq!(class(""), ".m");
        assert_eq!(class("libjvm.so"), "libjvm.so.m");
    }

    #[test]
    fn numbered_classes_of_the_jvm() {
        for name in [
            "a/B$$Lambda$14.0x000000080129e3e0",
            "a/B$$Lambda$14+0x000000080129e3e0",
            "a/B$$Lambda$14/0x000000080129e3e0",
            "a/B$$Lambda$14/1234567",
            "a/B$$Lambda.0x000000080129e3e0",
            "a/B$$Lambda/0x000000080129e3e0",
            "a/B$$Lambda$14",
        ] {
            assert_eq!(class(name), "a/B$$Lambda_.m", "{name}");
        }
        assert_eq!(class("a/B$$$Lambda$1.0x1"), "a/B$$$Lambda_.m");
        for (name, shown) in [
            (
                "jdk/internal/reflect/GeneratedMethodAccessor105",
                "jdk/internal/reflect/GeneratedMethodAccessor_.m",
            ),
            (
                "sun/reflect/GeneratedConstructorAccessor7",
                "sun/reflect/GeneratedConstructorAccessor_.m",
            ),
        ] {
            assert_eq!(class(name), shown);
        }
    }

    #[test]
    fn libraries_with_random_names() {
        let zstd = "/tmp/libzstd-jni-1.5.1-16931311898282279136.so";
        assert_eq!(class(zstd), "/tmp/libzstd-jni-1.5.1-_.so.m");
        let crypto = "libamazonCorrettoCryptoProvider.0123456789abcdef.so";
        assert_eq!(class(crypto), "libamazonCorrettoCryptoProvider._.so.m");
        assert_eq!(class("libé-2.31.so"), "libé-2.31.so.m");
        let uuid = "libx-d1f9bd24-4cc8-4571-b71c-1698b83f1af1.so";
        assert_eq!(class(uuid), format!("{uuid}.m"));
        assert_eq!(class("libdeadbeefdeadbeef.so"), "libdeadbeefdeadbeef.so.m");
    }

    #[test]
    fn names_that_people_gave_stay() {
        for name in [
            "a/B$$Lambda",
            "a/B$$LambdaTest",
            "a/B$$Lambda$x",
            "a/B$$Lambda$14x",
            "a/B$$Lambda$14.",
            "a/B$$Lambda$14.x",
            "a/GeneratedMethodAccessor5",
            "java/lang/invoke/LambdaForm$MH.0x000000080157a000",
            "a/B1234567890123456",
        ] {
            assert_eq!(class(name), format!("{name}.m"));
        }
    }
}
