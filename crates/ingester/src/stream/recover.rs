//! Which records of an earlier process's segments count.

use scoria_model::Seq;

use super::Generation;

/// What reading one segment of a stream found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSummary {
    pub generation: Generation,
    /// From the header: the first sequence number that the segment may give out.
    pub first_seq: Seq,
    /// Of the last record that could be read; one less than `first_seq` if there is none.
    pub last_seq: Seq,
}

/// A generation to serve and flush, or a segment to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    pub generation: Generation,
    /// The records of `(from, to]` count; none when they are equal.
    pub from: Seq,
    pub to: Seq,
}

/// Decides from all segments of one stream and its committed sequence number. A record counts when
/// it is beyond `committed` and before the `first_seq` of every later segment: a later segment
/// gives out anew what failed in an earlier one.
///
/// The ranges come in order, disjoint and contiguous from `committed`, even where records are
/// missing between two segments.
pub fn recover(mut segments: Vec<SegmentSummary>, committed: Seq) -> Vec<Recovered> {
    segments.sort_by_key(|s| s.generation);
    let mut below = Seq(u64::MAX);
    let mut ends: Vec<(Generation, Seq)> = segments
        .iter()
        .rev()
        .map(|s| {
            let end = s.last_seq.min(Seq(below.0.saturating_sub(1)));
            below = below.min(s.first_seq);
            (s.generation, end)
        })
        .collect();
    ends.reverse();
    let mut from = committed;
    ends.into_iter()
        .map(|(generation, end)| {
            let range = Recovered {
                generation,
                from,
                to: end.max(from),
            };
            from = range.to;
            range
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(generation: u64, first: u64, last: u64) -> SegmentSummary {
        SegmentSummary {
            generation: Generation(generation),
            first_seq: Seq(first),
            last_seq: Seq(last),
        }
    }

    fn ranges(segments: Vec<SegmentSummary>, committed: u64) -> Vec<(u64, u64, u64)> {
        recover(segments, Seq(committed))
            .into_iter()
            .map(|r| (r.generation.0, r.from.0, r.to.0))
            .collect()
    }

    #[test]
    fn what_was_given_out_again_counts_in_the_later_segment() {
        let segments = vec![segment(2, 8, 12), segment(1, 1, 10), segment(3, 13, 12)];
        assert_eq!(ranges(segments, 0), [(1, 0, 7), (2, 7, 12), (3, 12, 12)]);
    }

    #[test]
    fn committed_segments_are_empty_and_a_commit_may_end_inside_one() {
        let segments = vec![segment(1, 1, 10), segment(2, 11, 20)];
        assert_eq!(ranges(segments.clone(), 10), [(1, 10, 10), (2, 10, 20)]);
        assert_eq!(ranges(segments.clone(), 8), [(1, 8, 10), (2, 10, 20)]);
        assert_eq!(ranges(segments, 99), [(1, 99, 99), (2, 99, 99)]);
    }

    #[test]
    fn a_hole_between_segments_keeps_the_ranges_contiguous() {
        let segments = vec![segment(1, 1, 4), segment(2, 11, 20)];
        assert_eq!(ranges(segments, 0), [(1, 0, 4), (2, 4, 20)]);
    }
}
