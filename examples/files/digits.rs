//! Numbers as text, for what each request has: the head of the reply, the entity tag and the line of the log. `core::fmt`
//! takes about 250 instructions for a number.

/// The digits of a number.
pub struct Digits {
    /// They are at its end.
    space: [u8; LONGEST],
    start: usize,
}

/// The digits of `u64::MAX`.
const LONGEST: usize = 20;

pub fn decimal(number: impl Into<u64>) -> Digits {
    Digits::new::<10>(number.into())
}

/// In lower case, without a prefix.
pub fn hexadecimal(number: impl Into<u64>) -> Digits {
    Digits::new::<16>(number.into())
}

impl Digits {
    fn new<const RADIX: u64>(mut number: u64) -> Digits {
        let (mut space, mut start) = ([0; LONGEST], LONGEST);
        loop {
            start -= 1;
            space[start] = b"0123456789abcdef"[(number % RADIX) as usize];
            number /= RADIX;
            if number == 0 {
                return Digits { space, start };
            }
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.space[self.start..]
    }
}

/// A number below 100 with two digits.
pub fn two_digits(number: u64) -> &'static str {
    const ALL: &str = "\
        00010203040506070809101112131415161718192021222324\
        25262728293031323334353637383940414243444546474849\
        50515253545556575859606162636465666768697071727374\
        75767778798081828384858687888990919293949596979899";
    let start = 2 * (number % 100) as usize;
    &ALL[start..start + 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_standard_library() {
        let powers = (0..64)
            .map(|n| 1_u64 << n)
            .chain((0..20).map(|n| 10_u64.pow(n)));
        for number in powers.flat_map(|it| [it - 1, it]).chain([u64::MAX]) {
            assert_eq!(decimal(number).as_bytes(), number.to_string().as_bytes());
            let digits = format!("{number:x}");
            assert_eq!(hexadecimal(number).as_bytes(), digits.as_bytes());
        }
        for number in 0..100 {
            assert_eq!(two_digits(number), format!("{number:02}"));
        }
    }
}
