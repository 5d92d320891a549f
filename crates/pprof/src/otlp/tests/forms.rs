//! The same export in three generations and as JSON reads the same.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[derive(Debug, Clone)]
struct Logical {
    /// Name and file of functions, which are locations by the same index.
    functions: Vec<(String, String)>,
    resources: Vec<Resource>,
}

#[derive(Debug, Clone)]
struct Resource {
    attributes: Vec<(String, String)>,
    profiles: Vec<Profile>,
}

#[derive(Debug, Clone)]
struct Profile {
    kind: (String, String),
    period: i64,
    time_ns: u64,
    samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
struct Sample {
    stack: Vec<usize>,
    attributes: Vec<(String, i64)>,
    link: Option<u8>,
    values: Vec<i64>,
    times: Vec<u64>,
}

fn text() -> impl Strategy<Value = String> {
    "[a-zé.]{1,6}"
}

fn samples() -> impl Strategy<Value = Sample> {
    let values = prop_oneof![
        (proptest::collection::vec(-5_i64..100, 1..3), Just(vec![])),
        (
            Just(vec![]),
            proptest::collection::vec(1_u64..u64::MAX, 1..3)
        ),
        proptest::collection::vec((1_i64..9, 1_u64..99), 1..3)
            .prop_map(|pairs| pairs.into_iter().unzip()),
    ];
    (
        proptest::collection::vec(0_usize..4, 0..4),
        proptest::collection::vec(
            (prop_oneof![text(), Just("service.name".into())], 0_i64..9),
            0..3,
        ),
        proptest::option::of(1_u8..4),
        values,
    )
        .prop_map(|(stack, attributes, link, (values, times))| Sample {
            stack,
            attributes,
            link,
            values,
            times,
        })
}

fn logical() -> impl Strategy<Value = Logical> {
    let profile = (
        (text(), text()),
        0_i64..50,
        any::<u64>(),
        proptest::collection::vec(samples(), 0..5),
    )
        .prop_map(|(kind, period, time_ns, samples)| Profile {
            kind,
            period,
            time_ns,
            samples,
        });
    let resource = (
        proptest::collection::vec(
            (prop_oneof![text(), Just("service.name".into())], text()),
            0..3,
        ),
        proptest::collection::vec(profile, 0..3),
    )
        .prop_map(|(attributes, profiles)| Resource {
            attributes,
            profiles,
        });
    (
        proptest::collection::vec((text(), text()), 4),
        proptest::collection::vec(resource, 1..3),
    )
        .prop_map(|(mut functions, resources)| {
            // Equal ones would be one in some forms and several in others.
            for (at, (name, _)) in functions.iter_mut().enumerate() {
                name.push_str(&at.to_string());
            }
            Logical {
                functions,
                resources,
            }
        })
}

fn unique(attributes: &[(String, i64)]) -> Vec<(String, i64)> {
    let mut unique: Vec<(String, i64)> = Vec::new();
    for pair in attributes {
        if unique.iter().all(|(key, _)| *key != pair.0) {
            unique.push(pair.clone());
        }
    }
    unique
}

impl Logical {
    fn encode(&self, generation: Generation, texts: Texts) -> Vec<u8> {
        let mut encoder = ExportEncoder::new(generation, texts);
        let locations: Vec<u32> = self
            .functions
            .iter()
            .map(|(name, file)| {
                let function = encoder.function(name, file);
                encoder.location(0, 0, &[(function, 3)])
            })
            .collect();
        for resource in &self.resources {
            let attributes: Vec<(&str, AttributeValue<'_>)> = resource
                .attributes
                .iter()
                .map(|(key, value)| (&**key, AttributeValue::Text(value)))
                .collect();
            encoder.resource(&attributes);
            encoder.scope("a scope", &[("in.scope", AttributeValue::Number(-4))]);
            for profile in &resource.profiles {
                profile.encode(&mut encoder, &locations);
            }
        }
        encoder.finish()
    }

    /// With a table for each kind of entry that is as long as its uses.
    fn json(&self, id: fn(&[u8]) -> String) -> String {
        let mut strings: Vec<Value> = vec![json!("")];
        let mut string = |text: &str| {
            strings.push(json!(text));
            strings.len() - 1
        };
        let functions: Vec<Value> = self
            .functions
            .iter()
            .map(|(name, file)| json!({"nameStrindex": string(name), "filename_strindex": string(file)}))
            .collect();
        let locations: Vec<Value> = (0..functions.len())
            .map(|at| json!({"lines": [{"functionIndex": at, "line": "3"}], "unknown": {"x": [1]}}))
            .collect();
        let (mut stacks, mut attributes) = (vec![], vec![json!({})]);
        let mut resources = vec![];
        for resource in &self.resources {
            let mut profiles = vec![];
            for profile in &resource.profiles {
                let mut samples = vec![];
                for sample in &profile.samples {
                    stacks.push(json!({"locationIndices": sample.stack}));
                    let mut indices = vec![];
                    for (key, value) in unique(&sample.attributes) {
                        let key = string(&key);
                        attributes.push(
                            json!({"keyStrindex": key, "value": {"intValue": value.to_string()}}),
                        );
                        indices.push(attributes.len() - 1);
                    }
                    let times: Vec<String> = sample.times.iter().map(u64::to_string).collect();
                    samples.push(json!({
                        "stackIndex": stacks.len() - 1,
                        "attributeIndices": indices,
                        "linkIndex": sample.link.unwrap_or(0),
                        "values": sample.values,
                        "timestampsUnixNano": times,
                    }));
                }
                profiles.push(json!({
                    "sampleType": {"typeStrindex": string(&profile.kind.0), "unitStrindex": string(&profile.kind.1)},
                    "samples": samples,
                    "timeUnixNano": profile.time_ns,
                    "durationNano": "77",
                    "periodType": {"typeStrindex": string("cpu"), "unitStrindex": string("nanoseconds")},
                    "period": profile.period.to_string(),
                    "profileId": null,
                }));
            }
            let pairs: Vec<Value> = resource
                .attributes
                .iter()
                .map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}))
                .collect();
            resources.push(json!({
                "resource": {"attributes": pairs},
                "scopeProfiles": [{
                    "scope": {"name": "a scope", "attributes": [{"key": "in.scope", "value": {"intValue": -4}}]},
                    "profiles": profiles,
                }],
            }));
        }
        let links: Vec<Value> = (0_u8..4)
            .map(|n| json!({"traceId": id(&[n; 16]), "spanId": id(&[n; 8])}))
            .collect();
        json!({"resourceProfiles": resources, "dictionary": {
            "stringTable": strings, "functionTable": functions, "location_table": locations,
            "stackTable": stacks, "attributeTable": attributes, "linkTable": links, "mappingTable": [null],
        }})
        .to_string()
    }
}

