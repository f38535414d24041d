//! Appends to a vector, with one check of its capacity for several slices.
//!
//! `Vec::extend_from_slice` checks it for each of them, which is a sixth of the cost of a short reply.

/// How many bytes these are together.
#[inline(always)]
pub(crate) fn length_of(parts: &[&[u8]]) -> usize {
    parts
        .iter()
        .fold(0, |total: usize, part| total.saturating_add(part.len()))
}

/// Appends the parts, one after another. If the vector has no buffer, `spare` is called with the number of bytes, and the
/// vector takes the buffer that it returns.
#[inline(always)] // The compiler then knows how many parts there are.
#[allow(unsafe_code)]
pub(crate) fn append(to: &mut Vec<u8>, parts: &[&[u8]], spare: fn(usize) -> Option<Vec<u8>>) {
    let total = length_of(parts);
    if total > to.capacity() - to.len() {
        grow(to, total, spare);
    }
    let len = to.len();
    // SAFETY: there is room for `total` bytes behind the first `len`, and the parts are as long together. They do not
    // overlap the vector, to which this function has the only reference. All bytes up to the new length are written.
    unsafe {
        let mut end = to.as_mut_ptr().add(len);
        for part in parts {
            part.as_ptr().copy_to_nonoverlapping(end, part.len());
            end = end.add(part.len());
        }
        to.set_len(len + total);
    }
}

#[cold]
#[inline(never)]
fn grow(to: &mut Vec<u8>, total: usize, spare: fn(usize) -> Option<Vec<u8>>) {
    if to.capacity() == 0
        && let Some(buffer) = spare(total)
    {
        *to = buffer;
    }
    to.reserve(total);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_without_a_buffer_gets_the_spare_one() {
        let mut to = Vec::new();
        append(&mut to, &[b"abc"], |_| Some(Vec::with_capacity(100)));
        assert_eq!((&to[..], to.capacity()), (&b"abc"[..], 100));
        // One that is too small grows.
        let mut to = Vec::new();
        append(&mut to, &[b"abc"], |_| Some(Vec::with_capacity(1)));
        assert_eq!(to, b"abc");
    }

    #[test]
    fn parts_follow_each_other_whether_or_not_there_is_room() {
        for capacity in 0..40 {
            let mut to = Vec::with_capacity(capacity);
            append(&mut to, &[b"a", b"", b"bcd"], |_| None);
            append(&mut to, &[], |_| None);
            append(&mut to, &[&[b'e'; 20], b"\r\n"], |_| None);
            assert_eq!(to, b"abcdeeeeeeeeeeeeeeeeeeee\r\n");
        }
    }
}
