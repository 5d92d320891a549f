//! Profile types: `name:sample_type:sample_unit:period_type:period_unit`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::labels::names;
use crate::{Labels, LabelsBuilder};

/// What a column of sample values means. Empty parts stay empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileType {
    pub name: Arc<str>,
    pub sample_type: Arc<str>,
    pub sample_unit: Arc<str>,
    pub period_type: Arc<str>,
    pub period_unit: Arc<str>,
}

/// Why a profile type id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "profile type {id:?} has {parts} parts; it takes five, name:sample_type:sample_unit:period_type:period_unit, and an optional sixth, delta"
)]
pub struct ProfileTypeError {
    pub id: String,
    pub parts: usize,
}

impl ProfileType {
    pub fn new(name: &str, sample: (&str, &str), period: (&str, &str)) -> Self {
        Self {
            name: Arc::from(name),
            sample_type: Arc::from(sample.0),
            sample_unit: Arc::from(sample.1),
            period_type: Arc::from(period.0),
            period_unit: Arc::from(period.1),
        }
    }

    /// The value of a label that follows from the profile type, if `label` names one.
    /// `__period_type__` and `__period_unit__` are absent when empty.
    pub fn derived_label(&self, label: &str) -> Option<String> {
        let text = match label {
            names::PROFILE_TYPE => return Some(self.to_string()),
            names::TYPE => &self.sample_type,
            names::UNIT => &self.sample_unit,
            names::PERIOD_TYPE if !self.period_type.is_empty() => &self.period_type,
            names::PERIOD_UNIT if !self.period_unit.is_empty() => &self.period_unit,
            _ => return None,
        };
        Some(text.to_string())
    }

    /// The labels that a query sees: the stored ones and those that follow from the type and the
    /// service.
    pub fn labels_with_derived(&self, series: &Labels) -> Labels {
        let mut builder = LabelsBuilder::from_labels(series);
        for name in names::DERIVED {
            if let Some(value) = self.derived_label(name) {
                builder.set(name, &value);
            }
        }
        builder.set(names::SERVICE_NAME_PRIVATE, series.service_name());
        builder.build()
    }
}

impl fmt::Display for ProfileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            sample_type,
            sample_unit,
            period_type,
            period_unit,
        } = self;
        write!(
            f,
            "{name}:{sample_type}:{sample_unit}:{period_type}:{period_unit}"
        )
    }
}

impl FromStr for ProfileType {
    type Err = ProfileTypeError;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = id.split(':').collect();
        match parts[..] {
            [name, st, su, pt, pu] | [name, st, su, pt, pu, "delta"] => {
                Ok(Self::new(name, (st, su), (pt, pu)))
            }
            _ => Err(ProfileTypeError {
                id: id.to_owned(),
                parts: parts.len(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_round_trips_and_a_sixth_part_is_ignored() {
        let id = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
        let parsed: ProfileType = id.parse().unwrap();
        assert_eq!(parsed.to_string(), id);
        assert_eq!(
            format!("{id}:delta").parse::<ProfileType>().unwrap(),
            parsed
        );
        assert_eq!(
            "memory:live:count::"
                .parse::<ProfileType>()
                .unwrap()
                .to_string(),
            "memory:live:count::"
        );
        assert_eq!("cpu".parse::<ProfileType>().unwrap_err().parts, 1);
    }

    #[test]
    fn derived_labels_replace_what_a_client_sent() {
        let series = Labels::from_pairs([("service_name", "api"), ("__type__", "lie")]);
        let kind: ProfileType = "memory:live:count::".parse().unwrap();
        let seen = kind.labels_with_derived(&series);
        assert_eq!(seen.get("__type__"), Some("live"));
        assert_eq!(seen.get("__service_name__"), Some("api"));
        assert_eq!(seen.get("__period_type__"), None);
        assert_eq!(seen.get("__profile_type__"), Some("memory:live:count::"));
    }
}
