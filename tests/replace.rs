//! A session is replaced in the middle of its connection.

mod common;

#[path = "common/scene.rs"]
mod scene;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::drive_every_segmentation;
use asynchat::{AsyncChat, AtShutdown, Chat, Close, Eof, Result, Terminator, TimerId};
use common::{Drops, Log, Token};
use scene::Scene;

/// Replies with its name. `next NAME` replaces it.
struct Named {
    chat: Chat,
    name: String,
    log: Log,
    fails: bool,
    _token: Option<Token>,
}

impl Named {
    fn new(chat: Chat, name: &str, log: &Log) -> Self {
        Named {
            chat,
            name: name.to_owned(),
            log: log.clone(),
            fails: false,
            _token: None,
        }
    }

    fn next(&self, name: &str) -> Self {
        Named::new(self.chat.clone(), name, &self.log)
    }

    fn add(&self, what: &str) {
        self.log.add(format!("{} {what}", self.name));
    }
}

impl AsyncChat for Named {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let record = String::from_utf8_lossy(record);
        self.add(&format!("record {record}"));
        write!(self.chat, "{}: {record}\r\n", self.name);
        match record.split_once(' ') {
            Some(("next", name)) => self.chat.replace_session(self.next(name)),
            Some(("count", name)) => {
                self.chat.set_terminator(Terminator::count(5));
                self.chat.replace_session(self.next(name));
            }
            Some(("fail", name)) => {
                self.chat.replace_session(self.next(name));
                return Err("it was to fail".into());
            }
            Some(("close", name)) => {
                self.chat.replace_session(self.next(name));
                self.chat.close_when_done();
            }
            _ => {}
        }
        if self.fails {
            return Err("it fails always".into());
        }
        Ok(())
    }

    fn handle_connect(&mut self) -> Result {
        self.add("connect");
        if self.name == "detect" {
            self.chat.replace_session(self.next("detected"));
        }
        Ok(())
    }

    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        self.add("eof");
        Ok(Eof::CloseWhenDone)
    }

    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.add("timer");
        Ok(())
    }

    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        self.add("shutdown");
        Ok(AtShutdown::CloseWhenDone)
    }

    fn handle_close(&mut self, why: &Close) {
        self.add(&format!("close {}", common::name(why)));
    }
}

#[test]
fn the_new_session_gets_the_next_record_under_every_segmentation() -> Result {
    let factory = |chat: Chat| Named::new(chat, "a", &Log::default());
    let transcript = drive_every_segmentation(factory, b"1\r\nnext b\r\n2\r\n")?;
    assert_eq!(transcript.text(), "a: 1\r\na: next b\r\nb: 2\r\n");
    let input = b"count b\r\nh\r\nlo\r\n";
    let transcript = drive_every_segmentation(factory, input)?;
    assert_eq!(transcript.text(), "a: count b\r\nb: h\r\nlo\r\n");
    let transcript = drive_every_segmentation(factory, b"next b\r\nnext c\r\nend\r\n")?;
    assert_eq!(transcript.text(), "a: next b\r\nb: next c\r\nc: end\r\n");
    Ok(())
}

#[test]
fn the_new_session_gets_all_other_callbacks_as_well() -> Result {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let (chat, peer) = scene.connection(move |chat| Named::new(chat, "a", &log))?;
    let timer = chat.call_later(Duration::from_secs(1));
    peer.send("next b\r\n");
    scene.settle()?;
    scene.advance(1)?;
    let called = Rc::new(Cell::new(false));
    let flag = Rc::clone(&called);
    chat.post(move |session: &mut Named| {
        flag.set(session.name == "b");
        Ok(())
    })?;
    scene.settle()?;
    peer.finish();
    scene.settle()?;
    let expected = [
        "a connect",
        "a record next b",
        "b timer",
        "b eof",
        "b close Eof",
    ];
    assert_eq!(scene.log.lines(), expected);
    assert!(called.get());
    assert!(!chat.cancel(timer));
    Ok(())
}

#[test]
fn a_record_and_the_end_that_arrive_together_are_for_two_sessions() -> Result {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let (_, peer) = scene.connection(move |chat| Named::new(chat, "a", &log))?;
    peer.send("next b\r\n");
    peer.finish();
    scene.settle()?;
    let expected = ["a connect", "a record next b", "b eof", "b close Eof"];
    assert_eq!(scene.log.lines(), expected);
    Ok(())
}

#[test]
fn a_session_may_be_replaced_in_handle_connect_and_from_outside() -> Result {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let (chat, peer) = scene.connection(move |chat| Named::new(chat, "detect", &log))?;
    peer.send("hello\r\n");
    scene.settle()?;
    chat.replace_session(Named::new(chat.clone(), "outside", &scene.log));
    peer.send("again\r\n");
    scene.settle()?;
    scene.event_loop.shutdown(Duration::from_secs(1));
    scene.settle()?;
    let expected = [
        "detect connect",
        "detected record hello",
        "outside record again",
        "outside shutdown",
        "outside close Shutdown",
    ];
    assert_eq!(scene.log.lines(), expected);
    Ok(())
}

