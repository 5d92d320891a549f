//! The encoder's bytes, as our reader and as Go's own tool see them.

use std::process::Command;

use scoria_model::part::mapping_flags;
use scoria_pprof::encode::{FunctionRow, MappingRow, SampleLabel};
use scoria_pprof::{ProfileEncoder, RawProfile};

fn full() -> Vec<u8> {
    let mut encoder = ProfileEncoder::new();
    encoder.sample_type("cpu", "nanoseconds");
    encoder.default_sample_type("cpu");
    encoder.period("cpu", "nanoseconds", 10_000_000);
    encoder.time(1_700_000_000_000_000_000, 15_000_000_000);
    let mapping = encoder.mapping(&MappingRow {
        start: 0x400000,
        limit: 0x800000,
        offset: 0x1000,
        filename: "/bin/app",
        build_id: "abcdef",
        flags: mapping_flags::HAS_FUNCTIONS | mapping_flags::HAS_LINE_NUMBERS,
    });
    let [outer, inlined] = ["main.outer", "main.inlined"].map(|name| {
        encoder.function(&FunctionRow {
            name,
            system_name: name,
            filename: "main.go",
            start_line: 3,
        })
    });
    let both = encoder.location(mapping, 0x400100, &[(inlined, 7), (outer, 8)]);
    let native = encoder.location(0, 0xdead, &[]);
    let label = SampleLabel {
        key: "thread",
        value: "worker",
    };
    encoder.sample([both, native], &[30], &[label]);
    encoder.sample([both], &[-1], &[]);
    encoder.finish()
}

#[test]
fn our_reader_sees_what_was_written() {
    let bytes = full();
    let raw = RawProfile::decode(&bytes).unwrap();
    let columns = &raw.columns;
    assert_eq!(raw.string(0), Some(&b""[..]));
    assert_eq!(raw.text(columns.sample_types[0].kind), b"cpu");
    assert_eq!(raw.text(columns.period_type.unit), b"nanoseconds");
    assert_eq!(columns.time_ns, 1_700_000_000_000_000_000);
    assert_eq!(columns.duration_ns, 15_000_000_000);
    assert_eq!(columns.period, 10_000_000);
    assert_eq!(columns.frames, [1, 2, 1]);
    assert_eq!(columns.values, [30, -1]);
    assert_eq!(
        raw.text(columns.labels.iter().next().unwrap().text),
        b"worker"
    );
    assert_eq!(columns.mappings[0].flags, 0b101);
    assert_eq!(raw.text(columns.mappings[0].build_id), b"abcdef");
    let line = raw.lines_of(0).next().unwrap();
    assert_eq!((line.function, line.line), (2, 7));
    assert_eq!(raw.lines_of(1).len(), 0);
    let names = (0..raw.n_strings() as u32).map(|at| raw.text(at).to_vec());
    let distinct: std::collections::HashSet<_> = names.collect();
    assert_eq!(distinct.len(), raw.n_strings(), "each string stands once");
}

#[test]
fn nothing_added_is_no_bytes() {
    assert!(ProfileEncoder::new().finish().is_empty());
}

#[test]
fn go_tool_pprof_accepts_it() {
    let file = std::env::temp_dir().join(format!("scoria-encode-{}.pb", std::process::id()));
    std::fs::write(&file, full()).expect("the temporary folder is writable");
    let output = Command::new("go")
        .args(["tool", "pprof", "-raw"])
        .arg(&file)
        .output();
    drop(std::fs::remove_file(&file));
    let Ok(output) = output else {
        eprintln!("SKIPPED: go is not on this machine");
        return;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("no such tool") {
        eprintln!("SKIPPED: this go has no pprof tool: {errors}");
        return;
    }
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    for expected in [
        "PeriodType: cpu nanoseconds",
        "Period: 10000000",
        "main.inlined",
        "worker",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}
