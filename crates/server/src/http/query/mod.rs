//! `querier.v1.QuerierService`: from the request's messages to the querier, and back.
//!
//! # Invariants
//! - A method that is not answered says so with its code; none answers with something else.

mod answers;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use buffa::MessageField;
use connectrpc::{
    ConnectError, ErrorCode, PreEncoded, RequestContext, Response, ServiceRequest, ServiceResult,
};
use scoria_proto::public::google::v1::Profile;
use scoria_proto::public::querier::v1 as wire;
use scoria_proto::public::querier::v1::QuerierService;
use scoria_proto::public::types::v1 as types;
use scoria_querier::{ErrorKind, Merged, QueryError};
use scoria_query::request::GetProfileStats;

use super::App;
use super::accept::name_form;
use super::fault::Fault;
use super::tenancy::TenantScope;
use crate::roles::Roles;

/// When to ask again what could not be answered now.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) struct QueryRpc(Arc<App>);

/// What a method works with.
struct Call<'a> {
    roles: &'a Roles,
    scope: &'a TenantScope,
}

impl QueryRpc {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self(Arc::clone(app))
    }

    fn call<'a>(&'a self, ctx: &'a RequestContext) -> Result<Call<'a>, Fault> {
        Ok(Call {
            roles: self.0.roles()?,
            scope: self.0.scope(ctx.extensions())?,
        })
    }
}

/// A query's error as a code.
pub(super) fn fault_of(error: &QueryError) -> Fault {
    let code = match error.kind() {
        ErrorKind::Invalid => ErrorCode::InvalidArgument,
        ErrorKind::LimitExceeded => ErrorCode::ResourceExhausted,
        ErrorKind::Unavailable => ErrorCode::Unavailable,
        ErrorKind::DataCorrupt => ErrorCode::DataLoss,
        ErrorKind::Internal => ErrorCode::Internal,
    };
    let again = matches!(
        error.kind(),
        ErrorKind::LimitExceeded | ErrorKind::Unavailable
    );
    Fault::new(code, error.to_string()).with_retry_after(again.then_some(RETRY_AFTER))
}

fn refused(error: QueryError) -> ConnectError {
    fault_of(&error).into()
}

#[allow(
    refining_impl_trait,
    reason = "the generated trait wants opaque types; the messages are all there is"
)]
impl QuerierService for QueryRpc {
    async fn profile_types(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::ProfileTypesRequest>,
    ) -> ServiceResult<wire::ProfileTypesResponse> {
        let Call { roles, scope } = self.call(&ctx)?;
        let request = requests::profile_types(&request.to_owned_message());
        let answer = roles
            .querier
            .profile_types(scope.tenants(), &request, roles.clock.now())
            .await
            .map_err(refused)?;
        Response::ok(wire::ProfileTypesResponse {
            profile_types: answer.value.iter().map(answers::profile_type).collect(),
        })
    }

    async fn label_values(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, types::LabelValuesRequest>,
    ) -> ServiceResult<types::LabelValuesResponse> {
        let Call { roles, scope } = self.call(&ctx)?;
        let request = requests::label_values(request.to_owned_message());
        let answer = roles
            .querier
            .label_values(scope.tenants(), &request, roles.clock.now())
            .await
            .map_err(refused)?;
        Response::ok(types::LabelValuesResponse {
            names: answer.value,
        })
    }

    async fn label_names(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, types::LabelNamesRequest>,
    ) -> ServiceResult<types::LabelNamesResponse> {
        let Call { roles, scope } = self.call(&ctx)?;
        let form = name_form(ctx.headers())?;
        let request = requests::label_names(request.to_owned_message(), form);
        let answer = roles
            .querier
            .label_names(scope.tenants(), &request, roles.clock.now())
            .await
            .map_err(refused)?;
        Response::ok(types::LabelNamesResponse {
            names: answer.value,
        })
    }

    async fn series(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::SeriesRequest>,
    ) -> ServiceResult<wire::SeriesResponse> {
        let Call { roles, scope } = self.call(&ctx)?;
        let form = name_form(ctx.headers())?;
        let request = requests::series(request.to_owned_message(), form);
        let answer = roles
            .querier
            .series(scope.tenants(), &request, roles.clock.now())
            .await
            .map_err(refused)?;
        Response::ok(wire::SeriesResponse {
            labels_set: answer.value.iter().map(answers::labels).collect(),
        })
    }