impl Profile {
    fn encode(&self, encoder: &mut ExportEncoder, locations: &[u32]) {
        let rows: Vec<(u32, Vec<u32>, u32)> = self
            .samples
            .iter()
            .map(|sample| {
                let stack: Vec<u32> = sample.stack.iter().map(|&at| locations[at]).collect();
                let attributes = unique(&sample.attributes);
                let attributes = attributes
                    .iter()
                    .map(|(key, value)| encoder.attribute(key, &AttributeValue::Number(*value)));
                let attributes = attributes.collect();
                let link = sample.link.map_or(0, |n| encoder.link([n; 16], [n; 8]));
                (encoder.stack(&stack), attributes, link)
            })
            .collect();
        let samples: Vec<SampleRow<'_>> = self
            .samples
            .iter()
            .zip(&rows)
            .map(|(sample, (stack, attributes, link))| SampleRow {
                stack: *stack,
                attributes,
                link: *link,
                values: &sample.values,
                times_ns: &sample.times,
            })
            .collect();
        let header = ProfileHeader {
            sample_type: (&self.kind.0, &self.kind.1),
            period_type: ("cpu", "nanoseconds"),
            period: self.period,
            time_ns: self.time_ns,
            duration_ns: 77,
            profile_id: &[5; 16],
        };
        encoder.profile(&header, &samples);
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn all_forms_read_the_same(logical in logical()) {
        let current = outcome(&logical.encode(Generation::V1_10, Texts::Interned)).unwrap();
        let eighth = outcome(&logical.encode(Generation::V1_8, Texts::InPlace));
        if logical.resources.iter().all(|resource| resource.profiles.is_empty()) {
            prop_assert_eq!(eighth, Ok(vec![]));
            return Ok(());
        }
        prop_assert_eq!(eighth.as_ref(), Ok(&current), "1.8");
        let json = outcome_of_json(&logical.json(hex));
        prop_assert_eq!(json.as_ref(), Ok(&current), "JSON");
        // Where nothing but field 2 could tell, it is an error, never another reading.
        for generation in [Generation::V1_9, Generation::V1_10] {
            match outcome(&logical.encode(generation, Texts::InPlace)) {
                Ok(read) => prop_assert_eq!(&read, &current, "{:?}", generation),
                Err(ExportError::Unreadable { problem: super::super::Unreadable::Undecidable, .. }) => {}
                Err(error) => prop_assert!(false, "{:?}: {}", generation, error),
            }
        }
    }
}

#[test]
fn links_and_attributes_read_the_same_in_all_generations() {
    let expected = "__name__=process_cpu,service_name=shop,service.name=shop cpu/nanoseconds per 10 cpu/nanoseconds at 1000 for 500\n  30 /bin/app()+1500[];/bin/app()+0[main@main.c:7] {thread.name=worker,span_id=0909090909090909,trace_id=07070707070707070707070707070707}";
    for generation in Generation::ALL {
        let read = outcome(&simple(generation, |_| {})).unwrap();
        let mut sorted: Vec<&str> = expected.split([',', ' ']).collect();
        let mut found: Vec<&str> = read[0].split([',', ' ']).collect();
        sorted.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, sorted, "{generation:?}");
    }
}

#[test]
fn base64_ids_are_read_too() {
    let ids = |trace: &str, span: &str| {
        json!({
            "resourceProfiles": [{"scopeProfiles": [{"profiles": [{
                "sampleType": {"typeStrindex": 1},
                "samples": [{"linkIndex": 1, "values": [1]}],
            }]}]}],
            "dictionary": {
                "stringTable": ["", "events"], "stackTable": [{}],
                "linkTable": [{}, {"traceId": trace, "spanId": span}],
            },
        })
        .to_string()
    };
    let hex = outcome_of_json(&ids("0102030405060708090a0b0c0d0e0f10", "0102030405060708"));
    let base64 = outcome_of_json(&ids("AQIDBAUGBwgJCgsMDQ4PEA==", "AQIDBAUGBwg="));
    assert_eq!(hex, base64);
    assert!(hex.unwrap()[0].contains("span_id=0102030405060708"));
}
