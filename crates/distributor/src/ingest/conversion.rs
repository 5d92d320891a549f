//! What the counts of a body without sample types mean: by the last segment of the app's name.
//!
//! `shop.checkout.alloc_space` is the service `shop.checkout` and bytes that were allocated. Neither
//! `units` nor the profiler's name has a say. CPU and wall-clock counts are samples taken at
//! `sampleRate`, and are stored as the time that they stand for.
//!
//! # What it must not know
//! Formats.

use scoria_pprof::speedscope::{Scale, Unit};
use scoria_pprof::stacks::Measure;

const NS_PER_S: i64 = 1_000_000_000;
const NANOSECONDS: &str = "nanoseconds";
const COUNT: &str = "count";
const BYTES: &str = "bytes";

/// The name's last segment is none that says what is counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown profile type: {suffix:.64}; the name must end in what is counted ({known}), as in {app:.128}.cpu, or contain no dot, which means cpu",
    known = known()
)]
pub struct UnknownType {
    pub app: String,
    pub suffix: String,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    /// `__name__`.
    pub(super) name: &'static str,
    kind: &'static str,
    unit: &'static str,
    /// Whether the counts are samples that stand for a time.
    is_sampled: bool,
}

/// An app's name, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct App<'a> {
    pub(super) service: &'a str,
    pub(super) counted: Counted,
}

const fn sampled(name: &'static str, kind: &'static str) -> Counted {
    Counted {
        name,
        kind,
        unit: NANOSECONDS,
        is_sampled: true,
    }
}

const fn plain(name: &'static str, kind: &'static str, unit: &'static str) -> Counted {
    Counted {
        name,
        kind,
        unit,
        is_sampled: false,
    }
}

const CPU: Counted = sampled("process_cpu", "cpu");
const WALL: Counted = sampled("wall", "wall");

const SUFFIXES: [(&str, Counted); 25] = [
    ("cpu", CPU),
    ("itimer", CPU),
    ("wall", WALL),
    ("seconds", WALL),
    ("milliseconds", WALL),
    ("microseconds", WALL),
    ("nanoseconds", WALL),
    ("inuse_objects", plain("memory", "inuse_objects", COUNT)),
    ("alloc_objects", plain("memory", "alloc_objects", COUNT)),
    ("inuse_space", plain("memory", "inuse_space", BYTES)),
    ("alloc_space", plain("memory", "alloc_space", BYTES)),
    (
        "alloc_in_new_tlab_objects",
        plain("memory", "alloc_in_new_tlab_objects", COUNT),
    ),
    (
        "alloc_outside_tlab_objects",
        plain("memory", "alloc_outside_tlab_objects", COUNT),
    ),
    (
        "alloc_in_new_tlab_bytes",
        plain("memory", "alloc_in_new_tlab_bytes", BYTES),
    ),
    (
        "alloc_outside_tlab_bytes",
        plain("memory", "alloc_outside_tlab_bytes", BYTES),
    ),
    ("live", plain("memory", "live", COUNT)),
    ("bytes", plain("memory", "samples", BYTES)),
    ("goroutines", plain("goroutine", "goroutines", COUNT)),
    ("mutex_count", plain("mutex", "contentions", COUNT)),
    ("mutex_duration", plain("mutex", "delay", NANOSECONDS)),
    ("block_count", plain("block", "contentions", COUNT)),
    ("lock_count", plain("block", "contentions", COUNT)),
    ("block_duration", plain("block", "delay", NANOSECONDS)),
    ("lock_duration", plain("block", "delay", NANOSECONDS)),
    ("exceptions", plain("exceptions", "samples", COUNT)),
];

fn known() -> String {
    SUFFIXES.map(|(suffix, _)| suffix).join(", ")
}

impl<'a> App<'a> {
    /// # Errors
    /// There is a dot, and nothing that is counted behind the last one.
    pub(super) fn parse(app: &'a str) -> Result<Self, UnknownType> {
        let Some((service, suffix)) = app.rsplit_once('.') else {
            return Ok(Self {
                service: app,
                counted: CPU,
            });
        };
        let mut known = SUFFIXES.iter();
        match known.find(|(known, _)| *known == suffix) {
            Some(&(_, counted)) => Ok(Self { service, counted }),
            None => Err(UnknownType {
                app: app.to_owned(),
                suffix: suffix.to_owned(),
            }),
        }
    }
}

