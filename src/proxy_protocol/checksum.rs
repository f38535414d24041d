//! The checksum of a header of version 2 (section 2.2.3 of the specification).

use std::ops::Range;

use super::fields::Tlvs;
use super::tlv;

/// How many bytes a checksum has.
pub(super) const LEN: usize = 4;

/// Whether the header has no checksum, or the right one. Its last `tlvs` bytes are its fields. A receiver that supports
/// the checksum has to reject a wrong one.
pub(super) fn is_right(header: &[u8], tlvs: usize) -> bool {
    let Some(range) = find(header, tlvs) else {
        return true;
    };
    header.get(range.clone()) == Some(&of(header, &range)[..])
}

/// Writes the right checksum, if the header has room for one.
pub(super) fn fill(header: &mut [u8], tlvs: usize) {
    let Some(range) = find(header, tlvs).filter(|range| range.len() == LEN) else {
        return;
    };
    let checksum = of(header, &range);
    if let Some(value) = header.get_mut(range) {
        value.copy_from_slice(&checksum);
    }
}

/// Where its value is.
fn find(header: &[u8], tlvs: usize) -> Option<Range<usize>> {
    let (_, tlvs) = header.split_at_checked(header.len().checked_sub(tlvs)?)?;
    let mut fields = Tlvs::new(tlvs);
    let (_, value) = fields.find(|(kind, _)| *kind == tlv::CRC32C)?;
    // What follows it is known.
    let end = header.len() - fields.len_left();
    Some(end - value.len()..end)
}

/// The checksum of the header, in which its own value counts as zeros.
fn of(header: &[u8], value: &Range<usize>) -> [u8; LEN] {
    let bytes = header.iter().enumerate();
    let zeroed = bytes.map(|(at, &byte)| if value.contains(&at) { 0 } else { byte });
    crc32c(zeroed).to_be_bytes()
}

/// CRC-32C (RFC 9260 appendix A), bit by bit: a header is short, and few have a checksum.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    /// The polynomial, its bits in reverse order.
    const CASTAGNOLI: u32 = 0x82F6_3B78;
    !bytes.fold(!0, |mut crc, byte| {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { CASTAGNOLI } else { 0 };
        }
        crc
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_the_catalogue() {
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xE306_9283);
    }
}
