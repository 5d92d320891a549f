//! Targets: which roles a process runs.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A role that this build can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Distributor,
    Ingester,
    Querier,
    Compactor,
}

impl Target {
    pub const ALL: [Self; 4] = [
        Self::Distributor,
        Self::Ingester,
        Self::Querier,
        Self::Compactor,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Distributor => "distributor",
            Self::Ingester => "ingester",
            Self::Querier => "querier",
            Self::Compactor => "compactor",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of roles, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets(BTreeSet<Target>);

/// Why a list of targets was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("no target given; write all, or some of distributor, ingester, querier, compactor")]
    Empty,
    #[error(
        "there is no target {0:?}; write all, or some of distributor, ingester, querier, compactor"
    )]
    Unknown(String),
    #[error(
        "the targets {0} cannot run alone: distributor, ingester and querier are connected inside one process only; run --target all, or --target compactor beside it"
    )]
    Apart(String),
}

impl Targets {
    pub fn all() -> Self {
        Self(Target::ALL.into_iter().collect())
    }

    pub fn contains(&self, target: Target) -> bool {
        self.0.contains(&target)
    }
}

impl FromStr for Targets {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let mut targets = BTreeSet::new();
        for name in text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            match name {
                "all" => targets.extend(Target::ALL),
                _ => {
                    let known = Target::ALL.into_iter().find(|t| t.as_str() == name);
                    targets.insert(known.ok_or_else(|| TargetError::Unknown(name.to_owned()))?);
                }
            }
        }
        if targets.is_empty() {
            return Err(TargetError::Empty);
        }
        let targets = Self(targets);
        // Distributor and querier need an ingester to talk to, and an ingester alone is reached by
        // nobody: addresses of other processes are not configurable. A compactor needs none.
        let connected = Target::ALL.into_iter().filter(|t| *t != Target::Compactor);
        let n = connected.filter(|target| targets.contains(*target)).count();
        if n != 0 && n != Target::ALL.len() - 1 {
            return Err(TargetError::Apart(targets.to_string()));
        }
        Ok(targets)
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == Target::ALL.len() {
            return f.write_str("all");
        }
        for (at, target) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "," };
            write!(f, "{separator}{target}")?;
        }
        Ok(())
    }
}

impl Serialize for Targets {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!("all".parse(), Ok(Targets::all()));
        let spelled_out = "querier, ingester,distributor,compactor,".parse::<Targets>();
        assert_eq!(spelled_out, Ok(Targets::all()));
        assert_eq!(Targets::all().to_string(), "all");
        let refused = |text: &str| text.parse::<Targets>().unwrap_err();
        assert_eq!(refused(""), TargetError::Empty);
        let alone = "compactor".parse::<Targets>().unwrap();
        assert!(alone.contains(Target::Compactor) && !alone.contains(Target::Ingester));
        let without = "distributor,ingester,querier".parse::<Targets>().unwrap();
        assert!(!without.contains(Target::Compactor));
        assert_eq!(refused("all,reader"), TargetError::Unknown("reader".into()));
        assert_eq!(refused("querier"), TargetError::Apart("querier".into()));
    }
}
