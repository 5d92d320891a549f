//! From the sample type and the period of a profile to the profile type that it is stored as.

/// A type and its unit; empty texts if not given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TypeText<'a> {
    pub(super) kind: &'a str,
    pub(super) unit: &'a str,
}

/// What a profile is stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind<'a> {
    /// `__name__`.
    pub(super) name: &'a str,
    pub(super) sample: TypeText<'a>,
    /// Each value is multiplied by it.
    pub(super) scale: i64,
}

const CPU: TypeText<'_> = TypeText {
    kind: "cpu",
    unit: "nanoseconds",
};

impl<'a> Kind<'a> {
    /// Samples of a CPU profiler become time. Else the period's type gives the name if there is a
    /// period, and the sample type if there is none.
    pub(super) fn of(sample: TypeText<'a>, period_type: TypeText<'a>, period: i64) -> Self {
        let counts = sample.kind == "samples" && sample.unit == "count";
        if counts && period_type == CPU && period != 0 {
            return Self {
                name: "process_cpu",
                sample: CPU,
                scale: period,
            };
        }
        let name = if period != 0 && !period_type.kind.is_empty() {
            period_type.kind
        } else {
            family(sample.kind)
        };
        Self {
            name,
            sample,
            scale: 1,
        }
    }
}

fn family(kind: &str) -> &str {
    match kind {
        "cpu" | "samples" => "process_cpu",
        "space" | "objects" => "memory",
        "contentions" | "delay" => "mutex",
        _ if kind.starts_with("alloc_") || kind.starts_with("inuse_") => "memory",
        _ if kind.starts_with("block_") => "block",
        _ if kind.starts_with("mutex_") || kind.starts_with("lock") => "mutex",
        _ => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let cases = [
            (
                ("samples", "count"),
                ("cpu", "nanoseconds", 50),
                ("process_cpu", "cpu", 50),
            ),
            (
                ("off_cpu", "nanoseconds"),
                ("", "", 0),
                ("off_cpu", "off_cpu", 1),
            ),
            (
                ("wall", "nanoseconds"),
                ("wall", "nanoseconds", 10),
                ("wall", "wall", 1),
            ),
            (
                ("alloc_space", "bytes"),
                ("space", "bytes", 9),
                ("space", "alloc_space", 1),
            ),
            (
                ("samples", "count"),
                ("wall", "nanoseconds", 10),
                ("wall", "samples", 1),
            ),
            (
                ("samples", "count"),
                ("cpu", "nanoseconds", 0),
                ("process_cpu", "samples", 1),
            ),
            (
                ("alloc_space", "bytes"),
                ("", "", 0),
                ("memory", "alloc_space", 1),
            ),
            (
                ("inuse_objects", "count"),
                ("", "", 5),
                ("memory", "inuse_objects", 1),
            ),
            (("events", "count"), ("", "", 0), ("events", "events", 1)),
            (
                ("contentions", "count"),
                ("", "", 0),
                ("mutex", "contentions", 1),
            ),
            (
                ("block_time", "nanoseconds"),
                ("", "", 0),
                ("block", "block_time", 1),
            ),
            (
                ("goroutine", "count"),
                ("", "", 0),
                ("goroutine", "goroutine", 1),
            ),
            (("", ""), ("", "", 0), ("", "", 1)),
        ];
        for (sample, period, (name, stored, scale)) in cases {
            let text = |(kind, unit)| TypeText { kind, unit };
            let kind = Kind::of(text(sample), text((period.0, period.1)), period.2);
            assert_eq!(
                (kind.name, kind.sample.kind, kind.scale),
                (name, stored, scale),
                "{sample:?} {period:?}"
            );
        }
    }
}
