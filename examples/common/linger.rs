//! The end of a connection whose client has said that it sends nothing more. Several examples include this file by its path.

use asynchat::Chat;

/// After more than this, the kernel may still have output, and only a lingering socket has a deadline for it.
const SHORT: u64 = 128 << 10;

/// Skips the linger of a connection that has sent little, which saves five system calls. `to_come` are the bytes that a
/// producer in the queue will make.
pub(crate) fn skip_if_short(chat: &Chat, to_come: u64) {
    let sent = chat.stats().bytes_out + chat.queued() as u64;
    if sent.saturating_add(to_come) <= SHORT {
        chat.skip_linger();
    }
}
