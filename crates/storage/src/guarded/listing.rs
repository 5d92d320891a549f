//! A listing that goes on behind the last key it gave when it breaks off.

use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, Result};

use super::{GuardedStore, Kind, purpose_of_key};
use crate::error::StoreErrorKind;

/// Objects that one answer to a listing holds.
const LISTED_PER_REQUEST: u64 = 1000;

/// A listing under way.
pub(super) struct Listing {
    store: GuardedStore,
    prefix: Option<Path>,
    offset: Option<Path>,
    open: Option<BoxStream<'static, Result<ObjectMeta>>>,
    attempts: u32,
    given: u64,
}

impl Listing {
    pub(super) const fn new(
        store: GuardedStore,
        prefix: Option<Path>,
        offset: Option<Path>,
    ) -> Self {
        Self {
            store,
            prefix,
            offset,
            open: None,
            attempts: 0,
            given: 0,
        }
    }

    /// The next object, and the listing that goes on behind it.
    pub(super) async fn next(mut self) -> Result<Option<(ObjectMeta, Self)>> {
        let what = Kind::new(purpose_of_key(self.prefix.as_ref()), "iter");
        loop {
            let mut open = self.open.take().unwrap_or_else(|| match &self.offset {
                Some(offset) => self
                    .store
                    .client
                    .objects
                    .list_with_offset(self.prefix.as_ref(), offset),
                None => self.store.client.objects.list(self.prefix.as_ref()),
            });
            // Only the first of each answer's objects is a request; the rest lie in memory.
            let next = match self.given.is_multiple_of(LISTED_PER_REQUEST) {
                true => self.store.attempt(what, 0, open.try_next()).await,
                false => open.try_next().await,
            };
            let error = match next {
                Ok(None) => return Ok(None),
                Ok(Some(object)) => {
                    self.given += 1;
                    self.attempts = 0;
                    // Without an order there is no place to go on from.
                    if self.store.policy.attempts > 1 {
                        self.offset = Some(object.location.clone());
                    }
                    self.open = Some(open);
                    return Ok(Some((object, self)));
                }
                Err(error) => error,
            };
            self.attempts += 1;
            let worthwhile = StoreErrorKind::of(&error) == StoreErrorKind::Unavailable;
            if !worthwhile || self.attempts >= self.store.policy.attempts {
                return Err(error);
            }
            self.store.metrics.retried("iter");
            self.given = 0;
            tokio::time::sleep(self.store.policy.backoff(self.attempts)).await;
        }
    }
}
