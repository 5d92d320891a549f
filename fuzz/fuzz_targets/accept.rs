//! Any text as the header `Accept`, a value a line: whether a client can read every label name.
//!
//! The modules are the server's own: it is no library for others, and builds for a long time.
#![no_main]
#![allow(
    dead_code,
    reason = "of the modules only what reads the header is used"
)]

#[path = "../../crates/server/src/http/accept.rs"]
mod accept;
#[path = "../../crates/server/src/http/fault.rs"]
mod fault;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};
use scoria_query::request::NameForm;

const CAPABILITY: &str = "allow-utf8-labelnames";

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in input.split(|&byte| byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(ACCEPT, value);
        }
    }
    let Ok(form) = accept::name_form(&headers) else {
        return;
    };
    // Only a client that says so gets names that others cannot read.
    let text = String::from_utf8_lossy(input).to_ascii_lowercase();
    let unescaped = text.replace('\\', "").replace('"', "");
    assert!(form == NameForm::Plain || unescaped.contains(CAPABILITY));
    // What says nothing changes nothing.
    headers.append(ACCEPT, HeaderValue::from_static("text/html;q=0.5, */*"));
    assert!(accept::name_form(&headers).is_ok_and(|again| again == form));
});
