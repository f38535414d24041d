//! The `smtpd` example with TLS, on a simulated network with a real maildir: STARTTLS, commands that somebody has
//! inserted, messages that are cut, and a port for TLS from the beginning.

#[path = "common/scene.rs"]
mod scene;
#[path = "../smtpd/smtp/mod.rs"]
#[allow(dead_code, reason = "only the command line of `smtpd` uses the rest")]
mod smtp;
#[path = "../../tests/common/tls.rs"]
mod tls;
#[path = "common/with_tls.rs"]
mod with_tls;

use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::{Duration, UNIX_EPOCH};

use asynchat::Result;
use asynchat::proxy_protocol::{Header, Version, tlv};
use asynchat::sim::{self, Ended, Network, Peer};
use asynchat::tls::rustls::version::{TLS12, TLS13};
use scene::Scene;
use smtp::{Options, Service};
use tempfile::TempDir;
use tls::{TlsPeer, client_config_of, server_config};
use with_tls::is_refusal;

const ADDR: &str = "192.0.2.1:25";
const TLS_ADDR: &str = "192.0.2.1:465";

const HELLO: &str = "EHLO client.example\r\n";
const ENVELOPE: &str = "MAIL FROM:<bob@example.org>\r\nRCPT TO:<ann@localhost>\r\nDATA\r\n";
const MESSAGE: &str = "Subject: x\r\n\r\ntext\r\n.\r\n";

/// Without worker threads and fsync, because virtual time does not wait for threads or for the disk.
fn options() -> Options {
    Options {
        workers: 0,
        fsync: false,
        clock: || UNIX_EPOCH + Duration::from_secs(1_781_524_800),
        tls: Some(server_config().into()),
        ..Options::default()
    }
}

/// A server with a certificate, which listens on both ports. Only its maildir is real.
struct Mail {
    scene: Scene,
    dir: TempDir,
}

impl Deref for Mail {
    type Target = Scene;
    fn deref(&self) -> &Scene {
        &self.scene
    }
}

impl Mail {
    fn new() -> Result<Mail> {
        Mail::with(options())
    }

    fn with(options: Options) -> Result<Mail> {
        let dir = TempDir::new()?;
        let service = Service::open(dir.path(), options)?;
        let scene = Scene::new(Network::new(1), move || {
            service.serve(ADDR)?;
            service.serve_tls(TLS_ADDR)
        })?;
        Ok(Mail { scene, dir })
    }

    /// A client that has received the greeting in clear.
    fn client(&self) -> Result<Peer> {
        let client = self.network.connect(ADDR)?;
        assert!(self.ask(&client, "")?.starts_with("220 "));
        Ok(client)
    }

    /// A client that has begun TLS with STARTTLS.
    fn upgraded(&self) -> Result<TlsPeer> {
        self.upgrade(self.client()?, "220 2.0.0 begin TLS\r\n")
    }

    /// The delivered messages.
    fn delivered(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.dir.path().join("new"))?;
        let read = |entry: std::io::Result<fs::DirEntry>| {
            let text = fs::read_to_string(entry?.path())?;
            Ok(text)
        };
        entries.map(read).collect()
    }

    fn unfinished(&self) -> Result<usize> {
        Ok(fs::read_dir(self.dir.path().join("tmp"))?.count())
    }
}

/// The codes of the replies, separated by spaces. The last line of each reply counts.
fn codes(replies: &str) -> String {
    let last = |line: &&str| line.get(3..4) == Some(" ");
    let codes = replies
        .lines()
        .filter(last)
        .filter_map(|line| line.get(..3));
    codes.collect::<Vec<_>>().join(" ")
}

