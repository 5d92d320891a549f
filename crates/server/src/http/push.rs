//! `push.v1.PusherService/Push`: from the request's messages to the distributor, and back to codes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use connectrpc::{
    ConnectError, ErrorCode, RequestContext, Response, ServiceRequest, ServiceResult,
};
use scoria_distributor::{IncomingProfile, Origin, Payload, RefusalKind};
use scoria_proto::public::push::v1::__buffa::view::PushRequestView;
use scoria_proto::public::push::v1::{PushRequest, PushResponse, PusherService};

use super::App;
use super::fault::Fault;

/// When to send again what we failed to store.
const OUR_FAULT_RETRY_AFTER: Duration = Duration::from_secs(2);

pub(super) struct PushRpc(Arc<App>);

impl PushRpc {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self(Arc::clone(app))
    }
}

impl PusherService for PushRpc {
    #[allow(
        refining_impl_trait,
        reason = "the generated trait wants an opaque type; the message is all there is"
    )]
    async fn push(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, PushRequest>,
    ) -> ServiceResult<PushResponse> {
        let tenant = self.0.scope(ctx.extensions())?.single()?;
        let profiles = profiles(request.view(), request.bytes());
        let distributor = &self.0.roles()?.distributor;
        match distributor.push(tenant, profiles).await {
            Ok(_) => Response::ok(PushResponse::default()),
            Err(error) => Err(ConnectError::from(refused(error.kind, error.message))),
        }
    }
}

/// One profile for each sample of each series; each has its labels to itself.
fn profiles(request: &PushRequestView<'_>, body: &Bytes) -> Vec<IncomingProfile> {
    let mut profiles = Vec::new();
    for (at, series) in request.series.iter().enumerate() {
        for sample in series.samples.iter() {
            let labels = series.labels.iter();
            profiles.push(IncomingProfile {
                series: at,
                labels: labels
                    .map(|label| (label.name.to_owned(), label.value.to_owned()))
                    .collect(),
                payload: Payload::Pprof(shared_slice(body, sample.raw_profile)),
                id: sample.ID.to_owned(),
                origin: Origin::Push,
            });
        }
    }
    profiles
}

/// `part` without a copy where it lies in `body`, which is where a decoded view points.
fn shared_slice(body: &Bytes, part: &[u8]) -> Bytes {
    let (base, start) = (body.as_ptr().addr(), part.as_ptr().addr());
    match start.checked_sub(base) {
        Some(offset) if offset + part.len() <= body.len() => {
            body.slice(offset..offset + part.len())
        }
        _ => Bytes::copy_from_slice(part),
    }
}

/// A refusal as a code: the client's faults are not worth sending again, ours are.
pub(super) fn refused(kind: RefusalKind, message: String) -> Fault {
    match kind {
        RefusalKind::Invalid { .. } | RefusalKind::TooLarge => Fault::invalid(message),
        RefusalKind::RateLimited { retry_after } | RefusalKind::QuotaReached { retry_after } => {
            Fault::new(ErrorCode::ResourceExhausted, message).with_retry_after(Some(retry_after))
        }
        RefusalKind::Overloaded { retry_after } => Fault::unavailable(message, retry_after),
        RefusalKind::Unavailable => Fault::unavailable(message, OUR_FAULT_RETRY_AFTER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_the_body_and_others_are_copied() {
        let body = Bytes::from_static(b"0123456789");
        let inside = shared_slice(&body, &body[3..7]);
        assert_eq!(
            (&inside[..], inside.as_ptr()),
            (&b"3456"[..], body[3..].as_ptr())
        );
        let elsewhere = vec![1, 2, 3];
        assert_eq!(shared_slice(&body, &elsewhere), elsewhere);
        assert_eq!(shared_slice(&body, &[]).len(), 0);
    }
}
