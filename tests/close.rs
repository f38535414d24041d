//! A close is final and is reported exactly once, whatever ended the connection.

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{
    AsyncChat, Channel, Chat, Close, Dispatcher, EventLoop, Limits, Result, Server, Socket,
    Terminator,
};
use common::{
    Drops, Log, Peer, Session, Token, addr_of, failure, idle, new_loop, refusing, run_to_end,
    run_until, served, tcp_pair,
};

#[test]
fn close_inside_found_terminator_stops_records_already_read() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_, mut peer) = served(
        &event_loop,
        log.session_with(|chat, record| {
            if record == b"quit" {
                chat.close();
            }
            Ok(())
        }),
    );
    peer.send("a\r\nquit\r\nb\r\nc\r\n");
    run_to_end(&event_loop);
    assert_eq!(
        log.lines(),
        ["connect", "record a", "record quit", "close Local"]
    );
}

#[test]
fn close_when_done_inside_found_terminator_stops_records_and_sends_what_was_pushed() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_, mut peer) = served(
        &event_loop,
        log.session_with(|chat, _| {
            chat.push("bye\r\n");
            chat.close_when_done();
            chat.push("too late\r\n");
            Ok(())
        }),
    );
    peer.send("quit\r\nb\r\n");
    assert_eq!(peer.receive_all(&event_loop), b"bye\r\n");
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "record quit", "close Local"]);
}

/// What is pushed while it is closing is dropped.
#[test]
fn a_chat_is_closing_from_the_call_and_open_until_its_queue_is_sent() {
    let event_loop = new_loop();
    let closes: [fn(&Chat); 4] = [Chat::close_when_done, Chat::close, Chat::abort, |chat| {
        chat.close_with("a reason");
    }];
    for (n, close) in closes.into_iter().enumerate() {
        let (chat, _peer) = served(&event_loop, Log::default().session());
        assert!(chat.is_open() && !chat.is_closing());
        close(&chat);
        assert_eq!((chat.is_open(), chat.is_closing()), (n == 0, true));
        chat.push("too late");
        assert_eq!(chat.queued(), 0);
    }
}

#[test]
fn a_connection_closed_by_another_in_the_same_turn_receives_nothing_more() {
    let (event_loop, log) = (new_loop(), Log::default());
    let chats: Rc<RefCell<Vec<Chat>>> = Rc::default();
    let all = Rc::clone(&chats);
    let session = log.session_with(move |chat, _| {
        let others = all.borrow();
        let others = others.iter().filter(|other| other.id() != chat.id());
        others.for_each(Chat::close);
        Ok(())
    });
    let made = Rc::clone(&chats);
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat: Chat| {
            made.borrow_mut().push(chat.clone());
            session(chat)
        })
        .unwrap();
    let mut peers = [(); 8].map(|()| Peer::connect(addr_of(&listener)));
    run_until(&event_loop, || log.count("connect") == 8);
    for peer in &mut peers {
        peer.send("all the others are to be closed\r\n");
    }
    run_until(&event_loop, || log.count("close") == 7);
    assert_eq!(log.count("record"), 1);
    assert_eq!(
        chats.borrow().iter().filter(|chat| chat.is_open()).count(),
        1
    );
}

/// Ends a served connection with `end`, and checks that `handle_close` is called once, with this
/// reason, as the last callback.
#[track_caller]
fn ends_once(limits: Limits, end: impl FnOnce(&EventLoop, &Chat, Peer), reason: &str) {
    let (event_loop, log) = (new_loop(), Log::default());
    let slot = common::Slot::default();
    let session = log.session_with(|chat, record| match record {
        b"fail" => Err(failure()),
        b"panic" => panic!("it was to panic"),
        b"close, then fail" => {
            chat.close();
            Err(failure())
        }
        _ => Ok(()),
    });
    let listener = Server::new("127.0.0.1:0")
        .limits(limits)
        .listen_on(&event_loop, slot.capture(session))
        .unwrap();
    let peer = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || log.has("connect"));
    listener.close();
    assert!(!slot.chat().is_closing());
    end(&event_loop, &slot.chat(), peer);
    run_to_end(&event_loop);
    idle(&event_loop);
    let lines = log.lines();
    assert_eq!(log.count("close"), 1, "{lines:?}");
    assert_eq!(lines.last().unwrap(), &format!("close {reason}"));
    assert!(!slot.chat().is_open() && slot.chat().is_closing());
}

