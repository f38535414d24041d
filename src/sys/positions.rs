//! Which bytes of a block have a value, with the vector instructions of the processor.

/// The length of a block in bytes.
pub(crate) const BLOCK: usize = 64;

/// Returns where `byte` occurs in the block: bit n of the result is set if byte n is equal to it.
#[inline]
pub(crate) fn positions_of(byte: u8, block: &[u8; BLOCK]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    {
        // SAFETY: each x86-64 processor has SSE2, and the standard library exists only for programs that use it.
        unsafe { sse2(byte, block) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    words(byte, block)
}

/// Compares 16 bytes at once. The other processors have no instruction that makes bits of the outcome.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn sse2(byte: u8, block: &[u8; BLOCK]) -> u64 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};

    let wanted = _mm_set1_epi8(byte.cast_signed());
    let (parts, _) = block.as_chunks();
    parts.iter().rev().fold(0, |found, part| {
        let part = u128::from_le_bytes(*part);
        let part = _mm_set_epi64x((part >> 64) as i64, part as i64);
        let equal = _mm_movemask_epi8(_mm_cmpeq_epi8(part, wanted));
        found << 16 | u64::from(equal.cast_unsigned())
    })
}

/// Compares the eight bytes of a word at once.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn words(byte: u8, block: &[u8; BLOCK]) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH_BITS: u64 = ONES << 7;
    // A byte that is a power of two in each place. The product of a word of ones and zeros with this has one bit for
    // each byte in its highest byte, because no two of the partial products meet in one bit.
    const GATHER: u64 = 0x0102_0408_1020_4080;

    let wanted = ONES * u64::from(byte);
    let (parts, _) = block.as_chunks();
    parts.iter().rev().fold(0, |found, part| {
        // Zero where the byte is equal. The sum sets the high bit of each other byte, and carries into no neighbour.
        let different = u64::from_le_bytes(*part) ^ wanted;
        let different = ((different & !HIGH_BITS) + !HIGH_BITS) | different;
        let equal = (!different & HIGH_BITS) >> 7;
        found << 8 | equal.wrapping_mul(GATHER) >> 56
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_that_is_equal_has_its_bit() {
        // Neighbours of the value in each direction, and those that a carry or a borrow would mistake for it.
        for filling in [0x00, 0x0b, 0x09, 0x8a, 0x4a, 0x0d, 0x7f, 0x80, 0xff] {
            for first in 0..BLOCK {
                for last in first..BLOCK {
                    let mut block = [filling; BLOCK];
                    let mut expected = 0;
                    for at in [first, (first + last) / 2, last] {
                        block[at] = b'\n';
                        expected |= 1 << at;
                    }
                    assert_eq!(positions_of(b'\n', &block), expected);
                    assert_eq!(words(b'\n', &block), expected);
                }
            }
        }
        for byte in 0..=u8::MAX {
            let block = std::array::from_fn(|n| byte.wrapping_add(n as u8 % 3));
            let expected = (0..BLOCK).step_by(3).fold(0, |found, at| found | 1 << at);
            assert_eq!(positions_of(byte, &block), expected);
            assert_eq!(words(byte, &block), expected);
        }
    }
}
