//! A loop inside another one. Between two turns a call on the loop or on its channels wakes the outer loop, however
//! that watches the descriptor, and a turn that has left something over is followed by another one. The example
//! programs are tested in examples/tests/programs.rs, and those of examples/embedding by .ci/run.

mod common;

use std::time::Duration;

use asynchat::{Chat, EventLoop};
use common::{DEADLINE, Log, idle, new_loop, refusing, served};

/// Calls `act` on an idle loop with one connection, and then runs turns for as long as the loop
/// asks for one at once.
#[track_caller]
fn asks_for_a_turn(what: &str, act: &dyn Fn(&EventLoop, &Chat)) {
    let event_loop = new_loop();
    let (chat, _peer) = served(&event_loop, Log::default().session());
    idle(&event_loop);
    assert_eq!(event_loop.next_timeout(), None, "before {what}");
    act(&event_loop, &chat);
    let asks = || event_loop.next_timeout() == Some(Duration::ZERO);
    assert!(asks(), "the loop sleeps after {what}");
    let mut turns = 0;
    while asks() {
        turns += 1;
        assert!(turns < 20, "{what} keeps the loop busy");
        event_loop.run_once(Duration::ZERO).unwrap();
    }
}

/// What a test does with each of the calls below: it gets the name of the call and the call.
type Check = fn(&str, &dyn Fn(&EventLoop, &Chat));

#[test]
fn each_call_from_outside_asks_for_a_turn() {
    each_call(asks_for_a_turn);
}

#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
#[test]
fn each_call_from_outside_wakes_an_outer_loop_that_sleeps() {
    each_call(linux::wakes_a_level_triggered_host);
    each_call(linux::wakes_an_edge_triggered_host);
}

fn each_call(check: Check) {
    check("a push", &|_, chat| chat.push("hello"));
    check("a producer", &|_, chat| chat.push_with_producer("hello"));
    check("a hook", &|_, chat| chat.push_hook(|| ()));
    check("a close", &|_, chat| chat.close());
    check("a close when done", &|_, chat| chat.close_when_done());
    check("an abort", &|_, chat| chat.abort());
    check("an end of output", &|_, chat| Chat::shutdown_write(chat));
    check("a pause", &|_, chat| chat.pause_reading());
    check("a resumption", &|event_loop, chat| {
        chat.pause_reading();
        idle(event_loop);
        chat.resume_reading();
    });
    check("a terminator", &|_, chat| {
        chat.set_terminator(asynchat::Terminator::count(0));
    });
    check("limits", &|_, chat| chat.set_limits(chat.limits()));
    check("a discard", &|_, chat| chat.discard_buffers());
    check("a call posted to the handler", &|_, chat| {
        chat.post(|_: &mut common::Session| Ok(())).unwrap();
    });
    check("a promise that is fulfilled", &|event_loop, chat| {
        let promise = chat.promise();
        idle(event_loop);
        promise.fulfill("hello");
    });
    check("a call", &|event_loop, _| event_loop.call_soon(|| ()));
    check("a timer that is due", &|event_loop, _| {
        event_loop.call_later(Duration::ZERO, || ());
    });
    check("a timer that is cancelled", &|event_loop, _| {
        let timer = event_loop.call_later(DEADLINE, || ());
        event_loop.cancel(timer);
    });
    check("a post", &|event_loop, _| {
        event_loop.remote().post(|| ()).unwrap();
    });
    check("a listener", &|event_loop, _| {
        event_loop
            .listen("127.0.0.1:0", Log::default().session())
            .unwrap();
    });
    check("a connection", &|event_loop, _| {
        let (_socket, addr) = refusing();
        event_loop.connect(addr, Log::default().session()).unwrap();
    });
    check("a stop", &|event_loop, _| event_loop.stop());
    check("a shutdown", &|event_loop, _| event_loop.shutdown(DEADLINE));
    check("a close of all", &|event_loop, _| event_loop.close_all());
}

#[test]
fn a_shutdown_of_an_empty_loop_asks_for_a_turn() {
    let event_loop = new_loop();
    event_loop.shutdown(DEADLINE);
    assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    assert!(!event_loop.run_once(Duration::ZERO).unwrap());
    assert_eq!(event_loop.next_timeout(), None);
}

