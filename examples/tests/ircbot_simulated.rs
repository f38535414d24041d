//! The bot of the example `ircbot`, on a simulated network: what it says to a server, and when.

#[path = "../ircbot/bot/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the program uses the rest of it")]
mod bot;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Network, Peer, Service};
use asynchat::{Backoff, Connector, EventLoop, Result};
use bot::{Bot, Identity, Memory};

const ADDR: &str = "10.0.0.1:6667";

/// A server, and the bot that connects to it.
struct Scene {
    network: Network,
    event_loop: EventLoop,
    service: Service,
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

    /// The bot's connection, and that it has introduced itself.
    fn accept(&self) -> Result<Peer> {
        self.network.settle(&self.event_loop)?;
        let server = self.service.accept().ok_or("the bot has connected")?;
        let said = self.said(&server)?;
        assert_eq!(said[0], "NICK robin");
        assert!(said[1].starts_with("USER "), "{said:?}");
        Ok(server)
    }

    /// The same, registered, and with all its lines to spend again.
    fn welcome(&self) -> Result<Peer> {
        let server = self.accept()?;
        server.send(":irc.test 001 robin :Welcome\r\n");
        self.advance(20)?;
        server.take_received();
        Ok(server)
    }

    fn advance(&self, seconds: u64) -> Result {
        let time = Duration::from_secs(seconds);
        self.network.advance(&self.event_loop, time)
    }

    /// What the bot has said since it was asked last, line by line.
    fn said(&self, server: &Peer) -> Result<Vec<String>> {
        self.network.settle(&self.event_loop)?;
        let text = String::from_utf8(server.take_received())?;
        assert!(text.is_empty() || text.ends_with("\r\n"), "{text:?}");
        Ok(text.split_terminator("\r\n").map(str::to_owned).collect())
    }

    /// What it says to this.
    fn answer(&self, server: &Peer, line: &str) -> Result<Vec<String>> {
        server.send(format!("{line}\r\n"));
        self.said(server)
    }
}

/// It is one line, which begins like this; how long ago something was is real time.
#[track_caller]
fn begins(said: &[String], start: &str) {
    assert!(said.len() == 1 && said[0].starts_with(start), "{said:?}");
}

#[test]
fn it_registers_and_joins_its_channels() -> Result {
    let scene = Scene::new(&["#birds", "#test"])?;
    let server = scene.accept()?;
    let said = scene.answer(&server, ":irc.test 001 robin :Welcome")?;
    assert_eq!(said, ["JOIN #birds", "JOIN #test"]);
    let said = scene.answer(&server, "PING :irc.test")?;
    assert_eq!(said, ["PONG :irc.test"]);
    Ok(())
}

#[test]
fn it_takes_another_nickname_when_its_own_is_taken() -> Result {
    let scene = Scene::new(&["#test"])?;
    let server = scene.accept()?;
    let taken = ":irc.test 433 * robin :Nickname is already in use";
    assert_eq!(scene.answer(&server, taken)?, ["NICK robin_"]);
    assert_eq!(scene.answer(&server, taken)?, ["NICK robin2"]);
    let said = scene.answer(&server, ":irc.test 001 robin2 :Welcome")?;
    assert_eq!(said, ["JOIN #test"]);
    // It goes by that name now.
    scene.advance(20)?;
    let asked = ":wren!w@host PRIVMSG #test :!seen ROBIN2";
    let said = scene.answer(&server, asked)?;
    assert_eq!(said, ["PRIVMSG #test :That's me."]);
    Ok(())
}

/// Its nickname was taken when it came: by its own last connection, which the server believes alive.
fn welcomed_under_another_nick(scene: &Scene) -> Result<Peer> {
    let server = scene.accept()?;
    let taken = ":irc.test 433 * robin :Nickname is already in use";
    assert_eq!(scene.answer(&server, taken)?, ["NICK robin_"]);
    let said = scene.answer(&server, ":irc.test 001 robin_ :Welcome")?;
    assert_eq!(said, ["JOIN #test"]);
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
        let said = scene.answer(
            &server,
            ":irc.test 433 robin_ robin :Nickname is already in use",
        )?;
        assert_eq!(
            said.iter().filter(|line| *line == "NICK robin").count(),
            1,
            "{said:?}"
        );
    }
    scene.advance(60)?;
    server.take_received();
    // The ghost is gone, and from now on there is nothing to regain.
    scene.answer(&server, ":robin_!asynchat@host NICK :robin")?;
    for _ in 0..5 {
        scene.advance(60)?;
        let said = scene.answer(&server, "PING :x")?;
        assert!(
            !said.iter().any(|line| line.starts_with("NICK")),
            "{said:?}"
        );
    }
    let asked = ":wren!w@host PRIVMSG #test :!seen ROBIN";
    assert_eq!(scene.answer(&server, asked)?, ["PRIVMSG #test :That's me."]);
    Ok(())
}

#[test]
fn it_regains_its_nickname_when_it_sees_it_given_up() -> Result {
    for given_up in [
        ":ROBIN!a@host QUIT :Ping timeout",
        ":robin!a@host NICK wren",
    ] {
        let scene = Scene::new(&["#test"])?;
        let server = welcomed_under_another_nick(&scene)?;
        assert_eq!(scene.answer(&server, ":wren!w@host QUIT :bye")?, [""; 0]);
        assert_eq!(
            scene.answer(&server, given_up)?,
            ["NICK robin"],
            "{given_up}"
        );
    }
    Ok(())
}

