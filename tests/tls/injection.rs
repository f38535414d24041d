//! Plaintext that was received before TLS begins, and that was not delivered, is never used: whatever calls
//! `start_tls`, and whenever the handshake begins (CVE-2011-0411).

use std::cell::RefCell;
use std::time::Duration;

use asynchat::bytes::Bytes;
use asynchat::sim::Peer;
use asynchat::{
    AsyncChat, BoxError, Chat, Close, Connector, Dialogue, Group, Limits, More, Producer, Result,
    TimerId,
};

use crate::common::{Log, name};
use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, server_config};

/// Begins TLS in the way of the test when it gets the command, and logs everything.
struct Session {
    chat: Chat,
    log: Log,
    begin: fn(&Chat),
    dialogue: Option<Dialogue<Session>>,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.log.add(String::from_utf8_lossy(line));
        if let Some(dialogue) = &mut self.dialogue {
            let then = dialogue.receive(line)?;
            return then(self);
        }
        if line == b"STARTTLS" {
            self.chat.push("220 go\r\n");
            (self.begin)(&self.chat);
        }
        Ok(())
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        start(&self.chat);
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

/// Replaces that session. Nothing is ever delivered to it.
struct Silent;

impl AsyncChat for Silent {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        panic!("{line:?}");
    }
}

/// Begins TLS while the session is paused, so that the input behind the command was received and not delivered.
fn start(chat: &Chat) {
    chat.start_tls(server_config()).expect("it is up");
    chat.push("secret\r\n");
    chat.resume_reading();
}

thread_local! {
    static CHAT: RefCell<Option<Chat>> = const { RefCell::new(None) };
}

/// Bytes whose destructor begins TLS. They may be sent to another thread, so the chat is elsewhere.
struct Starting;

fn starting(chat: &Chat) -> Bytes {
    CHAT.set(Some(chat.clone()));
    Bytes::from_owner(Starting)
}

impl AsRef<[u8]> for Starting {
    fn as_ref(&self) -> &[u8] {
        &[b'-'; 5000]
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        start(&CHAT.take().expect("it is set"));
    }
}

/// A producer that begins TLS when it is asked, or when it is dropped.
struct Asked(Chat);

impl Producer for Asked {
    fn more(&mut self, _: usize) -> std::io::Result<More> {
        start(&self.0);
        Ok(More::Done)
    }
}

struct Dropped(Chat);

impl Producer for Dropped {
    fn more(&mut self, _: usize) -> std::io::Result<More> {
        Ok(More::Done)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        start(&self.0);
    }
}

fn by_hook(chat: &Chat) {
    chat.pause_reading();
    let own = chat.clone();
    chat.push_hook(move || start(&own));
}

fn by_producer(chat: &Chat) {
    chat.pause_reading();
    chat.push_with_producer(Asked(chat.clone()));
}

fn by_dropped_producer(chat: &Chat) {
    chat.pause_reading();
    chat.push_with_producer(Dropped(chat.clone()));
}

fn by_destructor(chat: &Chat) {
    chat.pause_reading();
    chat.push(starting(chat));
}

fn by_broadcast(chat: &Chat) {
    chat.pause_reading();
    let group = Group::default();
    group.add(chat);
    group.push(starting(chat));
}

fn by_promise(chat: &Chat) {
    chat.pause_reading();
    let output = starting(chat);
    chat.promise().fulfill(output);
}

fn by_timer(chat: &Chat) {
    chat.pause_reading();
    chat.call_later(Duration::ZERO);
}

fn by_post(chat: &Chat) {
    chat.pause_reading();
    let posted = chat.post(|session: &mut Session| {
        start(&session.chat);
        Ok(())
    });
    posted.expect("it has a loop");
}

fn by_deferred_call(chat: &Chat) {
    chat.pause_reading();
    let own = chat.clone();
    asynchat::call_soon(move || start(&own));
}

fn by_record(chat: &Chat) {
    start(chat);
}

fn by_hook_behind_start_tls(chat: &Chat) {
    start(chat);
    let own = chat.clone();
    chat.push_hook(move || own.push("from a hook\r\n"));
}

fn by_replaced_session(chat: &Chat) {
    start(chat);
    chat.replace_session(Silent);
}

