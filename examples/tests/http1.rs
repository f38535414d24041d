//! The parser of HTTP/1.1 messages that the examples `files` and `proxy` share: each rule against request smuggling.

#[path = "../http1/mod.rs"]
mod http1;

use http1::body::Next;
use http1::{Body, Framing, Rejected, Request, Response, Version, field_space, is_blank};

/// The framing of a request with these fields, or the status of its refusal.
fn framing(fields: &str) -> Result<Framing, u16> {
    status_of(format!("PUT /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

fn status_of(head: impl AsRef<[u8]>) -> Result<Framing, u16> {
    let mut space = field_space();
    let parsed = Request::parse(head.as_ref(), &mut space);
    parsed
        .map(|request| request.framing)
        .map_err(|rejected| rejected.status)
}

/// The framing of a response to a request with this method.
fn response(method: &str, head: &str) -> Result<Framing, Rejected> {
    let mut space = field_space();
    Response::parse(head.as_bytes(), method, &mut space).map(|response| response.framing)
}

/// Takes a body as a connection does. Returns its content, and how many bytes of the input it has. `None` if it is not
/// complete.
fn receive(framing: Framing, input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Rejected> {
    let (mut body, mut content, mut at) = (Body::new(framing), Vec::new(), 0);
    while !body.is_complete() {
        assert!(body.terminator().is_some());
        let rest = &input[at..];
        let line = || rest.windows(2).position(|pair| pair == b"\r\n");
        let (record, taken) = match body.next() {
            Next::Content(length) | Next::Chunk(length) => {
                let Some(piece) = rest.get(..length as usize) else {
                    return Ok(None);
                };
                content.extend_from_slice(piece);
                (&b""[..], piece.len())
            }
            Next::ChunkEnd if rest.len() < 2 => return Ok(None),
            Next::ChunkEnd => (&rest[..2], 2),
            Next::ChunkLine | Next::Trailer => match line() {
                Some(end) => (&rest[..end], end + 2),
                None => return Ok(None),
            },
            Next::UntilClose => {
                content.extend_from_slice(rest);
                return Ok(Some((content, input.len())));
            }
            Next::Complete => unreachable!(),
        };
        body.found_terminator(record)?;
        at += taken;
    }
    assert_eq!(body.terminator(), None);
    Ok(Some((content, at)))
}

/// The content of a complete chunked body, `Err(None)` if it is incomplete.
fn chunked(input: &str) -> Result<String, Option<&'static str>> {
    match receive(Framing::Chunked, input.as_bytes()) {
        Ok(Some((content, length))) => {
            assert_eq!(length, input.len());
            Ok(String::from_utf8(content).unwrap())
        }
        Ok(None) => Err(None),
        Err(rejected) => {
            assert_eq!(rejected.status, 400);
            Err(Some(rejected.why))
        }
    }
}

#[test]
fn a_request_has_its_parts() {
    let head = b"\r\nGET /a%20b?c HTTP/1.1\r\nHost: [::1]:80\r\nX-A:  b \t\r\nx-a: c,  ,d\r\n\r\n";
    let mut space = field_space();
    let request = Request::parse(head, &mut space).unwrap();
    assert_eq!((request.method, request.target), ("GET", "/a%20b?c"));
    assert_eq!(request.version, Version::Http11);
    assert_eq!(request.framing, Framing::Empty);
    assert_eq!(request.fields.text("HOST"), Some("[::1]:80"));
    assert_eq!(request.fields.only("x-a"), None, "there are two");
    let list: Vec<_> = request.fields.list("X-A").collect();
    assert_eq!(list, [b"b", b"c", b"d"]);
    assert!(request.fields.lists("x-a", "D") && !request.fields.lists("x-a", ""));
}

#[test]
fn a_length_is_one_number() {
    assert_eq!(framing(""), Ok(Framing::Empty));
    assert_eq!(framing("Content-Length: 0\r\n"), Ok(Framing::Empty));
    assert_eq!(framing("content-length:  17 \r\n"), Ok(Framing::Length(17)));
    for value in [
        "+5",
        "-5",
        "5, 5",
        "5,5",
        "5 5",
        "0x5",
        "5;",
        "5a",
        "",
        " ",
        "5.0",
        "1e1",
        "\"5\"",
        "５",
        "18446744073709551616",
        "99999999999999999999999999",
    ] {
        assert_eq!(
            framing(&format!("Content-Length: {value}\r\n")),
            Err(400),
            "{value:?}"
        );
    }
    let largest = format!("Content-Length: {}\r\n", u64::MAX);
    assert_eq!(framing(&largest), Ok(Framing::Length(u64::MAX)));
}

#[test]
fn several_lengths_are_refused() {
    for other in ["5", "6", "05"] {
        let fields = format!("Content-Length: 5\r\nX: y\r\ncontent-length: {other}\r\n");
        assert_eq!(framing(&fields), Err(400));
    }
}

/// hyper #4123: the length was ignored, and kept, if it came first.
#[test]
fn a_length_and_a_transfer_coding_are_refused_in_either_order() {
    for coding in ["chunked", "identity", "gzip, chunked", ""] {
        let (length, coding) = (
            "Content-Length: 5\r\n",
            format!("Transfer-Encoding: {coding}\r\n"),
        );
        assert_eq!(framing(&format!("{length}{coding}")), Err(400), "{coding}");
        assert_eq!(framing(&format!("{coding}{length}")), Err(400), "{coding}");
    }
}

/// tiny_http #287 (CVE-2026-66752) took each value for `chunked`.
#[test]
fn the_only_transfer_coding_is_chunked() {
    assert_eq!(
        framing("Transfer-Encoding: chunked\r\n"),
        Ok(Framing::Chunked)
    );
    // RFC 9112 section 7: the names of codings are case-insensitive.
    assert_eq!(
        framing("transfer-encoding:\tChunked \r\n"),
        Ok(Framing::Chunked)
    );
    for value in [
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "chunked, identity",
        "chunked;q=1",
        ",chunked",
        "chunked,",
        "xchunked",
        "chunked-x",
        "\"chunked\"",
        "chunked chunked",
        "",
    ] {
        let fields = format!("Transfer-Encoding: {value}\r\n");
        assert_eq!(framing(&fields), Err(501), "{value:?}");
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(framing(twice), Err(501));
    let hidden = "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n";
    assert_eq!(framing(hidden), Err(501));
    assert_eq!(framing("Transfer-Encoding: \x0bchunked\r\n"), Err(400));
    assert_eq!(framing("Transfer-Encoding: chunked\0\r\n"), Err(400));
    assert_eq!(framing("Transfer-Encoding: chunked\u{7f}\r\n"), Err(400));
}

#[test]
fn http_1_0_has_no_transfer_coding() {
    let head = "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(status_of(head), Err(400));
    assert!(
        response(
            "GET",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        .is_err()
    );
}

#[test]
fn only_crlf_ends_a_line() {
    for head in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \n\r\n\r\n",
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\n",
    ] {
        assert_eq!(status_of(head), Err(400), "{head:?}");
        let head = head.replacen("GET / HTTP/1.1", "HTTP/1.1 200 OK", 1);
        assert!(response("GET", &head).is_err(), "{head:?}");
    }
}

#[test]
fn a_line_is_one_field() {
    for line in [
        "X : y",
        "X\t: y",
        " X: y",
        "\tX: y",
        "X",
        ": y",
        "X y: z",
        "X\u{e9}: y",
        "X(: y",
        "X: y\r\n folded",
        "X: y\r\n\tfolded",
        "X: y\r\n : z",
        "X: \u{1}",
        "X: a\0b",
        "Transfer-Encoding : chunked",
        "Content-Length : 5",
        "Content-Length\t: 5",
        "Transfer-Encoding: chunked\r\n ",
        "Transfer-Encoding:\r\n chunked",
    ] {
        assert_eq!(framing(&format!("{line}\r\n")), Err(400), "{line:?}");
        // In a response, a proxy has to remove whitespace between the name and the colon (RFC 9112 section 5.1).
        let is_read = [" :", "\t:"].iter().any(|it| line.contains(it)) && !line.contains('\n');
        let head = format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n");
        assert_eq!(response("GET", &head).is_ok(), is_read, "{line:?}");
        // As the first field.
        let head = format!("GET / HTTP/1.1\r\n{line}\r\nHost: a\r\n\r\n");
        assert_eq!(status_of(head), Err(400), "{line:?}");
    }
    // A tab and other characters than ASCII are allowed in values (RFC 9110 section 5.5).
    assert_eq!(framing("X: a\tb \u{e9}\r\n"), Ok(Framing::Empty));
}

/// The ways to write a field of the framing so that two parsers differ, from the scanners for request smuggling of
/// PortSwigger (HTTP Request Smuggler, `DesyncBox.java`, those of HTTP/1.1) and of defparam (smuggler, its three lists).
/// Each is refused, or it is chunked, or it has no body: another field, which both parsers skip.
#[test]
fn the_fields_of_scanners_are_not_ambiguous() {
    let framing_of = |lines: &[u8]| {
        let head = [b"PUT /x HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n\r\n"].concat();
        let first = [b"PUT /x HTTP/1.1\r\n", lines, b"\r\nHost: a\r\n\r\n"].concat();
        let got = status_of(head);
        assert_eq!(got, status_of(first), "{}", lines.escape_ascii());
        got
    };
    let chunked = Ok(Framing::Chunked);
    for (lines, expected) in [
        (&b"Transfer-Encoding: chunked"[..], chunked),
        (b"Transfer-Encoding:chunked", chunked),
        (b"Transfer-Encoding:  chunked", chunked),
        (b"Transfer-Encoding:\tchunked", chunked),
        (b"Transfer-Encoding: chunked\t", chunked),
        (b"TrAnSFer-EnCODinG: cHuNkeD", chunked),
        (b"tRANSFER-ENCODING: CHUNKED", chunked),
        // What Connection names is a matter of proxies: see `proxy_simulated`.
        (
            b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
            chunked,
        ),
        (b"Range: bytes=0-0\r\nTransfer-Encoding: chunked", chunked),
        (b"Transfer-Encoding: chunk", Err(501)),
        (b"Transfer-Encoding: chunked, cow", Err(501)),
        (b"Transfer-Encoding: cow, chunked", Err(501)),
        (b"Transfer-Encoding: identity, chunked, identity", Err(501)),
        (b"Transfer-Encoding: cow chunked bar", Err(501)),
        (b"Transfer-Encoding: \"chunked\"", Err(501)),
        (b"Transfer-Encoding: 'chunked'", Err(501)),
        (b"Transfer-Encoding: ch\x96nked", Err(501)),
        (
            b"Transfer-Encoding: =?iso-8859-1?B?Y2h1bmtlZA==?=",
            Err(501),
        ),
        (b"Transfer-Encoding: =?UTF-8?B?Y2h1bmtlZA==?=", Err(501)),
        (
            b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
            Err(501),
        ),
        (
            b"Transfer-Encoding: chunked\r\nTransfer-encoding: identity",
            Err(501),
        ),
        (b"Transfer-Encoding : chunked", Err(400)),
        (b"Transfer-Encoding\t:\tchunked", Err(400)),
        (b"Transfer Encoding: chunked", Err(400)),
        (b"Transfer Encoding:chunked", Err(400)),
        (b"Transfer-Encoding x: chunked", Err(400)),
        (b"Transfer-Encoding chunked : chunked", Err(400)),
        (b"Transfer\\Encoding: chunked", Err(400)),
        (b"Transfer\r-Encoding: chunked", Err(400)),
        (b"Transf\x82r-Encoding: chunked", Err(400)),
        (b"Transfer\xadEncoding: chunked", Err(400)),
        (b"Transfer-Encoding\xc2\x85: chunked", Err(400)),
        (b"Transfer-Encoding\xc2\xa0: chunked", Err(400)),
        (b"Transfer-Encoding\xc2\xad: chunked", Err(400)),
        (b":transfer-encoding: chunked", Err(400)),
        (b" Transfer-Encoding: chunked", Err(400)),
        (b"Foo: bar\r\n Transfer-Encoding: chunked", Err(400)),
        (b"Foo: bar\r\n\tTransfer-Encoding: chunked", Err(400)),
        (b"Foo: bar\r\n\rTransfer-Encoding: chunked", Err(400)),
        (b"Foo: bar\rTransfer-Encoding: chunked", Err(400)),
        (b"Foo: bar\nTransfer-Encoding: chunked", Err(400)),
        (b"Foo: bar\n\nTransfer-Encoding: chunked", Err(400)),
        (b"Transfer-Encoding\r\n: chunked", Err(400)),
        (b"Transfer-Encoding\n : chunked", Err(400)),
        (b"Transfer-Encoding:\n chunked", Err(400)),
        (b"Transfer-Encoding:\r\n chunked", Err(400)),
        (b"Transfer-Encoding: \r\n\tchunked", Err(400)),
        (b"Transfer-Encoding:\r\n \r\n chunked", Err(400)),
        (b"Transfer-Encoding: \n\x0bchunked", Err(400)),
        (b"Transfer-Encoding: chunked\r", Err(400)),
        // These are other fields.
        (b"Transfer_Encoding: chunked", Ok(Framing::Empty)),
        (b"Transfer-%45ncoding: chunked", Ok(Framing::Empty)),
        (b"Content-Encoding: chunked", Ok(Framing::Empty)),
        (b"Content-Length: +5", Err(400)),
        (b"Content-Length: -5", Err(400)),
        (b"Content-Length: 5e0", Err(400)),
        (b"Content-Length: 5.0", Err(400)),
        (b"Content-Length: 0 5", Err(400)),
        (b"Content-Length: 0, 5", Err(400)),
        (b"Content-Length: 5, 0", Err(400)),
        (b"X-Invalid Y: \r\nContent-Length: 5", Err(400)),
        // RFC 9110 section 8.6: any number of digits, of decimal numbers.
        (b"Content-Length: 05", Ok(Framing::Length(5))),
        (b"Content-Length: 000000000005", Ok(Framing::Length(5))),
    ] {
        assert_eq!(framing_of(lines), expected, "{}", lines.escape_ascii());
    }
    // A character at each place where some parser skips it.
    for byte in (0..=0x20).chain(0x7f..=0xff) {
        let (in_value, beside_value) = match byte {
            b' ' | b'\t' => (Err(501), chunked),
            0x80.. => (Err(501), Err(501)),
            _ => (Err(400), Err(400)),
        };
        let (byte, name) = ([byte], &b"Transfer-Encoding"[..]);
        for (parts, expected) in [
            (&[name, b":", &byte, b"chunked"][..], beside_value),
            (&[name, b": ", &byte, b"chunked"], beside_value),
            (&[name, b": chunked", &byte], beside_value),
            (&[name, b":", &byte, b"chunked", &byte], beside_value),
            (&[name, b": chunked", &byte, b"X: X"], in_value),
            (&[name, &byte, b": chunked"], Err(400)),
            (&[name, &byte, b":", &byte, b"chunked"], Err(400)),
            (&[name, &byte, b": chunked", &byte], Err(400)),
            (&[&byte, name, b": chunked"], Err(400)),
            (&[&byte, name, &byte, b": chunked"], Err(400)),
            (&[&byte, name, b":", &byte, b"chunked"], Err(400)),
            (&[&byte, name, b": chunked", &byte], Err(400)),
            (&[b"X: X\r", &byte, name, b": chunked"], Err(400)),
            (&[b"X: X", &byte, b"\n", name, b": chunked"], Err(400)),
            (&[name, b": chunked\r", &byte, b"X: X"], Err(400)),
            (&[name, b": chunked", &byte, b"\nX: X"], Err(400)),
        ] {
            let lines = parts.concat();
            // It ends the line, as it should.
            let is_crlf = memchr::memmem::find(&lines, b"\r\n").is_some();
            let got = framing_of(&lines);
            if is_crlf {
                assert!(matches!(got, Err(400) | Ok(Framing::Chunked)), "{got:?}");
            } else {
                assert_eq!(got, expected, "{}", lines.escape_ascii());
            }
        }
        // All of this is the value of X.
        let lines = [&b"X: X"[..], &byte, name, b": chunked"].concat();
        let expected = match in_value {
            Err(501) => Ok(Framing::Empty),
            refused => refused,
        };
        assert_eq!(framing_of(&lines), expected, "{}", lines.escape_ascii());
    }
}

#[test]
fn there_is_one_host() {
    for (fields, expected) in [
        ("", Err(400)),
        ("Host: a\r\nHost: a\r\n", Err(400)),
        ("Host: a\r\nhost: b\r\n", Err(400)),
        ("Host: a b\r\n", Err(400)),
        ("Host: a/b\r\n", Err(400)),
        ("Host: user@a\r\n", Err(400)),
        ("Host: a, b\r\n", Err(400)),
        ("Host: a\\b\r\n", Err(400)),
        ("Host:\r\n", Ok(Framing::Empty)),
        ("Host: a.example:8080\r\n", Ok(Framing::Empty)),
    ] {
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(status_of(head), expected, "{fields:?}");
    }
    assert_eq!(status_of("GET / HTTP/1.0\r\n\r\n"), Ok(Framing::Empty));
    assert_eq!(
        status_of("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
        Err(400)
    );
}

#[test]
fn a_request_line_is_strict() {
    for (line, status) in [
        ("GET  / HTTP/1.1", 400),
        ("GET /  HTTP/1.1", 400),
        ("GET\t/ HTTP/1.1", 400),
        (" GET / HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("GET /a b HTTP/1.1", 400),
        ("GET /a\u{1}b HTTP/1.1", 400),
        ("GET /\u{e9} HTTP/1.1", 400),
        ("GET /", 400),
        ("GET", 400),
        ("G(T / HTTP/1.1", 400),
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/1.2", 505),
        ("GET / HTTP/0.9", 505),
        ("GET / HTTP/1.11", 400),
        ("GET / http/1.1", 400),
        ("HTTP/1.1 200 OK", 400),
    ] {
        let got = status_of(format!("{line}\r\nHost: a\r\n\r\n"));
        assert_eq!(got, Err(status), "{line:?}");
    }
    assert_eq!(status_of("GET / HTTP/1.1\r\nHost: a\r\n"), Err(400));
    let two = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(status_of(two), Err(400));
}

#[test]
fn sizes_are_limited() {
    let target = "a".repeat(http1::LONGEST_TARGET);
    let head = format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status_of(head), Err(414));
    let many = "X: y\r\n".repeat(http1::MOST_FIELDS);
    assert_eq!(framing(&many), Err(431));
    let fewer = "X: y\r\n".repeat(http1::MOST_FIELDS - 1);
    assert_eq!(framing(&fewer), Ok(Framing::Empty));
}

#[test]
fn a_connection_is_kept_as_the_version_says() {
    for (head, keeps) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n",
            false,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
            false,
        ),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
            false,
        ),
    ] {
        let mut space = field_space();
        let request = Request::parse(head.as_bytes(), &mut space).unwrap();
        assert_eq!(request.keep_alive(), keeps, "{head:?}");
    }
}

#[test]
fn the_only_expectation_is_100_continue() {
    for (fields, version, expected) in [
        (
            "Content-Length: 1\r\nExpect: 100-Continue\r\n",
            "1.1",
            Ok(true),
        ),
        (
            "Content-Length: 1\r\nExpect: 100-continue\r\n",
            "1.0",
            Ok(false),
        ),
        ("Expect: 100-continue\r\n", "1.1", Ok(false)),
        ("Content-Length: 1\r\n", "1.1", Ok(false)),
        ("Content-Length: 1\r\nExpect: tea\r\n", "1.1", Err(417)),
        (
            "Content-Length: 1\r\nExpect: 100-continue, tea\r\n",
            "1.1",
            Err(417),
        ),
    ] {
        let head = format!("PUT / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        let mut space = field_space();
        let request = Request::parse(head.as_bytes(), &mut space).unwrap();
        let got = request.expects_continue().map_err(|it| it.status);
        assert_eq!(got, expected, "{head:?}");
    }
}

/// RFC 9112 section 6.3, in its order.
#[test]
fn the_body_of_a_response_depends_on_the_request() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let length = "Content-Length: 5\r\n";
    for (method, status, fields, expected) in [
        ("GET", 200, length, Framing::Length(5)),
        ("GET", 200, chunked, Framing::Chunked),
        ("GET", 200, "", Framing::UntilClose),
        ("GET", 404, "Content-Length: 0\r\n", Framing::Empty),
        ("HEAD", 200, length, Framing::Empty),
        ("HEAD", 200, chunked, Framing::Empty),
        ("GET", 304, length, Framing::Empty),
        ("GET", 204, "", Framing::Empty),
        ("GET", 100, "", Framing::Empty),
        ("CONNECT", 200, length, Framing::Empty),
        ("CONNECT", 403, length, Framing::Length(5)),
    ] {
        let head = format!("HTTP/1.1 {status} Reason\r\n{fields}\r\n");
        assert_eq!(
            response(method, &head),
            Ok(expected),
            "{method} {status} {fields}"
        );
    }
    for fields in [
        format!("{length}{chunked}"),
        format!("{chunked}{length}"),
        format!("{length}{length}"),
        "Content-Length: 5, 5\r\n".to_owned(),
        "Transfer-Encoding: gzip, chunked\r\n".to_owned(),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        assert!(response("GET", &head).is_err(), "{fields}");
        assert!(response("HEAD", &head).is_err(), "{fields}");
    }
    for head in [
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/1.1 020 Low\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "\r\n\r\n",
    ] {
        assert!(response("GET", head).is_err(), "{head:?}");
    }
}

#[test]
fn a_response_has_its_parts() {
    let mut space = field_space();
    let head = b"HTTP/1.0 404 Not here\r\nServer: x\r\nConnection: keep-alive\r\n\r\n";
    let response = Response::parse(head, "GET", &mut space).unwrap();
    assert_eq!((response.status, response.reason), (404, "Not here"));
    assert_eq!(response.version, Version::Http10);
    assert!(!response.keep_alive(), "its body ends with the connection");
    assert!(!response.is_interim());
    let mut space = field_space();
    let interim = Response::parse(b"HTTP/1.1 103\r\n\r\n", "GET", &mut space).unwrap();
    assert!(interim.is_interim());
}

#[test]
fn a_proxy_forwards_no_field_of_the_connection() {
    let head = "GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: x-secret, Host, close\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n\
                Proxy-Authorization: Basic x\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: x\r\n\
                Upgrade: h2c\r\nAccept: */*\r\nContent-Length: 4\r\nconnection: X-Other\r\nx-other: 2\r\n\r\n";
    let mut space = field_space();
    let request = Request::parse(head.as_bytes(), &mut space).unwrap();
    let fields = request.fields.end_to_end().unwrap();
    let names: Vec<_> = fields.map(|(name, _)| name).collect();
    assert_eq!(names, ["Host", "Accept"]);
}

/// Otherwise a head of 32 KiB takes a million comparisons.
#[test]
fn the_members_of_connection_are_limited() {
    for (count, is_forwarded) in [(32, true), (33, false)] {
        let members = vec!["x"; count].join(", ,");
        let head = format!("GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: {members}\r\n\r\n");
        let mut space = field_space();
        let request = Request::parse(head.as_bytes(), &mut space).unwrap();
        let fields = request.fields.end_to_end();
        assert_eq!(fields.is_ok(), is_forwarded, "{count}");
    }
}

#[test]
fn a_body_of_a_length_takes_no_more() {
    let got = receive(Framing::Length(5), b"helloGET / HTTP/1.1\r\n");
    assert_eq!(got, Ok(Some((b"hello".to_vec(), 5))));
    assert_eq!(receive(Framing::Length(5), b"hell"), Ok(None));
    assert_eq!(receive(Framing::Empty, b"x"), Ok(Some((vec![], 0))));
}

#[test]
fn chunks_are_joined() {
    assert_eq!(chunked("0\r\n\r\n").as_deref(), Ok(""));
    assert_eq!(chunked("5\r\nhello\r\n0\r\n\r\n").as_deref(), Ok("hello"));
    let text = "A;x=\"y z\"\r\n\r\n0\r\n\r\n0\r\n\r\n000c ; a\t;b\r\n, hello worl\r\n00;x\r\nX-A: b\r\nY:\r\n\r\n";
    assert_eq!(
        chunked(text).as_deref(),
        Ok("\r\n0\r\n\r\n0\r\n, hello worl")
    );
    for end in 0..text.len() {
        assert_eq!(chunked(&text[..end]), Err(None), "{end}");
    }
}

/// CVE-2025-43859: h11 read the two bytes behind a chunk, and did not look at them.
#[test]
fn a_chunk_ends_with_crlf() {
    for end in ["XX", "\n\n", "\r\r", "\n\r", "\rX", "X\n", "0\r"] {
        let text = format!("5\r\nhello{end}0\r\n\r\n");
        let why = Err(Some("a chunk is longer than its length"));
        assert_eq!(chunked(&text), why, "{end:?}");
    }
    assert!(chunked("5\r\nhello\n0\r\n\r\n").is_err());
    assert!(chunked("5\r\nhello0\r\n\r\n").is_err());
    assert!(chunked("4\r\nhello\r\n0\r\n\r\n").is_err());
    assert!(chunked("6\r\nhello\r\n0\r\n\r\n").is_err());
}

/// CVE-2025-55315: Kestrel accepted a bare LF in an extension, and so took other bytes for chunks than a proxy.
#[test]
fn the_line_of_a_chunk_ends_with_crlf() {
    for line in [
        "5;\nxx",
        "5;x\n",
        "5\n",
        "5;x\rx",
        "5\r",
        "5;\r",
        "2;\nxx\r\nxy\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a",
    ] {
        let text = format!("{line}\r\nhello\r\n0\r\n\r\n");
        assert!(matches!(chunked(&text), Err(Some(_))), "{line:?}");
    }
    // No line end but LF: nothing is complete.
    assert_eq!(chunked("5\nhello\n0\n\n"), Err(None));
}

#[test]
fn the_length_of_a_chunk_is_strict() {
    for line in [
        "",
        " 5",
        "\t5",
        "+5",
        "-5",
        "0x5",
        "5 ",
        "5\t",
        "5 x",
        "5x",
        "5,",
        "g",
        ";x",
        "\"5\"",
        "5;\0",
        "5;\u{7f}",
        "00000000000000005",
        "10000000000000000",
        "ffffffffffffffff5",
    ] {
        let text = format!("{line}\r\nhello\r\n0\r\n\r\n");
        assert!(matches!(chunked(&text), Err(Some(_))), "{line:?}");
    }
    assert_eq!(http1::chunked::length(b"ffffffffffffffff"), Ok(u64::MAX));
    assert_eq!(http1::chunked::length(b"FfE"), Ok(0xffe));
}

#[test]
fn a_trailer_field_is_strict() {
    for line in [
        "x",
        " x: y",
        "x : y",
        ": y",
        "x\n: y",
        "x: y\nz",
        "x: \0",
        "\r",
        "GET / HTTP/1.1",
        "x: y\r",
    ] {
        let text = format!("0\r\n{line}\r\n\r\n");
        assert!(matches!(chunked(&text), Err(Some(_))), "{line:?}");
    }
}

#[test]
fn framing_is_limited() {
    let line = format!("1;{}\r\nx\r\n", "y".repeat(200));
    let why = Err(Some("the body has more framing than content"));
    assert_eq!(chunked(&line.repeat(100)), why);
    assert_eq!(chunked(&line.repeat(50)), Err(None));
    let line = format!("0\r\n{}", "x: y\r\n".repeat(10_000));
    assert_eq!(chunked(&line), why);
    // Small chunks without extensions are no attack.
    let text = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(100_000));
    assert_eq!(chunked(&text).unwrap().len(), 100_000);
    let limit = http1::chunked::LONGEST_LINE;
    let terminator = Body::new(Framing::Chunked).terminator().unwrap();
    assert_eq!(terminator, asynchat::Terminator::crlf().limit(limit));
}

/// Also in parts that end within a line.
#[test]
fn a_head_is_blank_until_something_is_in_a_line() {
    for head in ["", "\r", "\r\n", "\r\n\r", "\r\n\r\n", "\r\n\r\n\r\n"] {
        assert!(is_blank(head.as_bytes()), "{head:?}");
    }
    for head in [
        "G",
        " ",
        "\n",
        "\r\r",
        "\r\n\n",
        "\r\n ",
        "\r\n\r\nGET",
        "\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        assert!(!is_blank(head.as_bytes()), "{head:?}");
    }
}
