//! Data connections in all four ways, from strangers (RFC 2577), and too late.

#[cfg(any(target_os = "linux", target_os = "android"))]
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use asynchat::Result;
#[cfg(any(target_os = "linux", target_os = "android"))]
use asynchat::sim::Call;
use asynchat::sim::{Network, Peer};

use crate::folder::Folder;
use crate::ftp::{Options, Service};
use crate::scene::Scene;
use crate::site::{ADDR, CLIENT, STRANGER, Site, codes_of, extended, options, passive};
use crate::tree::Tree;

#[test]
fn a_transfer_begins_whatever_comes_first() -> Result {
    let site = Site::ann()?;
    assert_eq!(site.download("RETR a.txt")?, "hello\nworld\n");

    let port = site.passive_port()?;
    site.expect("RETR a.txt", "150")?;
    let data = site.connect(CLIENT, port)?;
    assert_eq!(data.received(), b"hello\nworld\n");
    assert_eq!(codes_of(&site.replies()?), "226");

    let data = site.connect(CLIENT, passive(&site.command("PASV")?))?;
    site.expect("RETR a.txt", "150 226")?;
    assert_eq!(data.received(), b"hello\nworld\n");
    site.expect("RETR a.txt", "425")
}

#[test]
fn the_server_connects_to_the_client() -> Result {
    let site = Site::ann()?;
    let client = site.network.listen("192.0.2.7:5001")?;
    for command in ["PORT 192,0,2,7,19,137", "EPRT |1|192.0.2.7|5001|"] {
        site.expect(command, "200")?;
        site.expect("RETR a.txt", "150 226")?;
        let data = client.accept().unwrap();
        assert_eq!(data.received(), b"hello\nworld\n");
        assert_eq!(data.peer_addr().ip(), ADDR.parse::<SocketAddr>()?.ip());

        site.expect(command, "200")?;
        site.expect("STOR new", "150")?;
        let data = client.accept().unwrap();
        data.send("content");
        data.finish();
        assert_eq!(codes_of(&site.replies()?), "226");
        assert_eq!(site.dir.read("new").unwrap(), b"content");
    }
    // Nobody listens.
    site.expect("PORT 192,0,2,7,19,138", "200")?;
    site.expect("RETR a.txt", "150 425")?;
    // Nobody answers.
    site.network.add_black_hole("192.0.2.7:5003".parse()?);
    site.expect("PORT 192,0,2,7,19,139", "200")?;
    site.expect("RETR a.txt", "150")?;
    site.advance(Duration::from_secs(61))?;
    assert_eq!(codes_of(&site.replies()?), "425");
    site.expect("RETR a.txt", "425")
}

/// RFC 2577, CVE-1999-0017.
#[test]
fn the_server_connects_to_nobody_else() -> Result {
    let site = Site::ann()?;
    let stranger = site.network.listen("192.0.2.8:5001")?;
    let service = site.network.listen("192.0.2.7:25")?;
    let own = site.network.listen("127.0.0.1:5001")?;
    for command in [
        "PORT 192,0,2,8,19,137",
        "PORT 127,0,0,1,19,137",
        "PORT 192,0,2,1,19,137",
        "PORT 0,0,0,0,19,137",
        "PORT 192,0,2,7,0,25",
        "PORT 192,0,2,7,3,255",
        "PORT 192,0,2,7,0,0",
        "EPRT |1|192.0.2.8|5001|",
        "EPRT |1|192.0.2.7|25|",
        "EPRT |1|127.0.0.1|5001|",
        "EPRT |2|::1|5001|",
        "EPRT |2|::ffff:192.0.2.8|5001|",
    ] {
        // What was set before does not hold either.
        site.expect("PORT 192,0,2,7,19,137", "200")?;
        site.expect(command, "504")?;
        site.expect("LIST", "425")?;
    }
    for listener in [&stranger, &service, &own] {
        assert!(listener.accept().is_none());
    }
    Ok(())
}

/// A service of the server's host that trusts its own address must not be reached, for example through another proxy.
#[test]
fn the_server_connects_to_its_own_address_only_on_loopback() -> Result {
    for (host, argument, code) in [
        ("192.0.2.1", "192,0,2,1", "504"),
        ("127.0.0.1", "127,0,0,1", "200"),
    ] {
        let site = Site::at(options(), &format!("{host}:21"), &format!("{host}:0"))?;
        let service = site.network.listen(format!("{host}:5001"))?;
        site.expect("USER ann", "331")?;
        site.expect("PASS secret", "230")?;
        for command in [
            format!("PORT {argument},19,137"),
            format!("EPRT |1|{host}|5001|"),
        ] {
            site.expect(&command, code)?;
            let codes = if code == "200" { "150 226" } else { "425" };
            site.expect("LIST", codes)?;
            assert_eq!(service.accept().is_some(), code == "200");
        }
    }
    Ok(())
}

