//! The public routes by name: what a path is, for tenancy, for shedding and for metrics.

use super::health;
use super::rpc_paths::RPCS;

/// Where executables are put, each under its build id.
const EXECUTABLES: &str = "/debuginfo.v1alpha1.DebuginfoService/Upload/";

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// An RPC, and its label in metrics when it comes over plain HTTP.
    Rpc {
        path: &'static str,
        label: &'static str,
        writes: bool,
    },
    Ingest {
        label: &'static str,
    },
    /// Exports of OTLP profiles, over gRPC or HTTP.
    Otlp {
        path: &'static str,
        label: &'static str,
    },
    /// An executable, whose bytes the handler takes as they come.
    Executable,
    /// What tenants ask for by GET: the older HTTP API, profiles and tables by address, usage.
    Legacy {
        label: &'static str,
    },
    /// Deletes on demand.
    Delete {
        label: &'static str,
    },
    /// What a tenant is told about itself.
    TenantStatus {
        label: &'static str,
    },
    /// The RPCs that ask whether the server is ready; they belong to no tenant.
    Health {
        path: &'static str,
        label: &'static str,
    },
    /// Pages about the server itself, which belong to no tenant.
    Own {
        label: &'static str,
    },
    Unknown,
}

/// Where exports of OTLP profiles go: both paths take both transports.
pub(super) const OTLP_GRPC: &str =
    "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
pub(super) const OTLP_HTTP: &str = "/v1development/profiles";

impl Route {
    pub(super) fn of(path: &str) -> Self {
        let own = |label| Self::Own { label };
        if path.starts_with(EXECUTABLES) {
            return Self::Executable;
        }
        let legacy = |label| Self::Legacy { label };
        match path {
            "/ingest" => Self::Ingest { label: "ingest" },
            "/pyroscope/ingest" => Self::Ingest {
                label: "pyroscope_ingest",
            },
            "/api/v1/delete" => Self::Delete {
                label: "api_v1_delete",
            },
            "/api/v1/deletions" => Self::TenantStatus {
                label: "api_v1_deletions",
            },
            "/pyroscope/render" => legacy("pyroscope_render"),
            "/pyroscope/render-diff" => legacy("pyroscope_render_diff"),
            "/pyroscope/label-values" => legacy("pyroscope_label_values"),
            "/pprof" => legacy("pprof"),
            "/pgo/go" => legacy("pgo_go"),
            "/api/v1/top" => legacy("api_v1_top"),
            "/api/v1/usage" => legacy("api_v1_usage"),
            OTLP_GRPC => Self::Otlp {
                path: OTLP_GRPC,
                label: "opentelemetry_proto_collector_profiles_v1development_profilesservice_export",
            },
            OTLP_HTTP => Self::Otlp {
                path: OTLP_HTTP,
                label: "v1development_profiles",
            },
            "/" => own("page"),
            "/ui" => own("ui"),
            "/explore" => own("explore"),
            "/comparison" => own("comparison"),
            "/comparison-diff" => own("comparison_diff"),
            "/ready" => own("ready"),
            "/metrics" => own("metrics"),
            "/api/v1/status/buildinfo" => own("api_v1_status_buildinfo"),
            "/buildinfo" => own("buildinfo"),
            "/api/v1/status/config" => own("api_v1_status_config"),
            "/api/v1/status/runtime_config" => own("api_v1_status_runtime_config"),
            "/runtime_config" => own("runtime_config"),
            "/api/v1/tenant_limits" => Self::TenantStatus {
                label: "api_v1_tenant_limits",
            },
            "/config" => own("config"),
            "/api/v1/status/config/diff" => own("api_v1_status_config_diff"),
            "/api/v1/status/config/default" => own("api_v1_status_config_default"),
            "/services" => own("services"),
            "/ring" => own("ring"),
            "/distributor/ring" => own("distributor_ring"),
            "/ring-segment-writer" => own("ring_segment_writer"),
            "/api/v1/tenant/rejections" => Self::TenantStatus {
                label: "api_v1_tenant_rejections",
            },
            _ => Self::of_rpc(path),
        }
    }

