//! Requests and responses that are forwarded.

use asynchat::Result;
use asynchat::sim::every_segmentation;

use crate::world::{World, get, status, text, without_date};

#[test]
fn a_request_and_its_response_are_forwarded_in_every_segmentation() -> Result {
    let request =
        b"POST http://www.example/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nTrailer: x\r\n\r\n";
    let response = b"HTTP/1.1 200 Fine\r\nDate: now\r\nConnection: x-hop\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
    let check = |sent: &[&[u8]], answered: &[&[u8]]| -> Result {
        let world = World::new()?;
        let client = world.client()?;
        for piece in sent {
            world.send(&client, piece)?;
        }
        let server = world.accept()?;
        let received = text(&server);
        let (head, body) = received.split_once("\r\n\r\n").ok_or("a head")?;
        assert_eq!(
            head,
            "POST /x HTTP/1.1\r\nHost: www.example\r\nVia: 1.1 proxy\r\nTransfer-Encoding: chunked"
        );
        assert_eq!(dechunked(body), "hello world");
        for piece in answered {
            world.send(&server, piece)?;
        }
        let received = text(&client);
        let (head, body) = received.split_once("\r\n\r\n").ok_or("a head")?;
        assert_eq!(
            head,
            "HTTP/1.1 200 Fine\r\nDate: now\r\nVia: 1.1 proxy\r\nTransfer-Encoding: chunked"
        );
        assert_eq!(dechunked(body), "abcd");
        // The connections are kept on both sides.
        world.send(&client, get("www.example"))?;
        assert!(text(&server).starts_with("GET / HTTP/1.1\r\nHost: www.example\r\n"));
        assert!(world.is_untouched());
        Ok(())
    };
    every_segmentation(request, |pieces| check(pieces, &[response]))?;
    every_segmentation(response, |pieces| check(&[request], pieces))
}

/// The content of a complete chunked body without extensions and trailer fields.
fn dechunked(mut body: &str) -> String {
    let mut content = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n").expect("a line");
        let length = usize::from_str_radix(length, 16).expect("a length");
        let (chunk, rest) = rest.split_at(length);
        content += chunk;
        body = rest.strip_prefix("\r\n").expect("the end of a chunk");
        if length == 0 {
            assert_eq!(body, "");
            return content;
        }
    }
}

#[test]
fn each_framing_of_a_response_reaches_each_client() -> Result {
    // The head and the body of the server, whether it closes, the rest of the head for HTTP/1.1, the body, and the rest
    // of the head for HTTP/1.0, which always closes.
    let cases = [
        (
            "GET",
            "200 OK\r\nContent-Length: 3\r\n\r\nabc",
            false,
            "Content-Length: 3",
            "abc",
            "Content-Length: 3\r\n",
        ),
        (
            "GET",
            "200 OK\r\nContent-Length: 0\r\n\r\n",
            false,
            "Content-Length: 0",
            "",
            "Content-Length: 0\r\n",
        ),
        (
            "GET",
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            false,
            "Transfer-Encoding: chunked",
            "3\r\nabc\r\n0\r\n\r\n",
            "",
        ),
        (
            "GET",
            "200 OK\r\n\r\nabc",
            true,
            "Transfer-Encoding: chunked",
            "3\r\nabc\r\n0\r\n\r\n",
            "",
        ),
        (
            "HEAD",
            "200 OK\r\nContent-Length: 3\r\n\r\n",
            false,
            "Content-Length: 3",
            "",
            "Content-Length: 3\r\n",
        ),
        (
            "HEAD",
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
            "",
            "",
            "",
        ),
        ("GET", "204 No Content\r\n\r\n", false, "", "", ""),
        (
            "GET",
            "304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            false,
            "Content-Length: 9",
            "",
            "Content-Length: 9\r\n",
        ),
    ];
    for (method, answer, closes, framing, body, framing10) in cases {
        for version in ["1.1", "1.0"] {
            let world = World::new()?;
            let (client, server) = world.begin(format!(
                "{method} http://www.example/ HTTP/{version}\r\nHost: a\r\n\r\n"
            ))?;
            assert!(text(&server).starts_with(&format!("{method} / HTTP/1.1\r\n")));
            server.send(format!("HTTP/1.1 {answer}"));
            if closes {
                server.finish();
            }
            world.settle()?;
            let status = &answer[..answer.find('\r').unwrap_or(0)];
            let start = format!("HTTP/1.1 {status}\r\nVia: 1.1 proxy\r\n");
            let received = without_date(&text(&client));
            let is_kept = version == "1.1";
            if is_kept {
                let framing = if framing.is_empty() {
                    String::new()
                } else {
                    format!("{framing}\r\n")
                };
                assert_eq!(received, format!("{start}{framing}\r\n{body}"), "{answer}");
            } else {
                let content = if body.is_empty() { "" } else { "abc" };
                assert_eq!(
                    received,
                    format!("{start}{framing10}Connection: close\r\n\r\n{content}"),
                    "{answer}"
                );
            }
            assert_eq!(client.has_ended(), !is_kept, "{answer}");
        }
    }
    Ok(())
}

