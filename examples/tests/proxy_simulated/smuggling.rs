//! Messages that could be read in two ways (request smuggling, RFC 9112 section 11.2).

use asynchat::Result;
use asynchat::sim::Ended;

use crate::world::{World, get, status, text};

/// The head of each of these can be read in two ways. The request behind it must not be seen.
#[test]
fn an_ambiguous_head_is_refused_and_nothing_behind_it_is_read() -> Result {
    let post = "POST http://www.example/ HTTP/1.1\r\nHost: a\r\n";
    let cases = [
        (
            format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "400",
        ),
        (
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
            "400",
        ),
        (
            format!("{post}Content-Length: 0\r\nContent-Length: 5\r\n\r\n"),
            "400",
        ),
        (format!("{post}Content-Length: 0, 0\r\n\r\n"), "400"),
        (format!("{post}Content-Length: +0\r\n\r\n"), "400"),
        (format!("{post}Content-Length: -1\r\n\r\n"), "400"),
        (format!("{post}Content-Length: 0x0\r\n\r\n"), "400"),
        (format!("{post}Content-Length: \r\n\r\n"), "400"),
        (
            format!("{post}Content-Length: 99999999999999999999\r\n\r\n"),
            "400",
        ),
        (format!("{post}Content-Length : 5\r\n\r\n"), "400"),
        (
            format!("{post}Content_Length: 0\r\nTransfer-Encoding : chunked\r\n\r\n"),
            "400",
        ),
        (format!("{post}Transfer-Encoding: xchunked\r\n\r\n"), "501"),
        (
            format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n"),
            "501",
        ),
        (format!("{post}Transfer-Encoding: identity\r\n\r\n"), "501"),
        (
            format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            "501",
        ),
        (
            format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
            "501",
        ),
        (
            format!("{post}Transfer-Encoding:\x0bchunked\r\n\r\n"),
            "400",
        ),
        (
            format!("{post}Transfer-Encoding: \"chunked\"\r\n\r\n"),
            "501",
        ),
        (
            format!("{post}X: y\r\n Transfer-Encoding: chunked\r\n\r\n"),
            "400",
        ),
        (
            format!("{post}X: y\nTransfer-Encoding: chunked\r\n\r\n"),
            "400",
        ),
        (
            format!("{post}X: y\rTransfer-Encoding: chunked\r\n\r\n"),
            "400",
        ),
        (format!("{post}X: \0\r\n\r\n"), "400"),
        (format!("{post} Content-Length: 5\r\n\r\n"), "400"),
        (format!("{post}Host: b\r\n\r\n"), "400"),
        (format!("{post}: x\r\n\r\n"), "400"),
        (
            "POST http://www.example/ HTTP/1.1\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "POST http://www.example/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "GET http://www.example/ HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(),
            "505",
        ),
        ("GET http://www.example/\r\n\r\n".to_owned(), "400"),
        (
            "GET  http://www.example/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "GET http://www.example/ HTTP/1.1 \r\nHost: a\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_owned(),
            "400",
        ),
        (
            "CONNECT www.example HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "CONNECT http://www.example/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "400",
        ),
    ];
    for (input, expected) in cases {
        let world = World::new()?;
        let (reply, ended) = world.outcome(input.clone() + &get("www.example"))?;
        assert_eq!(status(&reply), expected, "{input:?}\n{reply}");
        assert_eq!(reply.matches("HTTP/1.1 ").count(), 1, "{input:?}\n{reply}");
        assert_eq!(ended, Some(Ended::Finished), "{input:?}");
        assert!(world.is_untouched(), "{input:?}");
    }
    // These are refused, too, but the connection is in order.
    for target in [
        "/",
        "*",
        "ftp://www.example/",
        "http://u@www.example/",
        "http://www.example:0/",
        "http:///",
    ] {
        let world = World::new()?;
        let (reply, ended) = world.outcome(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))?;
        assert!(
            ["400", "501"].contains(&status(&reply)),
            "{target}: {reply}"
        );
        assert_eq!(ended, None);
        assert!(world.is_untouched());
    }
    Ok(())
}

