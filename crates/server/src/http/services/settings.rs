//! `settings.v1.SettingsService`: what Drilldown keeps for a tenant.

use connectrpc::{ConnectError, RequestContext, Response, ServiceRequest, ServiceResult};
use scoria_cabinet::Setting;
use scoria_proto::public::settings::v1 as wire;
use scoria_proto::public::settings::v1::SettingsService;

use super::{ServicesRpc, refused};

fn message(setting: Setting) -> wire::Setting {
    wire::Setting {
        name: setting.name,
        value: setting.value,
        modifiedAt: setting.modified_at_ms,
    }
}

#[allow(
    refining_impl_trait,
    reason = "the generated trait wants opaque types; the messages are all there is"
)]
impl SettingsService for ServicesRpc {
    async fn get(
        &self,
        ctx: RequestContext,
        _: ServiceRequest<'_, wire::GetSettingsRequest>,
    ) -> ServiceResult<wire::GetSettingsResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let settings = roles.cabinet.settings.get(tenant).await.map_err(refused)?;
        Response::ok(wire::GetSettingsResponse {
            settings: settings.into_iter().map(message).collect(),
        })
    }

    async fn set(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::SetSettingsRequest>,
    ) -> ServiceResult<wire::SetSettingsResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let setting = request
            .to_owned_message()
            .setting
            .into_option()
            .ok_or_else(|| ConnectError::invalid_argument("no setting is given"))?;
        let setting = Setting {
            name: setting.name,
            value: setting.value,
            modified_at_ms: setting.modifiedAt,
        };
        let now = roles.clock.now();
        let stored = roles.cabinet.settings.set(tenant, setting, now).await;
        Response::ok(wire::SetSettingsResponse {
            setting: buffa::MessageField::some(message(stored.map_err(refused)?)),
        })
    }

    async fn delete(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::DeleteSettingsRequest>,
    ) -> ServiceResult<wire::DeleteSettingsResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let name = request.to_owned_message().name;
        let now = roles.clock.now();
        let deleted = roles.cabinet.settings.delete(tenant, &name, now).await;
        deleted.map_err(refused)?;
        Response::ok(wire::DeleteSettingsResponse::default())
    }
}
