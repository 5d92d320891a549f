//! Tenants: the unit of isolation.

use std::fmt;
use std::sync::Arc;

/// Longest accepted tenant id, in bytes.
pub const TENANT_ID_BYTES_MAX: usize = 150;

/// The tenant of every request while multi-tenancy is off.
pub const ANONYMOUS: &str = "anonymous";

/// A checked tenant id: 1 to 150 bytes of `A-Z a-z 0-9 ! - _ . * ' ( )`, and neither `.` nor `..`,
/// so that it can stand in an object-store path as it is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

/// Why a tenant id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantIdError {
    #[error("tenant id is empty")]
    Empty,
    #[error("tenant id is {actual} bytes long; the limit is {TENANT_ID_BYTES_MAX}")]
    TooLong { actual: usize },
    #[error("tenant id {id:?} is not allowed: it would walk up a path")]
    Reserved { id: String },
    #[error(
        "tenant id {id:?} contains the character {found:?}; allowed are letters, digits and ! - _ . * ' ( )"
    )]
    Character { id: String, found: char },
    #[error("this request takes one tenant, but {actual} were given")]
    Several { actual: usize },
}

impl TenantId {
    /// The tenant used when multi-tenancy is off.
    pub fn anonymous() -> Self {
        Self(Arc::from(ANONYMOUS))
    }

    /// Checks one id. A `:` starts metadata (`id:key=value`), which is cut off.
    ///
    /// # Errors
    /// Names the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, TenantIdError> {
        let id = text.split(':').next().unwrap_or_default();
        if id.is_empty() {
            return Err(TenantIdError::Empty);
        }
        if id.len() > TENANT_ID_BYTES_MAX {
            return Err(TenantIdError::TooLong { actual: id.len() });
        }
        if id == "." || id == ".." {
            return Err(TenantIdError::Reserved { id: id.to_owned() });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()".contains(c);
        if let Some(found) = id.chars().find(|&c| !allowed(c)) {
            return Err(TenantIdError::Character {
                id: id.to_owned(),
                found,
            });
        }
        Ok(Self(Arc::from(id)))
    }

    /// Checks `a|b|c`: sorted, without repetition, never empty.
    ///
    /// # Errors
    /// As [`TenantId::parse`], for the first id that breaks a rule.
    pub fn parse_several(text: &str) -> Result<Vec<Self>, TenantIdError> {
        let mut ids = text
            .split('|')
            .map(Self::parse)
            .collect::<Result<Vec<_>, _>>()?;
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// Checks a header that must name exactly one tenant (repetitions of one id are one).
    ///
    /// # Errors
    /// [`TenantIdError::Several`] for more than one distinct id.
    pub fn parse_single(text: &str) -> Result<Self, TenantIdError> {
        let mut ids = Self::parse_several(text)?;
        match ids.len() {
            1 => Ok(ids.remove(0)),
            actual => Err(TenantIdError::Several { actual }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_contract_lists() {
        for id in ["a", "team-1", "A.b_c*d'(e)!", "x:region=eu"] {
            assert!(TenantId::parse(id).is_ok(), "{id}");
        }
        assert_eq!(TenantId::parse("x:region=eu").unwrap().as_str(), "x");
    }

    #[test]
    fn refuses_what_could_leave_its_path() {
        for id in ["", ".", "..", "a/b", "a b", "é", &"x".repeat(151)] {
            assert!(TenantId::parse(id).is_err(), "{id}");
        }
    }

    #[test]
    fn several_are_sorted_and_single_means_one() {
        let ids = TenantId::parse_several("b|a|b").unwrap();
        assert_eq!(
            ids.iter().map(TenantId::as_str).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(TenantId::parse_single("a|a").unwrap().as_str(), "a");
        assert_eq!(
            TenantId::parse_single("a|b"),
            Err(TenantIdError::Several { actual: 2 })
        );
    }
}
