//! The `ircbot` example on a simulated network: what it sends to a server, and when.

#[path = "../ircbot/bot/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "only the program uses the rest")]
mod bot;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Listener, Network, Peer};
use asynchat::{Backoff, Connector, EventLoop, Result};
use bot::{Bot, Identity, Memory};

const ADDR: &str = "10.0.0.1:6667";

/// A server, and the bot that connects to it.
struct Scene {
    network: Network,
    event_loop: EventLoop,
    service: Listener,
    memory: Rc<RefCell<Memory>>,
}

impl Scene {
    fn new(channels: &[&str]) -> Result<Self> {
        let network = Network::new(1);
        let event_loop = network.event_loop()?;
        let service = network.listen(ADDR)?;
        let identity = Rc::new(Identity {
            nick: "robin".to_owned(),
            channels: channels.iter().map(|it| (*it).to_owned()).collect(),
        });
        let memory: Rc<RefCell<Memory>> = Rc::default();
        let shared = Rc::clone(&memory);
        let factory = move |chat| Bot::new(chat, Rc::clone(&identity), Rc::clone(&shared));
        let backoff = Backoff::default().jitter(0.0);
        Connector::new(ADDR).reconnect_on(&event_loop, backoff, factory)?;
        Ok(Scene {
            network,
            event_loop,
            service,
            memory,
        })
    }

    /// Accepts the bot's connection, and checks that it registers.
    fn accept(&self) -> Result<Peer> {
        self.network.settle(&self.event_loop)?;
        let server = self.service.accept().ok_or("the bot has connected")?;
        let sent = self.sent(&server)?;
        assert_eq!(sent[0], "NICK robin");
        assert!(sent[1].starts_with("USER "), "{sent:?}");
        Ok(server)
    }

    /// Accepts the bot's connection and completes the registration. The bot can then send a burst again.
    fn welcome(&self) -> Result<Peer> {
        let server = self.accept()?;
        server.send(":irc.test 001 robin :Welcome\r\n");
        self.advance(20)?;
        server.take_received();
        Ok(server)
    }

    fn advance(&self, seconds: u64) -> Result {
        let time = Duration::from_secs(seconds);
        Ok(self.network.advance(&self.event_loop, time)?)
    }

    /// The lines that the bot has sent since the last call.
    fn sent(&self, server: &Peer) -> Result<Vec<String>> {
        self.network.settle(&self.event_loop)?;
        let text = String::from_utf8(server.take_received())?;
        assert!(text.is_empty() || text.ends_with("\r\n"), "{text:?}");
        Ok(text.split_terminator("\r\n").map(str::to_owned).collect())
    }

    /// Sends a line to the bot, and returns its answer.
    fn answer(&self, server: &Peer, line: &str) -> Result<Vec<String>> {
        server.send(format!("{line}\r\n"));
        self.sent(server)
    }
}

/// Asserts that there is one line with this beginning. The rest depends on real time.
#[track_caller]
fn begins(sent: &[String], start: &str) {
    assert!(sent.len() == 1 && sent[0].starts_with(start), "{sent:?}");
}

#[test]
fn it_registers_and_joins_its_channels() -> Result {
    let scene = Scene::new(&["#birds", "#test"])?;
    let server = scene.accept()?;
    let sent = scene.answer(&server, ":irc.test 001 robin :Welcome")?;
    assert_eq!(sent, ["JOIN #birds", "JOIN #test"]);
    let sent = scene.answer(&server, "PING :irc.test")?;
    assert_eq!(sent, ["PONG :irc.test"]);
    Ok(())
}

#[test]
fn it_uses_another_nickname_when_its_own_is_in_use() -> Result {
    let scene = Scene::new(&["#test"])?;
    let server = scene.accept()?;
    let taken = ":irc.test 433 * robin :Nickname is already in use";
    assert_eq!(scene.answer(&server, taken)?, ["NICK robin_"]);
    assert_eq!(scene.answer(&server, taken)?, ["NICK robin2"]);
    let sent = scene.answer(&server, ":irc.test 001 robin2 :Welcome")?;
    assert_eq!(sent, ["JOIN #test"]);
    // This is its nickname now.
    scene.advance(20)?;
    let asked = ":wren!w@host PRIVMSG #test :!seen ROBIN2";
    let sent = scene.answer(&server, asked)?;
    assert_eq!(sent, ["PRIVMSG #test :That's me."]);
    Ok(())
}

