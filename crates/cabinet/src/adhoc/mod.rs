//! Single profiles that somebody uploads to look at them, apart from those that services send.
//!
//! ```text
//! upload ─ base64 ─► bytes ─ forms ─► tree of one sample type ─► JSON of a flame graph
//!                      └─► object store ── get, diff ─┘
//! ```
//!
//! # Invariants
//! - What is stored could be read when it came; a file that cannot be read is not stored.
//! - An id is a ULID and the file's name, so a listing needs no file's content.
//! - A tenant keeps its newest [`PROFILES_MAX`] profiles; older ones are deleted when one comes.
//! - Decoding is paid for from a budget before it starts.

mod flamebearer;
pub mod forms;
mod perf_script;
mod pprof_tree;
#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use scoria_model::{BlockId, ByteBudget, Limits, ProfileType, TenantId, Timestamp};
use scoria_query::render;
use scoria_query::render::flamebearer::{Graph, json};
use scoria_query::request::max_nodes;
use scoria_storage::{TenantFiles, keys};

use self::forms::{Drawn, TypeName, draw, memory_for, types_of};
use crate::error::{CabinetError, CabinetErrorKind};

/// Most profiles that a tenant keeps.
pub const PROFILES_MAX: usize = 1000;
/// How much of a listing is looked at: concurrent uploads may be over the limit for a moment.
const LISTED_MAX: usize = 2 * PROFILES_MAX;
/// Longest part of a file's name that is kept.
const NAME_BYTES_MAX: usize = 128;
/// Characters of a ULID.
const ULID_LENGTH: usize = 26;

/// A profile as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdHocEntry {
    pub id: String,
    pub name: String,
    pub uploaded_at_ms: i64,
}

/// How a profile is to be drawn.
#[derive(Debug, Clone)]
pub struct Drawing<'a> {
    /// One of the file's; the first if none.
    pub profile_type: Option<&'a str>,
    pub max_nodes: Option<i64>,
    pub limits: &'a Limits,
}

/// A profile drawn.
#[derive(Debug, Clone)]
pub struct AdHocView {
    pub entry: AdHocEntry,
    pub profile_type: String,
    pub profile_types: Vec<String>,
    /// The JSON that `/pyroscope/render` answers.
    pub flamebearer: String,
}

/// Two profiles drawn beside each other.
#[derive(Debug, Clone)]
pub struct AdHocDiff {
    /// Those that both files hold.
    pub profile_types: Vec<String>,
    /// The JSON that `/pyroscope/render-diff` answers.
    pub flamebearer: String,
}

/// The ad hoc profiles of every tenant.
#[derive(Debug, Clone)]
pub struct AdHocProfiles {
    files: TenantFiles,
    memory: ByteBudget,
}

impl AdHocProfiles {
    pub fn new(files: TenantFiles, memory: ByteBudget) -> Self {
        Self { files, memory }
    }

    /// Stores a file that came as base64, and draws it.
    ///
    /// # Errors
    /// The file is too large or of no known form, or the store's.
    pub async fn upload(
        &self,
        tenant: &TenantId,
        (name, base64): (&str, &str),
        drawing: &Drawing<'_>,
        now: Timestamp,
    ) -> Result<AdHocView, CabinetError> {
        let limit = drawing.limits.max_profile_size_bytes;
        let actual = base64.len() as u64;
        if Limits::exceeded(actual, limit) {
            return Err(CabinetError::invalid(format!(
                "the profile is {actual} bytes of base64 (max_profile_size_bytes, limit: {limit}); upload a smaller one"
            )));
        }
        let text = base64.trim();
        let body = STANDARD
            .decode(text)
            .or_else(|_| STANDARD_NO_PAD.decode(text))
            .map_err(|error| CabinetError::invalid(format!("the profile is no base64: {error}")))?;
        let body = Bytes::from(body);
        let entry = AdHocEntry::new(name, now);
        let drawn = self.draw(body.clone(), drawing).await?;
        self.make_room(tenant).await?;
        let key = keys::ad_hoc(tenant, &entry.id);
        self.files.put(&key, body).await?;
        view(entry, &drawn, drawing)
    }