/// Outer loops on epoll.
#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
mod linux {
    use std::cell::Cell;
    use std::fs;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream, UdpSocket};
    use std::os::fd::{AsFd, AsRawFd, OwnedFd};
    use std::rc::Rc;
    use std::thread;
    use std::time::Duration;

    use asynchat::{Channel, Chat, Dispatcher, EventLoop, Limits, Result};
    use rustix::buffer::spare_capacity;
    use rustix::event::{Timespec, epoll};

    use crate::common::{DEADLINE, Log, addr_of, idle, new_loop, served, skip};

    /// How an outer loop watches the descriptor, and how it runs the inner loop.
    #[derive(Clone, Copy)]
    struct Mode {
        flags: epoll::EventFlags,
        turn: fn(&EventLoop) -> Result<bool>,
    }

    const LEVEL: epoll::EventFlags = epoll::EventFlags::IN;
    const EDGE: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ET);
    const ONCE: fn(&EventLoop) -> Result<bool> = |it| Ok(it.run_once(Duration::ZERO)?);
    /// Each turn is cut after its first call.
    const CUT: fn(&EventLoop) -> Result<bool> = |it| Ok(it.run_for(Duration::ZERO)?);

    fn every_mode() -> impl Iterator<Item = Mode> {
        let mode = |(flags, turn)| Mode { flags, turn };
        [(LEVEL, ONCE), (EDGE, ONCE), (LEVEL, CUT), (EDGE, CUT)]
            .into_iter()
            .map(mode)
    }

    /// An outer loop. It asks how long it may sleep after each turn of the inner loop, and never in between.
    struct Host {
        epoll: OwnedFd,
        inner: EventLoop,
        turn: fn(&EventLoop) -> Result<bool>,
        /// How long it may sleep.
        timeout: Option<Duration>,
    }

    impl Host {
        fn new(inner: &EventLoop, mode: Mode) -> Self {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
            let data = epoll::EventData::new_u64(0);
            epoll::add(&epoll, inner, data, mode.flags).unwrap();
            Host {
                epoll,
                inner: inner.clone(),
                turn: mode.turn,
                timeout: None,
            }
        }

        /// Sleeps at most for `most`. Returns whether the descriptor was reported.
        fn sleep(&self, most: Duration) -> bool {
            let mut events = Vec::with_capacity(8);
            let most = Timespec::try_from(most).unwrap();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&most)).unwrap();
            !events.is_empty()
        }

        fn take_turn(&mut self) {
            (self.turn)(&self.inner).unwrap();
            self.timeout = self.inner.next_timeout();
        }

        /// Takes turns until the inner loop lets it sleep and nothing is reported.
        fn settle(&mut self) {
            for turns in 0.. {
                assert!(turns < 10_000, "the inner loop stays busy");
                if !self.sleep(Duration::ZERO) && self.timeout != Some(Duration::ZERO) {
                    break;
                }
                self.take_turn();
            }
        }

        /// Runs until `done` returns true. Panics if it would sleep for ever.
        #[track_caller]
        fn run_until(&mut self, mut done: impl FnMut() -> bool) {
            while !done() {
                let timeout = self.timeout.unwrap_or(DEADLINE);
                let reported = self.sleep(timeout);
                assert!(
                    reported || self.timeout.is_some(),
                    "the outer loop stalls: {:?}",
                    self.inner
                );
                self.take_turn();
            }
        }
    }

    pub(crate) fn wakes_a_level_triggered_host(what: &str, act: &dyn Fn(&EventLoop, &Chat)) {
        wakes(LEVEL, what, act);
    }

    pub(crate) fn wakes_an_edge_triggered_host(what: &str, act: &dyn Fn(&EventLoop, &Chat)) {
        wakes(EDGE, what, act);
    }

    #[track_caller]
    fn wakes(flags: epoll::EventFlags, what: &str, act: &dyn Fn(&EventLoop, &Chat)) {
        let event_loop = new_loop();
        let (chat, _peer) = served(&event_loop, Log::default().session());
        let mut host = Host::new(&event_loop, Mode { flags, turn: ONCE });
        host.settle();
        assert_eq!(host.timeout, None, "before {what}");
        act(&event_loop, &chat);
        // The host is asleep, and asks nothing.
        assert!(host.sleep(DEADLINE), "the host sleeps after {what}");
        host.take_turn();
        host.settle();
        assert_ne!(host.timeout, Some(Duration::ZERO), "{what}");
        let turns = event_loop.stats().turns;
        host.settle();
        assert_eq!(event_loop.stats().turns, turns, "{what} wakes an idle host");
    }

    #[test]
    fn an_earlier_timer_wakes_the_outer_loop_and_a_later_one_does_not() {
        for flags in [LEVEL, EDGE] {
            let event_loop = new_loop();
            let mut host = Host::new(&event_loop, Mode { flags, turn: ONCE });
            event_loop.call_later(DEADLINE, || ());
            host.settle();
            event_loop.call_later(DEADLINE * 2, || ());
            assert!(!host.sleep(Duration::ZERO));
            let timer = event_loop.call_later(DEADLINE / 2, || ());
            assert!(host.sleep(Duration::ZERO));
            host.take_turn();
            assert!(host.timeout.unwrap() <= DEADLINE / 2);
            event_loop.reschedule(timer, DEADLINE);
            assert!(!host.sleep(Duration::ZERO));
            event_loop.reschedule(timer, DEADLINE / 4);
            assert!(host.sleep(Duration::ZERO));
            host.take_turn();
            // The end of its grace is later than the timer, and a loop without channels does not wait for it.
            event_loop.shutdown(DEADLINE);
            assert!(host.sleep(Duration::ZERO));
        }
    }

    #[test]
    fn work_from_before_the_descriptor_was_watched_wakes_the_outer_loop() {
        for mode in every_mode() {
            let event_loop = new_loop();
            let called = Rc::new(Cell::new(false));
            let calls = Rc::clone(&called);
            event_loop.call_soon(move || calls.set(true));
            let mut host = Host::new(&event_loop, mode);
            host.run_until(|| called.get());
        }
    }

    /// How often the descriptor that wakes the loop was written to since it was read.
    fn wakeups(event_loop: &EventLoop) -> u64 {
        let info = |fd: &str| fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        let field = |line: &str, name: &str| {
            let value = line.strip_prefix(name)?.trim_start();
            Some(value.split(' ').next()?.to_owned())
        };
        let poller = info(&event_loop.as_raw_fd().to_string());
        let watched = poller.lines().filter_map(|line| field(line, "tfd:"));
        let counts = watched.filter_map(|fd| {
            let count = info(&fd)
                .lines()
                .find_map(|it| field(it, "eventfd-count:"))?;
            Some(u64::from_str_radix(&count, 16).unwrap())
        });
        counts.sum()
    }

    #[test]
    fn a_thousand_calls_wake_the_outer_loop_once_and_those_in_a_turn_do_not() {
        let event_loop = new_loop();
        let (chat, _peer) = served(&event_loop, Log::default().session());
        // Asking for the descriptor is what makes it an inner loop.
        event_loop.as_fd();
        idle(&event_loop);
        assert_eq!(wakeups(&event_loop), 0);
        let call_all = move |event_loop: &EventLoop| {
            for _ in 0..1000 {
                chat.push("hello");
                event_loop.call_soon(|| ());
                event_loop.call_later(Duration::ZERO, || ());
            }
            event_loop.stop();
        };
        for _ in 0..3 {
            call_all(&event_loop);
            assert_eq!(wakeups(&event_loop), 1);
            event_loop.run_once(Duration::ZERO).unwrap();
            assert_eq!(wakeups(&event_loop), 0);
            idle(&event_loop);
        }
        let inner = event_loop.clone();
        event_loop.call_soon(move || {
            call_all(&inner);
            assert_eq!(wakeups(&inner), 0);
        });
        event_loop.run_once(Duration::ZERO).unwrap();
        assert_eq!(wakeups(&event_loop), 0);
        assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    }

    /// A million bytes are more than one turn reads and writes, and than all buffers of the kernel.
    #[test]
    fn a_million_bytes_pass_in_both_directions() {
        const SIZE: usize = 1_000_000;
        for mode in every_mode() {
            let event_loop = new_loop();
            let echo = |chat: Chat| {
                move |line: &[u8]| {
                    chat.push_slices(&[line, b"\r\n"]);
                    Ok(())
                }
            };
            let listener = event_loop.listen("127.0.0.1:0", echo).unwrap();
            let addr = addr_of(&listener);
            let client = thread::spawn(move || {
                let mut stream = TcpStream::connect(addr).unwrap();
                let mut writer = stream.try_clone().unwrap();
                let sender = thread::spawn(move || {
                    writer.write_all(&b"a line of 20 bytes\r\n".repeat(SIZE / 20))
                });
                let mut received = vec![0; SIZE];
                stream.read_exact(&mut received).unwrap();
                sender.join().unwrap().unwrap();
            });
            let mut host = Host::new(&event_loop, mode);
            host.run_until(|| event_loop.stats().bytes_out == SIZE as u64);
            client.join().unwrap();
            host.run_until(|| event_loop.len() == 1);
        }
    }

    /// What arrived before the first turn causes one edge.
    #[test]
    fn a_hundred_clients_and_their_lines_that_wait_are_served() {
        for mode in every_mode() {
            let (event_loop, log) = (new_loop(), Log::default());
            let listener = event_loop
                .listen(
                    "127.0.0.1:0",
                    log.session_with(|chat, _| {
                        chat.close_when_done();
                        Ok(())
                    }),
                )
                .unwrap();
            let mut host = Host::new(&event_loop, mode);
            host.settle();
            let addr = addr_of(&listener);
            let clients: Vec<TcpStream> = (0..100)
                .map(|_| {
                    let mut client = TcpStream::connect(addr).unwrap();
                    client.write_all(b"hello\r\n").unwrap();
                    client
                })
                .collect();
            host.run_until(|| log.count("record hello") == 100);
            drop(clients);
            host.run_until(|| event_loop.len() == 1);
        }
    }

    /// Counts its datagrams, and receives one in each turn.
    struct Datagrams(Channel, Rc<Cell<usize>>);

    impl Dispatcher for Datagrams {
        fn channel(&self) -> &Channel {
            &self.0
        }

        fn handle_read(&mut self) -> Result {
            self.0.recv_from(&mut [0; 16])?;
            self.1.set(self.1.get() + 1);
            Ok(())
        }
    }

    /// One wait takes 1,024 events.
    #[test]
    fn more_events_than_one_wait_takes_and_datagrams_that_a_dispatcher_leaves() {
        const SOCKETS: usize = 1500;
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        if limit.maximum.is_some_and(|most| most < 3000) {
            return skip::skipped("the hard limit of descriptors is too low");
        }
        if limit.current.is_some_and(|soft| soft < 3000) {
            limit.current = Some(3000);
            setrlimit(Resource::Nofile, limit).unwrap();
        }
        for mode in every_mode() {
            let (event_loop, count) = (new_loop(), Rc::new(Cell::new(0)));
            let bound = (0..SOCKETS).map(|_| {
                let channel = Channel::bind("127.0.0.1:0").unwrap();
                let addr = channel.local_addr().and_then(|addr| addr.inet()).unwrap();
                event_loop
                    .register(Datagrams(channel, Rc::clone(&count)))
                    .unwrap();
                addr
            });
            let addrs: Vec<SocketAddr> = bound.collect();
            let mut host = Host::new(&event_loop, mode);
            host.settle();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            for addr in addrs.iter().chain(&addrs) {
                sender.send_to(b"hello", addr).unwrap();
            }
            host.run_until(|| count.get() == 2 * SOCKETS);
        }
    }

    /// A callback runs the outer loop, as a modal dialog does. What is reported there cannot be handled there.
    #[test]
    fn what_is_reported_to_an_outer_loop_inside_a_callback_is_served_after_it() {
        for mode in every_mode() {
            let (event_loop, log) = (new_loop(), Log::default());
            let (_, peer) = served(&event_loop, log.session());
            let mut host = Host::new(&event_loop, mode);
            host.settle();
            let dialog = Rc::new(host);
            let in_dialog = Rc::clone(&dialog);
            let mut stream = peer.stream.try_clone().unwrap();
            event_loop.call_soon(move || {
                // The edge of this call, which began the turn.
                in_dialog.sleep(Duration::ZERO);
                stream.write_all(b"hello\r\n").unwrap();
                assert!(in_dialog.sleep(DEADLINE));
                assert!((in_dialog.turn)(&in_dialog.inner).is_err());
            });
            while Rc::strong_count(&dialog) > 1 {
                (dialog.turn)(&event_loop).unwrap();
            }
            let mut host = Rc::into_inner(dialog).unwrap();
            host.timeout = event_loop.next_timeout();
            host.run_until(|| log.has("record hello"));
        }
    }

    /// A budget of one byte and one record: everything that arrives is left over.
    #[test]
    fn a_turn_that_stops_at_a_budget_is_followed_by_another() {
        for mode in every_mode() {
            let (event_loop, log) = (new_loop(), Log::default());
            let (chat, mut peer) = served(&event_loop, log.session());
            chat.set_limits(Limits::default().turn_read(1).turn_write(1).turn_records(1));
            let mut host = Host::new(&event_loop, mode);
            host.settle();
            peer.send("one\r\ntwo\r\n");
            peer.finish();
            host.run_until(|| log.has("close"));
            let lines = ["connect", "record one", "record two", "eof ", "close Eof"];
            assert_eq!(log.lines(), lines);
        }
    }
}

#[test]
fn run_for_returns_at_once_when_a_shutdown_has_left_nothing_to_do() -> asynchat::Result {
    let event_loop = new_loop();
    event_loop.listen("127.0.0.1:0", |_| |_: &[u8]| Ok(()))?;
    event_loop.run_for(Duration::ZERO)?;
    event_loop.shutdown(Duration::ZERO);
    let before = event_loop.stats().turns;
    assert!(!event_loop.run_for(DEADLINE)?);
    assert!(event_loop.stats().turns - before < 10);
    Ok(())
}
