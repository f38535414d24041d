//! The heads of responses that are forwarded.

use std::time::SystemTime;

use super::exchange::{Exchange, Sent};
use super::request::via_of;
use crate::http1::{Framing, Rejected, Response, Version};

/// The head for the client, and how the body is sent.
pub struct Head {
    pub bytes: Vec<u8>,
    /// Whether the body is sent in chunks. Otherwise it is sent as it is.
    pub chunked: bool,
    pub sent: Sent,
}

impl Head {
    /// Of the final response.
    ///
    /// A body in chunks, or one that ends with the connection, is sent in chunks, so that the client can tell a
    /// complete one. HTTP/1.0 has no chunks: there the connection ends with the body.
    pub fn new(response: &Response<'_>, exchange: &Exchange, via: &str) -> Result<Head, Rejected> {
        let (mut chunked, mut sent) = (false, Sent::Head);
        let framing = match response.framing {
            // Such a response may tell the length of a body that it does not have: RFC 9110 section 8.6.
            Framing::Empty if exchange.method == "HEAD" || response.status == 304 => {
                response.fields.text("content-length").map(str::to_owned)
            }
            Framing::Empty if response.status == 204 => None,
            Framing::Empty => Some("0".to_owned()),
            Framing::Length(length) => Some(length.to_string()),
            Framing::Chunked | Framing::UntilClose if exchange.version == Version::Http10 => {
                sent = Sent::HeadUntilClose;
                None
            }
            Framing::Chunked | Framing::UntilClose => {
                chunked = true;
                None
            }
        };
        let mut head = start(response, via)?;
        let mut field =
            |name: &str, value: &str| push(&mut head, &[name.as_bytes(), b": ", value.as_bytes()]);
        let is_date = |(name, _): (&str, &[u8])| name.eq_ignore_ascii_case("date");
        // One that Connection names is not forwarded.
        if !response.fields.end_to_end()?.any(is_date) {
            field("Date", &date());
        }
        if let Some(length) = framing {
            field("Content-Length", &length);
        }
        if chunked {
            field("Transfer-Encoding", "chunked");
        }
        if !exchange.keep_alive.get() {
            field("Connection", "close");
        }
        push(&mut head, &[]);
        Ok(Head {
            bytes: head,
            chunked,
            sent,
        })
    }
}

/// The value of a Date field, which each response has: RFC 9110 section 6.6.1.
pub fn date() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

/// The head of an interim response.
pub fn interim(response: &Response<'_>, via: &str) -> Result<Vec<u8>, Rejected> {
    let mut head = start(response, via)?;
    push(&mut head, &[]);
    Ok(head)
}

/// The status line and the fields that are forwarded.
fn start(response: &Response<'_>, via: &str) -> Result<Vec<u8>, Rejected> {
    let fields = response.fields.end_to_end()?;
    let mut head = Vec::with_capacity(512);
    let status = response.status.to_string();
    push(
        &mut head,
        &[
            b"HTTP/1.1 ",
            status.as_bytes(),
            b" ",
            response.reason.as_bytes(),
        ],
    );
    for (name, value) in fields {
        push(&mut head, &[name.as_bytes(), b": ", value]);
    }
    push(
        &mut head,
        &[b"Via: ", via_of(response.version, via).as_bytes()],
    );
    Ok(head)
}

fn push(head: &mut Vec<u8>, line: &[&[u8]]) {
    line.iter().for_each(|part| head.extend_from_slice(part));
    head.extend_from_slice(b"\r\n");
}
