//! `capabilities.v1.FeatureFlagsService` and `version.v1.Version`: what this server can do.

use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult};
use scoria_proto::public::capabilities::v1 as wire;
use scoria_proto::public::capabilities::v1::FeatureFlagsService;
use scoria_proto::public::version::v1::{Version, VersionRequest, VersionResponse};

use super::ServicesRpc;

/// The version of `querier.v1` that is spoken here.
const QUERIER_API: u64 = 1;

/// Names that clients know, sorted, whether they hold here, and what they mean.
const FLAGS: [(&str, bool, &str); 4] = [
    (
        "pyroscopeRuler",
        false,
        "recording rules are evaluated (they are stored, and nothing evaluates them)",
    ),
    (
        "pyroscopeRulerFunctions",
        false,
        "recording rules of single functions are evaluated",
    ),
    (
        "utf8LabelNames",
        true,
        "label names keep characters such as dots, and are shown to clients that accept them",
    ),
    (
        "v2StorageLayer",
        true,
        "profiles lie in an object store, and every query of the newer storage is answered",
    ),
];

#[allow(
    refining_impl_trait,
    reason = "the generated trait wants opaque types; the messages are all there is"
)]
impl FeatureFlagsService for ServicesRpc {
    async fn get_feature_flags(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, wire::GetFeatureFlagsRequest>,
    ) -> ServiceResult<wire::GetFeatureFlagsResponse> {
        let flags = FLAGS.into_iter();
        Response::ok(wire::GetFeatureFlagsResponse {
            feature_flags: flags
                .map(|(name, enabled, description)| wire::FeatureFlag {
                    name: name.to_owned(),
                    enabled,
                    description: Some(description.to_owned()),
                    documentation_url: None,
                })
                .collect(),
        })
    }
}

#[allow(
    refining_impl_trait,
    reason = "the generated trait wants an opaque type; the message is all there is"
)]
impl Version for ServicesRpc {
    async fn version(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, VersionRequest>,
    ) -> ServiceResult<VersionResponse> {
        Response::ok(VersionResponse {
            QuerierAPI: QUERIER_API,
        })
    }
}
