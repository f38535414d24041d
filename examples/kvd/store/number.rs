//! Numbers as Redis reads and writes them.

/// Room for any `i64`.
pub type Digits = [u8; 20];

/// The decimal digits of a number, written into `digits`.
#[inline]
pub fn decimal(number: i64, digits: &mut Digits) -> &[u8] {
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    &digits[at..]
}

/// Reads an integer strictly: no sign `+`, no leading zero, no space, as Redis does.
#[inline]
pub fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [] => return None,
        [b'0'] => return (!negative).then_some(0),
        [b'0', ..] => return None,
        _ if digits.len() > 19 => return None,
        _ => {}
    }
    let mut value: u64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(digit.into())?;
    }
    if !negative {
        i64::try_from(value).ok()
    } else if value <= 1 << 63 {
        Some((value as i64).wrapping_neg())
    } else {
        None
    }
}

/// Reads a floating-point number: also `inf`, `+inf` and `-inf`, but not `nan`, and none that is too large or too
/// small for its type.
pub fn float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let number: f64 = text.parse().ok()?;
    let is_exact = match number {
        0.0 => !text
            .split(['e', 'E'])
            .next()
            .is_some_and(|digits| digits.contains(|digit| matches!(digit, '1'..='9'))),
        _ if number.is_infinite() => !text.contains(|digit: char| digit.is_ascii_digit()),
        _ => !number.is_nan(),
    };
    is_exact.then_some(number)
}

/// Reads the weight of an element that is sorted. It may have spaces before it, and is 0 if there is nothing, as for C's
/// `strtod`.
pub fn weight(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        Some(0.0)
    } else {
        float(text.trim_ascii_start())
    }
}

/// Reads the bound of a range of scores. As C's `strtod`, it may have spaces before it, is 0 if there is nothing, and is
/// infinite if it is too large.
pub fn bound(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    let text = text.trim_ascii_start();
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!number.is_nan()).then_some(number)
}

/// The shortest text that reads as this number. As in C, numbers from 1e17 on and below 1e-4 have an exponent.
pub fn float_text(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e17).contains(&size) {
        let text = format!("{number:e}");
        if let Some((digits, exponent)) = text.split_once('e') {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(rest) => ('-', rest),
                None => ('+', exponent),
            };
            return format!("{digits}e{sign}{exponent:0>2}");
        }
    }
    format!("{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_out_of_range_are_none() {
        for text in ["1e400", "-1e400", "1e-400", "nan", "0x1", ""] {
            assert_eq!(float(text.as_bytes()), None, "{text}");
        }
        for (text, number) in [
            ("0", 0.0),
            ("-0.0e5", 0.0),
            ("inf", f64::INFINITY),
            ("1e308", 1e308),
        ] {
            assert_eq!(float(text.as_bytes()), Some(number), "{text}");
        }
        for (text, number) in [
            ("", Some(0.0)),
            (" ", None),
            (" 1", Some(1.0)),
            ("1 ", None),
            ("1e400", None),
        ] {
            assert_eq!(weight(text.as_bytes()), number, "{text}");
        }
    }

    #[test]
    fn integers_are_read_strictly_and_written_back() {
        for number in [0, 1, -1, 42, i64::MAX, i64::MIN] {
            let mut digits = Digits::default();
            assert_eq!(decimal(number, &mut digits), number.to_string().as_bytes());
            assert_eq!(integer(number.to_string().as_bytes()), Some(number));
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            " 1",
            "1 ",
            "9223372036854775808",
            "-9223372036854775809",
            "1e3",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn floats_are_written_as_c_does() {
        for (number, text) in [
            (3.0, "3"),
            (0.5, "0.5"),
            (1e20, "1e+20"),
            (1.5e-7, "1.5e-07"),
            (-2.25, "-2.25"),
        ] {
            assert_eq!(float_text(number), text);
        }
        assert_eq!(float(b"nan"), None);
        assert_eq!(float(b"-inf"), Some(f64::NEG_INFINITY));
    }
}
