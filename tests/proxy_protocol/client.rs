//! A client that sends a header: the side of the proxy.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use asynchat::proxy_protocol::{Header, Reader, Ssl, Version, tlv};
use asynchat::sim::Conditions;
use asynchat::{Addr, Backoff, Close, Connector, Error, Result};

use crate::headers::{V1, field, proxied, proxied_unix, proxied_v6, v2};
use crate::scene::Scene;

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<SocketAddr>().expect("an address"))
}

fn header(version: Version) -> Header {
    Header::new(version, addr("192.0.2.1:40000"), addr("198.51.100.1:119"))
}

/// What a server receives from a client that sends this header and a line.
fn sent(header: Header) -> Result<Vec<u8>> {
    let scene = Scene::new()?;
    let service = scene.network.listen("10.0.0.1:119")?;
    let chat = Connector::new("10.0.0.1:119")
        .proxy_protocol(header)
        .connect_on(&scene.event_loop, scene.log.session())?;
    chat.push("one\r\n");
    scene.settle()?;
    let peer = service.accept().ok_or("no connection")?;
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect"]);
    assert_eq!(chat.stats().bytes_out, 5);
    let received = peer.received();
    let header = received.strip_suffix(b"one\r\n").ok_or("no line")?;
    Ok(header.to_vec())
}

#[test]
fn a_header_is_sent_before_everything_that_is_pushed() -> Result {
    assert_eq!(sent(header(Version::V1))?, V1);
    assert_eq!(sent(header(Version::V2))?, proxied(&[]));
    assert_eq!(sent(Header::local(Version::V1))?, b"PROXY UNKNOWN\r\n");
    assert_eq!(sent(Header::local(Version::V2))?, v2(0x20, 0, b""));
    Ok(())
}

#[test]
fn addresses_of_two_families_are_written_in_ipv6_form() -> Result {
    let mixed = |version| Header::new(version, addr("192.0.2.1:7"), addr("[::1]:119"));
    assert_eq!(
        sent(mixed(Version::V2))?,
        proxied_v6("::ffff:192.0.2.1".parse()?, 7)
    );
    assert_eq!(
        sent(mixed(Version::V1))?,
        b"PROXY TCP6 ::ffff:192.0.2.1 ::1 7 119\r\n"
    );
    Ok(())
}

#[test]
fn names_of_the_unix_domain_need_version_2() -> Result {
    let path = Addr::Unix(Some("/run/client".into()));
    let name = Addr::Abstract(b"server".as_slice().into());
    let header = |version| Header::new(version, path.clone(), name.clone());
    assert_eq!(
        sent(header(Version::V2))?,
        proxied_unix(b"/run/client", b"\0server")
    );
    assert_eq!(sent(header(Version::V1))?, b"PROXY UNKNOWN\r\n");
    let unknown = v2(0x21, 0, b"");
    let mixed = Header::new(Version::V2, path, addr("[::1]:119"));
    assert_eq!(
        (mixed.source(), sent(mixed.clone())?),
        (None, unknown.clone())
    );
    let long = Addr::Unix(Some("x".repeat(109).into()));
    assert_eq!(
        sent(Header::new(Version::V2, Addr::Unix(None), long))?,
        unknown
    );
    Ok(())
}

#[test]
fn other_fields_are_sent_and_bounded() -> Result {
    let with_id = header(Version::V2).with_tlv(tlv::UNIQUE_ID, b"4711")?;
    let with_both = with_id.clone().with_tlv(0xe0, b"")?;
    assert_eq!(
        sent(with_both)?,
        proxied(&[field(5, b"4711"), field(0xe0, b"")].concat())
    );
    // The other clone has not changed.
    assert_eq!(sent(with_id)?, proxied(&field(5, b"4711")));
    let fitting = header(Version::V2).with_tlv(0xe0, &[0; 4096 - 16 - 12 - 3])?;
    assert_eq!(sent(fitting)?.len(), 4096);
    let error =
        |header: Header, value: &[u8]| header.with_tlv(0xe0, value).unwrap_err().to_string();
    assert_eq!(
        error(header(Version::V2), &[0; 4096 - 16 - 12 - 2]),
        "a PROXY header has at most 4096 bytes"
    );
    assert_eq!(
        error(header(Version::V2), &[0; 70_000]),
        "a PROXY header has at most 4096 bytes"
    );
    assert_eq!(
        error(header(Version::V1), b""),
        "a PROXY header of version 1 has no other fields"
    );
    assert_eq!(
        error(Header::local(Version::V2), b""),
        "the receiver of a local PROXY header ignores its fields"
    );
    Ok(())
}

