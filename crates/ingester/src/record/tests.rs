//! Whole pushes: what is written is what the heads get, and what is read back.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use scoria_block::SampleBatch;
use scoria_model::labels::names;
use scoria_model::part::{Function, Line, NONE, Part, PartView, ProfileRow};
use scoria_model::{Labels, RetryKey, TenantId, Timestamp};

use super::*;

/// One profile of a push: series, type, time, duration and period, samples.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) series: u8,
    pub(crate) kind: u8,
    pub(crate) times: (i64, i64, i64),
    /// Stack, value, link.
    pub(crate) samples: Vec<(u8, i64, u8)>,
}

pub(crate) fn any_profile() -> impl Strategy<Value = Told> {
    let value = prop_oneof![
        4 => Just(10_000_000i64),
        2 => (1..50i64).prop_map(|n| n * 10_000_000),
        2 => 1..1_000_000i64,
        1 => Just(0i64),
        1 => any::<i64>(),
    ];
    let link = prop_oneof![8 => Just(0u8), 1 => any::<u8>()];
    (
        0..5u8,
        0..3u8,
        (
            any::<i8>(),
            prop_oneof![Just(10), 0..9i64],
            prop_oneof![Just(10), any::<i64>()],
        ),
        vec((0..40u8, value, link), 0..25),
    )
        .prop_map(|(series, kind, times, samples)| Told {
            series,
            kind,
            times: (i64::from(times.0), times.1, times.2),
            samples,
        })
}

/// Series 3 and 4 belong to another service than the rest.
pub(crate) fn labels(series: u8) -> Labels {
    let service = if series < 3 { "shop/api" } else { "shop/web" };
    Labels::from_pairs([
        (names::SERVICE_NAME, service.to_owned()),
        ("pod", format!("pod-{series}")),
        ("zone", "a".repeat(usize::from(series % 2))),
    ])
}

/// A part whose stack `n` goes through functions named after the binary digits of `n`.
pub(crate) fn part(key: u8, profiles: &[Told]) -> Part {
    let mut part = Part::default();
    for n in 0..12u32 {
        let name = part.strings.push(&format!("example.com/f{n}"));
        part.functions.push(Function {
            name,
            system_name: name,
            filename: 0,
            start_line: 0,
        });
        let line = Line {
            function: n,
            line: i64::from(n),
        };
        part.push_location((NONE, 0), [line]);
    }
    for stack in 0..40u32 {
        part.frames
            .extend((0..6).map(|bit| bit * 2 + (stack >> bit & 1)));
        part.stack_ends.push(part.frames.len() as u32);
    }
    let linked = profiles.iter().flat_map(|p| &p.samples).any(|s| s.2 != 0);
    for told in profiles {
        let series = part.push_series(&labels(told.series));
        let id = format!("memory:kind{}:count:space:bytes", told.kind);
        let kind = part.push_type(&id.parse().unwrap());
        for &(stack, value, link) in &told.samples {
            part.sample_stack.push(u32::from(stack));
            part.sample_value.push(value);
            if linked {
                part.sample_span.push(u64::from(link % 16));
                part.sample_trace.push([link / 128; 16]);
            }
        }
        part.profiles.push(ProfileRow {
            series,
            kind,
            time: Timestamp(told.times.0),
            duration_ns: told.times.1,
            period: told.times.2,
            samples_end: part.sample_stack.len() as u32,
        });
    }
    part.end_write(RetryKey([key; 16]));
    part
}

