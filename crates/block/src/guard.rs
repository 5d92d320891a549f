//! The edge to the Parquet crate.
//!
//! Its readers answer most damage with an error, but some of them unwrap. Checksums keep damaged
//! bytes away from them; this keeps bytes that were damaged before they were signed from taking a
//! process down.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{BlockError, Table};

/// Runs a piece of the Parquet crate on bytes from outside. What `work` borrows is not used again
/// after a panic.
pub(crate) fn guarded<T, E: Display>(
    table: Table,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, BlockError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|e| BlockError::damaged(table, e.to_string())),
        Err(_) => Err(BlockError::damaged(
            table,
            "its bytes are no Parquet that can be read",
        )),
    }
}
