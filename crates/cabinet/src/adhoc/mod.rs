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
//! - Reading and drawing are paid for from a budget before they start, and an answer keeps what it
//!   holds until it is dropped.

mod flamebearer;
pub mod forms;
mod perf_script;
mod pprof_tree;
#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use scoria_model::{BlockId, ByteBudget, Limits, Permit, ProfileType, TenantId, Timestamp};
use scoria_query::render::flamebearer::{Graph, json};
use scoria_query::render::{self, cost};
use scoria_query::request::max_nodes;
use scoria_storage::{TenantFiles, keys};

use self::forms::{TypeName, draw, memory_for, types_of};
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
#[derive(Debug)]
pub struct AdHocView {
    pub entry: AdHocEntry,
    pub drawn: AdHocGraph,
}

/// A flame graph, of one profile or of two beside each other.
#[derive(Debug)]
pub struct AdHocGraph {
    /// The one that is drawn.
    pub profile_type: String,
    /// Those to choose from: of two files the ones that both hold.
    pub profile_types: Vec<String>,
    /// The JSON that `/pyroscope/render` or `/pyroscope/render-diff` answers.
    pub flamebearer: String,
    /// What it is accounted with; keep it until the answer has been written.
    pub memory: Permit,
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
        Ok(AdHocView { entry, drawn })
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
        Ok(AdHocView { entry, drawn })
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
    ) -> Result<AdHocGraph, CabinetError> {
        AdHocEntry::of_id(left)?;
        AdHocEntry::of_id(right)?;
        let shape = Shape::of(drawing)?;
        let left = self.read(tenant, left, drawing.limits).await?;
        let right = self.read(tenant, right, drawing.limits).await?;
        let bytes = shape.reading(&left).max(shape.reading(&right));
        self.paid(bytes, move |memory| {
            shape.double((&left[..], &right[..]), memory)
        })
        .await
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

    async fn draw(&self, body: Bytes, drawing: &Drawing<'_>) -> Result<AdHocGraph, CabinetError> {
        // Refused before the work, not after it.
        let shape = Shape::of(drawing)?;
        let bytes = shape.reading(&body);
        self.paid(bytes, move |memory| shape.single(&body, memory))
            .await
    }

    /// Works on a thread of its own, with a permit for so many bytes, which the work gives back or
    /// keeps.
    async fn paid<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce(Permit) -> Result<T, CabinetError> + Send + 'static,
    ) -> Result<T, CabinetError> {
        let permit = self.memory.try_acquire(bytes).map_err(no_memory)?;
        let work = tokio::task::spawn_blocking(move || work(permit));
        work.await.map_err(|_| {
            CabinetError::new(CabinetErrorKind::Internal, "reading the profile failed")
        })?
    }
}

fn no_memory(error: impl std::fmt::Display) -> CabinetError {
    CabinetError::new(CabinetErrorKind::Unavailable, error.to_string())
}

/// What a graph is to be.
#[derive(Debug)]
struct Shape {
    /// One of the file's types, if it is said which.
    wanted: Option<String>,
    nodes: usize,
    /// Most bytes of a file, decompressed; 0 means no limit.
    limit: u64,
}

impl Shape {
    fn of(drawing: &Drawing<'_>) -> Result<Self, CabinetError> {
        let nodes = max_nodes(drawing.max_nodes, drawing.limits);
        let wanted = drawing.profile_type.filter(|wanted| !wanted.is_empty());
        Ok(Self {
            wanted: wanted.map(str::to_owned),
            nodes: nodes.map_err(|error| CabinetError::invalid(error.to_string()))?,
            limit: drawing.limits.max_profile_size_bytes,
        })
    }

    /// Memory that reading a file takes. A compressed one may become as large as the limit lets it.
    fn reading(&self, body: &[u8]) -> u64 {
        let is_gzip = scoria_pprof::gunzip::is_gzip(body);
        memory_for(match usize::try_from(self.limit) {
            Ok(limit) if is_gzip && limit > 0 => limit,
            _ => body.len(),
        })
    }

    fn single(&self, body: &[u8], mut memory: Permit) -> Result<AdHocGraph, CabinetError> {
        let drawn = draw(body, self.wanted.as_deref(), self.limit)?;
        memory.shrink_to(drawn.tree.bytes());
        let mut take = |bytes| memory.grow(bytes).map_err(no_memory);
        take(cost::cutting(&drawn.tree, self.nodes))?;
        let cut = render::truncate(drawn.tree.clone(), self.nodes);
        take(cost::flamegraph(&cut))?;
        let graph = render::flamegraph(&cut, 0);
        let chosen = drawn.chosen();
        Ok(AdHocGraph {
            profile_type: chosen.name.clone(),
            profile_types: drawn.types.iter().map(|t| t.name.clone()).collect(),
            flamebearer: json(Graph::Single(&graph), &kind_of(chosen), None),
            memory,
        })
    }

    /// Reads one file after the other, as both at once would take twice as much.
    fn double(
        &self,
        (left, right): (&[u8], &[u8]),
        mut memory: Permit,
    ) -> Result<AdHocGraph, CabinetError> {
        let shared = shared_types(&types_of(left, self.limit)?, &types_of(right, self.limit)?)?;
        let first = || shared.first().map(String::as_str);
        let wanted = self.wanted.as_deref().or_else(first);
        let read = |body| draw(body, wanted, self.limit);
        let left = read(left)?;
        memory.shrink_to(left.tree.bytes());
        let mut take = |bytes| memory.grow(bytes).map_err(no_memory);
        take(self.reading(right))?;
        let right = read(right)?;
        memory.shrink_to(left.tree.bytes() + right.tree.bytes());
        let mut take = |bytes| memory.grow(bytes).map_err(no_memory);
        let both = [&left.tree, &right.tree];
        take(
            both.map(|tree| cost::cutting(tree, self.nodes))
                .iter()
                .sum(),
        )?;
        let side = |tree| render::side(tree, self.nodes);
        let refused = |error: render::NegativeValue| CabinetError::invalid(error.to_string());
        let sides = (
            side(&left.tree).map_err(refused)?,
            side(&right.tree).map_err(refused)?,
        );
        take(cost::diff(&sides.0, &sides.1))?;
        let graph = render::diff_of_sides(&sides.0, &sides.1, self.nodes);
        let chosen = left.chosen();
        Ok(AdHocGraph {
            profile_type: chosen.name.clone(),
            profile_types: shared,
            flamebearer: json(Graph::Double(&graph), &kind_of(chosen), None),
            memory,
        })
    }
}

/// The types of which both files have values.
fn shared_types(left: &[TypeName], right: &[TypeName]) -> Result<Vec<String>, CabinetError> {
    let mut names = left.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
    names.retain(|name| right.iter().any(|t| t.name == *name));
    if names.is_empty() {
        return Err(CabinetError::invalid(
            "the two profiles have no sample type in common",
        ));
    }
    Ok(names)
}

/// The type by whose unit viewers show values.
fn kind_of(name: &TypeName) -> ProfileType {
    ProfileType::new("", (&name.kind, &name.unit), ("", ""))
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