/// The body of each of these can be read in two ways. The server sees neither an end of it nor the request behind it.
#[test]
fn an_ambiguous_chunk_ends_the_request() -> Result {
    for body in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabcXX0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 x\r\nabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "\r\n3\r\nabc\r\n0\r\n\r\n",
        "11111111111111113\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n\rX\r\n\r\n",
    ] {
        let world = World::new()?;
        let head =
            "POST http://www.example/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let client = world.client()?;
        world.send(&client, format!("{head}{body}{}", get("www.example")))?;
        let reply = text(&client);
        assert_eq!(status(&reply), "400", "{body:?}\n{reply}");
        assert_eq!(reply.matches("HTTP/1.1 ").count(), 1, "{body:?}\n{reply}");
        assert!(client.has_ended(), "{body:?}");
        if let Ok(server) = world.accept() {
            let received = text(&server);
            assert!(
                !received.contains("GET") && !received.ends_with("0\r\n\r\n"),
                "{body:?}\n{received}"
            );
            assert_eq!(server.ended(), Some(Ended::Reset), "{body:?}");
        }
    }
    Ok(())
}

/// RFC 9112 section 5.1: in a response a proxy has to remove it, and in a request it is an error.
#[test]
fn whitespace_before_the_colon_of_a_response_is_removed() -> Result {
    let world = World::new()?;
    let (client, server) = world.begin(get("www.example"))?;
    world.send(
        &server,
        "HTTP/1.1 200 OK\r\nX : y\r\nContent-Length \t: 3\r\n\r\nabc",
    )?;
    let reply = text(&client);
    assert_eq!(status(&reply), "200", "{reply}");
    assert!(reply.contains("\r\nX: y\r\n"), "{reply}");
    assert!(reply.contains("\r\nContent-Length: 3\r\n"), "{reply}");
    assert!(reply.ends_with("\r\n\r\nabc"), "{reply}");
    // The length counts, as that without whitespace would.
    let world = World::new()?;
    let (client, server) = world.begin(get("www.example"))?;
    let two = "HTTP/1.1 200 OK\r\nContent-Length : 3\r\nContent-Length: 4\r\n\r\nabcd";
    world.send(&server, two)?;
    assert_eq!(status(&text(&client)), "502");
    Ok(())
}

/// A response that can be read in two ways is none, and neither is one that nobody has asked for.
#[test]
fn an_ambiguous_response_is_not_forwarded() -> Result {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nX: y\nZ: z\r\n\r\nabc",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 99 What\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "220 smtp.example ESMTP\r\n\r\n",
    ] {
        let world = World::new()?;
        let (client, server) = world.begin(get("www.example"))?;
        world.send(&server, response)?;
        assert_eq!(status(&text(&client)), "502", "{response:?}");
        assert_eq!(server.ended(), Some(Ended::Reset), "{response:?}");
    }
    let world = World::new()?;
    let (client, server) = world.begin(get("www.example"))?;
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2";
    world.send(&server, two)?;
    assert!(text(&client).ends_with("\r\n\r\n1"));
    assert!(server.has_ended());
    world.send(&client, get("www.example"))?;
    let server = world.accept()?;
    world.send(&server, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3")?;
    assert!(text(&client).ends_with("\r\n\r\n3"));
    Ok(())
}

/// What a server sends behind a response is no response to the next request, however much of it a turn of the loop handles.
#[test]
fn what_follows_a_response_is_not_taken_for_the_next_one() -> Result {
    let surplus = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for chunks in 0..100 {
        let world = World::new()?;
        let (client, server) = world.begin(get("www.example") + &get("www.example"))?;
        let body = "1\r\nx\r\n".repeat(chunks);
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        world.send(&server, format!("{head}{body}0\r\n\r\n{surplus}"))?;
        assert!(server.has_ended(), "{chunks} chunks");
        let server = world.accept()?;
        world.send(&server, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")?;
        let replies = text(&client);
        assert!(!replies.contains("evil"), "{chunks} chunks: {replies}");
        assert!(
            replies.ends_with("\r\n\r\ngood"),
            "{chunks} chunks: {replies}"
        );
    }
    Ok(())
}

/// The server is not read then, until the client has taken what is queued.
#[test]
fn what_follows_a_response_is_seen_when_the_client_is_slow() -> Result {
    let surplus = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for length in (60_000..140_000).step_by(4_000) {
        let world = World::new()?;
        let (client, server) = world.begin(get("www.example") + &get("www.example"))?;
        client.stop_reading();
        let body = "x".repeat(length);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        world.send(&server, head + &body + surplus)?;
        client.start_reading(usize::MAX);
        world.settle()?;
        assert!(server.has_ended(), "{length}");
        let server = world.accept()?;
        world.send(&server, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")?;
        let replies = text(&client);
        assert!(!replies.contains("evil"), "{length}");
        assert!(replies.ends_with("\r\n\r\ngood"), "{length}");
    }
    Ok(())
}