impl Counted {
    /// How counts become values; `sample_rate` in Hz, 0 for counts that are to be left as they are.
    pub(super) fn measure(self, sample_rate: u32) -> Measure<'static> {
        let none = ("", "");
        if !self.is_sampled {
            return self.measured(none, 0, 1);
        }
        if sample_rate == 0 {
            return plain(self.name, "samples", COUNT).measured(none, 0, 1);
        }
        let period = (NS_PER_S / i64::from(sample_rate)).max(1);
        self.measured(("cpu", NANOSECONDS), period, period)
    }

    /// As [`measure`](Self::measure) for weights in a unit of their own. Times are converted, and
    /// need no rate for it.
    pub(super) fn weighed(self, unit: Unit, sample_rate: u32) -> (Measure<'static>, Scale) {
        let power = unit.nanoseconds_power();
        let rate = match unit {
            // There is no period by which bytes could be sampled.
            Unit::Bytes => 0,
            _ if power.is_some() => sample_rate.max(1),
            _ => sample_rate,
        };
        let mut measure = self.measure(rate);
        let mut scale = Scale {
            power: 0,
            factor: measure.factor,
        };
        if let Some(power) = power.filter(|_| measure.unit == NANOSECONDS) {
            scale = Scale { power, factor: 1 };
            measure.factor = 1;
        }
        (measure, scale)
    }

    const fn measured(
        self,
        period_type: (&'static str, &'static str),
        period: i64,
        factor: i64,
    ) -> Measure<'static> {
        Measure {
            kind: self.kind,
            unit: self.unit,
            period_type,
            period,
            factor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(app: &str, sample_rate: u32) -> String {
        let App { service, counted } = App::parse(app).unwrap();
        let measure = counted.measure(sample_rate);
        let (kind, unit) = measure.period_type;
        format!(
            "{service} {}:{}:{}:{kind}:{unit} x{}",
            counted.name, measure.kind, measure.unit, measure.factor
        )
    }

    #[test]
    fn the_last_segment_says_what_is_counted() {
        let cpu = "process_cpu:cpu:nanoseconds:cpu:nanoseconds x10000000";
        let wall = "wall:wall:nanoseconds:cpu:nanoseconds x10000000";
        let table = [
            ("app", format!("app {cpu}")),
            ("my.app.cpu", format!("my.app {cpu}")),
            ("app.itimer", format!("app {cpu}")),
            ("app.wall", format!("app {wall}")),
            ("app.milliseconds", format!("app {wall}")),
            ("app.bytes", "app memory:samples:bytes:: x1".to_owned()),
            ("app.live", "app memory:live:count:: x1".to_owned()),
            (
                "app.goroutines",
                "app goroutine:goroutines:count:: x1".to_owned(),
            ),
            (
                "app.lock_count",
                "app block:contentions:count:: x1".to_owned(),
            ),
            (
                "app.mutex_duration",
                "app mutex:delay:nanoseconds:: x1".to_owned(),
            ),
            (
                "app.exceptions",
                "app exceptions:samples:count:: x1".to_owned(),
            ),
        ];
        for (app, expected) in table {
            assert_eq!(stored(app, 100), expected);
        }
        assert_eq!(stored("app", 0), "app process_cpu:samples:count:: x1");
        assert_eq!(stored("app.wall", 0), "app wall:samples:count:: x1");
        assert!(stored("app", 97).ends_with(" x10309278"));
        assert!(stored("app", u32::MAX).ends_with(" x1"));
    }

    #[test]
    fn other_segments_are_refused_with_advice() {
        for app in ["my.app", "app.", "app.CPU", "app.none"] {
            let error = App::parse(app).unwrap_err().to_string();
            let suffix = app.rsplit_once('.').unwrap().1;
            let start = format!("unknown profile type: {suffix};");
            assert!(error.starts_with(&start), "{error}");
            assert!(
                error.contains("alloc_space") && error.contains(app),
                "{error}"
            );
        }
    }

    #[test]
    fn weights_with_a_unit_are_converted_and_others_scaled() {
        let weighed = |app: &str, unit, rate| {
            let (measure, scale) = App::parse(app).unwrap().counted.weighed(unit, rate);
            (measure.kind, measure.unit, scale.power, scale.factor)
        };
        assert_eq!(
            weighed("a", Unit::Milliseconds, 100),
            ("cpu", NANOSECONDS, 6, 1)
        );
        assert_eq!(
            weighed("a", Unit::Nanoseconds, 0),
            ("cpu", NANOSECONDS, 0, 1)
        );
        assert_eq!(
            weighed("a", Unit::None, 100),
            ("cpu", NANOSECONDS, 0, 10_000_000)
        );
        assert_eq!(weighed("a", Unit::None, 0), ("samples", COUNT, 0, 1));
        assert_eq!(weighed("a", Unit::Bytes, 100), ("samples", COUNT, 0, 1));
        assert_eq!(
            weighed("a.bytes", Unit::Bytes, 100),
            ("samples", BYTES, 0, 1)
        );
        assert_eq!(
            weighed("a.mutex_duration", Unit::Seconds, 100),
            ("delay", NANOSECONDS, 9, 1)
        );
        assert_eq!(
            weighed("a.alloc_space", Unit::Seconds, 100),
            ("alloc_space", BYTES, 0, 1)
        );
    }
}
