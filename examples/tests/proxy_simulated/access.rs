//! Where clients may go, and who may use the proxy.

use std::net::SocketAddr;

use asynchat::Result;
use asynchat::sim::{Ended, every_segmentation};

use crate::captured::{captured, warning_calls};
use crate::server::users::{Logins, Users};
use crate::world::{LISTEN, SECOND, World, get, socks, status, text, without_date};

/// The address that the client has connected to is one of the proxy's host, whose services are not for its clients.
#[test]
fn the_host_of_the_proxy_is_refused_unless_listed() -> Result {
    let requests = [
        get("self.example:9000").into_bytes(),
        get("192.0.2.1:9000").into_bytes(),
        b"CONNECT self.example:9000 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        socks("self.example", 9000),
    ];
    let world = World::new()?;
    let service = world.network.listen("192.0.2.1:9000")?;
    for request in &requests[..3] {
        assert_eq!(status(&world.outcome(request)?.0), "403");
    }
    let client = world.client()?;
    world.send(&client, &requests[3])?;
    assert_eq!(client.take_received()[..4], [5, 0, 5, 2]);
    assert!(service.accept().is_none());

    let listed = "192.0.2.1/32".parse()?;
    let world = World::with(|options| options.access.allow = vec![listed])?;
    let service = world.network.listen("192.0.2.1:9000")?;
    for request in &requests {
        world.outcome(request)?;
        assert!(service.accept().is_some());
    }
    Ok(())
}

/// A system that is out of descriptors, for example, must not open the way to the host. It is not the fault of the client.
#[test]
fn an_address_that_may_be_one_of_the_host_is_not_connected_to() -> Result {
    let world = World::with(|options| {
        options.access.is_own = |ip| (ip.to_string() != "1.1.1.1").then_some(false);
    })?;
    let service = world.network.listen("1.1.1.1:9000")?;
    for host in ["1.1.1.1", "[64:ff9b::101:101]"] {
        let client = world.client()?;
        world.send(
            &client,
            format!("CONNECT {host}:9000 HTTP/1.1\r\nHost: a\r\n\r\n"),
        )?;
        assert_eq!(status(&text(&client)), "503", "{host}");
        let (reply, _) = world.outcome(get(&format!("{host}:9000")))?;
        assert_eq!(status(&reply), "503", "{host}");
        let address = host.trim_matches(['[', ']']);
        let client = world.client()?;
        world.send(&client, socks(address, 9000))?;
        assert_eq!(client.take_received()[..4], [5, 0, 5, 1], "{host}");
        assert!(service.accept().is_none(), "{host}");
    }
    Ok(())
}

/// The reply does not show whether a port of the host is open, either: no connection is tried.
#[test]
fn an_address_of_the_host_is_refused_before_it_is_connected_to() -> Result {
    let world = World::with(|options| {
        options.access.is_own =
            |ip| Some(["1.1.1.1", "2a00::1"].contains(&ip.to_string().as_str()));
    })?;
    let services = [
        world.network.listen("1.1.1.1:9000")?,
        world.network.listen("[2a00::1]:9000")?,
    ];
    for host in [
        "1.1.1.1",
        "[::ffff:1.1.1.1]",
        "[2a00::1]",
        "[64:ff9b::101:101]",
    ] {
        let replies = ["9000", "9001"].map(|port| {
            let client = world.client()?;
            world.send(
                &client,
                format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: a\r\n\r\n"),
            )?;
            let connect = text(&client).replace(port, "");
            let (reply, _) = world.outcome(get(&format!("{host}:{port}")))?;
            let address = host.trim_matches(['[', ']']);
            let socks = world.outcome(socks(address, port.parse()?))?;
            let replies = [connect, reply, socks.0];
            Ok(replies.map(|it| without_date(&it).replace(port, "")))
        });
        let [open, closed]: [Result<[String; 3]>; 2] = replies;
        let (open, closed) = (open?, closed?);
        assert_eq!(status(&open[0]), "403", "{host}");
        assert_eq!(open, closed, "{host}");
        assert!(services.iter().all(|it| it.accept().is_none()), "{host}");
    }
    Ok(())
}