    /// Draws a stored profile.
    ///
    /// # Errors
    /// There is none, it has no such type, or the store's.
    pub async fn get(
        &self,
        tenant: &TenantId,
        id: &str,
        drawing: &Drawing<'_>,
    ) -> Result<AdHocView, CabinetError> {
        let entry = AdHocEntry::of_id(id)?;
        let body = self.read(tenant, id, drawing.limits).await?;
        let drawn = self.draw(body, drawing).await?;
        view(entry, &drawn, drawing)
    }

    /// A tenant's profiles, newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, tenant: &TenantId) -> Result<Vec<AdHocEntry>, CabinetError> {
        let folder = keys::ad_hoc_folder(tenant);
        let files = self.files.list(&folder, LISTED_MAX).await?;
        let mut entries: Vec<AdHocEntry> = files
            .iter()
            .filter_map(|file| AdHocEntry::of_id(file.key.filename()?).ok())
            .collect();
        entries.sort_by(|a, b| b.id.cmp(&a.id));
        Ok(entries)
    }

    /// Draws two stored profiles beside each other.
    ///
    /// # Errors
    /// One is missing, they have no type in common, or the store's.
    pub async fn diff(
        &self,
        tenant: &TenantId,
        (left, right): (&str, &str),
        drawing: &Drawing<'_>,
    ) -> Result<AdHocDiff, CabinetError> {
        AdHocEntry::of_id(left)?;
        AdHocEntry::of_id(right)?;
        let left = self.read(tenant, left, drawing.limits).await?;
        let right = self.read(tenant, right, drawing.limits).await?;
        let limit = drawing.limits.max_profile_size_bytes;
        let of_left = self.names(left.clone(), limit).await?;
        let of_right = self.names(right.clone(), limit).await?;
        let mut shared = of_left;
        shared.retain(|name| of_right.contains(name));
        let Some(first) = shared.first() else {
            return Err(CabinetError::invalid(
                "the two profiles have no sample type in common",
            ));
        };
        let drawing = Drawing {
            profile_type: Some(drawing.profile_type.unwrap_or(first)),
            ..drawing.clone()
        };
        let left = self.draw(left, &drawing).await?;
        let right = self.draw(right, &drawing).await?;
        let nodes = nodes(&drawing)?;
        let graph = render::diff(&left.tree, &right.tree, nodes)
            .map_err(|error| CabinetError::invalid(error.to_string()))?;
        Ok(AdHocDiff {
            flamebearer: json(Graph::Double(&graph), &kind_of(left.chosen()), None),
            profile_types: shared,
        })
    }

    async fn read(
        &self,
        tenant: &TenantId,
        id: &str,
        limits: &Limits,
    ) -> Result<Bytes, CabinetError> {
        let missing = || CabinetError::not_found(format!("there is no ad hoc profile {id}"));
        let most = match limits.max_profile_size_bytes {
            0 => u64::MAX,
            most => most,
        };
        let key = keys::ad_hoc(tenant, id);
        let body = self.files.get(&key, most).await?.ok_or_else(missing)?;
        if body.is_empty() {
            return Err(CabinetError::invalid(format!(
                "the ad hoc profile {id} is larger than {most} bytes (max_profile_size_bytes), which it was not when it came"
            )));
        }
        Ok(body)
    }

    /// Deletes the oldest ones when there are too many for another.
    async fn make_room(&self, tenant: &TenantId) -> Result<(), CabinetError> {
        let entries = self.list(tenant).await?;
        for entry in entries.iter().skip(PROFILES_MAX - 1) {
            self.files.delete(&keys::ad_hoc(tenant, &entry.id)).await?;
        }
        Ok(())
    }

    async fn draw(&self, body: Bytes, drawing: &Drawing<'_>) -> Result<Drawn, CabinetError> {
        // Refused before the work, not after it.
        nodes(drawing)?;
        let wanted = drawing.profile_type.map(str::to_owned);
        let limit = drawing.limits.max_profile_size_bytes;
        self.paid(body, limit, move |body| {
            draw(body, wanted.as_deref(), limit)
        })
        .await
    }

    async fn names(&self, body: Bytes, limit: u64) -> Result<Vec<String>, CabinetError> {
        let types = self.paid(body, limit, move |body| types_of(body, limit));
        Ok(types.await?.into_iter().map(|t| t.name).collect())
    }

    /// Reads a file on a thread of its own, with a permit for what that takes.
    async fn paid<T: Send + 'static>(
        &self,
        body: Bytes,
        limit: u64,
        work: impl FnOnce(&[u8]) -> Result<T, CabinetError> + Send + 'static,
    ) -> Result<T, CabinetError> {
        // A compressed file may become as large as the limit lets it.
        let size = if scoria_pprof::gunzip::is_gzip(&body) && limit > 0 {
            usize::try_from(limit).unwrap_or(usize::MAX)
        } else {
            body.len()
        };
        let permit = self
            .memory
            .try_acquire(memory_for(size))
            .map_err(|error| CabinetError::new(CabinetErrorKind::Unavailable, error.to_string()))?;
        let work = tokio::task::spawn_blocking(move || {
            let done = work(&body);
            drop(permit);
            done
        });
        work.await.map_err(|_| {
            CabinetError::new(CabinetErrorKind::Internal, "reading the profile failed")
        })?
    }
}

