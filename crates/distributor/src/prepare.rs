//! From one incoming profile to the part that an ingester gets: the steps whose order decides what
//! is charged and counted.
//!
//! ```text
//! size known? permit ─► decompress ─► admit (charge, sample) ─► decode, check, normalise ─► part
//! ```
//!
//! # Invariants
//! - Memory for what is decompressed, and for what it is decoded into, is taken from the budget
//!   before it is decompressed; what the part needs is held until it is stored.
//! - What was sent is given back as soon as it is decoded, before there is a second copy of it.
//! - Every profile that is not handed on is counted by reason, and so is everything left out of one
//!   that is.
//!
//! # What it must not know
//! Ingesters, and how many there are.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use scoria_model::budget::BudgetExceeded;
use scoria_model::labels::names;
use scoria_model::part::Part;
use scoria_model::{
    ByteBudget, Clock, DiscardReason, Limits, Permit, RetryKey, TenantId, Timestamp,
};
use scoria_pprof::gunzip::is_gzip;
use scoria_pprof::otlp::Export;
use scoria_pprof::policy::Keep;
use scoria_pprof::{
    About, Decompressor, Draft, Dropped, GunzipError, Ingest, Joined, Normalised, Normaliser,
    Policy, Rejection, Told, Upload,
};

use crate::admit::Charge;
use crate::incoming::{IncomingProfile, Origin, Payload, SentAs};
use crate::key::{ByContent, Keys};
use crate::known::Known;
use crate::metrics::{Metrics, Received, name_of};
use crate::outcome::{Refusal, RefusalKind};
use crate::parcel::Accepted;
use crate::policy::TenantPolicy;
use crate::quota::Quotas;
use crate::rate::RateLimiter;
use crate::rejections::{Rejections, Seen};
use crate::workers::{Worker, Workers};

/// When to come again after the memory ran out: it is given back within a request's time.
pub(crate) const MEMORY_RETRY_AFTER: Duration = Duration::from_secs(1);
const GZIP_MEMBER: [u8; 3] = [0x1f, 0x8b, 8];
/// What a profile of one byte takes at most until it is a part: itself, the columns that it is read
/// into, and the part (`tests/memory.rs` measures it). As it was sent, whoever read it has paid for.
const DECODED_TIMES: u64 = 3;
/// No deflate stream expands more than this.
const EXPANSION_MAX: u64 = 1032;

/// What preparing needs beside the profile.
#[derive(Debug)]
pub(crate) struct Preparation {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) bodies: ByteBudget,
    pub(crate) keys: Keys,
    pub(crate) rates: RateLimiter,
    pub(crate) quotas: Quotas,
    pub(crate) known: Known,
    pub(crate) rejections: Rejections,
    pub(crate) metrics: Metrics,
    pub(crate) workers: Workers,
}

/// Where a profile goes.
#[derive(Debug)]
pub(crate) enum Into<'i> {
    /// Into a part of its own.
    Own,
    /// Into one that it shares with the others of an export, which is not needed if the profile's
    /// stacktraces are in the part already; then with what the part held without them.
    Joined(&'i mut Joined, Option<&'i Export<'i>>, Option<Sizes>),
}

impl Into<'_> {
    /// What the part holds that it goes into.
    fn sizes(&self) -> Sizes {
        match self {
            Self::Own => Sizes::default(),
            Self::Joined(joined, _, before) => before.unwrap_or_else(|| Sizes::of(joined.part())),
        }
    }
}

/// How much a part holds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sizes {
    samples_bytes: usize,
    symbols_bytes: usize,
    profiles: usize,
}

impl Sizes {
    pub(crate) fn of(part: &Part) -> Self {
        Self {
            samples_bytes: 4 * part.frames.len()
                + 4 * part.stack_ends.len()
                + 12 * part.sample_value.len(),
            symbols_bytes: part.strings.bytes.len()
                + 20 * part.functions.len()
                + 24 * part.locations.len()
                + 36 * part.mappings.len(),
            profiles: part.profiles.len(),
        }
    }
}

/// A profile that has been normalised.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Empty if it went into a shared one.
    pub(crate) part: Part,
    pub(crate) accepted: Accepted,
    /// Covers what it was made of.
    pub(crate) permit: Permit,
}

/// A profile that is ready to be stored by itself.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// As [`Part::encode`] writes it.
    pub(crate) part: Bytes,
    pub(crate) accepted: Accepted,
    /// Covers the part, and the copy of it that is on its way to the ingester.
    pub(crate) permit: Permit,
}

