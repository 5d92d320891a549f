use proptest::collection::vec;
use proptest::prelude::*;
use scoria_model::part::PartView;
use scoria_model::varint::Reader;

use crate::tests::{any_part, damages, encoded, interned};
use crate::*;

fn delta(dictionary: &mut Dictionary, from: &Mark) -> Vec<u8> {
    let mut bytes = Vec::new();
    dictionary.encode_since(from, &mut bytes);
    bytes
}

fn same(a: &Dictionary, b: &Dictionary) -> bool {
    a.snapshot().to_tables() == b.snapshot().to_tables()
}

proptest! {
    #[test]
    fn deltas_rebuild_the_dictionary(parts in vec(any_part(), 1..6), skip in any::<u8>()) {
        let (mut a, mut b) = (Dictionary::new(), Dictionary::new());
        let mut scratch = InternScratch::default();
        let mut from = a.mark();
        for (at, part) in parts.iter().enumerate() {
            let bytes = encoded(part);
            a.intern(&PartView::parse(&bytes).unwrap(), &mut scratch);
            if skip & (1 << at) != 0 {
                continue;
            }
            let delta = delta(&mut a, &from);
            let mut reader = Reader::new(&delta);
            b.apply(&mut reader).unwrap();
            prop_assert!(reader.is_empty());
            prop_assert!(same(&a, &b));
            from = a.mark();
        }
    }

    #[test]
    fn a_replayed_dictionary_goes_on_as_the_first_would_have(
        before in vec(any_part(), 0..3),
        after in any_part(),
    ) {
        let mut a = interned(&before).0;
        let mut b = Dictionary::new();
        b.apply(&mut Reader::new(&delta(&mut a, &Mark::EMPTY))).unwrap();
        let bytes = encoded(&after);
        let view = PartView::parse(&bytes).unwrap();
        let (mark, mut of_a, mut of_b) =
            (a.mark(), InternScratch::default(), InternScratch::default());
        a.intern(&view, &mut of_a);
        b.intern(&view, &mut of_b);
        prop_assert_eq!(of_a.stack_nodes, of_b.stack_nodes);
        prop_assert!(same(&a, &b));
        prop_assert_eq!(delta(&mut a, &mark), delta(&mut b, &mark));
    }

    #[test]
    fn the_delta_does_not_depend_on_what_was_encoded_before(parts in vec(any_part(), 2..4)) {
        let (mut stepwise, mut fresh) = (interned(&parts[..1]).0, interned(&parts[..1]).0);
        let mark = stepwise.mark();
        delta(&mut stepwise, &Mark::EMPTY);
        let mut scratch = InternScratch::default();
        for part in &parts[1..] {
            let bytes = encoded(part);
            for dictionary in [&mut stepwise, &mut fresh] {
                dictionary.intern(&PartView::parse(&bytes).unwrap(), &mut scratch);
            }
        }
        prop_assert_eq!(delta(&mut stepwise, &mark), delta(&mut fresh, &mark));
    }

    #[test]
    fn damage_is_refused_or_gives_sound_tables(
        parts in vec(any_part(), 1..3),
    ) {
        let mut a = interned(&parts).0;
        for damaged in damages(&delta(&mut a, &Mark::EMPTY)).step_by(7) {
            let mut b = Dictionary::new();
            if b.apply(&mut Reader::new(&damaged)).is_ok() {
                let tables = b.snapshot().to_tables();
                prop_assert!(Symbols::from_tables(tables).is_ok());
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_give_sound_tables(bytes in vec(any::<u8>(), 0..200)) {
        let mut dictionary = Dictionary::new();
        if dictionary.apply(&mut Reader::new(&bytes)).is_ok() {
            prop_assert!(Symbols::from_tables(dictionary.snapshot().to_tables()).is_ok());
        }
    }
}

#[test]
fn what_is_there_already_is_refused() {
    // Two strings, the second equal to the first.
    let bytes = [2, 0, 0, 0, 0, 0, 1, b'a', 1, 0];
    let error = Dictionary::new()
        .apply(&mut Reader::new(&bytes))
        .unwrap_err();
    assert_eq!(
        error,
        SymbolsError::Repeated {
            table: "string",
            at: 2,
            first: 1
        }
    );
    let error = Dictionary::new()
        .apply(&mut Reader::new(&[0, 0, 0, 0, 200, 1]))
        .unwrap_err();
    assert!(
        matches!(error, SymbolsError::Varint { table: "nodes", .. }),
        "{error}"
    );
}
