//! TLS that begins in the middle of a connection, and bytes that somebody has inserted before it.

use asynchat::tls::rustls::version::{TLS12, TLS13};
use asynchat::{AsyncChat, Chat, Close, Connector, Dialogue, Result, Terminator, tls};

use crate::common::{Log, name};
use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, client_config_of, server_config};

/// A server: logs its commands, and begins TLS on request.
struct Server {
    chat: Chat,
    log: Log,
    user: Option<String>,
}

impl AsyncChat for Server {
    fn handle_connect(&mut self) -> Result {
        self.chat.push("220 ready\r\n");
        Ok(())
    }
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let line = String::from_utf8_lossy(line).into_owned();
        self.log.add(format!("command {line}"));
        if line == "STARTTLS" {
            self.chat.push("220 go ahead\r\n");
            self.chat.start_tls(server_config())?;
        } else if let Some(user) = line.strip_prefix("USER ") {
            self.user = Some(user.to_owned());
            self.chat.push("250 ok\r\n");
        } else {
            write!(
                self.chat,
                "250 {} {line}\r\n",
                self.user.as_deref().unwrap_or("nobody")
            );
        }
        Ok(())
    }
    fn handle_tls(&mut self) -> Result {
        self.log.add(format!("tls {}", self.chat.tls().is_some()));
        self.user = None;
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

/// A client: asks for TLS, and sends a command when it is up.
struct Client {
    chat: Chat,
    log: Log,
}

impl AsyncChat for Client {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let line = String::from_utf8_lossy(line).into_owned();
        self.log.add(format!("reply {line}"));
        match &*line {
            "220 ready" => self.chat.push("STARTTLS\r\n"),
            "220 go ahead" => {
                let client = tls::Client::from(client_config()).name("localhost");
                self.chat.start_tls(client)?;
                self.chat.push("SECRET\r\n"); // waits for the handshake
            }
            _ => {}
        }
        Ok(())
    }
    fn handle_tls(&mut self) -> Result {
        self.log.add("tls");
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

fn server(scene: &Scene) -> Result<(Chat, asynchat::sim::Peer)> {
    let log = scene.log.clone();
    scene.connection(move |chat| Server {
        chat,
        log,
        user: None,
    })
}

fn client(scene: &Scene) -> Result<(Chat, asynchat::sim::Peer)> {
    let log = scene.log.clone();
    scene.connection(move |chat| Client { chat, log })
}

#[test]
fn a_server_begins_tls_and_forgets_what_came_in_clear() -> Result {
    for version in [&TLS12, &TLS13] {
        let scene = Scene::new()?;
        let (_chat, peer) = server(&scene)?;
        peer.send("USER mallory\r\nWHO\r\nSTARTTLS\r\n");
        scene.settle()?;
        let clear = "220 ready\r\n250 ok\r\n250 mallory WHO\r\n220 go ahead\r\n";
        assert_eq!(String::from_utf8(peer.take_received())?, clear);
        let mut peer = TlsPeer::client(peer, client_config_of(version));
        peer.exchange(|| scene.settle().unwrap());
        peer.send("WHO\r\n");
        peer.exchange(|| scene.settle().unwrap());
        assert_eq!(peer.text(), "250 nobody WHO\r\n");
        let expected = [
            "command USER mallory",
            "command WHO",
            "command STARTTLS",
            "tls true",
            "command WHO",
        ];
        assert_eq!(scene.log.lines(), expected);
    }
    Ok(())
}

#[test]
fn a_client_begins_tls_and_sends_nothing_in_clear_after_that() -> Result {
    let scene = Scene::new()?;
    let (_chat, peer) = client(&scene)?;
    peer.send("220 ready\r\n");
    scene.settle()?;
    assert_eq!(peer.take_received(), b"STARTTLS\r\n");
    peer.send("220 go ahead\r\n");
    scene.settle()?;
    assert_eq!(peer.received().first(), Some(&22), "a handshake");
    let mut peer = TlsPeer::server(peer);
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.text(), "SECRET\r\n");
    peer.send("250 ok\r\n");
    scene.settle()?;
    let expected = [
        "reply 220 ready",
        "reply 220 go ahead",
        "tls",
        "reply 250 ok",
    ];
    assert_eq!(scene.log.lines(), expected);
    Ok(())
}

/// CVE-2011-0411: whatever follows the command in clear is never a command, wherever the network cuts.
#[test]
fn nothing_that_follows_the_command_in_clear_is_ever_used() -> Result {
    let input = b"STARTTLS\r\nUSER mallory\r\nWHO\r\n";
    for cut in 0..=input.len() {
        let scene = Scene::new()?;
        let (_chat, peer) = server(&scene)?;
        peer.take_received();
        peer.send(&input[..cut]);
        scene.settle()?;
        peer.send(&input[cut..]);
        scene.settle()?;
        assert_eq!(
            scene.log.lines(),
            ["command STARTTLS", "close Tls"],
            "{cut}"
        );
        let received = peer.received();
        let reply = b"220 go ahead\r\n";
        let after = received.strip_prefix(reply).unwrap_or(&received);
        // At most an alert.
        assert!(after.is_empty() || after[0] == 21, "{cut}: {after:?}");
    }
    Ok(())
}

/// The same by single bytes, and with an insertion that is not a whole line.
#[test]
fn an_insertion_of_any_length_ends_the_connection() -> Result {
    for inserted in [
        &b"X"[..],
        b"\r\n",
        b"\n",
        b"USER m",
        b"\x16",
        b"\x16\x03\x01\x00\x01\x01USER m\r\n",
    ] {
        for bytewise in [false, true] {
            let scene = Scene::new()?;
            let (_chat, peer) = server(&scene)?;
            let input = [b"STARTTLS\r\n", inserted].concat();
            for piece in input.chunks(if bytewise { 1 } else { input.len() }) {
                peer.send(piece);
                scene.settle()?;
            }
            // A handshake that never continues ends at its deadline.
            scene.advance(10)?;
            let lines = scene.log.lines();
            assert_eq!(lines[0], "command STARTTLS");
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(
                lines[1] == "close Tls" || lines[1] == "close Timeout",
                "{lines:?}"
            );
        }
    }
    Ok(())
}

/// "NO STARTTLS" (2021): a reply that somebody has inserted behind the one that permits TLS.
#[test]
fn nothing_that_follows_the_reply_in_clear_is_ever_used() -> Result {
    let input = b"220 go ahead\r\n250 forged\r\n";
    for cut in 0..=input.len() {
        let scene = Scene::new()?;
        let (_chat, peer) = client(&scene)?;
        peer.send("220 ready\r\n");
        scene.settle()?;
        peer.take_received();
        peer.send(&input[..cut]);
        scene.settle()?;
        peer.send(&input[cut..]);
        scene.settle()?;
        let lines = scene.log.lines();
        assert_eq!(
            lines,
            ["reply 220 ready", "reply 220 go ahead", "close Tls"],
            "{cut}"
        );
        let received = peer.received();
        let text = String::from_utf8_lossy(&received);
        assert!(!text.contains("SECRET"), "{cut}");
    }
    Ok(())
}

#[test]
fn a_part_of_a_record_before_the_call_is_an_insertion() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = server(&scene)?;
    peer.send("WHO\r\nUSER mal");
    scene.settle()?;
    // Not in a callback of the command.
    chat.start_tls(server_config())?;
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["command WHO", "close Tls"]);
    Ok(())
}