/// What begins TLS, by its name.
type Way = (&'static str, fn(&Chat));

const WAYS: [Way; 12] = [
    ("hook", by_hook),
    ("producer", by_producer),
    ("dropped producer", by_dropped_producer),
    ("destructor", by_destructor),
    ("broadcast", by_broadcast),
    ("promise", by_promise),
    ("timer", by_timer),
    ("post", by_post),
    ("deferred call", by_deferred_call),
    ("record", by_record),
    ("hook behind start_tls", by_hook_behind_start_tls),
    ("replaced session", by_replaced_session),
];

fn connection(scene: &Scene, limits: Limits, begin: fn(&Chat)) -> Result<(Chat, Peer)> {
    let (socket, peer) = scene.network.pair();
    let log = scene.log.clone();
    let factory = move |chat| Session {
        chat,
        log,
        begin,
        dialogue: None,
    };
    let connector = Connector::adopt(socket).limits(limits);
    let chat = connector.connect_on(&scene.event_loop, factory)?;
    scene.settle()?;
    Ok((chat, peer))
}

/// Nothing of what follows the reply leaves in clear, and a handshake does not help.
fn assert_ended(scene: &Scene, peer: Peer, way: &str) {
    let received = peer.take_received();
    let received = received.strip_prefix(b"220 go\r\n").unwrap_or(&received);
    let after = received.strip_prefix(&[b'-'; 5000]).unwrap_or(received);
    assert!(after.is_empty() || after[0] == 21, "{way}: {after:?}");
    let mut peer = TlsPeer::client(peer, client_config());
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.text(), "", "{way}");
    let (lines, is_logged) = (scene.log.lines(), way != "replaced session");
    let expected = ["STARTTLS", "close Tls"];
    let count = if is_logged { 2 } else { 1 };
    assert_eq!(lines, expected[..count], "{way}");
    assert!(scene.event_loop.is_empty(), "{way}");
}

#[test]
fn a_record_behind_the_command_ends_the_connection_whatever_begins_tls() -> Result {
    for (way, begin) in WAYS {
        for injected in ["USER mallory\r\n", "USER mallory", "\r\n", "X"] {
            // The budget of a turn may leave a backlog.
            for limits in [Limits::default(), Limits::default().turn_records(1)] {
                let scene = Scene::new()?;
                let (_chat, peer) = connection(&scene, limits, begin)?;
                peer.send(format!("STARTTLS\r\n{injected}"));
                scene.settle()?;
                assert_ended(&scene, peer, way);
            }
        }
    }
    Ok(())
}

/// The other direction of the test: without an injection each way leads to TLS.
#[test]
fn without_such_input_each_of_these_begins_tls() -> Result {
    for (way, begin) in WAYS {
        let scene = Scene::new()?;
        let (_chat, peer) = connection(&scene, Limits::default(), begin)?;
        peer.send("STARTTLS\r\n");
        scene.settle()?;
        peer.take_received();
        let mut peer = TlsPeer::client(peer, client_config());
        peer.exchange(|| scene.settle().unwrap());
        assert!(peer.text().starts_with("secret\r\n"), "{way}");
    }
    Ok(())
}

#[test]
fn an_unfinished_record_ends_the_connection_when_a_hook_begins_tls() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = connection(&scene, Limits::default(), by_record)?;
    peer.send("USER mal");
    scene.settle()?;
    chat.push("220 go\r\n");
    let own = chat.clone();
    chat.push_hook(move || start(&own));
    scene.settle()?;
    peer.take_received();
    let mut peer = TlsPeer::client(peer, client_config());
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(scene.log.lines(), ["close Tls"]);
    assert_eq!(peer.text(), "");
    Ok(())
}

#[test]
fn a_pipe_passes_nothing_on_that_came_in_clear_behind_the_command() -> Result {
    fn start_and_pipe(chat: &Chat) {
        start(chat);
        let other = CHAT.take().expect("it is set");
        asynchat::pipe(chat, &other).expect("it is not piped");
    }
    fn pipe_in_a_hook(chat: &Chat) {
        chat.pause_reading();
        let own = chat.clone();
        chat.push_hook(move || start_and_pipe(&own));
    }
    for begin in [start_and_pipe, pipe_in_a_hook] {
        let scene = Scene::new()?;
        let (other, outside) = scene.connection(|_| |_: &[u8]| Ok(()))?;
        CHAT.set(Some(other));
        let (_chat, peer) = connection(&scene, Limits::default(), begin)?;
        peer.send("STARTTLS\r\nUSER mallory\r\n");
        outside.send("from outside");
        scene.settle()?;
        assert_ended(&scene, peer, "pipe");
        assert_eq!(outside.received(), b"");
    }
    Ok(())
}

#[test]
fn a_reply_behind_the_one_that_permits_tls_ends_a_dialogue() -> Result {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let (_chat, peer) = scene.connection(move |chat| {
        let mut dialogue = Dialogue::new(&chat);
        dialogue.send("STARTTLS\r\n", |session: &mut Session, _| {
            let client = asynchat::tls::Client::from(client_config()).name("localhost");
            session.chat.start_tls(client).map_err(BoxError::from)?;
            let dialogue = session.dialogue.as_mut().ok_or("it is set")?;
            dialogue.send("SECRET\r\n", |_, _| Ok(()));
            Ok(())
        });
        let (begin, dialogue) = (by_record as fn(&Chat), Some(dialogue));
        Session {
            chat,
            log,
            begin,
            dialogue,
        }
    })?;
    peer.take_received();
    peer.send("220 go\r\n250 forged\r\n");
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["220 go", "close Tls"]);
    assert!(!String::from_utf8_lossy(&peer.received()).contains("SECRET"));
    Ok(())
}
