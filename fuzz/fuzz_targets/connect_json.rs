//! Any bytes as the body of an RPC: the first byte chooses the protocol and the encoding, and
//! whether the body goes to the push service or is read as the JSON of a query.
#![no_main]

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::Arc;

use buffa::Message;
use buffa::json::{JsonParseOptions, with_json_parse_options};
use bytes::Bytes;
use connectrpc::{
    ConnectRpcService, Limits, RequestContext, Response, Router, ServiceRequest, ServiceResult,
};
use http_body_util::{BodyExt, Full};
use scoria_proto::public::push::v1::{PushRequest, PushResponse, PusherService, PusherServiceExt};
use scoria_proto::public::querier::v1 as querier;
use tower::Service;

const LIMIT: usize = 1 << 20;
const CONTENT_TYPES: [&str; 6] = [
    "application/json",
    "application/proto",
    "application/grpc+proto",
    "application/grpc-web+json",
    "application/grpc-web",
    "application/connect+json",
];

struct Reads;

impl PusherService for Reads {
    #[allow(refining_impl_trait)]
    async fn push(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, PushRequest>,
    ) -> ServiceResult<PushResponse> {
        let read: usize = request
            .view()
            .series
            .iter()
            .flat_map(|series| series.samples.iter())
            .map(|sample| sample.raw_profile.len() + sample.ID.len())
            .sum();
        assert!(read <= LIMIT);
        Response::ok(PushResponse::default())
    }
}

thread_local! {
    static SERVER: RefCell<(tokio::runtime::Runtime, ConnectRpcService)> = RefCell::new({
        let limits = Limits::default()
            .with_max_request_body_size(LIMIT)
            .with_max_message_size(LIMIT);
        let router = Arc::new(Reads).register(Router::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        (runtime.expect("a runtime"), ConnectRpcService::new(router).with_limits(limits))
    });
}

fn call(choice: usize, body: &[u8]) {
    let mut request = http::Request::post("/push.v1.PusherService/Push")
        .header("content-type", CONTENT_TYPES[choice % CONTENT_TYPES.len()]);
    if choice & 64 != 0 {
        request = request
            .header("content-encoding", "gzip")
            .header("grpc-encoding", "gzip");
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body)));
    SERVER.with_borrow_mut(|(runtime, server)| {
        let answer = server.call(request.expect("a request"));
        runtime.block_on(async {
            let answer = answer.await.expect("infallible");
            answer.into_body().collect().await.expect("infallible")
        });
    });
}

/// Reads JSON as the server does; what was read means the same once written as protobuf.
fn read<M>(json: &[u8])
where
    M: Message + serde::de::DeserializeOwned + PartialEq + Debug,
{
    let options = JsonParseOptions::new().ignore_unknown_enum_values(true);
    let read = with_json_parse_options(&options, || serde_json::from_slice::<M>(json));
    if let Ok(message) = read {
        let again = M::decode_from_slice(&message.encode_to_vec());
        // NaN is not equal to itself.
        let text = format!("{message:?}");
        assert!(text.contains("NaN") || again.expect("its own bytes") == message);
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&choice, body)) = input.split_first() else {
        return;
    };
    if choice & 128 == 0 {
        return call(choice as usize, body);
    }
    match choice % 4 {
        0 => read::<querier::SelectMergeStacktracesRequest>(body),
        1 => read::<querier::SelectSeriesRequest>(body),
        2 => read::<querier::DiffRequest>(body),
        _ => read::<querier::SeriesRequest>(body),
    }
});