#[test]
fn a_part_of_any_kind_of_record_is_an_insertion() -> Result {
    let kinds = [
        Terminator::crlf(),
        Terminator::count(10),
        Terminator::dot_block(),
        Terminator::bytes(b"END"),
    ];
    for terminator in kinds {
        let scene = Scene::new()?;
        let (chat, peer) = scene.connection(scene.log.session())?;
        chat.set_terminator(terminator);
        peer.send("abc");
        scene.settle()?;
        chat.start_tls(server_config())?;
        scene.settle()?;
        assert!(scene.log.has("close Tls"), "{:?}", scene.log.lines());
        assert!(!scene.log.has("record"));
    }
    Ok(())
}

#[test]
fn input_of_a_paused_connection_is_an_insertion_too() -> Result {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let (chat, peer) = scene.connection(move |chat: Chat| {
        move |line: &[u8]| {
            log.add(String::from_utf8_lossy(line));
            chat.pause_reading();
            Ok(())
        }
    })?;
    peer.send("one\r\ntwo\r\n");
    scene.settle()?;
    chat.start_tls(server_config())?;
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["one"]);
    assert!(!chat.is_open());
    Ok(())
}

#[test]
fn output_before_the_call_is_in_clear_and_output_behind_it_is_not() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(|_: Chat| |_: &[u8]| Ok(()))?;
    scene
        .network
        .set_conditions(scene.network.conditions().buffer(100));
    peer.stop_reading();
    chat.push(vec![b'c'; 5000]);
    chat.start_tls(server_config())?;
    chat.push("hidden\r\n");
    chat.push(vec![b'h'; 10_000]);
    scene.settle()?;
    // TLS begins when the peer has taken what is in clear.
    peer.start_reading(usize::MAX);
    scene.settle()?;
    let received = peer.take_received();
    assert_eq!(received, vec![b'c'; 5000]);
    let mut peer = TlsPeer::client(peer, client_config());
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.plaintext.len(), 8 + 10_000);
    assert!(peer.text().starts_with("hidden\r\nhhh"));
    Ok(())
}