/// Also one whose server lists Date in Connection, which removes the server's.
#[test]
fn each_response_has_one_date() -> Result {
    let dates = |response: &str| -> Vec<String> {
        let dates = response
            .lines()
            .filter_map(|line| line.strip_prefix("Date: "));
        dates.map(str::to_owned).collect()
    };
    let world = World::new()?;
    for (fields, is_own) in [
        ("Date: now\r\n", false),
        ("", true),
        ("Date: now\r\nConnection: date\r\n", true),
        ("Connection: x, DATE\r\ndate: now\r\n", true),
    ] {
        let (client, server) = world.begin(get("www.example"))?;
        let response = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
        world.send(&server, response)?;
        let dates = dates(&text(&client));
        assert_eq!(dates.len(), 1, "{fields:?}");
        assert_eq!(dates[0] != "now", is_own, "{fields:?}");
    }
    for request in [
        get("localhost"),
        get("nowhere.example"),
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "x\n".to_owned(),
    ] {
        let (reply, _) = world.outcome(&request)?;
        let [date] = &dates(&reply)[..] else {
            return Err(reply.into());
        };
        assert!(httpdate::parse_http_date(date).is_ok(), "{reply}");
    }
    Ok(())
}

#[test]
fn pipelined_requests_are_served_in_order() -> Result {
    let world = World::new()?;
    let requests = [
        get("www.example"),
        get("other.example"),
        get("www.example"),
        get("localhost"),
    ]
    .concat();
    let (client, first) = world.begin(requests)?;
    assert!(text(&first).contains("Host: www.example\r\n"));
    assert!(world.is_untouched(), "one at a time");
    world.send(&first, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")?;
    let second = world.accept()?;
    assert!(first.has_ended(), "a client has one connection");
    assert!(text(&second).contains("Host: other.example\r\n"));
    world.send(&second, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")?;
    let third = world.accept()?;
    world.send(&third, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3")?;
    let received = text(&client);
    let bodies: Vec<_> = received
        .split("\r\n\r\n")
        .skip(1)
        .map(|it| &it[..1])
        .collect();
    assert_eq!(bodies[..3], ["1", "2", "3"]);
    assert!(received.contains("HTTP/1.1 403 Forbidden\r\n"));
    assert!(received.ends_with("localhost:80: the proxy does not allow this destination\r\n"));
    assert!(!client.has_ended());
    Ok(())
}

#[test]
fn interim_responses_are_passed_on() -> Result {
    let expecting = "PUT http://www.example/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let world = World::new()?;
    let (client, server) = world.begin(expecting)?;
    assert!(text(&server).contains("\r\nExpect: 100-continue\r\n"));
    world.send(
        &server,
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
    )?;
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nVia: 1.1 proxy\r\n\r\n";
    assert_eq!(
        text(&client),
        format!("{hints}HTTP/1.1 100 Continue\r\nVia: 1.1 proxy\r\n\r\n")
    );
    world.send(&client, "body")?;
    assert_eq!(text(&server), "body");
    world.send(&server, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")?;
    assert_eq!(
        without_date(&text(&client)),
        "HTTP/1.1 201 Created\r\nVia: 1.1 proxy\r\nContent-Length: 0\r\n\r\n"
    );
    assert!(!client.has_ended());

    // Without 100, the body may follow or not. The proxy cannot tell it from the next request.
    let (client, server) = world.begin(expecting)?;
    world.send(&server, "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")?;
    let end = "Content-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(text(&client).ends_with(end));
    assert!(client.has_ended() && server.has_ended());

    // A client of HTTP/1.0 knows no interim responses.
    let (client, server) = world.begin("GET http://www.example/ HTTP/1.0\r\n\r\n")?;
    world.send(&server, "HTTP/1.1 103 Early Hints\r\n\r\n")?;
    assert_eq!(text(&client), "");
    world.send(&server, "HTTP/1.1 102 Processing\r\n\r\n".repeat(40))?;
    assert_eq!(status(&text(&client)), "502");
    Ok(())
}

#[test]
fn options_and_trace_have_a_limit_of_forwards() -> Result {
    let world = World::new()?;
    let zero = "OPTIONS http://www.example/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n";
    let (reply, ended) = world.outcome(zero)?;
    assert_eq!(
        (without_date(&reply).as_str(), ended),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None)
    );
    let trace = "TRACE http://www.example/ HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(status(&world.outcome(trace)?.0), "501");
    assert!(world.is_untouched());
    Ok(())
}

/// Each field of a message is compared with each member of Connection.
#[test]
fn a_message_with_many_members_of_connection_is_refused() -> Result {
    let fields = |count: usize| format!("Connection: {}\r\n", vec!["x"; count].join(","));
    let request = |count| {
        let fields = fields(count);
        format!("GET http://www.example/ HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    };
    let response = |first: &str, count| format!("HTTP/1.1 {first}\r\n{}\r\n", fields(count));
    let world = World::new()?;
    for (first, count, expected) in [
        ("204 No Content", 32, "204"),
        ("204 No Content", 33, "502"),
        ("103 Early Hints", 33, "502"),
    ] {
        let (client, server) = world.begin(request(32))?;
        world.send(&server, response(first, count))?;
        assert_eq!(status(&text(&client)), expected, "{first} {count}");
    }
    let (reply, _) = world.outcome(request(33))?;
    assert_eq!(status(&reply), "400");
    assert!(world.is_untouched());
    Ok(())
}
