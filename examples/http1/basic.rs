//! Basic authentication (RFC 7617), which `files` and `proxy` demand in different fields.

/// The name and the password in the value of an Authorization or Proxy-Authorization field.
pub fn credentials(value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let space = memchr::memchr(b' ', value)?;
    let (scheme, encoded) = value.split_at(space);
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let mut name = base64(encoded.trim_ascii())?;
    let colon = memchr::memchr(b':', &name)?;
    let password = name.split_off(colon + 1);
    name.truncate(colon);
    Some((name, password))
}

/// Decodes base64 with padding (RFC 4648 section 4).
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let value = |byte: &u8| {
        Some(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    let digits = text.strip_suffix(b"=").unwrap_or(text);
    let digits = digits.strip_suffix(b"=").unwrap_or(digits);
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut bits = 0;
        for digit in group {
            bits = bits << 6 | u32::from(value(digit)?);
        }
        bits <<= 6 * (4 - group.len());
        decoded.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        for (text, decoded) in [
            ("", Some(&b""[..])),
            ("Zg==", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            ("Zm9v", Some(b"foo")),
            ("Zm9vYg==", Some(b"foob")),
            ("+/+/", Some(b"\xfb\xff\xbf")),
            ("Zg=", None),
            ("Zg", None),
            ("Zm9v Zg=", None),
            ("=", None),
        ] {
            assert_eq!(base64(text.as_bytes()).as_deref(), decoded, "{text}");
        }
    }

    #[test]
    fn credentials_are_a_name_and_a_password() {
        let ann = Some((b"ann".to_vec(), b"se:cret".to_vec()));
        for (value, expected) in [
            ("Basic YW5uOnNlOmNyZXQ=", &ann),
            ("basic  YW5uOnNlOmNyZXQ= ", &ann),
            ("Basic YW5uOnNlOmNyZXQ", &None),
            ("Basic YW5u", &None),
            ("Bearer YW5uOnNlOmNyZXQ=", &None),
            ("Basic", &None),
            ("", &None),
        ] {
            assert_eq!(credentials(value.as_bytes()), *expected, "{value}");
        }
    }
}
