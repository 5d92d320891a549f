//! Executables that agents upload because profiles of theirs lack symbols. They are kept; nothing
//! reads their symbols yet.
//!
//! ```text
//! unknown ── should we? yes ──► uploading ── bytes, finished ──► uploaded
//!                                  │ stale after a while: may be started again
//!                                  └──────────► uploading
//! ```
//!
//! # Invariants
//! - Bytes are taken only for an upload that was asked for, and at most the limit of them.
//! - The reasons are fixed sentences, one of which an agent compares letter by letter.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use scoria_model::{TenantId, Timestamp};
use scoria_storage::{FileEntry, FileUpload, TenantFiles, keys};
use serde::{Deserialize, Serialize};

use crate::error::{CabinetError, CabinetErrorKind};

/// Most executables of one tenant.
pub const EXECUTABLES_MAX: usize = 10_000;
/// Objects that are looked at to count or list them: two for each, and a few that others add
/// meanwhile.
const LISTED_MAX: usize = 2 * EXECUTABLES_MAX + 1000;
/// Descriptions that are read at a time.
const READ_AT_ONCE: usize = 16;
/// Largest description of one: its texts, of which each byte may be six in JSON.
const METADATA_BYTES_MAX: u64 = (3 * 6 * TEXT_BYTES_MAX + 1024) as u64;
/// Longest text inside a description.
const TEXT_BYTES_MAX: usize = 4096;
/// Age at which an upload that was not finished may be started again: the time that it may take,
/// and five minutes.
pub const STALE_AFTER_MS: i64 = (5 + 2) * 60 * 1000;

/// Why an upload is wanted or not. Agents know these sentences.
pub mod reasons {
    pub const FIRST_TIME: &str = "First time we see this Build ID, therefore please upload!";
    pub const STALE: &str =
        "A previous upload was started but not finished and is now stale, so it can be retried.";
    /// Alloy compares this one.
    pub const IN_PROGRESS: &str = "A previous upload is still in-progress and not stale yet (only stale uploads can be retried).";
    pub const EXISTS: &str =
        "Debuginfo already exists and is not marked as invalid, therefore no new upload is needed.";
    pub const NO_BUILD_ID: &str = "The file has no GNU build ID, by which it would be kept.";
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    #[default]
    Unspecified,
    ExecutableFull,
    ExecutableNoText,
}

/// What an agent says of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDescription {
    pub gnu_build_id: String,
    pub go_build_id: String,
    pub otel_file_id: String,
    pub name: String,
    pub kind: FileKind,
}

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadState {
    Uploading,
    Uploaded,
}

/// An executable as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executable {
    pub file: FileDescription,
    pub state: UploadState,
    pub started_at_ms: i64,
    /// 0 until it is uploaded.
    pub finished_at_ms: i64,
    pub bytes: u64,
}

/// Whether a file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Wanted(&'static str),
    NotWanted(&'static str),
}

/// A build id that can stand in a key: 2 to 40 hexadecimal digits, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildId(String);

