//! What became of a tenant's profiles that were not stored, or not whole, for the tenant to read:
//! the reason in words, what to change, an example, how often and when.
//!
//! # Invariants
//! - The memory of one tenant and that of all together are bounded in bytes; what has not been seen
//!   for longest goes first.
//! - A tenant is told of its own profiles only.
//!
//! # What it must not know
//! How it is shown.

use std::collections::HashMap;
use std::fmt::Write as _;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use scoria_model::labels::names;
use scoria_model::{DiscardReason, TenantId, Timestamp};

use crate::outcome::Refusal;

/// How much of a message and of labels is kept.
const MESSAGE_BYTES_MAX: usize = 1024;
const LABELS_BYTES_MAX: usize = 512;
/// What an entry takes beside its texts.
const ENTRY_BYTES: usize = size_of::<Entry>() + 32;

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RejectionSettings {
    pub tenant_bytes: usize,
    /// Of all tenants together.
    pub total_bytes: usize,
}

impl Default for RejectionSettings {
    fn default() -> Self {
        Self {
            tenant_bytes: 64 << 10,
            total_bytes: 8 << 20,
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Nothing was stored, and the client was told.
    Refused,
    /// The client was told that all is well, and something of what it sent is not there.
    LeftOut,
}

/// One reason for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub reason: DiscardReason,
    pub treatment: Treatment,
    /// Empty if it is not known.
    pub service: String,
    /// As the client was last told.
    pub message: String,
    /// Of one of the profiles.
    pub labels: String,
    /// Profiles that were refused; of what was left out, how much.
    pub count: u64,
    pub first: Timestamp,
    pub last: Timestamp,
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.service.len() + self.message.len() + self.labels.len()
    }

    /// What the sender can change.
    pub const fn remedy(&self) -> &'static str {
        remedy(self.reason)
    }
}

/// What was seen of one profile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    reason: DiscardReason,
    treatment: Treatment,
    message: &'a str,
    count: u64,
}

impl<'a> Seen<'a> {
    pub(crate) fn refused(refusal: &'a Refusal) -> Self {
        Self {
            reason: refusal.kind.reason(),
            treatment: Treatment::Refused,
            message: &refusal.message,
            count: 1,
        }
    }

    pub(crate) const fn dropped(reason: DiscardReason, count: u64) -> Self {
        Self {
            reason,
            treatment: Treatment::LeftOut,
            message: "",
            count,
        }
    }
}

/// The memory of all tenants.
#[derive(Debug)]
pub(crate) struct Rejections {
    settings: RejectionSettings,
    tenants: Mutex<Tenants>,
    held: Gauge,
}

#[derive(Debug, Default)]
struct Tenants {
    by_id: HashMap<TenantId, Ring>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Ring {
    entries: Vec<Entry>,
    bytes: usize,
    last: Timestamp,
}

impl Rejections {
    /// `held` shows the bytes in use.
    pub(crate) fn new(settings: RejectionSettings, held: Gauge) -> Self {
        Self {
            settings,
            tenants: Mutex::default(),
            held,
        }
    }

    /// Remembers what was seen of a profile with these labels.
    pub(crate) fn record(
        &self,
        tenant: &TenantId,
        labels: &[(String, String)],
        seen: Seen<'_>,
        now: Timestamp,
    ) {
        let mut tenants = self.tenants.lock();
        let Tenants { by_id, bytes } = &mut *tenants;
        let ring = match by_id.get_mut(tenant) {
            Some(ring) => ring,
            None => by_id.entry(tenant.clone()).or_default(),
        };
        let before = ring.bytes;
        ring.record(labels, seen, now);
        ring.shrink_to(self.settings.tenant_bytes);
        *bytes = *bytes - before + ring.bytes;
        while *bytes > self.settings.total_bytes {
            let oldest = by_id.iter().min_by_key(|(_, ring)| ring.last);
            let Some(oldest) = oldest.map(|(tenant, _)| tenant.clone()) else {
                break;
            };
            *bytes -= by_id.remove(&oldest).map_or(0, |ring| ring.bytes);
        }
        self.held.set(*bytes as i64);
    }

