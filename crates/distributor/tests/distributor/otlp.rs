//! Exports of OTLP profiles: what travels to the ingesters, and what is counted.

use std::collections::HashMap;

use bytes::Bytes;
use scoria_distributor::otlp::{Encoding, ExportRequest, Exported};
use scoria_distributor::{PushError, Settings};
use scoria_model::part::PartView;
use scoria_model::{DiscardReason, Limits};
use scoria_pprof::otlp::encode::{
    AttributeValue, ExportEncoder, Generation, ProfileHeader, SampleRow, Texts,
};

use tonic::Code;

use crate::support::{House, MEMORY, Mood, NOW_S, tenant};

/// A profile for each service and value, of stacks of one dictionary.
fn export(profiles: &[(&str, i64)]) -> Vec<u8> {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let frames: Vec<u32> = (0..50)
        .map(|n| {
            let function = encoder.function(&format!("function{n}"), "main.c");
            encoder.location(0, 0, &[(function, n)])
        })
        .collect();
    let stack = encoder.stack(&frames);
    for (service, value) in profiles {
        encoder.resource(&[("service.name", AttributeValue::Text(service))]);
        encoder.scope("test", &[]);
        let sample = SampleRow {
            stack,
            values: std::slice::from_ref(value),
            ..SampleRow::default()
        };
        let header = ProfileHeader {
            sample_type: ("events", "count"),
            time_ns: (NOW_S as u64) * 1_000_000_000,
            ..ProfileHeader::default()
        };
        encoder.profile(&header, std::slice::from_ref(&sample));
    }
    encoder.finish()
}

async fn answered(house: &House, body: Vec<u8>, encoding: Encoding) -> Result<Exported, PushError> {
    let request = ExportRequest {
        body: Bytes::from(body),
        encoding,
        user_agent: String::new(),
    };
    house.distributor.export(&tenant(), request).await
}

async fn sent(house: &House, body: Vec<u8>, encoding: Encoding) -> Exported {
    let exported = answered(house, body, encoding).await;
    exported.expect("something of it is taken")
}

#[tokio::test]
async fn the_profiles_of_an_export_travel_in_one_part_and_stay_themselves() {
    let house = House::new(Limits::default());
    let profiles: Vec<(String, i64)> = (1..=40).map(|n| (format!("app-{}", n % 7), n)).collect();
    let profiles: Vec<(&str, i64)> = profiles.iter().map(|(s, n)| (&**s, *n)).collect();
    let body = export(&profiles);
    for resends in [0, 40] {
        sent(&house, body.clone(), Encoding::Protobuf).await;
        assert_eq!(house.discarded("duplicate"), resends);
    }
    assert_eq!(house.ingester.calls(), [1, 1], "a part for each export");
    let totals: Vec<i64> = house.ingester.rows().iter().map(|row| row.total).collect();
    let expected: Vec<i64> = (1..=40).chain(1..=40).collect();
    assert_eq!(totals, expected);
    assert!(
        house
            .ingester
            .rows()
            .iter()
            .all(|row| row.functions.len() == 50)
    );
    let part = house.ingester.parts().swap_remove(0);
    let view = PartView::parse(&part).unwrap();
    assert_eq!(view.keys().len(), 40, "each can be a resend by itself");
    assert_eq!((view.function_name.len(), view.stack_end.len()), (50, 1));
    assert_eq!(house.bodies.used(), 0, "all memory came back");
}

#[tokio::test]
async fn each_ingester_gets_the_profiles_of_its_services() {
    let names = ["ingester-0", "ingester-1", "ingester-2"];
    let house = House::with_ingesters(Limits::default(), MEMORY, Settings::default(), &names);
    let services: Vec<String> = (0..60).map(|n| format!("service-{}", n % 30)).collect();
    let profiles: Vec<(&str, i64)> = services.iter().map(|s| &**s).zip(1..).collect();
    sent(&house, export(&profiles), Encoding::Protobuf).await;
    let (mut n_rows, mut home) = (0, HashMap::new());
    for (at, ingester) in house.ingesters.iter().enumerate() {
        assert_eq!(ingester.calls(), [1], "one call with one part");
        let rows = ingester.rows();
        n_rows += rows.len();
        for row in rows {
            assert_eq!(
                *home.entry(row.labels.clone()).or_insert(at),
                at,
                "{}",
                row.labels
            );
        }
    }
    assert_eq!((n_rows, home.len()), (60, 30));
}

#[tokio::test]
async fn frame_types_are_left_out_and_counted() {
    let house = House::new(Limits::default());
    let body = format!(
        r#"{{"resourceProfiles":[{{"scopeProfiles":[{{"profiles":[{{
            "sampleType":{{"typeStrindex":1,"unitStrindex":2}},"timeUnixNano":"{}",
            "samples":[{{"stackIndex":1,"values":["3"]}}]}}]}}]}}],
        "dictionary":{{
            "stringTable":["","events","count","profile.frame.type","other","main"],
            "functionTable":[{{}},{{"nameStrindex":5}}],
            "attributeTable":[{{}},{{"keyStrindex":4,"value":{{"stringValue":"x"}}}},
                {{"keyStrindex":3,"value":{{"stringValue":"native"}}}}],
            "locationTable":[{{}},
                {{"lines":[{{"functionIndex":1}}],"attributeIndices":[1,2]}},
                {{"address":"16","attributeIndices":[2]}},
                {{"address":"32","attributeIndices":[1]}}],
            "stackTable":[{{}},{{"locationIndices":[1,2,3]}}]}}}}"#,
        NOW_S * 1_000_000_000
    );
    let exported = sent(&house, body.into_bytes(), Encoding::Json).await;
    assert_eq!(exported.rejected_profiles, 0);
    assert_eq!(house.dropped("frame_type"), 2);
    assert_eq!(house.ingester.rows()[0].total, 3);
}

