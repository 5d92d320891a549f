//! Exports written by hand in both encodings: the one that a canary sends, whose entry 0 of each
//! table is one that is used and not the one that stands for none, and one of CPU profiles.

use serde_json::json;

use crate::pprof_bytes::{put_message, put_number, put_varint};

/// Texts by number; two functions, each with a location of the same number.
const STRINGS: [&str; 6] = ["", "otlp_test", "count", "samples", "func1", "func2"];

/// Two stacks, leaf first, with the value of each.
const STACKS: [(&[u64], u64); 2] = [(&[1, 0], 10), (&[0], 20)];

/// `func2` called by `func1` 10, and `func1` alone 20, of a resource with these attributes.
#[derive(Debug)]
pub struct TestExport<'a> {
    pub time_ns: i64,
    pub attributes: &'a [(&'a str, &'a str)],
}

impl TestExport<'_> {
    /// As JSON.
    pub fn json(&self) -> String {
        let attributes = self.attributes.iter();
        let attributes: Vec<_> = attributes
            .map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}))
            .collect();
        let location = |at: u64| json!({"mappingIndex": 0, "lines": [{"functionIndex": at}]});
        let samples = STACKS.iter().enumerate();
        let samples: Vec<_> = samples
            .map(|(at, (_, value))| json!({"stackIndex": at, "values": [value.to_string()]}))
            .collect();
        json!({
            "resourceProfiles": [{
                "resource": {"attributes": attributes},
                "scopeProfiles": [{"scope": {"name": "canary"}, "profiles": [{
                    "sampleType": {"typeStrindex": 1, "unitStrindex": 2},
                    "periodType": {"typeStrindex": 1, "unitStrindex": 3},
                    "period": "1",
                    "timeUnixNano": self.time_ns.to_string(),
                    "samples": samples,
                }]}],
            }],
            "dictionary": {
                "stringTable": STRINGS,
                "mappingTable": [{}],
                "functionTable": [{"nameStrindex": 4}, {"nameStrindex": 5}],
                "locationTable": [location(0), location(1)],
                "stackTable": STACKS.map(|(frames, _)| json!({"locationIndices": frames})),
                "linkTable": [{}],
                "attributeTable": [{}],
            },
        })
        .to_string()
    }

    /// As protobuf.
    pub fn protobuf(&self) -> Vec<u8> {
        let mut export = Vec::new();
        put_message(&mut export, 1, &self.resource_profiles());
        put_message(&mut export, 2, &dictionary());
        export
    }

    fn resource_profiles(&self) -> Vec<u8> {
        let mut resource = Vec::new();
        for (key, value) in self.attributes {
            let mut attribute = Vec::new();
            put_message(&mut attribute, 1, key.as_bytes());
            put_message(&mut attribute, 2, &message(1, value.as_bytes()));
            put_message(&mut resource, 1, &attribute);
        }
        let mut scope_profiles = message(1, &message(1, b"canary"));
        put_message(&mut scope_profiles, 2, &self.profile());
        let mut out = message(1, &resource);
        put_message(&mut out, 2, &scope_profiles);
        out
    }

    fn profile(&self) -> Vec<u8> {
        let mut out = message(1, &numbers(&[(1, 1), (2, 2)]));
        for (at, (_, value)) in (0..).zip(&STACKS) {
            let mut sample = numbers(&[(1, at)]);
            let mut values = Vec::new();
            put_varint(&mut values, *value);
            put_message(&mut sample, 4, &values);
            put_message(&mut out, 2, &sample);
        }
        // Field 3 has eight bytes whatever its value.
        put_varint(&mut out, 3 << 3 | 1);
        out.extend_from_slice(&self.time_ns.to_le_bytes());
        put_message(&mut out, 5, &numbers(&[(1, 1), (2, 3)]));
        put_number(&mut out, 6, 1);
        out
    }
}

/// Texts of [`CpuExport`] by number; the last three are functions, each with a location.
const CPU_STRINGS: [&str; 8] = [
    "",
    "samples",
    "count",
    "cpu",
    "nanoseconds",
    "main",
    "work",
    "rest",
];

/// Stack and value of each of its profiles.
const CPU_PROFILES: [(u64, u64); 2] = [(1, 3), (2, 4)];
const CPU_PERIOD_NS: u64 = 10_000_000;

/// Two profiles of each service over one dictionary: `main;work` 30 ms and `main;rest` 40 ms.
#[derive(Debug)]
pub struct CpuExport<'a> {
    pub time_ns: i64,
    pub services: &'a [&'a str],
}

