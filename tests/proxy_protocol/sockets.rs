//! Real sockets: a header in pieces does not keep the loop awake, and a Unix-domain listener has proxies, too.

#[cfg(unix)]
use asynchat::proxy_protocol::Network;
use asynchat::proxy_protocol::{Header, Version};
use asynchat::{Connector, Result, Server};

use crate::common::{Log, Peer, addr_of, idle, new_loop, run_until};
use crate::headers::{V1, proxied};

#[test]
fn a_header_in_pieces_does_not_keep_the_loop_awake() -> Result {
    for header in [V1, &proxied(&[])] {
        let event_loop = new_loop();
        let log = Log::default();
        let listener = Server::new("127.0.0.1:0")
            .proxy_protocol(["127.0.0.0/8".parse()?])
            .listen_on(&event_loop, log.session())?;
        let mut peer = Peer::connect(addr_of(&listener));
        peer.stream.set_nodelay(true)?;
        let input = [header, b"one\r\n"].concat();
        for byte in &input {
            peer.send([*byte]);
            idle(&event_loop);
        }
        run_until(&event_loop, || log.has("record one"));
        // One for each byte, one for the connection, and some to spare.
        let wakeups = event_loop.stats().wakeups;
        assert!(wakeups <= input.len() as u64 + 5, "{wakeups}");
        idle(&event_loop);
        assert_eq!(event_loop.stats().wakeups, wakeups);
    }
    Ok(())
}

#[test]
fn a_client_of_this_crate_and_a_server_of_this_crate_talk() -> Result {
    let event_loop = new_loop();
    let log = Log::default();
    let seen = log.clone();
    let session = log.session();
    let listener = Server::new("127.0.0.1:0")
        .proxy_protocol(["127.0.0.1".parse()?])
        .listen_on(&event_loop, move |chat| {
            seen.add(format!(
                "{:?}",
                chat.peer_addr().and_then(|peer| peer.inet())
            ));
            session(chat)
        })?;
    for version in [Version::V1, Version::V2] {
        let client: std::net::SocketAddr = "192.0.2.1:7".parse()?;
        let header = Header::new(version, client.into(), addr_of(&listener).into());
        let chat = Connector::new(addr_of(&listener))
            .proxy_protocol(header)
            .connect_on(&event_loop, |_| |_: &[u8]| Ok(()))?;
        chat.push("one\r\n");
        run_until(&event_loop, || {
            log.count("record one") == 1 + version as usize
        });
    }
    assert_eq!(log.count("Some(192.0.2.1:7)"), 2);
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_unix_domain_listener_trusts_its_clients() -> Result {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let event_loop = new_loop();
    let log = Log::default();
    let seen = log.clone();
    Server::new(path.clone())
        .proxy_protocol([Network::UNIX])
        .listen_on(&event_loop, move |chat| {
            let addrs = (chat.peer_addr(), chat.proxy_addr());
            seen.add(format!("{addrs:?}"));
            |_: &[u8]| Ok(())
        })?;
    let mut stream = UnixStream::connect(&path)?;
    stream.write_all(V1)?;
    run_until(&event_loop, || log.has("("));
    assert_eq!(
        log.lines(),
        ["(Some(Inet(192.0.2.1:40000)), Some(Unix(None)))"]
    );
    Ok(())
}
