//! `debuginfo.v1alpha1.DebuginfoService`: executables that agents upload, and the plain POST that
//! carries their bytes.
//!
//! # Invariants
//! - The bytes go to the store as they come; what waits here is paid for, and is the same whatever
//!   the size of the executable.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response as HttpResponse};
use buffa::{EnumValue, Inline, MessageField};
use buffa_types::google::protobuf::Timestamp;
use connectrpc::{ErrorCode, RequestContext, Response, ServiceRequest, ServiceResult};
use http::StatusCode;
use http_body_util::BodyExt;
use scoria_cabinet::debug_info::{FileDescription, FileKind, UploadState, Verdict};
use scoria_cabinet::{BuildId, CabinetErrorKind, Executable, ExecutableUpload};
use scoria_proto::public::debuginfo::v1alpha1 as wire;
use scoria_proto::public::debuginfo::v1alpha1::{DebuginfoService, file_metadata, object_metadata};

use super::{ServicesRpc, fault_of, refused};
use crate::http::App;
use crate::http::body::{no_memory, refuse_encoding};
use crate::http::fault::Fault;

/// Memory of one upload: a part that is gathered and one that is on its way.
const UPLOAD_MEMORY_BYTES: u64 = 16 << 20;

fn description(file: wire::FileMetadata) -> FileDescription {
    FileDescription {
        gnu_build_id: file.gnu_build_id,
        go_build_id: file.go_build_id,
        otel_file_id: file.otel_file_id,
        name: file.name,
        kind: match file.r#type.as_known() {
            Some(file_metadata::Type::TYPE_EXECUTABLE_FULL) => FileKind::ExecutableFull,
            Some(file_metadata::Type::TYPE_EXECUTABLE_NO_TEXT) => FileKind::ExecutableNoText,
            _ => FileKind::Unspecified,
        },
    }
}

fn message(executable: Executable) -> wire::ObjectMetadata {
    let file = executable.file;
    let kind = match file.kind {
        FileKind::Unspecified => file_metadata::Type::TYPE_UNSPECIFIED,
        FileKind::ExecutableFull => file_metadata::Type::TYPE_EXECUTABLE_FULL,
        FileKind::ExecutableNoText => file_metadata::Type::TYPE_EXECUTABLE_NO_TEXT,
    };
    let state = match executable.state {
        UploadState::Uploading => object_metadata::State::STATE_UPLOADING,
        UploadState::Uploaded => object_metadata::State::STATE_UPLOADED,
    };
    wire::ObjectMetadata {
        file: MessageField::some(wire::FileMetadata {
            gnu_build_id: file.gnu_build_id,
            go_build_id: file.go_build_id,
            otel_file_id: file.otel_file_id,
            name: file.name,
            r#type: EnumValue::from(kind),
        }),
        state: EnumValue::from(state),
        started_at: timestamp(executable.started_at_ms),
        finished_at: timestamp(executable.finished_at_ms),
        size_bytes: i64::try_from(executable.bytes).unwrap_or(i64::MAX),
    }
}

/// Absent for a time that has not come.
fn timestamp(ms: i64) -> MessageField<Timestamp, Inline<Timestamp>> {
    if ms == 0 {
        return MessageField::none();
    }
    MessageField::some(Timestamp {
        seconds: ms.div_euclid(1000),
        nanos: i32::try_from(ms.rem_euclid(1000) * 1_000_000).unwrap_or_default(),
        ..Timestamp::default()
    })
}

