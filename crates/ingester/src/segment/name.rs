//! File names of segments: `node.incarnation.n.generation.log`.

use std::fmt;
use std::str::FromStr;

use scoria_model::StreamId;

use crate::stream::Generation;

/// What a segment's file is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentName {
    pub stream: StreamId,
    pub generation: Generation,
}

/// A file name that is not a segment's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not the name of a log segment, node.incarnation.n.generation.log")]
pub struct SegmentNameError {
    pub name: String,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:010}.log", self.stream, self.generation.0)
    }
}

impl FromStr for SegmentName {
    type Err = SegmentNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (stream, generation) = name.strip_suffix(".log")?.rsplit_once('.')?;
            Some(Self {
                stream: stream.parse().ok()?,
                generation: Generation(generation.parse().ok()?),
            })
        };
        parse().ok_or_else(|| SegmentNameError {
            name: name.to_owned(),
        })
    }
}
