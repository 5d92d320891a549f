//! Reading records back, believing nothing of them.

use std::sync::Arc;

use scoria_model::varint::{Reader, VarintError};
use scoria_model::{Labels, ProfileType, RetryKey, TenantId, Timestamp};

use super::generation::{Added, Base, Dataset, Generation, label_pairs};
use super::places::Places;
use super::samples::{self, Links, Plain};
use super::{
    AppendedProfile, DIFFERENCE_BYTES_MAX, HeadAppend, Push, RecordError, Replayed, VERSION, kind,
    label_code, profile_flags,
};

/// Reads the records of one generation, in the order in which they were written.
#[derive(Debug, Default)]
pub struct RecordReader {
    generation: Generation,
    base: Plain,
    profile: Plain,
}

impl RecordReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// Memory held beside the dictionaries: they are counted by the heads that share them.
    pub fn bytes(&self) -> u64 {
        self.generation.bytes()
    }

    /// Reads the next record.
    ///
    /// # Errors
    /// For anything that a writer cannot have written. The reader cannot go on after that: later
    /// records refer to this one.
    pub fn replay(&mut self, bytes: &[u8]) -> Result<Replayed, RecordError> {
        let mut reader = Reader::new(bytes);
        let version = read("version", reader.u8())?;
        if version != VERSION {
            return Err(RecordError::Version {
                found: version,
                known: VERSION,
            });
        }
        let replayed = match read("kind", reader.u8())? {
            kind::PUSH => Replayed::Push(self.push(&mut reader)?),
            kind::RETRY_KEYS => Replayed::RetryKeys(retry_keys(&mut reader)?),
            found => return Err(RecordError::Kind { found }),
        };
        match reader.rest().len() {
            0 => Ok(replayed),
            left => Err(RecordError::Trailing { left }),
        }
    }

    fn push(&mut self, reader: &mut Reader<'_>) -> Result<Push, RecordError> {
        let arrival = Timestamp(read("arrival", reader.i64())?);
        let tenant_id = self.tenant(reader)?;
        let tenant = self.generation.tenants[tenant_id as usize].clone();
        let n_parts = read("parts", reader.count())?;
        let mut keys = Vec::with_capacity(n_parts.min(reader.rest().len() / 16 + 1));
        for _ in 0..n_parts {
            keys.push(key(reader)?);
        }
        let n_datasets = read("datasets", reader.count())?;
        let mut heads = Vec::new();
        let mut progress = Progress::default();
        for _ in 0..n_datasets {
            let dataset = self.dataset(reader, tenant_id)?;
            let dataset = &mut self.generation.datasets[dataset as usize];
            let applied = dataset.dictionary.lock().apply(reader);
            applied?;
            let series = new_series(reader, dataset)?;
            let kinds = new_kinds(reader, dataset)?;
            let mut head = HeadAppend {
                tenant: tenant.clone(),
                service: Arc::clone(&dataset.service),
                dictionary: Arc::clone(&dataset.dictionary),
                series,
                kinds,
                profiles: Vec::new(),
                samples: Vec::new(),
            };
            let n_profiles = read("profiles", reader.count())?;
            progress.places.section();
            let nodes = head.dictionary.lock().mark().nodes;
            let mut before = None;
            for _ in 0..n_profiles {
                let (flags, mut profile) =
                    profile_head(reader, dataset, (arrival, head.profiles.last()), n_parts)?;
                profile.place = progress.places.of(&profile);
                let start = head.samples.len();
                let mut work = Work {
                    dataset,
                    base: &mut self.base,
                    profile: &mut self.profile,
                    nodes,
                    before,
                };
                let to = (&mut head.samples, &mut progress);
                work.samples(reader, flags, &mut profile, to)?;
                before = Some((start, profile.n_samples));
                head.profiles.push(profile);
            }
            heads.push(head);
        }
        Ok(Push {
            arrival,
            tenant,
            keys,
            heads,
        })
    }

    fn tenant(&mut self, reader: &mut Reader<'_>) -> Result<u32, RecordError> {
        let size = self.generation.tenants.len();
        match read("tenant", reader.u64())? {
            0 => {
                let name = text("tenant", reader)?;
                let tenant = TenantId::parse(name)?;
                if tenant.as_str() != name || self.generation.tenant_id(&tenant).is_some() {
                    return Err(repeated("tenant", name));
                }
                Ok(self.generation.add_tenant(tenant))
            }
            code => index("tenant", code - 1, size),
        }
    }

    fn dataset(&mut self, reader: &mut Reader<'_>, tenant: u32) -> Result<u32, RecordError> {
        let code = read("dataset", reader.u64())?;
        if code == 0 {
            let service = text("service", reader)?;
            if self.generation.dataset_id(tenant, service).is_some() {
                return Err(repeated("service", service));
            }
            return Ok(self.generation.add_dataset(tenant, Arc::from(service)));
        }
        let id = index("dataset", code - 1, self.generation.datasets.len())?;
        if self.generation.datasets[id as usize].tenant != tenant {
            return Err(RecordError::OtherTenant { dataset: id });
        }
        Ok(id)
    }
}

