//! Why something was refused or dropped: the names that stand in errors and in metrics.

/// One reason. The text of [`DiscardReason::as_str`] is the metric label that existing dashboards
/// select on; those after `DroppedByRelabelRules` name what other servers drop without counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DiscardReason {
    Unknown,
    InvalidLabels,
    MissingLabels,
    RateLimited,
    NotInIngestionWindow,
    MaxLabelNamesPerSeries,
    LabelNameTooLong,
    LabelValueTooLong,
    DuplicateLabelNames,
    SeriesLimit,
    SamplesLimit,
    ProfileSizeLimit,
    SampleLabelsLimit,
    MalformedProfile,
    IngestLimitReached,
    DroppedBySamplingRules,
    BodySizeLimitExceeded,
    DroppedByRelabelRules,
    /// A profile without samples, or with none left after normalisation.
    EmptyProfile,
    /// A resend of something that is stored already.
    Duplicate,
    /// A sample with a negative value.
    NegativeValue,
    /// A sample whose values are all zero.
    ZeroValue,
    /// A sample that uses a location, function or mapping that is not there.
    BrokenReference,
    /// A numeric sample label, which has no place in the data model.
    NumericLabel,
    /// An attribute of an OTLP export whose value cannot be a label: a bool, a double, bytes, a
    /// list or a map.
    UnusableAttribute,
    /// The frame type of an OTLP location (`profile.frame.type`), for which there is no place yet.
    FrameType,
    /// A span or trace id that is not hexadecimal of the right length.
    MalformedSpanId,
    /// A sample label that its policy or a limit keeps from becoming a label of the series.
    LabelDemoted,
    /// Leaf-side frames cut at the depth limit.
    DepthTruncated,
    /// A symbol cut at the length limit.
    SymbolTruncated,
    /// A line of a text format that holds no stack with its count.
    MalformedLine,
    /// A profile of one request alone, which old clients sent beside the whole that contains it.
    ExemplarProfile,
    /// The server has no memory left for it.
    Overloaded,
    /// The server could not make it durable.
    Unavailable,
}

impl DiscardReason {
    pub const ALL: [Self; 34] = [
        Self::Unknown,
        Self::InvalidLabels,
        Self::MissingLabels,
        Self::RateLimited,
        Self::NotInIngestionWindow,
        Self::MaxLabelNamesPerSeries,
        Self::LabelNameTooLong,
        Self::LabelValueTooLong,
        Self::DuplicateLabelNames,
        Self::SeriesLimit,
        Self::SamplesLimit,
        Self::ProfileSizeLimit,
        Self::SampleLabelsLimit,
        Self::MalformedProfile,
        Self::IngestLimitReached,
        Self::DroppedBySamplingRules,
        Self::BodySizeLimitExceeded,
        Self::DroppedByRelabelRules,
        Self::EmptyProfile,
        Self::Duplicate,
        Self::NegativeValue,
        Self::ZeroValue,
        Self::BrokenReference,
        Self::NumericLabel,
        Self::UnusableAttribute,
        Self::FrameType,
        Self::MalformedSpanId,
        Self::LabelDemoted,
        Self::DepthTruncated,
        Self::SymbolTruncated,
        Self::MalformedLine,
        Self::ExemplarProfile,
        Self::Overloaded,
        Self::Unavailable,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::InvalidLabels => "invalid_labels",
            Self::MissingLabels => "missing_labels",
            Self::RateLimited => "rate_limited",
            Self::NotInIngestionWindow => "not_in_ingestion_window",
            Self::MaxLabelNamesPerSeries => "max_label_names_per_series",
            Self::LabelNameTooLong => "label_name_too_long",
            Self::LabelValueTooLong => "label_value_too_long",
            Self::DuplicateLabelNames => "duplicate_label_names",
            Self::SeriesLimit => "series_limit",
            Self::SamplesLimit => "samples_limit",
            Self::ProfileSizeLimit => "profile_size_limit",
            Self::SampleLabelsLimit => "sample_labels_limit",
            Self::MalformedProfile => "malformed_profile",
            Self::IngestLimitReached => "ingest_limit_reached",
            Self::DroppedBySamplingRules => "dropped_by_sampling_rules",
            Self::BodySizeLimitExceeded => "body_size_limit_exceeded",
            Self::DroppedByRelabelRules => "dropped_by_relabel_rules",
            Self::EmptyProfile => "empty_profile",
            Self::Duplicate => "duplicate",
            Self::NegativeValue => "negative_value",
            Self::ZeroValue => "zero_value",
            Self::BrokenReference => "broken_reference",
            Self::NumericLabel => "numeric_label",
            Self::UnusableAttribute => "unusable_attribute",
            Self::FrameType => "frame_type",
            Self::MalformedSpanId => "malformed_span_id",
            Self::LabelDemoted => "label_demoted",
            Self::DepthTruncated => "depth_truncated",
            Self::SymbolTruncated => "symbol_truncated",
            Self::MalformedLine => "malformed_line",
            Self::ExemplarProfile => "exemplar_profile",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let names: std::collections::HashSet<_> =
            DiscardReason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), DiscardReason::ALL.len());
    }
}