#[test]
fn it_takes_its_nickname_back_when_it_is_renamed_by_force() -> Result {
    let scene = Scene::new(&["#test"])?;
    let server = scene.welcome()?;
    assert_eq!(
        scene.answer(&server, ":robin!r@host NICK Guest4711")?,
        [""; 0]
    );
    scene.advance(61)?;
    assert!(scene.said(&server)?.contains(&"NICK robin".to_owned()));
    // It is not to have it: then it stays what it is.
    scene.answer(&server, ":irc.test 432 Guest4711 robin :Erroneous nickname")?;
    scene.advance(100)?;
    assert!(!scene.said(&server)?.contains(&"NICK robin".to_owned()));
    Ok(())
}

/// RFC 2812 section 1.2.1: a server may allow for nine characters.
#[test]
fn a_nickname_that_was_cut_short_is_its_own() -> Result {
    let scene = Scene::new(&["#test"])?;
    let server = scene.accept()?;
    scene.answer(&server, ":irc.test 001 rob :Welcome")?;
    scene.advance(100)?;
    assert_eq!(scene.said(&server)?, [""; 0]);
    Ok(())
}

#[test]
fn it_answers_where_it_is_asked() -> Result {
    let scene = Scene::new(&[])?;
    let server = scene.welcome()?;
    let answer = |line: &str| scene.answer(&server, line);
    let none = [""; 0];
    assert_eq!(answer(":wren!w@host JOIN #test")?, none);
    let said = answer("@time=x;a=b :jay!j@host PRIVMSG #test :!seen WREN")?;
    begins(&said, "PRIVMSG #test :wren was joining #test ");
    let said = answer(":jay!j@host PRIVMSG robin :!seen owl")?;
    assert_eq!(said, ["PRIVMSG jay :I have not seen owl"]);
    let said = answer(":jay!j@host PRIVMSG robin :!uptime")?;
    begins(&said, "PRIVMSG jay :up for ");
    assert_eq!(answer(":jay!j@host PRIVMSG robin :hello")?, none);
    assert_eq!(answer(":jay!j@host NOTICE robin :!uptime")?, none);
    scene.advance(20)?;
    server.take_received();
    let said = answer(":jay!j@host PRIVMSG robin :\u{1}VERSION\u{1}")?;
    assert!(said[0].starts_with("NOTICE jay :\u{1}VERSION asynchat"));
    let said = answer(":jay!j@host PRIVMSG robin :\u{1}PING 42 7\u{1}")?;
    assert_eq!(said, ["NOTICE jay :\u{1}PING 42 7\u{1}"]);
    Ok(())
}

#[test]
fn however_much_it_is_asked_it_keeps_its_pace_but_for_a_pong() -> Result {
    let scene = Scene::new(&[])?;
    let server = scene.welcome()?;
    server.send(":jay!j@host PRIVMSG #test :!seen owl\r\n".repeat(500));
    assert_eq!(scene.said(&server)?.len(), 5);
    for _ in 0..3 {
        scene.advance(2)?;
        assert_eq!(scene.said(&server)?.len(), 1);
    }
    assert_eq!(scene.answer(&server, "PING :x")?, ["PONG :x"]);
    // Fifty wait; the rest is not answered.
    scene.advance(110)?;
    let answers = scene.said(&server)?;
    let answers = answers.iter().filter(|it| it.starts_with("PRIVMSG"));
    assert_eq!(answers.count(), 50 - 3);
    Ok(())
}

#[test]
fn what_it_says_is_one_line_and_no_longer_than_a_message_may_be() -> Result {
    let scene = Scene::new(&[])?;
    let server = scene.welcome()?;
    let long = "é".repeat(400);
    let said = scene.answer(&server, &format!(":jay!j@host PRIVMSG #t :!seen {long}"))?;
    assert_eq!(said.len(), 1);
    assert!((509..=510).contains(&said[0].len()), "{}", said[0].len());
    // More than any message may be: skipped, and the next is heard.
    server.send("x".repeat(20_000));
    assert_eq!(scene.answer(&server, "")?, [""; 0]);
    assert_eq!(scene.answer(&server, "PING :x")?, ["PONG :x"]);
    Ok(())
}

#[test]
fn a_server_that_goes_or_falls_silent_is_tried_again_and_what_it_knew_it_knows() -> Result {
    let scene = Scene::new(&["#test"])?;
    let server = scene.welcome()?;
    scene.answer(&server, ":wren!w@host JOIN #test")?;
    server.reset();
    scene.advance(1)?;
    let server = scene.accept()?;
    let said = scene.answer(&server, ":irc.test 001 robin :Welcome")?;
    assert_eq!(said, ["JOIN #test"]);
    let said = scene.answer(&server, ":jay!j@host PRIVMSG robin :!seen wren")?;
    begins(&said, "PRIVMSG jay :wren was joining #test ");

    // From now on it says nothing, and has not closed either.
    scene.advance(120)?;
    assert_eq!(scene.said(&server)?, ["PING :are you there?"]);
    scene.advance(120)?;
    assert!(server.has_ended());
    scene.advance(1)?;
    scene.accept()?;
    Ok(())
}

#[test]
fn where_it_is_not_wanted_it_does_not_come_back() -> Result {
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
fn at_the_end_it_says_quit() -> Result {
    let scene = Scene::new(&["#a"])?;
    let server = scene.welcome()?;
    scene.event_loop.shutdown(Duration::from_secs(3));
    assert_eq!(scene.said(&server)?, ["QUIT :interrupted"]);
    assert!(server.has_ended());
    drop(server);
    scene.advance(3600)?;
    assert!(scene.event_loop.is_empty());
    Ok(())
}
