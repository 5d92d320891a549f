//! What Grafana makes of the server's answers, by the rules of its converters: rows out of the
//! levels of a flame graph, cells out of a heatmap, and rates out of a series.
//!
//! # Invariants
//! - Whatever a converter would silently draw wrong (bars outside of their parents, bars without
//!   width, names that do not exist) is an error here.

use scoria_proto::public::querier::v1::{FlameGraph, FlameGraphDiff};
use scoria_proto::public::types::v1::HeatmapSeries;
use serde_json::Value;

/// A bar of a flame graph: one side has one value, a comparison has two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub level: usize,
    pub label: String,
    /// Of each side.
    pub values: Vec<i64>,
    /// Of each side, what is not in bars below.
    pub own: Vec<i64>,
}

/// Bars of one level at absolute places: for each side `(x, value)`.
struct Bar {
    sides: Vec<(i64, i64)>,
    row: Row,
}

/// The rows of a flame graph, parents before their children.
///
/// # Errors
/// What Grafana would draw wrong.
pub fn rows(graph: &FlameGraph) -> Result<Vec<Row>, String> {
    let levels: Vec<&[i64]> = graph.levels.iter().map(|l| l.values.as_slice()).collect();
    let rows = nest(&graph.names, &levels, 1)?;
    match rows.first() {
        Some(root) if root.values == [graph.total] => {}
        root => {
            return Err(format!(
                "the first row {root:?} is not the total {}",
                graph.total
            ));
        }
    }
    let largest = rows.iter().flat_map(|row| row.own.clone()).max();
    if largest.unwrap_or_default() != graph.max_self {
        return Err(format!(
            "max_self is {} and should be {largest:?}",
            graph.max_self
        ));
    }
    Ok(rows)
}

/// The rows of a comparison.
///
/// # Errors
/// What Grafana would draw wrong.
pub fn diff_rows(graph: &FlameGraphDiff) -> Result<Vec<Row>, String> {
    let levels: Vec<&[i64]> = graph.levels.iter().map(|l| l.values.as_slice()).collect();
    let rows = nest(&graph.names, &levels, 2)?;
    let ticks = [graph.leftTicks, graph.rightTicks];
    match rows.first() {
        Some(root) if root.values == ticks && graph.total == ticks[0] + ticks[1] => Ok(rows),
        root => Err(format!(
            "the first row {root:?} does not hold {ticks:?} of {}",
            graph.total
        )),
    }
}

/// The rows of the JSON that `/pyroscope/render` and `render-diff` answer, whose levels are numbers.
///
/// # Errors
/// What a viewer would draw wrong.
pub fn flamebearer_rows(body: &Value) -> Result<Vec<Row>, String> {
    let sides = match body["metadata"]["format"].as_str() {
        Some("single") => 1,
        Some("double") => 2,
        other => return Err(format!("format {other:?}")),
    };
    let graph = &body["flamebearer"];
    let names: Option<Vec<String>> = graph["names"].as_array().map(|names| {
        names
            .iter()
            .map(|n| n.as_str().unwrap_or_default().to_owned())
            .collect()
    });
    let levels: Option<Vec<Vec<i64>>> = graph["levels"].as_array().and_then(|levels| {
        let numbers = |level: &Value| level.as_array()?.iter().map(Value::as_i64).collect();
        levels.iter().map(numbers).collect()
    });
    let (Some(names), Some(levels)) = (names, levels) else {
        return Err("names or levels are missing".to_owned());
    };
    let levels: Vec<&[i64]> = levels.iter().map(Vec::as_slice).collect();
    let rows = nest(&names, &levels, sides)?;
    let total: i64 = rows.first().map_or(0, |root| root.values.iter().sum());
    if graph["numTicks"].as_i64() != Some(total) {
        return Err(format!(
            "numTicks is {} and the root {total}",
            graph["numTicks"]
        ));
    }
    Ok(rows)
}

/// Turns levels of tuples into rows: absolute places from the deltas, parents by containment.
fn nest(names: &[String], levels: &[&[i64]], sides: usize) -> Result<Vec<Row>, String> {
    let mut above: Vec<Bar> = Vec::new();
    let mut rows = Vec::new();
    if levels
        .first()
        .is_none_or(|first| first.len() != 3 * sides + 1)
    {
        return Err(format!("level 0 must be one bar: {:?}", levels.first()));
    }
    for (level, numbers) in levels.iter().enumerate() {
        let bars = bars(names, level, numbers, sides)?;
        if level > 0 {
            check_inside(&above, &bars, sides)?;
        }
        rows.extend(bars.iter().map(|bar| bar.row.clone()));
        above = bars;
    }
    let own: i64 = rows.iter().flat_map(|row| &row.own).sum();
    let total: i64 = rows.first().map_or(0, |root| root.values.iter().sum());
    if own != total {
        return Err(format!(
            "the rows' own values sum to {own}, the total is {total}"
        ));
    }
    Ok(rows)
}

