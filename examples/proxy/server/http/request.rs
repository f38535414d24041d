//! What a client asks for, and the head that is sent to the server.

use asynchat::bytes::Bytes;

use crate::http1::{AbsoluteForm, Framing, Rejected, Request, Version};
use crate::server::dial::Destination;

/// The target of a request that is forwarded.
pub struct Absolute<'a> {
    pub to: Destination,
    /// Host and port, as the client wrote them.
    authority: &'a str,
    /// Path and query.
    path: &'a str,
}

impl<'a> Absolute<'a> {
    /// `http://host:port/path?query`: RFC 9112 section 3.2.2, RFC 9110 section 4.2.
    pub fn parse(target: &'a str) -> Result<Absolute<'a>, Rejected> {
        let parts = AbsoluteForm::parse(target).ok_or(Rejected::bad(
            "this is a proxy: the target is to be an absolute URI",
        ))?;
        if !parts.has_scheme("http") {
            let why = "only http is forwarded: use CONNECT for others";
            return Err(Rejected { status: 501, why });
        }
        if target.contains('#') {
            return Err(Rejected::bad("the target has a fragment"));
        }
        let AbsoluteForm {
            authority, path, ..
        } = parts;
        // A name before an @ would only mislead (RFC 9110 section 4.2.4). It is no destination.
        let to = Destination::parse(authority, Some(80));
        let to = to.ok_or(Rejected::bad("the target has an invalid host or port"))?;
        let authority = authority.strip_suffix(':').unwrap_or(authority);
        Ok(Absolute {
            to,
            authority,
            path,
        })
    }

    /// The head of the request to the server, in origin-form and with the framing of the original.
    ///
    /// The server gets the host of the target, whatever the Host field of the client was (RFC 9112 section 3.2.2).
    pub fn head(&self, request: &Request<'_>, via: &str) -> Result<Bytes, Rejected> {
        let fields = request.fields.end_to_end()?;
        let mut head = Vec::with_capacity(512);
        let mut line = |parts: &[&[u8]]| {
            parts.iter().for_each(|part| head.extend_from_slice(part));
            head.extend_from_slice(b"\r\n");
        };
        let method = request.method.as_bytes();
        let slash = match self.path.as_bytes() {
            // RFC 9112 section 3.2.4.
            b"" if method == b"OPTIONS" => "*",
            [b'/', ..] => "",
            _ => "/",
        };
        line(&[
            method,
            b" ",
            slash.as_bytes(),
            self.path.as_bytes(),
            b" HTTP/1.1",
        ]);
        line(&[b"Host: ", self.authority.as_bytes()]);
        for (name, value) in fields {
            let is = |it: &str| name.eq_ignore_ascii_case(it);
            // RFC 9110 section 10.1.1: HTTP/1.0 has no expectations.
            let is_ignored = is("host")
                || is("max-forwards")
                || (is("expect") && request.version == Version::Http10);
            if !is_ignored {
                line(&[name.as_bytes(), b": ", value]);
            }
        }
        if let Some(left @ 1..) = max_forwards(request) {
            line(&[b"Max-Forwards: ", (left - 1).to_string().as_bytes()]);
        }
        line(&[b"Via: ", via_of(request.version, via).as_bytes()]);
        match request.framing {
            Framing::Length(length) => line(&[b"Content-Length: ", length.to_string().as_bytes()]),
            Framing::Chunked => line(&[b"Transfer-Encoding: chunked"]),
            Framing::Empty if request.fields.has("content-length") => line(&[b"Content-Length: 0"]),
            Framing::Empty | Framing::UntilClose => {}
        }
        line(&[]);
        Ok(head.into())
    }
}

/// The value of a Via field: RFC 9110 section 7.6.3.
pub fn via_of(version: Version, name: &str) -> String {
    match version {
        Version::Http10 => format!("1.0 {name}"),
        Version::Http11 => format!("1.1 {name}"),
    }
}

/// How often an OPTIONS request may be forwarded: RFC 9110 section 7.6.2. Other methods have no such limit.
pub fn max_forwards(request: &Request<'_>) -> Option<u32> {
    let value = request
        .fields
        .text("max-forwards")
        .filter(|_| request.method == "OPTIONS");
    value.and_then(|digits| digits.parse().ok())
}

/// Whether a request may be repeated if its outcome is not known: RFC 9110 section 9.2.2.
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1;

    #[test]
    fn an_absolute_uri_has_a_destination_and_a_path() {
        for (target, to, authority, path) in [
            ("http://a/", "a:80", "a", "/"),
            ("HTTP://A:81/b?c://d", "a:81", "A:81", "/b?c://d"),
            ("http://a:", "a:80", "a", ""),
            ("http://[::1]:8080?x", "[::1]:8080", "[::1]:8080", "?x"),
        ] {
            let parsed = Absolute::parse(target).ok().unwrap();
            assert_eq!(
                (
                    parsed.to.to_string().as_str(),
                    parsed.authority,
                    parsed.path
                ),
                (to, authority, path)
            );
        }
        for (target, status) in [
            ("/", 400),
            ("*", 400),
            ("a:80", 400),
            ("/x?http://a/", 400),
            ("http:///x", 400),
            ("http://", 400),
            ("http://u@a/", 400),
            ("http://u:p@a/", 400),
            ("http://a/#x", 400),
            ("http://a\\b/", 400),
            ("http://a:0/", 400),
            ("https://a/", 501),
            ("ftp://a/", 501),
            ("http:a/", 400),
        ] {
            let rejected = Absolute::parse(target).err().map(|it| it.status);
            assert_eq!(rejected, Some(status), "{target}");
        }
    }

    fn forwarded(head: &str) -> String {
        let mut space = http1::field_space();
        let request = Request::parse(head.as_bytes(), &mut space).unwrap();
        let absolute = Absolute::parse(request.target).ok().unwrap();
        let head = absolute.head(&request, "proxy").unwrap();
        String::from_utf8(head.to_vec()).unwrap()
    }

    #[test]
    fn hop_by_hop_fields_are_removed_and_the_rest_stays_in_order() {
        let head = "GET http://a.example/x?y HTTP/1.1\r\nHost: other\r\nX-One: 1\r\nConnection: close, X-Two\r\nX-Two: 2\r\n\
            Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\n\
            Upgrade: websocket\r\nTrailer: X\r\nX-One: 3\r\nVia: 1.0 before\r\nCookie: c\r\n\r\n";
        assert_eq!(
            forwarded(head),
            "GET /x?y HTTP/1.1\r\nHost: a.example\r\nX-One: 1\r\nX-One: 3\r\nVia: 1.0 before\r\nCookie: c\r\n\
             Via: 1.1 proxy\r\n\r\n"
        );
        // Nobody can remove what frames the request, or the host.
        let head = "POST http://a/ HTTP/1.1\r\nHost: a\r\nConnection: content-length, host\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(
            forwarded(head),
            "POST / HTTP/1.1\r\nHost: a\r\nVia: 1.1 proxy\r\nContent-Length: 3\r\n\r\n"
        );
    }

    #[test]
    fn the_framing_is_that_of_the_request() {
        let head = "PUT http://a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
        assert_eq!(
            forwarded(head),
            "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nVia: 1.1 proxy\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let head = "POST http://a?q HTTP/1.0\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n";
        assert_eq!(
            forwarded(head),
            "POST /?q HTTP/1.1\r\nHost: a\r\nVia: 1.0 proxy\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn options_counts_its_forwards() {
        let head = "OPTIONS http://a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n";
        assert_eq!(
            forwarded(head),
            "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 2\r\nVia: 1.1 proxy\r\n\r\n"
        );
    }
}
