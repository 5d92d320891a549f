//! Where things lie in the object store. Every key of ours is made here.
//!
//! ```text
//! catalogue/log/{version:020}         one commit
//! catalogue/snapshot/{version:020}    the fold of the log up to there
//! catalogue/tombstone/{id}            a deletion, as a rebuilt catalogue needs it
//! catalogue/probe-{nonce}             the start-up check for conditional writes; deleted again
//! blocks/{block}/{table}.parquet      the tables of a block
//! blocks/{block}/manifest.json        written last: what the tables are
//! tenants/{tenant}/settings/{version:020}         one version of a tenant's settings
//! tenants/{tenant}/recording-rules/{version:020}  one version of its recording rules
//! tenants/{tenant}/ad-hoc/{id}                    a profile that was uploaded to look at it
//! tenants/{tenant}/debug-info/{build id}/metadata what is known of an executable
//! tenants/{tenant}/debug-info/{build id}/exe      the executable
//! quarantine/{nonce}/{key}            what a tool set aside
//! ```
//!
//! Numbers are padded to twenty digits, so that keys sort as numbers do.

use object_store::path::Path;
use scoria_block::Table;
use scoria_model::{BlockId, CatalogueVersion, TenantId};

use crate::documents::DocumentKind;

use crate::catalogue::TombstoneId;

/// Folder of all that is the catalogue's.
pub const CATALOGUE: &str = "catalogue";
/// Folder of the log.
pub const LOG: &str = "catalogue/log";
/// Folder of the snapshots.
pub const SNAPSHOT: &str = "catalogue/snapshot";
/// Folder of the blocks.
pub const BLOCKS: &str = "blocks";
/// Folder of what tenants keep beside their profiles.
pub const TENANTS: &str = "tenants";
/// Folder of what was set aside because it is damaged or was replaced. Nothing reads or deletes it.
pub const QUARANTINE: &str = "quarantine";

/// The entry that makes `version` out of the one before.
pub fn log_entry(version: CatalogueVersion) -> Path {
    Path::from(format!("{LOG}/{:020}", version.0))
}

/// The snapshot of `version`.
pub fn snapshot(version: CatalogueVersion) -> Path {
    Path::from(format!("{SNAPSHOT}/{:020}", version.0))
}

/// The object of one start-up probe.
pub fn probe(nonce: u128) -> Path {
    Path::from(format!("catalogue/probe-{nonce:032x}"))
}

/// Folder of the tombstones.
pub const TOMBSTONE: &str = "catalogue/tombstone";

/// One deletion.
pub fn tombstone(id: TombstoneId) -> Path {
    Path::from(format!("{TOMBSTONE}/{id}"))
}

/// The block that a key below [`BLOCKS`] belongs to, if it is one of ours.
pub fn block_of(key: &Path) -> Option<BlockId> {
    let mut parts = key.parts();
    let folder = parts.next()?;
    (folder.as_ref() == BLOCKS).then(|| parts.next()?.as_ref().parse().ok())?
}

/// One table of a block.
pub fn table(block: BlockId, table: Table) -> Path {
    Path::from(format!("{BLOCKS}/{block}/{}", table.file_name()))
}

/// What a block's tables are; its presence says that they are all there.
pub fn manifest(block: BlockId) -> Path {
    Path::from(format!("{BLOCKS}/{block}/manifest.json"))
}

/// Folder of the versions of one document of a tenant.
pub fn document(tenant: &TenantId, kind: DocumentKind) -> Path {
    Path::from_iter([TENANTS, tenant.as_str(), kind.as_str()])
}

/// One version of the document whose folder is `folder`.
pub fn document_version(folder: &Path, version: u64) -> Path {
    folder.clone().join(format!("{version:020}"))
}

/// Folder of a tenant's ad hoc profiles.
pub fn ad_hoc_folder(tenant: &TenantId) -> Path {
    Path::from_iter([TENANTS, tenant.as_str(), "ad-hoc"])
}

/// One ad hoc profile.
pub fn ad_hoc(tenant: &TenantId, id: &str) -> Path {
    ad_hoc_folder(tenant).join(id)
}

/// Folder of a tenant's executables.
pub fn debug_info_folder(tenant: &TenantId) -> Path {
    Path::from_iter([TENANTS, tenant.as_str(), "debug-info"])
}

/// What is known of one executable.
pub fn debug_info_metadata(tenant: &TenantId, build_id: &str) -> Path {
    debug_info_folder(tenant).join(build_id).join("metadata")
}

/// One executable.
pub fn debug_info_exe(tenant: &TenantId, build_id: &str) -> Path {
    debug_info_folder(tenant).join(build_id).join("exe")
}

/// Where `key` is kept once it was set aside, together with all that has the same `nonce`.
pub fn quarantined(nonce: u128, key: &Path) -> Path {
    Path::from(format!("{QUARANTINE}/{nonce:032x}/{key}"))
}

/// The version that a key of the log, of a snapshot or of a document stands for, if it is one.
pub fn version_of(key: &Path) -> Option<CatalogueVersion> {
    let name = key.filename()?;
    let digits = name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        return None;
    }
    name.parse().ok().map(CatalogueVersion)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_back_and_sort() {
        let keys: Vec<Path> = [1, 9, 10, u64::MAX]
            .map(|v| log_entry(CatalogueVersion(v)))
            .into();
        assert!(keys.is_sorted());
        assert_eq!(version_of(&keys[2]), Some(CatalogueVersion(10)));
        assert_eq!(version_of(&Path::from("catalogue/log/10")), None);
        assert_eq!(
            version_of(&Path::from("catalogue/log/0000000000000000001x")),
            None
        );
        assert_eq!(
            version_of(&Path::from("catalogue/log/+0000000000000000001")),
            None
        );
    }
}
