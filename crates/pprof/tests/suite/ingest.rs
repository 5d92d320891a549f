//! The legacy endpoint's naming and its repairs for known profilers.

use scoria_model::Timestamp;
use scoria_pprof::{Ingest, Normalised, ProfileEncoder};

use crate::support::{NOW, Row, any_time, folded, ingest, normalise, small};

const PLAIN: Ingest<'_> = Ingest {
    spy: "gospy",
    from: NOW,
    display_names: None,
};

fn of(bytes: &[u8], how: Ingest<'_>) -> Normalised {
    normalise(&ingest(bytes, how), &any_time()).expect("accepted")
}

fn name_of(types: &[&str], display_names: Option<&[(&str, &str)]>) -> String {
    let types: Vec<(&str, &str)> = types.iter().map(|kind| (*kind, "count")).collect();
    let values = vec![1; types.len()];
    let bytes = small(&types, &[(&["a"], &values, &[])]);
    let how = Ingest {
        display_names,
        ..PLAIN
    };
    let part = of(&bytes, how).part;
    let label = part.series_labels[0];
    assert_eq!(part.strings.get(label.0), b"__name__");
    String::from_utf8_lossy(part.strings.get(label.1)).into_owned()
}

#[test]
fn the_name_follows_from_the_sample_types() {
    let cases: [(&[&str], &str); 14] = [
        (&["samples", "cpu"], "process_cpu"),
        (&["samples"], "process_cpu"),
        (&["samples", "wall"], "wall"),
        (&["sample", "wall"], "wall"),
        (&["alloc_objects", "alloc_space"], "memory"),
        (&["objects", "space"], "memory"),
        (&["inuse_space"], "memory"),
        (&["contentions", "delay"], "mutex"),
        (&["goroutine"], "goroutines"),
        (&["cpu", "alloc_samples"], "process_cpu"),
        (&["exception", "lock_count"], "lock_count"),
        (&["wallclock"], "wallclock"),
        (&["walls", "x"], "x"),
        (&["alloc_samples", "cpu"], "memory"),
    ];
    for (types, expected) in cases {
        assert_eq!(name_of(types, None), expected, "{types:?}");
    }
}

#[test]
fn display_names_replace_the_built_in_ones() {
    let block = [("contentions", "block_count"), ("delay", "block_duration")];
    assert_eq!(name_of(&["contentions", "delay"], Some(&block)), "block");
    let unnamed = [("contentions", ""), ("delay", "")];
    assert_eq!(name_of(&["contentions", "delay"], Some(&unnamed)), "delay");
    assert_eq!(name_of(&["samples"], Some(&[])), "samples");
}

#[test]
fn a_time_in_the_first_year_becomes_from() {
    let with_time = |time_ns| {
        let mut encoder = ProfileEncoder::new();
        encoder.sample_type("samples", "count");
        encoder.time(time_ns, 0);
        let location = encoder.location(0, 1, &[]);
        encoder.sample([location], &[1], &[]);
        encoder.finish()
    };
    let how = Ingest {
        from: Timestamp(NOW.0 - 5),
        ..PLAIN
    };
    let microseconds = NOW.0 / 1000;
    for (time, expected) in [
        (0, NOW.0 - 5),
        (microseconds, NOW.0 - 5),
        (NOW.0 - 9, NOW.0 - 9),
    ] {
        let part = of(&with_time(time), how).part;
        assert_eq!(part.profiles[0].time.0, expected);
    }
}

#[test]
fn scripting_names_get_their_file() {
    let rows: [Row<'_>; 1] = [(&["work"], &[1], &[])];
    let bytes = small(&[("samples", "count")], &rows);
    let stack = |spy| {
        let normalised = of(&bytes, Ingest { spy, ..PLAIN });
        folded(&normalised).into_values().next().unwrap_or_default()
    };
    for spy in ["pyspy", "rbspy", "scripting"] {
        assert_eq!(stack(spy), ["file.go work 1"]);
    }
    assert_eq!(stack("gospy"), ["work 1"]);
}

#[test]
fn pyspy_leaves_absolute_files_alone() {
    let mut encoder = ProfileEncoder::new();
    encoder.sample_type("samples", "count");
    encoder.time(NOW.0, 0);
    let function = encoder.function(&scoria_pprof::encode::FunctionRow {
        name: "f",
        filename: "/usr/lib/x.py",
        ..Default::default()
    });
    let location = encoder.location(0, 0, &[(function, 1)]);
    encoder.sample([location], &[1], &[]);
    let bytes = encoder.finish();
    for (spy, expected) in [("pyspy", "f 1"), ("rbspy", "/usr/lib/x.py f 1")] {
        let normalised = of(&bytes, Ingest { spy, ..PLAIN });
        let stacks = folded(&normalised).into_values().next();
        assert_eq!(stacks.unwrap_or_default(), [expected]);
    }
}

#[test]
fn old_dotnet_dashes_become_underscores() {
    let types = [("cpu", "nanoseconds"), ("inuse-space", "bytes")];
    let bytes = small(&types, &[(&["a"], &[1, 2], &[])]);
    let config = [("inuse-space", "inuse_space")];
    let by_config = Ingest {
        spy: "unknown",
        display_names: Some(&config),
        ..PLAIN
    };
    let by_spy = Ingest {
        spy: "dotnetspy",
        ..PLAIN
    };
    for how in [by_config, by_spy] {
        let kinds: Vec<String> = folded(&of(&bytes, how)).into_keys().collect();
        assert!(
            kinds[1].contains("process_cpu:inuse_space:bytes"),
            "{kinds:?}"
        );
    }
    assert!(normalise(&ingest(&bytes, PLAIN), &any_time()).is_err());
}
