//! The keys by which a resent profile is recognised.
//!
//! # Invariants
//! - The same upload by the same tenant gives the same key in every process and release.
//! - Keys of one kind never equal keys of another: each starts with its own byte.
//!
//! # What it must not know
//! For how long keys are remembered, and where.

use std::sync::atomic::{AtomicU64, Ordering};

use scoria_model::{RetryKey, TenantId};
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use crate::incoming::{IncomingProfile, Origin, Payload};

const BY_ID: u8 = 1;
const BY_CONTENT: u8 = 2;
const FRESH: u8 = 3;
const BY_UPLOAD: u8 = 4;

/// Makes keys.
#[derive(Debug)]
pub(crate) struct Keys {
    seed: [u8; 16],
    made: AtomicU64,
}

/// Whether uploads without an id are told apart by what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByContent {
    Recognise,
    Ignore,
}

impl Keys {
    /// `seed` is random, so that no two processes make the same fresh keys.
    pub(crate) const fn new(seed: [u8; 16]) -> Self {
        Self {
            seed,
            made: AtomicU64::new(0),
        }
    }

    /// The key of one upload. Its client's id decides if it is a UUID; else, if `by_content` says
    /// so, the labels, the times and the bytes of the upload; else nothing does and the key is a new one.
    pub(crate) fn key(
        &self,
        tenant: &TenantId,
        profile: &IncomingProfile,
        by_content: ByContent,
    ) -> RetryKey {
        let mut hash = Xxh3::new();
        if let Ok(id) = Uuid::try_parse(&profile.id) {
            hash.update(&[BY_ID]);
            put(&mut hash, tenant.as_str().as_bytes());
            hash.update(id.as_bytes());
            put_labels(&mut hash, profile);
            if let Payload::Draft(part) = &profile.payload {
                hash.update(&part.nth.to_le_bytes());
            }
        } else if by_content == ByContent::Recognise {
            put_content(&mut hash, tenant, profile);
        } else {
            hash.update(&[FRESH]);
            hash.update(&self.seed);
            hash.update(&self.made.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        }
        RetryKey(hash.digest128().to_be_bytes())
    }
}

fn put_content(hash: &mut Xxh3, tenant: &TenantId, profile: &IncomingProfile) {
    let kind = match &profile.payload {
        Payload::Pprof(_) => BY_CONTENT,
        Payload::Draft(_) => BY_UPLOAD,
    };
    hash.update(&[kind]);
    put(hash, tenant.as_str().as_bytes());
    put_labels(hash, profile);
    if let Origin::Ingest(origin) = &profile.origin {
        put(hash, origin.times_given.as_bytes());
        // They decide the name that the profile is stored under.
        if let Some(config) = &origin.sample_types {
            hash.update(&(config.display_names.len() as u64).to_le_bytes());
            for (kind, shown) in &config.display_names {
                put(hash, kind.as_bytes());
                put(hash, shown.as_bytes());
            }
        }
    }
    match &profile.payload {
        Payload::Pprof(raw) => put(hash, raw),
        Payload::Draft(part) => {
            hash.update(&part.digest.0);
            hash.update(&part.nth.to_le_bytes());
        }
    }
}

fn put_labels(hash: &mut Xxh3, profile: &IncomingProfile) {
    let mut labels: Vec<&(String, String)> = profile.labels.iter().collect();
    labels.sort_unstable();
    hash.update(&(labels.len() as u64).to_le_bytes());
    for (name, value) in labels {
        put(hash, name.as_bytes());
        put(hash, value.as_bytes());
    }
}

/// With the length in front, so that no two lists of texts look alike.
fn put(hash: &mut Xxh3, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use scoria_model::Timestamp;

    use super::*;
    use crate::incoming::IngestOrigin;
    use crate::ingest::form::SampleTypeConfig;

    fn profile(id: &str, labels: &[(&str, &str)], raw: &'static str) -> IncomingProfile {
        IncomingProfile {
            series: 0,
            labels: labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            payload: Payload::Pprof(Bytes::from_static(raw.as_bytes())),
            id: id.to_owned(),
            origin: Origin::Push,
        }
    }

    fn key(tenant: &str, profile: &IncomingProfile) -> RetryKey {
        let tenant = TenantId::parse(tenant).unwrap();
        Keys::new([0; 16]).key(&tenant, profile, ByContent::Recognise)
    }

    #[test]
    fn an_id_decides_whatever_the_bytes() {
        let id = "0190c1f6-7e6d-7c3a-9f6e-0d9c1b1f6a01";
        let labels = [("a", "1"), ("b", "2")];
        let first = key("t", &profile(id, &labels, "x"));
        let upper = id.to_uppercase();
        assert_eq!(
            first,
            key("t", &profile(&upper, &[("b", "2"), ("a", "1")], "y"))
        );
        assert_ne!(first, key("u", &profile(id, &labels, "x")));
        assert_ne!(first, key("t", &profile(id, &labels[..1], "x")));
    }

    #[test]
    fn without_an_id_labels_times_and_bytes_decide() {
        for id in ["", "not-a-uuid"] {
            let first = key("t", &profile(id, &[("a", "1")], "x"));
            assert_eq!(first, key("t", &profile("", &[("a", "1")], "x")));
            assert_ne!(first, key("t", &profile(id, &[("a", "1")], "y")));
            assert_ne!(first, key("t", &profile(id, &[("a1", "")], "x")));
            assert_ne!(first, key("u", &profile(id, &[("a", "1")], "x")));
        }
        let at = |times_given: &str| {
            let mut ingested = profile("", &[], "x");
            ingested.origin = Origin::Ingest(IngestOrigin {
                spy_name: "gospy".to_owned(),
                from: Timestamp(1),
                times_given: times_given.to_owned(),
                sample_types: None,
            });
            key("t", &ingested)
        };
        assert_eq!(at("1 2"), at("1 2"));
        assert_ne!(at("1 2"), at("1 3"));
        let shown_as = |shown: &str| {
            let mut ingested = profile("", &[], "x");
            ingested.origin = Origin::Ingest(IngestOrigin {
                spy_name: "gospy".to_owned(),
                from: Timestamp(1),
                times_given: "1 2".to_owned(),
                sample_types: Some(SampleTypeConfig {
                    display_names: vec![("contentions".to_owned(), shown.to_owned())],
                }),
            });
            key("t", &ingested)
        };
        assert_eq!(shown_as("block_count"), shown_as("block_count"));
        assert_ne!(shown_as("block_count"), shown_as("mutex_count"));
        assert_ne!(shown_as(""), at("1 2"));
    }

    #[test]
    fn a_tenant_that_opted_out_gets_a_new_key_each_time() {
        let keys = Keys::new([7; 16]);
        let tenant = TenantId::anonymous();
        let fresh = || keys.key(&tenant, &profile("", &[], "x"), ByContent::Ignore);
        assert_ne!(fresh(), fresh());
        let id = "0190c1f6-7e6d-7c3a-9f6e-0d9c1b1f6a01";
        let with_id = || keys.key(&tenant, &profile(id, &[], "x"), ByContent::Ignore);
        assert_eq!(with_id(), with_id());
    }

    #[test]
    fn keys_stay_the_same_from_release_to_release() {
        let by_content = key("t", &profile("", &[("a", "1")], "x"));
        assert_eq!(
            format!("{by_content:?}"),
            "RetryKey(6ea102c0488ca63ec9277ad9ee98be4a)"
        );
    }
}