fn bars(names: &[String], level: usize, numbers: &[i64], sides: usize) -> Result<Vec<Bar>, String> {
    let tuples = numbers.chunks_exact(3 * sides + 1);
    if !tuples.remainder().is_empty() || numbers.is_empty() {
        return Err(format!("level {level} has {} numbers", numbers.len()));
    }
    let mut ends = vec![0; sides];
    let mut bars = Vec::new();
    for tuple in tuples {
        let (of_sides, name) = tuple.split_at(3 * sides);
        let name = usize::try_from(name[0]).ok().and_then(|at| names.get(at));
        let name = name.ok_or_else(|| format!("level {level} names what does not exist"))?;
        if name.is_empty() {
            return Err(format!("level {level} has a bar without a name"));
        }
        let mut bar = Bar {
            sides: Vec::new(),
            row: Row {
                level,
                label: name.clone(),
                values: Vec::new(),
                own: Vec::new(),
            },
        };
        for (side, numbers) in of_sides.chunks_exact(3).enumerate() {
            let &[delta, value, own] = numbers else {
                return Err("chunks of three have three".to_owned());
            };
            if delta < 0 || value < 0 || !(0..=value).contains(&own) {
                return Err(format!("{name} of level {level}: {numbers:?}"));
            }
            bar.sides.push((ends[side] + delta, value));
            ends[side] += delta + value;
            bar.row.values.push(value);
            bar.row.own.push(own);
        }
        if level > 0 && bar.row.values.iter().all(|value| *value == 0) {
            return Err(format!("{name} of level {level} has no width"));
        }
        bars.push(bar);
    }
    Ok(bars)
}

/// Every bar lies inside one bar of the level above, on the side that has it.
fn check_inside(above: &[Bar], bars: &[Bar], sides: usize) -> Result<(), String> {
    for bar in bars {
        let fits = |parent: &Bar| {
            (0..sides).all(|side| {
                let ((x, value), (px, pvalue)) = (bar.sides[side], parent.sides[side]);
                value == 0 || (px <= x && x + value <= px + pvalue)
            })
        };
        if !above.iter().any(fits) {
            return Err(format!(
                "{} of level {} lies in no bar above",
                bar.row.label, bar.row.level
            ));
        }
    }
    Ok(())
}

/// A cell of a heatmap that has anything in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Right edge, Unix milliseconds.
    pub x_max: i64,
    pub y_min: f64,
    pub y_max: f64,
    pub count: i32,
}

/// The cells of one series: columns in order, each with the same rows from the bottom up.
///
/// # Errors
/// What Grafana would draw wrong.
pub fn heatmap_cells(series: &HeatmapSeries) -> Result<Vec<Cell>, String> {
    let mut cells = Vec::new();
    let rows = series.slots.first().map(|slot| slot.y_min.as_slice());
    if !series.slots.is_sorted_by(|a, b| a.timestamp < b.timestamp) {
        return Err("columns are out of order".to_owned());
    }
    for slot in &series.slots {
        let edges = &slot.y_min;
        if Some(edges.as_slice()) != rows || edges.len() != slot.counts.len() || edges.len() < 2 {
            return Err(format!("the rows of {} are others", slot.timestamp));
        }
        if !edges.is_sorted() {
            return Err(format!("rows that do not ascend: {edges:?}"));
        }
        let height = edges[1] - edges[0];
        for (row, &count) in slot.counts.iter().enumerate().filter(|(_, n)| **n != 0) {
            let y_min = edges[row];
            cells.push(Cell {
                x_max: slot.timestamp,
                y_min,
                y_max: edges.get(row + 1).copied().unwrap_or(y_min + height),
                count,
            });
        }
    }
    Ok(cells)
}

/// A value as Grafana shows it for a cumulative type, and its unit: divided by the step, and CPU
/// nanoseconds by a thousand million.
pub fn rate(unit: &str, cpu: bool, value: f64, step_s: f64) -> (f64, &'static str) {
    let per_second = value / step_s;
    match unit {
        "nanoseconds" if cpu => (per_second / 1e9, "cores"),
        "nanoseconds" => (per_second, "ns"),
        "bytes" => (per_second, "binBps"),
        _ => (per_second, "ops"),
    }
}