/// A header whose profile is dated now.
fn header(kind: &str) -> ProfileHeader<'_> {
    ProfileHeader {
        sample_type: (kind, "count"),
        time_ns: (NOW_S as u64) * 1_000_000_000,
        ..ProfileHeader::default()
    }
}

/// Labels that others find profiles by: the mark that they came as OTLP among them.
#[tokio::test]
async fn labels_times_and_the_size_as_it_was_sent() {
    let house = House::new(Limits::default());
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::Interned);
    let stack = encoder.stack(&[]);
    encoder.resource(&[
        ("service.name", AttributeValue::Text("shop")),
        ("k8s.pod.name", AttributeValue::Text("a")),
    ]);
    encoder.scope("a profiler", &[]);
    let sample = SampleRow {
        stack,
        values: &[1],
        ..SampleRow::default()
    };
    // Neither a time nor a duration.
    let header = ProfileHeader {
        sample_type: ("events", "count"),
        ..ProfileHeader::default()
    };
    encoder.profile(&header, &[sample]);
    let body = encoder.finish();
    let bytes = body.len();
    sent(&house, body, Encoding::Protobuf).await;
    let row = house.ingester.rows().remove(0);
    assert_eq!(
        row.labels,
        r#"{__name__="events", __otel__="true", k8s.pod.name="a", service.name="shop", service_name="shop"}"#
    );
    assert_eq!((row.time, row.duration_ns), (house.now(), 10_000_000_000));
    let received = house.metric(
        r#"pyroscope_distributor_received_compressed_bytes_sum{type="otel",tenant="anonymous"}"#,
    );
    assert_eq!(received, bytes as u64);
}

#[tokio::test]
async fn what_is_refused_of_an_export_is_told_with_its_labels() {
    let house = House::new(Limits::default());
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let stack = encoder.stack(&[]);
    for (service, stack) in [("good", stack), ("bad", 99), ("bad", 98)] {
        encoder.resource(&[
            ("service.name", AttributeValue::Text(service)),
            ("pod", AttributeValue::Text("p-1")),
        ]);
        encoder.scope("test", &[]);
        let sample = SampleRow {
            stack,
            values: &[1],
            ..SampleRow::default()
        };
        encoder.profile(&header("events"), &[sample]);
    }
    let body = encoder.finish();
    let exported = sent(&house, body.clone(), Encoding::Protobuf).await;
    assert_eq!(exported.rejected_profiles, 2);
    assert_eq!(house.discarded("malformed_profile"), 2);
    let told = house.distributor.rejections(&tenant());
    let [entry] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!((&*entry.service, entry.count), ("bad", 2));
    assert!(entry.labels.contains("pod=\"p-1\""), "{entry:?}");

    // And what could not be stored, or is stored already, though the profile is gone by then.
    *house.ingester.mood.lock() = Mood::Refuses(Code::Unavailable);
    let body = export(&[("shop", 1)]);
    answered(&house, body.clone(), Encoding::Protobuf)
        .await
        .unwrap_err();
    *house.ingester.mood.lock() = Mood::Stores;
    for _ in 0..2 {
        sent(&house, body.clone(), Encoding::Protobuf).await;
    }
    let told = house.distributor.rejections(&tenant());
    for reason in [DiscardReason::Unavailable, DiscardReason::Duplicate] {
        let entry = told.iter().find(|entry| entry.reason == reason).unwrap();
        assert_eq!((&*entry.service, entry.count), ("shop", 1));
        let labels = r#"{__name__="events", service_name="shop", __delta__="false", __otel__="true", service.name="shop"}"#;
        assert_eq!(entry.labels, labels);
    }
}

/// What has no form as a label, and types of frames, are told as what else is left out.
#[tokio::test]
async fn what_is_left_out_of_an_export_can_be_read_afterwards() {
    let house = House::new(Limits::default());
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let stack = encoder.stack(&[]);
    encoder.resource(&[
        ("service.name", AttributeValue::Text("shop")),
        ("flag", AttributeValue::Bool(true)),
    ]);
    encoder.scope("test", &[]);
    let sample = SampleRow {
        stack,
        values: &[1],
        ..SampleRow::default()
    };
    encoder.profile(&header("events"), &[sample]);
    sent(&house, encoder.finish(), Encoding::Protobuf).await;
    assert_eq!(house.dropped("unusable_attribute"), 1);
    let told = house.distributor.rejections(&tenant());
    let told: Vec<_> = told
        .iter()
        .map(|entry| (entry.reason, &*entry.service, entry.count))
        .collect();
    assert_eq!(told, [(DiscardReason::UnusableAttribute, "shop", 1)]);
}

/// Room is made for what has samples: what has none takes no more than being counted.
#[tokio::test]
async fn profiles_without_samples_take_next_to_no_room() {
    const MANY: usize = 100_000;
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let stack = encoder.stack(&[]);
    encoder.resource(&[("service.name", AttributeValue::Text("shop"))]);
    encoder.scope("test", &[]);
    for at in 0..MANY {
        let value = [at as i64 + 1];
        let sample = SampleRow {
            stack,
            values: &value,
            ..SampleRow::default()
        };
        let samples = [sample];
        let n = usize::from(at < 2);
        encoder.profile(&header("events"), &samples[..n]);
    }
    let house = House::with_memory(Limits::default(), 12 << 20);
    sent(&house, encoder.finish(), Encoding::Protobuf).await;
    assert_eq!(house.ingester.rows().len(), 2);
    assert_eq!(house.discarded("empty_profile"), MANY as u64 - 2);
    assert_eq!(house.bodies.used(), 0);
}
