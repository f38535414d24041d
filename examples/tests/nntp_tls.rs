//! The `nntp` example with TLS, on a simulated network: STARTTLS, passwords, commands that somebody has inserted,
//! and a port for TLS from the beginning.

#[path = "common/nntp_passwords.rs"]
mod passwords;
#[path = "common/scene.rs"]
mod scene;
#[path = "../nntp/server/mod.rs"]
#[allow(
    dead_code,
    reason = "only the sources and the command line of `nntp` use the rest"
)]
mod server;
#[path = "../../tests/common/tls.rs"]
mod tls;
#[path = "common/with_tls.rs"]
mod with_tls;

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use asynchat::proxy_protocol::{Header, Version, tlv};
use asynchat::sim::{self, Conditions, Ended, Network, Peer};
use asynchat::tls::rustls::version::{TLS12, TLS13};
use asynchat::{Chat, Result};
use passwords::{ann, pending};
use scene::Scene;
use server::passwords::Checked;
use server::{Options, Service, Session, Spool};
use tls::{TlsPeer, client_config_of, server_config};
use with_tls::is_refusal;

const ADDR: &str = "192.0.2.1:119";
const TLS_ADDR: &str = "192.0.2.1:563";
const ARTICLES: usize = 20;

/// A server with a certificate and some articles, which listens on both ports.
struct News(Scene);

impl Deref for News {
    type Target = Scene;
    fn deref(&self) -> &Scene {
        &self.0
    }
}

/// Options with a certificate, and with a user ann, whose password is "secret".
fn options() -> Options {
    Options {
        check_password: Some(ann()),
        ..anonymous()
    }
}

/// Options with a certificate, and without a log-in.
fn anonymous() -> Options {
    Options {
        start_tls: Some(Box::new(|chat: &Chat| chat.start_tls(server_config()))),
        ..Options::default()
    }
}

impl News {
    fn new(seed: u64, options: Options) -> Result<News> {
        let scene = Scene::new(Network::new(seed), || {
            let service = Service::new(Spool::demo(ARTICLES), options)?;
            service.serve(ADDR)?;
            service.serve_tls(TLS_ADDR, |server| server.tls(server_config()))
        })?;
        Ok(News(scene))
    }

    /// A client that has received the greeting in clear.
    fn client(&self) -> Result<Peer> {
        let client = self.network.connect(ADDR)?;
        self.settle()?;
        let greeting = String::from_utf8(client.take_received())?;
        assert!(greeting.starts_with("200 "), "{greeting}");
        Ok(client)
    }

    /// A client that has begun TLS with STARTTLS.
    fn upgraded(&self) -> Result<TlsPeer> {
        self.upgrade(self.client()?, "382 continue with TLS negotiation\r\n")
    }
}

/// The lines of a reply to CAPABILITIES about TLS and the log-in.
fn offers(reply: &str) -> Vec<&str> {
    let is = |line: &&str| line.starts_with("STARTTLS") || line.starts_with("AUTHINFO");
    reply.lines().filter(is).collect()
}

#[test]
fn tls_forgets_what_came_in_clear() -> Result {
    for version in [&TLS12, &TLS13] {
        let news = News::new(1, anonymous())?;
        let client = news.client()?;
        let reply = news.ask(&client, "GROUP misc.test\r\nSTAT 3\r\nSTARTTLS\r\n")?;
        assert!(reply.contains("\r\n223 3 ") && reply.contains("\r\n382 "));
        let mut client = TlsPeer::client(client, client_config_of(version));
        news.exchange(&mut client);
        let reply = news.ask_tls(&mut client, "STAT\r\nSTAT 3\r\nLISTGROUP\r\n")?;
        assert_eq!(reply, "412 no newsgroup selected\r\n".repeat(3));
        let reply = news.ask_tls(&mut client, "GROUP misc.test\r\nSTAT\r\n")?;
        assert!(reply.contains("\r\n223 1 "), "{reply}");
    }
    Ok(())
}

#[test]
fn tls_forgets_a_name_that_came_in_clear() -> Result {
    let options = Options {
        insecure_auth: true,
        ..options()
    };
    let news = News::new(1, options)?;
    let client = news.client()?;
    let reply = news.ask(&client, "AUTHINFO USER ann\r\nSTARTTLS\r\n")?;
    assert!(reply.starts_with("381 ") && reply.contains("\r\n382 "));
    let mut client = news.handshake(client);
    let reply = news.ask_tls(&mut client, "AUTHINFO PASS secret\r\nGROUP misc.test\r\n")?;
    let expected = "482 AUTHINFO USER comes first\r\n480 authentication required\r\n";
    assert_eq!(reply, expected);
    Ok(())
}

