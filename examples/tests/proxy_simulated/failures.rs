//! Servers that fail.

use asynchat::Result;
#[cfg(unix)]
use asynchat::sim::Call;
use asynchat::sim::Ended;

use crate::captured::captured;
use crate::server::resolver::Resolver;
use crate::world::{SECOND, World, get, socks, status, text};

#[test]
fn a_server_that_cannot_be_reached_has_a_status() -> Result {
    let world = World::new()?;
    let connect = |host: &str| format!("CONNECT {host}:80 HTTP/1.1\r\nHost: a\r\n\r\n");
    for (host, expected) in [("nowhere.example", "502"), ("down.example", "502")] {
        let (reply, ended) = world.outcome(get(host))?;
        assert_eq!((status(&reply), ended), (expected, None), "{host}");
        let (reply, ended) = world.outcome(connect(host))?;
        assert_eq!(
            (status(&reply), ended),
            (expected, Some(Ended::Finished)),
            "{host}"
        );
    }
    world.network.add_black_hole("192.0.2.82:80".parse()?);
    let clients = [world.client()?, world.client()?, world.client()?];
    clients[0].send(get("hole.example"));
    clients[1].send(connect("hole.example"));
    clients[2].send(socks("hole.example", 80));
    world.advance(11 * SECOND)?;
    assert_eq!(status(&text(&clients[0])), "504");
    assert_eq!(status(&text(&clients[1])), "504");
    assert_eq!(clients[2].take_received()[2..4], [5, 6]);

    // A look-up that hangs. The thread is real, the time is not.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let hangs = move |_: &str, _| {
        drop(released.lock().map(|it| it.recv()));
        Ok(vec![])
    };
    let world = World::with(|options| options.resolver = Resolver::new(1, hangs))?;
    let clients = [world.client()?, world.client()?, world.client()?];
    clients[0].send(get("www.example"));
    clients[1].send(connect("www.example"));
    clients[2].send(socks("www.example", 80));
    world.advance(11 * SECOND)?;
    assert_eq!(status(&text(&clients[0])), "504");
    assert_eq!(status(&text(&clients[1])), "504");
    assert_eq!(clients[2].take_received()[2..4], [5, 6]);
    drop(release);
    Ok(())
}

/// The name may exist, and may be found later.
#[test]
fn a_name_that_cannot_be_looked_up_is_a_503_and_logged() -> Result {
    let world = World::new()?;
    let connect = "CONNECT unclear.example:80 HTTP/1.1\r\nHost: a\r\n\r\n";
    let log = captured(|| {
        for input in [get("unclear.example"), connect.to_owned()] {
            let (reply, _) = world.outcome(input)?;
            assert_eq!(status(&reply), "503");
            assert!(reply.contains("the name could not be looked up"), "{reply}");
        }
        let client = world.client()?;
        world.send(&client, socks("unclear.example", 80))?;
        assert_eq!(client.take_received()[2..4], [5, 1]);
        Ok(())
    })?;
    let line =
        "WARN unclear.example could not be looked up: Temporary failure in name resolution\n";
    assert_eq!(log.matches(line).count(), 3, "{log}");
    Ok(())
}

/// Also for an address, which is not looked up. It passes.
#[cfg(unix)]
#[test]
fn a_connection_without_a_descriptor_is_a_503() -> Result {
    let world = World::new()?;
    let connect = "CONNECT 192.0.2.80:80 HTTP/1.1\r\nHost: a\r\n\r\n";
    for input in [get("192.0.2.80"), get("www.example"), connect.to_owned()] {
        let error = rustix::io::Errno::MFILE;
        world.network.fail(Call::Connect, error);
        let (reply, _) = world.outcome(&input)?;
        assert_eq!(status(&reply), "503", "{input}");
    }
    Ok(())
}

#[test]
fn a_response_that_its_server_cuts_never_looks_complete() -> Result {
    for reset in [false, true] {
        for (version, head, ended) in [
            ("1.1", "Content-Length: 10\r\n\r\nabc", Ended::Finished),
            (
                "1.1",
                "Transfer-Encoding: chunked\r\n\r\n9\r\nabc",
                Ended::Finished,
            ),
            (
                "1.1",
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                Ended::Finished,
            ),
            (
                "1.1",
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
                Ended::Finished,
            ),
            (
                "1.1",
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd",
                Ended::Finished,
            ),
            ("1.0", "Content-Length: 10\r\n\r\nabc", Ended::Finished),
            (
                "1.0",
                "Transfer-Encoding: chunked\r\n\r\n9\r\nabc",
                Ended::Reset,
            ),
            (
                "1.0",
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                Ended::Reset,
            ),
        ] {
            let world = World::new()?;
            let (client, server) = world.begin(format!(
                "GET http://www.example/ HTTP/{version}\r\nHost: a\r\n\r\n"
            ))?;
            world.send(&server, format!("HTTP/1.1 200 OK\r\n{head}"))?;
            if reset {
                server.reset();
            } else {
                server.finish();
            }
            world.settle()?;
            let received = text(&client);
            assert!(received.contains("abc"), "{head:?}");
            assert!(!received.ends_with("0\r\n\r\n"), "{head:?}");
            assert_eq!(client.ended(), Some(ended), "{head:?}");
        }
        // What ends with its connection is complete, unless that is reset.
        for (version, ended) in [("1.1", Ended::Finished), ("1.0", Ended::Reset)] {
            let world = World::new()?;
            let (client, server) = world.begin(format!(
                "GET http://www.example/ HTTP/{version}\r\nHost: a\r\n\r\n"
            ))?;
            world.send(&server, "HTTP/1.1 200 OK\r\n\r\nabc")?;
            if reset {
                server.reset();
            } else {
                server.finish();
            }
            world.settle()?;
            match (reset, version) {
                (true, _) => assert_eq!(client.ended(), Some(ended)),
                (false, "1.1") => assert!(text(&client).ends_with("\r\n0\r\n\r\n")),
                (false, _) => assert_eq!(client.ended(), Some(Ended::Finished)),
            }
        }
    }
    Ok(())
}

