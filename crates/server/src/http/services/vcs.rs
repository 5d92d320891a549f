//! `vcs.v1.VCSService`: source code beside profiles. No repository host is ever configured here, and
//! every method says so.

use connectrpc::{ConnectError, RequestContext, ServiceRequest, ServiceResult};
use scoria_proto::public::vcs::v1 as wire;
use scoria_proto::public::vcs::v1::VcsService;

use super::ServicesRpc;

fn not_configured() -> ConnectError {
    ConnectError::unimplemented(
        "no GitHub application is configured: this server does not fetch source code",
    )
}

#[allow(
    refining_impl_trait,
    reason = "the generated trait wants opaque types; the messages are all there is"
)]
impl VcsService for ServicesRpc {
    async fn github_app(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, wire::GithubAppRequest>,
    ) -> ServiceResult<wire::GithubAppResponse> {
        Err(not_configured())
    }

    async fn github_login(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, wire::GithubLoginRequest>,
    ) -> ServiceResult<wire::GithubLoginResponse> {
        Err(not_configured())
    }

    async fn github_refresh(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, wire::GithubRefreshRequest>,
    ) -> ServiceResult<wire::GithubRefreshResponse> {
        Err(not_configured())
    }

    async fn get_file(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, wire::GetFileRequest>,
    ) -> ServiceResult<wire::GetFileResponse> {
        Err(not_configured())
    }

    async fn get_commit(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, wire::GetCommitRequest>,
    ) -> ServiceResult<wire::GetCommitResponse> {
        Err(not_configured())
    }

    async fn get_commits(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, wire::GetCommitsRequest>,
    ) -> ServiceResult<wire::GetCommitsResponse> {
        Err(not_configured())
    }
}