#[test]
fn the_end_that_comes_with_the_connection_is_for_the_new_session() -> Result {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let addr = "192.0.2.1:7007";
    let service = scene.network.listen(addr)?;
    scene
        .event_loop
        .connect(addr, move |chat| Named::new(chat, "detect", &log))?;
    let peer = loop {
        scene.event_loop.run_once(Duration::ZERO)?;
        if let Some(peer) = service.accept() {
            break peer;
        }
    };
    // The first event of the connection reports all of this.
    peer.send("hello\r\n");
    peer.reset();
    scene.settle()?;
    let expected = [
        "detect connect",
        "detected record hello",
        "detected close Reset",
    ];
    assert_eq!(scene.log.lines(), expected);
    Ok(())
}

#[test]
fn a_callback_that_fails_keeps_its_session() -> Result {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let (_, peer) = scene.connection(move |chat| Named::new(chat, "a", &log))?;
    peer.send("fail b\r\n");
    scene.settle()?;
    assert_eq!(peer.received(), b"a: fail b\r\n");
    let lines = scene.log.lines();
    assert_eq!(lines, ["a connect", "a record fail b", "a close Handler"]);
    Ok(())
}

#[test]
fn a_close_that_is_queued_is_reported_to_the_new_session() -> Result {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let (_, peer) = scene.connection(move |chat| Named::new(chat, "a", &log))?;
    peer.send("close b\r\nnever\r\n");
    scene.settle()?;
    let lines = scene.log.lines();
    assert_eq!(lines, ["a connect", "a record close b", "b close Local"]);
    Ok(())
}

#[test]
fn a_connection_that_is_closed_meanwhile_ends_with_the_new_session() -> Result {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let (chat, _peer) = scene.connection(move |chat| Named::new(chat, "a", &log))?;
    chat.replace_session(Named::new(chat.clone(), "b", &scene.log));
    chat.close();
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["a connect", "b close Local"]);
    Ok(())
}

#[test]
fn each_session_is_dropped_once() -> Result {
    let (scene, drops) = (Scene::new()?, Drops::default());
    let (log, token) = (scene.log.clone(), drops.token());
    let (chat, peer) = scene.connection(move |chat| {
        let mut session = Named::new(chat, "a", &log);
        session._token = Some(token);
        session
    })?;
    let with_token = |name| {
        let mut session = Named::new(chat.clone(), name, &scene.log);
        session._token = Some(drops.token());
        session
    };
    // The second takes the place of the first before that has taken over.
    chat.replace_session(with_token("b"));
    chat.replace_session(with_token("c"));
    assert_eq!(drops.count(), 0, "no method drops a session");
    scene.settle()?;
    assert_eq!(drops.count(), 2);
    peer.send("hello\r\n");
    scene.settle()?;
    assert!(scene.log.has("c record hello"));
    // A session for a connection that has ended is dropped by the loop.
    chat.close();
    chat.replace_session(with_token("d"));
    assert_eq!(drops.count(), 2);
    scene.settle()?;
    assert_eq!(drops.count(), 4);
    assert!(scene.log.has("c close Local"));
    chat.replace_session(with_token("e"));
    scene.settle()?;
    assert_eq!(drops.count(), 5);
    Ok(())
}

#[test]
fn a_post_is_checked_against_the_type_of_the_new_session() -> Result {
    struct Other;
    impl AsyncChat for Other {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
    }
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let (chat, _peer) = scene.connection(move |chat| Named::new(chat, "a", &log))?;
    chat.replace_session(Other);
    assert!(chat.post(|_: &mut Named| Ok(())).is_err());
    let called = Rc::new(Cell::new(false));
    let flag = Rc::clone(&called);
    chat.post(move |_: &mut Other| {
        flag.set(true);
        Ok(())
    })?;
    scene.settle()?;
    assert!(called.get());
    Ok(())
}

/// Rule 2: after the close no event reaches the handler. The timer is due in the step in which the old session is
/// dropped.
#[test]
fn a_session_that_closes_the_connection_when_it_is_dropped_ends_it_for_the_new_one() -> Result {
    struct Closes {
        chat: Chat,
        fails: bool,
    }
    impl AsyncChat for Closes {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
    }
    impl Drop for Closes {
        fn drop(&mut self) {
            if self.fails {
                self.chat.close_with("dropped");
            } else {
                self.chat.close();
            }
        }
    }
    for fails in [false, true] {
        let (scene, log) = (Scene::new()?, Log::default());
        let (chat, _peer) = scene.connection(move |chat| Closes { chat, fails })?;
        let session = log.session();
        let replaced = chat.clone();
        scene
            .event_loop
            .call_later(Duration::from_millis(1), move || {
                replaced.replace_session(session(replaced.clone()));
            });
        chat.call_later(Duration::from_millis(1));
        scene.advance(1)?;
        scene.advance(10)?;
        assert_eq!(log.count("timer"), 0);
        assert_eq!(log.count("close"), 1, "{:?}", log.lines());
    }
    Ok(())
}
