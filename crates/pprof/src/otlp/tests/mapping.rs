//! What the parts of an export become: labels, services, build ids, values.

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