/// What is counted over all datasets of a record.
#[derive(Debug, Default)]
struct Progress {
    places: Places,
    /// Bytes of samples that were told by reference to others.
    referred: usize,
}

struct Work<'a> {
    dataset: &'a mut Dataset,
    base: &'a mut Plain,
    profile: &'a mut Plain,
    nodes: u32,
    /// Where the samples of the section's profile before start, and how many they are.
    before: Option<(usize, u32)>,
}

impl Work<'_> {
    /// Reads a profile told as the difference to its base and puts it in full at the end of `out`.
    fn difference(
        &mut self,
        reader: &mut Reader<'_>,
        profile: &mut AppendedProfile,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let place = profile.place;
        let base = self
            .dataset
            .base(profile.series, profile.kind)
            .ok_or(RecordError::NoBase { place })?;
        self.base.clear();
        samples::read_plain(&base.samples, base.n_samples as usize, self.base)
            .and_then(|()| samples::apply_difference(self.base, reader, self.nodes, self.profile))
            .map_err(|source| RecordError::Samples { place, source })?;
        let values = &self.profile.values;
        profile.total = values.iter().fold(0, |sum, value| sum.wrapping_add(*value));
        profile.n_samples = self.profile.len() as u32;
        samples::put_full(self.profile, &Links::default(), out);
        Ok(())
    }

    /// Reads a profile's samples, puts them in full at the end of `out`, and keeps them as a base
    /// if they are to be one.
    fn samples(
        &mut self,
        reader: &mut Reader<'_>,
        flags: u8,
        profile: &mut AppendedProfile,
        (out, progress): (&mut Vec<u8>, &mut Progress),
    ) -> Result<(), RecordError> {
        let start = out.len();
        let place = profile.place;
        let damaged = |source| RecordError::Samples { place, source };
        if flags & profile_flags::DIFFERENCE != 0 {
            self.difference(reader, profile, out)?;
            progress.refer(out.len() - start)?;
        } else if flags & profile_flags::REPEATS != 0 {
            let before = self.before.ok_or(RecordError::NoBase { place })?;
            let gcd = read("gcd", reader.u64())?;
            samples::put_repeated(gcd, (before.0, start), out);
            profile.n_samples = before.1;
            let mut repeated = Reader::new(&out[start..]);
            profile.total = samples::check_full(&mut repeated, before.1 as usize, self.nodes)
                .map_err(damaged)?;
            progress.refer(out.len() - start)?;
        } else {
            let n = read("samples", reader.count())?;
            let bytes = reader.rest();
            profile.total = samples::check_full(reader, n, self.nodes).map_err(damaged)?;
            profile.n_samples = n as u32;
            out.extend_from_slice(&bytes[..bytes.len() - reader.rest().len()]);
        }
        profile.samples_end = u32::try_from(out.len()).map_err(|_| RecordError::Index {
            field: "size of a dataset's samples",
            value: out.len() as u64,
            size: u32::MAX as usize,
        })?;
        if flags & profile_flags::KEEP == 0 {
            self.dataset.remove_base(profile.series, profile.kind);
            return Ok(());
        }
        samples::check_plain(&out[start..], profile.n_samples as usize).map_err(damaged)?;
        self.dataset.set_base(
            profile.series,
            profile.kind,
            Base {
                samples: Box::from(&out[start..]),
                n_samples: profile.n_samples,
                misses: 0,
            },
        );
        Ok(())
    }
}

impl Progress {
    fn refer(&mut self, bytes: usize) -> Result<(), RecordError> {
        self.referred += bytes;
        if self.referred <= DIFFERENCE_BYTES_MAX {
            return Ok(());
        }
        Err(RecordError::Index {
            field: "size of profiles told by reference to others",
            value: self.referred as u64,
            size: DIFFERENCE_BYTES_MAX,
        })
    }
}

