//! Profiles that break a structural rule, written byte by byte.

#![allow(
    dead_code,
    reason = "each test file uses its part of the shared support"
)]

use crate::support::{LABELS, any_time, normalise, push};
use scoria_model::DiscardReason;
use scoria_model::varint::put_u64;

/// A protobuf message under construction.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn int(mut self, field: u64, value: i64) -> Self {
        put_u64(&mut self.0, field << 3);
        put_u64(&mut self.0, value as u64);
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        put_u64(&mut self.0, field << 3 | 2);
        put_u64(&mut self.0, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn sub(self, field: u64, message: Message) -> Self {
        self.bytes(field, &message.0)
    }
}

fn message() -> Message {
    Message::default()
}

/// Sample type 1/2, one sample of value 7 at location 1, function 1 named by string 3.
fn sound() -> Message {
    message()
        .sub(1, message().int(1, 1).int(2, 2))
        .sub(2, message().int(1, 1).int(2, 7))
        .sub(4, message().int(1, 1).sub(4, message().int(1, 1).int(2, 9)))
        .sub(5, message().int(1, 1).int(2, 3))
        .bytes(6, b"")
        .bytes(6, b"samples")
        .bytes(6, b"count")
        .bytes(6, b"main")
}

fn refusal(bytes: &Message) -> String {
    let rejection = normalise(&push(&bytes.0, LABELS), &any_time()).expect_err("refused");
    assert_eq!(rejection.reason, DiscardReason::MalformedProfile);
    assert!(rejection.message.starts_with(
        "profile with labels '{__name__=\"process_cpu\", service_name=\"api\"}' is malformed: "
    ));
    rejection.message
}

#[test]
fn the_sound_one_is_accepted_with_and_without_unknown_fields() {
    let plain = normalise(&push(&sound().0, LABELS), &any_time()).unwrap();
    assert_eq!(plain.part.sample_value, [7]);
    let extended = sound().int(900, 3).bytes(901, b"later").int(13, 1);
    let with = normalise(&push(&extended.0, LABELS), &any_time()).unwrap();
    assert_eq!(with.part, plain.part);
}

#[test]
fn packed_and_unpacked_are_the_same() {
    let packed = message()
        .sub(1, message().int(1, 1))
        .sub(2, message().bytes(1, &[1, 1]).bytes(2, &[0x87, 0x01]))
        .sub(4, message().int(1, 1).int(3, 5))
        .bytes(6, b"")
        .bytes(6, b"x");
    let unpacked = message()
        .sub(1, message().int(1, 1))
        .sub(2, message().int(1, 1).int(2, 135).int(1, 1))
        .sub(4, message().int(1, 1).int(3, 5))
        .bytes(6, b"")
        .bytes(6, b"x");
    let [a, b] =
        [packed, unpacked].map(|m| normalise(&push(&m.0, LABELS), &any_time()).unwrap().part);
    assert_eq!(a, b);
    assert_eq!(a.sample_value, [135]);
    assert_eq!(a.frames.len(), 2);
}

#[test]
fn each_rule_has_its_message() {
    let bare = || message().sub(1, message().int(1, 1).int(2, 2));
    let strings = |m: Message| m.bytes(6, b"").bytes(6, b"samples").bytes(6, b"count");
    let cases = [
        (message().bytes(6, b""), "no sample types"),
        (
            sound().sub(4, message().int(3, 5)),
            "location 1 has the id 0",
        ),
        (
            sound().sub(5, message().int(2, 1)),
            "function 1 has the id 0",
        ),
        (
            sound().sub(2, message().int(1, 1)),
            "sample 1 has 0 values for 1 sample types",
        ),
        (bare(), "string table is empty"),
        (bare().bytes(6, b"x"), "not the empty string"),
        (
            strings(bare()).sub(1, message().int(1, 9)),
            "a sample type points outside",
        ),
        (
            strings(bare()).sub(1, message().int(2, -1)),
            "a sample type points outside",
        ),
        (
            strings(bare()).sub(11, message().int(2, 9)),
            "a sample type points outside",
        ),
        (
            strings(bare()).sub(5, message().int(1, 1).int(4, 9)),
            "a function points outside",
        ),
        (
            strings(bare()).sub(3, message().int(1, 1).int(6, -5)),
            "a mapping points outside",
        ),
        (
            sound().sub(
                2,
                message().int(2, 1).sub(3, message().int(1, -1).int(2, 1)),
            ),
            "a sample label points outside",
        ),
        (
            sound().bytes(6, b"in-use").sub(1, message().int(1, 4)),
            "values for 2 sample types",
        ),
        (
            message()
                .sub(1, message().int(1, 1))
                .bytes(6, b"")
                .bytes(6, b"in-use"),
            "\"in-use\" contains '-'",
        ),
        (sound().bytes(6, &[0xff, 0xfe]), "string 4"),
    ];
    for (bytes, expected) in cases {
        let message = refusal(&bytes);
        assert!(message.contains(expected), "{message} / {expected}");
    }
}

#[test]
fn bytes_that_are_no_profile() {
    let cases = [
        (Message(Vec::new()), "is empty"),
        (message().int(2, 5), "wire type 0"),
        (message().bytes(9, b"x"), "wire type 2"),
        (
            message().sub(2, message().bytes(3, &[0x0a, 0x01, 0x01])),
            "label",
        ),
        (Message(vec![0x12, 0x7f]), "ends inside a field"),
        (Message(vec![0x00]), "impossible field tag"),
        (Message(vec![0x4b]), "wire type 3"),
        (
            Message([[0x48].as_slice(), &[0xff; 10]].concat()),
            "longer than 64 bits",
        ),
        (Message(b"main;work 7\n".to_vec()), "is malformed"),
    ];
    for (bytes, expected) in cases {
        let message = refusal(&bytes);
        assert!(message.contains(expected), "{message} / {expected}");
    }
}

#[test]
fn sparse_and_repeated_ids() {
    let far = i64::MAX;
    let bytes = message()
        .sub(1, message().int(1, 1))
        .sub(2, message().int(1, far).int(2, 1))
        .sub(2, message().int(1, 7).int(2, 2))
        .sub(4, message().int(1, far).int(3, 0x10))
        .sub(4, message().int(1, 7).int(3, 0x20))
        .sub(4, message().int(1, 7).int(3, 0x30))
        .bytes(6, b"")
        .bytes(6, b"x");
    let part = normalise(&push(&bytes.0, LABELS), &any_time())
        .unwrap()
        .part;
    let addresses = part.locations.iter().map(|location| location.address);
    assert!(addresses.eq([0x10, 0x30]), "the last of two counts");
}