#[test]
fn every_way_to_end_is_reported_once() {
    let usual = Limits::default();
    ends_once(usual, |_, chat, _| chat.close(), "Local");
    ends_once(usual, |_, chat, _| chat.abort(), "Dropped");
    ends_once(usual, |_, chat, _| chat.close_when_done(), "Local");
    ends_once(usual, |event_loop, _, _| event_loop.close_all(), "Local");
    ends_once(usual, |_, _, peer| drop(peer), "Eof");
    ends_once(usual, |_, _, peer| peer.reset(), "Reset");
    let shut_down = |event_loop: &EventLoop, _: &Chat, _| event_loop.shutdown(Duration::ZERO);
    ends_once(usual, shut_down, "Shutdown");
    let idle_out = |event_loop: &EventLoop, chat: &Chat, peer: Peer| {
        chat.set_idle_timeout(Duration::from_millis(10));
        run_until(event_loop, || !chat.is_open());
        drop(peer);
    };
    ends_once(usual, idle_out, "Timeout");
    let send = |text: &'static str| {
        move |event_loop: &EventLoop, chat: &Chat, mut peer: Peer| {
            peer.send(text);
            run_until(event_loop, || !chat.is_open());
        }
    };
    ends_once(usual, send("fail\r\nmore\r\n"), "Handler");
    ends_once(usual, send("panic\r\nmore\r\n"), "Panic");
    ends_once(usual, send("close, then fail\r\nmore\r\n"), "Local");
    ends_once(usual.record(4), send("too long\r\n"), "InputLimit");
    let flood = |_: &EventLoop, chat: &Chat, _| {
        // The kernel does not take this much. With each push it is offered some of it.
        chat.push(vec![0; 16 << 20]);
        for _ in 0..1000 {
            chat.push("one more");
        }
    };
    ends_once(
        usual.low_water(10).high_water(50).output(100),
        flood,
        "OutputLimit",
    );
}

#[test]
fn several_reasons_to_end_are_reported_once_with_the_first() {
    let end = |_: &EventLoop, chat: &Chat, peer: Peer| {
        chat.close();
        chat.close();
        chat.abort();
        chat.close_when_done();
        peer.reset();
    };
    ends_once(Limits::default(), end, "Local");
}

#[test]
fn a_failed_connection_is_reported_once() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_socket, addr) = refusing();
    event_loop.connect(addr, log.session()).unwrap();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["close ConnectFailed"]);
}

#[test]
fn a_chat_closed_before_its_handler_is_made_gets_handle_close() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_socket, addr) = refusing();
    let chat = event_loop.connect(addr, log.session()).unwrap();
    chat.close();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["close Dropped"]);
}

#[test]
fn an_accepted_chat_closed_in_its_factory_gets_handle_close_only() {
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session();
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat: Chat| {
            chat.close();
            session(chat)
        })
        .unwrap();
    let _peer = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || log.has("close"));
    listener.close();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["close Local"]);
}

/// Closes in `handle_connect`.
struct ClosesAtOnce(Session);

impl AsyncChat for ClosesAtOnce {
    fn handle_connect(&mut self) -> Result {
        self.0.chat.close();
        self.0.handle_connect()
    }
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        self.0.found_terminator(record)
    }
    fn handle_close(&mut self, why: &Close) {
        // A close within `handle_close` has no effect.
        self.0.chat.close();
        self.0.handle_close(why);
    }
}