/// A file with FTP commands, sent to the port for commands, would make the server send it to itself for ever.
#[test]
fn on_loopback_the_server_does_not_connect_to_itself() -> Result {
    let options = Options {
        ports: Some(50_000..=50_001),
        other_ports: vec![8080],
        ..options()
    };
    let site = Site::at(options, "127.0.0.1:2121", "127.0.0.1:0")?;
    site.dir.store(
        "again",
        b"USER ftp\r\nPASS x\r\nTYPE I\r\nPORT 127,0,0,1,8,73\r\nRETR again\r\n",
    )?;
    let web = site.network.listen("127.0.0.1:8080")?;
    let client = site.network.listen("127.0.0.1:5001")?;
    site.expect("USER ann", "331")?;
    site.expect("PASS secret", "230")?;
    let accepted = site.event_loop.stats().accepted;
    for command in [
        "PORT 127,0,0,1,8,73",
        "EPRT |1|127.0.0.1|2121|",
        "PORT 127,0,0,1,31,144",
        "EPRT |1|127.0.0.1|8080|",
    ] {
        site.expect(command, "504")?;
        site.expect("RETR again", "425")?;
    }
    assert!(web.accept().is_none());
    // A port that is open for the data connection of another session, also if it was opened later.
    let other = site.network.connect("127.0.0.1:2121")?;
    site.ask(&other, "USER ann\r\nPASS secret\r\n")?;
    site.expect("PORT 127,0,0,1,195,80", "200")?;
    site.expect("PORT 127,0,0,1,195,81", "200")?;
    let port = extended(&site.ask(&other, "EPSV\r\n")?).port();
    site.expect(&format!("EPRT |1|127.0.0.1|{port}|"), "504")?;
    site.ask(&other, "ABOR\r\n")?;
    site.expect(&format!("EPRT |1|127.0.0.1|{port}|"), "200")?;
    while extended(&site.ask(&other, "EPSV\r\n")?).port() != port {}
    site.expect("RETR again", "504")?;
    assert_eq!(site.event_loop.stats().accepted, accepted + 1);
    // Any other port is that of a client.
    site.expect("EPRT |1|127.0.0.1|5001|", "200")?;
    site.expect("RETR again", "150 226")?;
    assert!(client.accept().is_some());
    Ok(())
}

#[test]
fn active_mode_can_be_turned_off() -> Result {
    let site = Site::ann_with(Options {
        passive_only: true,
        ..options()
    })?;
    let data = site.data()?;
    for command in ["PORT 192,0,2,7,19,137", "EPRT |1|192.0.2.7|5001|"] {
        site.expect(command, "502")?;
    }
    // What there was stays.
    site.expect("RETR a.txt", "150 226")?;
    assert_eq!(data.received(), b"hello\nworld\n");
    Ok(())
}

#[test]
fn a_stranger_gets_no_data_connection() -> Result {
    let site = Site::ann()?;
    let port = site.passive_port()?;
    let stranger = site.connect(STRANGER, port)?;
    site.expect("RETR a.txt", "150")?;
    assert!(stranger.has_ended() && stranger.received().is_empty());
    // The client itself can still connect.
    let data = site.connect(CLIENT, port)?;
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(data.received(), b"hello\nworld\n");

    let port = site.passive_port()?;
    site.expect("STOR stolen", "150")?;
    let stranger = site.connect(STRANGER, port)?;
    stranger.send("a virus");
    stranger.finish();
    site.settle()?;
    site.advance(Duration::from_secs(61))?;
    assert_eq!(codes_of(&site.replies()?), "425");
    assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    // The port is closed, and one that is not used closes as well.
    assert!(site.connect(CLIENT, port)?.has_ended());
    let port = site.passive_port()?;
    site.advance(Duration::from_secs(61))?;
    assert!(site.connect(CLIENT, port)?.has_ended());
    site.expect("LIST", "425")
}

