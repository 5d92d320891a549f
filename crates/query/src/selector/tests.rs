use proptest::prelude::*;

use super::*;

fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
    let labels = scoria_model::Labels::from_pairs(labels.iter().copied());
    let matchers = Matchers::parse(selector).unwrap_or_else(|e| panic!("{selector}: {e}"));
    matchers.matches(|name| labels.get(name))
}

#[test]
fn the_grammar_of_the_contract() {
    let labels = [("service_name", "x"), ("service.name", "y"), ("pod", "a-1")];
    for selector in [
        "{}",
        " { } ",
        r#"{service_name="x"}"#,
        r#"{service_name="x",}"#,
        r#"{ service_name = 'x' , pod=~`a-\d` }"#,
        r#"{"service.name"="y"}"#,
        r#"{pod!="b",pod!~"b.*"}"#,
        r#"{foo=""}"#,
        r#"{foo!="x"}"#,
        r#"{foo=~".*"}"#,
        r#"{pod=~"a.1"}"#,
        r#"{service_name="\x78",pod="\u0061-\061"}"#,
    ] {
        assert!(matches(selector, &labels), "{selector}");
    }
    for selector in [
        r#"{service_name="X"}"#,
        r#"{pod=~"a"}"#,
        r#"{pod=~"a|b"}"#,
        r#"{service_name="x",service_name="y"}"#,
        r#"{foo=~".+"}"#,
        r#"{foo!=""}"#,
    ] {
        assert!(!matches(selector, &labels), "{selector}");
    }
}

#[test]
fn what_is_wrong_and_where() {
    for (selector, at, word) in [
        ("", 0, "empty"),
        ("  ", 2, "empty"),
        ("{", 1, "the end"),
        ("{a}", 2, "expected ="),
        ("{a=}", 3, "quoted value"),
        ("{a=x}", 3, "quoted value"),
        (r#"{service.name="x"}"#, 8, "quoted"),
        (r#"{a="x"} | b"#, 8, "unexpected"),
        (r#"{a="x"}[5m]"#, 7, "unexpected"),
        (r#"{a="x" b="y"}"#, 7, "expected ,"),
        (r#"{,}"#, 1, "label name"),
        (r#"{a="x}"#, 3, "not closed"),
        (r#"{a="\q"}"#, 4, "Go's"),
        (r#"{a="\'"}"#, 4, "Go's"),
        (r#"{a="\xff"}"#, 3, "UTF-8"),
        (r#"{a=~"("}"#, 4, "regular expression"),
        (r#"{a=~"a)|(b"}"#, 4, "regular expression"),
        (r#"{""="x"}"#, 1, "empty"),
        (r#"{a:b="x"}"#, 1, "quoted"),
        ("{a=\"x\ny\"}", 5, "line break"),
        ("{}{}", 2, "end of the selector"),
    ] {
        let error = Matchers::parse(selector).expect_err(selector);
        assert_eq!(error.at, at, "{selector}: {error}");
        assert!(error.what.contains(word), "{selector}: {error}");
    }
}

#[test]
fn sizes_are_bounded() {
    let long = format!("{{a=\"{}\"}}", "x".repeat(SELECTOR_BYTES_MAX));
    assert!(Matchers::parse(&long).is_err());
    let many = format!("{{{}}}", "a=\"x\",".repeat(MATCHERS_MAX + 1));
    assert!(
        Matchers::parse(&many)
            .unwrap_err()
            .what
            .contains("matchers")
    );
    assert!(Matchers::parse_all(&vec!["{a=\"\"}"; MATCHERS_MAX + 1]).is_err());
    let huge = Matchers::parse(r#"{a=~"(a{1000}){1000}"}"#).unwrap_err();
    assert!(huge.what.contains("too large"), "{huge}");
    let deep = format!("{{a=~\"{}{}\"}}", "(".repeat(500), ")".repeat(500));
    assert!(Matchers::parse(&deep).is_err());
}

#[test]
fn a_name_outside_or_a_lone_string_is_the_metric_name() {
    let by_name = [Matcher::equal("__name__", "process_cpu")];
    assert_eq!(Matchers::parse("process_cpu").unwrap().0, by_name);
    assert_eq!(Matchers::parse("process_cpu{}").unwrap().0, by_name);
    assert_eq!(Matchers::parse(r#"{"process_cpu"}"#).unwrap().0, by_name);
    let id = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
    let typed = Matchers::parse(&format!("{id}{{a=\"b\"}}")).unwrap();
    assert_eq!(typed.equal_to("__profile_type__"), Some(id));
    assert_eq!(typed.equal_to("a"), Some("b"));
    let inside = Matchers::parse(&format!("{{__name__=\"{id}\"}}")).unwrap();
    assert_eq!(inside.equal_to("__profile_type__"), Some(id));
}

#[test]
fn re2_corners() {
    for (pattern, value, expected) in [
        (r"\Qa.b\E.", "a.bc", true),
        (r"\Qa.b\E.", "axbc", false),
        ("x{y}", "x{y}", true),
        ("x{2}", "xx", true),
        ("x{1,}", "xxx", true),
        ("x{,2}", "x{,2}", true),
        ("[a[]+", "a[", true),
        ("[]a]+", "]a", true),
        ("[^]a]+", "bc", true),
        ("[[:alpha:]&&b]+", "a&b", true),
        (r"\d+", "12", true),
        (r"\d", "\u{663}", false),
        (r"[\w-]+", "a-b", true),
        (r"[\D]+", "ab", true),
        (r"\w", "é", false),
        (r"a\b.*", "a b", true),
        ("a.b", "a\nb", true),
        ("(?i)abc", "ABC", true),
        ("", "", true),
        ("", "x", false),
    ] {
        let regex = regexp::compile(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        assert_eq!(regex.is_match(value), expected, "{pattern} on {value:?}");
    }
}

#[test]
fn split_by_what_the_type_answers() {
    let matchers = Matchers::parse(r#"{__type__="cpu",pod="a",__name__=~"p.*"}"#).unwrap();
    let (of_type, rest) = matchers.split();
    assert_eq!(of_type.iter().count(), 2);
    assert_eq!(rest.to_string(), r#"{pod="a"}"#);
}

proptest! {
    #[test]
    fn never_panics(text in ".{0,80}") {
        let _ = Matchers::parse(&text);
    }

    #[test]
    fn never_panics_on_its_own_alphabet(text in "[{}=!~,\"'`\\\\a-c.:*(\\[\\] ]{0,40}") {
        if let Ok(matchers) = Matchers::parse(&text) {
            prop_assert_eq!(Matchers::parse(&matchers.to_string()).unwrap(), matchers);
        }
    }

    #[test]
    fn printed_matchers_parse_back(
        pairs in proptest::collection::vec((".{1,12}", ".{0,20}", 0..4usize), 0..6)
    ) {
        let all = pairs.iter().map(|(name, value, op)| {
            let value = regex::escape(value);
            let condition = match op {
                0 => Condition::Equal(Arc::from(value)),
                1 => Condition::NotEqual(Arc::from(value)),
                2 => Condition::Regex(Arc::from(value.as_str()), regexp::compile(&value).unwrap()),
                _ => Condition::NotRegex(Arc::from(value.as_str()), regexp::compile(&value).unwrap()),
            };
            Matcher { name: Arc::from(name.as_str()), condition }
        });
        let matchers = Matchers(all.collect());
        prop_assert_eq!(Matchers::parse(&matchers.to_string()).unwrap(), matchers);
    }
}