/// Why there is nothing to store. Boxed: a request can hold thousands of small profiles, of which
/// hardly any is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The profile has no samples, or none that could be kept.
    Empty,
    /// By a sampling rule.
    SampledOut,
    Profile(Box<Refusal>),
    /// Nothing of the whole request may be stored.
    Request(Box<Refusal>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Profile(Box::new(refusal))
    }
}

/// A profile whose content has been taken out of it.
struct Keyed<'a> {
    profile: &'a IncomingProfile,
    labels: &'a [(&'a str, &'a str)],
    /// By which a resend is recognised.
    key: RetryKey,
}

/// One request on its way through the preparation.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) preparation: &'a Preparation,
    pub(crate) tenant: &'a TenantId,
    pub(crate) policy: &'a TenantPolicy,
    pub(crate) now: Timestamp,
    /// Decompressed bytes of the profiles so far.
    pub(crate) sum: u64,
}

impl Preparation {
    pub(crate) fn batch<'a>(&'a self, tenant: &'a TenantId, policy: &'a TenantPolicy) -> Batch<'a> {
        Batch {
            preparation: self,
            tenant,
            policy,
            now: self.clock.now(),
            sum: 0,
        }
    }
}

impl Batch<'_> {
    /// Prepares the profiles in order, each on its own.
    ///
    /// # Errors
    /// The request as a whole breaks a limit.
    pub(crate) fn prepare(
        mut self,
        profiles: &mut [IncomingProfile],
    ) -> Result<Vec<Result<Prepared, Stop>>, Refusal> {
        let wire_bytes: Vec<u64> = profiles
            .iter()
            .map(|profile| profile.payload.wire_bytes())
            .collect();
        let mut worker = self.preparation.workers.take();
        let prepared = profiles
            .iter_mut()
            .map(
                |profile| match self.profile(&mut worker, profile, Into::Own, Ready::encode) {
                    Err(Stop::Request(refusal)) => Err(*refusal),
                    other => Ok(other),
                },
            )
            .collect();
        self.preparation.workers.give_back(worker);
        if let Err(refusal) = &prepared {
            let reason = refusal.kind.reason();
            for (profile, bytes) in profiles.iter().zip(wire_bytes) {
                self.discarded(reason, bytes);
                self.remember(profile, Seen::refused(refusal));
            }
        }
        prepared
    }

    /// Prepares one profile and gives back what was sent of it. `finish` makes of it what is kept.
    pub(crate) fn profile<T>(
        &mut self,
        worker: &mut Worker,
        profile: &mut IncomingProfile,
        into: Into<'_>,
        finish: impl FnOnce(Ready, &mut Normaliser) -> Result<T, Refusal>,
    ) -> Result<T, Stop> {
        self.preparation.metrics.arrived(self.tenant, profile);
        let mut charged = profile.payload.wire_bytes();
        let ready = self.ready(worker, profile, into, &mut charged);
        profile.payload.release();
        let finished = ready.and_then(|ready| Ok(finish(ready, &mut worker.normaliser)?));
        match finished {
            Err(Stop::Profile(refusal)) => {
                self.discarded(refusal.kind.reason(), charged);
                self.remember(profile, Seen::refused(&refusal));
                Err(refusal.of(profile).into())
            }
            Err(Stop::SampledOut) => {
                let reason = DiscardReason::DroppedBySamplingRules;
                self.discarded(reason, charged);
                self.remember(profile, Seen::dropped(reason, 1));
                Err(Stop::SampledOut)
            }
            other => other,
        }
    }

    /// Counts and remembers a profile that never came so far.
    pub(crate) fn refuse(&self, refusal: &Refusal, bytes: u64, labels: &[(String, String)]) {
        self.discarded(refusal.kind.reason(), bytes);
        let rejections = &self.preparation.rejections;
        rejections.record(self.tenant, labels, Seen::refused(refusal), self.now);
    }

    fn ready(
        &mut self,
        worker: &mut Worker,
        profile: &mut IncomingProfile,
        mut into: Into<'_>,
        charged: &mut u64,
    ) -> Result<Ready, Stop> {
        let started = self.preparation.clock.monotonic();
        let compressed = profile.payload.wire_bytes();
        let before = into.sizes();
        let (told, part, permit) = self.normalise(worker, profile, &mut into, charged)?;
        // There would else be three copies of it at the same time.
        profile.payload.release();
        worker.decompressor.give_back();

        let took = self.preparation.clock.monotonic().saturating_sub(started);
        let whole = match &into {
            Into::Own => &part,
            Into::Joined(joined, ..) => joined.part(),
        };
        self.observe(
            profile,
            &told,
            (whole, before),
            (compressed, *charged, took),
        );
        let refused = self.partly_refused(&told.refused);
        if whole.profiles.len() == before.profiles {
            worker.normaliser.take_back(part);
            let reason = why_empty(&told.dropped);
            self.discarded(reason, *charged);
            // Samples that were dropped for this reason have been remembered with their number.
            if reason == DiscardReason::EmptyProfile {
                self.remember(profile, Seen::dropped(reason, 1));
            }
            return Err(Stop::Empty);
        }
        if let Some(refusal) = &refused {
            self.remember(profile, Seen::refused(refusal));
        }
        let accepted = Accepted {
            bytes: *charged,
            refused: refused.map(Box::new),
        };
        Ok(Ready {
            part,
            accepted,
            permit,
        })
    }

    /// What became of a profile, its part if it has one of its own, and what covers it.
    fn normalise(
        &mut self,
        worker: &mut Worker,
        profile: &mut IncomingProfile,
        into: &mut Into<'_>,
        charged: &mut u64,
    ) -> Result<(Told, Part, Permit), Stop> {
        // While it still has its content, which is moved out of it then.
        let key = self.key(profile);
        let (raw, draft) = match &mut profile.payload {
            Payload::Pprof(raw) => (std::mem::take(raw), None),
            Payload::Draft(part) => (Bytes::new(), part.draft.take()),
        };
        let pairs = profile.labels.iter();
        let labels: Vec<(&str, &str)> = pairs.map(|(name, value)| (&**name, &**value)).collect();
        let keyed = Keyed {
            profile,
            labels: &labels,
            key,
        };
        match draft {
            None => self.take_pprof(worker, &keyed, raw, charged),
            Some(draft) => {
                let normaliser = &mut worker.normaliser;
                self.take_draft(normaliser, &keyed, (*draft, into), charged)
            }
        }
    }

    /// Decompresses and normalises; `charged` becomes what the profile costs once that is known.
    fn take_pprof(
        &mut self,
        worker: &mut Worker,
        keyed: &Keyed<'_>,
        raw: Bytes,
        charged: &mut u64,
    ) -> Result<(Told, Part, Permit), Stop> {
        let labels = keyed.labels;
        let permit = self.decompress(&mut worker.decompressor, &raw, labels)?;
        let plain = if is_gzip(&raw) {
            // Only what came out of it is needed from here on.
            drop(raw);
            worker.decompressor.plain()
        } else {
            &raw
        };
        *charged = plain.len() as u64 + label_bytes(labels);
        let charge = Charge {
            plain: plain.len() as u64,
            charged: *charged,
        };
        let keep = self.admit(keyed.profile, (labels, keyed.key), charge)?;
        let normaliser = &mut worker.normaliser;
        normaliser.set_policy(self.profile_policy(keep));
        let normalised = self.normalised(keyed, |about, limits| {
            let upload = Upload {
                pprof: plain,
                labels: about.labels,
                origin: about.origin,
                key: about.key,
                now: about.now,
            };
            normaliser.normalise(&upload, limits)
        })?;
        let Normalised { told, part } = normalised;
        Ok((told, part, permit))
    }

    /// As [`take_pprof`](Self::take_pprof), with a draft that has paid for its memory itself.
    fn take_draft(
        &mut self,
        normaliser: &mut Normaliser,
        keyed: &Keyed<'_>,
        (draft, into): (Draft, &mut Into<'_>),
        charged: &mut u64,
    ) -> Result<(Told, Part, Permit), Stop> {
        let size = draft.size();
        *charged = size + label_bytes(keyed.labels);
        let charge = Charge {
            plain: size,
            charged: *charged,
        };
        let keep = self.admit(keyed.profile, (keyed.labels, keyed.key), charge)?;
        normaliser.set_policy(self.profile_policy(keep));
        let permit = self.preparation.bodies.try_acquire(size);
        let permit = permit.map_err(overloaded)?;
        let (told, part) = self.normalised(keyed, |about, limits| match into {
            Into::Own => {
                let normalised = normaliser.normalise_draft(draft, about, limits)?;
                Ok((normalised.told, normalised.part))
            }
            Into::Joined(joined, export, _) => {
                let draft = (draft, *export);
                let told = normaliser.normalise_into(joined, draft, about, limits)?;
                Ok((told, Part::default()))
            }
        })?;
        Ok((told, part, permit))
    }

    /// Decompresses `raw` if it is gzip; a permit for the plain bytes and for what they are decoded
    /// into.
    fn decompress(
        &self,
        decompressor: &mut Decompressor,
        raw: &[u8],
        labels: &[(&str, &str)],
    ) -> Result<Permit, Refusal> {
        let limits = &self.policy.limits;
        let cap = match limits.max_profile_size_bytes {
            0 => u64::MAX,
            bytes => bytes,
        };
        let expected = expected_bytes(raw, cap);
        let refuse = |error: &GunzipError| {
            let rejection = error.rejection(labels);
            Refusal::invalid(rejection.reason, rejection.message)
        };
        if expected > cap {
            return Err(refuse(&GunzipError::TooLarge { limit: cap }));
        }
        let taken = expected.saturating_mul(DECODED_TIMES);
        let permit = self.preparation.bodies.try_acquire(taken);
        let permit = permit.map_err(overloaded)?;
        // Not even bytes whose trailer lies about them are decompressed beyond the permit.
        decompressor
            .decompress(raw, expected.max(1))
            .map_err(|error| match error {
                GunzipError::TooLarge { .. } if expected < cap => refuse(&GunzipError::Corrupt {
                    detail: format!("it holds more than the {expected} bytes that it claims"),
                }),
                error => refuse(&error),
            })?;
        Ok(permit)
    }

    fn normalised<T>(
        &self,
        keyed: &Keyed<'_>,
        normalise: impl FnOnce(&About<'_>, &Limits) -> Result<T, Rejection>,
    ) -> Result<T, Refusal> {
        let display_names: Option<Vec<(&str, &str)>> = match &keyed.profile.origin {
            Origin::Ingest(origin) => origin.sample_types.as_ref().map(|config| {
                let pairs = config.display_names.iter();
                pairs.map(|(kind, shown)| (&**kind, &**shown)).collect()
            }),
            Origin::Push => None,
        };
        let about = About {
            labels: keyed.labels,
            origin: match &keyed.profile.origin {
                Origin::Push => scoria_pprof::Origin::Push,
                Origin::Ingest(origin) => scoria_pprof::Origin::Ingest(Ingest {
                    spy: &origin.spy_name,
                    from: origin.from,
                    display_names: display_names.as_deref(),
                }),
            },
            key: keyed.key,
            now: self.now,
        };
        normalise(&about, &self.policy.limits)
            .map_err(|rejection| Refusal::invalid(rejection.reason, rejection.message))
    }

    /// Counts what came in and what became of it: what `part` has more than `before`.
    fn observe(
        &self,
        profile: &IncomingProfile,
        told: &Told,
        (part, before): (&Part, Sizes),
        (compressed, decompressed, took): (u64, u64, Duration),
    ) {
        let sizes = Sizes::of(part);
        let samples_bytes = sizes.samples_bytes.saturating_sub(before.samples_bytes) as u64;
        let symbols_bytes = sizes.symbols_bytes.saturating_sub(before.symbols_bytes) as u64;
        let first = part.profiles.get(before.profiles);
        let kind = first.and_then(|first| part.types.get(first.kind as usize));
        let named = kind.map(|kind| part.strings.get(kind[0]));
        let name = named.and_then(|name| std::str::from_utf8(name).ok());
        self.preparation.metrics.received(
            self.tenant,
            &Received {
                name: name.unwrap_or_else(|| name_of(profile)),
                compressed,
                sent_as: match &profile.payload {
                    Payload::Pprof(_) => SentAs::Text,
                    Payload::Draft(part) => part.sent_as,
                },
                decompressed,
                samples: told.stats.samples,
                samples_bytes,
                symbols_bytes,
                normalised: samples_bytes + symbols_bytes,
                parsed_in: took,
            },
        );
        self.count_dropped(profile, &told.dropped);
    }

    /// By what a resend is recognised.
    pub(crate) fn key(&self, profile: &IncomingProfile) -> RetryKey {
        let by_content = if self.policy.limits.deduplicate_by_content {
            ByContent::Recognise
        } else {
            ByContent::Ignore
        };
        self.preparation.keys.key(self.tenant, profile, by_content)
    }

    fn profile_policy(&self, keep: Keep) -> &Arc<Policy> {
        match keep {
            Keep::Whole => &self.policy.whole,
            Keep::Totals => &self.policy.totals,
        }
    }

    fn count_dropped(&self, profile: &IncomingProfile, dropped: &Dropped) {
        for (reason, count) in dropped.iter() {
            // An empty profile is counted as discarded, with its bytes.
            if reason != DiscardReason::EmptyProfile {
                self.preparation.metrics.dropped(self.tenant, reason, count);
                self.remember(profile, Seen::dropped(reason, count));
            }
        }
    }

    /// Counts the refused label groups; the refusal that stands for them.
    fn partly_refused(&self, refused: &[scoria_pprof::Refusal]) -> Option<Refusal> {
        for refused in refused {
            let reason = refused.rejection.reason;
            let metrics = &self.preparation.metrics;
            metrics.dropped(self.tenant, reason, refused.samples);
            metrics.discarded(self.tenant, reason, 0);
        }
        let first = refused.first()?;
        let groups: u64 = refused.iter().map(|refused| refused.groups).sum();
        let message = format!(
            "{} (of the profile's label sets {groups} were refused, the others are stored)",
            first.rejection.message
        );
        Some(Refusal {
            is_partial: true,
            ..Refusal::invalid(first.rejection.reason, message)
        })
    }

    /// For the tenant to see what became of it.
    fn remember(&self, profile: &IncomingProfile, seen: Seen<'_>) {
        let rejections = &self.preparation.rejections;
        rejections.record(self.tenant, &profile.labels, seen, self.now);
    }

    fn discarded(&self, reason: DiscardReason, bytes: u64) {
        self.preparation
            .metrics
            .discarded(self.tenant, reason, bytes);
    }
}

impl Refusal {
    /// With the place of the profile in its request, where a request can hold several.
    fn of(mut self, profile: &IncomingProfile) -> Self {
        let is_pprof = matches!(profile.payload, Payload::Pprof(_));
        if is_pprof && matches!(profile.origin, Origin::Push) {
            let series = profile.series;
            let id = if profile.id.is_empty() {
                "without ID".to_owned()
            } else {
                format!(
                    "with ID {:?}",
                    profile.id.chars().take(64).collect::<String>()
                )
            };
            self.message = format!("profile {id} of series {series}: {}", self.message);
        }
        self
    }
}

/// A profile of which nothing is left: because a rule dropped it, or by itself.
fn why_empty(dropped: &Dropped) -> DiscardReason {
    match dropped.get(DiscardReason::DroppedByRelabelRules) {
        0 => DiscardReason::EmptyProfile,
        _ => DiscardReason::DroppedByRelabelRules,
    }
}

/// There is no memory now; or never, for what is larger than all that there is.
pub(crate) fn overloaded(exceeded: BudgetExceeded) -> Refusal {
    Refusal {
        kind: RefusalKind::of_memory(&exceeded),
        message: format!("{exceeded}; {}", exceeded.remedy()),
        is_partial: false,
    }
}

/// Leaves the permit to cover the part and a copy of it, whatever it covered before.
fn cover(permit: &mut Permit, part: &Bytes) -> Result<(), Refusal> {
    let bytes = 2 * part.len() as u64;
    permit.shrink_to(bytes);
    permit
        .grow(bytes.saturating_sub(permit.bytes()))
        .map_err(overloaded)
}

fn label_bytes(labels: &[(&str, &str)]) -> u64 {
    let bytes = labels.iter().map(|(name, value)| name.len() + value.len());
    bytes.sum::<usize>() as u64
}

pub(crate) fn encode(part: &Part) -> Bytes {
    // Gets just the room that it needs.
    let mut out = Vec::new();
    part.encode(&mut out);
    Bytes::from(out)
}

impl Ready {
    fn encode(mut self, normaliser: &mut Normaliser) -> Result<Prepared, Refusal> {
        let part = encode(&self.part);
        cover(&mut self.permit, &part)?;
        normaliser.take_back(self.part);
        Ok(Prepared {
            part,
            accepted: self.accepted,
            permit: self.permit,
        })
    }
}

/// How large the profile is when decompressed: exact for plain bytes, what the trailer claims for
/// one gzip member, else the most that it can be.
pub(crate) fn expected_bytes(raw: &[u8], cap: u64) -> u64 {
    if !is_gzip(raw) {
        return raw.len() as u64;
    }
    let possible = (raw.len() as u64).saturating_mul(EXPANSION_MAX);
    let inside = raw.get(GZIP_MEMBER.len()..).unwrap_or_default();
    let several = memchr::memmem::find(inside, &GZIP_MEMBER).is_some();
    match raw.last_chunk::<4>() {
        Some(claimed) if !several => u64::from(u32::from_le_bytes(*claimed)).min(possible),
        _ => possible.min(cap),
    }
}

/// The service that a profile is stored under.
pub(crate) fn service_of(profile: &IncomingProfile) -> &str {
    const UNKNOWN_SERVICE: &str = "unknown_service";
    let mut labels = profile.labels.iter();
    labels
        .find(|(name, value)| name == names::SERVICE_NAME && !value.is_empty())
        .map_or(UNKNOWN_SERVICE, |(_, value)| value)
}
