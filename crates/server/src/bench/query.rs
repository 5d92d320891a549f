//! `scoria bench query`: the questions that dashboards ask, over and over.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::client::Client;
use super::{Figure, QueryArgs, TargetArgs, figure};

/// What one question cost.
#[derive(Debug)]
struct Cost {
    /// Milliseconds, sorted.
    latencies: Vec<f64>,
    cpu_seconds: f64,
    samples: f64,
    bytes: f64,
    /// Answers of datasets that were there already.
    kept: f64,
}

/// Something that dashboards ask.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) name: &'static str,
    pub(super) method: &'static str,
    pub(super) body: Value,
}

pub(super) async fn run(args: &QueryArgs) -> anyhow::Result<Vec<Figure>> {
    let client = Client::new(&args.target.url, args.target.tenant.as_deref())?;
    let about = (args.kind.as_deref(), args.range);
    let mut figures = Vec::new();
    for question in questions(&client, &args.target, about).await? {
        let cost = ask(&client, &question, args.repeat.max(1)).await?;
        figures.extend(describe(question.name, &cost, args.repeat.max(1)));
    }
    Ok(figures)
}

/// All questions about one profile type of the service, or the first that it has, over a range of
/// so many seconds up to now.
pub(super) async fn questions(
    client: &Client,
    target: &TargetArgs,
    (kind, range_s): (Option<&str>, u64),
) -> anyhow::Result<Vec<Question>> {
    let end = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let end = i64::try_from(end.as_millis())?;
    let start = end - i64::try_from(range_s)? * 1000;
    let kind = match kind {
        Some(kind) => kind.to_owned(),
        None => cpu_type(client, &target.service, start, end).await?,
    };
    let selector = format!("{{service_name=\"{}\"}}", target.service);
    let base =
        json!({ "profileTypeID": kind, "labelSelector": selector, "start": start, "end": end });
    let step = (range_s as f64 / 100.0).max(15.0);
    let question = |name, method, body| Question { name, method, body };
    let asked = |name, method, more: Value| question(name, method, with(&base, more));
    Ok(vec![
        asked(
            "flame graph",
            "SelectMergeStacktraces",
            json!({ "maxNodes": 8192 }),
        ),
        asked("time series", "SelectSeries", json!({ "step": step })),
        asked(
            "time series by pod",
            "SelectSeries",
            json!({ "step": step, "groupBy": ["pod"] }),
        ),
        asked(
            "heatmap",
            "SelectHeatmap",
            json!({ "step": step, "queryType": "HEATMAP_QUERY_TYPE_INDIVIDUAL" }),
        ),
        asked("pprof", "SelectMergeProfile", json!({})),
        asked(
            "label values",
            "LabelValues",
            json!({ "name": "pod", "matchers": [selector] }),
        ),
        question(
            "services and types",
            "Series",
            json!({ "labelNames": ["service_name", "__profile_type__"], "start": start, "end": end }),
        ),
    ])
}

fn with(base: &Value, more: Value) -> Value {
    let mut all = base.clone();
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}

async fn cpu_type(client: &Client, service: &str, start: i64, end: i64) -> anyhow::Result<String> {
    let matcher = format!("{{service_name=\"{service}\"}}");
    let request =
        json!({ "name": "__profile_type__", "matchers": [matcher], "start": start, "end": end });
    let reply = client.query("LabelValues", &request).await?;
    let names: Vec<&str> = reply["names"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let cpu = names.iter().find(|name| name.contains("cpu:nanoseconds:"));
    match cpu.or_else(|| names.first()) {
        Some(name) => Ok((*name).to_owned()),
        None => bail!(
            "the service {service:?} has no profiles in the range; push some with `scoria bench ingest`"
        ),
    }
}

async fn ask(client: &Client, question: &Question, repeat: usize) -> anyhow::Result<Cost> {
    // Once without counting, so that caches hold what they would hold in use.
    client.query(question.method, &question.body).await?;
    let before = client.metrics().await?;
    let mut latencies = Vec::with_capacity(repeat);
    for _ in 0..repeat {
        let start = Instant::now();
        client.query(question.method, &question.body).await?;
        latencies.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    let after = client.metrics().await?;
    latencies.sort_by(f64::total_cmp);
    Ok(Cost {
        latencies,
        cpu_seconds: after.since(&before, "process_cpu_seconds_total"),
        samples: after.since(&before, "scoria_query_samples_total"),
        bytes: after.since(&before, "scoria_query_fetched_bytes_total"),
        kept: after.since(&before, "scoria_query_result_hits_total"),
    })
}

fn describe(name: &str, cost: &Cost, repeat: usize) -> Vec<Figure> {
    let at = |share: f64| cost.latencies[((cost.latencies.len() - 1) as f64 * share) as usize];
    let each = |total: f64| total / repeat as f64;
    let mut figures = vec![
        figure(&format!("{name}: p50"), at(0.5), "ms"),
        figure(&format!("{name}: p99"), at(0.99), "ms"),
        figure(
            &format!("{name}: server CPU"),
            each(cost.cpu_seconds) * 1000.0,
            "ms",
        ),
    ];
    if cost.samples > 0.0 {
        figures.push(figure(&format!("{name}: samples"), each(cost.samples), ""));
        let rate = cost.samples / cost.cpu_seconds.max(f64::MIN_POSITIVE) / 1e6;
        figures.push(figure(&format!("{name}: samples per core"), rate, "M/s"));
    }
    figures.push(figure(
        &format!("{name}: fetched"),
        each(cost.bytes) / 1e6,
        "MB",
    ));
    figures.push(figure(
        &format!("{name}: datasets answered before"),
        each(cost.kept),
        "",
    ));
    figures
}