#[allow(
    refining_impl_trait,
    reason = "the generated trait wants opaque types; the messages are all there is"
)]
impl DebuginfoService for ServicesRpc {
    async fn should_initiate_upload(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::ShouldInitiateUploadRequest>,
    ) -> ServiceResult<wire::ShouldInitiateUploadResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let file = request.to_owned_message().file.into_option();
        let file = description(file.unwrap_or_default());
        let now = roles.clock.now();
        let verdict = roles
            .cabinet
            .debug_info
            .should_upload(tenant, file, now)
            .await;
        let (should_initiate_upload, reason) = match verdict.map_err(refused)? {
            Verdict::Wanted(reason) => (true, reason),
            Verdict::NotWanted(reason) => (false, reason),
        };
        Response::ok(wire::ShouldInitiateUploadResponse {
            should_initiate_upload,
            reason: reason.to_owned(),
        })
    }

    async fn upload_finished(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::UploadFinishedRequest>,
    ) -> ServiceResult<wire::UploadFinishedResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let id = BuildId::parse(request.view().gnu_build_id).map_err(refused)?;
        let now = roles.clock.now();
        let finished = roles.cabinet.debug_info.finish(tenant, &id, now).await;
        finished.map_err(refused)?;
        Response::ok(wire::UploadFinishedResponse::default())
    }

    async fn list_debuginfo(
        &self,
        ctx: RequestContext,
        _: ServiceRequest<'_, wire::ListDebuginfoRequest>,
    ) -> ServiceResult<wire::ListDebuginfoResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let found = roles.cabinet.debug_info.list(tenant).await;
        let found = found.map_err(refused)?.into_iter();
        Response::ok(wire::ListDebuginfoResponse {
            object: found.map(message).collect(),
        })
    }

    async fn delete_debuginfo(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, wire::DeleteDebuginfoRequest>,
    ) -> ServiceResult<wire::DeleteDebuginfoResponse> {
        let (roles, tenant) = self.call(&ctx)?;
        let id = BuildId::parse(request.view().gnu_build_id).map_err(refused)?;
        let deleted = roles.cabinet.debug_info.delete(tenant, &id).await;
        deleted.map_err(refused)?;
        Response::ok(wire::DeleteDebuginfoResponse::default())
    }
}

/// `POST /debuginfo.v1alpha1.DebuginfoService/Upload/{gnu_build_id}`: the bytes.
pub(in crate::http) async fn upload(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> HttpResponse {
    match take(&app, &id, request).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(fault) => fault.into_response(),
    }
}

/// The same without an id, which is refused like one that is none.
pub(in crate::http) async fn upload_of_nothing(
    State(app): State<Arc<App>>,
    request: Request,
) -> HttpResponse {
    match take(&app, "", request).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(fault) => fault.into_response(),
    }
}

async fn take(app: &App, id: &str, request: Request) -> Result<(), Fault> {
    let (parts, mut body) = request.into_parts();
    let tenant = app.scope(&parts.extensions)?.single()?;
    let roles = app.roles()?;
    let id = BuildId::parse(id).map_err(|error| fault_of(&error))?;
    refuse_encoding(&parts.headers)?;
    let permit = app.memory.bodies.try_acquire(UPLOAD_MEMORY_BYTES);
    let _permit = permit.map_err(no_memory)?;
    let started = roles.cabinet.debug_info.start(tenant, &id).await;
    let mut upload = started.map_err(|error| match error.kind {
        CabinetErrorKind::NotStarted => {
            fault_of(&error).with_status(StatusCode::PRECONDITION_FAILED)
        }
        _ => fault_of(&error),
    })?;
    match append_all(&mut upload, &mut body).await {
        Ok(()) => {
            let finished = upload.finish().await.map_err(|error| fault_of(&error))?;
            tracing::debug!(bytes = finished, "an executable was uploaded");
            Ok(())
        }
        Err(fault) => {
            upload.abort().await;
            Err(fault)
        }
    }
}

async fn append_all(
    upload: &mut ExecutableUpload,
    body: &mut axum::body::Body,
) -> Result<(), Fault> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Fault::new(
                ErrorCode::Unknown,
                format!("reading the executable: {error}"),
            )
            .with_status(StatusCode::REQUEST_TIMEOUT)
        })?;
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        upload
            .append(bytes)
            .await
            .map_err(|error| match error.kind {
                CabinetErrorKind::TooLarge => {
                    fault_of(&error).with_status(StatusCode::PAYLOAD_TOO_LARGE)
                }
                _ => fault_of(&error),
            })?;
    }
    Ok(())
}