#[test]
fn tls_forgets_what_came_in_clear() -> Result {
    for version in [&TLS12, &TLS13] {
        let mail = Mail::new()?;
        let client = mail.client()?;
        assert!(mail.ask(&client, HELLO)?.contains("\r\n250-STARTTLS\r\n"));
        // In the middle of a mail transaction, which is then over.
        let begun = "MAIL FROM:<bob@example.org>\r\nRCPT TO:<ann@localhost>\r\nSTARTTLS\r\n";
        assert_eq!(codes(&mail.ask(&client, begun)?), "250 250 220");
        let mut client = TlsPeer::client(client, client_config_of(version));
        mail.exchange(&mut client);
        let replies = mail.ask_tls(&mut client, "DATA\r\nMAIL FROM:<eve@example.org>\r\n")?;
        let expected = "503 5.5.1 MAIL first\r\n503 5.5.1 HELO or EHLO first\r\n";
        assert_eq!(replies, expected);
        assert_eq!(mail.unfinished()?, 0);

        let replies = mail.ask_tls(&mut client, HELLO)?;
        assert!(!replies.contains("STARTTLS"), "{replies}");
        let replies = mail.ask_tls(&mut client, &format!("{ENVELOPE}{MESSAGE}QUIT\r\n"))?;
        assert_eq!(codes(&replies), "250 250 354 250 221");
        assert!(client.is_closed(), "the end is announced");
        assert_eq!(client.peer.ended(), Some(Ended::Finished));
        let message = mail.delivered()?.concat();
        let cipher = match version.version {
            asynchat::tls::rustls::ProtocolVersion::TLSv1_3 => " tls TLS_AES_256_GCM_SHA384;\n",
            _ => " tls TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;\n",
        };
        assert!(
            message.contains(" with ESMTPS id ") && message.contains(cipher),
            "{message}"
        );
    }
    Ok(())
}

/// RFC 3848 has a name for EHLO with TLS only.
#[test]
fn a_message_after_helo_has_no_name_for_tls() -> Result {
    let mail = Mail::new()?;
    let mut client = mail.upgraded()?;
    let message = format!("HELO client.example\r\n{ENVELOPE}{MESSAGE}");
    let replies = mail.ask_tls(&mut client, &message)?;
    assert_eq!(codes(&replies), "250 250 250 354 250");
    assert!(mail.delivered()?.concat().contains(" with SMTP id "));
    Ok(())
}

#[test]
fn tls_cannot_begin_twice_nor_without_a_certificate() -> Result {
    let mail = Mail::new()?;
    let mut client = mail.upgraded()?;
    let replies = mail.ask_tls(&mut client, "STARTTLS\r\nSTARTTLS now\r\nNOOP\r\n")?;
    assert_eq!(codes(&replies), "503 501 250");

    let dir = TempDir::new()?;
    let without = Options {
        tls: None,
        ..options()
    };
    let service = Service::open(dir.path(), without)?;
    assert!(service.serve_tls(TLS_ADDR).is_err());
    let scene = Scene::new(Network::new(1), move || service.serve(ADDR))?;
    let client = scene.network.connect(ADDR)?;
    let replies = scene.ask(&client, "EHLO x\r\nSTARTTLS\r\nNOOP\r\n")?;
    assert_eq!(codes(&replies), "220 250 502 250");
    assert!(!replies.contains("STARTTLS"), "{replies}");
    Ok(())
}

/// TLS of the client ends at the proxy, which says so in its header.
#[test]
fn a_client_that_has_tls_with_the_proxy_is_secure() -> Result {
    let client: SocketAddr = "198.51.100.7:40000".parse()?;
    let to: SocketAddr = ADDR.parse()?;
    for (flags, offered, protocol) in [(1, false, " with ESMTPS id "), (0, true, " with ESMTP id ")]
    {
        let header = Header::new(Version::V2, client.into(), to.into())
            .with_tlv(tlv::SSL, &[flags, 0, 0, 0, 0])?;
        let mail = Mail::with(Options {
            proxies: vec!["10.0.0.0/8".parse()?],
            ..options()
        })?;
        let proxy = mail
            .network
            .connect_from("10.0.0.2:0".parse::<SocketAddr>()?, ADDR)?;
        proxy.send(header.encode());
        let replies = mail.ask(&proxy, format!("{HELLO}{ENVELOPE}{MESSAGE}"))?;
        assert_eq!(codes(&replies), "220 250 250 250 354 250");
        assert_eq!(replies.contains("250-STARTTLS"), offered, "{replies}");
        assert!(mail.delivered()?.concat().contains(protocol));
    }
    Ok(())
}

