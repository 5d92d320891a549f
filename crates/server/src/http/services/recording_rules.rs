//! `settings.v1.RecordingRulesService`: rules that are kept until something evaluates them.

use buffa::{EnumValue, MessageField};
use connectrpc::{ConnectError, RequestContext, Response, ServiceRequest, ServiceResult};
use scoria_cabinet::{RecordingRule, RuleDraft};
use scoria_proto::public::settings::v1 as wire;
use scoria_proto::public::settings::v1::RecordingRulesService;
use scoria_proto::public::types::v1::LabelPair;

use super::{ServicesRpc, refused};

fn message(rule: RecordingRule) -> wire::RecordingRule {
    let labels = rule.external_labels.into_iter();
    wire::RecordingRule {
        id: rule.id,
        metric_name: rule.metric_name,
        profile_type: rule.profile_type,
        matchers: rule.matchers,
        group_by: rule.group_by,
        external_labels: labels
            .map(|(name, value)| LabelPair { name, value })
            .collect(),
        generation: rule.generation,
        stacktrace_filter: rule
            .function_name
            .map_or_else(MessageField::none, |function_name| {
                MessageField::some(wire::StacktraceFilter {
                    function_name: MessageField::some(wire::StacktraceFilterFunctionName {
                        function_name,
                        metric_type: EnumValue::from(wire::MetricType::TOTAL),
                    }),
                })
            }),
        provisioned: false,
    }
}

/// # Errors
/// A stacktrace filter without a function.
fn draft(request: wire::UpsertRecordingRuleRequest) -> Result<RuleDraft, ConnectError> {
    let filter = request.stacktrace_filter.into_option();
    let function_name = match filter.map(|filter| filter.function_name.into_option()) {
        None => None,
        Some(Some(function)) => Some(function.function_name),
        Some(None) => {
            return Err(ConnectError::invalid_argument(
                "the stacktrace filter names no function",
            ));
        }
    };
    let labels = request.external_labels.into_iter();
    Ok(RuleDraft {
        id: request.id,
        metric_name: request.metric_name,
        matchers: request.matchers,
        group_by: request.group_by,
        external_labels: labels.map(|label| (label.name, label.value)).collect(),
        generation: request.generation,
        function_name,
    })
}

#[allow(
    refining_impl_trait,
    reason = "the generated trait wants opaque types; the messages are all there is"
)]
impl RecordingRulesService for ServicesRpc {
    async fn get_recording_rule(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::GetRecordingRuleRequest>,
    ) -> ServiceResult<wire::GetRecordingRuleResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let id = request.to_owned_message().id;
        let rule = roles.cabinet.recording_rules.get(tenant, &id).await;
        Response::ok(wire::GetRecordingRuleResponse {
            rule: MessageField::some(message(rule.map_err(refused)?)),
        })
    }

    async fn list_recording_rules(
        &self,
        ctx: RequestContext,
        _: ServiceRequest<'_, wire::ListRecordingRulesRequest>,
    ) -> ServiceResult<wire::ListRecordingRulesResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let rules = roles.cabinet.recording_rules.list(tenant).await;
        Response::ok(wire::ListRecordingRulesResponse {
            rules: rules.map_err(refused)?.into_iter().map(message).collect(),
        })
    }

    async fn upsert_recording_rule(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::UpsertRecordingRuleRequest>,
    ) -> ServiceResult<wire::UpsertRecordingRuleResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let draft = draft(request.to_owned_message())?;
        let rule = roles.cabinet.recording_rules.upsert(tenant, draft).await;
        Response::ok(wire::UpsertRecordingRuleResponse {
            rule: MessageField::some(message(rule.map_err(refused)?)),
        })
    }

    async fn delete_recording_rule(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::DeleteRecordingRuleRequest>,
    ) -> ServiceResult<wire::DeleteRecordingRuleResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let id = request.to_owned_message().id;
        let deleted = roles.cabinet.recording_rules.delete(tenant, &id).await;
        deleted.map_err(refused)?;
        Response::ok(wire::DeleteRecordingRuleResponse::default())
    }
}