impl BuildId {
    /// # Errors
    /// Invalid for anything else.
    pub fn parse(text: &str) -> Result<Self, CabinetError> {
        let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
        if !digits || !(2..=40).contains(&text.len()) {
            return Err(CabinetError::invalid(format!(
                "{:?} is no GNU build id: those are 2 to 40 hexadecimal digits",
                text.get(..64).unwrap_or(text)
            )));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// The executables of every tenant.
#[derive(Debug, Clone)]
pub struct DebugInfo {
    files: TenantFiles,
    upload_bytes_max: u64,
}

/// Bytes on their way into the store.
#[derive(Debug)]
pub struct ExecutableUpload {
    upload: FileUpload,
    bytes_max: u64,
}

impl DebugInfo {
    pub fn new(files: TenantFiles, upload_bytes_max: u64) -> Self {
        Self {
            files,
            upload_bytes_max,
        }
    }

    /// Whether a file is wanted; if it is, its upload counts as started.
    ///
    /// # Errors
    /// A build id that is none, one executable too many, or the store's.
    pub async fn should_upload(
        &self,
        tenant: &TenantId,
        mut file: FileDescription,
        now: Timestamp,
    ) -> Result<Verdict, CabinetError> {
        if file.gnu_build_id.is_empty() {
            return Ok(Verdict::NotWanted(reasons::NO_BUILD_ID));
        }
        let id = BuildId::parse(&file.gnu_build_id)?;
        let texts = [&file.go_build_id, &file.otel_file_id, &file.name];
        if let Some(long) = texts.iter().find(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(CabinetError::invalid(format!(
                "the file is described by a text of {} bytes; the limit is {TEXT_BYTES_MAX}",
                long.len()
            )));
        }
        let known = self.read(tenant, &id).await?;
        if known.is_none() {
            self.refuse_one_too_many(tenant).await?;
        }
        let verdict = decide(known.as_ref(), now.millis());
        if matches!(verdict, Verdict::Wanted(_)) {
            file.gnu_build_id.clone_from(&id.0);
            let executable = Executable {
                file,
                state: UploadState::Uploading,
                started_at_ms: now.millis(),
                finished_at_ms: 0,
                bytes: 0,
            };
            self.write(tenant, &id, &executable).await?;
        }
        Ok(verdict)
    }

    /// Starts taking the bytes of an upload that was asked for.
    ///
    /// # Errors
    /// [`CabinetErrorKind::NotStarted`] when it was not, or the store's.
    pub async fn start(
        &self,
        tenant: &TenantId,
        id: &BuildId,
    ) -> Result<ExecutableUpload, CabinetError> {
        let known = self.read(tenant, id).await?;
        if known.is_none_or(|known| known.state != UploadState::Uploading) {
            return Err(CabinetError::new(
                CabinetErrorKind::NotStarted,
                format!(
                    "no upload of {} was initiated; ask ShouldInitiateUpload first",
                    id.0
                ),
            ));
        }
        let upload = self
            .files
            .start(keys::debug_info_exe(tenant, &id.0))
            .await?;
        Ok(ExecutableUpload {
            upload,
            bytes_max: self.upload_bytes_max,
        })
    }

    /// Notes that an upload is complete.
    ///
    /// # Errors
    /// There is none, or it is not under way, or none of its bytes arrived.
    pub async fn finish(
        &self,
        tenant: &TenantId,
        id: &BuildId,
        now: Timestamp,
    ) -> Result<(), CabinetError> {
        let mut known = self.known(tenant, id).await?;
        if known.state != UploadState::Uploading {
            return Err(CabinetError::new(
                CabinetErrorKind::NotStarted,
                format!("{} is not being uploaded", id.0),
            ));
        }
        let folder = keys::debug_info_exe(tenant, &id.0);
        let bytes = self.files.size(&folder).await?;
        let Some(bytes) = bytes.filter(|&bytes| bytes > 0) else {
            return Err(CabinetError::new(
                CabinetErrorKind::NotStarted,
                format!("no bytes of {} were uploaded", id.0),
            ));
        };
        known.state = UploadState::Uploaded;
        known.finished_at_ms = now.millis();
        known.bytes = bytes;
        self.write(tenant, id, &known).await
    }

    /// A tenant's executables, by build id.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, tenant: &TenantId) -> Result<Vec<Executable>, CabinetError> {
        let described = self.descriptions(tenant).await?;
        let read = stream::iter(described)
            .map(|file| async move { self.files.get(&file.key, METADATA_BYTES_MAX).await })
            .buffer_unordered(READ_AT_ONCE);
        let bodies: Vec<Option<Bytes>> = read.try_collect().await?;
        // One that is gone by now was deleted meanwhile.
        let found = bodies.iter().flatten().map(|body| parse(body));
        let mut found = found.collect::<Result<Vec<_>, _>>()?;
        found.sort_by(|a, b| a.file.gnu_build_id.cmp(&b.file.gnu_build_id));
        Ok(found)
    }

    /// Forgets an executable.
    ///
    /// # Errors
    /// There is none, or the store's.
    pub async fn delete(&self, tenant: &TenantId, id: &BuildId) -> Result<(), CabinetError> {
        self.known(tenant, id).await?;
        // The description goes last: while it is there, a failed deletion can be tried again.
        self.files
            .delete(&keys::debug_info_exe(tenant, &id.0))
            .await?;
        let metadata = keys::debug_info_metadata(tenant, &id.0);
        Ok(self.files.delete(&metadata).await?)
    }

    /// Where the descriptions of a tenant's executables lie.
    async fn descriptions(&self, tenant: &TenantId) -> Result<Vec<FileEntry>, CabinetError> {
        let folder = keys::debug_info_folder(tenant);
        let mut files = self.files.list(&folder, LISTED_MAX).await?;
        files.retain(|file| file.key.filename() == Some("metadata"));
        Ok(files)
    }

    async fn refuse_one_too_many(&self, tenant: &TenantId) -> Result<(), CabinetError> {
        if self.descriptions(tenant).await?.len() >= EXECUTABLES_MAX {
            return Err(CabinetError::limit(format!(
                "the tenant has {EXECUTABLES_MAX} executables already, which is the limit; delete some with DeleteDebuginfo"
            )));
        }
        Ok(())
    }

    async fn known(&self, tenant: &TenantId, id: &BuildId) -> Result<Executable, CabinetError> {
        let known = self.read(tenant, id).await?;
        known.ok_or_else(|| {
            CabinetError::not_found(format!("there is no debug info of the build id {}", id.0))
        })
    }

    async fn read(
        &self,
        tenant: &TenantId,
        id: &BuildId,
    ) -> Result<Option<Executable>, CabinetError> {
        let key = keys::debug_info_metadata(tenant, &id.0);
        let body = self.files.get(&key, METADATA_BYTES_MAX).await?;
        body.map(|body| parse(&body)).transpose()
    }

    async fn write(
        &self,
        tenant: &TenantId,
        id: &BuildId,
        executable: &Executable,
    ) -> Result<(), CabinetError> {
        let text = serde_json::to_vec(executable)
            .map_err(|error| CabinetError::unreadable("debug info", &error))?;
        let key = keys::debug_info_metadata(tenant, &id.0);
        Ok(self.files.put(&key, Bytes::from(text)).await?)
    }
}

impl ExecutableUpload {
    /// Appends bytes; returns once there is room for more.
    ///
    /// # Errors
    /// [`CabinetErrorKind::TooLarge`] over the limit, or the store's.
    pub async fn append(&mut self, bytes: Bytes) -> Result<(), CabinetError> {
        let actual = self.upload.bytes().saturating_add(bytes.len() as u64);
        if self.bytes_max != 0 && actual > self.bytes_max {
            return Err(CabinetError::new(
                CabinetErrorKind::TooLarge,
                format!(
                    "the executable is larger than {} bytes (debug_info.max_upload_size); strip it of its text section before uploading",
                    self.bytes_max
                ),
            ));
        }
        Ok(self.upload.append(bytes).await?)
    }

    /// Makes the bytes readable.
    ///
    /// # Errors
    /// The store's.
    pub async fn finish(self) -> Result<u64, CabinetError> {
        Ok(self.upload.finish().await?)
    }

    /// Gives up.
    pub async fn abort(self) {
        self.upload.abort().await;
    }
}

/// What to answer about a file of which this is known.
fn decide(known: Option<&Executable>, now_ms: i64) -> Verdict {
    let Some(known) = known else {
        return Verdict::Wanted(reasons::FIRST_TIME);
    };
    match known.state {
        UploadState::Uploaded => Verdict::NotWanted(reasons::EXISTS),
        UploadState::Uploading if now_ms - known.started_at_ms < STALE_AFTER_MS => {
            Verdict::NotWanted(reasons::IN_PROGRESS)
        }
        UploadState::Uploading => Verdict::Wanted(reasons::STALE),
    }
}

fn parse(body: &[u8]) -> Result<Executable, CabinetError> {
    serde_json::from_slice(body).map_err(|error| CabinetError::unreadable("debug info", &error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use scoria_storage::Metrics;

    use super::*;

    const MS: i64 = 1_000_000;

    fn debug_info() -> DebugInfo {
        let files = TenantFiles::new(Arc::new(InMemory::new()), Metrics::unregistered());
        DebugInfo::new(files, 1000)
    }

    fn file(id: &str) -> FileDescription {
        FileDescription {
            gnu_build_id: id.to_owned(),
            name: "shop".to_owned(),
            ..FileDescription::default()
        }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp(ms * MS)
    }

    #[tokio::test]
    async fn an_upload_from_question_to_deletion() {
        let info = debug_info();
        let tenant = TenantId::anonymous();
        let id = BuildId::parse("ABcd12").unwrap();
        let ask = async |ms| {
            info.should_upload(&tenant, file("abCD12"), at(ms))
                .await
                .unwrap()
        };

        assert_eq!(
            info.start(&tenant, &id).await.unwrap_err().kind,
            CabinetErrorKind::NotStarted
        );
        let early = info.finish(&tenant, &id, at(1)).await.unwrap_err();
        assert_eq!(early.kind, CabinetErrorKind::NotFound);

        assert_eq!(ask(10).await, Verdict::Wanted(reasons::FIRST_TIME));
        assert_eq!(ask(11).await, Verdict::NotWanted(reasons::IN_PROGRESS));
        let stale = 10 + STALE_AFTER_MS;
        assert_eq!(
            ask(stale - 1).await,
            Verdict::NotWanted(reasons::IN_PROGRESS)
        );
        assert_eq!(ask(stale).await, Verdict::Wanted(reasons::STALE));
        assert_eq!(
            ask(stale + 1).await,
            Verdict::NotWanted(reasons::IN_PROGRESS)
        );
        let nothing = info.finish(&tenant, &id, at(stale)).await.unwrap_err();
        assert_eq!(nothing.kind, CabinetErrorKind::NotStarted);

        let mut upload = info.start(&tenant, &id).await.unwrap();
        upload.append(Bytes::from_static(b"\x7fELF")).await.unwrap();
        let large = upload.append(Bytes::from(vec![0; 1000])).await.unwrap_err();
        assert_eq!(large.kind, CabinetErrorKind::TooLarge);
        upload.append(Bytes::from(vec![0; 996])).await.unwrap();
        assert_eq!(upload.finish().await.unwrap(), 1000);
        info.finish(&tenant, &id, at(stale + 5)).await.unwrap();
        let twice = info.finish(&tenant, &id, at(stale + 6)).await.unwrap_err();
        assert_eq!(twice.kind, CabinetErrorKind::NotStarted);
        let late = info.start(&tenant, &id).await.unwrap_err();
        assert_eq!(late.kind, CabinetErrorKind::NotStarted, "it is there");
        assert_eq!(ask(stale + 7).await, Verdict::NotWanted(reasons::EXISTS));

        let listed = info.list(&tenant).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].file, file("abcd12"));
        assert_eq!(
            (listed[0].bytes, listed[0].finished_at_ms),
            (1000, stale + 5)
        );
        let other = TenantId::parse("other").unwrap();
        assert!(info.list(&other).await.unwrap().is_empty());

        info.delete(&tenant, &id).await.unwrap();
        let gone = info.delete(&tenant, &id).await.unwrap_err();
        assert_eq!(gone.kind, CabinetErrorKind::NotFound);
        assert!(info.list(&tenant).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn build_ids() {
        let info = debug_info();
        let tenant = TenantId::anonymous();
        let none = info.should_upload(&tenant, file(""), at(1)).await.unwrap();
        assert_eq!(none, Verdict::NotWanted(reasons::NO_BUILD_ID));
        for bad in ["a", "xyz", "../..", "a b", &"a".repeat(41)] {
            let error = info
                .should_upload(&tenant, file(bad), at(1))
                .await
                .unwrap_err();
            assert_eq!(error.kind, CabinetErrorKind::Invalid, "{bad}");
        }
        let long = FileDescription {
            name: "x".repeat(TEXT_BYTES_MAX + 1),
            ..file("ab")
        };
        let error = info.should_upload(&tenant, long, at(1)).await.unwrap_err();
        assert_eq!(error.kind, CabinetErrorKind::Invalid);
    }

    /// JSON writes some characters as six.
    #[tokio::test]
    async fn the_longest_description_can_be_read_again() {
        let info = debug_info();
        let tenant = TenantId::anonymous();
        let text = "\u{1}".repeat(TEXT_BYTES_MAX);
        let longest = FileDescription {
            gnu_build_id: "ab".repeat(20),
            go_build_id: text.clone(),
            otel_file_id: text.clone(),
            name: text,
            kind: FileKind::ExecutableNoText,
        };
        let asked = info.should_upload(&tenant, longest.clone(), at(1)).await;
        assert_eq!(asked.unwrap(), Verdict::Wanted(reasons::FIRST_TIME));
        assert_eq!(info.list(&tenant).await.unwrap()[0].file, longest);
        let again = info.should_upload(&tenant, longest, at(2)).await;
        assert_eq!(again.unwrap(), Verdict::NotWanted(reasons::IN_PROGRESS));
    }

    #[tokio::test]
    async fn only_so_many() {
        let info = debug_info();
        let tenant = TenantId::anonymous();
        let ask = async |n: usize| {
            let file = file(&format!("{n:08x}"));
            info.should_upload(&tenant, file, at(1)).await
        };
        let first = BuildId::parse("00000000").unwrap();
        ask(0).await.unwrap();
        for n in 1..EXECUTABLES_MAX {
            let key = keys::debug_info_metadata(&tenant, &format!("{n:08x}"));
            info.files.put(&key, Bytes::new()).await.unwrap();
        }
        let more = ask(EXECUTABLES_MAX).await.unwrap_err();
        assert_eq!(more.kind, CabinetErrorKind::LimitExceeded, "{more}");
        // The ones that are there go on.
        let known = ask(0).await.unwrap();
        assert_eq!(known, Verdict::NotWanted(reasons::IN_PROGRESS));
        info.delete(&tenant, &first).await.unwrap();
        ask(EXECUTABLES_MAX).await.unwrap();
    }
}
