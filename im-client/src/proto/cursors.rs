//! Cursors of many rooms, in frames that every server accepts.

use im_core::{Cursor, RoomId};

/// Cursors in one frame: even with the longest ids they fit into any server's message.
const CURSORS_PER_FRAME: usize = 500;
const CURSOR_BYTES_PER_FRAME: usize = 40 * 1024;
/// Bytes of cursors in the first frame, which is sent with the greeting: servers wait only a few
/// seconds for the greeting, and uplinks are slow.
const CURSOR_BYTES_IN_FIRST: usize = 2 * 1024;

/// Divides cursors among as many frames as they need, in their order.
pub(super) fn frames(
    cursors: impl Iterator<Item = (RoomId, Cursor)>,
) -> Vec<Vec<(RoomId, Cursor)>> {
    let (mut frames, mut bytes) = (Vec::<Vec<_>>::new(), 0);
    for (id, cursor) in cursors {
        // Both halves of the epoch, the seq, and the encoding around them.
        let size = id.as_str().len() * 2 + 64;
        bytes += size;
        let most = if frames.len() > 1 { CURSOR_BYTES_PER_FRAME } else { CURSOR_BYTES_IN_FIRST };
        match frames.last_mut() {
            Some(frame) if frame.len() < CURSORS_PER_FRAME && bytes <= most => {
                frame.push((id, cursor));
            }
            _ => {
                bytes = size;
                frames.push(vec![(id, cursor)]);
            }
        }
    }
    frames
}