#[test]
fn a_connection_that_comes_too_late_is_refused() -> Result {
    // The loop learns in one turn, in any order, of the connection and of the command that opens another port.
    let site = Site::ann()?;
    let conditions = site.network.conditions();
    site.network.set_conditions(conditions.shuffled(true));
    for _ in 0..30 {
        let port = site.passive_port()?;
        let from = CLIENT.parse::<SocketAddr>()?;
        let late = site.network.connect_from(from, port)?;
        site.control.send("EPSV\r\nRETR a.txt\r\n");
        let replies = site.replies()?;
        assert_eq!(codes_of(&replies), "229 150");
        assert!(late.has_ended() && late.received().is_empty());
        let data = site.connect(CLIENT, extended(replies.lines().next().unwrap()))?;
        assert_eq!(codes_of(&site.replies()?), "226");
        assert_eq!(data.received(), b"hello\nworld\n");
    }
    Ok(())
}

#[test]
fn passive_ports_are_in_the_range() -> Result {
    let site = Site::ann_with(Options {
        ports: Some(50_000..=50_002),
        address: Some("203.0.113.9".parse()?),
        ..options()
    })?;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let addr = passive(&site.command("PASV")?);
        assert_eq!(addr.ip().to_string(), "203.0.113.9");
        seen.insert(addr.port());
    }
    assert!(seen.iter().eq(&[50_000, 50_001, 50_002]), "{seen:?}");
    site.expect("ABOR", "226")?;
    // Ports that others use are skipped. When there is none left, the client learns it.
    let taken = site.network.listen("192.0.2.1:50000")?;
    let taken_too = site.network.listen("192.0.2.1:50002")?;
    assert_eq!(site.passive_port()?.port(), 50_001);
    site.expect("ABOR", "226")?;
    let last = site.network.listen("192.0.2.1:50001")?;
    site.expect("EPSV", "425")?;
    drop((taken, taken_too, last));
    Ok(())
}

/// RFC 2577 section 4. The state of a fast generator can be computed from the ports that it has chosen.
#[test]
fn the_next_passive_port_is_not_predictable() -> Result {
    let site = Site::ann_with(Options {
        ports: Some(50_000..=50_999),
        ..options()
    })?;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10 {
        fastrand::seed(1);
        seen.insert(site.passive_port()?.port());
    }
    assert!(seen.len() > 1, "{seen:?}");
    Ok(())
}

/// The system would look for a free port, which takes long if many are in use. In this network it would take the next one.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn without_a_range_a_dynamic_port_is_drawn() -> Result {
    let site = Site::ann()?;
    let mut ports = vec![];
    for _ in 0..10 {
        ports.push(site.passive_port()?.port());
    }
    assert!(
        ports.iter().all(|port| (49_152..61_000).contains(port)),
        "{ports:?}"
    );
    assert!(
        ports.windows(2).any(|it| it[0].wrapping_add(1) != it[1]),
        "{ports:?}"
    );
    // The system chooses when 16 ports are in use.
    let fail =
        |calls| (0..calls).for_each(|_| site.network.fail(Call::Listen, ErrorKind::AddrInUse));
    fail(16);
    let port = site.passive_port()?;
    let data = site.connect(CLIENT, port)?;
    site.expect("RETR a.txt", "150 226")?;
    assert_eq!(data.received(), b"hello\nworld\n");
    fail(17);
    site.expect("EPSV", "425")
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn the_server_connects_from_a_dynamic_port() -> Result {
    let site = Site::ann()?;
    let client = site.network.listen("192.0.2.7:5001")?;
    let fail = |calls, kind: ErrorKind| {
        (0..calls).for_each(|_| site.network.fail(Call::Connect, kind));
    };
    let mut ports = vec![];
    for _ in 0..10 {
        site.expect("PORT 192,0,2,7,19,137", "200")?;
        site.expect("RETR a.txt", "150 226")?;
        ports.push(client.accept().unwrap().peer_addr().port());
    }
    assert!(
        ports.iter().all(|port| (49_152..61_000).contains(port)),
        "{ports:?}"
    );
    assert!(
        ports.windows(2).any(|it| it[0].wrapping_add(1) != it[1]),
        "{ports:?}"
    );
    // A port that is in use, or was a moment ago, is replaced by another one, at last by one of the system.
    for kind in [
        ErrorKind::AddrInUse,
        ErrorKind::AddrNotAvailable,
        ErrorKind::PermissionDenied,
    ] {
        fail(4, kind);
        site.expect("PORT 192,0,2,7,19,137", "200")?;
        site.expect("RETR a.txt", "150 226")?;
        assert_eq!(client.accept().unwrap().received(), b"hello\nworld\n");
        fail(5, kind);
        site.expect("PORT 192,0,2,7,19,137", "200")?;
        site.expect("RETR a.txt", "150 425")?;
        assert!(client.accept().is_none());
    }
    // Another error is final.
    fail(1, ErrorKind::NetworkUnreachable);
    site.expect("PORT 192,0,2,7,19,137", "200")?;
    site.expect("RETR a.txt", "150 425")
}

