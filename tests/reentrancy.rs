//! No re-entrance: no method of a handle calls user code, and a loop cannot be run within itself.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{
    AsyncChat, Channel, ChannelId, Chat, Close, Dispatcher, Eof, EventLoop, Limits, More, Producer,
    Result, Terminator, TimerId,
};
use common::{Log, Peer, addr_of, idle, new_loop, run_to_end, run_until, served, tcp_pair};

/// Whether user code is running, and whether user code has ever called user code.
#[derive(Clone, Default)]
struct Inside(Rc<Cell<bool>>, Rc<Cell<bool>>);

impl Inside {
    fn enter<R>(&self, act: impl FnOnce() -> R) -> R {
        if self.0.replace(true) {
            self.1.set(true);
        }
        let outcome = act();
        self.0.set(false);
        outcome
    }

    fn was_reentered(&self) -> bool {
        self.1.get()
    }
}

/// User code in a destructor, a producer and a hook.
struct Guarded(Inside);

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.enter(|| ());
    }
}

impl Producer for Guarded {
    fn more(&mut self, _: usize) -> io::Result<More> {
        Ok(self.0.enter(|| More::Pending))
    }
}

/// Calls every method of every handle in each of its callbacks.
struct CallsEverything {
    chat: Chat,
    inside: Inside,
    all: Rc<RefCell<Vec<Chat>>>,
    calls: Rc<Cell<usize>>,
}

impl CallsEverything {
    fn call_everything(&self) {
        self.inside.enter(|| {
            self.calls.set(self.calls.get() + 1);
            // Each call causes more calls.
            if self.calls.get() > 200 {
                return;
            }
            let event_loop = self.chat.event_loop().expect("it is running");
            for chat in self.all.borrow().iter() {
                self.do_everything(&event_loop, chat);
            }
        });
    }

    fn do_everything(&self, event_loop: &EventLoop, chat: &Chat) {
        let guarded = || Guarded(self.inside.clone());
        chat.push("a");
        chat.push_with_producer(guarded());
        let token = guarded();
        chat.push_hook(move || drop(token));
        chat.discard_buffers();
        chat.push_with_producer(guarded());
        chat.resume_producing();
        chat.push(vec![b'x'; 100_000]);
        chat.set_terminator(Terminator::line());
        chat.set_limits(Limits::default().low_water(10).high_water(20));
        chat.pause_reading();
        chat.resume_reading();
        chat.set_idle_timeout(Duration::from_secs(60));
        event_loop.cancel(chat.call_later(Duration::ZERO));
        event_loop.reschedule(chat.call_later(Duration::from_secs(60)), Duration::ZERO);
        let token = guarded();
        let timer = event_loop.call_later(Duration::ZERO, move || drop(token));
        event_loop.cancel(timer);
        // On a connection that has ended, `post` returns an error and drops the closure at once.
        if chat.is_open() {
            let token = guarded();
            let call = move |_: &mut CallsEverything| {
                drop(token);
                Ok(())
            };
            chat.post(call).expect("it is open");
        }
        let _ = (chat.queued(), chat.stats(), chat.peer_addr(), chat.limits());
        let _ = (event_loop.len(), event_loop.chat(chat.id()));
    }
}

impl AsyncChat for CallsEverything {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        self.call_everything();
        if record == b"close" {
            self.inside.enter(|| {
                self.all.borrow().iter().for_each(Chat::close);
            });
        }
        Ok(())
    }
    fn handle_connect(&mut self) -> Result {
        self.call_everything();
        Ok(())
    }
    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        self.call_everything();
        Ok(Eof::CloseWhenDone)
    }
    fn handle_low_water(&mut self) -> Result {
        self.call_everything();
        Ok(())
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.call_everything();
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        assert!(!matches!(why, Close::Panic(_)), "{why}");
        self.call_everything();
    }
}

impl Drop for CallsEverything {
    fn drop(&mut self) {
        self.inside.enter(|| ());
    }
}

#[test]
fn no_method_of_a_handle_calls_user_code() {
    let event_loop = new_loop();
    let (inside, calls) = (Inside::default(), Rc::new(Cell::new(0)));
    let all: Rc<RefCell<Vec<Chat>>> = Rc::default();
    let listener = event_loop
        .listen("127.0.0.1:0", {
            let (inside, all, calls) = (inside.clone(), Rc::clone(&all), Rc::clone(&calls));
            move |chat: Chat| {
                inside.enter(|| all.borrow_mut().push(chat.clone()));
                CallsEverything {
                    chat,
                    inside: inside.clone(),
                    all: Rc::clone(&all),
                    calls: Rc::clone(&calls),
                }
            }
        })
        .unwrap();
    let mut peers = [(); 3].map(|()| Peer::connect(addr_of(&listener)));
    run_until(&event_loop, || all.borrow().len() == 3);
    let chats: Vec<Chat> = all.borrow().clone();
    for peer in &mut peers {
        peer.send("a\r\nb\r\n");
    }
    run_until(&event_loop, || {
        // What they push is over the high-water mark, and would wait for ever.
        chats.iter().for_each(Chat::discard_buffers);
        chats.iter().all(|chat| chat.stats().records_in == 2)
    });
    peers[0].send("close\r\n");
    run_until(&event_loop, || {
        chats.iter().for_each(Chat::discard_buffers);
        chats.iter().all(|chat| !chat.is_open())
    });
    listener.close();
    run_to_end(&event_loop);
    all.borrow_mut().clear();
    assert!(!inside.was_reentered());
    assert!(calls.get() > 10, "{}", calls.get());
}

