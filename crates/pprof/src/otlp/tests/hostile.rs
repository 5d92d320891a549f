//! Exports that lie, contradict themselves or ask for too much.

use serde_json::{Value, json};

use super::super::Unreadable;
use super::*;

fn message(body: &[u8]) -> String {
    match outcome(body) {
        Ok(read) => read.join("\n"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn bad_indexes_refuse_the_profile_and_name_table_and_index() {
    for generation in Generation::ALL {
        for (edit, table) in [
            (
                (|row| row.stack = 99) as fn(&mut SampleRow<'_>),
                "stack_table",
            ),
            (|row| row.attributes = &[99], "attribute_table"),
            (|row| row.link = 99, "link_table"),
        ] {
            let text = message(&simple(generation, edit));
            assert!(
                text.starts_with("refused: profile 0 of the export"),
                "{text}"
            );
            assert!(text.contains("entry 99") && text.contains(table), "{text}");
            assert!(text.contains("service_name=\"shop\""), "{text}");
        }
        let empty = message(&simple(generation, |row| row.values = &[]));
        assert!(empty.contains("neither values nor timestamps"), "{empty}");
        let overflow = message(&simple(generation, |row| row.values = &[i64::MAX, 1]));
        assert!(overflow.contains("overflows"), "{overflow}");
        let scaled = message(&simple(generation, |row| row.values = &[i64::MAX]));
        assert!(scaled.contains("times the period"), "{scaled}");
    }
}

/// Every index that a table holds, in an export whose other profile uses none of them.
#[test]
fn bad_indexes_of_tables_refuse_what_uses_them_alone() {
    let sound = json!({
        "stringTable": ["", "events", "count", "service.name"],
        "mappingTable": [{}, {"attributeIndices": []}],
        "functionTable": [{}, {"nameStrindex": 1}],
        "locationTable": [{}, {"mappingIndex": 1, "lines": [{"functionIndex": 1}]}],
        "stackTable": [{}, {"locationIndices": [1]}],
        "attributeTable": [
            {},
            {"keyStrindex": 1, "value": {"stringValue": "x"}},
            {"keyStrindex": 3, "value": {"stringValue": "shop"}},
        ],
    });
    let bad = [
        ("/stackTable/1/locationIndices/0", "location_table"),
        ("/locationTable/1/mappingIndex", "mapping_table"),
        ("/locationTable/1/lines/0/functionIndex", "function_table"),
        ("/functionTable/1/nameStrindex", "string_table"),
        ("/functionTable/1/filenameStrindex", "string_table"),
        ("/functionTable/1/systemNameStrindex", "string_table"),
        ("/mappingTable/1/filenameStrindex", "string_table"),
        ("/mappingTable/1/attributeIndices/0", "attribute_table"),
        ("/attributeTable/1/keyStrindex", "string_table"),
        (
            "/attributeTable/1/value/stringValueStrindex",
            "string_table",
        ),
    ];
    for (place, table) in bad {
        let mut dictionary = sound.clone();
        let (parent, last) = place.rsplit_once('/').unwrap();
        match dictionary.pointer_mut(parent).unwrap() {
            Value::Array(items) => {
                items.clear();
                items.push(json!(99));
            }
            fields => fields[last] = json!(99),
        }
        let profile = |sample: Value| json!({"sampleType": {"typeStrindex": 1, "unitStrindex": 2}, "samples": [sample]});
        let export = json!({
            "resourceProfiles": [{"scopeProfiles": [{"profiles": [
                profile(json!({"stackIndex": 1, "attributeIndices": [1], "values": [1]})),
                profile(json!({"values": [2]})),
            ]}]}],
            "dictionary": dictionary,
        });
        let read = outcome_of_json(&export.to_string()).unwrap();
        let [refused, taken] = &read[..] else {
            panic!("{place}: {read:?}");
        };
        assert!(
            refused.starts_with("refused: profile 0"),
            "{place}: {refused}"
        );
        let said = refused.contains("99") && refused.contains(table) && refused.contains("entries");
        assert!(said, "{place}: {refused}");
        assert!(taken.ends_with("  2  {}"), "{place}: {taken}");
    }
}

/// Also where some sample names its service by an attribute, for which all are looked at.
#[test]
fn a_bad_attribute_beside_one_that_names_a_service_is_told() {
    for generation in Generation::ALL {
        let mut encoder = ExportEncoder::new(generation, Texts::InPlace);
        let shop = encoder.attribute("service.name", &AttributeValue::Text("shop"));
        encoder.scope("s", &[]);
        let row = |attributes| SampleRow {
            attributes,
            values: &[1],
            ..SampleRow::default()
        };
        let (good, bad) = ([shop], [shop, 99]);
        let header = ProfileHeader {
            sample_type: ("events", "count"),
            ..ProfileHeader::default()
        };
        encoder.profile(&header, &[row(&good), row(&bad)]);
        let text = message(&encoder.finish());
        assert!(text.starts_with("refused: profile 0"), "{text}");
        assert!(
            text.contains("entry 99") && text.contains("attribute_table"),
            "{text}"
        );
    }
}

#[test]
fn every_prefix_and_every_flipped_byte_is_survived() {
    let whole = simple(Generation::V1_10, |row| row.times_ns = &[1, 2]);
    for length in 0..whole.len() {
        drop(message(&whole[..length]));
    }
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            drop(message(&bytes));
        }
    }
}

/// Wraps a profile's bytes into an export.
fn export_of(profile: &[u8], dictionary: &[u8]) -> Vec<u8> {
    let wrap = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2, bytes.len() as u8];
        out.extend_from_slice(bytes);
        out
    };
    let scope = [wrap(1, &wrap(1, b"probe")), wrap(2, profile)].concat();
    let mut out = wrap(1, &wrap(2, &scope));
    out.extend(wrap(2, dictionary));
    out
}

