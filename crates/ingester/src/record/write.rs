//! Writing records.

use std::sync::Arc;

use scoria_model::labels::names;
use scoria_model::part::PartView;
use scoria_model::varint::{put_bytes, put_i64, put_u64};
use scoria_model::{Labels, RetryKey, TenantId, Timestamp};
use scoria_symbols::{InternScratch, Mark};

use super::collect::Collector;
use super::generation::{Base, Dataset, Generation, kind_parts, label_pairs};
use super::places::Places;
use super::samples::{self, Plain};
use super::{
    AppendedProfile, DIFFERENCE_BYTES_MAX, EncodedRecord, HeadAppend, Push, VERSION, kind,
    label_code, profile_flags,
};

/// After how many profiles in a row that were smaller in full no more differences are tried.
const MISSES_MAX: u8 = 2;

/// Encodes the records of one generation, which starts empty.
///
/// A record refers to what earlier ones said, so every record that it returns must be logged, in
/// order, and when one is not, the generation ends with the one before.
#[derive(Debug, Default)]
pub struct RecordWriter {
    generation: Generation,
    scratch: InternScratch,
    collector: Collector,
    full: Vec<u8>,
    difference: Vec<u8>,
    base: Plain,
}

/// A part of a push, and which of its writes the record is about: the others are resends.
#[derive(Debug, Clone)]
pub struct Taken<'a> {
    pub part: PartView<'a>,
    /// Rising.
    pub writes: Vec<usize>,
}

impl<'a> Taken<'a> {
    /// With all of its writes.
    pub fn whole(part: PartView<'a>) -> Self {
        Self {
            writes: (0..part.keys().len()).collect(),
            part,
        }
    }

    fn keys(&self) -> impl Iterator<Item = RetryKey> {
        self.writes.iter().map(|&write| self.part.key(write))
    }
}

/// One profile of a part: its row, and which write of the push it is of.
#[derive(Debug, Clone, Copy)]
struct Told {
    row: usize,
    write: u32,
}

/// What the record says of one dataset, until it is known in full.
#[derive(Debug)]
struct Section {
    dataset: u32,
    /// The dictionary before the record.
    mark: Mark,
    series_before: usize,
    kinds_before: usize,
    /// The profiles as the record has them.
    body: Vec<u8>,
    profiles: Vec<AppendedProfile>,
    samples: Vec<u8>,
}

