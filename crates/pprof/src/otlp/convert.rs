//! From a profile of an export to drafts: one for each service that its samples name.
//!
//! A draft holds the samples; their stacktraces stay in the dictionary. What a profile uses of that
//! is checked and charged for once ([`super::entries`]). What has been is kept in memos as long as
//! the dictionary, which hold for one draft: a number that grows from draft to draft tells entries of
//! this one from older ones, so that nothing is cleared in between.
//!
//! # Invariants
//! - A profile is converted whole or refused; nothing of it is left out silently.

use std::collections::BTreeMap;

use scoria_model::{ByteBudget, DiscardReason, Permit};

use super::Export;
use super::dictionary::NO_INDEX;
use super::distinct::Distinct;
use super::entries::{LabelMemo, LocationMemo, StackMemo};
use super::fields::{Malformed, Span};
use super::kind::{Kind, TypeText};
use super::origin::{self, Broken, Origin, Place, ServiceSource};
use super::samples::{BadSample, Header, Sample, Samples};
use crate::draft::DraftError;
use crate::raw::Ids;
use crate::rejection::LabelText;
use crate::{Draft, DraftTerms, Rejection, Room};

/// How long a profile lasts that does not say.
const DURATION_DEFAULT_NS: i64 = 10_000_000_000;
/// What profiles use of the dictionary is read for each of them. All of them together may read so
/// many times the export's bytes, a sixteenth of those of texts: an export of thousands of profiles
/// of one program reads some twenty times as many.
const WORK_FACTOR: u64 = 256;
const WORK_MIN: u64 = 64 << 20;
/// A profile with more is gone over once to see how many different samples and labels it has, as
/// growing into them would take twice the room.
const MANY_SAMPLES: usize = 1024;

/// A profile, ready to be normalised.
#[derive(Debug)]
pub struct Converted {
    /// `__name__` and `service_name` among them.
    pub labels: Vec<(String, String)>,
    pub draft: Draft,
    pub service: ServiceSource,
    /// Attributes of the resource, the scope and the samples that have no form as a label.
    pub n_unusable: u64,
}

/// Why a profile cannot be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Rejection(#[from] Rejection),
    #[error("{message}")]
    Full { error: DraftError, message: String },
}

/// What is wrong inside a profile.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Attribute(#[from] Broken),
    #[error("sample {at}: {problem}")]
    Sample { at: usize, problem: BadSample },
    #[error("{what} is entry {index} of the dictionary's {table}, which has {n} entries")]
    Index {
        what: &'static str,
        table: &'static str,
        index: u32,
        n: usize,
    },
    #[error("the value of sample {at} times the period overflows 64 bits")]
    Overflow { at: usize },
    #[error(
        "the profiles before it and it repeat so much of the dictionary that reading it takes {factor} times the export's size and more",
        factor = WORK_FACTOR
    )]
    Work,
    #[error("its sample type has no name (field 1 of the profile, sample_type)")]
    Nameless,
    #[error("the name of its type is not valid UTF-8")]
    Utf8,
    #[error("{what} ({shown:?}) is not valid UTF-8")]
    Text { what: &'static str, shown: String },
    #[error(transparent)]
    Full(#[from] DraftError),
}

/// Converts the profiles of one export, one after the other.
#[derive(Debug)]
pub struct Converter<'e, 'a> {
    pub(super) export: &'e Export<'a>,
    pub(super) draft: u32,
    /// The draft that used each entry last; the same of the next two.
    pub(super) texts: Vec<u32>,
    pub(super) functions: Vec<u32>,
    pub(super) mappings: Vec<u32>,
    pub(super) locations: Vec<LocationMemo>,
    /// Of the draft.
    pub(super) n_locations: u32,
    pub(super) stacks: Vec<StackMemo>,
    pub(super) labels_of: Vec<LabelMemo>,
    /// Entries of the attribute table that name a service, in order, each with the first entry
    /// that names the same one.
    pub(super) services: Vec<(u32, u32)>,
    pub(super) origin: Option<(Span, Span, Origin)>,
    pub(super) attributes: Vec<u32>,
    pub(super) labels: Vec<(u32, u32)>,
    pub(super) n_unusable: u64,
    /// Bytes that may still be read.
    work_left: u64,
    /// Of the profile that was refused last, as far as they were known.
    shown: Vec<(String, String)>,
}

impl<'a> Export<'a> {
    pub fn converter(&self) -> Converter<'_, 'a> {
        let tables = &self.dictionary;
        Converter {
            export: self,
            draft: 0,
            texts: vec![0; tables.n_texts],
            functions: vec![0; tables.functions.len()],
            mappings: vec![0; tables.mappings.len()],
            locations: vec![LocationMemo::default(); tables.locations.len()],
            n_locations: 0,
            stacks: vec![StackMemo::default(); tables.stacks.len()],
            labels_of: vec![LabelMemo::default(); tables.attributes.len()],
            services: self.services(),
            origin: None,
            attributes: Vec::new(),
            labels: Vec::new(),
            n_unusable: 0,
            work_left: (self.body.len() as u64 * WORK_FACTOR).max(WORK_MIN),
            shown: Vec::new(),
        }
    }
}

impl Export<'_> {
    fn services(&self) -> Vec<(u32, u32)> {
        let mut by_name: BTreeMap<String, u32> = BTreeMap::new();
        let mut services = Vec::new();
        for &at in &self.dictionary.services {
            // It has been read before.
            let Some(Ok(attribute)) = self.dictionary.attribute(self.body, at) else {
                continue;
            };
            let first = match origin::text(self.strings(), attribute.value) {
                Ok(Some(name)) => *by_name.entry(name).or_insert(at),
                // No name is given.
                Ok(None) => NO_INDEX,
                // Told where it is used.
                Err(_) => at,
            };
            services.push((at, first));
        }
        services
    }
}

