//! Factories: in which order a session and the caller of `connect` act, and what follows a factory that fails.

mod common;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{self, Ended, Network, Script};
use asynchat::{
    Backoff, Chat, Close, Connector, Deadlines, EventLoop, Limits, Result, SimpleProducer,
    Terminator,
};
use common::{Log, Session};

const ADDR: &str = "10.0.0.1:7007";

fn network() -> Result<(Network, EventLoop)> {
    let network = Network::new(1);
    let event_loop = network.event_loop()?;
    Ok((network, event_loop))
}

/// The connector of an adopted socket, or of an address, and what its peer receives.
fn each_kind(check: impl Fn(Connector, &EventLoop) -> Result, received: impl Fn(&[u8])) -> Result {
    let (network, event_loop) = network()?;
    let service = network.listen(ADDR)?;
    check(Connector::new(ADDR), &event_loop)?;
    network.settle(&event_loop)?;
    received(&service.accept().ok_or("it has connected")?.take_received());

    let (socket, peer) = network.pair();
    check(Connector::adopt(socket), &event_loop)?;
    network.settle(&event_loop)?;
    received(&peer.take_received());
    Ok(())
}

#[test]
fn the_output_of_a_factory_comes_before_what_was_pushed_to_the_returned_chat() -> Result {
    each_kind(
        |connector, event_loop| {
            let log = Log::default();
            let (session, hooks) = (log.session(), log.clone());
            let chat = connector.connect_on(event_loop, move |chat| {
                chat.push("1 ");
                let log = hooks.clone();
                chat.push_hook(move || log.add("hook of the factory"));
                chat.push_with_producer(SimpleProducer::new("2 "));
                chat.push(vec![b'a'; 5000]);
                session(chat)
            })?;
            chat.push("3 ");
            chat.push(vec![b'b'; 5000]);
            let hooks = log.clone();
            chat.push_hook(move || hooks.add("hook of the caller"));
            chat.push_with_producer(SimpleProducer::new("4 "));
            chat.push("5");
            assert_eq!(chat.queued(), 5003);
            event_loop.call_later(Duration::ZERO, move || {
                assert_eq!(log.count("hook of the factory"), 1);
                assert_eq!(
                    log.lines().last().map(String::as_str),
                    Some("hook of the caller")
                );
            });
            Ok(())
        },
        |received| {
            let (a, b) = ("a".repeat(5000), "b".repeat(5000));
            assert_eq!(received, format!("1 2 {a}3 {b}4 5").as_bytes());
        },
    )
}

#[test]
fn a_reconnection_follows_the_same_order() -> Result {
    let (network, event_loop) = network()?;
    let service = network.listen(ADDR)?;
    let feed = Connector::new(ADDR).reconnect_on(&event_loop, Backoff::default(), |chat| {
        chat.push("HELLO\r\n");
        |_: &[u8]| Ok(())
    })?;
    feed.chat().ok_or("it connects")?.push("NEXT\r\n");
    network.settle(&event_loop)?;
    let peer = service.accept().ok_or("it has connected")?;
    assert_eq!(peer.received(), b"HELLO\r\nNEXT\r\n");
    feed.stop();
    Ok(())
}

#[test]
fn a_close_that_is_queued_by_the_caller_or_by_the_factory_comes_last() -> Result {
    each_kind(
        |connector, event_loop| {
            let chat = connector.connect_on(event_loop, |chat| {
                chat.push("first ");
                |_: &[u8]| Ok(())
            })?;
            chat.push("last");
            chat.close_when_done();
            Ok(())
        },
        |received| assert_eq!(received, b"first last"),
    )?;
    each_kind(
        |connector, event_loop| {
            let chat = connector.connect_on(event_loop, |chat| {
                chat.push("first ");
                chat.close_when_done();
                |_: &[u8]| Ok(())
            })?;
            chat.push("pushed before the factory was called");
            Ok(())
        },
        |received| assert_eq!(received, b"first pushed before the factory was called"),
    )
}

