//! Basic authentication (RFC 7617).

use asynchat::Chat;

use super::Options;
use super::reply::Reply;
use crate::http1::Fields;

/// The name of the user, if the request of this client has the right password, and may have one.
pub fn user(fields: Fields<'_>, options: &Options, chat: &Chat) -> Option<String> {
    let value = fields.text("authorization")?;
    if is_refused(options, chat) {
        return None;
    }
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64(credentials.trim().as_bytes())?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    let name = std::str::from_utf8(&decoded[..colon]).ok()?;
    let is_right = || options.users.admit(name, &decoded[colon + 1..]);
    let checked = options
        .login_limit
        .check(chat.peer_addr().as_ref(), is_right);
    checked.is_ok().then(|| name.to_owned())
}

/// The reply to a request that needs a user, and has none.
pub fn demand(options: &Options, chat: &Chat) -> Reply {
    match is_refused(options, chat) {
        // Without a challenge, so that browsers ask for no password. A redirect would come after a password was sent.
        true => Reply::text(403, "passwords are accepted with TLS only: use https"),
        false => Reply::text(401, "this needs a user and a password").field(
            "WWW-Authenticate",
            "Basic realm=\"files\", charset=\"UTF-8\"",
        ),
    }
}

/// Everybody on the way could read a password (RFC 7617 section 4).
fn is_refused(options: &Options, chat: &Chat) -> bool {
    options.tls.is_some() && !options.insecure_auth && chat.tls().is_none()
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
    use super::base64;

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
}