/// CVE-2011-0411, however the bytes are cut: neither are the commands behind STARTTLS run in clear, nor with TLS.
#[test]
fn commands_behind_starttls_are_never_run() -> Result {
    let input = format!("{HELLO}STARTTLS\r\nRSET\r\n{HELLO}{ENVELOPE}{MESSAGE}");
    sim::every_segmentation(input.as_bytes(), |pieces| {
        let mail = Mail::new()?;
        let client = mail.client()?;
        for piece in pieces {
            client.send(piece);
            mail.settle()?;
        }
        let replies = client.take_received();
        let is_refusal = is_refusal(&replies, b"220 2.0.0 begin TLS\r\n");
        assert!(is_refusal, "{pieces:?}: {}", replies.escape_ascii());
        assert!(client.has_ended(), "{pieces:?}");
        assert_eq!(mail.event_loop.stats().records_in, 2, "{pieces:?}");
        assert_eq!((mail.unfinished()?, mail.delivered()?.len()), (0, 0));
        Ok(())
    })?;
    Ok(())
}

/// STARTTLS may be the last command of a group (RFC 2920). The replies to the others leave in clear, before it.
#[test]
fn replies_to_earlier_commands_come_before_tls() -> Result {
    let mail = Mail::new()?;
    let client = mail.client()?;
    let group = format!("{HELLO}{ENVELOPE}{MESSAGE}NOOP\r\nSTARTTLS\r\n");
    let replies = mail.ask(&client, &group)?;
    assert_eq!(codes(&replies), "250 250 250 354 250 250 220");
    let mut client = mail.handshake(client);
    let replies = mail.ask_tls(&mut client, "NOOP\r\n")?;
    assert_eq!(codes(&replies), "250");
    assert_eq!(mail.delivered()?.len(), 1);
    Ok(())
}

/// Somebody on the way can cut a stream, but a message without its end is not stored.
#[test]
fn a_message_that_is_cut_is_not_stored() -> Result {
    for (text, stored) in [(MESSAGE.trim_end_matches(".\r\n"), 0), (MESSAGE, 1)] {
        let mail = Mail::new()?;
        let mut client = mail.upgraded()?;
        client.send(format!("{HELLO}{ENVELOPE}{text}"));
        client.peer.finish();
        mail.exchange(&mut client);
        assert!(client.peer.has_ended());
        assert_eq!((mail.unfinished()?, mail.delivered()?.len()), (0, stored));
        // The reply to a complete message is sent.
        let replies = codes(&client.text());
        assert!(replies.starts_with("250 250 250 354"), "{replies}");
        assert_eq!(replies.ends_with("354 250"), stored == 1, "{replies}");
    }
    Ok(())
}

#[test]
fn a_port_has_tls_from_the_beginning() -> Result {
    let mail = Mail::new()?;
    let mut client = mail.handshake(mail.network.connect(TLS_ADDR)?);
    let replies = mail.ask_tls(
        &mut client,
        &format!("{HELLO}STARTTLS\r\n{ENVELOPE}{MESSAGE}"),
    )?;
    assert_eq!(codes(&replies), "220 250 503 250 250 354 250");
    assert!(!replies.contains("STARTTLS"), "{replies}");
    assert!(mail.delivered()?.concat().contains(" with ESMTPS id "));

    let plain = mail.network.connect(TLS_ADDR)?;
    plain.send(format!("{HELLO}{ENVELOPE}{MESSAGE}"));
    mail.settle()?;
    assert!(plain.has_ended());
    assert!(plain.received().starts_with(b"\x15\x03"), "an alert of TLS");
    assert_eq!(mail.delivered()?.len(), 1);
    Ok(())
}
