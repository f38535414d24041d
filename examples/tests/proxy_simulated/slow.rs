//! Slow peers, and time.

use asynchat::Result;
use asynchat::sim::Ended;

use crate::world::{SECOND, World, get, socks, status, text};

#[test]
fn a_slow_reader_slows_the_server_down() -> Result {
    const SIZE: usize = 8 << 20;
    for framing in ["Content-Length: 8388608\r\n\r\n", "\r\n"] {
        let world = World::new()?;
        let (client, server) = world.begin(get("www.example"))?;
        client.stop_reading();
        server.send(format!("HTTP/1.1 200 OK\r\n{framing}"));
        server.send(vec![b'x'; SIZE]);
        world.settle()?;
        let taken = SIZE - server.unsent();
        assert!(taken < 1 << 20, "{taken}");
        // An hour at 100 KB a minute is not idle, and fast enough for the deadline.
        let mut read = 0;
        for _ in 0..30 {
            client.start_reading(200_000);
            world.advance(50 * SECOND)?;
            read += client.take_received().len();
            assert!(!client.has_ended());
        }
        assert_eq!(read, 30 * 200_000);
        client.start_reading(usize::MAX);
        server.finish();
        world.settle()?;
        read += client.take_received().len();
        assert!(read > SIZE, "{read}");
        assert_eq!(server.unsent(), 0);
    }
    Ok(())
}

/// Of interim responses, too, no more is queued than of a body.
#[test]
fn a_slow_reader_slows_interim_responses_down() -> Result {
    let world = World::new()?;
    let (client, server) = world.begin(get("www.example"))?;
    client.stop_reading();
    let interim = format!(
        "HTTP/1.1 103 Early Hints\r\nX: {}\r\n\r\n",
        "x".repeat(30_000)
    );
    for _ in 0..32 {
        server.send(&interim);
    }
    server.send("HTTP/1.1 204 No\r\n\r\n");
    world.settle()?;
    let taken = 32 * interim.len() - server.unsent();
    assert!(taken < 400_000, "{taken}");
    // Meanwhile the server is not silent.
    for _ in 0..4 {
        world.advance(50 * SECOND)?;
        client.start_reading(100_000);
    }
    assert!(!client.has_ended());
    client.start_reading(usize::MAX);
    world.settle()?;
    let received = text(&client);
    assert_eq!(received.matches("HTTP/1.1 103 ").count(), 32);
    assert_eq!(received.matches("HTTP/1.1 204 ").count(), 1);
    Ok(())
}