    /// What is remembered of a tenant, the latest first.
    pub(crate) fn of(&self, tenant: &TenantId) -> Vec<Entry> {
        let tenants = self.tenants.lock();
        let ring = tenants.by_id.get(tenant);
        let mut entries = ring.map_or_else(Vec::new, |ring| ring.entries.clone());
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.last));
        entries
    }
}

impl Ring {
    fn record(&mut self, labels: &[(String, String)], seen: Seen<'_>, now: Timestamp) {
        self.last = now;
        let service = labels.iter().find(|(name, _)| name == names::SERVICE_NAME);
        let service = cut(service.map_or("", |(_, value)| value), LABELS_BYTES_MAX);
        let same = |entry: &&mut Entry| {
            entry.reason == seen.reason
                && entry.treatment == seen.treatment
                && entry.service == service
        };
        if let Some(entry) = self.entries.iter_mut().find(same) {
            entry.count = entry.count.saturating_add(seen.count);
            entry.last = now;
            let message = cut(seen.message, MESSAGE_BYTES_MAX);
            if entry.message != message {
                self.bytes = self.bytes - entry.message.len() + message.len();
                message.clone_into(&mut entry.message);
            }
            return;
        }
        let entry = Entry {
            reason: seen.reason,
            treatment: seen.treatment,
            service: service.to_owned(),
            message: cut(seen.message, MESSAGE_BYTES_MAX).to_owned(),
            labels: shown(labels),
            count: seen.count,
            first: now,
            last: now,
        };
        self.bytes += entry.bytes();
        self.entries.push(entry);
    }

    /// Forgets what has not been seen for longest.
    fn shrink_to(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let places = self.entries.iter().enumerate();
            let Some((oldest, _)) = places.min_by_key(|(_, entry)| entry.last) else {
                return;
            };
            self.bytes -= self.entries.swap_remove(oldest).bytes();
        }
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// `{a="x", b="y"}`, as much as is kept of it.
pub(crate) fn shown(labels: &[(String, String)]) -> String {
    let mut text = String::from("{");
    for (at, (name, value)) in labels.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let (name, value) = (cut(name, LABELS_BYTES_MAX), cut(value, LABELS_BYTES_MAX));
        let _ = write!(text, "{comma}{name}={value:?}");
        if text.len() > LABELS_BYTES_MAX {
            let end = text.floor_char_boundary(LABELS_BYTES_MAX);
            text.truncate(end);
            text.push('…');
            break;
        }
    }
    text.push('}');
    text
}

