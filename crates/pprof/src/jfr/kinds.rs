//! Which events make which profiles, and what these look like.
//!
//! # What it must not know
//! How events are read.

/// A profile that a recording can hold; each has its own events, sample types and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Cpu,
    Wall,
    InNewTlab,
    OutsideTlab,
    AllocationSample,
    LiveObject,
    Malloc,
    MonitorEnter,
    ThreadPark,
}

/// What the profiles of a kind look like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// `__name__`.
    pub(crate) name: &'static str,
    pub(crate) types: &'static [ValueType],
    pub(crate) period: ValueType,
    pub(crate) values: Values,
}

/// A type and its unit.
pub(crate) type ValueType = (&'static str, &'static str);

/// What the values of a sample are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    /// The count times the period.
    Time,
    Count,
    /// The count, and bytes or nanoseconds.
    CountAndSum,
}

const SPACE: ValueType = ("space", "bytes");
const CONTENTIONS: ValueType = ("contentions", "count");
const DELAY: ValueType = ("delay", "nanoseconds");

impl Shape {
    const fn time(name: &'static str, kind: &'static [ValueType; 1]) -> Self {
        Self {
            name,
            types: kind,
            period: kind[0],
            values: Values::Time,
        }
    }

    const fn pairs(name: &'static str, types: &'static [ValueType; 2], period: ValueType) -> Self {
        Self {
            name,
            types,
            period,
            values: Values::CountAndSum,
        }
    }
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Cpu,
        Self::Wall,
        Self::InNewTlab,
        Self::OutsideTlab,
        Self::AllocationSample,
        Self::LiveObject,
        Self::Malloc,
        Self::MonitorEnter,
        Self::ThreadPark,
    ];

    pub(crate) const fn shape(self) -> Shape {
        match self {
            Self::Cpu => Shape::time("process_cpu", &[("cpu", "nanoseconds")]),
            Self::Wall => Shape::time("wall", &[("wall", "nanoseconds")]),
            Self::InNewTlab => Shape::pairs(
                "memory",
                &[
                    ("alloc_in_new_tlab_objects", "count"),
                    ("alloc_in_new_tlab_bytes", "bytes"),
                ],
                SPACE,
            ),
            Self::OutsideTlab => Shape::pairs(
                "memory",
                &[
                    ("alloc_outside_tlab_objects", "count"),
                    ("alloc_outside_tlab_bytes", "bytes"),
                ],
                SPACE,
            ),
            Self::AllocationSample => Shape::pairs(
                "memory",
                &[
                    ("alloc_sample_objects", "count"),
                    ("alloc_sample_bytes", "bytes"),
                ],
                SPACE,
            ),
            Self::LiveObject => Shape {
                name: "memory",
                types: &[("live", "count")],
                period: ("objects", "count"),
                values: Values::Count,
            },
            Self::Malloc => Shape::pairs(
                "memory",
                &[("malloc_objects", "count"), ("malloc_bytes", "bytes")],
                ("", ""),
            ),
            Self::MonitorEnter => Shape::pairs("mutex", &[CONTENTIONS, DELAY], ("mutex", "count")),
            Self::ThreadPark => Shape::pairs("block", &[CONTENTIONS, DELAY], ("block", "count")),
        }
    }
}

/// An event that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// A setting of the profiler, of which the one named `event` says what was sampled.
    Setting,
    ExecutionSample,
    WallClockSample,
    /// One count, and what stands in the field.
    Sum(Kind, Field),
}

/// The fields of events that are read; their order is that of [`Field::NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Stacktrace,
    Context,
    Span,
    SpanName,
    State,
    Samples,
    TlabSize,
    AllocationSize,
    Weight,
    Size,
    Duration,
    Name,
    Value,
}

impl Field {
    pub(crate) const NAMES: [&'static str; 13] = [
        "stackTrace",
        "contextId",
        "spanId",
        "spanName",
        "state",
        "samples",
        "tlabSize",
        "allocationSize",
        "weight",
        "size",
        "duration",
        "name",
        "value",
    ];
}

impl EventKind {
    /// The event of a class, if it is one that is read.
    pub(crate) fn of_class(name: &str) -> Option<Self> {
        Some(match name {
            "jdk.ActiveSetting" => Self::Setting,
            "jdk.ExecutionSample" => Self::ExecutionSample,
            "profiler.WallClockSample" => Self::WallClockSample,
            "jdk.ObjectAllocationInNewTLAB" => Self::Sum(Kind::InNewTlab, Field::TlabSize),
            "jdk.ObjectAllocationOutsideTLAB" => {
                Self::Sum(Kind::OutsideTlab, Field::AllocationSize)
            }
            "jdk.ObjectAllocationSample" => Self::Sum(Kind::AllocationSample, Field::Weight),
            "profiler.LiveObject" => Self::Sum(Kind::LiveObject, Field::AllocationSize),
            "profiler.Malloc" => Self::Sum(Kind::Malloc, Field::Size),
            "jdk.JavaMonitorEnter" => Self::Sum(Kind::MonitorEnter, Field::Duration),
            "jdk.ThreadPark" => Self::Sum(Kind::ThreadPark, Field::Duration),
            _ => return None,
        })
    }
}