/// A name of an attacker has as many addresses as fit into a reply, none of which answers.
#[test]
fn few_addresses_of_a_name_are_tried() -> Result {
    let world = World::with(|options| options.connect = 60 * SECOND)?;
    for n in 100..200 {
        world.network.add_black_hole(([198, 51, 100, n], 80).into());
    }
    let client = world.client()?;
    world.send(&client, get("holes.example"))?;
    let mut most = 0;
    for _ in 0..59 {
        world.advance(SECOND)?;
        most = most.max(world.network.sockets());
    }
    // The listener, and the connection of the client.
    assert!((3..=2 + 8).contains(&most), "{most}");
    world.advance(10 * SECOND)?;
    assert_eq!(status(&text(&client)), "504");
    assert_eq!(world.network.sockets(), 2);
    Ok(())
}

#[test]
fn only_allowed_addresses_are_connected_to() -> Result {
    let hosts = [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00::1]",
        "[64:ff9b::7f00:1]",
        "rebind.example",
        "mapped.example",
        "zero.example",
        "metadata.example",
        "100.64.0.1",
        "255.255.255.255",
        "224.0.0.1",
    ];
    let world = World::new()?;
    let inside = world.network.listen("127.0.0.1:80")?;
    for host in hosts {
        assert_eq!(status(&world.outcome(get(host))?.0), "403", "{host}");
        let (reply, ended) = world.outcome(format!(
            "CONNECT {host}:80 HTTP/1.1\r\nHost: a\r\n\r\nearly"
        ))?;
        assert_eq!(status(&reply), "403", "{host}");
        assert_eq!(ended, Some(Ended::Finished), "{host}");
        let client = world.client()?;
        world.send(&client, socks(host.trim_matches(['[', ']']), 80))?;
        assert_eq!(client.take_received().get(3), Some(&2), "{host}");
    }
    assert!(inside.accept().is_none());
    let (reply, _) = world.outcome("CONNECT www.example:25 HTTP/1.1\r\nHost: a\r\n\r\n")?;
    assert_eq!(status(&reply), "403");

    // Of several addresses only the allowed ones are tried.
    world.begin("CONNECT mixed.example:80 HTTP/1.1\r\nHost: a\r\n\r\n")?;

    let loopback = vec!["127.0.0.0/8".parse()?];
    let world = World::with(|options| options.access.allow = loopback)?;
    let inside = world.network.listen("127.0.0.1:80")?;
    for host in [
        "localhost",
        "127.0.0.1",
        "[::ffff:127.0.0.1]",
        "mapped.example",
    ] {
        let client = world.client()?;
        world.send(&client, get(host))?;
        assert!(inside.accept().is_some(), "{host}");
    }
    assert_eq!(status(&world.outcome(get("10.0.0.1"))?.0), "403");
    Ok(())
}

/// The end of such a head would never come.
#[test]
fn lines_that_end_with_lf_are_refused_at_once() -> Result {
    let world = World::new()?;
    for request in [
        "GET http://www.example/ HTTP/1.1\nHost: a\n\n",
        "GET http://www.example/ HTTP/1.1\r\nHost: a\n\r\n",
        "CONNECT www.example:80 HTTP/1.1\n\n",
    ] {
        every_segmentation(request.as_bytes(), |pieces| {
            let client = world.client()?;
            for piece in pieces {
                world.send(&client, piece)?;
            }
            assert_eq!(status(&text(&client)), "400", "{request:?}");
            assert_eq!(client.ended(), Some(Ended::Finished));
            Ok(())
        })?;
    }
    assert!(world.is_untouched());
    Ok(())
}

/// `ann:secret`
pub(crate) fn ann() -> Logins {
    let mut users = Users::default();
    let added = users.add("ann:$2y$04$/80S5ZWgTBN7e27fyijNIupGmOrQ2r4vYGxi0ellEs2KCBaTTrRNi");
    added.unwrap();
    Logins::with_threads(users, 0)
}