/// A sample with the attribute that names its service in front, and its place in the profile.
type Named = (u32, u32, Span);

/// The samples of one service, or all of them.
struct Run<'r> {
    service: Option<String>,
    /// `None` for all.
    samples: Option<&'r [Named]>,
}

impl Converter<'_, '_> {
    /// Converts profile `at` of the export; several results if its samples name several services.
    ///
    /// # Errors
    /// The profile is malformed, or the draft takes no more of it. `at` beyond the last one counts
    /// as malformed.
    pub fn profile(&mut self, at: usize, terms: &DraftTerms) -> Result<Vec<Converted>, Refused> {
        let place = self.export.profiles.get(at).copied().unwrap_or_default();
        let mut shown = Vec::new();
        let converted = self.convert(place, terms, &mut shown);
        converted.map_err(|problem| {
            let refused = refused(at, &shown, problem);
            self.shown = shown;
            refused
        })
    }

    /// The labels of the profile that was refused last, as far as they were known.
    pub fn labels_of_refused(&self) -> &[(String, String)] {
        &self.shown
    }

    fn convert(
        &mut self,
        place: Place,
        terms: &DraftTerms,
        shown: &mut Vec<(String, String)>,
    ) -> Result<Vec<Converted>, Problem> {
        self.enter(place)?;
        let header = Header::read(self.export.body, place.profile)?;
        let body = self.export.body;
        let sample = self.value_type(body, header.sample_type)?;
        let period = self.value_type(body, header.period_type)?;
        let kind = Kind::of(sample, period, header.period);
        let (labels, _) = self.labels_of(kind.name, None);
        *shown = labels;
        if kind.name.is_empty() {
            return Err(Problem::Nameless);
        }
        let (samples, _permit) = self.by_service(place.profile, &terms.memory)?;
        let mut converted = Vec::new();
        for run in runs(self, &samples)? {
            let (labels, service) = self.labels_of(kind.name, run.service.as_deref());
            self.n_unusable = self.origin.as_ref().map_or(0, |(.., o)| o.n_unusable);
            let mut draft = Draft::apart(terms)?;
            draft.reserve(self.room(place.profile, &run, terms)?)?;
            // Drafts are counted from 1, so that no memo of none looks like one of this.
            self.draft += 1;
            self.n_locations = 0;
            draft.add_type(kind.sample.kind, kind.sample.unit)?;
            draft.set_period(period.kind, period.unit, header.period)?;
            let duration = match clamp(header.duration_ns) {
                0 => DURATION_DEFAULT_NS,
                given => given,
            };
            draft.set_times(clamp(header.time_ns), duration);
            self.fill(&mut draft, place.profile, &run, kind.scale)?;
            converted.push(Converted {
                labels,
                draft,
                service,
                n_unusable: self.n_unusable,
            });
        }
        Ok(converted)
    }