impl RecordWriter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Memory held beside the dictionaries: they are counted by the heads that share them.
    pub fn bytes(&self) -> u64 {
        self.generation.bytes()
    }

    /// A record that carries the retry keys of writes that earlier generations hold.
    pub fn encode_retry_keys(keys: &[(Timestamp, RetryKey)]) -> Vec<u8> {
        let mut out = vec![VERSION, kind::RETRY_KEYS];
        put_u64(&mut out, keys.len() as u64);
        let mut before = 0i64;
        for (arrival, key) in keys {
            put_i64(&mut out, arrival.0.wrapping_sub(before));
            out.extend_from_slice(&key.0);
            before = arrival.0;
        }
        out
    }

    /// Encodes a push: all that was taken of it in one record.
    pub fn encode(
        &mut self,
        arrival: Timestamp,
        tenant: &TenantId,
        taken: &[Taken<'_>],
    ) -> EncodedRecord {
        let mut out = vec![VERSION, kind::PUSH];
        put_i64(&mut out, arrival.0);
        let tenant_id = match self.generation.tenant_id(tenant) {
            Some(id) => {
                put_u64(&mut out, u64::from(id) + 1);
                id
            }
            None => {
                put_u64(&mut out, 0);
                put_bytes(&mut out, tenant.as_str().as_bytes());
                self.generation.add_tenant(tenant.clone())
            }
        };
        let keys: Vec<RetryKey> = taken.iter().flat_map(Taken::keys).collect();
        put_u64(&mut out, keys.len() as u64);
        for key in &keys {
            out.extend_from_slice(&key.0);
        }
        let known_datasets = self.generation.datasets.len();
        let mut sections = Vec::new();
        let mut differences = 0;
        let mut first_write = 0;
        for part in taken {
            self.add_part(
                (first_write, part),
                (arrival, tenant_id),
                &mut sections,
                &mut differences,
            );
            first_write += part.writes.len() as u32;
        }
        put_u64(&mut out, sections.len() as u64);
        let mut heads = Vec::with_capacity(sections.len());
        let mut places = Places::default();
        for mut section in sections {
            places.section();
            for profile in &mut section.profiles {
                profile.place = places.of(profile);
            }
            let dataset = &self.generation.datasets[section.dataset as usize];
            let name = (section.dataset as usize >= known_datasets).then_some(&*dataset.service);
            put_section(&section, dataset, name, &mut out);
            heads.push(HeadAppend {
                tenant: tenant.clone(),
                service: Arc::clone(&dataset.service),
                dictionary: Arc::clone(&dataset.dictionary),
                series: dataset.series[section.series_before..].to_vec(),
                kinds: dataset.kinds[section.kinds_before..].to_vec(),
                profiles: section.profiles,
                samples: section.samples,
            });
        }
        EncodedRecord {
            bytes: out,
            push: Push {
                arrival,
                tenant: tenant.clone(),
                keys,
                heads,
            },
        }
    }

    /// Adds the profiles of a part, whose first write is number `first_write` of the push.
    fn add_part(
        &mut self,
        (first_write, taken): (u32, &Taken<'_>),
        (arrival, tenant): (Timestamp, u32),
        sections: &mut Vec<Section>,
        differences: &mut usize,
    ) {
        let part = &taken.part;
        let mut told = Vec::with_capacity(part.profile_series.len());
        for (&write, number) in taken.writes.iter().zip(first_write..) {
            for row in part.write_end.span(write) {
                let service = service_of(part, part.profile_series.get(row));
                let at = self.section(service, tenant, sections);
                told.push((at, Told { row, write: number }));
            }
        }
        // One dataset after the other: what the part's symbols became in it is looked up once.
        told.sort_by_key(|&(at, _)| at);
        for of_section in told.chunk_by(|a, b| a.0 == b.0) {
            self.scratch.start(part);
            for &(at, told) in of_section {
                self.add_row(part, told, arrival, (&mut sections[at], &mut *differences));
            }
        }
    }

    fn add_row(
        &mut self,
        part: &PartView<'_>,
        Told { row, write }: Told,
        arrival: Timestamp,
        (section, differences): (&mut Section, &mut usize),
    ) {
        let labels = part.profile_series.get(row);
        let dataset = &mut self.generation.datasets[section.dataset as usize];
        let range = part.profile_samples_end.span(row);
        let scratch = &mut self.scratch;
        let mut dictionary = dataset.dictionary.lock();
        dictionary.intern_samples(part, range.clone(), scratch);
        drop(dictionary);
        let profile = AppendedProfile {
            series: series_id(dataset, part, labels),
            kind: kind_id(dataset, part, part.profile_kind.get(row)),
            time: Timestamp(part.profile_time.get(row)),
            duration_ns: part.profile_duration.get(row),
            period: part.profile_period.get(row),
            part: write,
            ..AppendedProfile::default()
        };
        self.collector
            .collect(part, range, &self.scratch.stack_nodes);
        self.add_profile(profile, arrival, section, differences);
    }

    /// Where the record speaks of the service; starts a section for one that it has not named.
    fn section(&mut self, service: &str, tenant: u32, sections: &mut Vec<Section>) -> usize {
        let known = self.generation.dataset_id(tenant, service);
        let at = known.and_then(|id| sections.iter().position(|section| section.dataset == id));
        at.unwrap_or_else(|| {
            let id =
                known.unwrap_or_else(|| self.generation.add_dataset(tenant, Arc::from(service)));
            let dataset = &self.generation.datasets[id as usize];
            sections.push(Section {
                dataset: id,
                mark: dataset.dictionary.lock().mark(),
                series_before: dataset.series.len(),
                kinds_before: dataset.kinds.len(),
                body: Vec::new(),
                profiles: Vec::new(),
                samples: Vec::new(),
            });
            sections.len() - 1
        })
    }

    /// Adds the collected samples under the given head.
    fn add_profile(
        &mut self,
        mut profile: AppendedProfile,
        arrival: Timestamp,
        section: &mut Section,
        differences: &mut usize,
    ) {
        let plain = &self.collector.plain;
        profile.n_samples = plain.len() as u32;
        profile.total = plain
            .values
            .iter()
            .fold(0, |sum, value| sum.wrapping_add(*value));
        self.full.clear();
        samples::put_full(plain, &self.collector.links(), &mut self.full);
        let repeated = repeated(section, &self.full)
            .filter(|_| *differences + self.full.len() <= DIFFERENCE_BYTES_MAX);
        section.samples.extend_from_slice(&self.full);
        profile.samples_end = section.samples.len() as u32;

        let dataset = &mut self.generation.datasets[section.dataset as usize];
        let mut form = 0;
        if self.collector.is_plain() {
            self.difference.clear();
            form = choose_form(
                dataset,
                (&profile, &self.collector.plain, &self.full),
                (&mut self.base, &mut self.difference),
                differences,
            );
        } else {
            // Remembered as hopeless: a service that sends span ids goes on doing so.
            dataset.set_base(profile.series, profile.kind, Base::hopeless(MISSES_MAX));
        }
        if repeated.is_some() && form & profile_flags::DIFFERENCE == 0 {
            *differences += self.full.len();
            form |= profile_flags::REPEATS;
        }
        put_profile(
            &profile,
            form,
            (arrival, dataset, section.profiles.last()),
            &mut section.body,
        );
        match repeated {
            Some(gcd) if form & profile_flags::REPEATS != 0 => put_u64(&mut section.body, gcd),
            _ if form & profile_flags::DIFFERENCE != 0 => {
                section.body.extend_from_slice(&self.difference);
            }
            _ => {
                put_u64(&mut section.body, u64::from(profile.n_samples));
                section.body.extend_from_slice(&self.full);
            }
        }
        dataset.duration_ns = profile.duration_ns;
        dataset.periods[profile.kind as usize] = profile.period;
        section.profiles.push(profile);
    }
}

/// The gcd, if samples in full are those of the section's last profile but for it.
fn repeated(section: &Section, full: &[u8]) -> Option<u64> {
    let n = section.profiles.len();
    let end = section.profiles.last()?.samples_end as usize;
    let start = n
        .checked_sub(2)
        .map_or(0, |at| section.profiles[at].samples_end as usize);
    samples::repeated_gcd(&section.samples[start..end], full)
}

/// Decides whether a profile is told as a difference, whose bytes are then in the second buffer,
/// and whether the next one may be.
fn choose_form(
    dataset: &mut Dataset,
    (profile, plain, full): (&AppendedProfile, &Plain, &[u8]),
    (base_samples, difference): (&mut Plain, &mut Vec<u8>),
    differences: &mut usize,
) -> u8 {
    let (series, kind) = (profile.series, profile.kind);
    let mut form = 0;
    let mut misses = 0;
    if let Some(base) = dataset.base(series, kind) {
        if base.misses >= MISSES_MAX {
            return 0;
        }
        base_samples.clear();
        let read = samples::read_plain(&base.samples, base.n_samples as usize, base_samples);
        debug_assert!(read.is_ok(), "the base was written here");
        samples::put_difference(base_samples, plain, difference);
        let fits = *differences + full.len() <= DIFFERENCE_BYTES_MAX;
        if read.is_ok() && fits && difference.len() < full.len() {
            *differences += full.len();
            form = profile_flags::DIFFERENCE;
        } else {
            misses = base.misses + 1;
        }
    }
    if misses >= MISSES_MAX {
        dataset.set_base(series, kind, Base::hopeless(misses));
        return form;
    }
    dataset.set_base(
        series,
        kind,
        Base {
            samples: Box::from(full),
            n_samples: profile.n_samples,
            misses,
        },
    );
    form | profile_flags::KEEP
}

fn put_profile(
    profile: &AppendedProfile,
    form: u8,
    (arrival, dataset, before): (Timestamp, &Dataset, Option<&AppendedProfile>),
    out: &mut Vec<u8>,
) {
    use profile_flags::{DURATION, PART, PERIOD, SERIES, TIME};
    let (series, time, part) = before.map_or((0, arrival, 0), |p| (p.series, p.time, p.part));
    let place = out.len();
    out.push(0);
    let mut flags = form;
    if profile.series != series {
        flags |= SERIES;
        put_u64(out, u64::from(profile.series));
    }
    put_u64(out, u64::from(profile.kind));
    if profile.part != part {
        flags |= PART;
        put_u64(out, u64::from(profile.part - part));
    }
    if profile.time != time {
        flags |= TIME;
        put_i64(out, profile.time.0.wrapping_sub(time.0));
    }
    if profile.duration_ns != dataset.duration_ns {
        flags |= DURATION;
        put_i64(out, profile.duration_ns.wrapping_sub(dataset.duration_ns));
    }
    if profile.period != dataset.periods[profile.kind as usize] {
        flags |= PERIOD;
        put_i64(out, profile.period);
    }
    out[place] = flags;
}

fn put_section(section: &Section, dataset: &Dataset, name: Option<&str>, out: &mut Vec<u8>) {
    match name {
        Some(name) => {
            put_u64(out, 0);
            put_bytes(out, name.as_bytes());
        }
        None => put_u64(out, u64::from(section.dataset) + 1),
    }
    dataset.dictionary.lock().encode_since(&section.mark, out);
    let before = section.series_before;
    put_u64(out, (dataset.series.len() - before) as u64);
    for at in before..dataset.series.len() {
        let previous = at.checked_sub(1).map(|at| &dataset.series[at]);
        put_labels(&dataset.series[at], previous, out);
    }
    let kinds = &dataset.kinds[section.kinds_before..];
    put_u64(out, kinds.len() as u64);
    for text in kinds.iter().flat_map(kind_parts) {
        put_bytes(out, text.as_bytes());
    }
    put_u64(out, section.profiles.len() as u64);
    out.extend_from_slice(&section.body);
}

/// Series of one dataset mostly differ in few values.
fn put_labels(labels: &Labels, before: Option<&Labels>, out: &mut Vec<u8>) {
    put_u64(out, labels.len() as u64);
    let mut previous = before.map(label_pairs);
    for (name, value) in label_pairs(labels) {
        match previous.as_mut().and_then(Iterator::next) {
            Some(same) if same == (name, value) => put_u64(out, label_code::SAME),
            Some((same, _)) if same == name => {
                put_u64(out, label_code::VALUE);
                put_bytes(out, value.as_bytes());
            }
            _ => {
                put_u64(out, label_code::NAME_AND_VALUE);
                put_bytes(out, name.as_bytes());
                put_bytes(out, value.as_bytes());
            }
        }
    }
}

fn part_labels<'a>(
    part: &PartView<'a>,
    series: u32,
) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
    let part = *part;
    part.series_end.span(series as usize).map(move |at| {
        let (name, value) = (part.label_name.get(at), part.label_value.get(at));
        (part.string(name), part.string(value))
    })
}

fn service_of<'a>(part: &PartView<'a>, series: u32) -> &'a str {
    part_labels(part, series)
        .find(|&(name, _)| name == names::SERVICE_NAME)
        .map_or("", |(_, value)| value)
}

fn series_id(dataset: &mut Dataset, part: &PartView<'_>, series: u32) -> u32 {
    match dataset.series_id(part_labels(part, series)) {
        Some(id) => id,
        None => dataset.add_series(part.series_labels(series)).0,
    }
}

fn kind_id(dataset: &mut Dataset, part: &PartView<'_>, kind: u32) -> u32 {
    let texts = [0, 1, 2, 3, 4].map(|at| part.string(part.kind.get(kind as usize * 5 + at)));
    match dataset.kind_id(texts) {
        Some(id) => id,
        None => dataset.add_kind(part.profile_type(kind)).0,
    }
}
