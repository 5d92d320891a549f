//! From the labels of an upload and of a sample to the labels of a stored series.
//!
//! # Invariants
//! - On a clash the upload's label wins over the sample's.
//! - What the server derives or only uses on the way in (`__delta__`, `__order__`, …) is counted
//!   against the limits if the client sent it, and not stored.

use std::borrow::Cow;

use scoria_model::labels::names;
use scoria_model::{DiscardReason, Limits};

use crate::policy::{DefaultRules, LabelNames};
use crate::rejection::{LabelText, Shown};
use crate::relabel::{self, Pair, Verdict};
use crate::{Policy, Rejection};

pub(crate) const UNKNOWN_SERVICE: &str = "unknown_service";
/// Go's own delta profiles carry the delta in their name.
const GO_DELTA_PREFIX: &str = "godeltaprof_";
const NAME_REPLACED: &str = "__name_replaced__";

/// What becomes of a label set.
#[derive(Debug)]
pub(crate) enum Finished<'a> {
    /// Sorted, ready to store.
    Series(Vec<Pair<'a>>),
    /// A rule drops it.
    Dropped,
}

/// Collects the labels of one series.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeriesLabels<'a> {
    pairs: Vec<Pair<'a>>,
}

impl<'a> SeriesLabels<'a> {
    /// The labels as the client sent them, repetitions included.
    pub(crate) fn of_upload(labels: &[(&'a str, &'a str)]) -> Self {
        let owned = labels.iter().map(|&(n, v)| (Cow::from(n), Cow::from(v)));
        Self {
            pairs: owned.collect(),
        }
    }

    pub(crate) fn set(&mut self, name: &'a str, value: String) {
        match self.pairs.iter_mut().find(|pair| pair.0 == name) {
            Some(pair) => pair.1 = Cow::from(value),
            None => self.pairs.push((Cow::from(name), Cow::from(value))),
        }
    }

    pub(crate) fn pairs(&self) -> &[Pair<'a>] {
        &self.pairs
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let pair = self.pairs.iter().find(|pair| pair.0 == name)?;
        Some(pair.1.as_ref())
    }

    /// Refuses at once what no sample could make acceptable, so that the labels which all series
    /// share are few when they are copied for each.
    pub(crate) fn check_count(&self, limits: &Limits, policy: &Policy) -> Result<(), Rejection> {
        let n = self.pairs.len();
        let rules_may_help = !policy.relabelling.is_empty() && n <= relabel::LABELS_MAX;
        if Limits::exceeded(n as u64, limits.max_label_names_per_series) && !rules_may_help {
            check(&self.pairs, limits)?;
        }
        Ok(())
    }

    /// Adds labels of a sample, by name, unless the series has one of that name; how many found no
    /// room.
    pub(crate) fn promote(&mut self, labels: &mut [(&'a str, &'a str)], limits: &Limits) -> u64 {
        let room = self.room(limits);
        labels.sort_unstable();
        let (mut added, mut demoted) = (0, 0);
        for &(name, value) in &*labels {
            if value.is_empty() || self.get(name).is_some() {
                continue;
            }
            if added < room {
                self.pairs.push((Cow::from(name), Cow::from(value)));
                added += 1;
            } else {
                demoted += 1;
            }
        }
        demoted
    }

    /// How many sample labels may be added.
    fn room(&self, limits: &Limits) -> u64 {
        let unlimited = |limit| if limit == 0 { u64::MAX } else { limit };
        // What the server adds is not to push the series over.
        let go_delta = self
            .get(names::NAME)
            .is_some_and(|name| name.starts_with(GO_DELTA_PREFIX));
        let own = self.pairs.len()
            + usize::from(self.get(names::SERVICE_NAME).is_none())
            + usize::from(go_delta)
            + usize::from(go_delta && self.get(names::DELTA).is_none());
        let left = unlimited(limits.max_label_names_per_series).saturating_sub(own as u64);
        left.min(unlimited(limits.max_promoted_labels_per_series))
    }

    /// Session ids are without number; they are reduced to a few, or to none.
    pub(crate) fn reduce_session(&mut self, max_sessions: u64) {
        let Some(at) = self.pairs.iter().position(|p| p.0 == names::SESSION_ID) else {
            return;
        };
        match (session_id(&self.pairs[at].1), max_sessions) {
            (Some(id), 1..) => {
                self.pairs[at].1 = Cow::from(session_text(id % max_sessions));
            }
            _ => drop(self.pairs.remove(at)),
        }
    }

