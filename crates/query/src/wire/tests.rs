use std::collections::BTreeMap;

use proptest::prelude::*;
use scoria_model::{Label, Labels, Timestamp};
use scoria_symbols::SymbolTables;

use super::*;
use crate::merge::{
    Exemplar, LabelsPartial, Partial, Period, Point, ProfilePartial, SeriesPartial, SortedTexts,
    StatsPartial, Subject, TreePartial, Value, ValuesPartial,
};

fn scans() -> Vec<Scan> {
    let filter = StackFilter {
        call_site: vec![Arc::from("main"), Arc::from("wörk")],
        spans: vec![1, u64::MAX],
        traces: vec![[7; 16]],
        profiles: vec![ProfileId(u128::MAX)],
    };
    let range = TimeRange {
        start_ms: -5,
        end_ms: i64::MAX,
    };
    let whats = [
        What::LabelNames,
        What::LabelValues(Arc::from("a.b")),
        What::Series(vec![Arc::from("a"), Arc::from("b")]),
        What::Tree(filter.clone()),
        What::Profile(StackFilter::default()),
        What::TimeSeries(TimeSeries {
            buckets: Buckets::new(
                TimeRange {
                    start_ms: 100,
                    end_ms: 999,
                },
                10,
            ),
            group_by: vec![Arc::from("pod")],
            exemplars: Exemplars::Individual,
            filter,
            stripped: Stripped::Counted,
        }),
        What::Stats,
        What::Heatmap(Heatmap {
            group_by: vec![Arc::from("pod")],
            of: HeatmapOf::Spans,
        }),
    ];
    let matchers = Matchers::parse(r#"{a="x","b.c"=~"y|z",d!="\"",e!~"q"}"#).unwrap();
    whats
        .into_iter()
        .map(|what| Scan {
            matchers: matchers.clone(),
            range,
            what,
        })
        .collect()
}

fn profile() -> ProfilePartial {
    let mut tables = SymbolTables::default();
    let main = tables.strings.push("main");
    tables.functions.push(scoria_model::part::Function {
        name: main,
        start_line: -3,
        ..Default::default()
    });
    tables.mappings.push(scoria_model::part::Mapping {
        start: 1,
        limit: u64::MAX,
        filename: main,
        ..Default::default()
    });
    tables.location_mapping = vec![0, u32::MAX];
    tables.location_address = vec![u64::MAX, 2];
    tables.lines = vec![
        scoria_model::part::Line {
            function: 0,
            line: 9,
        },
        scoria_model::part::Line {
            function: u32::MAX,
            line: 0,
        },
    ];
    tables.location_lines_end = vec![2, 2];
    tables.node_parent = vec![u32::MAX, 0, 1];
    tables.node_location = vec![u32::MAX, 0, 1];
    ProfilePartial::from_tables(tables, vec![1, 0, 5], Period::Known(100)).unwrap()
}

fn values() -> ValuesPartial {
    let value = |value, pod| Value {
        value,
        labels: Labels::from_pairs([("pod", pod)]),
    };
    let span = Subject::Span {
        span: 3,
        trace: [4; 16],
    };
    let of_group = BTreeMap::from([
        ((-7, Subject::Profile(ProfileId(1))), value(5, "b")),
        ((-7, span), value(i64::MAX, "a")),
        ((20, span), value(6, "b")),
    ]);
    ValuesPartial {
        groups: BTreeMap::from([(Vec::new(), of_group)]),
    }
}

fn partials() -> Vec<Partial> {
    let label = |name: &str, value: &str| Label {
        name: Arc::from(name),
        value: Arc::from(value),
    };
    let mut series = SeriesPartial::default();
    let point = Point {
        sum: 5,
        n: 2,
        n_stripped: 0,
        exemplar: Some(Exemplar {
            of: Subject::Profile(ProfileId(9)),
            time_ms: 12,
            value: 4,
            labels: Labels::from_pairs([("x", "y")]),
        }),
    };
    let plain = Point {
        sum: 5,
        n: 2,
        n_stripped: 1,
        exemplar: None,
    };
    series.groups.insert(
        vec![label("pod", "a"), label("az", "b")],
        BTreeMap::from([(-10, point), (20, plain)]),
    );
    series.groups.insert(Vec::new(), BTreeMap::new());
    vec![
        Partial::Labels(LabelsPartial {
            texts: SortedTexts::of(vec!["b", "a"]),
            sets: [Labels::from_pairs([("a", "1")]), Labels::default()].into(),
        }),
        Partial::Tree(TreePartial::from_folded([("a;b", 1), ("a", 2), ("c", 3)])),
        Partial::Tree(TreePartial::default()),
        Partial::Profile(profile()),
        Partial::Profile(ProfilePartial::default()),
        Partial::Series(series),
        Partial::Values(values()),
        Partial::Stats(StatsPartial::default()),
        Partial::Stats(StatsPartial {
            times: Some((Timestamp(-1), Timestamp(5))),
        }),
    ]
}

#[test]
fn scans_and_partials_come_back() {
    for scan in scans() {
        assert_eq!(decode_scan(&encode_scan(&scan)).unwrap(), scan);
    }
    for partial in partials() {
        let bytes = encode_partial(&partial).unwrap();
        assert_eq!(decode_partial(&bytes).unwrap(), partial);
    }
}

#[test]
fn damage_is_an_error_or_another_answer_but_never_a_panic() {
    let scans = scans().into_iter().map(|scan| encode_scan(&scan));
    let partials = partials().into_iter().map(|p| encode_partial(&p).unwrap());
    for bytes in scans.chain(partials) {
        for length in 0..bytes.len() {
            assert!(decode_scan(&bytes[..length]).is_err());
            assert!(decode_partial(&bytes[..length]).is_err());
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let _ = decode_scan(&damaged);
                if let Ok(partial) = decode_partial(&damaged) {
                    encode_partial(&partial).unwrap();
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..7u8) {
        let mut bytes = bytes;
        bytes.splice(0..0, [VERSION, kind]);
        let _ = decode_partial(&bytes);
        let _ = decode_scan(&bytes);
    }
}
