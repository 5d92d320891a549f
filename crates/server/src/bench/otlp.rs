//! A batch of the fleet as one export of OTLP profiles, as a collector in front of many pods sends.

use std::collections::HashMap;
use std::io::Read;

use anyhow::Context;
use scoria_pprof::RawProfile;
use scoria_pprof::otlp::encode::{
    AttributeValue, ExportEncoder, Generation, ProfileHeader, SampleRow, Texts,
};

use super::fleet::Shot;

/// An export, compressed, and how many samples it holds.
#[derive(Debug)]
pub(super) struct Export {
    pub(super) body: Vec<u8>,
    pub(super) samples: usize,
}

/// One profile for each shot, of its last sample type; each pod is a resource.
pub(super) fn export(service: &str, batch: &[Shot]) -> anyhow::Result<Export> {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let mut samples = 0;
    for shot in batch {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&shot.body[..]).read_to_end(&mut plain)?;
        let raw = RawProfile::decode(&plain)?;
        let pod = format!("{service}-{}", shot.pod);
        encoder.resource(&[
            ("service.name", AttributeValue::Text(service)),
            ("k8s.pod.name", AttributeValue::Text(&pod)),
        ]);
        encoder.scope("scoria bench", &[]);
        add(&mut encoder, &raw).context("a profile that is not UTF-8")?;
        samples += raw.columns.samples.len();
    }
    Ok(Export {
        body: super::fleet::gzip(&encoder.finish())?,
        samples,
    })
}

fn add(encoder: &mut ExportEncoder, raw: &RawProfile<'_>) -> anyhow::Result<()> {
    let columns = &raw.columns;
    let text = |at: u32| std::str::from_utf8(raw.text(at));
    let mut functions = HashMap::new();
    for function in columns.functions.iter() {
        let added = encoder.function(text(function.name)?, text(function.filename)?);
        functions.insert(function.id, added);
    }
    let mut mappings = HashMap::new();
    for mapping in &columns.mappings {
        let range = (mapping.start, mapping.limit);
        let added = encoder.mapping(text(mapping.filename)?, range, &[]);
        mappings.insert(mapping.id, added);
    }
    let mut locations = HashMap::new();
    for (at, location) in columns.locations.iter().enumerate() {
        let lines = raw.lines_of(at);
        let lines: Vec<(u32, i64)> = lines
            .map(|line| {
                (
                    functions.get(&line.function).copied().unwrap_or(0),
                    line.line,
                )
            })
            .collect();
        let mapping = mappings.get(&location.mapping).copied().unwrap_or(0);
        let added = encoder.location(mapping, location.address, &lines);
        locations.insert(location.id, added);
    }
    // Of the last type.
    let value = |at: usize| columns.values.slice(raw.sample(at).values()).last();
    let values: Vec<Option<i64>> = (0..columns.samples.len()).map(value).collect();
    let mut rows = Vec::with_capacity(columns.samples.len());
    for (at, value) in values.iter().enumerate() {
        let sample = raw.sample(at);
        let frames = columns.frames.slice(sample.frames()).iter();
        let stack: Vec<u32> = frames
            .map(|frame| locations.get(&raw.location_id(frame)).copied())
            .map(Option::unwrap_or_default)
            .collect();
        rows.push(SampleRow {
            stack: encoder.stack(&stack),
            values: value.as_slice(),
            ..SampleRow::default()
        });
    }
    let kind = columns.sample_types.last().copied().unwrap_or_default();
    let period = columns.period_type;
    let header = ProfileHeader {
        sample_type: (text(kind.kind)?, text(kind.unit)?),
        period_type: (text(period.kind)?, text(period.unit)?),
        period: columns.period,
        time_ns: columns.time_ns as u64,
        duration_ns: columns.duration_ns as u64,
        profile_id: &[],
    };
    encoder.profile(&header, &rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use scoria_model::ByteBudget;
    use scoria_pprof::DraftTerms;
    use scoria_pprof::otlp;

    use super::*;

    #[test]
    fn an_export_holds_a_profile_for_each_shot() {
        let shots = super::super::fleet::build(None, "", (3, 2), (1 << 60, 15)).unwrap();
        let export = export("shop", &shots).unwrap();
        assert_eq!(export.samples, 6 * 200);
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&export.body[..])
            .read_to_end(&mut plain)
            .unwrap();
        let terms = DraftTerms {
            seed: 1,
            memory: ByteBudget::new("test", 64 << 20),
            max_bytes: 0,
        };
        let read = otlp::Export::read(&plain, &terms.memory).unwrap();
        assert_eq!(read.n_profiles(), 6);
        let converted = read.converter().profile(5, &terms).unwrap();
        assert!(
            converted[0]
                .labels
                .iter()
                .any(|(name, _)| name == "k8s.pod.name")
        );
        assert!(converted[0].draft.n_samples() > 100);
    }
}