#[test]
fn what_a_proxy_says_about_tls_is_read_as_it_was_written() -> Result {
    let mut ssl = Ssl::default();
    assert_eq!(ssl.encode(), [0, 0, 0, 0, 1]);
    ssl.uses_tls = true;
    ssl.version = Some("TLSv1.3".to_owned());
    ssl.cipher = Some("TLS_AES_128_GCM_SHA256".to_owned());
    let read =
        |ssl: &Ssl| Ok::<_, Error>(header(Version::V2).with_tlv(tlv::SSL, &ssl.encode())?.ssl());
    assert_eq!(read(&ssl)?, Some(ssl.clone()));
    ssl.session_has_certificate = true;
    assert_eq!(read(&ssl)?, Some(ssl.clone()));
    ssl.has_certificate = true;
    ssl.is_verified = true;
    ssl.common_name = Some("ann".to_owned());
    ssl.signature_algorithm = Some("SHA256".to_owned());
    ssl.key_algorithm = Some("RSA2048".to_owned());
    assert_eq!(read(&ssl)?, Some(ssl.clone()));
    assert_eq!(ssl.encode()[..8], [7, 0, 0, 0, 0, 0x21, 0, 7]);
    ssl.cipher = Some("x".repeat(70_000));
    assert!(read(&ssl).is_err());
    Ok(())
}

#[test]
fn a_checksum_is_computed_when_the_header_is_sent() -> Result {
    let with_checksum = header(Version::V2)
        .with_tlv(tlv::UNIQUE_ID, b"4711")?
        .with_tlv(tlv::CRC32C, &[0; 4])?
        .with_tlv(0xe0, b"own")?;
    let sent = sent(with_checksum)?;
    // Calculated by haproxy's algorithm, a table over the reversed polynomial.
    let fields =
        |checksum: &[u8]| [field(5, b"4711"), field(3, checksum), field(0xe0, b"own")].concat();
    let expected = checksum_by_table(&proxied(&fields(&[0; 4]))).to_be_bytes();
    assert_eq!(sent, proxied(&fields(&expected)));
    let error = header(Version::V2).with_tlv(tlv::CRC32C, b"").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the checksum of a PROXY header has four bytes"
    );
    Ok(())
}

fn checksum_by_table(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256)
        .map(|byte| (0..8).fold(byte, |crc, _| (crc >> 1) ^ (0x82F6_3B78 * (crc & 1))))
        .collect();
    let step = |crc: u32, byte: &u8| table[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

/// The address of the client is IPv4 in IPv6 form, and the checksum is that of this form. This crate writes it as IPv4.
#[test]
fn a_header_that_was_received_is_sent_on_with_the_right_checksum() -> Result {
    let mapped = |last: u128| Ipv6Addr::from_bits(0xffff_c000_0200 | last);
    let form = |checksum: &[u8]| {
        let addresses = [
            &mapped(1).octets()[..],
            &mapped(2).octets(),
            &[0, 7, 0, 119],
        ]
        .concat();
        v2(0x21, 0x21, &[addresses, field(3, checksum)].concat())
    };
    let received = form(&checksum_by_table(&form(&[0; 4])).to_be_bytes());
    let mut left = &received[..];
    let read = |buffer: &mut [u8]| std::io::Read::read(&mut left, buffer);
    let header = Reader::default().receive(read)?;
    let sent = sent(header)?;
    let mut left = &sent[..];
    let read = |buffer: &mut [u8]| std::io::Read::read(&mut left, buffer);
    let again = Reader::default().receive(read)?;
    assert_eq!(again.source(), Some(&addr("192.0.2.1:7")));
    Ok(())
}

#[test]
fn a_header_that_the_kernel_takes_in_pieces_comes_first_and_whole() -> Result {
    for seed in 0..200 {
        let scene = Scene::with_seed(seed)?;
        let mut conditions = Conditions::default()
            .short_writes(0.7)
            .would_block(0.5)
            .late_events(0.2);
        conditions.buffer = 7;
        scene.network.set_conditions(conditions);
        let service = scene.network.listen("10.0.0.1:119")?;
        let chat = Connector::new("10.0.0.1:119")
            .proxy_protocol(header(Version::V1))
            .connect_on(&scene.event_loop, scene.log.session())?;
        chat.push("one\r\n");
        scene.settle()?;
        let peer = loop {
            if let Some(peer) = service.accept() {
                break peer;
            }
            scene.settle()?;
        };
        while peer.received().len() < V1.len() + 5 {
            scene.settle()?;
        }
        assert_eq!(peer.received(), [V1, b"one\r\n"].concat());
        assert_eq!(scene.log.lines(), ["connect"]);
    }
    Ok(())
}

#[test]
fn an_adopted_socket_sends_a_header_as_well() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    Connector::adopt(socket)
        .proxy_protocol(header(Version::V1))
        .connect_on(&scene.event_loop, scene.log.session())?;
    peer.send("one\r\n");
    scene.settle()?;
    assert_eq!(peer.received(), V1);
    assert_eq!(scene.log.lines(), ["connect", "record one"]);
    Ok(())
}

