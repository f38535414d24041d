//! Messages and connections: segmentation, smuggling, pipelining, limits and time.

use std::fs;
use std::time::Duration;

use asynchat::sim::{self, Ended};
use asynchat::{Limits, Result};
use tempfile::TempDir;

use crate::http::Options;
use crate::site::{ANN, Site, TLS_ADDR, big, options, parse, put, request, statuses};
use crate::tls::server_config;

/// A client that does not wait for the reply sends what is for the tunnel, and may be somebody else's.
#[test]
fn nothing_behind_connect_is_a_request() -> Result {
    let site = Site::new()?;
    let input = "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned();
    let replies = site.replies(input + &request("GET", "/a.txt", "", ""))?;
    assert_eq!(statuses(&replies), [405]);
    assert_eq!(replies[0].field("connection"), Some("close"));
    Ok(())
}

#[test]
fn the_replies_are_the_same_under_every_segmentation() -> Result {
    let input = [
        "\r\nGET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        put("/new", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!(
            "PUT /chunked HTTP/1.1\r\nHost: a\r\n{ANN}Transfer-Encoding: chunked\r\n\r\n\
             5;x=y\r\nhello\r\n2\r\n\r\n\r\n0\r\nT: x\r\n\r\n"
        ),
        request("POST", "/", "", "not wanted"),
        request("HEAD", "/new", "", ""),
        request(
            "GET",
            "/chunked",
            "Range: bytes=1-3\r\nConnection: close\r\n",
            "",
        ),
        request("DELETE", "/a.txt", ANN, ""),
    ]
    .concat();
    let mut expected = None;
    sim::every_segmentation(input.as_bytes(), |pieces| {
        let site = Site::new()?;
        let client = site.client()?;
        for piece in pieces {
            client.send(piece);
            site.settle()?;
        }
        assert_eq!(client.ended(), Some(Ended::Finished));
        let replies = String::from_utf8(client.take_received())?;
        // What was uploaded has the time of the upload.
        let is_timed =
            |line: &&str| line.starts_with("ETag: ") || line.starts_with("Last-Modified: ");
        let timeless: Vec<_> = replies.lines().filter(|line| !is_timed(line)).collect();
        let expected = expected.get_or_insert_with(|| timeless.join("\n"));
        assert_eq!(timeless.join("\n"), *expected, "{pieces:?}");
        assert_eq!(
            site.dir.read("new").unwrap(),
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        assert_eq!(site.dir.read("chunked").unwrap(), b"hello\r\n");
        assert!(
            site.dir.read("a.txt").is_some(),
            "the connection was closed before"
        );
        assert_eq!(site.dir.names()?, ["a.txt", "chunked", "dir", "new"]);
        Ok(())
    })?;
    let text = expected.unwrap();
    let statuses: Vec<_> = text
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|reply| &reply[..3])
        .collect();
    assert_eq!(statuses, ["200", "201", "201", "405", "200", "206"]);
    assert!(text.ends_with("ell"), "{text}");
    Ok(())
}

