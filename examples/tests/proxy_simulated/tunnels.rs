//! CONNECT and SOCKS: tunnels, half-closes and refusals.

use asynchat::Result;
use asynchat::sim::{Ended, every_segmentation};

use crate::world::{ESTABLISHED, SECOND, World, socks, text};

#[test]
fn connect_opens_a_tunnel_in_every_segmentation() -> Result {
    let input =
        b"CONNECT www.example:80 HTTP/1.1\r\nHost: www.example:80\r\nX: y\r\n\r\nearly bytes";
    every_segmentation(input, |pieces| {
        let world = World::new()?;
        let client = world.client()?;
        for piece in pieces {
            world.send(&client, piece)?;
        }
        let server = world.accept()?;
        assert_eq!(text(&client), ESTABLISHED);
        assert_eq!(text(&server), "early bytes");
        world.send(&server, "an answer")?;
        assert_eq!(text(&client), "an answer");
        Ok(())
    })
}

#[test]
fn socks_opens_a_tunnel_in_every_segmentation() -> Result {
    let mut v4 = vec![5, 2, 0, 2, 5, 1, 0, 1, 192, 0, 2, 80, 0, 80];
    v4.extend(b"early");
    let mut name = socks("www.example", 80);
    name.extend(b"early");
    for input in [v4, name] {
        every_segmentation(&input, |pieces| {
            let world = World::new()?;
            let client = world.client()?;
            for piece in pieces {
                world.send(&client, piece)?;
            }
            let server = world.accept()?;
            let received = client.take_received();
            assert_eq!(received[..6], [5, 0, 5, 0, 0, 1]);
            assert_eq!(received.len(), 2 + 10);
            assert_eq!(text(&server), "early");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn socks_reaches_an_ipv6_address_in_either_form() -> Result {
    let mut address = vec![5, 1, 0, 5, 1, 0, 4];
    address.extend("2001:db8::80".parse::<std::net::Ipv6Addr>()?.octets());
    address.extend(80u16.to_be_bytes());
    for input in [address, socks("2001:db8::80", 80), socks("six.example", 80)] {
        let world = World::new()?;
        let origin = world.network.listen("[2001:db8::80]:80")?;
        let (client, _) = (world.client()?, world.settle()?);
        world.send(&client, input)?;
        assert!(origin.accept().is_some());
        let received = client.take_received();
        assert_eq!(received[..6], [5, 0, 5, 0, 0, 4]);
        assert_eq!(received.len(), 2 + 22);
    }
    Ok(())
}

#[test]
fn half_closes_are_kept_in_both_directions() -> Result {
    let connect = b"CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    for opening in [connect, socks("www.example", 80)] {
        for client_first in [true, false] {
            let world = World::new()?;
            let (client, server) = world.begin(&opening)?;
            drop(client.take_received());
            let (first, second) = if client_first {
                (&client, &server)
            } else {
                (&server, &client)
            };
            first.send("the first half");
            first.finish();
            world.settle()?;
            assert_eq!(second.ended(), Some(Ended::Finished));
            assert_eq!(text(second), "the first half");
            assert_eq!(first.ended(), None);
            second.send("the second half");
            second.finish();
            world.settle()?;
            assert_eq!(text(first), "the second half");
            assert_eq!(first.ended(), Some(Ended::Finished));
            assert_eq!(world.network.sockets(), 1, "the listener");
        }
    }
    Ok(())
}

/// The proxy cannot tell whether a peer that has finished sending still receives. If nothing happens for two minutes, it
/// is taken to be gone. A server that never closes would occupy the proxy for an hour otherwise.
#[test]
fn a_half_closed_tunnel_ends_unless_it_makes_progress() -> Result {
    let connect = b"CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    for opening in [connect, socks("www.example", 80)] {
        for client_first in [true, false] {
            let world = World::new()?;
            let (client, server) = world.begin(&opening)?;
            drop(client.take_received());
            let (first, second) = if client_first {
                (&client, &server)
            } else {
                (&server, &client)
            };
            // A tunnel that is open on both ends may be silent for longer.
            world.advance(600 * SECOND)?;
            first.finish();
            world.settle()?;
            assert_eq!(second.ended(), Some(Ended::Finished));
            // A long answer.
            for _ in 0..20 {
                world.advance(90 * SECOND)?;
                world.send(second, "more")?;
                assert_eq!(text(first), "more");
            }
            world.advance(119 * SECOND)?;
            assert_eq!(first.ended(), None);
            // With the time that a closed connection waits for its peer.
            world.advance(5 * SECOND)?;
            assert!(first.ended().is_some() && second.ended().is_some());
            assert_eq!(world.network.sockets(), 1, "the listener");
        }
    }
    Ok(())
}

/// Some protocols wait for a long answer.
#[test]
fn the_time_of_a_half_closed_tunnel_can_be_raised() -> Result {
    let world = World::with(|options| options.half_closed_idle = 1000 * SECOND)?;
    let connect = b"CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n";
    let (client, server) = world.begin(connect)?;
    client.finish();
    world.settle()?;
    world.advance(999 * SECOND)?;
    assert_eq!(client.ended(), None);
    world.advance(5 * SECOND)?;
    assert!(client.ended().is_some() && server.ended().is_some());
    Ok(())
}

/// A client may finish sending before the tunnel is open.
#[test]
fn an_early_half_close_reaches_the_server() -> Result {
    let world = World::new()?;
    let client = world.client()?;
    client.send("CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\nquestion");
    client.finish();
    world.settle()?;
    let server = world.accept()?;
    assert_eq!(
        (text(&server).as_str(), server.ended()),
        ("question", Some(Ended::Finished))
    );
    world.send(&server, "answer")?;
    assert_eq!(text(&client), format!("{ESTABLISHED}answer"));
    assert_eq!(client.ended(), None);
    Ok(())
}

#[test]
fn a_reset_is_passed_on() -> Result {
    let world = World::new()?;
    let (client, server) = world.begin(socks("www.example", 80))?;
    server.reset();
    world.settle()?;
    assert_eq!(client.ended(), Some(Ended::Reset));
    Ok(())
}

#[test]
fn socks_refuses_in_its_own_words() -> Result {
    let world = World::new()?;
    for (input, reply) in [
        // No acceptable method.
        (vec![5, 1, 2], vec![5, 0xff]),
        (vec![5, 0], vec![5, 0xff]),
        // BIND, UDP ASSOCIATE, an unknown type of address, another version.
        (
            vec![5, 1, 0, 5, 2, 0, 1],
            vec![5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0],
        ),
        (
            vec![5, 1, 0, 5, 3, 0, 1],
            vec![5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0],
        ),
        (
            vec![5, 1, 0, 5, 1, 0, 9],
            vec![5, 0, 5, 8, 0, 1, 0, 0, 0, 0, 0, 0],
        ),
        (
            vec![5, 1, 0, 4, 1, 0, 1],
            vec![5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0],
        ),
        // SOCKS 4.
        (
            vec![4, 1, 0, 80, 192, 0, 2, 80, 0],
            vec![0, 91, 0, 0, 0, 0, 0, 0],
        ),
    ] {
        let client = world.client()?;
        world.send(&client, &input)?;
        assert_eq!(client.take_received(), reply, "{input:?}");
        assert_eq!(client.ended(), Some(Ended::Finished), "{input:?}");
    }
    for (name, port, reply) in [
        ("localhost", 80, 2),
        ("www.example", 25, 2),
        ("nowhere.example", 80, 4),
        ("not a name", 80, 4),
        ("", 80, 4),
        ("down.example", 80, 5),
    ] {
        let client = world.client()?;
        world.send(&client, socks(name, port))?;
        assert_eq!(
            client.take_received(),
            [5, 0, 5, reply, 0, 1, 0, 0, 0, 0, 0, 0],
            "{name}"
        );
        assert_eq!(client.ended(), Some(Ended::Finished), "{name}");
    }
    assert!(world.is_untouched());
    Ok(())
}
