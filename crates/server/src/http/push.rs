//! `push.v1.PusherService/Push`: from the request's messages to the distributor, and back to codes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use connectrpc::{
    ConnectError, ErrorCode, RequestContext, Response, ServiceRequest, ServiceResult,
};
use scoria_distributor::{IncomingProfile, Origin, Payload, RefusalKind};
use scoria_model::varint::{Reader, VarintError};
use scoria_proto::public::push::v1::__buffa::view::PushRequestView;
use scoria_proto::public::push::v1::{PushRequest, PushResponse, PusherService};

use super::App;
use super::edge::Unread;
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
        Unread::is_read(ctx.extensions());
        let tenant = self.0.scope(ctx.extensions())?.single()?;
        let profiles = profiles(request.view(), request.bytes());
        let nothing = profiles
            .is_empty()
            .then(|| nothing_in(request.view(), request.bytes()));
        let distributor = &self.0.roles()?.distributor;
        match distributor.push(tenant, profiles).await {
            Ok(_) => Response::ok(PushResponse::default()),
            Err(error) => {
                let message = nothing.unwrap_or(error.message);
                Err(ConnectError::from(refused(error.kind, message)))
            }
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

/// Why there is no profile in a request: it is empty, or what it holds is something else.
fn nothing_in(request: &PushRequestView<'_>, body: &[u8]) -> String {
    const ADVICE: &str =
        "a push.v1.PushRequest has its series in field 1, their samples in field 2";
    let nothing = "no profiles received";
    let series = request.series.len();
    if series > 0 {
        return format!("{nothing}: the {series} series of the request have no samples; {ADVICE}");
    }
    let seen = fields_of(body);
    match seen.as_slice() {
        // Of JSON only what is known gets here.
        [] => format!("{nothing}: the request has no series; {ADVICE}"),
        seen => format!(
            "{nothing}: the {} bytes of the request hold only what is not known here: {}; {ADVICE}",
            body.len(),
            seen.join(", ")
        ),
    }
}

/// Different fields that an error names.
const FIELDS_NAMED: usize = 8;

/// Number and kind of each field of a message, once, as far as it can be read.
fn fields_of(message: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(message);
    let mut seen = Vec::new();
    while !reader.is_empty() && seen.len() < FIELDS_NAMED {
        let Ok(name) = field(&mut reader) else {
            break;
        };
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

fn field(reader: &mut Reader<'_>) -> Result<String, VarintError> {
    let tag = reader.u64()?;
    let kind = match tag & 7 {
        0 => reader.u64().map(|_| "a number")?,
        1 => reader.take(8).map(|_| "8 bytes")?,
        2 => reader.bytes().map(|_| "bytes")?,
        5 => reader.take(4).map(|_| "4 bytes")?,
        _ => "a group",
    };
    Ok(format!("field {} ({kind})", tag >> 3))
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
    fn what_a_message_holds_is_named_once_each() {
        let mut message = vec![0x18, 5, 0x18, 6, 0x22, 1, 0];
        message.extend([0x29, 1, 2, 3, 4, 5, 6, 7, 8, 0x35, 1, 2, 3, 4, 0x3b]);
        let expected = [
            "field 3 (a number)",
            "field 4 (bytes)",
            "field 5 (8 bytes)",
            "field 6 (4 bytes)",
            "field 7 (a group)",
        ];
        assert_eq!(fields_of(&message), expected);
        let many: Vec<u8> = (1..15).flat_map(|number| [number << 3, 0]).collect();
        assert_eq!(fields_of(&many).len(), FIELDS_NAMED);
        assert_eq!(fields_of(&[0x10, 1, 0x12, 9, 1]), ["field 2 (a number)"]);
    }

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
