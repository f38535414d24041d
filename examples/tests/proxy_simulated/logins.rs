//! What happens while a password is checked.

use asynchat::Result;
use asynchat::sim::{Ended, Peer};

use crate::gate::{Gate, gated};
use crate::world::{SECOND, World, get, socks, status, text};

const ANN: &str = "Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n";

fn gated_world() -> Result<(World, Gate)> {
    let (logins, gate) = gated();
    let world = World::with(|options| options.logins = logins)?;
    Ok((world, gate))
}

fn head(method: &str) -> String {
    format!("{method} http://www.example/ HTTP/1.1\r\nHost: a\r\n{ANN}")
}

fn connect() -> String {
    format!("CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n{ANN}\r\n")
}

/// The greeting and the log-in, and what follows them.
fn socks_log_in(rest: &[u8]) -> Vec<u8> {
    [b"\x05\x01\x02\x01\x03ann\x06secret", rest].concat()
}

/// Each of the ways to log in, with a request for the same destination.
fn openings() -> [Vec<u8>; 3] {
    [
        (head("GET") + "\r\n").into_bytes(),
        connect().into_bytes(),
        socks_log_in(&socks("www.example", 80)[3..]),
    ]
}

/// A client that has sent this, up to a check of its password.
fn waiting(world: &World, input: &[u8]) -> Result<Peer> {
    let client = world.client()?;
    world.send(&client, input)?;
    assert!(world.is_untouched());
    Ok(client)
}

/// The body and the next request wait while the password is checked.
#[test]
fn a_request_is_whole_after_its_password_was_checked() -> Result {
    let input = head("PUT") + "Content-Length: 3\r\n\r\nabc" + &head("GET") + "\r\n";
    for cut in 0..input.len() {
        let (world, gate) = gated_world()?;
        let client = waiting(&world, &input.as_bytes()[..cut])?;
        client.send(&input[cut..]);
        world.settle()?;
        assert!(world.is_untouched());
        gate.open()?;
        world.settle()?;
        let server = world.accept()?;
        world.settle()?;
        let first = text(&server);
        assert!(
            first.starts_with("PUT / ") && first.ends_with("\r\n\r\nabc"),
            "{first}"
        );
        world.send(&server, "HTTP/1.1 204 No Content\r\n\r\n")?;
        assert!(text(&server).starts_with("GET / "), "{cut}");
        assert_eq!(status(&text(&client)), "204");
    }
    Ok(())
}

/// The request of SOCKS may come before the reply to the log-in, and so may the first bytes for the server.
#[test]
fn early_bytes_of_socks_wait_for_the_check() -> Result {
    let (world, gate) = gated_world()?;
    let rest = [&socks("www.example", 80)[3..], b"early"].concat();
    let client = waiting(&world, &socks_log_in(&rest))?;
    assert_eq!(client.take_received(), [5, 2]);
    gate.open()?;
    world.settle()?;
    let server = world.accept()?;
    world.settle()?;
    assert_eq!(client.take_received()[..4], [1, 0, 5, 0]);
    assert_eq!(text(&server), "early");
    Ok(())
}

/// The reply says that it is the last one, and the request is not served when the check ends later.
#[test]
fn a_password_that_waits_too_long_gets_a_503() -> Result {
    for method in ["GET", "HEAD"] {
        let (world, gate) = gated_world()?;
        let input = head(method) + "\r\n" + &get("www.example");
        let client = waiting(&world, input.as_bytes())?;
        world.advance(61 * SECOND)?;
        let reply = text(&client);
        assert_eq!(status(&reply), "503");
        assert!(reply.contains("\r\nConnection: close\r\n"), "{reply}");
        assert_eq!(reply.ends_with("\r\n\r\n"), method == "HEAD", "{reply}");
        assert_eq!(client.ended(), Some(Ended::Finished));
        gate.open()?;
        world.settle()?;
        assert!(world.is_untouched() && client.take_received().is_empty());
    }
    let (world, gate) = gated_world()?;
    let client = waiting(&world, &openings()[2])?;
    world.advance(61 * SECOND)?;
    assert_eq!(client.take_received(), [5, 2, 1, 1]);
    assert_eq!(client.ended(), Some(Ended::Finished));
    gate.open()?;
    world.settle()?;
    assert!(world.is_untouched());
    Ok(())
}

/// The session is open while its last reply is sent.
#[test]
fn a_check_that_ends_after_its_503_has_no_effect() -> Result {
    for input in openings() {
        let (world, gate) = gated_world()?;
        let client = world.client()?;
        client.stop_reading();
        world.send(&client, input)?;
        world.advance(61 * SECOND)?;
        assert!(!client.has_ended());
        gate.open()?;
        world.settle()?;
        assert!(world.is_untouched());
        client.start_reading(usize::MAX);
        world.settle()?;
        assert!(client.has_ended());
    }
    Ok(())
}

/// HTTP: the request gets its reply, which is the last one. SOCKS: the request has not begun.
#[test]
fn a_shutdown_during_a_check_drops_no_reply() -> Result {
    // The loop begins no connection any more.
    for input in &openings()[..2] {
        let (world, gate) = gated_world()?;
        let client = waiting(&world, input)?;
        world.event_loop.shutdown(30 * SECOND);
        world.settle()?;
        assert!(!client.has_ended());
        gate.open()?;
        world.settle()?;
        let reply = text(&client);
        assert_eq!(status(&reply), "503");
        assert!(reply.contains("\r\nConnection: close\r\n"), "{reply}");
        assert_eq!(client.ended(), Some(Ended::Finished));
        assert!(world.is_untouched());
    }
    let (world, gate) = gated_world()?;
    let refused = head("TRACE") + "\r\n";
    let client = waiting(&world, refused.as_bytes())?;
    world.event_loop.shutdown(30 * SECOND);
    gate.open()?;
    world.settle()?;
    let reply = text(&client);
    assert_eq!(status(&reply), "501");
    assert!(reply.contains("\r\nConnection: close\r\n"), "{reply}");
    assert_eq!(client.ended(), Some(Ended::Finished));

    let (world, gate) = gated_world()?;
    let client = world.client()?;
    client.stop_reading();
    world.send(&client, &openings()[2])?;
    world.event_loop.shutdown(30 * SECOND);
    world.settle()?;
    gate.open()?;
    world.settle()?;
    client.start_reading(usize::MAX);
    world.settle()?;
    assert!(world.is_untouched());
    assert_eq!(client.take_received(), [5, 2]);
    assert!(client.has_ended());
    Ok(())
}

#[test]
fn a_client_that_leaves_during_a_check_is_not_served() -> Result {
    for input in openings() {
        let (world, gate) = gated_world()?;
        let client = waiting(&world, &input)?;
        client.reset();
        world.settle()?;
        assert_eq!(world.network.sockets(), 1, "the listener");
        gate.open()?;
        world.settle()?;
        assert!(world.is_untouched());
        assert_eq!(world.network.sockets(), 1, "the listener");
    }
    Ok(())
}
