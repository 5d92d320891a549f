//! What the querier answers, as the messages of `querier.v1`.

use buffa::MessageField;
use bytes::Bytes;
use connectrpc::PreEncoded;
use scoria_model::varint::put_u64;
use scoria_model::{Label, Labels, ProfileType};
use scoria_proto::public::querier::v1 as wire;
use scoria_proto::public::types::v1 as types;
use scoria_querier::Merged;
use scoria_query::merge::Exemplar;
use scoria_query::render::{Flamegraph, FlamegraphDiff, SeriesPoints, ValuePoint};

pub(super) fn profile_type(kind: &ProfileType) -> types::ProfileType {
    types::ProfileType {
        ID: kind.to_string(),
        name: kind.name.as_ref().to_owned(),
        sample_type: kind.sample_type.as_ref().to_owned(),
        sample_unit: kind.sample_unit.as_ref().to_owned(),
        period_type: kind.period_type.as_ref().to_owned(),
        period_unit: kind.period_unit.as_ref().to_owned(),
    }
}

fn label(label: &Label) -> types::LabelPair {
    types::LabelPair {
        name: label.name.as_ref().to_owned(),
        value: label.value.as_ref().to_owned(),
    }
}

pub(super) fn labels(set: &Labels) -> types::Labels {
    types::Labels {
        labels: set.iter().map(label).collect(),
    }
}

fn levels(levels: Vec<Vec<i64>>) -> Vec<wire::Level> {
    levels
        .into_iter()
        .map(|values| wire::Level { values })
        .collect()
}

pub(super) fn flamegraph(graph: Flamegraph) -> wire::FlameGraph {
    wire::FlameGraph {
        names: graph.names,
        levels: levels(graph.levels),
        total: graph.total,
        max_self: graph.max_self,
    }
}

pub(super) fn diff(graph: FlamegraphDiff) -> wire::DiffResponse {
    wire::DiffResponse {
        flamegraph: MessageField::some(wire::FlameGraphDiff {
            names: graph.names,
            levels: levels(graph.levels),
            total: graph.total,
            max_self: graph.max_self,
            leftTicks: graph.left_ticks,
            rightTicks: graph.right_ticks,
        }),
    }
}

pub(super) fn series(points: SeriesPoints) -> types::Series {
    types::Series {
        labels: points.labels.iter().map(label).collect(),
        points: points.points.into_iter().map(point).collect(),
    }
}

fn point(point: ValuePoint) -> types::Point {
    types::Point {
        value: point.value,
        timestamp: point.timestamp_ms,
        annotations: Vec::new(),
        exemplars: point.exemplar.iter().map(exemplar).collect(),
    }
}

fn exemplar(exemplar: &Exemplar) -> types::Exemplar {
    types::Exemplar {
        timestamp: exemplar.time_ms,
        profile_id: exemplar.profile.to_string(),
        value: exemplar.value,
        labels: exemplar.labels.iter().map(label).collect(),
        ..types::Exemplar::default()
    }
}

pub(super) fn stacktraces(merged: Merged) -> PreEncoded<wire::SelectMergeStacktracesResponse> {
    let mut response = wire::SelectMergeStacktracesResponse::default();
    match merged {
        Merged::Flamegraph(graph) => response.flamegraph = MessageField::some(flamegraph(graph)),
        Merged::Tree(tree) => response.tree = tree,
        Merged::Dot(dot) => response.dot = dot,
        Merged::Pprof(pprof) => return stacktraces_pprof(&pprof),
    }
    PreEncoded::from_message(&response)
}

/// An answer that holds nothing but a profile, whose bytes are written already: field 5, and in it
/// field 1.
fn stacktraces_pprof(pprof: &[u8]) -> PreEncoded<wire::SelectMergeStacktracesResponse> {
    let mut inner = Vec::with_capacity(pprof.len() + 16);
    put_message(&mut inner, 1, pprof);
    let mut outer = Vec::with_capacity(inner.len() + 16);
    put_message(&mut outer, 5, &inner);
    PreEncoded::from_bytes_unchecked(Bytes::from(outer))
}

/// A length-delimited field.
fn put_message(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_u64(out, field << 3 | 2);
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use connectrpc::{CodecFormat, Encodable};
    use scoria_proto::public::google::v1::Profile;

    use super::*;

    #[test]
    fn a_profile_stands_where_the_message_has_it() {
        use buffa::Message;
        let message = Profile {
            period: 7,
            string_table: vec![String::new()],
            ..Profile::default()
        };
        let answer = stacktraces_pprof(&message.encode_to_vec());
        let bytes = answer.encode(CodecFormat::Proto).unwrap();
        let read = wire::SelectMergeStacktracesResponse::decode_from_slice(&bytes).unwrap();
        let pprof = read.pprof.into_option().unwrap();
        assert_eq!(pprof.profile.into_option().unwrap(), message);
        let json = answer.encode(CodecFormat::Json).unwrap();
        assert_eq!(
            &json[..],
            br#"{"pprof":{"profile":{"stringTable":[""],"period":"7"}}}"#
        );
    }
}