/// A check on a thread takes a while.
#[test]
fn starttls_waits_while_a_password_is_checked() -> Result {
    for (checked, replies) in [
        (Checked::Right, ["281", "502"]),
        (Checked::Busy, ["403", "382"]),
        (Checked::Wrong(Duration::from_secs(1)), ["481", "382"]),
    ] {
        let (check, checking) = pending();
        let options = Options {
            check_password: Some(check),
            insecure_auth: true,
            ..anonymous()
        };
        let news = News::new(1, options)?;
        let client = news.client()?;
        let log_in = "AUTHINFO USER ann\r\nAUTHINFO PASS secret\r\n";
        let reply = news.ask(&client, format!("{log_in}STARTTLS\r\n"))?;
        assert_eq!(reply, "381 password required\r\n");
        let chat = checking.take().ok_or("no check")?;
        chat.post(move |session: &mut Session| {
            session.password_checked(checked);
            Ok(())
        })?;
        news.network
            .advance(&news.event_loop, Duration::from_secs(1))?;
        let reply = String::from_utf8(client.take_received())?;
        let codes = reply.lines().map(|line| &line[..3]);
        assert_eq!(codes.collect::<Vec<_>>(), replies);
        if replies[1] == "382" {
            let mut client = news.handshake(client);
            let reply = news.ask_tls(&mut client, "GROUP misc.test\r\n")?;
            assert_eq!(reply, "480 authentication required\r\n");
        }
    }
    Ok(())
}

#[test]
fn passwords_are_accepted_with_tls_only() -> Result {
    let news = News::new(1, options())?;
    let client = news.client()?;
    let reply = news.ask(&client, "GROUP misc.test\r\nDATE\r\nCAPABILITIES\r\n")?;
    assert!(reply.starts_with("480 authentication required\r\n111 "));
    assert_eq!(offers(&reply), ["STARTTLS", "AUTHINFO"]);
    let reply = news.ask(&client, "AUTHINFO USER ann\r\nAUTHINFO PASS secret\r\n")?;
    assert_eq!(reply, "483 use STARTTLS first\r\n".repeat(2));
    assert!(news.ask(&client, "STARTTLS\r\n")?.starts_with("382 "));
    let mut client = news.handshake(client);
    let reply = news.ask_tls(&mut client, "GROUP misc.test\r\nCAPABILITIES\r\n")?;
    assert!(reply.starts_with("480 "));
    assert_eq!(offers(&reply), ["AUTHINFO USER"]);
    let reply = news.ask_tls(&mut client, "AUTHINFO PASS secret\r\nAUTHINFO USER ann\r\n")?;
    assert!(reply.starts_with("482 ") && reply.contains("\r\n381 "));
    let reply = news.ask_tls(&mut client, "AUTHINFO PASS secret\r\n")?;
    assert_eq!(reply, "281 welcome\r\n");
    let reply = news.ask_tls(&mut client, "GROUP misc.test\r\nCAPABILITIES\r\n")?;
    assert!(reply.starts_with("211 "), "{reply}");
    assert_eq!(offers(&reply), [""; 0]);
    let reply = news.ask_tls(&mut client, "AUTHINFO USER ann\r\nSTARTTLS\r\n")?;
    let expected = "502 authenticated already\r\n502 TLS is active already\r\n";
    assert_eq!(reply, expected);
    Ok(())
}

/// TLS of the client ends at the proxy, which says so in its header.
#[test]
fn passwords_are_accepted_from_clients_that_have_tls_with_the_proxy() -> Result {
    const PASSWORD: &str =
        "AUTHINFO USER ann\r\nAUTHINFO PASS secret\r\nSTARTTLS\r\nCAPABILITIES\r\n";
    let client: SocketAddr = "198.51.100.7:40000".parse()?;
    let to: SocketAddr = ADDR.parse()?;
    let header = Header::new(Version::V2, client.into(), to.into());
    for (flags, expected) in [
        (
            Some(1),
            [
                "381 password required",
                "281 welcome",
                "502 TLS is active already",
            ],
        ),
        (
            Some(0),
            [
                "483 use STARTTLS first",
                "483 use STARTTLS first",
                "580 this server has no certificate",
            ],
        ),
        (
            None,
            [
                "483 use STARTTLS first",
                "483 use STARTTLS first",
                "580 this server has no certificate",
            ],
        ),
    ] {
        let news = News::new(
            1,
            Options {
                proxies: vec!["10.0.0.0/8".parse()?],
                start_tls: None,
                ..options()
            },
        )?;
        let proxy = news
            .network
            .connect_from("10.0.0.2:0".parse::<SocketAddr>()?, ADDR)?;
        let header = match flags {
            Some(flags) => header.clone().with_tlv(tlv::SSL, &[flags, 0, 0, 0, 0])?,
            None => header.clone(),
        };
        proxy.send(header.encode());
        assert!(news.ask(&proxy, "")?.starts_with("200 "));
        let replies = news.ask(&proxy, PASSWORD)?;
        assert_eq!(replies.lines().take(3).collect::<Vec<_>>(), expected);
        let offered = if flags == Some(1) {
            vec![]
        } else {
            vec!["AUTHINFO"]
        };
        assert_eq!(offers(&replies), offered);
    }
    Ok(())
}