#[test]
fn a_slow_server_slows_the_upload_down_and_may_reply_before_its_end() -> Result {
    const SIZE: usize = 8 << 20;
    let head =
        format!("PUT http://www.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
    let world = World::new()?;
    let (client, server) = world.begin(&head)?;
    server.stop_reading();
    client.send(vec![b'x'; SIZE]);
    world.settle()?;
    let taken = SIZE - client.unsent();
    assert!(taken < 1 << 20, "{taken}");
    server.start_reading(usize::MAX);
    world.settle()?;
    assert!(server.take_received().len() > SIZE);
    world.send(&server, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")?;
    assert_eq!(status(&text(&client)), "201");
    assert!(!client.has_ended());

    let (client, server) = world.begin(&head)?;
    server.stop_reading();
    client.send(vec![b'x'; SIZE]);
    world.settle()?;
    world.send(
        &server,
        "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n",
    )?;
    let reply = text(&client);
    assert_eq!(status(&reply), "413");
    assert!(reply.contains("\r\nConnection: close\r\n"));
    world.advance(120 * SECOND)?;
    assert!(client.has_ended() && server.has_ended());
    Ok(())
}

#[test]
fn a_client_has_a_time_for_its_request() -> Result {
    let world = World::new()?;
    let silent = world.client()?;
    let slow = world.client()?;
    let socks_client = world.client()?;
    world.send(&slow, "GET http://www.exam")?;
    world.send(&socks_client, [5, 1])?;
    for _ in 0..61 {
        world.advance(SECOND)?;
        slow.send("x");
    }
    assert_eq!((text(&silent).as_str(), silent.has_ended()), ("", true));
    assert_eq!(status(&text(&slow)), "408");
    assert!(socks_client.has_ended());
    // Between two requests it is closed without a word.
    let (client, server) = world.begin(get("www.example"))?;
    world.send(&server, "HTTP/1.1 204 No\r\n\r\n")?;
    drop(client.take_received());
    world.advance(61 * SECOND)?;
    assert_eq!(
        (text(&client).as_str(), client.ended()),
        ("", Some(Ended::Finished))
    );
    assert!(server.has_ended());
    world.advance(3 * SECOND)?; // The connections linger.
    assert_eq!(world.network.sockets(), 1, "the listener");
    Ok(())
}

/// RFC 9112 section 2.2: empty lines before a request are ignored. They are no part of one.
#[test]
fn a_client_that_sends_empty_lines_is_idle() -> Result {
    let put = "PUT http://www.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
    for lines in ["", "\r\n", "\r\n\r\n", "\r\n\r\n\r\n"] {
        let world = World::new()?;
        let new = world.client()?;
        let (kept, server) = world.begin(put.to_owned() + lines)?;
        world.send(&server, "HTTP/1.1 204 No\r\n\r\n")?;
        assert_eq!(status(&text(&kept)), "204");
        for _ in 0..3 {
            world.advance(19 * SECOND)?;
            new.send(lines);
            kept.send(lines);
            world.settle()?;
        }
        assert!(!new.has_ended() && !kept.has_ended(), "{lines:?}");
        // The request that begins now has a time of its own.
        let (slow, server) = world.begin(put)?;
        world.send(&server, "HTTP/1.1 204 No\r\n\r\n")?;
        drop(slow.take_received());
        world.send(&slow, lines)?;
        world.advance(4 * SECOND)?;
        for client in [&new, &kept] {
            assert_eq!((text(client).as_str(), client.has_ended()), ("", true));
        }
        world.advance(54 * SECOND)?;
        world.send(&slow, "GET http://www.exam")?;
        world.advance(50 * SECOND)?;
        world.send(&slow, "ple/ HTTP/1.1\r\nHost: a\r\n\r\n")?;
        world.accept()?;
        assert!(!slow.has_ended(), "{lines:?}");
    }
    Ok(())
}

/// Each byte ends the idle time of the server's connection, and each chunk is a record of its own.
#[test]
fn a_body_that_trickles_is_cut() -> Result {
    for (version, framing, piece) in [
        ("1.0", "Content-Length: 1000", "x"),
        ("1.1", "Content-Length: 1000", "x"),
        ("1.1", "Transfer-Encoding: chunked", "1\r\nx\r\n"),
    ] {
        let begun = ["", "Content-Length: 9\r\n", "Connection: close\r\n"];
        for field in begun {
            let world = World::new()?;
            let (client, server) = world.begin(format!(
                "PUT http://www.example/ HTTP/{version}\r\nHost: a\r\n{framing}\r\n\r\n"
            ))?;
            if !field.is_empty() {
                server.send(format!("HTTP/1.1 200 OK\r\n{field}\r\nabc"));
            }
            for _ in 0..6 {
                client.send(piece);
                world.advance(50 * SECOND)?;
            }
            let received = text(&client);
            match field {
                "" => assert_eq!(status(&received), "408", "{version} {framing}"),
                _ => assert!(received.contains("abc"), "{version} {framing}"),
            }
            // Where the end of the connection is that of the response, only a reset shows that it was cut.
            let ended = match (version, field) {
                ("1.0", "Connection: close\r\n") => Ended::Reset,
                _ => Ended::Finished,
            };
            assert_eq!(client.ended(), Some(ended), "{version} {framing} {field}");
            assert_eq!(server.ended(), Some(Ended::Reset), "{version} {framing}");
        }
    }
    Ok(())
}

#[test]
fn a_body_may_be_as_slow_as_its_server_or_its_response() -> Result {
    const SIZE: usize = 8 << 20;
    let head =
        format!("PUT http://www.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
    let world = World::new()?;
    // 64 KiB a minute.
    let (steady, _steady_server) = world.begin(&head)?;
    // The server is as slow as its deadline permits.
    let (ready, slow_server) = world.begin(&head)?;
    slow_server.stop_reading();
    ready.send(vec![b'x'; SIZE]);
    // The client reads a response, and then sends its body.
    let (reader, server) = world.begin(&head)?;
    reader.stop_reading();
    server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
    server.send(vec![b'x'; SIZE]);
    for _ in 0..30 {
        steady.send(vec![b'x'; 55_000]);
        slow_server.start_reading(70_000);
        reader.start_reading(70_000);
        world.advance(50 * SECOND)?;
        assert!(!steady.has_ended() && !ready.has_ended() && !reader.has_ended());
    }
    Ok(())
}

#[test]
fn a_head_has_a_limit() -> Result {
    let world = World::new()?;
    let fields = format!(
        "GET http://www.example/ HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    assert_eq!(status(&world.outcome(fields)?.0), "431");
    let many = format!(
        "GET http://www.example/ HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(200)
    );
    assert_eq!(status(&world.outcome(many)?.0), "431");
    let target = format!(
        "GET http://www.example/{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "x".repeat(40_000)
    );
    assert_eq!(status(&world.outcome(target)?.0), "414");
    assert!(world.is_untouched());
    Ok(())
}

#[test]
fn a_silent_tunnel_is_closed() -> Result {
    let world = World::with(|options| options.tunnel_idle = 100 * SECOND)?;
    let (client, server) = world.begin("CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n")?;
    world.advance(90 * SECOND)?;
    world.send(&server, "x")?;
    world.advance(90 * SECOND)?;
    assert!(!client.has_ended() && !server.has_ended());
    world.advance(20 * SECOND)?;
    assert!(client.has_ended() && server.has_ended());
    Ok(())
}

/// A peer that takes a little now and then is not idle, but it would keep the other end waiting for as long as it likes.
#[test]
fn a_tunnel_is_cut_when_a_peer_takes_less_than_64_kib_a_minute() -> Result {
    const SIZE: usize = 8 << 20;
    let connect = b"CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    for opening in [connect, socks("www.example", 80)] {
        for client_reads in [true, false] {
            for (taken, is_cut) in [(1000, true), (70_000, false)] {
                let world = World::new()?;
                let (client, server) = world.begin(&opening)?;
                let (reader, sender) = if client_reads {
                    (&client, &server)
                } else {
                    (&server, &client)
                };
                reader.stop_reading();
                sender.send(vec![b'x'; SIZE]);
                for _ in 0..4 {
                    reader.start_reading(taken);
                    world.advance(50 * SECOND)?;
                }
                assert_eq!(sender.has_ended(), is_cut, "{client_reads} {taken}");
                reader.start_reading(usize::MAX);
                world.settle()?;
                let ended = is_cut.then_some(Ended::Reset);
                assert_eq!(reader.ended(), ended, "{client_reads} {taken}");
            }
        }
    }
    Ok(())
}