#[test]
fn a_resend_beside_new_writes_of_its_part_leaves_nothing_in_the_record() {
    let profile = |series, stacks: std::ops::Range<u8>| Told {
        series,
        kind: 0,
        times: (5, 10, 10),
        samples: stacks.map(|stack| (stack, 7, 0)).collect(),
    };
    let (resent, new) = (profile(0, 0..20), profile(3, 10..30));
    let mut both = part(1, std::slice::from_ref(&resent));
    let alone = part(2, std::slice::from_ref(&new));
    let first = both.profiles.len();
    let series = both.push_series(&labels(new.series));
    for &(stack, value, _) in &new.samples {
        both.sample_stack.push(u32::from(stack));
        both.sample_value.push(value);
    }
    both.profiles.push(ProfileRow {
        series,
        samples_end: both.sample_stack.len() as u32,
        ..both.profiles[first - 1]
    });
    both.end_write(RetryKey([2; 16]));
    let of = |part: &Part, writes: &[usize]| {
        let bytes = encoded(std::slice::from_ref(part));
        let taken = Taken {
            part: PartView::parse(&bytes[0]).unwrap(),
            writes: writes.to_vec(),
        };
        let arrival = Timestamp(1_700_000_000_000);
        RecordWriter::new().encode(arrival, &TenantId::anonymous(), &[taken])
    };
    let only_new = of(&both, &[1]);
    assert_eq!(only_new.bytes, of(&alone, &[0]).bytes);
    assert_eq!(only_new.push.keys, [RetryKey([2; 16])]);
    let whole = of(&both, &[0, 1]).push;
    let writes = whole.heads.iter().flat_map(|head| &head.profiles);
    assert_eq!(writes.map(|p| p.part).collect::<Vec<_>>(), [0, 1]);
}

pub(crate) fn encoded(parts: &[Part]) -> Vec<Vec<u8>> {
    parts
        .iter()
        .map(|part| {
            let mut bytes = Vec::new();
            part.encode(&mut bytes);
            bytes
        })
        .collect()
}

pub(crate) fn write(writer: &mut RecordWriter, tenant: &str, parts: &[Part]) -> EncodedRecord {
    let bytes = encoded(parts);
    let taken: Vec<Taken<'_>> = bytes
        .iter()
        .map(|bytes| Taken::whole(PartView::parse(bytes).unwrap()))
        .collect();
    writer.encode(
        Timestamp(1_700_000_000_000),
        &TenantId::parse(tenant).unwrap(),
        &taken,
    )
}

fn replay(reader: &mut RecordReader, bytes: &[u8]) -> Result<Push, RecordError> {
    match reader.replay(bytes)? {
        Replayed::Push(push) => Ok(push),
        Replayed::RetryKeys(keys) => panic!("{keys:?} instead of a push"),
    }
}

fn assert_same(written: &Push, read: &Push) {
    assert_eq!(written.arrival, read.arrival);
    assert_eq!(written.tenant, read.tenant);
    assert_eq!(written.keys, read.keys);
    assert_eq!(written.heads.len(), read.heads.len());
    for (a, b) in written.heads.iter().zip(&read.heads) {
        assert_eq!((&a.tenant, &a.service), (&b.tenant, &b.service));
        assert_eq!(a.series, b.series);
        assert_eq!(a.kinds, b.kinds);
        assert_eq!(a.profiles, b.profiles);
        assert_eq!(a.samples, b.samples);
        let tables = |head: &HeadAppend| head.dictionary.lock().snapshot().to_tables();
        assert_eq!(tables(a), tables(b));
    }
}

/// The samples of a profile by (names of the stack, span, trace), as a head would see them.
fn decoded(head: &HeadAppend, at: usize) -> BTreeMap<(Vec<String>, u64, u8), i64> {
    let start = at
        .checked_sub(1)
        .map_or(0, |at| head.profiles[at].samples_end);
    let profile = head.profiles[at];
    let bytes = &head.samples[start as usize..profile.samples_end as usize];
    let mut batch = SampleBatch::default();
    samples::decode(bytes, profile.n_samples as usize, &mut batch).unwrap();
    assert_eq!(batch.len(), profile.n_samples as usize);
    assert!(batch.is_even());
    let symbols = head.dictionary.lock().snapshot();
    let names = |node| {
        let line = |location| symbols.location(location).lines[0].function;
        symbols
            .stack(node)
            .map(|location| {
                symbols
                    .string(symbols.function(line(location)).name)
                    .to_owned()
            })
            .collect()
    };
    let samples = (0..batch.len()).map(|n| {
        let (span, trace) = (batch.span_of(n), batch.trace_of(n)[0]);
        ((names(batch.stack[n]), span, trace), batch.value[n])
    });
    samples.collect()
}