const fn remedy(reason: DiscardReason) -> &'static str {
    use DiscardReason as R;
    match reason {
        R::Unknown => "look into the server's log",
        R::InvalidLabels => "mend the name or the labels as the message says",
        R::MissingLabels => "send a service_name, and at least one label",
        R::RateLimited => "send less, or have ingestion_rate_bytes or ingestion_burst_bytes raised",
        R::NotInIngestionWindow => {
            "set the sender's clock, send sooner, or have reject_older_than or reject_newer_than raised"
        }
        R::MaxLabelNamesPerSeries => "send fewer labels, or have max_label_names_per_series raised",
        R::LabelNameTooLong => "shorten the label name, or have max_label_name_length raised",
        R::LabelValueTooLong => "shorten the label value, or have max_label_value_length raised",
        R::DuplicateLabelNames => "send each label name once",
        R::SeriesLimit => "send fewer label sets",
        R::SamplesLimit => {
            "profile for a shorter time, or have max_profile_stacktrace_samples raised"
        }
        R::ProfileSizeLimit => {
            "profile for a shorter time, or have the limit that the message names raised"
        }
        R::SampleLabelsLimit => {
            "set fewer labels on samples, or have max_profile_stacktrace_sample_labels raised"
        }
        R::MalformedProfile => {
            "mend or update the sender, as the message says: what it sends breaks the format"
        }
        R::IngestLimitReached => "wait until the quota is renewed, or have it raised",
        R::DroppedBySamplingRules => {
            "nothing, if the operator's sampling is meant for this service"
        }
        R::BodySizeLimitExceeded => {
            "send fewer profiles in one request, or have ingestion_body_limit_bytes raised"
        }
        R::DroppedByRelabelRules => "nothing, if the operator's rules are meant for these labels",
        R::EmptyProfile => "nothing, if the program was idle; else look what the profiler records",
        R::Duplicate => {
            "nothing, if it was sent again: it is stored once; profiles that are alike and new need times or ids of their own"
        }
        R::NegativeValue => "send profiles, not differences between two of them",
        R::ZeroValue => "nothing: they add nothing",
        R::BrokenReference => {
            "mend or update the sender: its samples use locations, functions or mappings that it does not send"
        }
        R::NumericLabel => "send the label as text if it is needed",
        R::FrameType => "nothing: frames are stored without it, their function and mapping tell",
        R::UnusableAttribute => "send the attribute as text or as a whole number if it is needed",
        R::MalformedSpanId => "send 16 hexadecimal digits for a span and 32 for a trace",
        R::LabelDemoted => {
            "set fewer labels, with fewer values, on samples, or have max_promoted_labels_per_series, max_promoted_series_per_profile or promoted_labels_deny changed"
        }
        R::MalformedLine => {
            "send lines of frames with semicolons between them, a space and a number"
        }
        R::ExemplarProfile => "nothing: the profile sent beside it contains it",
        R::DepthTruncated => "have max_profile_stacktrace_depth raised",
        R::SymbolTruncated => "have max_profile_symbol_value_length raised",
        R::Overloaded => "send it again later; the server needs more memory if this goes on",
        R::Unavailable => "send it again later; the server's log says what is wrong",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(service: &str) -> Vec<(String, String)> {
        vec![("service_name".to_owned(), service.to_owned())]
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    fn rejections(tenant_bytes: usize, total_bytes: usize) -> Rejections {
        let settings = RejectionSettings {
            tenant_bytes,
            total_bytes,
        };
        Rejections::new(settings, Gauge::default())
    }

    #[test]
    fn one_entry_for_a_reason_and_a_service_and_only_for_their_tenant() {
        let kept = rejections(64 << 10, 1 << 20);
        let refusal = Refusal::invalid(DiscardReason::SamplesLimit, "too many");
        for (at, service) in [(1, "a"), (2, "b"), (3, "a")] {
            let seen = Seen::refused(&refusal);
            kept.record(&tenant("t"), &labels(service), seen, Timestamp(at));
        }
        let zero = Seen::dropped(DiscardReason::ZeroValue, 7);
        kept.record(&tenant("t"), &labels("a"), zero, Timestamp(0));
        let told: Vec<_> = kept
            .of(&tenant("t"))
            .into_iter()
            .map(|e| (e.reason.as_str(), e.service, e.count, e.first.0, e.last.0))
            .collect();
        let a = "a".to_owned();
        assert_eq!(
            told,
            [
                ("samples_limit", a.clone(), 2, 1, 3),
                ("samples_limit", "b".to_owned(), 1, 2, 2),
                ("zero_value", a, 7, 0, 0),
            ]
        );
        let first = &kept.of(&tenant("t"))[0];
        assert_eq!(first.labels, "{service_name=\"a\"}");
        assert!(first.remedy().contains("max_profile_stacktrace_samples"));
        assert!(kept.of(&tenant("u")).is_empty());
    }

    #[test]
    fn memory_is_bounded_for_each_tenant_and_for_all() {
        let kept = rejections(8 << 10, 20 << 10);
        let refusal = Refusal::invalid(DiscardReason::SamplesLimit, "m".repeat(5000));
        for at in 0..200_i64 {
            let of = tenant(&format!("t{}", at / 50));
            let service = format!("{at}-{}", "x".repeat(2000));
            kept.record(
                &of,
                &labels(&service),
                Seen::refused(&refusal),
                Timestamp(at),
            );
        }
        let held = |n: i64| -> usize {
            let entries = kept.of(&tenant(&format!("t{n}")));
            entries.iter().map(Entry::bytes).sum()
        };
        let all: Vec<usize> = (0..4).map(held).collect();
        assert!(all.iter().all(|bytes| *bytes <= 8 << 10), "{all:?}");
        assert_eq!(all.iter().sum::<usize>() as i64, kept.held.get());
        assert!(kept.held.get() <= 20 << 10);
        assert_eq!(all[0], 0, "the tenant seen longest ago went first");
        let last = &kept.of(&tenant("t3"))[0];
        assert_eq!(last.last, Timestamp(199));
    }
}