/// Each is answered with an error, and nothing that follows is taken for a request.
#[test]
fn no_request_is_smuggled() -> Result {
    const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunked = |body: &str| {
        format!("PUT /x HTTP/1.1\r\nHost: a\r\n{ANN}Transfer-Encoding: chunked\r\n\r\n{body}")
    };
    let head = |fields: &str| format!("PUT /x HTTP/1.1\r\nHost: a\r\n{ANN}{fields}\r\n");
    for (input, status) in [
        // CL.TE and TE.CL, and hyper #4123.
        (head("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\nG", 400),
        (head("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n") + "1\r\nZ\r\nQ", 400),
        // TE.TE, and tiny_http #287.
        (head("Transfer-Encoding: xchunked\r\n") + "0\r\n\r\n", 501),
        (head("Transfer-Encoding: identity\r\n"), 501),
        (head("Transfer-Encoding: gzip, chunked\r\n"), 501),
        (head("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"), 501),
        (head("Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n"), 501),
        (head("Transfer-Encoding : chunked\r\n") + "0\r\n\r\n", 400),
        (head("Transfer-Encoding\r\n: chunked\r\n") + "0\r\n\r\n", 400),
        (head("Transfer-Encoding:\r\n chunked\r\n") + "0\r\n\r\n", 400),
        (head("Transfer Encoding: chunked\r\n") + "0\r\n\r\n", 400),
        (format!("PUT /x HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: a\r\n{ANN}\r\n0\r\n\r\n"), 400),
        (head("Transfer-Encoding:\x0bchunked\r\n"), 400),
        (head("X: y\r\n Transfer-Encoding: chunked\r\n"), 400),
        (head("X: y\nTransfer-Encoding: chunked\r\n"), 400),
        (head("X: y\rTransfer-Encoding: chunked\r\n"), 400),
        (head("Content-Length: 5\r\nContent-Length: 0\r\n"), 400),
        (head("Content-Length: 5, 5\r\n"), 400),
        (head("Content-Length: +5\r\n"), 400),
        (head("Content-Length: -1\r\n"), 400),
        (head("Content-Length : 5\r\n"), 400),
        (head("Content-Length: 0x5\r\n"), 400),
        (head("Content-Length: 99999999999999999999\r\n"), 400),
        (head("\0: x\r\n"), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), 400),
        ("PUT / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 400),
        // CVE-2025-43859
        (chunked("5\r\nhelloXX0\r\n\r\n"), 400),
        // CVE-2025-55315
        (chunked("2;\nxx\r\nxy\r\n0\r\n\r\n"), 400),
        (chunked("2;\rxx\r\nxy\r\n0\r\n\r\n"), 400),
        (chunked("5\nhello\n0\n\n"), 400),
        (chunked("5\rhello\r\n0\r\n\r\n"), 400),
        (chunked("5\r\nhello\n0\r\n\r\n"), 400),
        (chunked("5\r\nhello\r0\r\n\r\n"), 400),
        (chunked("5\r\nhello0\r\n\r\n"), 400),
        (chunked(" 5\r\nhello\r\n0\r\n\r\n"), 400),
        (chunked("+5\r\nhello\r\n0\r\n\r\n"), 400),
        (chunked("0_5\r\nhello\r\n0\r\n\r\n"), 400),
        (chunked("\r\n5\r\nhello\r\n0\r\n\r\n"), 400),
        (chunked("-5\r\nhello\r\n0\r\n\r\n"), 400),
        (chunked("5 \r\nhello\r\n0\r\n\r\n"), 400),
        (chunked("0x5\r\nhello\r\n0\r\n\r\n"), 400),
        (chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400),
        (chunked("4\r\nhello\r\n0\r\n\r\n"), 400),
        (chunked(&format!("1;{}\r\nx\r\n", "x".repeat(300))), 400),
        (chunked("0\r\nGET /x HTTP/1.1\r\n\r\n"), 400),
    ] {
        let site = Site::new()?;
        let client = site.client()?;
        client.send(format!("{input}{NEXT}"));
        client.finish();
        site.settle()?;
        let replies = parse(&client.take_received());
        assert_eq!(statuses(&replies), [status], "{input:?}");
        assert_eq!(replies[0].field("connection"), Some("close"), "{input:?}");
        assert_eq!(site.dir.names()?, ["a.txt", "dir"], "{input:?}");
        assert!(client.has_ended(), "{input:?}");
    }
    Ok(())
}

#[test]
fn pipelined_requests_are_answered_in_order() -> Result {
    let site = Site::new()?;
    for n in 0..50 {
        let size = if n % 3 == 0 { 50_000 } else { n };
        site.dir
            .store(&n.to_string(), format!("{n:size$}").as_bytes())?;
    }
    let requests = (0..50).map(|n| request("GET", &format!("/{n}"), "", ""));
    let replies = site.replies(requests.collect::<String>())?;
    assert_eq!(replies.len(), 50);
    for (n, reply) in replies.iter().enumerate() {
        let size = if n % 3 == 0 { 50_000 } else { n };
        assert_eq!((reply.status, reply.text()), (200, &*format!("{n:size$}")));
    }
    Ok(())
}

/// A client that asks for many files and reads nothing does not make the server open them all.
#[cfg(target_os = "linux")]
#[test]
fn a_client_does_not_hold_many_files_open() -> Result {
    let site = Site::new()?;
    let client = site.client()?;
    client.stop_reading();
    client.send(request("GET", "/dir/big", "", "").repeat(500));
    site.settle()?;
    let file = site.dir.path().join("dir/big");
    let links =
        fs::read_dir("/proc/self/fd")?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let open = links.filter(|path| *path == file).count();
    assert!((1..=4).contains(&open), "{open}");
    client.start_reading(usize::MAX);
    site.settle()?;
    let replies = parse(&client.take_received());
    assert_eq!(replies.len(), 500);
    assert!(replies.iter().all(|reply| reply.body == big()));
    Ok(())
}

#[test]
fn http_1_0_is_spoken() -> Result {
    let site = Site::new()?;
    let client = site.client()?;
    let reply = site.ask(&client, "GET /a.txt HTTP/1.0\r\n\r\n")?;
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("hello, world\n"));
    assert!(client.has_ended());
    let keep = "GET /a.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let replies = site.replies(keep.repeat(2))?;
    assert_eq!(statuses(&replies), [200, 200]);
    assert_eq!(replies[1].field("connection"), Some("keep-alive"));
    // There are no chunks.
    let client = site.client()?;
    let page = site.ask(&client, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")?;
    assert!(
        client.has_ended()
            && !page.contains("chunked")
            && page.contains("\r\nConnection: close\r\n")
    );
    assert!(page.ends_with("</table>\n</main>\n"), "{page}");
    Ok(())
}

/// RFC 9112 section 9.6: what arrives at a closed socket causes a reset, which would destroy the reply.
#[test]
fn a_close_waits_for_the_client_unless_it_sends_nothing_more() -> Result {
    for (input, waits) in [
        (request("GET", "/a.txt", "Connection: close\r\n", ""), false),
        ("GET /a.txt HTTP/1.0\r\n\r\n".to_owned(), false),
        // The drain deadline goes on while it is on its way.
        (
            request("GET", "/dir/big", "Connection: close\r\n", ""),
            true,
        ),
        // Earlier replies count as well, whether they are on their way or not yet made.
        (
            request("GET", "/a.txt", "", "").repeat(20)
                + &request("GET", "/a.txt", "Connection: close\r\n", ""),
            false,
        ),
        (
            request("GET", "/dir/big", "", "")
                + &request("GET", "/a.txt", "Connection: close\r\n", ""),
            true,
        ),
        (
            request("GET", "/small", "", "").repeat(20)
                + &request("GET", "/a.txt", "Connection: close\r\n", ""),
            true,
        ),
        (
            request("GET", "/", "", "") + &request("GET", "/a.txt", "Connection: close\r\n", ""),
            true,
        ),
        // Some clients send an empty line behind a body.
        (
            request("POST", "/a.txt", "Connection: close\r\n", "body"),
            true,
        ),
        ("this is not HTTP\r\n\r\n".to_owned(), true),
    ] {
        let site = Site::new()?;
        site.dir.store("small", &[b'x'; 10_000])?;
        let before = site.network.sockets();
        let client = site.client()?;
        site.ask(&client, &input)?;
        assert!(client.has_ended(), "{input}");
        assert_eq!(site.network.sockets() > before, waits, "{input}");
    }
    Ok(())
}

#[test]
fn limits_have_a_last_reply() -> Result {
    let site = Site::with(Options {
        max_upload: 10,
        limits: Limits::default().connections(1),
        ..options()
    })?;
    let chunked = format!(
        "PUT /x HTTP/1.1\r\nHost: a\r\n{ANN}Transfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n"
    );
    for (input, status) in [
        (
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(17_000)),
            414,
        ),
        (format!("GET /{}", "a".repeat(40_000)), 414),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(40_000)),
            431,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "X: y\r\n".repeat(100)
            ),
            431,
        ),
        (put("/x", "hello world"), 413),
        (chunked, 413),
    ] {
        let client = site.client()?;
        client.send(input);
        site.settle()?;
        let replies = parse(&client.take_received());
        assert_eq!(statuses(&replies), [status]);
        client.finish();
        site.settle()?;
    }
    let first = site.client()?;
    site.settle()?;
    let refused = site.client()?;
    site.settle()?;
    assert_eq!(statuses(&parse(&refused.take_received())), [503]);
    drop(first);
    assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    Ok(())
}

