//! Ranges of article numbers: `n`, `n-` and `n-m` (RFC 3977, section 9.8).

/// A range that includes both ends. If `low > high` the range is empty, which the
/// RFC allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub low: u64,
    pub high: u64,
}

impl Range {
    pub fn parse(text: &str) -> Option<Range> {
        match text.split_once('-') {
            None => number(text).map(|n| Range { low: n, high: n }),
            Some((low, "")) => number(low).map(|low| Range {
                low,
                high: u64::MAX,
            }),
            Some((low, high)) => Some(Range {
                low: number(low)?,
                high: number(high)?,
            }),
        }
    }
}

/// Parses an article number of 1 to 16 digits (section 9.8), which always fits a `u64`.
pub fn number(text: &str) -> Option<u64> {
    let valid = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms() {
        let range = |low, high| Some(Range { low, high });
        assert_eq!(Range::parse("7"), range(7, 7));
        assert_eq!(Range::parse("7-"), range(7, u64::MAX));
        assert_eq!(Range::parse("7-9"), range(7, 9));
        assert_eq!(Range::parse("9-7"), range(9, 7));
    }

    #[test]
    fn malformed_ranges_are_refused() {
        for bad in [
            "",
            "-",
            "-7",
            "x",
            "7-x",
            "7--9",
            "+7",
            "1e3",
            "12345678901234567",
        ] {
            assert_eq!(Range::parse(bad), None, "{bad:?}");
        }
    }
}
