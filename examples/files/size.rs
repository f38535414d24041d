//! Sizes on the command line.

/// A size in bytes, at least one. K, M and G are 2^10, 2^20 and 2^30.
pub fn size(text: &str) -> Result<u64, &'static str> {
    let (number, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) if text.ends_with('K') => (number, 10),
        Some(number) if text.ends_with('M') => (number, 20),
        Some(number) => (number, 30),
        None => (text, 0),
    };
    let size = number
        .parse::<u64>()
        .ok()
        .and_then(|it| it.checked_mul(1 << shift));
    size.filter(|size| *size > 0)
        .ok_or("expected a number of bytes, such as 1000000, 500M or 2G")
}
