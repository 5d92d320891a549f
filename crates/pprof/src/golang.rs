//! Function names of Go profiles: the compiler's type parameters are taken out, so that instances of
//! a generic function are one function, `slices.Sort[...]`, as newer Go programs name it.

const TYPE_PARAMETERS: &[u8] = b"[go.shape.";
/// What newer Go programs write themselves.
const ELLIPSIS: &[u8] = b"[...]";

/// Whether there can be a name in `bytes` with something to take out.
pub(crate) fn may_have_type_parameters(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, TYPE_PARAMETERS).is_some()
}

/// `None` if there is nothing to take out.
pub(crate) fn without_type_parameters(name: &[u8]) -> Option<Vec<u8>> {
    let mut left = name;
    let mut kept = Vec::new();
    let mut n_found = 0;
    while let Some(start) = memchr::memmem::find(left, TYPE_PARAMETERS) {
        let Some(length) = bracketed(&left[start..]) else {
            break;
        };
        kept.extend_from_slice(&left[..start]);
        kept.extend_from_slice(ELLIPSIS);
        left = &left[start + length..];
        n_found += 1;
    }
    kept.extend_from_slice(left);
    (n_found > 0).then_some(kept)
}

/// Length of the brackets that `text` starts with, nested ones included.
fn bracketed(text: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(name: &str) -> Option<String> {
        without_type_parameters(name.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn type_parameters_go_and_all_else_stays() {
        let cases = [
            ("slices.Sort[go.shape.int]", "slices.Sort[...]"),
            ("a.(*T[go.shape.int_0,go.shape.string]).f", "a.(*T[...]).f"),
            ("a.F[go.shape.struct { X []int }].func1", "a.F[...].func1"),
            ("a.F[go.shape.int].G[go.shape.[]uint8]", "a.F[...].G[...]"),
        ];
        for (name, expected) in cases {
            assert_eq!(short(name).as_deref(), Some(expected));
        }
        assert_eq!(short("slices.Sort[...]"), None);
        assert_eq!(short("cut.off[go.shape.int"), None);
    }
}