#[test]
fn a_factory_that_closes_at_once_drops_what_the_caller_has_pushed() -> Result {
    let (network, event_loop) = network()?;
    let (socket, peer) = network.pair();
    let log = Log::default();
    let session = log.session();
    let chat = Connector::adopt(socket).connect_on(&event_loop, move |chat| {
        chat.close();
        session(chat)
    })?;
    chat.push("lost");
    network.settle(&event_loop)?;
    assert_eq!(peer.received(), b"");
    assert_eq!(log.lines(), ["close Dropped"]);
    Ok(())
}

#[test]
fn what_the_caller_sets_replaces_what_the_factory_sets() -> Result {
    let (network, event_loop) = network()?;
    let idle = |secs| Deadlines::default().idle(Duration::from_secs(secs));
    for is_set in [false, true] {
        let (socket, peer) = network.pair();
        let log = Log::default();
        let session = log.session();
        let chat = Connector::adopt(socket).connect_on(&event_loop, move |chat| {
            chat.set_terminator(Terminator::bytes(b"."));
            chat.set_limits(Limits::default().record(5));
            chat.set_deadlines(idle(5));
            session(chat)
        })?;
        if is_set {
            chat.set_terminator(Terminator::bytes(b"!"));
            chat.set_limits(Limits::default().record(9));
            chat.set_deadlines(idle(9));
        }
        peer.send(if is_set { "a.b!" } else { "a." });
        network.settle(&event_loop)?;
        assert_eq!(log.has("record a.b"), is_set);
        assert_eq!(log.count("record"), 1);
        assert_eq!(chat.limits().record, if is_set { 9 } else { 5 });
        assert_eq!(chat.deadlines(), idle(if is_set { 9 } else { 5 }));
    }
    Ok(())
}

/// A setting that is the one before is a setting, too.
#[test]
fn what_the_caller_sets_to_what_it_was_replaces_what_the_factory_sets() -> Result {
    let (network, event_loop) = network()?;
    let idle = |secs| Deadlines::default().idle(Duration::from_secs(secs));
    for given in [Deadlines::default(), idle(9)] {
        for sets_idle in [false, true] {
            let (socket, _peer) = network.pair();
            let connector = Connector::adopt(socket).deadlines(given);
            let chat = connector.connect_on(&event_loop, move |chat| {
                chat.set_limits(Limits::default().record(5));
                chat.set_deadlines(idle(5));
                |_: &[u8]| Ok(())
            })?;
            chat.set_limits(chat.limits());
            match given.idle {
                Some(after) if sets_idle => chat.set_idle_timeout(after),
                _ => chat.set_deadlines(chat.deadlines()),
            }
            network.settle(&event_loop)?;
            assert_eq!(chat.limits(), Limits::default());
            assert_eq!(chat.deadlines(), given);
        }
    }
    Ok(())
}

#[test]
fn the_factory_of_a_closed_connection_pushes_nothing() -> Result {
    let (network, event_loop) = network()?;
    let (socket, peer) = network.pair();
    let log = Log::default();
    let session = log.session();
    let chat = Connector::adopt(socket).connect_on(&event_loop, move |chat| {
        chat.push("nothing");
        session(chat)
    })?;
    chat.push("nothing");
    chat.close();
    network.settle(&event_loop)?;
    assert_eq!(peer.received(), b"");
    assert_eq!(log.lines(), ["close Dropped"]);
    Ok(())
}

// ---- factories that fail

/// A factory that pushes and then fails, in the first of two ways or the other.
fn failing(panics: bool) -> impl FnMut(Chat) -> Result<Session> {
    move |chat| {
        chat.push("500 no database\r\n");
        assert!(!panics, "the factory panics");
        Err(io::Error::other("no database"))?;
        Ok(Log::default().session()(chat))
    }
}

