//! The memory of many, estimated from some.

/// Each may be an allocation to look at, and another client waits meanwhile.
const MOST_SAMPLES: usize = 1000;

/// The sum of so many sizes, estimated from the first `samples` of them, or a thousand if these are more.
pub fn sum(len: usize, sizes: impl Iterator<Item = usize>, samples: usize) -> usize {
    let number = samples.min(MOST_SAMPLES).min(len).max(1);
    let some: usize = sizes.take(number).sum();
    // The product may be too large for 64 bits.
    (some as u128 * len as u128 / number as u128) as usize
}

/// The same with as many samples as there may be.
pub fn sum_of_all(sizes: impl ExactSizeIterator<Item = usize>) -> usize {
    sum(sizes.len(), sizes, MOST_SAMPLES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_thousand_is_exact_and_that_of_more_an_estimate() {
        assert_eq!(sum(0, 0..0, 5), 0);
        assert_eq!(sum(4, [1, 2, 3, 4].into_iter(), 2), 6);
        assert_eq!(sum(4, [1, 2, 3, 4].into_iter(), usize::MAX), 10);
        assert_eq!(sum_of_all(0..1_000), 499_500);
        assert_eq!(sum_of_all(0..2_000), 999_000);
        let large = std::iter::repeat_n(1 << 29, 1 << 33);
        assert_eq!(sum(1 << 33, large, usize::MAX), 1 << 62);
    }
}