    /// What is known of a draft before it is filled.
    fn room(&mut self, profile: Span, run: &Run<'_>, terms: &DraftTerms) -> Result<Room, Problem> {
        let export = self.export;
        let is_whole = run.samples.is_none();
        let n_samples = match run.samples {
            Some(samples) => samples.len(),
            None => Samples::of(export.body, profile).count(),
        };
        let (n_samples, n_labels) = match is_whole && n_samples >= MANY_SAMPLES {
            true => self.count(profile, n_samples, terms)?,
            false => (n_samples, 0),
        };
        Ok(Room {
            samples: n_samples,
            labels: n_labels,
            // An entry for each stacktrace.
            frames: n_samples.min(export.dictionary.stacks.len()),
            frame_max: export.dictionary.stacks.len() as u32,
            ..Room::default()
        })
    }

    /// About how many of a profile's samples differ, and the labels that these have.
    fn count(
        &mut self,
        profile: Span,
        n: usize,
        terms: &DraftTerms,
    ) -> Result<(usize, usize), Problem> {
        let export = self.export;
        let permit = terms.memory.try_acquire(n as u64);
        let _permit = permit.map_err(DraftError::from)?;
        let mut distinct = Distinct::among(n, terms.seed);
        let mut n_labels = 0;
        for (at, place) in Samples::of(export.body, profile).enumerate() {
            let sample = Sample::read(export.body, place?, export.layout, &mut self.attributes)
                .map_err(|problem| Problem::Sample { at, problem })?;
            n_labels += self.attributes.len();
            let attributes = self.attributes.iter().copied();
            let told = attributes.chain([sample.stack, sample.link]);
            distinct.add(told.map(u64::from));
        }
        let n_distinct = distinct.count().min(n);
        Ok((n_distinct, n_labels.div_ceil(n.max(1)) * n_distinct))
    }

    /// Counts bytes before they are read.
    pub(super) fn spend(&mut self, bytes: u32) -> Result<(), Problem> {
        let left = self.work_left.checked_sub(u64::from(bytes));
        self.work_left = left.ok_or(Problem::Work)?;
        Ok(())
    }

    /// Learns what the profile's resource and scope say, unless they are those of the one before.
    fn enter(&mut self, place: Place) -> Result<(), Problem> {
        let known = |(resource, scope, _): &(Span, Span, Origin)| {
            (*resource, *scope) == (place.resource, place.scope)
        };
        if !self.origin.as_ref().is_some_and(known) {
            let origin = Origin::read(self.export.strings(), place, &mut false)?;
            self.origin = Some((place.resource, place.scope, origin));
        }
        Ok(())
    }

    fn labels_of(
        &self,
        name: &str,
        service: Option<&str>,
    ) -> (Vec<(String, String)>, ServiceSource) {
        match &self.origin {
            Some((.., origin)) => origin.labels_of(name, service),
            None => Origin::default().labels_of(name, service),
        }
    }

