//! Reads blocks the way a store does: planned ranges only.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use scoria_block::{
    BlockError, BlockMeta, Columns, DatasetMeta, EncodedBlock, Fetched, OpenTable, SampleRead,
    Sources, Table, decode_profiles, decode_samples, decode_series, decode_symbols,
};
use scoria_model::part::NONE;
use scoria_symbols::Symbols;

/// One sample with everything that it means, spelled out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub tenant: String,
    pub labels: String,
    pub kind: String,
    pub profile: (i64, i64, i64, i64),
    pub record: (u32, u64, u32),
    /// Leaf first, or nothing for a profile without samples.
    pub stack: Option<Vec<String>>,
    pub value: i64,
    pub span: u64,
    pub trace: [u8; 16],
}

/// The locations of a node, spelled out.
pub fn spell(symbols: &Symbols, node: u32) -> Vec<String> {
    let text = |id| symbols.string(id);
    symbols
        .stack(node)
        .map(|location| {
            let location = symbols.location(location);
            let mapping = if location.mapping == NONE {
                String::new()
            } else {
                let m = symbols.mapping(location.mapping);
                let (file, build) = (text(m.filename), text(m.build_id));
                format!(
                    "{file}/{build}/{}/{}/{}/{}",
                    m.start, m.limit, m.offset, m.flags
                )
            };
            let lines = location.lines.iter().map(|line| {
                if line.function == NONE {
                    return format!("?:{}", line.line);
                }
                let f = symbols.function(line.function);
                let (name, system) = (text(f.name), text(f.system_name));
                format!(
                    "{name}/{system}/{}/{}:{}",
                    text(f.filename),
                    f.start_line,
                    line.line
                )
            });
            let lines: Vec<String> = lines.collect();
            format!("{mapping} {:x} {lines:?}", location.address)
        })
        .collect()
}

/// The bytes of the planned ranges, as far as the object has them.
pub fn fetch(object: &Bytes, ranges: Vec<Range<u64>>) -> Fetched {
    let n = object.len() as u64;
    let pieces = ranges.into_iter().map(|range| {
        let (start, end) = (range.start.min(n), range.end.min(n));
        (start, object.slice(start as usize..end as usize))
    });
    Fetched::new(pieces.collect())
}

pub fn object(block: &EncodedBlock, table: Table) -> Option<&Bytes> {
    let (_, bytes) = block.tables.iter().find(|(t, _)| *t == table)?;
    Some(bytes)
}

pub type Opened = Vec<Arc<OpenTable>>;

pub fn open_all(meta: &BlockMeta) -> Result<Opened, BlockError> {
    let open = |table| OpenTable::new(table).map(Arc::new);
    meta.tables.iter().map(open).collect()
}

/// Everything of a dataset.
pub fn fetch_dataset(
    opened: &Opened,
    dataset: &DatasetMeta,
    object: &dyn Fn(Table) -> Bytes,
) -> Result<Sources, BlockError> {
    let mut sources = Sources::default();
    for open in opened {
        let rows = dataset.rows(open.table());
        let columns = match open.table() {
            Table::Profiles => Columns::WithWrites,
            _ => Columns::WithSpans,
        };
        let ranges = open.ranges(std::slice::from_ref(&rows), columns)?;
        sources.insert(Arc::clone(open), fetch(&object(open.table()), ranges));
    }
    Ok(sources)
}

/// Every sample of a dataset.
pub fn read_dataset(
    (meta, opened): (&BlockMeta, &Opened),
    dataset: &DatasetMeta,
    object: &dyn Fn(Table) -> Bytes,
) -> Result<Vec<Row>, BlockError> {
    let sources = fetch_dataset(opened, dataset, object)?;
    let series = decode_series(&sources, dataset)?;
    let profiles = decode_profiles(&sources, meta, dataset)?;
    let symbols = decode_symbols(&sources, dataset)?;
    let mut rows = Vec::new();
    let row = |at: usize| {
        let p = profiles.row(at);
        Row {
            tenant: dataset.tenant.to_string(),
            labels: series[p.series as usize].to_string(),
            kind: dataset.kinds[p.kind as usize].to_string(),
            profile: (p.time_ns, p.duration_ns, p.period, p.total),
            record: (p.stream, p.seq, p.place),
            stack: None,
            value: 0,
            span: 0,
            trace: [0; 16],
        }
    };
    for table in [Table::Samples, Table::Snapshots] {
        let of_table: Vec<usize> = (0..profiles.len())
            .filter(|&at| Table::of_kind(&dataset.kinds[profiles.kind[at] as usize]) == table)
            .collect();
        let empty = of_table.iter().filter(|&&at| profiles.n_samples[at] == 0);
        rows.extend(empty.map(|&at| row(at)));
        let runs: Vec<_> = of_table.iter().map(|&at| profiles.run(at)).collect();
        let Some((open, fetched)) = sources.get(table) else {
            assert!(runs.iter().all(|run| run.n == 0));
            continue;
        };
        let read = SampleRead {
            runs: &runs,
            columns: Columns::WithSpans,
            n_stacks: dataset.n_stacks,
        };
        decode_samples((open, fetched), read, &mut |batch, pieces| {
            for piece in pieces {
                for at in piece.samples.clone() {
                    rows.push(Row {
                        stack: Some(spell(
                            &symbols.symbols,
                            symbols.nodes[batch.stack[at] as usize],
                        )),
                        value: batch.value[at],
                        span: batch.span_of(at),
                        trace: batch.trace_of(at),
                        ..row(of_table[piece.run])
                    });
                }
            }
        })?;
    }
    rows.sort();
    Ok(rows)
}

/// Every sample of a block.
pub fn read_block(block: &EncodedBlock) -> Result<Vec<Row>, BlockError> {
    let opened = open_all(&block.meta)?;
    let mut rows = Vec::new();
    for dataset in &block.meta.datasets {
        rows.extend(read_dataset((&block.meta, &opened), dataset, &|table| {
            object(block, table).unwrap().clone()
        })?);
    }
    rows.sort();
    Ok(rows)
}
