//! `querier.v1.QuerierService`: from the request's messages to the querier, and back.
//!
//! # Invariants
//! - A method that is not answered says so with its code; none answers with something else.

pub mod answers;
pub(super) mod cost;
mod requests;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use connectrpc::{
    CodecFormat, ConnectError, ErrorCode, PreEncoded, Protocol, RequestContext, Response,
    ServiceRequest, ServiceResult,
};
use http::Extensions;
use parking_lot::Mutex;
use scoria_model::{TenantId, Timestamp};
use scoria_proto::public::google::v1::Profile;
use scoria_proto::public::querier::v1 as wire;
use scoria_proto::public::querier::v1::QuerierService;
use scoria_proto::public::types::v1 as types;
use scoria_querier::{Answer, ErrorKind, Merged, Progress, Querier, QueryError, QueryStats};
use scoria_query::render;
use scoria_query::request::{GetProfileStats, SelectMergeStacktraces};

use requests::Background;

use super::App;
use super::accept::name_form;
use super::fault::Fault;

/// When to ask again what could not be answered now.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) struct QueryRpc(Arc<App>);

/// What a method works with.
struct Call<'a> {
    querier: Querier,
    tenants: &'a [TenantId],
    now: Timestamp,
    holdings: Holdings,
    /// How the answer is written.
    format: CodecFormat,
}

/// The memory that a request's answers are accounted with until they are encoded, which is after
/// its handler has returned.
#[derive(Debug, Clone, Default)]
pub(super) struct Holdings(Arc<Mutex<Vec<Box<dyn Any + Send>>>>);

impl Holdings {
    /// Those of a request; of one that nobody waits for, they are given back at once.
    fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    fn keep(&self, holding: impl Any + Send) {
        self.0.lock().push(Box::new(holding));
    }
}

/// Keeps what an answer is accounted with until its request is done.
pub(super) fn keep(extensions: &Extensions, holding: impl Any + Send) {
    Holdings::of(extensions).keep(holding);
}

impl QueryRpc {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self(Arc::clone(app))
    }

    fn call<'a>(&'a self, ctx: &'a RequestContext) -> Result<Call<'a>, Fault> {
        let roles = self.0.roles()?;
        Ok(Call {
            querier: roles.querier.in_mode(cost::mode(ctx.headers())?),
            tenants: self.0.scope(ctx.extensions())?.tenants(),
            now: roles.clock.now(),
            holdings: Holdings::of(ctx.extensions()),
            format: Protocol::detect(ctx.headers())
                .map_or(CodecFormat::Proto, |detected| detected.codec_format),
        })
    }
}

impl Call<'_> {
    /// Merged stacktraces, with the memory that writing them takes: a profile is bytes already,
    /// which become a message and a text for those who read JSON.
    async fn stacktraces(&self, request: &SelectMergeStacktraces) -> Result<Answer<Merged>, Fault> {
        let asked = self
            .querier
            .select_merge_stacktraces(self.tenants, request, self.now);
        let mut answer = asked.await.map_err(|error| fault_of(&error))?;
        self.pay_for_json(&mut answer)?;
        Ok(answer)
    }

    /// The memory that writing an answer takes beyond what it has asked for.
    fn pay_for_json(&self, answer: &mut Answer<Merged>) -> Result<(), Fault> {
        let (Merged::Pprof(bytes), CodecFormat::Json) = (&answer.value, self.format) else {
            return Ok(());
        };
        let more = render::cost::pprof_in_json(bytes.len() as u64);
        let paid = answer.holding.grow(more);
        paid.map_err(|error| fault_of(&error))
    }

    /// An answer as its message, which says what it took.
    fn answered<A, T>(&self, answer: Answer<A>, message: impl FnOnce(A) -> T) -> ServiceResult<T> {
        let Answer {
            value,
            stats,
            holding,
        } = answer;
        let answered = answered(message(value), &stats);
        self.holdings.keep(holding);
        answered
    }
}

fn answered<T>(message: T, stats: &QueryStats) -> ServiceResult<T> {
    let mut response = Response::new(message);
    response.headers = cost::headers(stats);
    Ok(response)
}