#[test]
fn slow_requests_have_a_last_reply() -> Result {
    let seconds = Duration::from_secs;
    let site = Site::new()?;
    // A head, a byte at a time.
    let client = site.client()?;
    for byte in request("GET", "/", "X: y\r\n", "").bytes().take(32) {
        client.send([byte]);
        site.advance(seconds(1))?;
    }
    assert_eq!(statuses(&parse(&client.take_received())), [408]);
    assert!(client.has_ended());
    // Between two requests there is more time, and no reply.
    let client = site.client()?;
    site.ask(&client, request("GET", "/a.txt", "", ""))?;
    site.advance(seconds(70))?;
    assert!(!client.has_ended());
    let reply = site.ask(&client, request("GET", "/a.txt", "", ""))?;
    assert!(reply.starts_with("HTTP/1.1 200 "));
    site.advance(seconds(76))?;
    assert!(client.has_ended());
    assert_eq!(client.take_received(), b"");
    // An upload may take as long as it makes progress. Its time begins with its head.
    let client = site.client()?;
    assert!(
        site.ask(&client, request("GET", "/a.txt", "", ""))?
            .contains(" 200 ")
    );
    site.advance(seconds(29))?;
    client.send(format!(
        "PUT /y HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 1\r\n\r\n"
    ));
    site.advance(seconds(29))?;
    assert!(site.ask(&client, "x")?.contains(" 201 "));
    client.send(format!(
        "PUT /x HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 700000\r\n\r\n"
    ));
    for _ in 0..10 {
        client.send(vec![b'x'; 70_000]);
        site.advance(seconds(29))?;
    }
    assert_eq!(statuses(&parse(&client.take_received())), [201]);
    Ok(())
}

