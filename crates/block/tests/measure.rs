mod support;
use arrow::array::*;
use arrow::datatypes::*;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::*;
use parquet::file::properties::*;
use parquet::schema::types::ColumnPath;
use std::sync::Arc;
use support::*;

fn size(name: &str, array: ArrayRef, enc: Option<Encoding>, page: usize) -> i64 {
    let nullable = array.null_count() > 0;
    let schema = Arc::new(Schema::new(vec![Field::new(
        "c",
        array.data_type().clone(),
        nullable,
    )]));
    let mut p = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap()))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_dictionary_enabled(enc.is_none())
        .set_data_page_row_count_limit(page)
        .set_write_batch_size(1024);
    if let Some(e) = enc {
        p = p.set_column_encoding(ColumnPath::from("c"), e);
    }
    let mut w = ArrowWriter::try_new_with_options(
        Vec::new(),
        schema.clone(),
        ArrowWriterOptions::new()
            .with_properties(p.build())
            .with_skip_arrow_metadata(true),
    )
    .unwrap();
    let n = array.len();
    w.write(&RecordBatch::try_new(schema, vec![array]).unwrap())
        .unwrap();
    let m = w.close().unwrap();
    let b = m.row_group(0).column(0).compressed_size();
    println!(
        "{name:<30} {enc:?} {b} bytes {:.3} per value",
        b as f64 / n as f64
    );
    b
}
const E: [Option<Encoding>; 4] = [
    None,
    Some(Encoding::PLAIN),
    Some(Encoding::BYTE_STREAM_SPLIT),
    Some(Encoding::DELTA_BINARY_PACKED),
];

fn one(fleet: &Fleet) {
    let mut hits = vec![0u32; fleet.symbols.nodes_len()];
    for &n in &fleet.samples.stack {
        hits[n as usize] += 1;
    }
    let used: Vec<bool> = hits.iter().map(|&h| h > 0).collect();
    let po = fleet.symbols.pre_order(&used);
    let nn = po.tables.node_parent.len();
    let mut count = vec![0u32; nn];
    for (old, &new) in po.node_map.iter().enumerate() {
        if new != u32::MAX {
            count[new as usize] = hits[old];
        }
    }
    let mut st: Vec<(std::cmp::Reverse<u32>, u32)> = count
        .iter()
        .enumerate()
        .filter(|c| *c.1 > 0)
        .map(|(i, &c)| (std::cmp::Reverse(c), i as u32))
        .collect();
    st.sort();
    println!("nodes {nn} stacks {}", st.len());
    let mut rank = vec![None; nn];
    for (r, &(_, n)) in st.iter().enumerate() {
        rank[n as usize] = Some(r as u32);
    }
    let own: Vec<u32> = st.iter().map(|s| s.1).collect();
    for e in E {
        size(
            "rank nullable",
            Arc::new(UInt32Array::from(rank.clone())),
            e,
            2048,
        );
        size(
            "own table node by rank",
            Arc::new(UInt32Array::from(own.clone())),
            e,
            2048,
        );
        size("count", Arc::new(UInt32Array::from(count.clone())), e, 2048);
        let cn: Vec<Option<u32>> = count.iter().map(|&c| (c > 0).then_some(c)).collect();
        size("count nullable", Arc::new(UInt32Array::from(cn)), e, 2048);
    }
    // time
    let p = &fleet.profiles;
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by_key(|&i| (p.kind[i], p.series[i], p.time_ns[i]));
    let t: Vec<i64> = order.iter().map(|&i| p.time_ns[i]).collect();
    let ms: Vec<i64> = t.iter().map(|t| t.div_euclid(1_000_000)).collect();
    let us: Vec<i64> = t.iter().map(|t| t.div_euclid(1_000)).collect();
    let rest: Vec<i32> = t.iter().map(|t| t.rem_euclid(1_000_000) as i32).collect();
    let rest3: Vec<i32> = t.iter().map(|t| t.rem_euclid(1_000) as i32).collect();
    for e in E {
        size("time ns", Arc::new(Int64Array::from(t.clone())), e, 2048);
        size("time ms", Arc::new(Int64Array::from(ms.clone())), e, 2048);
        size("time us", Arc::new(Int64Array::from(us.clone())), e, 2048);
        size(
            "rest ns of ms",
            Arc::new(Int32Array::from(rest.clone())),
            e,
            2048,
        );
        size(
            "rest ns of us",
            Arc::new(Int32Array::from(rest3.clone())),
            e,
            2048,
        );
        size(
            "total",
            Arc::new(Int64Array::from(
                order.iter().map(|&i| p.total[i]).collect::<Vec<_>>(),
            )),
            e,
            2048,
        );
        size(
            "duration",
            Arc::new(Int64Array::from(
                order.iter().map(|&i| p.duration_ns[i]).collect::<Vec<_>>(),
            )),
            e,
            2048,
        );
        size(
            "n_samples",
            Arc::new(UInt32Array::from(
                order.iter().map(|&i| p.n_samples[i]).collect::<Vec<_>>(),
            )),
            e,
            2048,
        );
        size(
            "seq",
            Arc::new(UInt64Array::from(
                order.iter().map(|&i| p.seq[i]).collect::<Vec<_>>(),
            )),
            e,
            2048,
        );
        size(
            "place",
            Arc::new(UInt32Array::from(
                order.iter().map(|&i| p.place[i]).collect::<Vec<_>>(),
            )),
            e,
            2048,
        );
        let prof: Vec<u32> = order
            .iter()
            .enumerate()
            .flat_map(|(r, &i)| std::iter::repeat_n(r as u32, p.n_samples[i] as usize))
            .collect();
        size(
            "profile column in samples",
            Arc::new(UInt32Array::from(prof)),
            e,
            16384,
        );
        let vals: Vec<i64> = order
            .iter()
            .flat_map(|&i| {
                let s = p.samples_start[i] as usize;
                fleet.samples.value[s..s + p.n_samples[i] as usize].to_vec()
            })
            .collect();
        size("values", Arc::new(Int64Array::from(vals)), e, 16384);
    }
}
#[test]
fn measure() {
    println!("== cpu");
    one(&cpu_fleet(FleetShape {
        pods: 60,
        steps: 60,
        seed: 7,
    })
    .unwrap());
    println!("== heap");
    one(&heap_fleet(FleetShape {
        pods: 20,
        steps: 30,
        seed: 7,
    })
    .unwrap());
    println!("== cpu 2 pods");
    one(&cpu_fleet(FleetShape {
        pods: 2,
        steps: 60,
        seed: 7,
    })
    .unwrap());
}
