//! `adhocprofiles.v1.AdHocProfileService`: single profiles that somebody uploads to look at them.

use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult};
use scoria_cabinet::{AdHocView, Drawing};
use scoria_proto::public::adhocprofiles::v1 as wire;
use scoria_proto::public::adhocprofiles::v1::AdHocProfileService;

use super::{ServicesRpc, refused};
use crate::http::query::keep;

/// The message of a profile, whose memory stays with the request until it has been written.
fn message(view: AdHocView, ctx: &RequestContext) -> wire::AdHocProfilesGetResponse {
    keep(ctx.extensions(), view.drawn.memory);
    wire::AdHocProfilesGetResponse {
        id: view.entry.id,
        name: view.entry.name,
        uploaded_at: view.entry.uploaded_at_ms,
        profile_type: view.drawn.profile_type,
        profile_types: view.drawn.profile_types,
        flamebearer_profile: view.drawn.flamebearer,
    }
}

#[allow(
    refining_impl_trait,
    reason = "the generated trait wants opaque types; the messages are all there is"
)]
impl AdHocProfileService for ServicesRpc {
    async fn upload(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::AdHocProfilesUploadRequest>,
    ) -> ServiceResult<wire::AdHocProfilesGetResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let limits = roles.querier.limits(std::slice::from_ref(tenant));
        let file = request.view();
        let drawing = Drawing {
            profile_type: None,
            max_nodes: file.max_nodes,
            limits: &limits,
        };
        let now = roles.clock.now();
        let adhoc = &roles.cabinet.adhoc;
        let view = adhoc
            .upload(tenant, (file.name, file.profile), &drawing, now)
            .await;
        Response::ok(message(view.map_err(refused)?, &ctx))
    }

    async fn get(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::AdHocProfilesGetRequest>,
    ) -> ServiceResult<wire::AdHocProfilesGetResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let limits = roles.querier.limits(std::slice::from_ref(tenant));
        let request = request.to_owned_message();
        let drawing = Drawing {
            profile_type: request.profile_type.as_deref(),
            max_nodes: request.max_nodes,
            limits: &limits,
        };
        let view = roles.cabinet.adhoc.get(tenant, &request.id, &drawing).await;
        Response::ok(message(view.map_err(refused)?, &ctx))
    }

    async fn list(
        &self,
        ctx: RequestContext,
        _: ServiceRequest<'_, wire::AdHocProfilesListRequest>,
    ) -> ServiceResult<wire::AdHocProfilesListResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let entries = roles.cabinet.adhoc.list(tenant).await.map_err(refused)?;
        let entries = entries.into_iter();
        Response::ok(wire::AdHocProfilesListResponse {
            profiles: entries
                .map(|entry| wire::AdHocProfilesProfileMetadata {
                    id: entry.id,
                    name: entry.name,
                    uploaded_at: entry.uploaded_at_ms,
                })
                .collect(),
        })
    }

    async fn diff(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::AdHocProfilesDiffRequest>,
    ) -> ServiceResult<wire::AdHocProfilesDiffResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let limits = roles.querier.limits(std::slice::from_ref(tenant));
        let request = request.to_owned_message();
        let drawing = Drawing {
            profile_type: request.profile_type.as_deref(),
            max_nodes: request.max_nodes,
            limits: &limits,
        };
        let ids = (request.left_id.as_str(), request.right_id.as_str());
        let diff = roles.cabinet.adhoc.diff(tenant, ids, &drawing).await;
        let diff = diff.map_err(refused)?;
        keep(ctx.extensions(), diff.memory);
        Response::ok(wire::AdHocProfilesDiffResponse {
            profile_types: diff.profile_types,
            flamebearer_profile: diff.flamebearer,
        })
    }
}
