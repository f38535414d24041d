//! Sums of decimal numbers, for INCRBYFLOAT: 0.1 and 0.2 are 0.3. Redis calculates with 64 bits of precision, and has
//! the same digits for numbers of up to 19.

/// How many digits there are behind the point, as in Redis.
const PLACES: i32 = 17;

/// The sum of two numbers, without an exponent. `None` from about 1e21 on, or if one of them has very many digits.
pub fn sum(a: &[u8], b: &[u8]) -> Option<String> {
    let sum = scaled(a)?.checked_add(scaled(b)?)?;
    let one = 10_u128.pow(PLACES.unsigned_abs());
    let (whole, fraction) = (sum.unsigned_abs() / one, sum.unsigned_abs() % one);
    let sign = if sum < 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{fraction:0>17}");
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// The number times 1e17, rounded.
fn scaled(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse().ok()?),
        None => (text, 0_i32),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    // One place more decides about rounding, and none behind it.
    let places = exponent.checked_add(PLACES + 1)?;
    let fraction = fraction.get(..fraction.len().min(places.max(0) as usize))?;
    let number: i128 = [whole, fraction].concat().parse().ok()?;
    let places = i32::try_from(fraction.len()).ok()?;
    let shift = exponent.checked_sub(places)?.checked_add(PLACES)?;
    let factor = 10_i128.checked_pow(shift.unsigned_abs());
    match shift {
        0.. if number == 0 => Some(0),
        0.. => number.checked_mul(factor?),
        // What is below half of the last place is 0.
        _ => Some(factor.map_or(0, |factor| {
            let half = factor / 2 * number.signum();
            number.saturating_add(half) / factor
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn sums_are_those_of_decimal_numbers() {
        for (a, b, wanted) in [
            ("0.1", "0.2", "0.3"),
            ("10.5", "-5", "5.5"),
            ("3.0e3", "2.0E2", "3200"),
            ("-.5", "+0.25", "-0.25"),
            ("1.", "-1", "0"),
            ("1e-17", "0", "0.00000000000000001"),
            ("-6e-18", "0", "-0.00000000000000001"),
            ("4e-18", "-0", "0"),
            ("0", "1e-300", "0"),
            ("0e400", "7", "7"),
            ("12345678901234567890", "0.1", "12345678901234567890.1"),
            (
                &format!("0.{}", "1".repeat(200)),
                "1",
                "1.11111111111111111",
            ),
            (
                &format!("-0.{}5", "0".repeat(17)),
                "0",
                "-0.00000000000000001",
            ),
            (
                &format!("0.{}49{}", "0".repeat(17), "9".repeat(99)),
                "0",
                "0",
            ),
            (&format!("0.{}25e60", "0".repeat(60)), "0", "0.25"),
            (
                &format!("5.{}e-18", "9".repeat(50)),
                "0",
                "0.00000000000000001",
            ),
            (&format!("4.{}e-18", "9".repeat(50)), "0", "0"),
        ] {
            assert_eq!(sum(a.as_bytes(), b.as_bytes()).as_deref(), Some(wanted));
        }
        for text in ["1e22", "1e400", "inf", "", "x"] {
            assert_eq!(sum(text.as_bytes(), b"0"), None, "{text}");
        }
    }
}