#[test]
fn a_user_is_asked_for_a_password() -> Result {
    let world = World::with(|options| options.logins = ann())?;
    let with = |field: &str| format!("GET http://www.example/ HTTP/1.1\r\nHost: a\r\n{field}\r\n");
    for field in [
        "",
        "Proxy-Authorization: Basic YW5uOndyb25n\r\n",
        "Authorization: Basic YW5uOnNlY3JldA==\r\n",
    ] {
        let (reply, ended) = world.outcome(with(field))?;
        assert_eq!(status(&reply), "407");
        assert!(reply.contains("\r\nProxy-Authenticate: Basic realm="));
        assert_eq!(ended, None, "the client tries again on this connection");
    }
    assert_eq!(
        status(
            &world
                .outcome("CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n")?
                .0
        ),
        "407"
    );
    assert!(world.is_untouched());
    let (_client, server) = world.begin(with("Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n"))?;
    assert!(!text(&server).contains("uthorization"));

    let log_in = |password: &str| {
        let mut bytes = vec![5, 2, 0, 2, 1, 3];
        bytes.extend(b"ann");
        bytes.push(password.len() as u8);
        bytes.extend(password.as_bytes());
        bytes.extend(&socks("www.example", 80)[3..]);
        bytes
    };
    let client = world.client()?;
    world.send(&client, log_in("secret"))?;
    assert_eq!(client.take_received()[..6], [5, 2, 1, 0, 5, 0]);
    assert!(world.accept().is_ok());
    for (input, reply) in [
        (log_in("wrong"), vec![5, 2, 1, 1]),
        (log_in(""), vec![5, 2, 1, 1]),
        (vec![5, 1, 0], vec![5, 0xff]),
        (vec![5, 1, 2, 9, 1], vec![5, 2, 1, 1]),
    ] {
        let client = world.client()?;
        world.send(&client, input)?;
        assert_eq!(
            (client.take_received(), client.ended()),
            (reply, Some(Ended::Finished))
        );
    }
    every_segmentation(&log_in("secret"), |pieces| {
        let client = world.client()?;
        for piece in pieces {
            world.send(&client, piece)?;
        }
        assert_eq!(client.take_received()[..6], [5, 2, 1, 0, 5, 0]);
        Ok(())
    })
}

#[test]
fn a_client_above_the_limits_gets_a_503() -> Result {
    let world = World::with(|options| options.limits = options.limits.connections(1))?;
    let first = world.client()?;
    world.settle()?;
    let (reply, ended) = world.outcome(get("www.example"))?;
    assert_eq!((status(&reply), ended), ("503", Some(Ended::Finished)));
    assert!(reply.contains("\r\nConnection: close\r\n"), "{reply}");
    let (head, text) = reply.split_once("\r\n\r\n").ok_or("a body")?;
    let length = format!("\r\nContent-Length: {}\r\n", text.len());
    assert!(head.contains(&length), "{reply}");
    // The first one is not disturbed.
    world.send(&first, get("www.example"))?;
    assert!(!world.is_untouched());
    Ok(())
}

/// The first byte tells in which protocol. Only some wait for it, and not for long.
#[test]
fn a_client_above_the_limits_is_refused_in_its_protocol() -> Result {
    type Set = fn(asynchat::Limits) -> asynchat::Limits;
    let limits: [Set; 2] = [|it| it.connections(1), |it| it.per_address(1)];
    for limit in limits {
        let world = World::with(|options| options.limits = limit(options.limits))?;
        let first = world.client()?;
        world.settle()?;
        for (input, wanted) in [
            (socks("www.example", 80), &[5, 0xff][..]),
            (vec![4, 1, 0, 80, 0, 0, 0, 1, 0], &[0, 91, 0, 0, 0, 0, 0, 0]),
        ] {
            let client = world.client()?;
            world.send(&client, input)?;
            assert_eq!(client.take_received(), wanted);
            assert_eq!(client.ended(), Some(Ended::Finished));
        }
        let silent: Vec<_> = (0..100).map(|_| world.client()).collect::<Result<_>>()?;
        world.settle()?;
        let ended = || silent.iter().filter(|it| it.has_ended()).count();
        assert!((36..=84).contains(&ended()), "{}", ended());
        world.advance(3 * SECOND)?;
        assert_eq!(ended(), 100);
        assert!(silent.iter().all(|it| it.take_received().is_empty()));
        assert!(!first.has_ended());
        first.reset();
        world.settle()?;
        // Its place is free.
        world.begin(get("www.example"))?;
    }
    Ok(())
}

/// A log-in over SOCKS, and a request for a destination that is prohibited.
fn socks_log_in(password: &[u8; 6]) -> Vec<u8> {
    let log_in = [b"\x05\x01\x02\x01\x03ann\x06", &password[..]].concat();
    [&log_in, &socks("localhost", 80)[3..]].concat()
}

