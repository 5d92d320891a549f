//! Logs and the process's own metrics.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Sends the logs of the process to standard error.
///
/// # Errors
/// The level is no filter, or logs are set up already.
pub(crate) fn start_logs(config: &LogConfig) -> anyhow::Result<()> {
    // The profiler tells every start and stop, every few seconds.
    let filter = EnvFilter::try_new(format!("pprof=warn,{}", config.level))
        .map_err(|error| anyhow::anyhow!("log.level {:?}: {error}", config.level))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Text => logs.with_ansi(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logs: {error}"))
}

/// Registers what is known of the process without any role.
pub(crate) fn register_process(registry: &mut Registry) {
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        (
            "revision",
            option_env!("SCORIA_BUILD_REVISION").unwrap_or_default(),
        ),
    ];
    registry.register(
        "pyroscope_build",
        "The version of Scoria that answers",
        Info::new(labels.to_vec()),
    );
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64());
    registry.register_collector(Box::new(Process { started }));
}

/// What the kernel says of the process, read when asked for.
struct Process {
    /// Unix seconds.
    started: f64,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Process")
    }
}

/// Ticks per second in `/proc/self/stat`; the kernel shows 100 to every program.
const TICKS_PER_SECOND: f64 = 100.0;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(seconds) = cpu_seconds() {
            let cpu = ConstCounter::new(seconds);
            let help = "CPU time of the process, user and system";
            let metric = encoder.encode_descriptor(
                "process_cpu",
                help,
                Some(&Unit::Seconds),
                cpu.metric_type(),
            )?;
            cpu.encode(metric)?;
        }
        let gauges = [
            ("process_resident_memory", Unit::Bytes, resident_bytes()),
            ("process_start_time", Unit::Seconds, Some(self.started)),
            (
                "process_open_fds",
                Unit::Other(String::new()),
                fs::read_dir("/proc/self/fd")
                    .ok()
                    .map(|fds| fds.count() as f64),
            ),
        ];
        for (name, unit, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            let unit = (!unit.as_str().is_empty()).then_some(&unit);
            let help = "As the kernel counts it";
            let metric = encoder.encode_descriptor(name, help, unit, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name may hold blanks; it ends at the last parenthesis.
    let fields = stat.rsplit_once(") ")?.1;
    let ticks: Vec<f64> = fields
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    Some(ticks.into_iter().sum::<f64>() / TICKS_PER_SECOND)
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_shows_what_dashboards_read() {
        let mut registry = Registry::default();
        register_process(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for name in [
            "pyroscope_build_info{version=",
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_start_time_seconds ",
            "process_open_fds ",
        ] {
            assert!(text.contains(name), "{name} in:\n{text}");
        }
    }
}
