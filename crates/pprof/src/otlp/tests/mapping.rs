//! What the parts of an export become: labels, services, build ids, values.

use scoria_model::part::mapping_flags;
use serde_json::{Value, json};

use super::*;

fn one(encoder: ExportEncoder) -> String {
    let mut read = outcome(&encoder.finish()).unwrap();
    assert_eq!(read.len(), 1, "{read:?}");
    read.remove(0)
}

fn events(encoder: &mut ExportEncoder, sample: &SampleRow<'_>) {
    let header = ProfileHeader {
        sample_type: ("events", "count"),
        ..ProfileHeader::default()
    };
    encoder.profile(&header, std::slice::from_ref(sample));
}

#[test]
fn attributes_become_labels_as_far_as_they_are_texts() {
    for texts in [Texts::InPlace, Texts::Interned] {
        let mut encoder = ExportEncoder::new(Generation::V1_10, texts);
        encoder.resource(&[
            ("host.name", AttributeValue::Text("a")),
            ("host.name", AttributeValue::Text("b")),
            ("n", AttributeValue::Number(-3)),
            ("list", AttributeValue::List("only")),
            ("flag", AttributeValue::Bool(true)),
            ("empty", AttributeValue::Text("")),
            ("__name__", AttributeValue::Text("mine")),
        ]);
        encoder.scope(
            "s",
            &[
                ("n", AttributeValue::Number(5)),
                ("of", AttributeValue::Text("scope")),
            ],
        );
        events(
            &mut encoder,
            &SampleRow {
                values: &[1],
                ..SampleRow::default()
            },
        );
        let text = one(encoder);
        assert!(
            text.starts_with(
                "__name__=events,host.name=a,list=only,n=-3,of=scope,service_name=unknown_service events/count"
            ),
            "{text}"
        );
    }
}