/// The bot's nickname is in use, for example by its previous connection, which the server considers alive.
fn welcomed_under_another_nick(scene: &Scene) -> Result<Peer> {
    let server = scene.accept()?;
    let taken = ":irc.test 433 * robin :Nickname is already in use";
    assert_eq!(scene.answer(&server, taken)?, ["NICK robin_"]);
    let sent = scene.answer(&server, ":irc.test 001 robin_ :Welcome")?;
    assert_eq!(sent, ["JOIN #test"]);
    scene.advance(20)?;
    server.take_received();
    Ok(server)
}

#[test]
fn it_tries_to_regain_its_nickname_every_minute() -> Result {
    let scene = Scene::new(&["#test"])?;
    let server = welcomed_under_another_nick(&scene)?;
    for _ in 0..3 {
        scene.advance(60)?;
        let sent = scene.answer(
            &server,
            ":irc.test 433 robin_ robin :Nickname is already in use",
        )?;
        assert_eq!(
            sent.iter().filter(|line| *line == "NICK robin").count(),
            1,
            "{sent:?}"
        );
    }
    scene.advance(60)?;
    server.take_received();
    // After the bot has its nickname, it requests it no more.
    scene.answer(&server, ":robin_!asynchat@host NICK :robin")?;
    for _ in 0..5 {
        scene.advance(60)?;
        let sent = scene.answer(&server, "PING :x")?;
        assert!(
            !sent.iter().any(|line| line.starts_with("NICK")),
            "{sent:?}"
        );
    }
    let asked = ":wren!w@host PRIVMSG #test :!seen ROBIN";
    assert_eq!(scene.answer(&server, asked)?, ["PRIVMSG #test :That's me."]);
    Ok(())
}

#[test]
fn it_requests_its_nickname_when_it_sees_it_freed() -> Result {
    for freed in [
        ":ROBIN!a@host QUIT :Ping timeout",
        ":robin!a@host NICK wren",
    ] {
        let scene = Scene::new(&["#test"])?;
        let server = welcomed_under_another_nick(&scene)?;
        assert_eq!(scene.answer(&server, ":wren!w@host QUIT :bye")?, [""; 0]);
        assert_eq!(scene.answer(&server, freed)?, ["NICK robin"], "{freed}");
    }
    Ok(())
}

#[test]
fn it_requests_its_nickname_after_a_forced_rename() -> Result {
    let scene = Scene::new(&["#test"])?;
    let server = scene.welcome()?;
    assert_eq!(
        scene.answer(&server, ":robin!r@host NICK Guest4711")?,
        [""; 0]
    );
    scene.advance(61)?;
    assert!(scene.sent(&server)?.contains(&"NICK robin".to_owned()));
    // The server refuses the nickname. The bot then does not request it again.
    scene.answer(&server, ":irc.test 432 Guest4711 robin :Erroneous nickname")?;
    scene.advance(100)?;
    assert!(!scene.sent(&server)?.contains(&"NICK robin".to_owned()));
    Ok(())
}

/// RFC 2812 section 1.2.1: a server may truncate nicknames, for example to nine characters.
#[test]
fn a_truncated_nickname_counts_as_its_own() -> Result {
    let scene = Scene::new(&["#test"])?;
    let server = scene.accept()?;
    scene.answer(&server, ":irc.test 001 rob :Welcome")?;
    scene.advance(100)?;
    assert_eq!(scene.sent(&server)?, [""; 0]);
    Ok(())
}