/// A query's error as a code.
pub(super) fn fault_of(error: &QueryError) -> Fault {
    let code = match error.kind() {
        ErrorKind::Invalid => ErrorCode::InvalidArgument,
        ErrorKind::NotFound => ErrorCode::NotFound,
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
        let call = self.call(&ctx)?;
        let request = requests::profile_types(&request.to_owned_message());
        let answer = call
            .querier
            .profile_types(call.tenants, &request, call.now)
            .await
            .map_err(refused)?;
        call.answered(answer, |types| wire::ProfileTypesResponse {
            profile_types: types.iter().map(answers::profile_type).collect(),
        })
    }

    async fn label_values(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, types::LabelValuesRequest>,
    ) -> ServiceResult<types::LabelValuesResponse> {
        let call = self.call(&ctx)?;
        let request = requests::label_values(request.to_owned_message());
        let answer = call
            .querier
            .label_values(call.tenants, &request, call.now)
            .await
            .map_err(refused)?;
        call.answered(answer, |names| types::LabelValuesResponse { names })
    }

    async fn label_names(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, types::LabelNamesRequest>,
    ) -> ServiceResult<types::LabelNamesResponse> {
        let call = self.call(&ctx)?;
        let form = name_form(ctx.headers())?;
        let request = requests::label_names(request.to_owned_message(), form);
        let answer = call
            .querier
            .label_names(call.tenants, &request, call.now)
            .await
            .map_err(refused)?;
        call.answered(answer, |names| types::LabelNamesResponse { names })
    }

    async fn series(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::SeriesRequest>,
    ) -> ServiceResult<wire::SeriesResponse> {
        let call = self.call(&ctx)?;
        let form = name_form(ctx.headers())?;
        let request = requests::series(request.to_owned_message(), form);
        let answer = call
            .querier
            .series(call.tenants, &request, call.now)
            .await
            .map_err(refused)?;
        call.answered(answer, |sets| wire::SeriesResponse {
            labels_set: sets.iter().map(answers::labels).collect(),
        })
    }

    async fn select_merge_stacktraces(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::SelectMergeStacktracesRequest>,
    ) -> ServiceResult<PreEncoded<wire::SelectMergeStacktracesResponse>> {
        let call = self.call(&ctx)?;
        let request = request.to_owned_message();
        let background = requests::background(&request);
        let request = requests::stacktraces(request);
        match background {
            Background::Poll(id) => {
                let mut progress = call.querier.poll(call.tenants, &id).map_err(refused)?;
                let Progress::Answered(answer) = &mut progress else {
                    let message = answers::progress(id, progress);
                    return answered(message, &QueryStats::default());
                };
                call.pay_for_json(answer)?;
                let stats = answer.stats.clone();
                call.holdings.keep(std::mem::take(&mut answer.holding));
                answered(answers::progress(id, progress), &stats)
            }
            Background::Start => {
                let id = call
                    .querier
                    .start_select_merge_stacktraces(call.tenants, &request, call.now)
                    .map_err(refused)?;
                let message = answers::progress(id, Progress::Running);
                answered(message, &QueryStats::default())
            }
            Background::None => {
                let answer = call.stacktraces(&request).await?;
                call.answered(answer, answers::stacktraces)
            }
        }
    }

    async fn select_merge_span_profile(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::SelectMergeSpanProfileRequest>,
    ) -> ServiceResult<wire::SelectMergeSpanProfileResponse> {
        let call = self.call(&ctx)?;
        let request = requests::span_profile(request.to_owned_message());
        let answer = call.stacktraces(&request).await?;
        if let Merged::Dot(_) | Merged::Pprof(_) | Merged::Functions(_) = answer.value {
            return Err(ConnectError::internal(
                "a span profile came in another form",
            ));
        }
        call.answered(answer, answers::span_profile)
    }

    async fn select_merge_profile(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::SelectMergeProfileRequest>,
    ) -> ServiceResult<PreEncoded<Profile>> {
        let call = self.call(&ctx)?;
        let request = requests::profile(request.to_owned_message());
        let answer = call.stacktraces(&request).await?;
        let Merged::Pprof(_) = answer.value else {
            return Err(ConnectError::internal("a profile came in another form"));
        };
        call.answered(answer, answers::profile)
    }

    async fn select_series(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::SelectSeriesRequest>,
    ) -> ServiceResult<wire::SelectSeriesResponse> {
        let call = self.call(&ctx)?;
        let request = requests::select_series(request.to_owned_message());
        let answer = call
            .querier
            .select_series(call.tenants, &request, call.now)
            .await
            .map_err(refused)?;
        call.answered(answer, |series| wire::SelectSeriesResponse {
            series: series.into_iter().map(answers::series).collect(),
        })
    }

    async fn select_heatmap(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::SelectHeatmapRequest>,
    ) -> ServiceResult<wire::SelectHeatmapResponse> {
        let call = self.call(&ctx)?;
        let request = requests::select_heatmap(request.to_owned_message());
        let answer = call
            .querier
            .select_heatmap(call.tenants, &request, call.now)
            .await
            .map_err(refused)?;
        call.answered(answer, |series| wire::SelectHeatmapResponse {
            series: series.into_iter().map(answers::heatmap).collect(),
        })
    }

    async fn diff(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::DiffRequest>,
    ) -> ServiceResult<wire::DiffResponse> {
        let call = self.call(&ctx)?;
        let request = request.to_owned_message();
        if request.format == wire::ProfileFormat::PROFILE_FORMAT_FUNCTIONS {
            let request = requests::functions_diff(request);
            let answer = call
                .querier
                .functions_diff(call.tenants, &request, call.now)
                .await
                .map_err(refused)?;
            return call.answered(answer, answers::functions_diff);
        }
        let request = requests::diff(request);
        let answer = call
            .querier
            .diff(call.tenants, &request, call.now)
            .await
            .map_err(refused)?;
        call.answered(answer, answers::diff)
    }

    async fn get_profile_stats(
        &self,
        ctx: RequestContext,
        _: ServiceRequest<'_, types::GetProfileStatsRequest>,
    ) -> ServiceResult<types::GetProfileStatsResponse> {
        let call = self.call(&ctx)?;
        let answer = call
            .querier
            .get_profile_stats(call.tenants, &GetProfileStats)
            .await
            .map_err(refused)?;
        call.answered(answer, |found| types::GetProfileStatsResponse {
            data_ingested: found.data_ingested,
            oldest_profile_time: found.oldest_ms,
            newest_profile_time: found.newest_ms,
        })
    }

    async fn analyze_query(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::AnalyzeQueryRequest>,
    ) -> ServiceResult<wire::AnalyzeQueryResponse> {
        let call = self.call(&ctx)?;
        let request = requests::analyze_query(request.to_owned_message());
        let answer = call
            .querier
            .analyze(call.tenants, &request, call.now)
            .map_err(refused)?;
        call.answered(answer, |cost| answers::analysis(&cost))
    }
}