#[test]
fn the_service_name_comes_from_the_first_that_has_it() {
    let service = |attributes: &[(&str, AttributeValue<'_>)]| {
        let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
        encoder.resource(attributes);
        events(
            &mut encoder,
            &SampleRow {
                values: &[1],
                ..SampleRow::default()
            },
        );
        let text = one(encoder);
        let (_, rest) = text.split_once("service_name=").unwrap();
        rest.split([',', ' ']).next().unwrap().to_owned()
    };
    let executable = ("process.executable.name", AttributeValue::Text("java"));
    let old = ("service_name", AttributeValue::Text("old"));
    let named = ("service.name", AttributeValue::Text("shop"));
    assert_eq!(service(&[]), "unknown_service");
    assert_eq!(
        service(std::slice::from_ref(&executable)),
        "unknown_service:java"
    );
    assert_eq!(service(&[executable.clone(), old.clone()]), "old");
    assert_eq!(service(&[executable, old, named]), "shop");
}

#[test]
fn samples_that_name_services_are_told_apart() {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let [a, b] =
        ["a", "b"].map(|name| encoder.attribute("service.name", &AttributeValue::Text(name)));
    let thread = encoder.attribute("thread.id", &AttributeValue::Number(1));
    encoder.resource(&[("service.name", AttributeValue::Text("resource"))]);
    encoder.scope("s", &[]);
    let row = |attributes, values| SampleRow {
        attributes,
        values,
        ..SampleRow::default()
    };
    let (of_a, of_b) = ([a], [thread, b]);
    let rows = [
        row(&of_b, &[1]),
        row(&[], &[2]),
        row(&of_a, &[4]),
        row(&of_b, &[8]),
        row(&of_a, &[16, 32]),
    ];
    encoder.profile(
        &ProfileHeader {
            sample_type: ("events", "count"),
            ..ProfileHeader::default()
        },
        &rows,
    );
    let read = outcome(&encoder.finish()).unwrap();
    let short: Vec<String> = read
        .iter()
        .map(|text| {
            let (labels, samples) = text.split_once('\n').unwrap();
            let (_, service) = labels.split_once("service_name=").unwrap();
            format!("{}{samples}", service.split(' ').next().unwrap())
        })
        .collect();
    assert_eq!(
        short,
        ["a  52  {}", "b  9  {thread.id=1}", "resource  2  {}"]
    );
}

#[test]
fn every_build_id_is_kept_and_gnus_stands_alone() {
    let ids = |keys: &[&str]| {
        let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
        let attributes: Vec<u32> = keys
            .iter()
            .map(|key| {
                let value = key.rsplit('.').next().unwrap();
                encoder.attribute(key, &AttributeValue::Text(value))
            })
            .collect();
        let mapping = encoder.mapping("app", (0, 9), &attributes);
        let location = encoder.location(mapping, 5, &[]);
        let stack = encoder.stack(&[location]);
        encoder.scope("s", &[]);
        events(
            &mut encoder,
            &SampleRow {
                stack,
                values: &[1],
                ..SampleRow::default()
            },
        );
        let text = one(encoder);
        let (_, rest) = text.split_once("app(").unwrap();
        rest.split(')').next().unwrap().to_owned()
    };
    let [gnu, go, hash] =
        ["gnu", "go", "htlhash"].map(|kind| format!("process.executable.build_id.{kind}"));
    assert_eq!(ids(&[]), "");
    assert_eq!(ids(&[&gnu]), "gnu");
    assert_eq!(ids(&[&hash]), "htlhash:htlhash");
    assert_eq!(
        ids(&[&hash, "other", &go, &gnu]),
        "gnu go:go htlhash:htlhash"
    );
}

/// A mapping says of itself what every one of its frames has, and no more.
#[test]
fn a_mapping_has_what_all_of_its_frames_have() {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let whole = encoder.function("main", "main.c");
    let bare = encoder.function("work", "");
    let mut frames = Vec::new();
    for (binary, lines) in [
        ("whole", &[Some((whole, 7)), Some((whole, 8))][..]),
        ("names", &[Some((whole, 7)), Some((bare, 0))]),
        ("mixed", &[Some((whole, 7)), None]),
        ("native", &[None]),
    ] {
        let mapping = encoder.mapping(binary, (0x1000, 0x2000), &[]);
        for (line, address) in lines.iter().zip(0x1100..) {
            let lines: Vec<(u32, i64)> = line.iter().copied().collect();
            frames.push(encoder.location(mapping, address, &lines));
        }
    }
    let stack = encoder.stack(&frames);
    encoder.scope("s", &[]);
    let row = SampleRow {
        stack,
        values: &[1],
        ..SampleRow::default()
    };
    events(&mut encoder, &row);
    let body = encoder.finish();
    let terms = terms();
    let export = Export::read(&body, &terms.memory).unwrap();
    assert!(export.converter().profile(0, &terms).is_ok());
    let mappings = (1..export.counts().mappings).map(|at| export.mapping(at));
    let found: Vec<(String, u32)> = mappings
        .map(|row| {
            let binary = String::from_utf8_lossy(export.text(row.filename));
            (binary.into_owned(), row.flags)
        })
        .collect();
    let names = mapping_flags::HAS_FUNCTIONS;
    let all = names | mapping_flags::HAS_FILENAMES | mapping_flags::HAS_LINE_NUMBERS;
    let expected = [
        ("whole", all),
        ("names", names),
        ("mixed", 0),
        ("native", 0),
    ];
    let expected = expected.map(|(binary, flags)| (binary.to_owned(), flags));
    assert_eq!(found, expected);
}

#[test]
fn values_are_summed_and_timestamps_counted() {
    let value = |values: &[i64], times_ns: &[u64]| {
        let mut encoder = ExportEncoder::new(Generation::V1_9, Texts::InPlace);
        let link = encoder.link([1; 16], [0; 8]);
        encoder.scope("s", &[]);
        events(
            &mut encoder,
            &SampleRow {
                values,
                times_ns,
                link,
                ..SampleRow::default()
            },
        );
        let text = one(encoder);
        let (_, sample) = text.split_once("\n  ").unwrap();
        sample.split(' ').next().unwrap().to_owned()
    };
    assert_eq!(value(&[5], &[]), "5");
    assert_eq!(value(&[5, 6], &[1, 2]), "11");
    assert_eq!(value(&[], &[1, 2, 3]), "3");
    assert_eq!(value(&[0], &[1, 2, 3]), "0");
}

/// An export in JSON of one profile of one sample, with more of a resource, scope and profile.
fn json_of(resource: &Value, scope: &Value, profile: &Value) -> String {
    let mut whole = json!({
        "sampleType": {"typeStrindex": 1, "unitStrindex": 2},
        "samples": [{"values": [3]}],
    });
    let fields = whole.as_object_mut().unwrap();
    fields.extend(profile.as_object().unwrap().clone());
    json!({
        "resourceProfiles": [{
            "resource": resource,
            "schemaUrl": "https://example.org/resource",
            "scopeProfiles": [{"scope": scope, "profiles": [whole], "schemaUrl": "https://example.org/scope"}],
        }],
        "dictionary": {
            "stringTable": ["", "events", "count", "kept", "as it is"],
            "attributeTable": [{}, {"keyStrindex": 3, "value": {"stringValue": "x"}}],
            "stackTable": [{}],
        },
    })
    .to_string()
}

const EVENTS: &str = "__name__=events,service_name=unknown_service events/count per 0 / at 0 for 10000000000\n  3  {}";

#[test]
fn values_that_are_no_texts_make_no_labels() {
    let attributes = json!({"attributes": [
        {"key": "double", "value": {"doubleValue": 1.5}},
        {"key": "bytes", "value": {"bytesValue": "AQI="}},
        {"key": "two", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}}},
        {"key": "none", "value": {"arrayValue": {"values": []}}},
        {"key": "of flags", "value": {"arrayValue": {"values": [{"boolValue": true}]}}},
        {"key": "of lists", "value": {"arrayValue": {"values": [{"arrayValue": {"values": [{"stringValue": "a"}]}}]}}},
        {"key": "map", "value": {"kvlistValue": {"values": [{"key": "a", "value": {"stringValue": "b"}}]}}},
        {"key": "missing"},
        {"key": "", "value": {"stringValue": "nameless"}},
        {"key": "of numbers", "value": {"arrayValue": {"values": [{"intValue": "7"}]}}},
    ]});
    let read = outcome_of_json(&json_of(&attributes, &json!({}), &json!({}))).unwrap();
    let expected = EVENTS.replace("service_name", "of numbers=7,service_name");
    assert_eq!(read, [expected]);
}