fn nodes(drawing: &Drawing<'_>) -> Result<usize, CabinetError> {
    max_nodes(drawing.max_nodes, drawing.limits)
        .map_err(|error| CabinetError::invalid(error.to_string()))
}

/// The type by whose unit viewers show values.
fn kind_of(name: &TypeName) -> ProfileType {
    ProfileType::new("", (&name.kind, &name.unit), ("", ""))
}

fn view(
    entry: AdHocEntry,
    drawn: &Drawn,
    drawing: &Drawing<'_>,
) -> Result<AdHocView, CabinetError> {
    let chosen = drawn.chosen();
    let graph = render::flamegraph(&drawn.tree, nodes(drawing)?);
    Ok(AdHocView {
        entry,
        profile_type: chosen.name.clone(),
        profile_types: drawn.types.iter().map(|t| t.name.clone()).collect(),
        flamebearer: json(Graph::Single(&graph), &kind_of(chosen), None),
    })
}

impl AdHocEntry {
    /// A new id: now, randomness, and the name without what an object's key should not hold.
    fn new(name: &str, now: Timestamp) -> Self {
        let random = uuid::Uuid::new_v4().as_u128() >> 48;
        let ms = u128::try_from(now.millis()).unwrap_or_default() & ((1 << 48) - 1);
        let ulid = BlockId(ms << 80 | random);
        let name: String = name.chars().filter(|c| is_kept(*c)).collect();
        let name = name.get(..NAME_BYTES_MAX).unwrap_or(&name).to_owned();
        Self {
            id: format!("{ulid}-{name}"),
            name,
            uploaded_at_ms: now.millis(),
        }
    }

    /// What an id says.
    fn of_id(id: &str) -> Result<Self, CabinetError> {
        let refuse = || {
            CabinetError::invalid(format!(
                "{:?} is no id of an ad hoc profile",
                id.get(..64).unwrap_or(id)
            ))
        };
        let (ulid, rest) = id.split_at_checked(ULID_LENGTH).ok_or_else(refuse)?;
        let name = rest.strip_prefix('-').ok_or_else(refuse)?;
        let ulid: BlockId = ulid.parse().map_err(|_| refuse())?;
        if name.len() > NAME_BYTES_MAX || !name.chars().all(is_kept) {
            return Err(refuse());
        }
        Ok(Self {
            id: id.to_owned(),
            name: name.to_owned(),
            uploaded_at_ms: i64::try_from(ulid.0 >> 80).unwrap_or_default(),
        })
    }
}

const fn is_kept(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}
