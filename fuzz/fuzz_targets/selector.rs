//! Selector texts: whatever parses prints to a text that parses to the same matchers, and matching
//! any label set never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scoria_model::Labels;
use scoria_query::selector::Matchers;

fuzz_target!(|text: &str| {
    let Ok(matchers) = Matchers::parse(text) else {
        return;
    };
    let printed = matchers.to_string();
    match Matchers::parse(&printed) {
        Ok(again) => assert_eq!(again, matchers, "{printed}"),
        // Escapes can make a text that is at the limit longer than it.
        Err(error) => assert!(printed.len() > text.len(), "{printed}: {error}"),
    }
    let labels = Labels::from_pairs([("service_name", "api"), ("a", text)]);
    matchers.matches(|name| labels.get(name));
    matchers.split();
});