#[test]
fn a_connection_that_is_refused_fails_as_without_a_header() -> Result {
    let scene = Scene::new()?;
    Connector::new("10.0.0.1:119")
        .proxy_protocol(header(Version::V1))
        .connect_on(&scene.event_loop, scene.log.session())?;
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["close ConnectFailed"]);
    Ok(())
}

#[test]
fn a_peer_that_takes_no_header_is_not_waited_for() -> Result {
    let scene = Scene::new()?;
    let mut conditions = Conditions::default();
    conditions.buffer = 7;
    scene.network.set_conditions(conditions);
    let service = scene.network.listen("10.0.0.1:119")?;
    Connector::new("10.0.0.1:119")
        .proxy_protocol(header(Version::V1))
        .connect_timeout(Duration::from_secs(5))
        .connect_on(&scene.event_loop, |_| Closing)?;
    scene.settle()?;
    let peer = service.accept().ok_or("no connection")?;
    peer.stop_reading();
    scene.advance(6)?;
    assert!(scene.is_empty() || scene.event_loop.is_empty());
    Ok(())
}

/// Expects that the header was not sent in time.
struct Closing;

impl asynchat::AsyncChat for Closing {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        assert_eq!(
            why.to_string(),
            "could not connect: send the PROXY header: timed out"
        );
    }
}

#[test]
fn each_reconnection_sends_the_header() -> Result {
    let scene = Scene::new()?;
    let service = scene.network.listen("10.0.0.1:119")?;
    let reconnect = Connector::new("10.0.0.1:119")
        .proxy_protocol(header(Version::V2))
        .reconnect_on(&scene.event_loop, Backoff::default(), scene.log.session())?;
    for _ in 0..3 {
        scene.advance(120)?;
        let peer = service.accept().ok_or("no connection")?;
        scene.settle()?;
        assert_eq!(peer.received(), proxied(&[]));
        drop(peer);
    }
    reconnect.stop();
    Ok(())
}

#[cfg(feature = "tls")]
#[test]
fn the_header_is_sent_before_tls() -> Result {
    use asynchat::tls::Client;

    use crate::tls::{TlsPeer, client_config};

    let scene = Scene::new()?;
    let service = scene.network.listen("10.0.0.1:563")?;
    let chat = Connector::new("10.0.0.1:563")
        .proxy_protocol(header(Version::V2))
        .tls(Client::from(client_config()).name("localhost"))
        .connect_on(&scene.event_loop, scene.log.session())?;
    chat.push("one\r\n");
    scene.settle()?;
    let peer = service.accept().ok_or("no connection")?;
    scene.settle()?;
    let header = proxied(&[]);
    let received = peer.take_received();
    assert!(received.starts_with(&header));
    let mut peer = TlsPeer::server(peer);
    peer.tls.read_tls(&mut &received[header.len()..])?;
    peer.exchange(|| scene.settle().unwrap());
    peer.tls.process_new_packets()?;
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.text(), "one\r\n");
    assert_eq!(scene.log.lines(), ["connect"]);
    Ok(())
}