#[test]
fn one_client_has_at_most_half_of_the_ports() -> Result {
    let site = Site::ann_with(Options {
        ports: Some(50_000..=50_003),
        ..options()
    })?;
    let session = |from: &str| -> Result<Peer> {
        let control = site.connect(from, ADDR.parse()?)?;
        site.ask(&control, "USER anonymous\r\nPASS x\r\n")?;
        Ok(control)
    };
    let ask = |control: &Peer, line: &str| site.ask(control, format!("{line}\r\n"));
    let sessions = [session(CLIENT)?, session(CLIENT)?];
    let ports = [ask(&sessions[0], "EPSV")?, ask(&sessions[1], "EPSV")?];
    // A session has one port at a time.
    assert_eq!(codes_of(&ask(&sessions[0], "EPSV")?), "229");
    site.expect("EPSV", "425")?;
    site.expect("PASV", "425")?;
    assert_eq!(codes_of(&ask(&session(STRANGER)?, "EPSV")?), "229");
    // A port no longer waits when its connection is here, and when its session ends.
    let _data = site.connect(CLIENT, extended(&ports[1]))?;
    site.expect("EPSV", "229")?;
    assert_eq!(codes_of(&ask(&sessions[1], "EPSV")?), "425");
    sessions[0].reset();
    site.settle()?;
    assert_eq!(codes_of(&ask(&sessions[1], "EPSV")?), "229");
    Ok(())
}

/// Two clients with many sessions leave a port for the next one.
#[test]
fn a_client_has_half_of_the_ports_that_the_others_leave() -> Result {
    let site = Site::ann_with(Options {
        ports: Some(50_000..=50_007),
        ..options()
    })?;
    let mut sessions = vec![];
    let mut counts = vec![];
    for client in ["192.0.2.8:0", "192.0.2.9:0", "192.0.2.10:0"] {
        let mut replies = vec![];
        for _ in 0..8 {
            let control = site.connect(client, ADDR.parse()?)?;
            let reply = site.ask(&control, "USER ftp\r\nPASS x\r\nEPSV\r\n")?;
            replies.push(codes_of(&reply).ends_with("229"));
            sessions.push(control);
        }
        counts.push(replies.iter().filter(|has_port| **has_port).count());
    }
    assert_eq!(counts, [4, 2, 1]);
    site.expect("EPSV", "229")
}

#[test]
fn a_session_can_replace_its_own_port() -> Result {
    // Its client has as many ports as it may have.
    for ports in [50_000..=50_003, 50_000..=50_002, 50_000..=50_000] {
        let most = (ports.clone().count() / 2).max(1);
        let site = Site::ann_with(Options {
            ports: Some(ports),
            ..options()
        })?;
        let mut sessions = vec![];
        for _ in 0..most {
            let session = site.second()?;
            assert_eq!(codes_of(&site.ask(&session, "EPSV\r\n")?), "229");
            sessions.push(session);
        }
        site.expect("EPSV", "425")?;
        for session in &sessions {
            session.send("PASV\r\nEPSV\r\nEPSV\r\nNLST\r\n");
        }
        site.expect("EPSV", "425")?;
        for session in &sessions {
            let replies = String::from_utf8(session.take_received())?;
            assert_eq!(codes_of(&replies), "227 229 229 150", "{most} {replies}");
            let data = site.connect(CLIENT, extended(replies.lines().nth(2).unwrap()))?;
            assert_eq!(data.received(), b"a.txt\r\ndir\r\n");
        }
    }
    Ok(())
}

#[test]
fn a_client_that_gets_no_other_port_still_has_its_connection() -> Result {
    let site = Site::ann_with(Options {
        ports: Some(50_000..=50_001),
        ..options()
    })?;
    let data = site.data()?;
    let other = site.second()?;
    assert_eq!(codes_of(&site.ask(&other, "EPSV\r\n")?), "229");
    site.expect("EPSV", "425")?;
    site.expect("RETR a.txt", "150 226")?;
    assert_eq!(data.received(), b"hello\nworld\n");
    Ok(())
}

