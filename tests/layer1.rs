//! Layer 1: output that comes from outside the dispatcher's own callbacks, and peers that are gone.

mod common;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use asynchat::{Addr, Channel, Close, Dispatcher, EventLoop, Result, Socket};
use common::{Log, Peer, addr_of, idle, name, new_loop, run_to_end, run_until, tcp_pair};

type Buffer = Rc<RefCell<Vec<u8>>>;

/// Sends the contents of its buffer, which the test may fill.
struct SendsBuffer {
    channel: Channel,
    buffer: Buffer,
    log: Log,
}

impl Dispatcher for SendsBuffer {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn writable(&self) -> bool {
        !self.buffer.borrow().is_empty()
    }
    fn handle_read(&mut self) -> Result {
        self.channel.recv(&mut [0; 100])?;
        Ok(())
    }
    fn handle_write(&mut self) -> Result {
        let count = self.channel.send(&self.buffer.borrow())?;
        self.buffer.borrow_mut().drain(..count);
        Ok(())
    }
    fn handle_error(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        self.log.add(format!("error {error}"));
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

/// A registered `SendsBuffer` whose `writable` has been called and has returned false.
fn registered(event_loop: &EventLoop) -> (Channel, Buffer, Log, Peer) {
    let (near, far) = tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    let (buffer, log) = (Buffer::default(), Log::default());
    let registered = SendsBuffer {
        channel: channel.clone(),
        buffer: Rc::clone(&buffer),
        log: log.clone(),
    };
    event_loop.register(registered).unwrap();
    idle(event_loop);
    (channel, buffer, log, Peer::new(far))
}

#[test]
fn a_buffer_filled_from_outside_is_sent_after_update_interest() {
    let event_loop = new_loop();
    let (channel, buffer, _, mut peer) = registered(&event_loop);
    event_loop.call_soon(move || {
        buffer.borrow_mut().extend_from_slice(b"hello");
        channel.update_interest();
    });
    peer.expect(&event_loop, "hello");
}

#[test]
fn the_rest_of_a_partial_send_from_outside_is_sent_when_there_is_room() {
    const TOTAL: usize = 32 << 20;
    let event_loop = new_loop();
    let (channel, buffer, _, mut peer) = registered(&event_loop);
    event_loop.call_soon(move || {
        let data = vec![b'x'; TOTAL];
        let count = channel.send(&data).unwrap();
        assert!(count < TOTAL, "the kernel took all of it");
        buffer.borrow_mut().extend_from_slice(&data[count..]);
    });
    run_until(&event_loop, || peer.look().len() == TOTAL);
}

#[test]
fn a_reset_returned_by_recv_is_the_reason_and_not_an_error() {
    let event_loop = new_loop();
    let (_, _, log, peer) = registered(&event_loop);
    peer.reset();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["close Reset"]);
}

/// The listener of the documentation: it sends a greeting and closes.
struct Greeter {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Greeter {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_accepted(&mut self, socket: Socket, _: Addr) -> Result {
        self.log.add("accepted");
        let channel = Channel::adopt(socket)?;
        channel.send(b"hello\r\n")?;
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

#[test]
fn a_client_that_is_gone_before_its_greeting_does_not_end_the_listener() {
    let (event_loop, log) = (new_loop(), Log::default());
    let channel = Channel::listen("127.0.0.1:0").unwrap();
    let addr = addr_of(&channel);
    let greeter = Greeter {
        channel: channel.clone(),
        log: log.clone(),
    };
    event_loop.register(greeter).unwrap();
    Peer::connect(addr).reset();
    let mut next = Peer::connect(addr);
    next.expect(&event_loop, "hello\r\n");
    assert!(channel.is_open(), "{:?}", log.lines());
    assert!(!log.has("close"));
}

/// asyncore's programs keep their channels in a dict, before they are polled.
#[test]
fn a_channel_has_one_id_from_its_creation() -> Result {
    struct Idle(Channel);
    impl Dispatcher for Idle {
        fn channel(&self) -> &Channel {
            &self.0
        }
    }
    let event_loop = new_loop();
    let (first, second) = (Channel::bind("127.0.0.1:0")?, Channel::bind("127.0.0.1:0")?);
    let (first_id, second_id) = (first.id(), second.id());
    assert!(first_id < second_id);
    let mut by_id = HashMap::from([(first_id, "first"), (second_id, "second")]);
    event_loop.register(Idle(second.clone()))?;
    event_loop.register(Idle(first.clone()))?;
    assert_eq!((first.id(), second.id()), (first_id, second_id));
    assert_eq!(by_id.remove(&second.id()), Some("second"));
    // An id that was taken before the registration reaches the dispatcher as well.
    let called = Arc::new(AtomicUsize::new(0));
    for id in [first_id, first.id()] {
        let called = Arc::clone(&called);
        event_loop.remote().post_to(id, move |_: &mut Idle| {
            called.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
    }
    idle(&event_loop);
    assert_eq!(called.load(Ordering::Relaxed), 2);
    Ok(())
}
