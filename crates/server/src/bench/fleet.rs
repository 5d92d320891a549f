//! Many pods out of a few profiles: each pod replays the files from its own offset, with new times.
//!
//! Profiles are decompressed, given another time and compressed again before anything is measured.
//! Without a folder a small family of profiles is generated from a fixed seed.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, bail};

/// One profile of the fleet, ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Shot {
    pub(super) pod: usize,
    pub(super) kind: String,
    pub(super) body: Vec<u8>,
    pub(super) raw_bytes: usize,
    pub(super) samples: usize,
}

/// What a replayed file holds.
#[derive(Debug)]
struct Source {
    /// The label `__name__` that its profiles get.
    kind: String,
    raw: Vec<u8>,
}

/// The names of profiles by a word in the file's name, as scrapers give them.
const KINDS: [(&str, &str); 6] = [
    ("heap", "memory"),
    ("goroutine", "goroutine"),
    ("mutex", "mutex"),
    ("block", "block"),
    ("wall", "wall"),
    ("cpu", "process_cpu"),
];

/// Makes the whole fleet, oldest first.
pub(super) fn build(
    folder: Option<&Path>,
    only: &str,
    (pods, rounds): (usize, usize),
    (now_ns, interval_ns): (i64, i64),
) -> anyhow::Result<Vec<Shot>> {
    let sources = match folder {
        Some(folder) => read_folder(folder, only)?,
        None => (0..40).map(generated).collect(),
    };
    let mut shots = Vec::with_capacity(pods * rounds);
    for round in 0..rounds {
        let back = (rounds - round) as i64 * interval_ns;
        for pod in 0..pods {
            let source = &sources[(round + pod * 37) % sources.len()];
            let time_ns = now_ns - back + pod as i64 * 1_000_003;
            let raw = with_time(&source.raw, time_ns)?;
            shots.push(Shot {
                pod,
                kind: source.kind.clone(),
                raw_bytes: raw.len(),
                samples: n_samples(&raw)?,
                body: gzip(&raw)?,
            });
        }
    }
    Ok(shots)
}

fn read_folder(folder: &Path, only: &str) -> anyhow::Result<Vec<Source>> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| format!("reading the folder {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file() && path.to_string_lossy().contains(only))
        .collect();
    names.sort();
    let sources = names
        .iter()
        .map(|path| read_source(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    if sources.is_empty() {
        bail!("no file in {} has a name with {only:?}", folder.display());
    }
    Ok(sources)
}

fn read_source(path: &Path) -> anyhow::Result<Source> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let mut raw = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(&bytes[..])
            .read_to_end(&mut raw)
            .with_context(|| format!("decompressing {}", path.display()))?;
    } else {
        raw = bytes;
    }
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let kind = KINDS
        .iter()
        .find(|(word, _)| name.contains(word))
        .map_or("process_cpu", |k| k.1);
    Ok(Source {
        kind: kind.to_owned(),
        raw,
    })
}

pub(super) fn gzip(raw: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(raw)?;
    Ok(out.finish()?)
}

/// The message without its field 9 (time), and then with the one given.
fn with_time(raw: &[u8], time_ns: i64) -> anyhow::Result<Vec<u8>> {
    const TIME: u64 = 9;
    let mut out = Vec::with_capacity(raw.len() + 12);
    let mut reader = scoria_model::varint::Reader::new(raw);
    while !reader.is_empty() {
        let before = reader.rest();
        let tag = reader.u64()?;
        match tag & 7 {
            0 => drop(reader.u64()?),
            1 => drop(reader.take(8)?),
            2 => drop(reader.bytes()?),
            5 => drop(reader.take(4)?),
            kind => bail!("not a pprof: wire type {kind}"),
        }
        if tag >> 3 != TIME {
            out.extend_from_slice(&before[..before.len() - reader.rest().len()]);
        }
    }
    put_number(&mut out, TIME, time_ns as u64);
    Ok(out)
}

fn n_samples(raw: &[u8]) -> anyhow::Result<usize> {
    let raw = scoria_pprof::RawProfile::decode(raw).context("reading a pprof")?;
    Ok(raw.columns.samples.len())
}

fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    scoria_model::varint::put_u64(out, field << 3);
    scoria_model::varint::put_u64(out, value);
}

fn put_message(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    scoria_model::varint::put_u64(out, field << 3 | 2);
    scoria_model::varint::put_bytes(out, bytes);
}

/// A CPU profile of 200 samples over a call tree that all generated profiles share.
fn generated(number: u64) -> Source {
    const FUNCTIONS: u64 = 600;
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = move |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    let mut raw = Vec::new();
    put_message(&mut raw, 1, &[0x08, 1, 0x10, 2]);
    for _ in 0..200 {
        let mut sample = Vec::new();
        let mut at = draw(FUNCTIONS);
        for _ in 0..28 {
            put_number(&mut sample, 1, at + 1);
            at = (at * 7 + draw(3)) % FUNCTIONS;
        }
        put_number(&mut sample, 2, 10_000_000 * (1 + draw(2)));
        put_message(&mut raw, 2, &sample);
    }
    for id in 1..=FUNCTIONS {
        let mut line = Vec::new();
        put_number(&mut line, 1, id);
        put_number(&mut line, 2, 10 + id % 90);
        let mut location = Vec::new();
        put_number(&mut location, 1, id);
        put_message(&mut location, 4, &line);
        put_message(&mut raw, 4, &location);
        let mut function = Vec::new();
        put_number(&mut function, 1, id);
        put_number(&mut function, 2, id + 2);
        put_message(&mut raw, 5, &function);
    }
    for text in ["", "cpu", "nanoseconds"] {
        put_message(&mut raw, 6, text.as_bytes());
    }
    for id in 1..=FUNCTIONS {
        put_message(
            &mut raw,
            6,
            format!("example.com/service/package{}.Function{id}", id % 40).as_bytes(),
        );
    }
    put_message(&mut raw, 11, &[0x08, 1, 0x10, 2]);
    put_number(&mut raw, 12, 10_000_000);
    Source {
        kind: "process_cpu".to_owned(),
        raw,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_time_replaces_the_old_one_and_nothing_else() {
        let first = with_time(&generated(1).raw, 5).unwrap();
        let second = with_time(&first, 1_700_000_000_000_000_000).unwrap();
        assert_eq!(with_time(&second, 5).unwrap(), first);
    }

    #[test]
    fn a_generated_fleet_has_a_shot_per_pod_and_round() {
        let shots = build(None, "", (3, 4), (1 << 60, 15)).unwrap();
        assert_eq!(shots.len(), 12);
        assert!(
            shots
                .iter()
                .all(|shot| shot.body.starts_with(&[0x1f, 0x8b]))
        );
    }
}