    /// Applies what holds for every series, the policy's rules, then the checks.
    pub(crate) fn finish(
        mut self,
        limits: &Limits,
        policy: &Policy,
    ) -> Result<Finished<'a>, Rejection> {
        self.name_service();
        if policy.default_rules == DefaultRules::First {
            self.rename_go_delta();
        }
        if relabel::apply(&policy.relabelling, &mut self.pairs) == Verdict::Drop {
            return Ok(Finished::Dropped);
        }
        if policy.default_rules == DefaultRules::Last {
            self.rename_go_delta();
        }
        if policy.label_names == LabelNames::Plain {
            self.make_names_plain()?;
        }
        self.pairs.sort();
        check(&self.pairs, limits)?;
        self.pairs.retain(|(name, _)| is_stored(name));
        Ok(Finished::Series(self.pairs))
    }

    fn name_service(&mut self) {
        match self.pairs.iter_mut().find(|p| p.0 == names::SERVICE_NAME) {
            Some(pair) if pair.1.is_empty() => pair.1 = Cow::from(UNKNOWN_SERVICE),
            Some(_) => {}
            None => {
                let service = (Cow::from(names::SERVICE_NAME), Cow::from(UNKNOWN_SERVICE));
                self.pairs.push(service);
            }
        }
    }

    /// Dots become underscores; what is no plain name then is refused. A name that is made and was
    /// there already is one of two of that name, which the checks refuse unless they are equal.
    fn make_names_plain(&mut self) -> Result<(), Rejection> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        for (name, _) in &mut self.pairs {
            if name.contains('.') {
                *name = Cow::from(name.replace('.', "_"));
            }
            if !name.bytes().all(plain) {
                let message = format!(
                    "invalid labels with error: the label name '{}' holds more than letters, digits, '_' and '.' (disable_label_sanitization is false)",
                    Shown(name)
                );
                return Err(Rejection::new(DiscardReason::InvalidLabels, message));
            }
        }
        self.pairs.sort();
        self.pairs.dedup();
        Ok(())
    }

    fn rename_go_delta(&mut self) {
        let Some(name) = self.get(names::NAME) else {
            return;
        };
        let Some(short) = name.strip_prefix(GO_DELTA_PREFIX) else {
            return;
        };
        let (short, long) = (short.to_owned(), name.to_owned());
        self.set(names::NAME, short);
        self.set(NAME_REPLACED, long);
        self.set(names::DELTA, "false".to_owned());
    }
}

fn is_stored(name: &str) -> bool {
    name != names::DELTA && name != names::ORDER && !names::DERIVED.contains(&name)
}

fn check(pairs: &[Pair<'_>], limits: &Limits) -> Result<(), Rejection> {
    use DiscardReason as Reason;
    let borrowed: Vec<(&str, &str)> = pairs
        .iter()
        .map(|(n, v)| (n.as_ref(), v.as_ref()))
        .collect();
    let text = LabelText(&borrowed);
    let refuse = |reason, message: String| Err(Rejection::new(reason, message));
    let n = pairs.len() as u64;
    let max = limits.max_label_names_per_series;
    if n == 0 {
        return refuse(
            Reason::MissingLabels,
            "at least one label pair is required per profile".to_owned(),
        );
    }
    if Limits::exceeded(n, max) {
        return refuse(
            Reason::MaxLabelNamesPerSeries,
            format!(
                "profile series '{text}' has {n} label names; limit {max} (max_label_names_per_series)"
            ),
        );
    }
    let value_of = |name: &str| {
        let pair = borrowed.iter().find(|pair| pair.0 == name);
        pair.map_or("", |pair| pair.1)
    };
    if value_of(names::NAME).is_empty() {
        let message = format!(
            "invalid labels '{text}' with error: the label {} is missing or empty",
            names::NAME
        );
        return refuse(Reason::InvalidLabels, message);
    }
    if value_of(names::SERVICE_NAME).is_empty() {
        let message = format!(
            "profile with labels '{text}' has no {}",
            names::SERVICE_NAME
        );
        return refuse(Reason::MissingLabels, message);
    }
    let mut before = None;
    for &(name, value) in &borrowed {
        check_one(text, (name, value), limits)?;
        if before == Some(name) {
            let message = format!(
                "profile with labels '{text}' has duplicate label name: '{}'",
                Shown(name)
            );
            return refuse(Reason::DuplicateLabelNames, message);
        }
        before = Some(name);
    }
    Ok(())
}

fn check_one(
    text: LabelText<'_>,
    (name, value): (&str, &str),
    limits: &Limits,
) -> Result<(), Rejection> {
    let too_long = |reason, what: &str, key: &str, actual: usize, limit: u64| {
        let message = format!(
            "profile with labels '{text}' has label {what} too long: '{}' ({key}, actual: {actual}, limit: {limit})",
            Shown(name)
        );
        Err(Rejection::new(reason, message))
    };
    if Limits::exceeded(name.len() as u64, limits.max_label_name_length) {
        return too_long(
            DiscardReason::LabelNameTooLong,
            "name",
            "max_label_name_length",
            name.len(),
            limits.max_label_name_length,
        );
    }
    if Limits::exceeded(value.len() as u64, limits.max_label_value_length) {
        return too_long(
            DiscardReason::LabelValueTooLong,
            "value",
            "max_label_value_length",
            value.len(),
            limits.max_label_value_length,
        );
    }
    if name.is_empty() {
        let message = format!("invalid labels '{text}' with error: a label name is empty");
        return Err(Rejection::new(DiscardReason::InvalidLabels, message));
    }
    Ok(())
}

/// 16 hexadecimal digits of eight bytes, the lowest first.
fn session_id(text: &str) -> Option<u64> {
    hex::<8>(text.as_bytes()).map(u64::from_le_bytes)
}

fn session_text(id: u64) -> String {
    id.to_le_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// Exactly 2 × `N` hexadecimal digits.
pub(crate) fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut out = [0; N];
    for (byte, &[high, low]) in out.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(out)
}

const fn digit(text: u8) -> Option<u8> {
    match text {
        b'0'..=b'9' => Some(text - b'0'),
        b'a'..=b'f' => Some(text - b'a' + 10),
        b'A'..=b'F' => Some(text - b'A' + 10),
        _ => None,
    }
}