#[test]
fn a_server_that_says_nothing_is_a_502_or_a_504() -> Result {
    let world = World::new()?;
    let (client, server) = world.begin(get("www.example"))?;
    server.finish();
    world.settle()?;
    assert_eq!(status(&text(&client)), "502");
    assert_eq!(client.ended(), None);
    world.send(&client, get("www.example"))?;
    let _server = world.accept()?;
    world.advance(61 * SECOND)?;
    assert_eq!(status(&text(&client)), "504");
    // Here the server waits for the client.
    let (client, server) = world
        .begin("PUT http://www.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")?;
    world.advance(61 * SECOND)?;
    assert_eq!(status(&text(&client)), "408");
    assert!(client.has_ended() && server.has_ended());
    // Here the client waits for the server.
    let (client, server) = world
        .begin("PUT http://www.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n")?;
    server.stop_reading();
    client.send(vec![b'x'; 1 << 20]);
    world.advance(61 * SECOND)?;
    assert_eq!(status(&text(&client)), "504");
    Ok(())
}

/// Such a head has no end.
#[test]
fn a_server_that_ends_lines_with_lf_alone_is_a_502_at_once() -> Result {
    for head in [
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\n\n",
        "\n",
    ] {
        let world = World::new()?;
        let (client, server) = world.begin(get("www.example"))?;
        // The second response of a connection is no different.
        world.send(&server, "HTTP/1.1 204 No\r\n\r\n")?;
        drop(client.take_received());
        world.send(&client, get("www.example"))?;
        for piece in head.split_inclusive('\n') {
            world.send(&server, piece)?;
        }
        assert_eq!(status(&text(&client)), "502", "{head:?}");
        assert_eq!(server.ended(), Some(Ended::Reset), "{head:?}");
        assert_eq!(client.ended(), None, "{head:?}");
    }
    Ok(())
}

#[test]
fn a_request_is_repeated_if_the_kept_connection_has_ended_and_nothing_can_happen_twice() -> Result {
    for (request, is_repeated) in [
        (get("www.example"), true),
        (
            "POST http://www.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(),
            false,
        ),
        (
            "PUT http://www.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1".to_owned(),
            false,
        ),
    ] {
        let world = World::new()?;
        let (client, server) = world.begin(get("www.example"))?;
        world.send(&server, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")?;
        drop(client.take_received());
        // Both at the same moment.
        client.send(&request);
        world.settle()?;
        server.finish();
        world.settle()?;
        if is_repeated {
            let server = world.accept()?;
            assert!(text(&server).starts_with("GET / "));
            world.send(&server, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")?;
            assert!(text(&client).ends_with("\r\n\r\n2"));
            // Once only.
            world.send(&client, &request)?;
            server.finish();
            world.settle()?;
            world.accept()?.finish();
            world.settle()?;
            assert_eq!(status(&text(&client)), "502");
            assert!(world.is_untouched());
        } else {
            assert_eq!(status(&text(&client)), "502", "{request}");
            assert!(world.is_untouched(), "{request}");
        }
    }
    Ok(())
}

/// The server has begun to serve the request: a second one could have its effect twice.
#[test]
fn a_request_is_not_repeated_when_its_response_has_begun() -> Result {
    for reset in [false, true] {
        for piece in ["H", "HTTP/1.1 200 OK\r\nContent-Le"] {
            let world = World::new()?;
            let (client, server) = world.begin(get("www.example"))?;
            world.send(&server, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")?;
            drop(client.take_received());
            world.send(&client, get("www.example"))?;
            server.send(piece);
            if reset {
                server.reset();
            } else {
                server.finish();
            }
            world.settle()?;
            assert_eq!(status(&text(&client)), "502", "{piece:?}");
            assert!(world.is_untouched(), "{piece:?}");
        }
    }
    Ok(())
}

/// The response has begun, and ends with the connection: only a reset tells that it is incomplete.
#[test]
fn a_client_of_http_1_0_that_cuts_its_request_gets_no_complete_response() -> Result {
    let world = World::new()?;
    let head = "PUT http://www.example/ HTTP/1.0\r\nContent-Length: 9\r\n\r\n";
    let (client, server) = world.begin(head)?;
    world.send(&server, "HTTP/1.1 200 OK\r\n\r\nabc")?;
    client.finish();
    world.settle()?;
    assert!(text(&client).ends_with("\r\n\r\nabc"));
    assert_eq!(client.ended(), Some(Ended::Reset));
    assert_eq!(server.ended(), Some(Ended::Reset));

    let (client, server) = world.begin(head)?;
    world.send(&server, "HTTP/1.1 200 OK\r\n\r\nabc")?;
    // The time for its body is that of other bodies.
    for time in [50, 50, 30] {
        assert!(!client.has_ended());
        server.send("d");
        world.advance(time * SECOND)?;
    }
    assert_eq!(client.ended(), Some(Ended::Reset));
    assert_eq!(server.ended(), Some(Ended::Reset));
    Ok(())
}