/// They are no request. A client that sends nothing else would have its connection for ever.
#[test]
fn empty_lines_do_not_prolong_the_time_of_a_request() -> Result {
    let seconds = Duration::from_secs;
    for lines in ["\r\n", "\r\n\r\n"] {
        let site = Site::new()?;
        let client = site.client()?;
        site.ask(&client, request("GET", "/a.txt", "", ""))?;
        site.advance(seconds(70))?;
        for _ in 0..31 {
            client.send(lines);
            site.advance(seconds(1))?;
        }
        assert!(client.has_ended());
        assert_eq!(client.take_received(), b"");
        // There may be some.
        let client = site.client()?;
        for _ in 0..25 {
            client.send(lines);
            site.advance(seconds(1))?;
        }
        let input = request("GET", "/a.txt", "", "");
        assert!(site.ask(&client, &input)?.starts_with("HTTP/1.1 200 "));
        // And a request after them has its own time.
        client.send(lines);
        site.advance(seconds(29))?;
        client.send("GET /a.txt HTTP/1.1\r\n");
        site.advance(seconds(29))?;
        let reply = site.ask(&client, "Host: localhost\r\n\r\n")?;
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
        client.send(lines);
        site.advance(seconds(29))?;
        client.send("GET / HTTP/1.1\r\n");
        site.advance(seconds(31))?;
        assert_eq!(statuses(&parse(&client.take_received())), [408]);
        // A client that leaves after them has sent no request.
        let client = site.client()?;
        client.send(lines);
        client.finish();
        site.settle()?;
        assert_eq!(client.ended(), Some(Ended::Finished));
        assert_eq!(client.take_received(), b"");
    }
    Ok(())
}

#[test]
fn each_request_is_logged() -> Result {
    let dir = TempDir::new()?;
    let path = dir.path().join("log");
    let site = Site::with_access_log(&path)?;
    let fields = "Referer: http://x/\"\r\nUser-Agent: a\\b\t\u{e9}\r\n";
    let input = request("GET", "/a.txt", fields, "")
        + &put("/x", "new")
        + &request("HEAD", "/dir/big", "", "")
        + "\n";
    let client = site.client()?;
    site.ask(&client, input)?;
    site.advance(Duration::from_secs(1))?;
    let log = fs::read_to_string(&path)?;
    let lines: Vec<_> = log
        .lines()
        .map(|line| line.split_once(' ').unwrap().1)
        .collect();
    assert_eq!(
        lines,
        [
            r#"- - [15/Jun/2026:12:00:00 +0000] "GET /a.txt HTTP/1.1" 200 13 "http://x/\"" "a\\b\x09\xc3\xa9""#,
            r#"- ann [15/Jun/2026:12:00:00 +0000] "PUT /x HTTP/1.1" 201 32 "-" "-""#,
            r#"- - [15/Jun/2026:12:00:00 +0000] "HEAD /dir/big HTTP/1.1" 200 - "-" "-""#,
            r#"- - [15/Jun/2026:12:00:00 +0000] "-" 400 40 "-" "-""#,
        ]
    );
    Ok(())
}

#[test]
fn the_same_is_served_with_tls() -> Result {
    let site = Site::with(Options {
        tls: Some(server_config().into()),
        ..options()
    })?;
    let mut client = site.handshake(site.network.connect(TLS_ADDR)?);
    let input = put("/x", "new") + &request("GET", "/dir/big", "Connection: close\r\n", "");
    let replies = site.ask_tls(&mut client, &input)?;
    let replies = parse(replies.as_bytes());
    assert_eq!(statuses(&replies), [201, 200]);
    assert_eq!(replies[1].body, big());
    assert!(client.is_closed(), "the end is announced");
    Ok(())
}
