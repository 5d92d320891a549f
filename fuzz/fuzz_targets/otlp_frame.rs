//! Any bytes as the body of an export on either transport: gRPC's frame, and gzip or zstd inside of
//! it or around it. The first byte chooses the transport and what the headers say of the bytes.
//!
//! The modules are the server's own: it is no library for others, and builds for a long time.
#![no_main]
#![allow(dead_code, reason = "of the modules only what reads bytes is used")]

#[path = "../../crates/server/src/http/body.rs"]
mod body;
#[path = "../../crates/server/src/http/fault.rs"]
mod fault;

#[path = "."]
mod otlp {
    #[path = "../../crates/server/src/http/otlp/content.rs"]
    mod content;
    #[path = "../../crates/server/src/http/otlp/frame.rs"]
    mod frame;

    use bytes::Bytes;
    use http::HeaderMap;
    use http::header::CONTENT_ENCODING;
    use scoria_model::ByteBudget;

    use super::body::{self, PaidBody};
    use super::fault::Fault;

    /// As the server's route does it.
    pub(super) async fn read(
        is_grpc: bool,
        headers: &mut HeaderMap,
        sent: Bytes,
        (limit, budget): (u64, &ByteBudget),
    ) -> Result<PaidBody, Fault> {
        let length = sent.len();
        let sent = body::read(headers, sent.into(), limit, budget).await?;
        let sent = body::decode(headers, sent, limit).await?;
        let (message, coding) = if is_grpc {
            let (message, coding) = frame::unframe(sent.bytes, headers)?;
            assert!(message.len() < length.max(limit as usize));
            (message, coding)
        } else {
            let encoding = headers.get(CONTENT_ENCODING).and_then(|e| e.to_str().ok());
            let coding = content::Coding::of(encoding.unwrap_or_default(), "Content-Encoding")?;
            (sent.bytes, coding)
        };
        let paid = PaidBody {
            bytes: message,
            permit: budget.nothing(),
        };
        content::decode(coding, paid, limit).await
    }
}

use std::cell::RefCell;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use scoria_model::ByteBudget;

const LIMIT: u64 = 1 << 20;
const MEMORY: u64 = 8 << 20;
const ENCODINGS: [&str; 5] = ["", "gzip", "zstd", "identity", "br"];

thread_local! {
    static RUNTIME: RefCell<tokio::runtime::Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime"),
    );
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&choice, sent)) = input.split_first() else {
        return;
    };
    let (is_grpc, choice) = (choice & 1 == 1, usize::from(choice >> 1));
    let mut headers = HeaderMap::new();
    let encoding = |nth: usize| HeaderValue::from_static(ENCODINGS[nth % ENCODINGS.len()]);
    headers.insert("grpc-encoding", encoding(choice));
    if !is_grpc {
        headers.insert("content-encoding", encoding(choice));
    }
    let budget = ByteBudget::new("fuzz", MEMORY);
    let sent = Bytes::copy_from_slice(sent);
    RUNTIME.with_borrow_mut(|runtime| {
        let read = otlp::read(is_grpc, &mut headers, sent, (LIMIT, &budget));
        if let Ok(plain) = runtime.block_on(read) {
            assert!(plain.bytes.len() as u64 <= LIMIT);
        }
    });
    assert_eq!(budget.used(), 0, "everything is given back");
});
