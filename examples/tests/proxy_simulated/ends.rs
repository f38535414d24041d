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