#[test]
fn what_a_failed_factory_has_pushed_is_sent_and_only_its_connection_ends() -> Result {
    for panics in [false, true] {
        let (network, event_loop) = network()?;
        let (log, count) = (Log::default(), Cell::new(0));
        let (session, mut fails) = (log.session(), failing(panics));
        let listener = event_loop.listen(ADDR, move |chat| {
            count.set(count.get() + 1);
            match count.get() {
                2 => fails(chat),
                _ => Ok(session(chat)),
            }
        })?;
        let before = network.connect(ADDR)?;
        network.settle(&event_loop)?;
        let failed = network.connect(ADDR)?;
        failed.send("ignored\r\n");
        let after = network.connect(ADDR)?;
        network.settle(&event_loop)?;
        assert_eq!(failed.received(), b"500 no database\r\n");
        assert_eq!(failed.ended(), Some(Ended::Finished));
        for peer in [&before, &after] {
            assert_eq!(peer.ended(), None);
        }
        assert!(listener.is_open());
        assert_eq!(log.lines(), ["connect", "connect"]);
        let closes = event_loop.stats().closes;
        let counted = if panics { closes.panic } else { closes.handler };
        assert_eq!(counted, 1);
    }
    Ok(())
}

#[test]
fn what_the_caller_pushes_to_a_failed_connection_is_dropped() -> Result {
    for panics in [false, true] {
        let (network, event_loop) = network()?;
        let (socket, peer) = network.pair();
        let dropped = Rc::new(());
        let hook = Rc::clone(&dropped);
        let chat = Connector::adopt(socket).connect_on(&event_loop, failing(panics))?;
        chat.push("too late");
        chat.push_hook(move || drop(hook));
        network.settle(&event_loop)?;
        assert_eq!(peer.received(), b"500 no database\r\n");
        assert_eq!(Rc::strong_count(&dropped), 1);
        assert!(!chat.is_open());
    }
    Ok(())
}

#[test]
fn an_outgoing_connection_whose_factory_fails_before_it_is_up_ends_at_once() -> Result {
    for panics in [false, true] {
        let (network, event_loop) = network()?;
        network.add_black_hole("10.0.0.1:7007".parse::<SocketAddr>()?);
        let chat = Connector::new(ADDR).connect_on(&event_loop, failing(panics))?;
        network.settle(&event_loop)?;
        assert!(!chat.is_open());
        assert!(event_loop.is_empty());
        assert_eq!(network.sockets(), 0);
    }
    Ok(())
}

#[test]
fn a_reconnection_tries_again_after_its_factory_has_failed() -> Result {
    let (network, event_loop) = network()?;
    let service = network.listen(ADDR)?;
    let (log, count) = (Log::default(), Cell::new(0));
    let session = log.session();
    let backoff = Backoff::default().jitter(0.0);
    let feed = Connector::new(ADDR).reconnect_on(&event_loop, backoff, move |chat| {
        count.set(count.get() + 1);
        if count.get() == 1 {
            return Err("not yet".into());
        }
        Ok(session(chat))
    })?;
    network.settle(&event_loop)?;
    assert_eq!(log.lines(), [""; 0]);
    network.advance(&event_loop, Duration::from_secs(1))?;
    assert_eq!(log.lines(), ["connect"]);
    drop(service);
    feed.stop();
    Ok(())
}

#[test]
fn a_posted_call_to_a_connection_whose_factory_has_failed_is_dropped() -> Result {
    let (_network, event_loop) = network()?;
    let dropped = Rc::new(());
    let posted = Rc::clone(&dropped);
    let chat = Connector::new(ADDR).connect_on(&event_loop, failing(false))?;
    chat.post(move |_: &mut Session| {
        drop(posted);
        Ok(())
    })?;
    event_loop.run()?;
    assert_eq!(Rc::strong_count(&dropped), 1);
    Ok(())
}

#[test]
fn a_factory_that_returns_a_result_needs_no_type_annotation() -> Result {
    let transcript = sim::drive(
        |chat| {
            let greeting = String::from_utf8(b"220 ready\r\n".to_vec())?;
            chat.push(greeting);
            Ok(move |line: &[u8]| {
                chat.push_slice(line);
                Ok(())
            })
        },
        Script::new().send("HELP\r\n").finish(),
    )?;
    assert_eq!(transcript.text(), "220 ready\r\nHELP");
    assert!(matches!(transcript.close, Some(Close::Eof)));

    let transcript = sim::drive(failing(false), Script::new())?;
    assert_eq!(transcript.text(), "500 no database\r\n");
    assert!(matches!(transcript.close, Some(Close::Handler(_))));
    Ok(())
}