#[test]
fn discarding_the_buffers_does_not_discard_tls() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(|_: Chat| |_: &[u8]| Ok(()))?;
    chat.push("before\r\n");
    chat.start_tls(server_config())?;
    chat.push("after\r\n");
    chat.discard_buffers();
    chat.push("last\r\n");
    scene.settle()?;
    assert_eq!(peer.take_received(), b"");
    let mut peer = TlsPeer::client(peer, client_config());
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.text(), "last\r\n");
    Ok(())
}

#[test]
fn a_close_behind_the_call_waits_for_tls() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(|_: Chat| |_: &[u8]| Ok(()))?;
    chat.start_tls(server_config())?;
    chat.push("farewell\r\n");
    chat.close_when_done();
    scene.settle()?;
    let mut peer = TlsPeer::client(peer, client_config());
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.text(), "farewell\r\n");
    assert!(peer.is_closed() && !chat.is_open());
    Ok(())
}

#[test]
fn the_call_is_an_error_where_tls_cannot_begin() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(|_: Chat| |_: &[u8]| Ok(()))?;
    let error = |outcome: Result<(), asynchat::Error>| match outcome {
        Ok(()) => String::new(),
        Err(error) => error.to_string(),
    };
    let unnamed = tls::Client::from(client_config());
    assert!(error(chat.start_tls(unnamed)).contains("needs the name"));
    let bad = tls::Client::from(client_config()).name("not a name");
    assert!(error(chat.start_tls(bad)).contains("not a name"));
    assert_eq!(error(chat.start_tls(server_config())), "");
    assert!(error(chat.start_tls(server_config())).contains("uses TLS already"));
    scene.settle()?;
    TlsPeer::client(peer, client_config()).exchange(|| scene.settle().unwrap());
    assert!(error(chat.start_tls(server_config())).contains("uses TLS already"));
    chat.close();
    scene.settle()?;
    assert!(!error(chat.start_tls(server_config())).is_empty());
    Ok(())
}

#[test]
fn timers_and_posts_reach_the_session_during_the_handshake() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session())?;
    chat.start_tls(server_config())?;
    chat.call_later(std::time::Duration::from_secs(1));
    scene.settle()?;
    scene.advance(2)?;
    assert_eq!(scene.log.lines(), ["connect", "timer"]);
    let mut peer = TlsPeer::client(peer, client_config());
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(scene.log.lines(), ["connect", "timer", "tls"]);
    Ok(())
}

#[test]
fn a_handshake_that_is_not_completed_ends_at_its_deadline() -> Result {
    let scene = Scene::new()?;
    let (chat, _peer) = scene.connection(scene.log.session())?;
    chat.start_tls(server_config())?;
    scene.settle()?;
    scene.advance(9)?;
    assert_eq!(scene.log.lines(), ["connect"]);
    scene.advance(1)?;
    assert_eq!(scene.log.lines(), ["connect", "close Timeout"]);
    Ok(())
}