/// Whoever runs the proxy learns who has asked for what, and the client reads which destination is meant.
#[test]
fn a_refusal_names_the_destination_and_the_user() -> Result {
    let field = "Proxy-Authorization: Basic YW5uOnNlY3JldA==";
    let why = "the proxy does not allow this destination";
    let why_port = "the proxy does not allow this port";
    // Only the log names the address, and the option that permits it.
    let rule = "127.0.0.1 is not public: --allow 127.0.0.1 permits it";
    let port = "port 25 is refused unless it is in --port";
    let wrong = "the name or the password is wrong";
    let cases = [
        (
            format!("GET http://localhost/ HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").into_bytes(),
            format!("localhost:80: {why} to ann\r\n"),
            format!("WARN GET http://localhost:80: 403 {rule} user=\"ann\""),
        ),
        (
            format!("GET http://localhost:25/ HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").into_bytes(),
            format!("localhost:25: {why_port} to ann\r\n"),
            format!("WARN GET http://localhost:25: 403 {port} user=\"ann\""),
        ),
        (
            format!("CONNECT localhost:80 HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").into_bytes(),
            format!("localhost:80: {why} to ann\r\n"),
            format!("WARN CONNECT localhost:80: 403 {rule} user=\"ann\""),
        ),
        (
            socks_log_in(b"secret"),
            String::new(),
            format!("WARN SOCKS: {rule} user=\"ann\" to=localhost:80"),
        ),
        (
            b"GET http://www.example/ HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic YW5uOndyb25n\r\n\r\n".to_vec(),
            format!("{wrong}\r\n"),
            format!("INFO GET: 407 {wrong}"),
        ),
        (
            socks_log_in(b"wrong!"),
            String::new(),
            format!("INFO SOCKS: {wrong}"),
        ),
        // Each client asks so first.
        (
            get("www.example").into_bytes(),
            "this proxy needs a name and a password\r\n".to_owned(),
            "INFO GET: 407 this proxy needs a name and a password".to_owned(),
        ),
    ];
    let world = World::with(|options| options.logins = ann())?;
    for (input, text, line) in cases {
        let mut received = String::new();
        let log = captured(|| {
            received = world.outcome(&input)?.0;
            Ok(())
        })?;
        assert!(received.ends_with(&text), "{received}");
        assert!(log.lines().any(|it| it == line), "{line}\n{log}");
    }
    // The user of a request is not the user of the next one, which has no password.
    let client = world.client()?;
    let log = captured(|| {
        let right = format!("TRACE http://a/ HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        world.send(&client, right + &get("www.example"))
    })?;
    assert_eq!(
        log.lines().map(|it| it.contains("ann")).collect::<Vec<_>>(),
        [true, false],
        "{log}"
    );
    // A 403 of the server is forwarded, and is no refusal of the proxy.
    let log = captured(|| {
        let input = get("www.example").replace("Host", &format!("{field}\r\nHost"));
        let (_client, server) = world.begin(input)?;
        world.send(&server, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
    })?;
    assert!(
        log.contains("INFO GET http://www.example:80: 403 user=\"ann\""),
        "{log}"
    );
    assert!(!log.contains("WARN"), "{log}");
    Ok(())
}

/// A client that needs no answer could otherwise keep the proxy and its log busy on one connection.
#[test]
fn replies_of_the_proxy_in_a_row_end_the_connection() -> Result {
    let world = World::with(|options| options.logins = ann())?;
    let right = get("www.example").replace(
        "Host",
        "Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\nHost",
    );
    let client = world.client()?;
    let replies = |count| -> Result<usize> {
        world.send(&client, get("www.example").repeat(count))?;
        Ok(text(&client).matches("HTTP/1.1 407 ").count())
    };
    assert_eq!(replies(31)?, 31);
    // A response of a server begins a new row.
    world.send(&client, right)?;
    let server = world.accept()?;
    world.send(&server, "HTTP/1.1 204 No\r\n\r\n")?;
    assert_eq!(status(&text(&client)), "204");
    assert_eq!(replies(31)?, 31);
    assert_eq!(client.ended(), None);
    assert_eq!(replies(1000)?, 1);
    assert_eq!(client.ended(), Some(Ended::Finished));
    Ok(())
}

/// fail2ban reads the line, which is the same as that of `files`. A name cannot pretend to be another line.
#[test]
fn a_wrong_password_is_logged_with_the_address_and_the_escaped_name() -> Result {
    let world = World::with(|options| options.logins = ann())?;
    let line = |name: &str| format!("WARN wrong password peer=127.0.0.1 user={name}\n");
    // `a"`, a line feed and `b`; and a name of 18 KB, of which 255 bytes are logged.
    let (long, zeros) = ("AAAA".repeat(6 * 1024), "\\0".repeat(255));
    for (credentials, name) in [
        ("YSIKYjp4", "\"a\\\"\\nb\""),
        (&(long + "OmFh"), &format!("\"{zeros}\"")),
    ] {
        let field = format!("Proxy-Authorization: Basic {credentials}");
        let input = get("www.example").replace("Host", &format!("{field}\r\nHost"));
        let log = captured(|| {
            assert_eq!(status(&world.outcome(&input)?.0), "407");
            Ok(())
        })?;
        let refused = "INFO GET: 407 the name or the password is wrong\n";
        assert_eq!(log, line(name) + refused);
    }
    let log = captured(|| {
        let client = world.client()?;
        world.send(&client, b"\x05\x01\x02\x01\x05typed\x01x")
    })?;
    let refused = "INFO SOCKS: the name or the password is wrong\n";
    assert_eq!(log, line("\"typed\"") + refused);
    Ok(())
}

/// Ten warnings of each call are logged in a second.
#[test]
fn prohibited_destinations_do_not_suppress_wrong_passwords() -> Result {
    let world = World::with(|options| options.logins = ann())?;
    let right = "Proxy-Authorization: Basic YW5uOnNlY3JldA==";
    let wrong = "Proxy-Authorization: Basic YW5uOndyb25n";
    let request = |field: &str| get("localhost").replace("Host", &format!("{field}\r\nHost"));
    for inputs in [
        [request(right).into_bytes(), request(wrong).into_bytes()],
        [socks_log_in(b"secret"), socks_log_in(b"wrong!")],
    ] {
        let calls = warning_calls(|| {
            for input in inputs {
                world.outcome(input)?;
            }
            Ok(())
        })?;
        assert_eq!(calls.len(), 2);
        assert_ne!(calls[0], calls[1]);
    }
    Ok(())
}

/// HTTP and SOCKS count together, over any number of connections.
#[test]
fn an_address_that_guesses_passwords_is_not_served_for_a_while() -> Result {
    let world = World::with(|options| options.logins = ann())?;
    let ask = |from: &str, input: &[u8]| -> Result<Vec<u8>> {
        let from = from.parse::<SocketAddr>()?;
        let client = world.network.connect_from(from, LISTEN)?;
        world.send(&client, input)?;
        Ok(client.take_received())
    };
    let http = |from: &str, credentials: &str| -> Result<String> {
        let field = format!("Proxy-Authorization: Basic {credentials}");
        let head = format!("CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        Ok(String::from_utf8(ask(from, head.as_bytes())?)?)
    };
    let socks = |from: &str, password: &[u8; 6]| -> Result<u8> {
        let log_in = [b"\x05\x01\x02\x01\x03ann\x06", &password[..]].concat();
        Ok(ask(from, &log_in)?[3])
    };
    let (guesser, other) = ("192.0.2.7:0", "192.0.2.8:0");
    let (right, wrong) = ("YW5uOnNlY3JldA==", "YW5uOndyb25n");
    let both = |from: &str, credentials: &str, password: &[u8; 6]| -> Result<(String, u8)> {
        let reply = http(from, credentials)?;
        Ok((status(&reply).to_owned(), socks(from, password)?))
    };
    let served = ("200".to_owned(), 0);
    assert_eq!(both(guesser, right, b"secret")?, served);
    for _ in 0..5 {
        assert_eq!(both(guesser, wrong, b"wrong!")?, ("407".to_owned(), 1));
    }
    world.advance(10 * SECOND)?;
    assert_eq!(both(guesser, right, b"secret")?, ("429".to_owned(), 1));
    let reply = http(guesser, right)?;
    assert!(reply.contains("\r\nRetry-After: 21\r\n"), "{reply}");
    assert!(
        reply.contains("your address: try again in 21 seconds\r\n"),
        "{reply}"
    );
    assert_eq!(both(other, right, b"secret")?, served);
    world.advance(21 * SECOND)?;
    assert_eq!(both(guesser, right, b"secret")?, served);
    Ok(())
}
