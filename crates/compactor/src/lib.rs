//! The compactor role: where the merging of blocks, roll-ups, retention and garbage collection go.
//!
//! Nothing is merged yet: level-0 blocks stay as their ingester wrote them, and nothing is deleted.
//! `--target compactor` is refused until there is work for it. The crate stands here because the
//! direction of its dependencies is part of the architecture: a compactor knows blocks, storage and
//! the ring, and no other role.
