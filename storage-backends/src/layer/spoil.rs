//! Truncates, breaks and corrupts what a store answers.

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::{GetResult, GetResultPayload, Result};

use super::fault::InjectedFault;

/// Ends a stream after `keep` units, as counted by `size`. The piece at the boundary is cut in two with
/// `cut`. The stream ends with `error`, if there is one.
pub(super) fn cut_short<T: Send + 'static>(
    items: BoxStream<'static, Result<T>>,
    keep: u64,
    cut: fn(T, u64) -> (u64, Option<T>),
    error: Option<InjectedFault>,
) -> BoxStream<'static, Result<T>> {
    let kept = stream::unfold((items, keep), move |(mut items, left)| async move {
        if left == 0 {
            return None;
        }
        match items.next().await? {
            Ok(item) => {
                let (used, item) = cut(item, left);
                item.map(|item| (Ok(item), (items, left - used)))
            }
            Err(error) => Some((Err(error), (items, left))),
        }
    });
    let end = stream::iter(error.map(|error| Err(error.generic())));
    kept.chain(end).boxed()
}

/// Takes this many bytes from the front of a piece.
pub(super) fn cut_piece(piece: Bytes, left: u64) -> (u64, Option<Bytes>) {
    let used = left.min(piece.len() as u64);
    (used, Some(piece.slice(..usize::try_from(used).unwrap_or(usize::MAX))))
}

/// Flips the lowest bit of the byte with this number.
pub(super) fn flip(body: BoxStream<'static, Result<Bytes>>, at: u64) -> BoxStream<'static, Result<Bytes>> {
    let mut passed = 0_u64;
    let flipped = body.map_ok(move |piece| {
        let begin = passed;
        passed += piece.len() as u64;
        if !(begin..passed).contains(&at) {
            return piece;
        }
        let mut piece = BytesMut::from(piece);
        if let Some(byte) = usize::try_from(at - begin).ok().and_then(|index| piece.get_mut(index)) {
            *byte ^= 1;
        }
        piece.freeze()
    });
    flipped.boxed()
}

/// Returns a body with this text.
pub(super) fn other(text: &'static str) -> BoxStream<'static, Result<Bytes>> {
    stream::iter([Ok(Bytes::from_static(text.as_bytes()))]).boxed()
}

/// Changes the body of an answer and nothing else.
pub(super) fn spoil(
    result: GetResult,
    change: impl FnOnce(BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>>,
) -> GetResult {
    let (meta, range, attributes, extensions) =
        (result.meta.clone(), result.range.clone(), result.attributes.clone(), result.extensions.clone());
    let payload = GetResultPayload::Stream(change(result.into_stream()));
    GetResult { payload, meta, range, attributes, extensions }
}