/// Everything of a profile but its samples.
fn profile_head(
    reader: &mut Reader<'_>,
    dataset: &mut Dataset,
    (arrival, before): (Timestamp, Option<&AppendedProfile>),
    n_parts: usize,
) -> Result<(u8, AppendedProfile), RecordError> {
    use profile_flags::{DURATION, PART, PERIOD, SERIES, TIME};
    let flags = read("profile flags", reader.u8())?;
    let has = |bit: u8| flags & bit != 0;
    let (mut series, mut time, mut part) =
        before.map_or((0, arrival, 0), |p| (p.series, p.time, p.part));
    if has(SERIES) {
        series = index(
            "series",
            read("series", reader.u64())?,
            dataset.series.len(),
        )?;
    }
    index("series", u64::from(series), dataset.series.len())?;
    let kind = read("profile type", reader.u64())?;
    let kind = index("profile type", kind, dataset.kinds.len())?;
    if has(PART) {
        let delta = read("part", reader.u64())?;
        part = index("part", delta.saturating_add(u64::from(part)), n_parts)?;
    }
    index("part", u64::from(part), n_parts)?;
    if has(TIME) {
        time = Timestamp(time.0.wrapping_add(read("time", reader.i64())?));
    }
    if has(DURATION) {
        let delta = read("duration", reader.i64())?;
        dataset.duration_ns = dataset.duration_ns.wrapping_add(delta);
    }
    let period = &mut dataset.periods[kind as usize];
    if has(PERIOD) {
        *period = read("period", reader.i64())?;
    }
    let profile = AppendedProfile {
        series,
        kind,
        time,
        duration_ns: dataset.duration_ns,
        period: *period,
        part,
        ..AppendedProfile::default()
    };
    Ok((flags, profile))
}

fn new_series(reader: &mut Reader<'_>, dataset: &mut Dataset) -> Result<Vec<Labels>, RecordError> {
    let n = read("new series", reader.count())?;
    let mut added = Vec::new();
    for _ in 0..n {
        let n_labels = read("labels", reader.count())?;
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        let before = dataset.series.last().cloned();
        let mut previous = before.as_ref().map(label_pairs);
        for _ in 0..n_labels {
            let same = previous.as_mut().and_then(Iterator::next);
            let code = read("label", reader.u64())?;
            let pair = match (code, same) {
                (label_code::SAME, Some(pair)) => pair,
                (label_code::VALUE, Some((name, _))) => (name, text("label value", reader)?),
                (label_code::NAME_AND_VALUE, _) => {
                    (text("label name", reader)?, text("label value", reader)?)
                }
                _ => return Err(RecordError::Label { code }),
            };
            if pairs.last().is_some_and(|&(name, _)| name >= pair.0) {
                return Err(repeated("label", pair.0));
            }
            pairs.push(pair);
        }
        let labels = Labels::from_pairs(pairs);
        match dataset.add_series(labels.clone()).1 {
            Added::New => added.push(labels),
            Added::Known => return Err(repeated("series", &labels.to_string())),
        }
    }
    Ok(added)
}

fn new_kinds(
    reader: &mut Reader<'_>,
    dataset: &mut Dataset,
) -> Result<Vec<ProfileType>, RecordError> {
    let n = read("new profile types", reader.count())?;
    let mut added = Vec::new();
    for _ in 0..n {
        let mut part = || text("profile type", reader);
        let (name, sample, period) = (part()?, (part()?, part()?), (part()?, part()?));
        let kind = ProfileType::new(name, sample, period);
        match dataset.add_kind(kind.clone()).1 {
            Added::New => added.push(kind),
            Added::Known => return Err(repeated("profile type", &kind.to_string())),
        }
    }
    Ok(added)
}

fn retry_keys(reader: &mut Reader<'_>) -> Result<Vec<(Timestamp, RetryKey)>, RecordError> {
    let n = read("retry keys", reader.count())?;
    let mut keys = Vec::new();
    let mut arrival = 0i64;
    for _ in 0..n {
        arrival = arrival.wrapping_add(read("arrival", reader.i64())?);
        keys.push((Timestamp(arrival), key(reader)?));
    }
    Ok(keys)
}

fn key(reader: &mut Reader<'_>) -> Result<RetryKey, RecordError> {
    let bytes = read("retry key", reader.take(16))?;
    Ok(RetryKey(bytes.try_into().unwrap_or_default()))
}

fn read<T>(field: &'static str, value: Result<T, VarintError>) -> Result<T, RecordError> {
    value.map_err(|source| RecordError::Varint { field, source })
}

fn text<'a>(field: &'static str, reader: &mut Reader<'a>) -> Result<&'a str, RecordError> {
    let bytes = read(field, reader.bytes())?;
    std::str::from_utf8(bytes).map_err(|_| RecordError::Utf8 { field })
}

fn index(field: &'static str, value: u64, size: usize) -> Result<u32, RecordError> {
    match u32::try_from(value) {
        Ok(id) if (id as usize) < size => Ok(id),
        _ => Err(RecordError::Index { field, value, size }),
    }
}

fn repeated(field: &'static str, name: &str) -> RecordError {
    RecordError::Repeated {
        field,
        name: name.to_owned(),
    }
}