#[test]
fn versions_before_1_8_are_an_error_that_names_field_and_sender() {
    // A sample of 1.7: locations_start_index, locations_length, value.
    let sample = [0x12, 6, 0x08, 1, 0x10, 1, 0x1a, 0];
    let text = message(&export_of(&sample, &[]));
    assert!(
        text.contains("field 2 of a sample has wire type 0"),
        "{text}"
    );
    assert!(text.contains("scope \"probe\""), "{text}");
    // Location indexes of a profile of 1.7.
    let text = message(&export_of(&[0x1a, 1, 0], &[]));
    assert!(
        text.contains("field 3 of a profile has wire type 2"),
        "{text}"
    );
    // A container of a profile of 1.4: field 2 is a time.
    let text = message(&export_of(&[0x11, 0, 0, 0, 0, 0, 0, 0, 0], &[]));
    assert!(
        text.contains("field 2 of a profile has wire type 1"),
        "{text}"
    );
}

#[test]
fn what_belongs_to_two_versions_or_to_none_is_an_error() {
    // Field 3 with a length is 1.9, field 4 with a length 1.10.
    let both = [0x12, 8, 0x08, 0, 0x1a, 1, 1, 0x22, 1, 1];
    assert!(matches!(
        outcome(&export_of(&both, &[])),
        Err(ExportError::Unreadable {
            problem: Unreadable::Contradiction { field: 4, .. },
            ..
        })
    ));
    // One number in field 2, one timestamp, and an attribute 1 in the table: both readings hold.
    let time = [0x2a, 8, 1, 0, 0, 0, 0, 0, 0, 0];
    let either = [&[0x12, 13, 0x12, 1, 1][..], &time].concat();
    let attributes = [0x32, 0, 0x32, 0, 0x3a, 0, 0x2a, 0];
    assert!(matches!(
        outcome(&export_of(&either, &attributes)),
        Err(ExportError::Unreadable {
            problem: Unreadable::Undecidable,
            ..
        })
    ));
    // Without that attribute it is a value.
    let text = message(&export_of(&either, &[0x3a, 0, 0x2a, 0]));
    assert!(text.contains("has no name"), "{text}");
    // Two attributes for one timestamp are no values.
    let two = [&[0x12, 14, 0x12, 2, 1, 2][..], &time].concat();
    let attributes = [&[0x32, 0][..], &attributes].concat();
    let text = message(&export_of(&two, &attributes));
    assert!(text.contains("has no name"), "{text}");
}

#[test]
fn parts_that_are_missing_are_named() {
    assert_eq!(outcome(&[]), Err(ExportError::NoResources));
    let sample = [0x12, 4, 0x08, 0, 0x20, 1];
    let mut body = export_of(&sample, &[]);
    body.truncate(body.len() - 2);
    let text = message(&body);
    assert!(text.contains("no dictionary (field 2)"), "{text}");
    assert_eq!(
        outcome(&[0x0a, 0]),
        Ok(vec![]),
        "a resource without profiles is no error"
    );
}

