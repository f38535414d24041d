//! A dispatcher that reads the header by itself, before TLS or without it.

use asynchat::proxy_protocol::{Header, Network, Reader, Version};
use asynchat::{Addr, Channel, Close, Dispatcher, Result, Socket};

use crate::common::{Log, name};
use crate::headers::{V1, proxied};
use crate::scene::Scene;
use crate::server::{ADDR, connect, connect_from};

struct Listener {
    channel: Channel,
    proxies: Network,
    with_tls: bool,
    log: Log,
}

impl Dispatcher for Listener {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_accepted(&mut self, socket: Socket, peer: Addr) -> Result {
        if !self.proxies.contains(&peer) {
            return Ok(());
        }
        asynchat::register(Connection {
            channel: Channel::adopt(socket)?,
            reader: Some(Reader::default()),
            with_tls: self.with_tls,
            log: self.log.clone(),
        })?;
        Ok(())
    }
}

struct Connection {
    channel: Channel,
    reader: Option<Reader>,
    with_tls: bool,
    log: Log,
}

impl Dispatcher for Connection {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_read(&mut self) -> Result {
        if let Some(reader) = &mut self.reader {
            let header = reader.receive(|buffer| self.channel.recv(buffer))?;
            let source = header.source().map(Addr::to_string);
            self.log.add(format!("header {source:?}"));
            self.reader = None;
            #[cfg(feature = "tls")]
            if self.with_tls {
                self.channel.start_tls(crate::tls::server_config())?;
            }
        }
        let mut buffer = [0; 100];
        let count = self.channel.recv(&mut buffer)?;
        let received = String::from_utf8_lossy(&buffer[..count]);
        self.log.add(format!("read {received:?}"));
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {} {why}", name(why)));
    }
}

fn scene(with_tls: bool) -> Result<Scene> {
    let scene = Scene::new()?;
    scene.event_loop.register(Listener {
        channel: Channel::adopt(scene.network.listening_socket(ADDR)?)?,
        proxies: "10.0.0.0/24".parse()?,
        with_tls,
        log: scene.log.clone(),
    })?;
    Ok(scene)
}

const HEADER: &str = "header Some(\"192.0.2.1:40000\")";

#[test]
fn a_dispatcher_reads_a_header_wherever_it_is_cut_and_nothing_behind_it() -> Result {
    for header in [V1, &proxied(&[])] {
        let input = [header, b"hello"].concat();
        for at in 0..header.len() {
            let scene = scene(false)?;
            let peer = connect(&scene)?;
            peer.send(&input[..at]);
            scene.settle()?;
            assert_eq!(scene.log.lines(), [""; 0], "{at}");
            peer.send(&input[at..]);
            scene.settle()?;
            assert_eq!(scene.log.lines(), [HEADER, "read \"hello\""], "{at}");
        }
    }
    Ok(())
}

#[cfg(feature = "tls")]
#[test]
fn tls_follows_the_header_of_a_dispatcher() -> Result {
    use crate::tls::{TlsPeer, client_config};

    for header in [V1, &proxied(&[])] {
        for at in 0..=header.len() {
            let scene = scene(true)?;
            let mut peer = TlsPeer::client(connect(&scene)?, client_config());
            // The first message of the handshake follows in the same segment.
            let input = [header, &peer.output()].concat();
            peer.peer.send(&input[..at]);
            scene.settle()?;
            peer.peer.send(&input[at..]);
            peer.exchange(|| scene.settle().unwrap());
            peer.send("hello");
            peer.exchange(|| scene.settle().unwrap());
            assert_eq!(scene.log.lines(), [HEADER, "read \"hello\""], "{at}");
        }
    }
    Ok(())
}

#[test]
fn a_dispatcher_is_told_why_there_is_no_header() -> Result {
    let whys = [
        (&b"QUIT\r\n"[..], false, "begins with \"QUIT"),
        (&V1[..20], true, "unexpected end of file"),
        (b"", true, "unexpected end of file"),
    ];
    for (input, finishes, words) in whys {
        let scene = scene(false)?;
        let peer = connect(&scene)?;
        peer.send(input);
        if finishes {
            peer.finish();
        }
        scene.settle()?;
        assert!(peer.has_ended());
        let lines = scene.log.lines();
        assert!(lines.len() == 1 && lines[0].contains(words), "{lines:?}");
    }
    let scene = scene(false)?;
    assert!(connect_from(&scene.network, "192.0.2.7:1").is_ok());
    scene.settle()?;
    assert_eq!(scene.event_loop.len(), 1);
    Ok(())
}

#[test]
fn what_a_header_encodes_to_is_read_again() -> Result {
    let client: std::net::SocketAddr = "192.0.2.1:40000".parse()?;
    let server: std::net::SocketAddr = "198.51.100.1:119".parse()?;
    for version in [Version::V1, Version::V2] {
        let header = Header::new(version, client.into(), server.into());
        let sent = header.encode();
        let mut left = &sent[..];
        let read = Reader::default().receive(|buffer| std::io::Read::read(&mut left, buffer))?;
        assert_eq!(read, header);
        assert!(left.is_empty());
    }
    Ok(())
}
