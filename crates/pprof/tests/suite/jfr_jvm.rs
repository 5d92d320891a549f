//! A recording that the JVM of this machine makes on the spot, by its own recorder.

use std::collections::BTreeMap;
use std::process::Command;

use scoria_model::ByteBudget;
use scoria_pprof::DraftTerms;
use scoria_pprof::jfr::{Conversion, Recording, Snapshot};

const PROGRAM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/clients/java/Spin.java"
);

/// Of each sample type: the sum, and how much of it has a function with `name` in its name.
fn shares(bytes: &[u8], name: &str) -> BTreeMap<String, (i64, i64)> {
    let memory = ByteBudget::new("test", 1 << 30);
    let recording = Recording::read(bytes, 1, &memory).expect("a JVM writes whole recordings");
    let snapshot = Snapshot::read(b"", 1, &memory).expect("there are no labels");
    let conversion = Conversion {
        time_ns: 1,
        duration_ns: 1,
        sample_rate: 100,
        snapshot: &snapshot,
        max_samples: 0,
    };
    let terms = DraftTerms {
        seed: 1,
        memory,
        max_bytes: 0,
    };
    let mut profiles = recording.profiles(conversion, terms);
    let mut shares: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    while let Some(mut profile) = profiles.next_profile().expect("there is memory") {
        let raw = profile.draft.raw();
        let columns = &raw.columns;
        let text = |at: u32| String::from_utf8_lossy(raw.text(at)).into_owned();
        for at in 0..columns.samples.len() {
            let sample = raw.sample(at);
            let has_it = columns.frames.slice(sample.frames()).iter().any(|id| {
                let line = raw.lines_of(id as usize - 1).next().unwrap();
                text(columns.functions.get(line.function as usize - 1).name).contains(name)
            });
            let values = columns.values.slice(sample.values());
            for (kind, value) in columns.sample_types.iter().zip(values) {
                let share = shares.entry(text(kind.kind)).or_default();
                share.0 += value;
                share.1 += if has_it { value } else { 0 };
            }
        }
    }
    shares
}

#[test]
#[ignore = "starts a JVM for some seconds: tests/clients/run.sh"]
fn recordings_of_this_machine() {
    if Command::new("java").arg("-version").output().is_err() {
        eprintln!("SKIPPED: there is no java on this machine");
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("spin.jfr");
    let option = format!(
        "-XX:StartFlightRecording=filename={},settings=profile",
        file.display()
    );
    let output = Command::new("java")
        .args([&option, PROGRAM, "4"])
        .output()
        .expect("java starts");
    assert!(output.status.success(), "{output:?}");
    let bytes = std::fs::read(&file).expect("a recording");
    let spinning = shares(&bytes, "Spin.busySpin");
    let (total, busy) = spinning["cpu"];
    eprintln!(
        "ok: Spin.busySpin has {busy} of {total} ns in {} bytes",
        bytes.len()
    );
    assert!(busy * 2 > total, "{spinning:?}");
    let allocating = shares(&bytes, "Spin.allocate");
    let (total, own) = allocating["alloc_sample_bytes"];
    eprintln!("ok: Spin.allocate has {own} of {total} bytes");
    assert!(own * 2 > total, "{allocating:?}");
}