#[test]
fn it_answers_in_the_channel_or_the_private_message() -> Result {
    let scene = Scene::new(&[])?;
    let server = scene.welcome()?;
    let answer = |line: &str| scene.answer(&server, line);
    let none = [""; 0];
    assert_eq!(answer(":wren!w@host JOIN #test")?, none);
    let sent = answer("@time=x;a=b :jay!j@host PRIVMSG #test :!seen WREN")?;
    begins(&sent, "PRIVMSG #test :wren was joining #test ");
    let sent = answer(":jay!j@host PRIVMSG robin :!seen owl")?;
    assert_eq!(sent, ["PRIVMSG jay :I have not seen owl"]);
    let sent = answer(":jay!j@host PRIVMSG robin :!uptime")?;
    begins(&sent, "PRIVMSG jay :up for ");
    assert_eq!(answer(":jay!j@host PRIVMSG robin :hello")?, none);
    assert_eq!(answer(":jay!j@host NOTICE robin :!uptime")?, none);
    scene.advance(20)?;
    server.take_received();
    let sent = answer(":jay!j@host PRIVMSG robin :\u{1}VERSION\u{1}")?;
    assert!(sent[0].starts_with("NOTICE jay :\u{1}VERSION asynchat"));
    let sent = answer(":jay!j@host PRIVMSG robin :\u{1}PING 42 7\u{1}")?;
    assert_eq!(sent, ["NOTICE jay :\u{1}PING 42 7\u{1}"]);
    Ok(())
}

#[test]
fn the_output_rate_is_limited_except_for_pong() -> Result {
    let scene = Scene::new(&[])?;
    let server = scene.welcome()?;
    server.send(":jay!j@host PRIVMSG #test :!seen owl\r\n".repeat(500));
    assert_eq!(scene.sent(&server)?.len(), 5);
    for _ in 0..3 {
        scene.advance(2)?;
        assert_eq!(scene.sent(&server)?.len(), 1);
    }
    assert_eq!(scene.answer(&server, "PING :x")?, ["PONG :x"]);
    // Fifty lines are queued, the others are discarded.
    scene.advance(110)?;
    let answers = scene.sent(&server)?;
    let answers = answers.iter().filter(|it| it.starts_with("PRIVMSG"));
    assert_eq!(answers.count(), 50 - 3);
    Ok(())
}

#[test]
fn long_answers_are_truncated_to_one_message() -> Result {
    let scene = Scene::new(&[])?;
    let server = scene.welcome()?;
    let long = "é".repeat(400);
    let sent = scene.answer(&server, &format!(":jay!j@host PRIVMSG #t :!seen {long}"))?;
    assert_eq!(sent.len(), 1);
    assert!((509..=510).contains(&sent[0].len()), "{}", sent[0].len());
    // A message above the maximum length is skipped, and the next one is handled.
    server.send("x".repeat(20_000));
    assert_eq!(scene.answer(&server, "")?, [""; 0]);
    assert_eq!(scene.answer(&server, "PING :x")?, ["PONG :x"]);
    Ok(())
}

#[test]
fn it_reconnects_after_a_reset_or_silence_and_remembers_users() -> Result {
    let scene = Scene::new(&["#test"])?;
    let server = scene.welcome()?;
    scene.answer(&server, ":wren!w@host JOIN #test")?;
    server.reset();
    scene.advance(1)?;
    let server = scene.accept()?;
    let sent = scene.answer(&server, ":irc.test 001 robin :Welcome")?;
    assert_eq!(sent, ["JOIN #test"]);
    let sent = scene.answer(&server, ":jay!j@host PRIVMSG robin :!seen wren")?;
    begins(&sent, "PRIVMSG jay :wren was joining #test ");

    // From now on the server sends nothing, and does not close the connection.
    scene.advance(120)?;
    assert_eq!(scene.sent(&server)?, ["PING :are you there?"]);
    scene.advance(120)?;
    assert!(server.has_ended());
    scene.advance(1)?;
    scene.accept()?;
    Ok(())
}

#[test]
fn it_does_not_reconnect_after_a_permanent_refusal() -> Result {
    let scene = Scene::new(&[])?;
    let server = scene.accept()?;
    server.send(":irc.test 465 robin :You are banned from this server\r\n");
    scene.event_loop.run()?;
    let why = scene.memory.take().refusal.unwrap_or_default();
    assert!(why.contains("banned"), "{why}");
    assert_eq!(scene.network.elapsed(), Duration::ZERO);
    Ok(())
}

#[test]
fn a_shutdown_sends_quit() -> Result {
    let scene = Scene::new(&["#a"])?;
    let server = scene.welcome()?;
    scene.event_loop.shutdown(Duration::from_secs(3));
    assert_eq!(scene.sent(&server)?, ["QUIT :interrupted"]);
    assert!(server.has_ended());
    drop(server);
    scene.advance(3600)?;
    assert!(scene.event_loop.is_empty());
    Ok(())
}
