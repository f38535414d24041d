//! Names and passwords: Basic authentication of HTTP (RFC 7617) and that of SOCKS (RFC 1929).

use std::hint::black_box;
use std::str::FromStr;

/// A user who may use the proxy. It is parsed from `NAME:PASSWORD`.
#[derive(Clone)]
pub struct User {
    name: String,
    password: String,
    /// `NAME:PASSWORD` in Base64, as it is in a `Proxy-Authorization` field.
    encoded: String,
}

impl User {
    pub fn has(&self, name: &[u8], password: &[u8]) -> bool {
        // Both are compared, so that the time does not tell which of them is wrong.
        is_equal(self.name.as_bytes(), name) & is_equal(self.password.as_bytes(), password)
    }

    /// Whether this is the value of the user's `Proxy-Authorization` field.
    pub fn has_credentials(&self, field: &[u8]) -> bool {
        let mut parts = field.splitn(2, |byte| *byte == b' ');
        let (scheme, encoded) = (parts.next(), parts.next());
        scheme.is_some_and(|it| it.eq_ignore_ascii_case(b"basic"))
            && encoded.is_some_and(|it| is_equal(it.trim_ascii(), self.encoded.as_bytes()))
    }
}

impl FromStr for User {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<User, Self::Err> {
        let (name, password) = text.split_once(':').ok_or("write NAME:PASSWORD")?;
        // RFC 1929 section 2.
        if !(1..=255).contains(&name.len()) || !(1..=255).contains(&password.len()) {
            return Err("the name and the password have 1 to 255 bytes each");
        }
        Ok(User {
            name: name.to_owned(),
            password: password.to_owned(),
            encoded: base64(text.as_bytes()),
        })
    }
}

/// Compares in a time that does not depend on where the two differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a
        .iter()
        .zip(b)
        .fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    a.len() == b.len() && differences == 0
}

/// Base64 with padding: RFC 4648 section 4.
fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in data.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n)) as usize & 63];
            text.push(if n > group.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let vectors = [
            "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy",
        ];
        for (length, encoded) in vectors.into_iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..length]), encoded);
        }
        assert_eq!(
            base64(b"Aladdin:open sesame"),
            "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
    }

    #[test]
    fn a_user_is_known_by_both() {
        let user: User = "ann:se:cret".parse().unwrap();
        assert!(user.has(b"ann", b"se:cret"));
        assert!(
            !user.has(b"ann", b"secret")
                && !user.has(b"bob", b"se:cret")
                && !user.has(b"ann", b"se:cre")
        );
        for (field, is_hers) in [
            ("Basic YW5uOnNlOmNyZXQ=", true),
            ("basic  YW5uOnNlOmNyZXQ= ", true),
            ("Basic YW5uOnNlOmNyZXQ", false),
            ("Bearer YW5uOnNlOmNyZXQ=", false),
            ("Basic", false),
            ("", false),
        ] {
            assert_eq!(user.has_credentials(field.as_bytes()), is_hers, "{field}");
        }
        for text in ["ann", ":x", "x:", ""] {
            assert!(text.parse::<User>().is_err());
        }
    }
}