#[test]
fn what_nobody_reads_changes_nothing() {
    let scope = json!({"name": "a profiler", "version": "1.2", "droppedAttributesCount": 1});
    let profile = json!({
        "profileId": "0102030405060708090a0b0c0d0e0f10",
        "droppedAttributesCount": 5,
        "originalPayloadFormat": "jfr",
        "originalPayload": "AQID",
        "attributeIndices": [1],
    });
    let resource = json!({"droppedAttributesCount": 2});
    let read = outcome_of_json(&json_of(&resource, &scope, &profile)).unwrap();
    // Nor is a time, which is the server's then; a duration is ten seconds.
    assert_eq!(read, [EVENTS]);
}

/// A message inside of a field.
fn wrap(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat()
}

/// Strings of the dictionary: "", "events", "long.name", "of the table".
fn dictionary(attributes: &[&[u8]]) -> Vec<u8> {
    let strings = ["", "events", "long.name", "of the table"];
    let mut out = strings.map(|text| wrap(5, text.as_bytes())).concat();
    for attribute in attributes {
        out.extend(wrap(6, attribute));
    }
    out.extend(wrap(7, b""));
    out
}

/// Of one resource with an attribute, whose only sample names attribute 1 of the dictionary.
fn interned(attribute: &[u8], of_dictionary: &[u8]) -> Vec<String> {
    let sample = [0x08, 0, 0x12, 1, 1, 0x22, 1, 5];
    let profile = [&[0x0a, 2, 0x08, 1][..], &wrap(2, &sample)].concat();
    let resource = wrap(1, &wrap(1, attribute));
    let scope = wrap(2, &wrap(2, &profile));
    let mut body = wrap(1, &[resource, scope].concat());
    body.extend(wrap(2, &dictionary(&[b"", of_dictionary])));
    outcome(&body).unwrap()
}

