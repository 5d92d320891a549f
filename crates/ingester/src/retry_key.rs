//! Retry keys of tenants: the same client id sent by two tenants is two keys.

use scoria_model::{RetryKey, TenantId};
use xxhash_rust::xxh3::Xxh3Default;

use crate::stream::NO_KEY;

/// The key under which the stream knows a part of `tenant`; no key stays none.
pub(crate) fn of_tenant(tenant: &TenantId, key: RetryKey) -> RetryKey {
    if key == NO_KEY {
        return NO_KEY;
    }
    let mut hash = Xxh3Default::new();
    hash.update(&key.0);
    hash.update(tenant.as_str().as_bytes());
    RetryKey(hash.digest128().to_be_bytes())
}
