//! Where the body of a message ends (RFC 9112 section 6.3).

use super::fields::Fields;
use super::head::Version;
use super::status::Rejected;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// So many bytes, at least one.
    Length(u64),
    Chunked,
    /// Up to the end of the connection. Only a response has it.
    UntilClose,
}

pub fn of_request(version: Version, fields: Fields<'_>) -> Result<Framing, Rejected> {
    match declared(version, fields)? {
        Some(framing) => Ok(framing),
        None => Ok(Framing::Empty),
    }
}

/// Of the response to a request with this method. After a response to CONNECT with a status of 2xx, and after 101, the
/// connection has another protocol: that is the caller's affair.
pub fn of_response(
    version: Version,
    status: u16,
    method: &str,
    fields: Fields<'_>,
) -> Result<Framing, Rejected> {
    // RFC 9110 section 6.4.1. Such a response may have the fields of the body that it would have had.
    let has_none = matches!(status, 100..=199 | 204 | 304)
        || method == "HEAD"
        || (method == "CONNECT" && (200..300).contains(&status));
    let declared = declared(version, fields)?;
    Ok(match declared {
        _ if has_none => Framing::Empty,
        Some(framing) => framing,
        None => Framing::UntilClose,
    })
}

/// What the fields say. Each error here is a message that two parsers can understand in two ways.
fn declared(version: Version, fields: Fields<'_>) -> Result<Option<Framing>, Rejected> {
    let (mut codings, mut lengths) = (
        fields.all("transfer-encoding"),
        fields.all("content-length"),
    );
    let (coding, length) = (codings.next(), lengths.next());
    let Some(coding) = coding else {
        // RFC 9112 section 6.3 permits repeated equal values. No client sends them without intent.
        return match (length, lengths.next()) {
            (_, Some(_)) => Err(Rejected::bad("there are several Content-Length fields")),
            (Some(length), None) => Ok(Some(match number(length)? {
                0 => Framing::Empty,
                length => Framing::Length(length),
            })),
            (None, None) => Ok(None),
        };
    };
    // In either order (hyper #4123).
    if length.is_some() {
        let why = "there are Content-Length and Transfer-Encoding";
        return Err(Rejected::bad(why));
    }
    // RFC 9112 section 6.1: an older recipient has ignored the field.
    if version == Version::Http10 {
        return Err(Rejected::bad("HTTP/1.0 has no Transfer-Encoding"));
    }
    // Not `gzip, chunked`, not `identity`, and no list: tiny_http #287 took any value for `chunked`.
    if codings.next().is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
        return Err(Rejected {
            status: 501,
            why: "the only transfer coding is chunked",
        });
    }
    Ok(Some(Framing::Chunked))
}

/// Digits only: no sign, no list.
fn number(text: &[u8]) -> Result<u64, Rejected> {
    let digits = std::str::from_utf8(text)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or(Rejected::bad("Content-Length is not a number"))
}
