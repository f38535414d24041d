//! A part of a file (RFC 9110 section 14).

/// What a Range field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Everything: the field is not valid, has another unit or several ranges, or the file is empty. A server may ignore
    /// it.
    Whole,
    /// `length` bytes from `start`.
    Part { start: u64, length: u64 },
    /// There is no such part: 416.
    Unsatisfiable,
}

impl Range {
    /// Parses the value of a Range field, of a file with this size.
    pub fn parse(value: &str, size: u64) -> Range {
        Self::of_bytes(value, size).unwrap_or(Range::Whole)
    }

    fn of_bytes(value: &str, size: u64) -> Option<Range> {
        let (unit, set) = value.split_once('=')?;
        let (first, last) = set.trim().split_once('-')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (start, end) = match (first, last) {
            ("", suffix) => match number(suffix)? {
                0 => return Some(Range::Unsatisfiable),
                length => (size.saturating_sub(length), size),
            },
            (first, "") => (number(first)?, size),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return None;
                }
                (first, last.saturating_add(1).min(size))
            }
        };
        Some(match end.checked_sub(start) {
            // Clients that limit the length of each reply ask for `bytes=0-N` always. Content-Range can state no empty part.
            _ if size == 0 => Range::Whole,
            None | Some(0) => Range::Unsatisfiable,
            Some(length) => Range::Part { start, length },
        })
    }
}

/// A number that is too large is larger than any file.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}