    async fn select_merge_stacktraces(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::SelectMergeStacktracesRequest>,
    ) -> ServiceResult<PreEncoded<wire::SelectMergeStacktracesResponse>> {
        let Call { roles, scope } = self.call(&ctx)?;
        let request = requests::stacktraces(request.to_owned_message());
        let answer = roles
            .querier
            .select_merge_stacktraces(scope.tenants(), &request, roles.clock.now())
            .await
            .map_err(refused)?;
        Response::ok(answers::stacktraces(answer.value))
    }

    async fn select_merge_span_profile(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::SelectMergeSpanProfileRequest>,
    ) -> ServiceResult<wire::SelectMergeSpanProfileResponse> {
        let Call { roles, scope } = self.call(&ctx)?;
        let request = requests::span_profile(request.to_owned_message());
        let answer = roles
            .querier
            .select_merge_stacktraces(scope.tenants(), &request, roles.clock.now())
            .await
            .map_err(refused)?;
        let mut response = wire::SelectMergeSpanProfileResponse::default();
        match answer.value {
            Merged::Tree(tree) => response.tree = tree,
            Merged::Flamegraph(graph) => {
                response.flamegraph = MessageField::some(answers::flamegraph(graph))
            }
            Merged::Dot(_) | Merged::Pprof(_) => {
                return Err(ConnectError::internal(
                    "a span profile came in another form",
                ));
            }
        }
        Response::ok(response)
    }

    async fn select_merge_profile(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::SelectMergeProfileRequest>,
    ) -> ServiceResult<PreEncoded<Profile>> {
        let Call { roles, scope } = self.call(&ctx)?;
        let request = requests::profile(request.to_owned_message());
        let answer = roles
            .querier
            .select_merge_stacktraces(scope.tenants(), &request, roles.clock.now())
            .await
            .map_err(refused)?;
        match answer.value {
            Merged::Pprof(pprof) => Response::ok(PreEncoded::from_bytes_unchecked(pprof)),
            _ => Err(ConnectError::internal("a profile came in another form")),
        }
    }

    async fn select_series(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::SelectSeriesRequest>,
    ) -> ServiceResult<wire::SelectSeriesResponse> {
        let Call { roles, scope } = self.call(&ctx)?;
        let request = requests::select_series(request.to_owned_message())?;
        let answer = roles
            .querier
            .select_series(scope.tenants(), &request, roles.clock.now())
            .await
            .map_err(refused)?;
        Response::ok(wire::SelectSeriesResponse {
            series: answer.value.into_iter().map(answers::series).collect(),
        })
    }

    async fn select_heatmap(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, wire::SelectHeatmapRequest>,
    ) -> ServiceResult<wire::SelectHeatmapResponse> {
        Err(ConnectError::unimplemented(
            "heatmaps are not answered by this server",
        ))
    }

    async fn diff(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::DiffRequest>,
    ) -> ServiceResult<wire::DiffResponse> {
        let Call { roles, scope } = self.call(&ctx)?;
        let request = requests::diff(request.to_owned_message());
        let answer = roles
            .querier
            .diff(scope.tenants(), &request, roles.clock.now())
            .await
            .map_err(refused)?;
        Response::ok(answers::diff(answer.value))
    }

    async fn get_profile_stats(
        &self,
        ctx: RequestContext,
        _: ServiceRequest<'_, types::GetProfileStatsRequest>,
    ) -> ServiceResult<types::GetProfileStatsResponse> {
        let Call { roles, scope } = self.call(&ctx)?;
        let answer = roles
            .querier
            .get_profile_stats(scope.tenants(), &GetProfileStats)
            .await
            .map_err(refused)?;
        Response::ok(types::GetProfileStatsResponse {
            data_ingested: answer.value.data_ingested,
            oldest_profile_time: answer.value.oldest_ms,
            newest_profile_time: answer.value.newest_ms,
        })
    }

    async fn analyze_query(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, wire::AnalyzeQueryRequest>,
    ) -> ServiceResult<wire::AnalyzeQueryResponse> {
        Err(ConnectError::unimplemented(
            "queries are not analysed by this server",
        ))
    }
}