fn told_samples(told: &Told) -> BTreeMap<(Vec<String>, u64, u8), i64> {
    let mut sums = BTreeMap::new();
    for &(stack, value, link) in &told.samples {
        let names = (0..6u8)
            .map(|bit| format!("example.com/f{}", bit * 2 + (stack >> bit & 1)))
            .collect();
        let sum: &mut i64 = sums
            .entry((names, u64::from(link % 16), link / 128))
            .or_default();
        *sum = sum.wrapping_add(value);
    }
    sums
}

type TestPush = (bool, Vec<Vec<Told>>);

fn any_pushes() -> impl Strategy<Value = Vec<TestPush>> {
    vec((any::<bool>(), vec(vec(any_profile(), 0..4), 1..3)), 1..6)
}

fn written(pushes: &[TestPush]) -> Vec<EncodedRecord> {
    let mut writer = RecordWriter::new();
    pushes
        .iter()
        .map(|(other, parts)| {
            let parts: Vec<Part> = (0..)
                .zip(parts)
                .map(|(key, told)| part(key, told))
                .collect();
            write(&mut writer, if *other { "b" } else { "a" }, &parts)
        })
        .collect()
}

proptest! {
    #[test]
    fn a_replay_feeds_heads_what_the_push_did(pushes in any_pushes()) {
        let mut reader = RecordReader::new();
        // The writer's dictionaries go on growing, so each is compared when both are as far.
        let mut writer = RecordWriter::new();
        for (other, parts) in &pushes {
            let parts: Vec<Part> =
                (0..).zip(parts).map(|(key, told)| part(key, told)).collect();
            let record = write(&mut writer, if *other { "b" } else { "a" }, &parts);
            assert_same(&record.push, &replay(&mut reader, &record.bytes).unwrap());
        }
    }

    #[test]
    fn heads_get_the_samples_that_were_pushed(pushes in any_pushes()) {
        for ((_, parts), record) in pushes.iter().zip(written(&pushes)) {
            prop_assert_eq!(record.push.keys.len(), parts.len());
            let mut seen = vec![0; parts.len()];
            let mut rows = std::collections::BTreeSet::new();
            for head in &record.push.heads {
                for (at, profile) in head.profiles.iter().enumerate() {
                    let told = parts[profile.part as usize]
                        .iter()
                        .filter(|t| labels(t.series).service_name() == &*head.service);
                    let rank = head.profiles[..at].iter().filter(|p| p.part == profile.part).count();
                    let told = told.clone().nth(rank).unwrap();
                    seen[profile.part as usize] += 1;
                    let row = (profile.series, profile.kind, profile.time, profile.place);
                    prop_assert!(rows.insert((&head.service, row)), "each has a place of its own");
                    prop_assert_eq!(told_samples(told), decoded(head, at));
                    let times = (profile.time.0, profile.duration_ns, profile.period);
                    prop_assert_eq!(times, told.times);
                    let sum = told.samples.iter().fold(0i64, |sum, s| sum.wrapping_add(s.1));
                    prop_assert_eq!(profile.total, sum);
                }
            }
            let expected: Vec<usize> = parts.iter().map(Vec::len).collect();
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn damage_is_refused_or_stays_inside(
        pushes in any_pushes(),
        flips in vec((any::<prop::sample::Index>(), 0..8u32), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let records = written(&pushes);
        let mut reader = RecordReader::new();
        let (last, before) = records.split_last().unwrap();
        for record in before {
            replay(&mut reader, &record.bytes).unwrap();
        }
        let mut damaged = last.bytes.clone();
        for (at, bit) in flips {
            let at = at.index(damaged.len());
            damaged[at] ^= 1 << bit;
        }
        if let Ok(Replayed::Push(push)) = reader.replay(&damaged) {
            for head in &push.heads {
                for at in 0..head.profiles.len() {
                    decoded(head, at);
                }
            }
        }
        let mut reader = RecordReader::new();
        for record in before {
            replay(&mut reader, &record.bytes).unwrap();
        }
        let length = cut.index(last.bytes.len());
        prop_assert!(reader.replay(&last.bytes[..length]).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..100)) {
        let mut record = vec![VERSION, kind::PUSH];
        record.extend_from_slice(&bytes);
        let _ = RecordReader::new().replay(&record);
    }

    #[test]
    fn retry_keys_come_back(keys in vec((any::<i64>(), any::<[u8; 16]>()), 0..20)) {
        let keys: Vec<(Timestamp, RetryKey)> =
            keys.into_iter().map(|(t, key)| (Timestamp(t), RetryKey(key))).collect();
        let bytes = RecordWriter::encode_retry_keys(&keys);
        match RecordReader::new().replay(&bytes).unwrap() {
            Replayed::RetryKeys(read) => prop_assert_eq!(read, keys),
            Replayed::Push(push) => prop_assert!(false, "{:?}", push),
        }
    }
}

fn steady(value: i64) -> Told {
    Told {
        series: 0,
        kind: 0,
        times: (0, 10, 10),
        samples: (0..40)
            .map(|stack| (stack, value + i64::from(stack) * 7919, 0))
            .collect(),
    }
}

#[test]
fn a_profile_that_repeats_costs_a_few_bytes() {
    let mut writer = RecordWriter::new();
    let first = write(&mut writer, "a", &[part(1, &[steady(1)])]);
    let mut changed = steady(1);
    changed.samples[3].1 += 1;
    changed.samples.remove(20);
    let second = write(&mut writer, "a", &[part(2, &[changed.clone()])]);
    assert!(second.bytes.len() < 60, "{}", second.bytes.len());
    assert!(second.push.heads[0].samples.len() > 60);
    let mut reader = RecordReader::new();
    replay(&mut reader, &first.bytes).unwrap();
    let read = replay(&mut reader, &second.bytes).unwrap();
    assert_same(&second.push, &read);
    assert_eq!(decoded(&read.heads[0], 0), told_samples(&changed));
}

#[test]
fn profiles_that_share_nothing_stop_being_kept() {
    let mut writer = RecordWriter::new();
    let other = |n: i64| Told {
        samples: (0..20)
            .map(|i| ((i * 2 + n % 2) as u8, 1 + (i * n) % 5, 0))
            .collect(),
        ..steady(0)
    };
    for n in 0..4 {
        write(&mut writer, "a", &[part(0, &[other(n)])]);
    }
    let held = writer.bytes();
    let mut fresh = RecordWriter::new();
    write(&mut fresh, "a", &[part(0, &[other(0)])]);
    assert!(held < fresh.bytes(), "{held} and {}", fresh.bytes());
}

#[test]
fn a_record_without_those_before_it_is_refused() {
    let mut writer = RecordWriter::new();
    write(&mut writer, "a", &[part(1, &[steady(1)])]);
    let second = write(&mut writer, "a", &[part(2, &[steady(2)])]);
    let error = RecordReader::new().replay(&second.bytes).unwrap_err();
    assert_eq!(
        error,
        RecordError::Index {
            field: "tenant",
            value: 0,
            size: 0
        }
    );
}

#[test]
fn unknown_versions_and_kinds_are_named() {
    let version = RecordReader::new().replay(&[9, 1]).unwrap_err();
    assert_eq!(
        version.to_string(),
        "the record has version 9; this build reads version 1"
    );
    let kind = RecordReader::new().replay(&[1, 9]).unwrap_err();
    assert_eq!(kind, RecordError::Kind { found: 9 });
}

#[test]
fn what_counts_hits_and_time_is_told_once() {
    let hits = Told {
        samples: (0..40).map(|n| (n, 1 + i64::from(n % 3), n % 5)).collect(),
        ..steady(0)
    };
    let time = Told {
        kind: 1,
        samples: hits
            .samples
            .iter()
            .map(|s| (s.0, s.1 * 10_000_000, s.2))
            .collect(),
        ..hits.clone()
    };
    let size = |profiles: &[Told]| {
        let record = write(&mut RecordWriter::new(), "a", &[part(1, profiles)]);
        let read = replay(&mut RecordReader::new(), &record.bytes).unwrap();
        assert_same(&record.push, &read);
        for (at, told) in profiles.iter().enumerate() {
            assert_eq!(decoded(&read.heads[0], at), told_samples(told));
        }
        record.bytes.len()
    };
    let kind_name = "memory:kind1:count:space:bytes".len();
    let (one, both) = (size(std::slice::from_ref(&hits)), size(&[hits, time]));
    assert!(both < one + kind_name + 16, "{both} and {one}");
}

/// A few records of one generation, one of each form.
fn example() -> Vec<Vec<u8>> {
    let mut writer = RecordWriter::new();
    let mut time = steady(100);
    time.kind = 1;
    for sample in &mut time.samples {
        sample.1 *= 1000;
    }
    let mut changed = steady(100);
    changed.samples[7].1 = 1;
    let linked = Told {
        series: 4,
        samples: vec![(3, -7, 0), (3, 5, 200), (9, 5, 17)],
        times: (1_700_000_000_123, 15_000, 10),
        kind: 2,
    };
    vec![
        RecordWriter::encode_retry_keys(&[(Timestamp(1_700_000_000_000), RetryKey([7; 16]))]),
        write(&mut writer, "a", &[part(1, &[steady(100), time])]).bytes,
        write(
            &mut writer,
            "a",
            &[part(2, &[changed]), part(3, std::slice::from_ref(&linked))],
        )
        .bytes,
        write(&mut writer, "b", &[part(4, &[linked])]).bytes,
    ]
}

/// Records as version 1 writes them; they must be read for as long as that version is supported.
#[test]
fn version_1_is_written_and_read_as_ever() {
    let hex = |bytes: &Vec<u8>| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let written: Vec<String> = example().iter().map(hex).collect();
    let kept: Vec<&str> = include_str!("fixtures/v1.hex").lines().collect();
    assert_eq!(
        written, kept,
        "a change of what is written is a new version"
    );

    let mut reader = RecordReader::new();
    let mut read = Vec::new();
    for line in kept {
        let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..line.len()).step_by(2).map(byte).collect();
        match reader.replay(&bytes).unwrap() {
            Replayed::RetryKeys(keys) => read.push(format!("{} keys", keys.len())),
            Replayed::Push(push) => read.extend(push.heads.iter().map(|head| {
                let profile = |p: &AppendedProfile| (p.time.0, p.n_samples, p.total);
                let profiles: Vec<_> = head.profiles.iter().map(profile).collect();
                format!("{} {} {profiles:?}", head.tenant, head.service)
            })),
        }
    }
    let expected = [
        "1 keys",
        "a shop/api [(0, 40, 6180820), (0, 40, 6180820000)]",
        "a shop/api [(0, 40, 6125288)]",
        "a shop/web [(1700000000123, 3, 3)]",
        "b shop/web [(1700000000123, 3, 3)]",
    ];
    assert_eq!(read, expected);
}

#[test]
fn every_flip_and_every_cut_is_refused_or_stays_inside() {
    let records = example();
    for (at, record) in records.iter().enumerate() {
        let read = |damaged: &[u8]| {
            let mut reader = RecordReader::new();
            for before in &records[..at] {
                reader.replay(before).unwrap();
            }
            reader.replay(damaged)
        };
        for length in 0..record.len() {
            assert!(
                read(&record[..length]).is_err(),
                "record {at} cut to {length}"
            );
        }
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(Replayed::Push(push)) = read(&damaged) {
                for head in &push.heads {
                    for profile in 0..head.profiles.len() {
                        decoded(head, profile);
                    }
                }
            }
        }
    }
}
