//! Any bytes as the body of a request of the old HTTP API: which format they are taken for, and what
//! parts they have as a form. The first byte chooses what the client says of them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use scoria_distributor::ingest::{form, format, multipart};

const FORM: &str = "multipart/form-data; boundary=xx";
const TYPES: [Option<&str>; 5] = [
    None,
    Some(FORM),
    Some("multipart/form-data; boundary=\"a b\""),
    Some("binary/octet-stream+trie"),
    Some("application/json"),
];
const FORMATS: [Option<&str>; 10] = [
    None,
    Some("pprof"),
    Some("jfr"),
    Some("groups"),
    Some("lines"),
    Some("trie"),
    Some("tree"),
    Some("speedscope"),
    Some("folded"),
    Some("else"),
];

fuzz_target!(|input: &[u8]| {
    let Some((&choice, body)) = input.split_first() else {
        return;
    };
    let choice = usize::from(choice);
    let content_type = TYPES[choice % TYPES.len()];
    let chosen = format::choose(
        FORMATS[choice / TYPES.len() % FORMATS.len()],
        content_type,
        body,
    );
    // Refused or not, it says so and ends.
    drop(format::check(chosen, body));
    let body = Bytes::copy_from_slice(body);
    let content_type = content_type.unwrap_or(FORM);
    let Ok(parts) = multipart::split(content_type, &body) else {
        return;
    };
    assert!(parts.len() <= multipart::PARTS_MAX);
    let content: usize = parts.iter().map(|part| part.content.len()).sum();
    assert!(content <= body.len(), "no byte is in two parts");
    drop(form::interpret(&parts));
});