#[test]
fn close_inside_handle_connect_stops_all_input() {
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session();
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat| ClosesAtOnce(session(chat)))
        .unwrap();
    let mut peer = Peer::connect(addr_of(&listener));
    peer.send("already here\r\n");
    run_until(&event_loop, || log.has("close"));
    listener.close();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Local"]);
}

#[test]
fn a_close_from_a_hook_drops_what_is_queued_after_it() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let closing = chat.clone();
    chat.push("before");
    chat.push_hook(move || closing.close());
    chat.push("after");
    assert_eq!(peer.receive_all(&event_loop), b"before");
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Dropped"]);
}

#[test]
fn calls_on_a_closed_chat_have_no_effect() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let hook = Drops::default();
    chat.push("before");
    chat.close_when_done();
    run_to_end(&event_loop);
    let token = hook.token();
    chat.push("after");
    chat.push_hook(move || drop(token));
    chat.push_with_producer("after");
    chat.set_terminator(Terminator::count(1));
    chat.pause_reading();
    chat.resume_reading();
    chat.discard_buffers();
    chat.resume_producing();
    chat.set_idle_timeout(Duration::ZERO);
    chat.call_later(Duration::ZERO);
    chat.close_when_done();
    chat.close();
    chat.abort();
    assert_eq!(chat.queued(), 0);
    assert!(chat.post(|_: &mut Session| Ok(())).is_err());
    assert!(event_loop.chat(chat.id()).is_none());
    run_to_end(&event_loop);
    assert_eq!(peer.receive_all(&event_loop), b"before");
    assert_eq!(log.lines(), ["connect", "close Local"]);
    assert_eq!(hook.count(), 1);
}

/// A dispatcher that logs its drop.
struct Dropped {
    channel: Channel,
    log: Log,
    _token: Token,
}

impl Dispatcher for Dropped {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", common::name(why)));
    }
}

#[test]
fn a_dispatcher_is_dropped_after_its_close() {
    let (event_loop, log, drops) = (new_loop(), Log::default(), Drops::default());
    let (near, _far) = tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    let handle = channel.clone();
    let _token = drops.token();
    let dispatcher = Dropped {
        channel,
        log: log.clone(),
        _token,
    };
    event_loop.register(dispatcher).unwrap();
    event_loop.run_once(Duration::ZERO).unwrap();
    handle.close();
    assert_eq!((log.lines().len(), drops.count()), (0, 0));
    run_to_end(&event_loop);
    assert_eq!(
        (log.lines(), drops.count()),
        (vec!["close Local".to_owned()], 1)
    );
}

#[test]
fn dropping_a_loop_calls_handle_close_of_its_channels() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    drop(event_loop);
    assert_eq!(log.lines(), ["connect", "close Shutdown"]);
    assert!(!chat.is_open());
    let another = new_loop();
    assert!(peer.wait_for_end(&another).is_ok());
}

#[test]
fn the_socket_is_closed_before_handle_close() {
    let event_loop = new_loop();
    let open = Rc::new(RefCell::new(None));
    struct ChecksSocket {
        channel: Channel,
        open: Rc<RefCell<Option<bool>>>,
    }
    impl Dispatcher for ChecksSocket {
        fn channel(&self) -> &Channel {
            &self.channel
        }
        fn handle_close(&mut self, _: &Close) {
            let open = self.channel.is_open() || self.channel.local_addr().is_some();
            self.open.replace(Some(open));
        }
    }
    let (near, _far) = tcp_pair();
    let channel = Channel::adopt(Socket::from(near)).unwrap();
    let handle = channel.clone();
    let looks = ChecksSocket {
        channel,
        open: open.clone(),
    };
    event_loop.register(looks).unwrap();
    handle.close();
    run_to_end(&event_loop);
    assert_eq!(*open.borrow(), Some(false));
}