#[test]
fn a_dictionary_beyond_the_memory_is_refused_before_it_is_read() {
    let mut dictionary = Vec::new();
    for _ in 0..30 {
        dictionary.extend_from_slice(&[0x12, 0]);
    }
    let body = export_of(&[], &dictionary);
    let memory = ByteBudget::new("test", 100);
    assert!(matches!(
        Export::read(&body, &memory),
        Err(ExportError::Memory(_))
    ));
    assert_eq!(memory.used(), 0);
}

#[test]
fn few_bytes_that_stand_for_many_frames_are_cut_off_at_the_size_limit() {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let function = encoder.function("f", "");
    let location = encoder.location(0, 0, &[(function, 1)]);
    let stack = encoder.stack(&vec![location; 5000]);
    let times: Vec<[u64; 1]> = (0..5000).map(|n| [n]).collect();
    let attributes: Vec<[u32; 1]> = (0..5000)
        .map(|n| [encoder.attribute("n", &AttributeValue::Number(n))])
        .collect();
    let rows: Vec<SampleRow<'_>> = times
        .iter()
        .zip(&attributes)
        .map(|(times, attributes)| SampleRow {
            stack,
            attributes,
            link: 0,
            values: &[1],
            times_ns: times,
        })
        .collect();
    encoder.scope("s", &[]);
    let header = ProfileHeader {
        sample_type: ("events", "count"),
        ..ProfileHeader::default()
    };
    encoder.profile(&header, &rows);
    let body = encoder.finish();
    let terms = crate::DraftTerms {
        max_bytes: 1 << 20,
        ..terms()
    };
    let export = Export::read(&body, &terms.memory).unwrap();
    let refused = export.converter().profile(0, &terms).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("max_profile_size_bytes"), "{text}");
}

/// One stacktrace that is nearly all of the export, and profiles that each use it.
#[test]
fn profiles_that_repeat_a_huge_stacktrace_are_refused_in_time() {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let function = encoder.function("main", "main.c");
    let location = encoder.location(0, 0, &[(function, 7)]);
    let stack = encoder.stack(&vec![location; 1 << 20]);
    encoder.scope("s", &[]);
    let row = SampleRow {
        stack,
        values: &[1],
        ..SampleRow::default()
    };
    for _ in 0..1000 {
        let header = ProfileHeader {
            sample_type: ("events", "count"),
            ..ProfileHeader::default()
        };
        encoder.profile(&header, &[row]);
    }
    let body = encoder.finish();
    let terms = crate::DraftTerms {
        max_bytes: 0,
        ..terms()
    };
    let export = Export::read(&body, &terms.memory).unwrap();
    let mut converter = export.converter();
    let outcomes = (0..1000).map(|at| converter.profile(at, &terms).map(drop));
    let refused: Vec<String> = outcomes
        .filter_map(|outcome| outcome.err().map(|refused| refused.to_string()))
        .collect();
    assert!((700..800).contains(&refused.len()), "{}", refused.len());
    assert!(refused[0].contains("repeat so much"), "{}", refused[0]);
}

#[test]
fn json_that_is_none_says_where() {
    for (text, expected) in [
        ("", "line 1"),
        ("[]", "an export of profiles"),
        ("{\"resourceProfiles\": 5}", "resourceProfiles"),
        ("{\"resourceProfiles\": [{}]} x", "trailing"),
        (
            "{\"resourceProfiles\":[{\"scopeProfiles\":[{\"profiles\":[{\"sample\":[{\"locationsStartIndex\":1}]}]}]}]}",
            "before 1.8",
        ),
        (
            "{\"dictionary\":{\"linkTable\":[{\"traceId\":\"xyz\"}]}}",
            "hexadecimal",
        ),
        (
            "{\"dictionary\":{\"stackTable\":[{\"locationIndices\":[1.5]}]}}",
            "not an integer",
        ),
    ] {
        let error = outcome_of_json(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let deep = format!("{}{}", "{\"dictionary\":".repeat(5000), "}".repeat(5000));
    outcome_of_json(&deep).unwrap_err();
    let nested = format!(
        "{{\"dictionary\":{{\"attributeTable\":[{{\"value\":{}1{}}}]}}}}",
        "{\"arrayValue\":{\"values\":[".repeat(3000),
        "]}}".repeat(3000)
    );
    outcome_of_json(&nested).unwrap_err();
}
