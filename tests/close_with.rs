//! Closing with a reason, from outside the callbacks of a handler.

mod common;
#[path = "common/scene.rs"]
mod scene;

use std::time::Duration;

use asynchat::sim::Ended;
use asynchat::{AsyncChat, Channel, Chat, Close, Connector, Dispatcher, Result};
use common::Log;
use scene::Scene;

#[test]
fn what_was_pushed_before_is_sent_and_nothing_follows_but_the_reason() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session_with(|_, _| Ok(())))?;
    let timer = chat.call_every(Duration::from_secs(1));
    chat.push("bye\r\n");
    chat.close_with("the operator said so");
    assert!(!chat.is_open() && !chat.is_connected());
    chat.push("too late\r\n");
    peer.send("a line\r\n");
    scene.settle()?;
    scene.advance(2)?;
    assert_eq!(scene.log.lines(), ["connect", "close Handler"]);
    assert_eq!(peer.received(), b"bye\r\n");
    assert_eq!(peer.ended(), Some(Ended::Finished));
    assert!(!chat.cancel(timer));
    Ok(())
}

/// Stores the text of the reason.
struct Reported(Log);

impl AsyncChat for Reported {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_connect(&mut self) -> Result {
        self.0.add("connect");
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        assert!(matches!(why, Close::Handler(_)));
        self.0.add(why.to_string());
    }
}

#[test]
fn the_first_reason_stands() -> Result {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let (socket, _peer) = scene.network.pair();
    let chat =
        Connector::adopt(socket).connect_on(&scene.event_loop, move |_| Reported(log.clone()))?;
    scene.settle()?;
    chat.close_when_done();
    chat.close_with("first");
    chat.close_with("second");
    scene.settle()?;
    chat.close_with("third");
    assert_eq!(scene.log.lines(), ["connect", "its handler failed: first"]);
    Ok(())
}

#[test]
fn a_connection_that_is_closed_before_its_first_callback_gets_only_the_last() -> Result {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let (socket, peer) = scene.network.pair();
    Connector::adopt(socket).connect_on(&scene.event_loop, move |chat: Chat| {
        chat.push("go away\r\n");
        chat.close_with("nobody wants it");
        Reported(log)
    })?;
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["its handler failed: nobody wants it"]);
    assert_eq!(peer.received(), b"go away\r\n");
    Ok(())
}

#[test]
fn a_connection_that_is_not_up_ends_at_once() -> Result {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let service = scene.network.listen("192.0.2.1:7")?;
    let connector = Connector::new(service.addr());
    let chat = connector.connect_on(&scene.event_loop, move |_| Reported(log))?;
    assert!(chat.is_connecting());
    chat.close_with("it takes too long");
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["its handler failed: it takes too long"]);
    Ok(())
}

struct Layer1 {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Layer1 {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_error(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        self.log.add(format!("error {error}"));
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(why.to_string());
    }
}

#[test]
fn a_dispatcher_gets_the_reason_and_no_error() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    let channel = Channel::adopt(socket)?;
    scene.event_loop.register(Layer1 {
        channel: channel.clone(),
        log: scene.log.clone(),
    })?;
    scene.settle()?;
    channel.close_with(std::io::Error::other("enough"));
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["its handler failed: enough"]);
    assert!(peer.has_ended());
    Ok(())
}

/// An error whose destructor is noticed.
#[derive(Debug)]
struct Tells(std::sync::mpsc::Sender<()>);

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl std::fmt::Display for Tells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it tells")
    }
}

impl std::error::Error for Tells {}

#[test]
fn the_loop_drops_an_error_that_is_not_the_reason() -> Result {
    let scene = Scene::new()?;
    let (chat, _peer) = scene.connection(scene.log.session())?;
    let (sender, dropped) = std::sync::mpsc::channel();
    chat.close();
    chat.close_with(Tells(sender));
    assert!(dropped.try_recv().is_err(), "a handle runs no destructor");
    scene.settle()?;
    assert!(dropped.try_recv().is_ok());
    Ok(())
}
