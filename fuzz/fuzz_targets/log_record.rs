//! Log records of one generation, each after its length in two bytes. What is read is what heads
//! keep, so every sample of it must decode and add up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scoria_block::SampleBatch;
use scoria_ingester::head::Heads;
use scoria_ingester::record::{RecordReader, Replayed};
use scoria_model::Seq;

fuzz_target!(|data: &[u8]| {
    let mut reader = RecordReader::new();
    let mut heads = Heads::new();
    let mut left = data;
    let mut seq = Seq(0);
    while let Some((length, rest)) = left.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (record, rest) = rest.split_at(length);
        left = rest;
        seq = seq.next();
        match reader.replay(record) {
            Ok(Replayed::Push(push)) => heads.append(&push, seq),
            Ok(Replayed::RetryKeys(_)) => {}
            // Nothing after a damaged record can be read.
            Err(_) => break,
        }
    }
    for head in heads.iter() {
        let snapshot = head.snapshot();
        let nodes = snapshot.symbols().nodes_len();
        let mut batch = SampleBatch::default();
        for row in snapshot.rows().iter().flat_map(|chunk| chunk.iter()) {
            batch.clear();
            snapshot
                .samples(&row, &mut batch)
                .expect("what was read decodes");
            assert!(batch.is_even() && batch.len() == row.n_samples as usize);
            assert!(batch.stack.iter().all(|&node| (node as usize) < nodes));
            let sum = batch
                .value
                .iter()
                .fold(0i64, |sum, value| sum.wrapping_add(*value));
            assert_eq!(sum, row.total);
        }
    }
});
