//! Profile types as the `profile_type` column spells them.

use scoria_model::ProfileType;

/// `name:sample_type:sample_unit:period_type:period_unit`, with `%` and `:` inside a part written
/// as `%25` and `%3A`, so that different types never look the same.
pub(crate) fn kind_text(kind: &ProfileType) -> String {
    let parts = [
        &kind.name,
        &kind.sample_type,
        &kind.sample_unit,
        &kind.period_type,
        &kind.period_unit,
    ];
    parts
        .map(|part| part.replace('%', "%25").replace(':', "%3A"))
        .join(":")
}