/// There is no session that the other one could replace.
#[test]
fn a_session_that_a_failed_factory_has_set_gets_no_callback() -> Result {
    for panics in [false, true] {
        let (network, event_loop) = network()?;
        let (socket, peer) = network.pair();
        let log = Log::default();
        let session = log.session();
        let mut fails = failing(panics);
        Connector::adopt(socket).connect_on(&event_loop, move |chat| {
            chat.replace_session(session(chat.clone()));
            fails(chat)
        })?;
        network.settle(&event_loop)?;
        peer.finish();
        network.settle(&event_loop)?;
        assert_eq!(log.lines(), [""; 0]);
        assert!(event_loop.is_empty());
    }
    Ok(())
}

/// The log of a connection whose caller posts a call as soon as `connect` has returned.
fn log_of_early_post(connector: Connector, event_loop: &EventLoop) -> Result<Log> {
    let log = Log::default();
    let (session, made, posted) = (log.session(), log.clone(), log.clone());
    let chat = connector.connect_on(event_loop, move |chat| {
        made.add("factory");
        session(chat)
    })?;
    chat.push("pushed ");
    chat.post(move |session: &mut Session| {
        posted.add(format!(
            "posted, connected: {}",
            session.chat.is_connected()
        ));
        session.chat.push("posted");
        Ok(())
    })?;
    Ok(log)
}

#[test]
fn a_call_posted_to_a_connection_that_is_not_up_comes_before_handle_connect() -> Result {
    let (network, event_loop) = network()?;
    let service = network.listen(ADDR)?;
    let log = log_of_early_post(Connector::new(ADDR), &event_loop)?;
    network.settle(&event_loop)?;
    let expected = ["factory", "posted, connected: false", "connect"];
    assert_eq!(log.lines(), expected);
    let peer = service.accept().ok_or("it has connected")?;
    assert_eq!(peer.received(), b"pushed posted");
    Ok(())
}

#[test]
fn a_call_posted_to_a_connection_that_is_up_follows_handle_connect() -> Result {
    let (network, event_loop) = network()?;
    let (socket, peer) = network.pair();
    let log = log_of_early_post(Connector::adopt(socket), &event_loop)?;
    network.settle(&event_loop)?;
    let expected = ["factory", "connect", "posted, connected: true"];
    assert_eq!(log.lines(), expected);
    assert_eq!(peer.received(), b"pushed posted");

    // An accepted connection, whose factory posts.
    let log = Log::default();
    let (session, posted) = (log.session(), log.clone());
    event_loop.listen(ADDR, move |chat: Chat| {
        let posted = posted.clone();
        chat.post(move |_: &mut Session| {
            posted.add("posted");
            Ok(())
        })?;
        Ok(session(chat))
    })?;
    let _peer = network.connect(ADDR)?;
    network.settle(&event_loop)?;
    assert_eq!(log.lines(), ["connect", "posted"]);
    Ok(())
}

/// As what the caller pushes and sets follows what the factory pushes and sets.
#[test]
fn a_session_that_the_caller_has_set_replaces_that_of_the_factory() -> Result {
    each_kind(
        |connector, event_loop| {
            let (of_factory, of_caller) = (Log::default(), Log::default());
            let (session, made) = (of_factory.session(), of_factory.clone());
            let chat = connector.connect_on(event_loop, move |chat| {
                made.add("factory");
                chat.push("factory ");
                session(chat)
            })?;
            let session = of_caller.session_with(|chat, _| {
                chat.close();
                Ok(())
            });
            chat.replace_session(session(chat.clone()));
            chat.push("caller");
            event_loop.call_later(Duration::ZERO, move || {
                assert_eq!(of_factory.lines(), ["factory"]);
                assert_eq!(of_caller.lines(), ["connect"]);
                chat.close();
            });
            Ok(())
        },
        |received| assert_eq!(received, b"factory caller"),
    )
}