    fn value_type<'b>(&self, body: &'b [u8], texts: (u32, u32)) -> Result<TypeText<'b>, Problem> {
        let text = |index: u32| {
            let strings = &self.export.dictionary.strings;
            match strings.get(index as usize) {
                Some(place) => std::str::from_utf8(place.of(body)).map_err(|_| Problem::Utf8),
                // A profile that leaves its period type out says 0, whatever the table holds.
                None if index == 0 => Ok(""),
                None => Err(Problem::Index {
                    what: "the name of a type",
                    table: "string_table",
                    index,
                    n: strings.len(),
                }),
            }
        };
        Ok(TypeText {
            kind: text(texts.0)?,
            unit: text(texts.1)?,
        })
    }

    /// The samples with the attribute that names their service, in order of that; none of them if
    /// no sample can name one.
    fn by_service(
        &mut self,
        profile: Span,
        memory: &ByteBudget,
    ) -> Result<(Vec<Named>, Option<Permit>), Problem> {
        if self.services.is_empty() {
            return Ok((Vec::new(), None));
        }
        let (body, layout) = (self.export.body, self.export.layout);
        let n = Samples::of(body, profile).count();
        let permit = memory.try_acquire((n * size_of::<Named>()) as u64);
        let permit = permit.map_err(DraftError::from)?;
        let mut samples = Vec::with_capacity(n);
        for (at, place) in Samples::of(body, profile).enumerate() {
            let place = place?;
            Sample::read(body, place, layout, &mut self.attributes)
                .map_err(|problem| Problem::Sample { at, problem })?;
            let mut attributes = self.attributes.iter();
            let service = attributes.find_map(|&at| self.service(at));
            samples.push((service.unwrap_or(NO_INDEX), at as u32, place));
        }
        samples.sort_unstable_by_key(|&(service, at, _)| (service, at));
        Ok((samples, Some(permit)))
    }

    /// The entry that stands for the service that an attribute names, if it names one.
    pub(super) fn service(&self, attribute: u32) -> Option<u32> {
        let found = self
            .services
            .binary_search_by_key(&attribute, |&(at, _)| at);
        found.ok().map(|at| self.services[at].1)
    }

    fn fill(
        &mut self,
        draft: &mut Draft,
        profile: Span,
        run: &Run<'_>,
        scale: i64,
    ) -> Result<(), Problem> {
        let body = self.export.body;
        match run.samples {
            Some(samples) => {
                for &(_, at, place) in samples {
                    self.sample(draft, (at as usize, place), scale)?;
                }
            }
            None => {
                for (at, place) in Samples::of(body, profile).enumerate() {
                    self.sample(draft, (at, place?), scale)?;
                }
            }
        }
        Ok(())
    }

    fn sample(
        &mut self,
        draft: &mut Draft,
        (at, place): (usize, Span),
        scale: i64,
    ) -> Result<(), Problem> {
        let export = self.export;
        let mut attributes = std::mem::take(&mut self.attributes);
        let sample = Sample::read(export.body, place, export.layout, &mut attributes);
        self.attributes = attributes;
        let sample = sample.map_err(|problem| Problem::Sample { at, problem })?;
        let value = sample.value.checked_mul(scale);
        let value = value.ok_or(Problem::Overflow { at })?;
        self.labels.clear();
        for nth in 0..self.attributes.len() {
            self.attribute(draft, self.attributes[nth])?;
        }
        let ids = match sample.link {
            0 => Ids::NONE,
            link => self.link(link)?,
        };
        let stack = self.stack(draft, sample.stack)?;
        draft.add_sample_of(stack, (&[value], &self.labels, ids))?;
        Ok(())
    }
}

/// Cuts samples that are in order of their service into one run for each.
fn runs<'r>(converter: &Converter<'_, '_>, samples: &'r [Named]) -> Result<Vec<Run<'r>>, Problem> {
    if samples.is_empty() {
        return Ok(vec![Run {
            service: None,
            samples: None,
        }]);
    }
    let export = converter.export;
    let runs = samples.chunk_by(|a, b| a.0 == b.0);
    runs.map(|run| {
        let attribute = export.dictionary.attribute(export.body, run[0].0);
        let service = match attribute.transpose()? {
            Some(attribute) => origin::text(export.strings(), attribute.value)?,
            None => None,
        };
        Ok(Run {
            service,
            samples: Some(run),
        })
    })
    .collect()
}

fn clamp(nanos: u64) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

fn refused(at: usize, labels: &[(String, String)], problem: Problem) -> Refused {
    let pairs: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (&**n, &**v)).collect();
    let labels = LabelText(&pairs);
    match problem {
        Problem::Full(error) => Refused::Full {
            message: format!("profile {at} of the export, with labels '{labels}': {error}"),
            error,
        },
        Problem::Nameless => Refused::Rejection(Rejection::new(
            DiscardReason::InvalidLabels,
            format!("profile {at} of the export, with labels '{labels}': {problem}"),
        )),
        problem => Refused::Rejection(Rejection::new(
            DiscardReason::MalformedProfile,
            format!("profile {at} of the export, with labels '{labels}', is malformed: {problem}"),
        )),
    }
}
