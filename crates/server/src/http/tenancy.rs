//! Whose request it is: decided once, at the edge, for every route alike.

use connectrpc::ErrorCode;
use http::HeaderMap;
use scoria_model::TenantId;

use super::fault::Fault;
use super::route::Route;
use crate::config::AuthConfig;

const TENANT_HEADER: &str = "x-scope-orgid";

/// The tenants of a request, sorted, never none. Set by the edge for every route that has tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantScope(Vec<TenantId>);

impl TenantScope {
    pub fn tenants(&self) -> &[TenantId] {
        &self.0
    }

    /// The tenant of a request that is for one only.
    ///
    /// # Errors
    /// Invalid argument for several.
    pub fn single(&self) -> Result<&TenantId, Fault> {
        match self.0.as_slice() {
            [tenant] => Ok(tenant),
            several => Err(Fault::invalid(format!(
                "this request is for one tenant, but X-Scope-OrgID names {}",
                several.len()
            ))),
        }
    }

    /// Reads the header as the route wants it.
    pub(super) fn of(auth: &AuthConfig, route: Route, headers: &HeaderMap) -> Result<Self, Fault> {
        if !auth.multitenancy_enabled {
            return Ok(Self(vec![TenantId::anonymous()]));
        }
        let missing = || Fault::new(ErrorCode::Unauthenticated, "no org id: send X-Scope-OrgID");
        let mut values = headers.get_all(TENANT_HEADER).iter();
        let value = values.next().ok_or_else(missing)?;
        if values.any(|other| other != value) {
            return Err(Fault::invalid("X-Scope-OrgID is given twice, differently"));
        }
        let text = value
            .to_str()
            .map_err(|_| Fault::invalid("X-Scope-OrgID has characters that no tenant id has"))?
            .trim();
        if text.is_empty() {
            return Err(missing());
        }
        let tenants = if route.is_for_one() {
            TenantId::parse_single(text).map(|tenant| vec![tenant])
        } else {
            TenantId::parse_several(text)
        };
        tenants
            .map(Self)
            .map_err(|error| Fault::invalid(format!("X-Scope-OrgID: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(path: &str, enabled: bool, values: &[&str]) -> Result<String, u16> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                TENANT_HEADER,
                http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        let auth = AuthConfig {
            multitenancy_enabled: enabled,
        };
        TenantScope::of(&auth, Route::of(path), &headers)
            .map(|s| {
                s.tenants()
                    .iter()
                    .map(TenantId::as_str)
                    .collect::<Vec<_>>()
                    .join("|")
            })
            .map_err(|fault| fault.status().as_u16())
    }

    #[test]
    fn table() {
        let write = "/push.v1.PusherService/Push";
        let ingest = "/ingest";
        let read = "/querier.v1.QuerierService/LabelNames";
        let long = "x".repeat(151);
        for path in [write, ingest, read, "/pyroscope/render"] {
            assert_eq!(scope(path, false, &[]), Ok("anonymous".into()));
            assert_eq!(scope(path, false, &["../x"]), Ok("anonymous".into()));
            assert_eq!(scope(path, true, &[]), Err(401));
            assert_eq!(scope(path, true, &[" "]), Err(401));
            assert_eq!(scope(path, true, &["a"]), Ok("a".into()));
            assert_eq!(scope(path, true, &["a", "a"]), Ok("a".into()));
            assert_eq!(scope(path, true, &["a", "b"]), Err(400));
            assert_eq!(scope(path, true, &["a:region=eu"]), Ok("a".into()));
            assert_eq!(scope(path, true, &["b|b"]), Ok("b".into()));
            for bad in ["..", "a/b", "a b", "a|", "ä", &long] {
                assert_eq!(scope(path, true, &[bad]), Err(400), "{bad}");
            }
        }
        assert_eq!(scope(read, true, &["b|a|b"]), Ok("a|b".into()));
        assert_eq!(scope(write, true, &["b|a"]), Err(400));
        assert_eq!(scope(ingest, true, &["b|a"]), Err(400));
    }
}
