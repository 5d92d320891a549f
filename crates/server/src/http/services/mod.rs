//! The services beside queries and pushes: settings, recording rules, ad hoc profiles, debug info,
//! and what the server says of itself in messages.
//!
//! # Invariants
//! - What belongs to a tenant is asked for and changed by one tenant at a time.

mod adhoc;
mod capabilities;
mod debug_info;
mod recording_rules;
mod settings;
mod vcs;

use std::sync::Arc;
use std::time::Duration;

use connectrpc::{ConnectError, ErrorCode, RequestContext, Router};
use scoria_cabinet::{CabinetError, CabinetErrorKind};
use scoria_model::TenantId;
use scoria_proto::public::adhocprofiles::v1::AdHocProfileServiceExt;
use scoria_proto::public::capabilities::v1::FeatureFlagsServiceExt;
use scoria_proto::public::debuginfo::v1alpha1::DebuginfoServiceExt;
use scoria_proto::public::settings::v1::{RecordingRulesServiceExt, SettingsServiceExt};
use scoria_proto::public::vcs::v1::VcsServiceExt;
use scoria_proto::public::version::v1::VersionExt;

pub(super) use debug_info::{upload, upload_of_nothing};

use super::App;
use super::fault::Fault;
use crate::roles::Roles;

/// When to ask again for what the store did not give.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// All of these services.
pub(super) struct ServicesRpc(Arc<App>);

impl ServicesRpc {
    pub(super) fn new(app: &Arc<App>) -> Arc<Self> {
        Arc::new(Self(Arc::clone(app)))
    }

    pub(super) fn register(self: &Arc<Self>, router: Router) -> Router {
        let router = SettingsServiceExt::register(Arc::clone(self), router);
        let router = RecordingRulesServiceExt::register(Arc::clone(self), router);
        let router = FeatureFlagsServiceExt::register(Arc::clone(self), router);
        let router = VersionExt::register(Arc::clone(self), router);
        let router = AdHocProfileServiceExt::register(Arc::clone(self), router);
        let router = DebuginfoServiceExt::register(Arc::clone(self), router);
        VcsServiceExt::register(Arc::clone(self), router)
    }

    /// What a method works with: the roles, and the one tenant.
    fn call<'a>(&'a self, ctx: &'a RequestContext) -> Result<(&'a Roles, &'a TenantId), Fault> {
        let tenant = self.0.scope(ctx.extensions())?.single()?;
        Ok((self.0.roles()?, tenant))
    }
}

/// A refusal of the cabinet as a code.
pub(super) fn fault_of(error: &CabinetError) -> Fault {
    let code = match error.kind {
        CabinetErrorKind::Invalid => ErrorCode::InvalidArgument,
        CabinetErrorKind::NotFound => ErrorCode::NotFound,
        CabinetErrorKind::Outdated => ErrorCode::AlreadyExists,
        CabinetErrorKind::NotStarted => ErrorCode::FailedPrecondition,
        CabinetErrorKind::TooLarge => ErrorCode::InvalidArgument,
        CabinetErrorKind::LimitExceeded => ErrorCode::ResourceExhausted,
        CabinetErrorKind::Unavailable => ErrorCode::Unavailable,
        CabinetErrorKind::DataCorrupt => ErrorCode::DataLoss,
        CabinetErrorKind::Internal => ErrorCode::Internal,
    };
    let again = error.kind == CabinetErrorKind::Unavailable;
    Fault::new(code, error.message.clone()).with_retry_after(again.then_some(RETRY_AFTER))
}

fn refused(error: CabinetError) -> ConnectError {
    fault_of(&error).into()
}
