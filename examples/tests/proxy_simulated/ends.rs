//! Clients that leave, and the end of the proxy.

use asynchat::Result;
use asynchat::sim::Ended;

use crate::world::{SECOND, World, get, socks, status, text};

#[test]
fn a_client_that_leaves_takes_its_connections_with_it() -> Result {
    for opening in [
        get("www.example").into_bytes(),
        b"CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        socks("www.example", 80),
    ] {
        let world = World::new()?;
        let (client, server) = world.begin(&opening)?;
        client.reset();
        world.settle()?;
        assert_eq!(server.ended(), Some(Ended::Reset));
        assert_eq!(world.network.sockets(), 1, "the listener");
    }
    // Also while the connection is not up.
    let hole = [
        get("hole.example").into_bytes(),
        b"CONNECT hole.example:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        socks("hole.example", 80),
    ];
    for opening in hole {
        let world = World::new()?;
        world.network.add_black_hole("192.0.2.82:80".parse()?);
        let client = world.client()?;
        world.send(&client, opening)?;
        assert_eq!(world.network.sockets(), 3);
        client.reset();
        world.settle()?;
        assert_eq!(world.network.sockets(), 1, "the listener");
    }
    Ok(())
}

/// The client may be gone, or wait for the response, as `nc -N` does.
#[test]
fn a_client_that_has_finished_sending_has_a_response_in_a_short_time_or_none() -> Result {
    for method in ["GET", "PUT"] {
        let request = get("www.example").replace("GET", method);
        let request = match method {
            "PUT" => request.replace("Host", "Content-Length: 2\r\nHost") + "ab\r\n",
            _ => request,
        };
        // A body may still be on its way to the server.
        let time = match method {
            "PUT" => 60,
            _ => 10,
        };
        let world = World::new()?;
        let (client, server) = world.begin(&request)?;
        client.finish();
        world.advance((time - 1) * SECOND)?;
        assert!(!client.has_ended() && !server.has_ended(), "{method}");
        world.send(&server, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na")?;
        world.advance(9 * SECOND)?;
        world.send(&server, "bc")?;
        let response = text(&client);
        assert!(response.contains("\r\nConnection: close\r\n"));
        assert!(response.ends_with("\r\n\r\nabc"), "{response}");
        assert_eq!(client.ended(), Some(Ended::Finished), "{method}");

        let (client, server) = world.begin(&request)?;
        client.finish();
        world.advance((time + 1) * SECOND)?;
        assert!(server.has_ended(), "{method}");
        assert_eq!(status(&text(&client)), "504");
        world.advance(3 * SECOND)?; // The connection lingers.
        assert_eq!(world.network.sockets(), 1, "the listener");

        // In a response it is the same for both.
        let (client, server) = world.begin(&request)?;
        client.finish();
        world.send(&server, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na")?;
        world.advance(11 * SECOND)?;
        assert!(server.has_ended() && client.has_ended(), "{method}");
        world.advance(3 * SECOND)?;
    }
    // What the client is slow to read has the time that it has always.
    let world = World::new()?;
    let (client, server) = world.begin(get("www.example"))?;
    client.stop_reading();
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    server.send(vec![b'x'; 1_000_000]);
    world.settle()?;
    client.finish();
    let mut received = 0;
    for _ in 0..5 {
        world.advance(30 * SECOND)?;
        client.start_reading(250_000);
        world.settle()?;
        received += client.take_received().len();
    }
    assert!(received > 1_000_000, "{received}");
    assert_eq!(client.ended(), Some(Ended::Finished));
    Ok(())
}

/// What follows a request is looked at behind its response.
#[test]
fn a_request_that_is_refused_waits_for_the_response_to_the_one_before() -> Result {
    let long = format!("GET http://a/ HTTP/1.1\r\nX: {}", "x".repeat(40_000));
    for (second, refusal) in [
        ("GET http://www.example/ HTTP/1.1\nHost: a\n\n", "400"),
        (&long, "431"),
        ("\r\nTRACE http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "501"),
    ] {
        every_cut(&get("www.example"), second, |first, rest| {
            let world = World::new()?;
            let (client, server) = world.begin(first)?;
            world.send(&client, rest)?;
            assert_eq!(text(&client), "");
            world.send(&server, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")?;
            let replies = text(&client);
            assert_eq!(status(&replies), "200");
            let (_, next) = replies.split_once("abc").ok_or("the body")?;
            assert_eq!(status(next), refusal, "{second:.40}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The first request, with some of the second one, and the rest.
fn every_cut(first: &str, second: &str, mut check: impl FnMut(String, &str) -> Result) -> Result {
    for cut in (0..second.len().min(60)).chain([second.len()]) {
        check(first.to_owned() + &second[..cut], &second[cut..])?;
    }
    Ok(())
}

#[test]
fn a_shutdown_lets_requests_and_tunnels_finish_within_its_grace() -> Result {
    let world = World::new()?;
    let (waiting, waiting_server) = world.begin(get("www.example"))?;
    let (tunnel, tunnel_server) =
        world.begin("CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let (endless, _endless_server) = world.begin(socks("www.example", 80))?;
    let (idle, idle_server) = world.begin(get("www.example"))?;
    world.send(&idle_server, "HTTP/1.1 204 No\r\n\r\n")?;
    drop((idle.take_received(), tunnel.take_received()));
    world.event_loop.shutdown(30 * SECOND);
    world.settle()?;
    assert!(idle.has_ended() && idle_server.has_ended());
    world.send(
        &waiting_server,
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    )?;
    let response = text(&waiting);
    assert!(response.contains("\r\nConnection: close\r\n") && response.ends_with("\r\n\r\nabc"));
    assert_eq!(waiting.ended(), Some(Ended::Finished));
    world.send(&tunnel, "still")?;
    assert_eq!(text(&tunnel_server), "still");
    tunnel.finish();
    tunnel_server.finish();
    world.settle()?;
    assert_eq!(tunnel.ended(), Some(Ended::Finished));
    assert!(!endless.has_ended());
    world.advance(31 * SECOND)?;
    assert_eq!(endless.ended(), Some(Ended::Reset));
    assert_eq!(world.network.sockets(), 0);
    Ok(())
}

/// The loop makes no new connection then, so the reply is a 503. The client knows that the request was not forwarded.
#[test]
fn a_request_whose_head_has_begun_gets_its_reply_in_a_shutdown() -> Result {
    let world = World::new()?;
    let begun = world.client()?;
    world.send(&begun, "GET http://www.exam")?;
    let (kept, server) = world.begin(get("www.example"))?;
    world.send(&server, "HTTP/1.1 204 No\r\n\r\n")?;
    drop(kept.take_received());
    world.send(&kept, "OPTIONS ")?;
    // These empty lines are no request.
    let empty = world.client()?;
    world.send(&empty, "\r\n")?;
    world.event_loop.shutdown(30 * SECOND);
    world.settle()?;
    assert_eq!(empty.ended(), Some(Ended::Finished));
    assert!(!begun.has_ended() && !kept.has_ended());
    let rest = "http://www.example/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n";
    world.send(&begun, "ple/ HTTP/1.1\r\nHost: a\r\n\r\n")?;
    world.send(&kept, rest)?;
    for (client, expected) in [(&begun, "503"), (&kept, "200")] {
        let reply = text(client);
        assert_eq!(status(&reply), expected);
        assert!(reply.contains("\r\nConnection: close\r\n"), "{reply}");
        assert_eq!(client.ended(), Some(Ended::Finished));
    }
    Ok(())
}