#[test]
fn tls_cannot_begin_twice_nor_after_a_login_nor_without_a_certificate() -> Result {
    let news = News::new(1, anonymous())?;
    let mut client = news.upgraded()?;
    let reply = news.ask_tls(&mut client, "STARTTLS\r\nSTARTTLS x\r\nCAPABILITIES\r\n")?;
    let expected = "502 TLS is active already\r\n501 syntax error\r\n101 ";
    assert!(reply.starts_with(expected), "{reply}");
    assert_eq!(offers(&reply), [""; 0]);

    let options = Options {
        insecure_auth: true,
        ..options()
    };
    let news = News::new(1, options)?;
    let client = news.client()?;
    let reply = news.ask(&client, "CAPABILITIES\r\n")?;
    assert_eq!(offers(&reply), ["STARTTLS", "AUTHINFO USER"]);
    let login = "AUTHINFO USER ann\r\nAUTHINFO PASS secret\r\nSTARTTLS\r\nCAPABILITIES\r\n";
    let reply = news.ask(&client, login)?;
    assert!(
        reply.contains("\r\n502 too late for TLS, after the log-in\r\n"),
        "{reply}"
    );
    assert_eq!(offers(&reply), [""; 0]);

    let news = News::new(1, Options::default())?;
    let client = news.client()?;
    let reply = news.ask(&client, "STARTTLS\r\nDATE\r\nCAPABILITIES\r\n")?;
    assert!(
        reply.starts_with("580 this server has no certificate\r\n111 "),
        "{reply}"
    );
    assert_eq!(offers(&reply), [""; 0]);
    Ok(())
}

/// CVE-2011-0411, however the bytes are cut: neither are the commands behind STARTTLS run in clear, nor with TLS.
#[test]
fn commands_behind_starttls_are_never_run() -> Result {
    let input = b"STARTTLS\r\nGROUP misc.test\r\nIHAVE <1@x>\r\n";
    sim::every_segmentation(input, |pieces| {
        let news = News::new(1, anonymous())?;
        let client = news.client()?;
        for piece in pieces {
            client.send(piece);
            news.settle()?;
        }
        let replies = client.take_received();
        let permission = b"382 continue with TLS negotiation\r\n";
        let is_refusal = is_refusal(&replies, permission);
        assert!(is_refusal, "{pieces:?}: {}", replies.escape_ascii());
        assert!(client.has_ended(), "{pieces:?}");
        assert_eq!(news.event_loop.stats().records_in, 1, "{pieces:?}");
        Ok(())
    })?;
    Ok(())
}

#[test]
fn a_port_has_tls_from_the_beginning() -> Result {
    let news = News::new(1, options())?;
    let mut client = news.handshake(news.network.connect(TLS_ADDR)?);
    let greeting = client.text();
    assert!(greeting.starts_with("200 "), "{greeting}");
    client.plaintext.clear();
    let reply = news.ask_tls(&mut client, "CAPABILITIES\r\nSTARTTLS\r\n")?;
    assert_eq!(offers(&reply), ["AUTHINFO USER"]);
    assert!(reply.ends_with("\r\n502 TLS is active already\r\n"));
    let reply = news.ask_tls(&mut client, "AUTHINFO USER ann\r\n")?;
    assert!(reply.starts_with("381 "), "{reply}");
    let reply = news.ask_tls(&mut client, "QUIT\r\n")?;
    assert_eq!(reply, "205 goodbye\r\n");
    assert!(client.is_closed(), "the end is announced");
    assert_eq!(client.peer.ended(), Some(Ended::Finished));

    let plain = news.network.connect(TLS_ADDR)?;
    let reply = news.ask(&plain, "AUTHINFO USER ann\r\n");
    assert!(reply.is_err() || !reply?.contains("381"));
    assert!(plain.has_ended());
    Ok(())
}

/// Reading and posting give the same replies as in clear, also on a bad network.
#[test]
fn replies_with_tls_are_those_in_clear() -> Result {
    let input = "GROUP misc.test\r\nARTICLE 1\r\nPOST\r\n\
        From: Ann <ann@example.org>\r\nNewsgroups: misc.test\r\nSubject: dots\r\n\
        Date: Mon, 15 Jun 2026 12:00:00 +0000\r\nMessage-ID: <dots@example.org>\r\n\r\n..a line with a dot\r\n...\r\nthe end\r\n.\r\n\
        OVER 1-30\r\nBODY <dots@example.org>\r\nQUIT\r\n";
    let news = News::new(0, anonymous())?;
    let clear = news.ask(&news.client()?, input)?;
    assert!(clear.contains("\r\n240 ") && clear.ends_with("\r\n205 goodbye\r\n"));
    for seed in 0..40 {
        let news = News::new(seed, anonymous())?;
        let mut client = news.upgraded()?;
        let bad = Conditions::default().short_reads(0.9).short_writes(0.9);
        let worse = bad
            .would_block(0.3)
            .late_events(0.5)
            .shuffled(true)
            .buffer(700);
        news.network.set_conditions(worse);
        assert_eq!(news.ask_tls(&mut client, input)?, clear, "seed {seed}");
        assert!(client.is_closed());
    }
    Ok(())
}