impl CpuExport<'_> {
    /// As JSON.
    pub fn json(&self) -> Vec<u8> {
        let profile = |(stack, value): (u64, u64)| {
            json!({
                "sampleType": {"typeStrindex": 1, "unitStrindex": 2},
                "periodType": {"typeStrindex": 3, "unitStrindex": 4},
                "period": CPU_PERIOD_NS.to_string(), "timeUnixNano": self.time_ns.to_string(),
                "samples": [{"stackIndex": stack, "values": [value.to_string()]}],
            })
        };
        let resources = self.services.iter().map(|service| {
            let attribute = json!({"key": "service.name", "value": {"stringValue": service}});
            json!({
                "resource": {"attributes": [attribute]},
                "scopeProfiles": [{"profiles": CPU_PROFILES.map(profile)}],
            })
        });
        let function = |name: u32| json!({"nameStrindex": name});
        let location = |at: u32| json!({"lines": [{"functionIndex": at}]});
        json!({
            "resourceProfiles": resources.collect::<Vec<_>>(),
            "dictionary": {
                "stringTable": CPU_STRINGS,
                "mappingTable": [{}], "linkTable": [{}], "attributeTable": [{}],
                "functionTable": [{}, function(5), function(6), function(7)],
                "locationTable": [{}, location(1), location(2), location(3)],
                "stackTable": [{}, {"locationIndices": [2, 1]}, {"locationIndices": [3, 1]}],
            },
        })
        .to_string()
        .into_bytes()
    }

    /// As protobuf.
    pub fn protobuf(&self) -> Vec<u8> {
        let mut export = Vec::new();
        for service in self.services {
            let mut attribute = message(1, b"service.name");
            put_message(&mut attribute, 2, &message(1, service.as_bytes()));
            let mut scope_profiles = Vec::new();
            for (stack, value) in CPU_PROFILES {
                put_message(&mut scope_profiles, 2, &self.profile(stack, value));
            }
            let mut resource = message(1, &message(1, &attribute));
            put_message(&mut resource, 2, &scope_profiles);
            put_message(&mut export, 1, &resource);
        }
        put_message(&mut export, 2, &cpu_dictionary());
        export
    }

    fn profile(&self, stack: u64, value: u64) -> Vec<u8> {
        let mut sample = numbers(&[(1, stack)]);
        put_message(&mut sample, 4, &[value as u8]);
        let mut out = message(1, &numbers(&[(1, 1), (2, 2)]));
        put_message(&mut out, 2, &sample);
        put_varint(&mut out, 3 << 3 | 1);
        out.extend_from_slice(&self.time_ns.to_le_bytes());
        put_message(&mut out, 5, &numbers(&[(1, 3), (2, 4)]));
        put_number(&mut out, 6, CPU_PERIOD_NS);
        out
    }
}

fn cpu_dictionary() -> Vec<u8> {
    let mut out = message(1, &[]);
    put_message(&mut out, 2, &[]);
    put_message(&mut out, 3, &[]);
    for function in 1..=3 {
        let line = numbers(&[(1, function)]);
        put_message(&mut out, 2, &message(3, &line));
        put_message(&mut out, 3, &numbers(&[(1, function + 4)]));
    }
    put_message(&mut out, 4, &[]);
    for text in CPU_STRINGS {
        put_message(&mut out, 5, text.as_bytes());
    }
    put_message(&mut out, 6, &[]);
    for frames in [&[][..], &[2, 1], &[3, 1]] {
        put_message(&mut out, 7, &message(1, frames));
    }
    out
}

fn dictionary() -> Vec<u8> {
    let mut out = message(1, &[]);
    for function in 0..2 {
        let line = numbers(&[(1, function)]);
        put_message(&mut out, 2, &message(3, &line));
    }
    for name in [4, 5] {
        put_message(&mut out, 3, &numbers(&[(1, name)]));
    }
    put_message(&mut out, 4, &[]);
    for text in STRINGS {
        put_message(&mut out, 5, text.as_bytes());
    }
    put_message(&mut out, 6, &[]);
    for (frames, _) in STACKS {
        let mut packed = Vec::new();
        frames.iter().for_each(|&at| put_varint(&mut packed, at));
        put_message(&mut out, 7, &message(1, &packed));
    }
    out
}

fn message(field: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, field, bytes);
    out
}

fn numbers(fields: &[(u64, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    for &(field, value) in fields {
        put_number(&mut out, field, value);
    }
    out
}