#[test]
fn every_segmentation_of_a_session_gives_the_same_conversation() -> Result {
    for piece in [1, 2, 3, 11, 100, 4000] {
        let scene = Scene::new()?;
        let (_chat, peer) = server(&scene)?;
        for piece in b"USER a\r\nSTARTTLS\r\n".chunks(piece) {
            peer.send(piece);
            scene.settle()?;
        }
        peer.take_received();
        let mut peer = TlsPeer::client(peer, client_config());
        loop {
            scene.settle()?;
            let has_received = peer.receive();
            let mut output = peer.output();
            if !peer.tls.is_handshaking() && peer.text().is_empty() {
                output.append(&mut peer.encrypt(b"WHO\r\n"));
            }
            for piece in output.chunks(piece) {
                peer.peer.send(piece);
                scene.settle()?;
            }
            if !has_received && output.is_empty() {
                break;
            }
        }
        let first = [
            "command USER a",
            "command STARTTLS",
            "tls true",
            "command WHO",
        ];
        assert_eq!(scene.log.lines()[..4], first, "{piece}");
        assert!(peer.text().starts_with("250 nobody WHO\r\n"));
    }
    Ok(())
}

/// A client that gives no name: the certificate has to be for the target of its connector.
#[test]
fn a_client_takes_the_name_of_the_server_from_its_target() -> Result {
    struct Upgrading(Chat, Log);
    impl AsyncChat for Upgrading {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            self.0.start_tls(client_config())?;
            Ok(())
        }
        fn handle_tls(&mut self) -> Result {
            self.1.add("tls");
            Ok(())
        }
        fn handle_close(&mut self, why: &Close) {
            self.1.add(format!("close {why}"));
        }
    }
    for (target, is_valid) in [
        ("127.0.0.1:563", true),
        ("localhost:563", true),
        ("other:563", false),
    ] {
        let scene = Scene::new()?;
        for name in ["localhost", "other"] {
            scene.network.add_host(name, ["127.0.0.1".parse()?]);
        }
        let service = scene.network.listen("127.0.0.1:563")?;
        let log = scene.log.clone();
        let chat =
            Connector::new(target).connect_on(&scene.event_loop, |chat| Upgrading(chat, log))?;
        scene.settle()?;
        let peer = service.accept().ok_or("no connection")?;
        peer.send("220 go ahead\r\n");
        scene.settle()?;
        TlsPeer::server(peer).exchange(|| scene.settle().unwrap());
        assert_eq!(
            scene.log.has("tls"),
            is_valid,
            "{target}: {:?}",
            scene.log.lines()
        );
        let lines = scene.log.lines();
        let is_refused = lines
            .iter()
            .any(|line| line.contains("is for another name"));
        assert_eq!(is_refused, !is_valid, "{lines:?}");
        chat.close();
        scene.settle()?;
    }
    Ok(())
}

/// The dialogue does not know every command that begins TLS: this is that of FTP (RFC 4217).
#[test]
fn a_dialogue_with_an_outstanding_command_does_not_begin_tls() -> Result {
    struct Ftp(Dialogue<Ftp>, Log);
    impl AsyncChat for Ftp {
        fn found_terminator(&mut self, record: &[u8]) -> Result {
            let then = self.0.receive(record)?;
            then(self)
        }
        fn handle_tls(&mut self) -> Result {
            self.1.add("tls");
            Ok(())
        }
        fn handle_close(&mut self, why: &Close) {
            self.1.add(format!("{:?}", self.0.outcome(why)));
        }
    }
    for pipelines in [false, true] {
        let scene = Scene::new()?;
        let log = scene.log.clone();
        let (_chat, peer) = scene.connection(move |chat| {
            let mut dialogue = Dialogue::new(&chat);
            dialogue.send("AUTH TLS\r\n", |ftp: &mut Ftp, _| {
                let client = tls::Client::from(client_config()).name("localhost");
                Ok(ftp.0.start_tls(client)?)
            });
            if pipelines {
                dialogue.send("USER anonymous\r\n", |_, _| Ok(()));
            }
            Ftp(dialogue, log)
        })?;
        scene.settle()?;
        peer.take_received();
        peer.send("234 go ahead\r\n");
        TlsPeer::server(peer).exchange(|| scene.settle().unwrap());
        let lines = scene.log.lines();
        let expected = if pipelines {
            "Err(AUTH: `234 go ahead`: USER: it was sent behind the command that begins TLS"
        } else {
            "tls"
        };
        assert!(lines[0].starts_with(expected), "{lines:?}");
    }
    Ok(())
}
