//! Asks every ingester for what the pinned version does not hold.

use bytes::Bytes;
use futures::future::join_all;
use scoria_model::{NodeId, TenantId};
use scoria_proto::Connection;
use scoria_proto::ingester::{IngesterClient, SelectRequest, SelectResponse};
use tonic::{Code, Status};

use crate::error::{ErrorKind, QueryError};
use crate::pin::Pin;

/// What every ingester is asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked<'a> {
    pub(crate) tenants: &'a [TenantId],
    pub(crate) scan: Bytes,
    pub(crate) partial_bytes_max: u64,
}

/// The answers of all ingesters, or why there is none.
pub(crate) async fn ask(
    ingesters: &[(NodeId, IngesterClient<Connection>)],
    question: &Asked<'_>,
    pin: &Pin,
) -> Vec<Result<SelectResponse, QueryError>> {
    let request = SelectRequest {
        tenants: question.tenants.iter().map(|t| t.to_string()).collect(),
        scan: question.scan.clone(),
        pin: Some(pin.to_proto()),
        partial_bytes_max: question.partial_bytes_max,
    };
    let calls = ingesters.iter().map(|(node, client)| {
        let mut client = client.clone();
        let request = request.clone();
        async move {
            let answer = client.select(request).await;
            answer
                .map(tonic::Response::into_inner)
                .map_err(|status| failed(node, &status))
        }
    });
    join_all(calls).await
}

fn failed(node: &NodeId, status: &Status) -> QueryError {
    let kind = match status.code() {
        Code::ResourceExhausted => ErrorKind::LimitExceeded,
        Code::InvalidArgument => ErrorKind::Invalid,
        Code::DataLoss => ErrorKind::DataCorrupt,
        Code::Internal | Code::Unimplemented | Code::Unknown => ErrorKind::Internal,
        _ => ErrorKind::Unavailable,
    };
    QueryError::new(kind, status.message()).about(format_args!("ingester {}", node.0))
}
