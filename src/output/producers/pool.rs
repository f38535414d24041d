//! The buffers that producers read into. They are used again, so that they are neither allocated nor
//! zero-filled for each piece of a file: filling costs as much as reading from the page cache.

use std::cell::RefCell;

use bytes::Bytes;

/// The size of each buffer in bytes: what a turn sends by default.
pub(super) const SIZE: usize = 65_536;

/// How many unused buffers a thread keeps. A buffer is in use while its piece is queued, which is not long
/// if the peer reads. The first peers that are slow take one each.
const SPARE: usize = 16;

/// A shorter piece is copied out of its buffer, so that a queue takes at most four times the memory of its
/// bytes.
const COPIED: usize = SIZE / 4;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`SIZE`] initialised bytes. It returns to the pool when it is dropped.
pub(super) struct Buffer(Box<[u8]>);

impl Buffer {
    pub(super) fn take() -> Self {
        let spare = POOL.try_with(|pool| pool.borrow_mut().pop());
        let spare = spare.ok().flatten();
        Buffer(spare.unwrap_or_else(|| vec![0; SIZE].into()))
    }

    /// The first `len` bytes, at most [`SIZE`], to read into.
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        self.0.get_mut(..len).unwrap_or_default()
    }

    /// Turns the first `len` bytes into a piece of output.
    pub(super) fn into_bytes(self, len: usize) -> Bytes {
        if len < COPIED {
            return Bytes::copy_from_slice(self.0.get(..len).unwrap_or_default());
        }
        let mut piece = Bytes::from_owner(self);
        piece.truncate(len);
        piece
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // A thread that is ending has no pool any more. The buffer is freed then.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < SPARE {
                pool.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_its_piece_is_dropped() {
        let piece = Buffer::take().into_bytes(SIZE);
        let address = piece.as_ptr();
        let other = Buffer::take();
        assert_ne!(other.0.as_ptr(), address, "it is in use");
        drop(piece);
        assert_eq!(Buffer::take().0.as_ptr(), address);
    }

    #[test]
    fn a_short_piece_does_not_occupy_a_buffer() {
        let mut buffer = Buffer::take();
        let address = buffer.0.as_ptr();
        buffer.room(3).copy_from_slice(b"abc");
        let piece = buffer.into_bytes(3);
        assert_eq!(piece, "abc");
        assert_eq!(Buffer::take().0.as_ptr(), address);
    }

    #[test]
    fn unused_buffers_are_bounded() {
        let pieces: Vec<_> = (0..2 * SPARE)
            .map(|_| Buffer::take().into_bytes(SIZE))
            .collect();
        drop(pieces);
        assert_eq!(POOL.with(|pool| pool.borrow().len()), SPARE);
    }
}
