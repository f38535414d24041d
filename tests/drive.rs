//! `sim::drive` plays anything that is bytes, and returns the session with its transcript.

use std::cell::Cell;
use std::rc::Rc;

use asynchat::sim::{self, Script};
use asynchat::{AsyncChat, Chat, Close, Result};
use bytes::Bytes;

/// Logs its callbacks, and counts its drops.
struct Session {
    chat: Chat,
    log: Vec<String>,
    drops: Rc<Cell<u32>>,
}

impl Session {
    fn new(chat: Chat, drops: &Rc<Cell<u32>>) -> Self {
        Session {
            chat,
            log: Vec::new(),
            drops: Rc::clone(drops),
        }
    }
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.log.push(String::from_utf8_lossy(line).into_owned());
        match line {
            b"quit" => self.chat.close_when_done(),
            b"fail" => return Err("a failure on purpose".into()),
            b"panic" => std::panic::panic_any("a panic on purpose"),
            b"post" => self.chat.post(|session: &mut Session| {
                session.log.push("posted".to_owned());
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        self.log.push(why.to_string());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.drops.set(self.drops.get() + 1);
    }
}

/// What the session has logged, if it was dropped once, with its transcript.
#[track_caller]
fn log_of(script: impl Into<Script>) -> Vec<String> {
    let drops = Rc::new(Cell::new(0));
    let counted = Rc::clone(&drops);
    let transcript = sim::drive(move |chat| Session::new(chat, &counted), script).unwrap();
    assert_eq!(drops.get(), 0);
    let log = transcript
        .session
        .as_ref()
        .map(|session| session.log.clone());
    drop(transcript);
    assert_eq!(drops.get(), 1);
    log.expect("it has a session")
}

#[test]
fn the_session_is_returned_after_its_last_callback() {
    assert_eq!(
        log_of("a\r\nquit\r\nb\r\n"),
        ["a", "quit", "closed by this side"]
    );
    assert_eq!(
        log_of("fail\r\n"),
        ["fail", "its handler failed: a failure on purpose"]
    );
    assert_eq!(
        log_of("panic\r\n"),
        ["panic", "its handler panicked: a panic on purpose"]
    );
    assert_eq!(
        log_of(Script::new().send("a\r\n").finish()),
        ["a", "the peer closed the connection"]
    );
}

#[test]
fn a_session_that_is_open_at_the_end_of_the_script_ends_with_its_loop() {
    assert_eq!(
        log_of("a\r\npost\r\n"),
        ["a", "post", "posted", "the loop shut down"]
    );
    assert_eq!(log_of(""), ["the loop shut down"]);
}

#[test]
fn a_session_that_owns_its_loop_is_returned_too() {
    let factory = |chat: Chat| {
        let event_loop = chat.event_loop();
        move |_: &[u8]| {
            let _ = &event_loop;
            Ok(())
        }
    };
    let transcript = sim::drive(factory, "a\r\n").unwrap();
    assert!(transcript.close.is_none());
    assert!(transcript.session.is_some());
}

#[test]
fn there_is_no_session_if_its_factory_panics() {
    let factory = |_: Chat| -> Session { std::panic::panic_any("a panic on purpose") };
    let transcript = sim::drive(factory, "a\r\n").unwrap();
    assert!(transcript.session.is_none());
    assert!(matches!(transcript.close, Some(Close::Panic(_))));
}

#[test]
fn whatever_is_bytes_is_a_script() {
    let expected = ["one", "two", "the loop shut down"];
    let text = "one\r\ntwo\r\n";
    assert_eq!(log_of(text), expected);
    assert_eq!(log_of(text.to_owned()), expected);
    let owned = text.to_owned();
    assert_eq!(log_of(&owned), expected);
    assert_eq!(log_of(text.as_bytes()), expected);
    assert_eq!(log_of(text.as_bytes().to_vec()), expected);
    assert_eq!(log_of(b"one\r\ntwo\r\n"), expected);
    assert_eq!(log_of(*b"one\r\ntwo\r\n"), expected);
    assert_eq!(log_of(Bytes::from(text)), expected);
    assert_eq!(log_of(Script::new().send(text)), expected);
}
