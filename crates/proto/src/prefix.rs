//! A message's body whose prefix comes before the rest.
//!
//! A gRPC message starts with five bytes that say how long it is. The reader of a message that comes
//! in one piece takes the piece into its buffer first and makes room for the whole message then,
//! once more: a large message would be there three times. With the prefix read first there is room
//! before the message comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// Flag and length.
const PREFIX_BYTES: usize = 5;

/// The body with the prefix of its first message as a frame of its own.
pub(crate) fn prefix_first(body: Body) -> Body {
    Body::new(PrefixFirst {
        body,
        is_cut: false,
        rest: Bytes::new(),
    })
}

#[derive(Debug)]
struct PrefixFirst {
    body: Body,
    is_cut: bool,
    /// What follows the prefix in the piece that it came in.
    rest: Bytes,
}

impl http_body::Body for PrefixFirst {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if self.is_cut {
            return polled;
        }
        polled.map_ok(|frame| match frame.into_data() {
            Ok(mut data) => {
                self.is_cut = true;
                if data.len() > PREFIX_BYTES {
                    self.rest = data.split_off(PREFIX_BYTES);
                }
                Frame::data(data)
            }
            Err(other) => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use http_body::Body as _;
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn frames(body: &'static [u8]) -> Vec<Vec<u8>> {
        let whole = Body::new(Full::new(Bytes::from_static(body)));
        let mut body = prefix_first(whole);
        let mut frames = Vec::new();
        while let Some(frame) = block_on(body.frame()) {
            frames.push(frame.unwrap().into_data().unwrap().to_vec());
        }
        assert!(body.is_end_stream());
        frames
    }

    #[test]
    fn the_prefix_is_a_frame_of_its_own_and_nothing_is_lost() {
        assert_eq!(frames(b"12345message"), [&b"12345"[..], b"message"]);
        assert_eq!(frames(b"12345"), [b"12345"]);
        assert_eq!(frames(b"1"), [b"1"]);
        assert_eq!(frames(b""), Vec::<Vec<u8>>::new());
    }
}
