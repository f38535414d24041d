//! No stale event: an event that the kernel reported for a channel that has ended reaches no other
//! channel, even if that got the same descriptor in the same batch.

mod common;

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;

use asynchat::{Channel, Close, Dispatcher, Result};
use common::{Peer, idle, new_loop, run_until, tcp_pair};

/// State that the channels of a test share.
#[derive(Default)]
struct Crowd {
    channels: RefCell<Vec<Channel>>,
    peers: RefCell<Vec<Peer>>,
    reads: Cell<usize>,
    false_alarms: Cell<usize>,
    after_close: Cell<usize>,
}

/// Closes all the others at its first input, and makes as many new ones.
struct Member {
    channel: Channel,
    crowd: Rc<Crowd>,
    closes_others: bool,
    closed: bool,
}

impl Crowd {
    fn join(self: &Rc<Self>, closes_others: bool) {
        let (near, far) = tcp_pair();
        let channel = Channel::adopt(near).expect("a mode of the socket");
        self.channels.borrow_mut().push(channel.clone());
        self.peers.borrow_mut().push(Peer::new(far));
        let crowd = Rc::clone(self);
        let one = Member {
            channel,
            crowd,
            closes_others,
            closed: false,
        };
        asynchat::register(one).expect("the loop takes it");
    }
}

impl Dispatcher for Member {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_read(&mut self) -> Result {
        let crowd = Rc::clone(&self.crowd);
        crowd.reads.set(crowd.reads.get() + 1);
        if self.closed || !self.channel.is_open() {
            crowd.after_close.set(crowd.after_close.get() + 1);
        }
        match self.channel.recv(&mut [0; 100]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                crowd.false_alarms.set(crowd.false_alarms.get() + 1);
            }
            outcome => assert!(outcome? > 0),
        }
        if self.closes_others {
            let channels = crowd.channels.take();
            crowd.peers.borrow_mut().clear();
            channels.iter().for_each(Channel::close);
            channels.iter().for_each(|_| crowd.join(false));
        }
        Ok(())
    }
    fn handle_close(&mut self, _: &Close) {
        self.closed = true;
        // Its descriptor is closed already: the next socket gets its number.
        if self.closes_others {
            self.crowd.join(false);
        }
    }
}

#[test]
fn events_for_channels_closed_in_the_same_batch_are_dropped() {
    const COUNT: usize = 50;
    let event_loop = new_loop();
    let crowd: Rc<Crowd> = Rc::default();
    for _ in 0..5 {
        let joined = Rc::clone(&crowd);
        event_loop.call_soon(move || (0..COUNT).for_each(|_| joined.join(true)));
        run_until(&event_loop, || event_loop.len() >= COUNT);
        // All of them are readable before the loop polls, so they are in one batch.
        for peer in crowd.peers.borrow_mut().iter_mut() {
            peer.send("x");
        }
        run_until(&event_loop, || crowd.reads.get() > 0);
        idle(&event_loop);
        // The first read closed all the others. Their successors have been sent nothing.
        assert_eq!(crowd.reads.take(), 1);
        assert_eq!((crowd.false_alarms.get(), crowd.after_close.get()), (0, 0));
        // The successors work: each receives from its own peer.
        let mut peers = crowd.peers.take();
        for peer in &mut peers {
            peer.send("y");
        }
        run_until(&event_loop, || crowd.reads.get() == peers.len());
        assert_eq!(crowd.false_alarms.get(), 0);
        crowd.reads.set(0);
        event_loop.close_all();
        crowd.channels.take();
        run_until(&event_loop, || event_loop.is_empty());
    }
}

#[test]
fn a_late_message_reaches_no_connection_with_a_reused_slot() {
    let (event_loop, crowd) = (new_loop(), Rc::<Crowd>::default());
    let mut ids = Vec::new();
    for _ in 0..10 {
        let joined = Rc::clone(&crowd);
        event_loop.call_soon(move || joined.join(false));
        run_until(&event_loop, || event_loop.len() == 1);
        let channel = crowd.channels.take().remove(0);
        assert!(!ids.contains(&channel.id()));
        ids.push(channel.id());
        channel.close();
        run_until(&event_loop, || event_loop.is_empty());
        let late = event_loop.remote().post_to(channel.id(), |_: &mut Member| {
            panic!("it has ended");
        });
        late.expect("the loop is there");
    }
    let joined = Rc::clone(&crowd);
    event_loop.call_soon(move || joined.join(false));
    idle(&event_loop);
    assert_eq!(event_loop.len(), 1);
}