    fn of_rpc(path: &str) -> Self {
        let of = |rpcs: &'static [(&str, &str)]| rpcs.iter().find(|(rpc, _)| *rpc == path);
        if let Some((path, label)) = of(&health::RPCS) {
            return Self::Health { path, label };
        }
        match of(&RPCS) {
            Some((path, label)) => Self::Rpc {
                path,
                label,
                writes: path.starts_with("/push."),
            },
            None => Self::Unknown,
        }
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Rpc { label, .. }
            | Self::Ingest { label }
            | Self::Otlp { label, .. }
            | Self::Legacy { label }
            | Self::Delete { label }
            | Self::TenantStatus { label }
            | Self::Health { label, .. }
            | Self::Own { label } => label,
            Self::Executable => "debuginfo_v1alpha1_debuginfoservice_upload_gnu_build_id",
            Self::Unknown => "other",
        }
    }

    /// The label of a call over gRPC: its full name, as dashboards of gRPC services have it.
    pub(super) const fn grpc_label(self) -> &'static str {
        match self {
            Self::Rpc { path, .. } | Self::Otlp { path, .. } | Self::Health { path, .. } => path,
            other => other.label(),
        }
    }

    /// Whether it adds data, and so is refused when memory is short.
    pub(super) const fn writes(self) -> bool {
        matches!(
            self,
            Self::Ingest { .. }
                | Self::Otlp { .. }
                | Self::Executable
                | Self::Rpc { writes: true, .. }
        )
    }

    /// Whether it is for one tenant.
    pub(super) const fn is_for_one(self) -> bool {
        self.writes() || matches!(self, Self::TenantStatus { .. })
    }

    /// Whether it belongs to a tenant: everything but what is about the server itself. A path that
    /// nobody has put in the table is no exception.
    pub(super) const fn has_tenant(self) -> bool {
        !matches!(self, Self::Own { .. } | Self::Health { .. })
    }

    /// The one method that the route takes, if it takes one only.
    pub(super) const fn method(self) -> Option<&'static str> {
        match self {
            Self::Rpc { .. }
            | Self::Ingest { .. }
            | Self::Otlp { .. }
            | Self::Executable
            | Self::Health { .. }
            | Self::Delete { .. } => Some("POST"),
            Self::Legacy { .. } | Self::TenantStatus { .. } | Self::Own { .. } => Some("GET"),
            Self::Unknown => None,
        }
    }

    /// Whether the handler takes the body as it comes, and pays for it itself.
    pub(super) const fn streams(self) -> bool {
        matches!(self, Self::Executable)
    }

    pub(super) const fn is_rpc(self) -> bool {
        matches!(self, Self::Rpc { .. } | Self::Health { .. })
    }

    /// Whether it is a question, whose answer takes work.
    pub(super) fn asks(self) -> bool {
        match self {
            Self::Rpc { path, .. } => ["/querier.", "/adhocprofiles."]
                .iter()
                .any(|service| path.starts_with(service)),
            Self::Legacy { .. } => true,
            _ => false,
        }
    }

    /// Whether it is the RPC that takes profiles in.
    pub(super) fn is_push(self) -> bool {
        matches!(self, Self::Rpc { writes: true, path, .. } if path.starts_with("/push."))
    }

    pub(super) const fn is_ingest(self) -> bool {
        matches!(self, Self::Ingest { .. })
    }

    pub(super) const fn is_otlp(self) -> bool {
        matches!(self, Self::Otlp { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_from_paths() {
        for (path, label) in RPCS {
            let derived: String = path
                .trim_start_matches('/')
                .to_lowercase()
                .replace(['.', '/'], "_");
            assert_eq!(derived, label);
            assert!(Route::of(path).has_tenant());
            assert_eq!(Route::of(path).grpc_label(), path);
        }
        assert!(Route::of("/push.v1.PusherService/Push").writes());
        for path in [OTLP_GRPC, OTLP_HTTP] {
            let route = Route::of(path);
            assert!(route.writes() && route.has_tenant() && route.is_otlp());
        }
        assert!(!Route::of("/querier.v1.QuerierService/Diff").writes());
        let executable = Route::of("/debuginfo.v1alpha1.DebuginfoService/Upload/ab12");
        assert!(executable.streams() && executable.writes() && executable.has_tenant());
        assert_eq!(Route::of("/nowhere"), Route::Unknown);
        assert!(!Route::of("/ready").has_tenant());
        for (path, label) in health::RPCS {
            let route = Route::of(path);
            assert!(route.is_rpc() && !route.has_tenant() && !route.writes());
            assert_eq!((route.grpc_label(), route.label()), (path, label));
        }
    }
}