/// A socket closes at the end of a turn.
#[test]
fn a_client_that_asks_for_many_ports_at_once_has_half_of_them() -> Result {
    let site = Site::ann_with(Options {
        ports: Some(50_000..=50_007),
        ..options()
    })?;
    let second = site.second()?;
    let other = site.connect(STRANGER, ADDR.parse()?)?;
    site.ask(&other, "USER ftp\r\nPASS x\r\n")?;
    site.control.send("EPSV\r\n".repeat(500));
    second.send("PASV\r\n".repeat(500));
    let replies = site.ask(&other, "EPSV\r\n".repeat(3))?;
    assert_eq!(codes_of(&replies), "229 229 229");
    let replies = site.replies()?;
    assert_eq!(replies.lines().count(), 500);
    let is_known = |line: &str| line.starts_with("229 ") || line.starts_with("425 too many");
    assert!(replies.lines().all(is_known), "{replies}");
    // Each session has one port then.
    second.take_received();
    site.expect("EPSV", "229")?;
    let more = [second, site.second()?, site.second()?, site.second()?];
    for (session, codes) in more.iter().zip(["229", "229", "425", "425"]) {
        assert_eq!(codes_of(&site.ask(session, "EPSV\r\n")?), codes);
    }
    // Also where no more are permitted, it can have another one in its place.
    site.expect("EPSV", "229")
}

/// Also without a range of ports. A socket closes at the end of a turn, so the next one is opened in the next turn.
#[test]
fn a_session_opens_few_passive_ports_in_a_turn() -> Result {
    let site = Site::ann()?;
    site.control.send("EPSV\r\n".repeat(100));
    let mut replies = String::new();
    for _ in 0..1000 {
        let before = site.event_loop.stats().opened;
        site.event_loop.run_once(Duration::ZERO)?;
        let opened = site.event_loop.stats().opened - before;
        assert!(opened <= 2, "{opened}");
        replies += &String::from_utf8(site.control.take_received())?;
    }
    assert_eq!(codes_of(&replies), ["229"; 100].join(" "));
    Ok(())
}

#[test]
fn clients_of_ipv6_have_their_own_commands() -> Result {
    let dir = Folder::new()?;
    dir.store("a.txt", b"hello\n")?;
    let service = Service::new(Tree::open(dir.path(), false)?, options());
    let server = "[2001:db8::1]:21";
    let scene = Scene::new(Network::new(1), move || service.serve(server))?;
    let from = "[2001:db8::7]:0".parse::<SocketAddr>()?;
    let control = scene.network.connect_from(from, server)?;
    let client = scene.network.listen("[2001:db8::7]:5001")?;
    let replies = scene.ask(
        &control,
        "USER ftp\r\nPASS x\r\nPASV\r\nEPSV 1\r\nPORT 192,0,2,7,19,137\r\nEPRT |2|2001:db8::8|5001|\r\n\
         EPRT |2|2001:db8::7|5001|\r\nNLST\r\n",
    )?;
    assert_eq!(
        codes_of(&replies),
        "220 331 230 425 522 504 504 200 150 226"
    );
    assert_eq!(client.accept().unwrap().received(), b"a.txt\r\n");
    let reply = scene.ask(&control, "EPSV 2\r\n")?;
    let addr = SocketAddr::new("2001:db8::1".parse()?, extended(&reply).port());
    let data = scene.network.connect_from(from, addr)?;
    let replies = scene.ask(&control, "NLST\r\n")?;
    assert_eq!(codes_of(&replies), "150 226");
    assert_eq!(data.received(), b"a.txt\r\n");
    Ok(())
}

/// Somebody who leaves a session and a port of the range behind would have them for a minute each.
#[test]
fn a_port_does_not_wait_long_for_a_client_that_has_quit_and_finished() -> Result {
    for command in ["RETR a.txt", "STOR new"] {
        let site = Site::ann()?;
        site.control.send(format!("EPSV\r\n{command}\r\nQUIT\r\n"));
        site.control.finish();
        site.advance(Duration::from_secs(3))?;
        assert_eq!(codes_of(&site.replies()?), "229 150 425 221");
        assert!(site.control.has_ended());
        assert_eq!(site.event_loop.len(), 1);
        assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    }
    // Its connection may be on the way.
    let site = Site::ann()?;
    site.control.send("EPSV\r\nRETR a.txt\r\nQUIT\r\n");
    site.control.finish();
    site.settle()?;
    let data = site.connect(CLIENT, extended(site.replies()?.lines().next().unwrap()))?;
    assert_eq!(data.received(), b"hello\nworld\n");
    assert_eq!(codes_of(&site.replies()?), "226 221");
    assert!(site.control.has_ended());
    Ok(())
}