/// A chat room: its members are pushed to while the room is borrowed.
#[derive(Default)]
struct Room(RefCell<HashMap<ChannelId, Chat>>);

struct Member {
    chat: Chat,
    room: Rc<Room>,
}

impl AsyncChat for Member {
    fn handle_connect(&mut self) -> Result {
        let mut members = self.room.0.borrow_mut();
        members.insert(self.chat.id(), self.chat.clone());
        for member in members.values() {
            write!(member, "{} here\r\n", members.len());
        }
        Ok(())
    }
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let members = self.room.0.borrow_mut();
        for member in members.values() {
            match line {
                b"everybody out" => member.close(),
                line => member.push_slice(line),
            }
        }
        Ok(())
    }
    fn handle_close(&mut self, _: &Close) {
        let mut members = self.room.0.borrow_mut();
        members.remove(&self.chat.id());
        for member in members.values() {
            member.push("one less\r\n");
        }
    }
}

#[test]
fn shared_state_may_be_borrowed_during_pushes_and_closes() {
    let (event_loop, room) = (new_loop(), Rc::new(Room::default()));
    let shared = Rc::clone(&room);
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat| Member {
            chat,
            room: Rc::clone(&shared),
        })
        .unwrap();
    let mut peers = [(); 3].map(|()| Peer::connect(addr_of(&listener)));
    run_until(&event_loop, || room.0.borrow().len() == 3);
    let [mut first, mut second, _] = peers;
    first.expect(&event_loop, "1 here\r\n2 here\r\n3 here\r\n");
    second.send("hello\r\n");
    first.expect(&event_loop, "hello");
    second.send("everybody out\r\n");
    run_until(&event_loop, || room.0.borrow().is_empty());
    listener.close();
    run_to_end(&event_loop);
    peers = [first, second, Peer::new(tcp_pair().0)];
    drop(peers);
}

#[test]
fn running_a_loop_inside_its_own_callback_is_an_error() {
    let (event_loop, log) = (new_loop(), Log::default());
    let inner = event_loop.clone();
    let log_clone = log.clone();
    let (_, mut peer) = served(
        &event_loop,
        log.session_with(move |chat, _| {
            for outcome in [
                inner.run(),
                asynchat::run(),
                inner.run_once(Duration::ZERO).map(drop),
                asynchat::run_once(Duration::ZERO).map(drop),
                inner.run_for(Duration::ZERO).map(drop),
                asynchat::run_for(Duration::ZERO).map(drop),
            ] {
                let refused = outcome.unwrap_err();
                assert_eq!(refused.io_kind(), Some(std::io::ErrorKind::ResourceBusy));
                log_clone.add(refused.to_string());
            }
            chat.push("served\r\n");
            Ok(())
        }),
    );
    for _ in 0..2 {
        peer.send("run\r\n");
        peer.expect(&event_loop, "served\r\n");
    }
    assert_eq!(log.count("the loop is running already"), 12);
    let (inner, log_clone) = (event_loop.clone(), log.clone());
    event_loop.call_soon(move || log_clone.add(inner.run().unwrap_err().to_string()));
    idle(&event_loop);
    assert_eq!(log.count("the loop is running already"), 13);
}

/// Registers a new dispatcher, and closes the previous one, in each of its callbacks.
struct Spawns {
    channel: Channel,
    log: Log,
    left: usize,
}

impl Dispatcher for Spawns {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_read(&mut self) -> Result {
        self.log.add("read");
        if let Some(left) = self.left.checked_sub(1) {
            let (near, far) = tcp_pair();
            let (channel, log) = (Channel::adopt(near)?, self.log.clone());
            asynchat::register(Spawns { channel, log, left })?;
            Peer::new(far).send("x");
        }
        self.channel.close();
        Ok(())
    }
    fn handle_close(&mut self, _: &Close) {
        self.log.add("close");
    }
}

#[test]
fn dispatchers_may_be_registered_and_closed_inside_callbacks() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, far) = tcp_pair();
    let spawns = Spawns {
        channel: Channel::adopt(near).unwrap(),
        log: log.clone(),
        left: 50,
    };
    event_loop.register(spawns).unwrap();
    Peer::new(far).send("x");
    run_to_end(&event_loop);
    assert_eq!((log.count("read"), log.count("close")), (51, 51));
}

#[test]
fn a_channel_cannot_be_registered_twice() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, _far) = tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    let spawns = || Spawns {
        channel: channel.clone(),
        log: log.clone(),
        left: 0,
    };
    event_loop.register(spawns()).unwrap();
    assert!(event_loop.register(spawns()).is_err());
    assert!(new_loop().register(spawns()).is_err());
    channel.close();
    assert!(event_loop.register(spawns()).is_err());
    run_to_end(&event_loop);
    assert!(event_loop.register(spawns()).is_err());
    assert_eq!(log.lines(), ["close"]);
}

/// Two sessions that answer each other do not delay other connections.
#[test]
fn two_sessions_that_keep_pushing_to_each_other_do_not_delay_others() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_, mut bystander) = served(&event_loop, log.session());
    let echo = || {
        Log::default().session_with(|chat, record| {
            chat.push_slice(record);
            chat.push("\r\n");
            Ok(())
        })
    };
    let listener = event_loop.listen("127.0.0.1:0", echo()).unwrap();
    let other = event_loop.connect(addr_of(&listener), echo()).unwrap();
    other.push("ball\r\n".repeat(3000));
    run_until(&event_loop, || other.stats().records_in > 10_000);
    bystander.send("and me?\r\n");
    run_until(&event_loop, || log.has("record and me?"));
}
