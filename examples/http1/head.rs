//! The heads of requests and responses.

use super::fields::Fields;
use super::framing::{self, Framing};
use super::status::Rejected;
use super::{FieldSpace, LONGEST_TARGET};

/// The version of a message. There is no other one on HTTP/1 connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    Http11,
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Case-sensitive.
    pub method: &'a str,
    /// As it was sent: `/path?query`, `http://host/path`, `host:port` (CONNECT) or `*`. Visible ASCII characters.
    pub target: &'a str,
    pub version: Version,
    pub fields: Fields<'a>,
    /// What follows the head.
    pub framing: Framing,
}

impl<'a> Request<'a> {
    /// Parses a record under [`head_terminator`](super::head_terminator).
    pub fn parse<'b: 'a>(
        head: &'b [u8],
        space: &'a mut FieldSpace<'b>,
    ) -> Result<Request<'a>, Rejected> {
        check_line_ends(head)?;
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, space) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(Rejected::bad("not one head")),
            Err(httparse::Error::Version) if !has_other_version(head) => {
                return Err(refused(httparse::Error::Token));
            }
            Err(error) => return Err(refused(error)),
        }
        let httparse::Request {
            method: Some(method),
            path: Some(target),
            version: Some(version),
            headers,
        } = parsed
        else {
            return Err(Rejected::bad("not a request"));
        };
        if target.len() > LONGEST_TARGET {
            let why = "the target is too long";
            return Err(Rejected { status: 414, why });
        }
        // RFC 3986 section 2: other characters are percent-encoded.
        if !target.is_ascii() {
            return Err(Rejected::bad("the target has to be percent-encoded"));
        }
        let (version, fields) = (Version::new(version), Fields(headers));
        check_host(version, fields)?;
        Ok(Request {
            method,
            target,
            version,
            fields,
            framing: framing::of_request(version, fields)?,
        })
    }

    /// Whether the client wants to send another request on the connection.
    pub fn keep_alive(&self) -> bool {
        keeps_alive(self.version, self.fields)
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1). Any other
    /// expectation is refused.
    pub fn expects_continue(&self) -> Result<bool, Rejected> {
        let mut expectations = self.fields.list("expect").peekable();
        // Section 10.1.1: a server ignores it in a request of HTTP/1.0.
        if self.version == Version::Http10 || expectations.peek().is_none() {
            return Ok(false);
        }
        if expectations.all(|it| it.eq_ignore_ascii_case(b"100-continue")) {
            Ok(self.framing != Framing::Empty)
        } else {
            Err(Rejected {
                status: 417,
                why: "the expectation is not known",
            })
        }
    }
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    pub version: Version,
    /// 100 to 999.
    pub status: u16,
    pub reason: &'a str,
    pub fields: Fields<'a>,
    /// What follows the head.
    pub framing: Framing,
}

impl<'a> Response<'a> {
    /// Parses a record under [`head_terminator`](super::head_terminator): the reply to a request with this method.
    pub fn parse<'b: 'a>(
        head: &'b [u8],
        method: &str,
        space: &'a mut FieldSpace<'b>,
    ) -> Result<Response<'a>, Rejected> {
        check_line_ends(head)?;
        let mut parsed = httparse::Response::new(&mut []);
        let mut parser = httparse::ParserConfig::default();
        // RFC 9112 section 5.1: a proxy has to remove whitespace between the name and the colon. The name is without it.
        parser.allow_spaces_after_header_name_in_responses(true);
        match parser.parse_response_with_uninit_headers(&mut parsed, head, space) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(Rejected::bad("not one head")),
            Err(error) => return Err(refused(error)),
        }
        let httparse::Response {
            version: Some(version),
            code: Some(status @ 100..),
            reason,
            headers,
        } = parsed
        else {
            return Err(Rejected::bad("not a response"));
        };
        let (version, fields) = (Version::new(version), Fields(headers));
        Ok(Response {
            version,
            status,
            reason: reason.unwrap_or_default(),
            fields,
            framing: framing::of_response(version, status, method, fields)?,
        })
    }

    /// Whether another request may be sent on the connection.
    pub fn keep_alive(&self) -> bool {
        self.framing != Framing::UntilClose && keeps_alive(self.version, self.fields)
    }

    /// Whether it is an interim response, which is followed by another one (RFC 9110 section 15.2).
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

impl Version {
    fn new(minor: u8) -> Version {
        match minor {
            0 => Version::Http10,
            _ => Version::Http11,
        }
    }
}

/// Only CRLF ends a line. httparse accepts LF as well, which RFC 9112 section 2.2 permits and other parsers take for
/// a part of a value.
fn check_line_ends(head: &[u8]) -> Result<(), Rejected> {
    let is_crlf = |at: usize| match head[at] {
        b'\r' => head.get(at + 1) == Some(&b'\n'),
        _ => at > 0 && head[at - 1] == b'\r',
    };
    if memchr::memchr2_iter(b'\r', b'\n', head).all(is_crlf) {
        Ok(())
    } else {
        Err(Rejected::bad("a line ends with CR LF"))
    }
}

fn refused(error: httparse::Error) -> Rejected {
    use httparse::Error;
    let (status, why) = match error {
        Error::TooManyHeaders => (431, "too many fields"),
        Error::Version => (505, "the version is not HTTP/1.1"),
        // Whitespace before the colon of a request, and a line that begins with whitespace (obs-fold), are here.
        Error::HeaderName => (400, "a field has an invalid name"),
        Error::HeaderValue => (400, "a field has an invalid value"),
        Error::NewLine | Error::Status | Error::Token => (400, "this is not HTTP/1.1"),
    };
    Rejected { status, why }
}

/// Whether the request line is one of another version of HTTP.
fn has_other_version(head: &[u8]) -> bool {
    let line = head.trim_ascii_start().split(|&byte| byte == b'\r').next();
    let mut words = line.unwrap_or_default().split(|&byte| byte == b' ');
    let version = words.nth(2).and_then(|word| word.strip_prefix(b"HTTP/"));
    let is_number =
        |text: &[u8]| matches!(text, [a, b'.', b] if a.is_ascii_digit() && b.is_ascii_digit());
    version.is_some_and(is_number) && words.next().is_none()
}

/// RFC 9112 section 3.2: exactly one, which may be empty. HTTP/1.0 has no such field.
fn check_host(version: Version, fields: Fields<'_>) -> Result<(), Rejected> {
    let mut hosts = fields.all("host");
    let (host, other) = (hosts.next(), hosts.next());
    match host {
        _ if other.is_some() => Err(Rejected::bad("there are several Host fields")),
        None if version == Version::Http11 => Err(Rejected::bad("there is no Host field")),
        Some(host) if !is_host(host) => Err(Rejected::bad("the Host field is invalid")),
        _ => Ok(()),
    }
}

/// The characters of `uri-host [ ":" port ]` (RFC 9110 section 7.2).
fn is_host(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte))
}

/// RFC 9112 section 9.3.
fn keeps_alive(version: Version, fields: Fields<'_>) -> bool {
    match version {
        _ if fields.lists("connection", "close") => false,
        Version::Http11 => true,
        Version::Http10 => fields.lists("connection", "keep-alive"),
    }
}