/// 0 is no text of the table, whatever it holds there: what stands in place counts.
#[test]
fn texts_of_the_table_are_found_and_0_means_none() {
    let line = |label: &str, of_sample: &str| {
        format!(
            "__name__=events,{label}service_name=unknown_service events/ per 0 / at 0 for 10000000000\n  5  {{{of_sample}}}"
        )
    };
    // key 3: string_value_strindex in AnyValue is 8, key_strindex in KeyValue is 3.
    let by_index = [0x12, 2, 0x40, 3, 0x18, 2];
    let in_place = [0x0a, 1, b'a', 0x12, 5, 0x0a, 1, b'x', 0x40, 0, 0x18, 0];
    let in_a_list = [0x12, 6, 0x2a, 4, 0x0a, 2, 0x40, 3, 0x18, 2];
    let nothing = [0x12, 2, 0x40, 0, 0x18, 2];
    let no_key = [0x12, 2, 0x40, 3, 0x18, 0];
    let table = [
        (&by_index[..], "long.name=of the table,"),
        (&in_place, "a=x,"),
        (&in_a_list, "long.name=of the table,"),
        (&nothing, ""),
        (&no_key, ""),
    ];
    for (attribute, label) in table {
        assert_eq!(
            interned(attribute, b""),
            [line(label, "")],
            "{attribute:x?}"
        );
    }
    // In the attributes of samples the key is an index always, the value may be.
    let of_sample = [0x08, 2, 0x12, 2, 0x40, 3];
    assert_eq!(
        interned(&in_place, &of_sample),
        [line("a=x,", "long.name=of the table")]
    );
    let zero = [0x08, 2, 0x12, 5, 0x0a, 1, b'y', 0x40, 0];
    assert_eq!(interned(&in_place, &zero), [line("a=x,", "long.name=y")]);
}

/// Ids of links by their length: 8 bytes are a span, 16 a trace, and others nothing.
#[test]
fn ids_of_other_lengths_are_no_ids() {
    let labels = |trace: &[u8], span: &[u8]| {
        let link = [wrap(1, trace), wrap(2, span)].concat();
        let sample = [0x08, 0, 0x18, 1, 0x22, 1, 5];
        let profile = [&[0x0a, 2, 0x08, 1][..], &wrap(2, &sample)].concat();
        let mut body = wrap(1, &wrap(2, &wrap(2, &profile)));
        let mut tables = dictionary(&[]);
        tables.extend(wrap(4, b""));
        tables.extend(wrap(4, &link));
        body.extend(wrap(2, &tables));
        let text = outcome(&body).unwrap().remove(0);
        let (_, labels) = text.split_once("{").unwrap();
        labels.trim_end_matches('}').to_owned()
    };
    let (span, trace) = (
        "span_id=0909090909090909",
        format!("trace_id={}", "07".repeat(16)),
    );
    assert_eq!(labels(&[7; 16], &[9; 8]), format!("{span},{trace}"));
    assert_eq!(labels(&[7; 15], &[9; 8]), span);
    assert_eq!(labels(&[], &[9; 8]), span);
    assert_eq!(labels(&[7; 16], &[9; 7]), trace);
    assert_eq!(labels(&[0; 16], &[0; 8]), "");
}
