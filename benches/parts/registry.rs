//! Who is registered, beside so many others: what an event, and a message to an id, has to find.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Network, Peer};
use asynchat::{ChannelId, Chat, EventLoop, Limits, Server};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

const OTHERS: [usize; 2] = [10, 9_000];

/// The chat of an id.
#[divan::bench(args = OTHERS, sample_size = 1000)]
fn find(bencher: Bencher<'_, '_>, others: usize) {
    let crowd = Crowd::new(others);
    let mut ids = crowd.ids.iter().cycle();
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        let id = ids.next().expect("it goes round");
        black_box(crowd.event_loop.chat(*id).is_some())
    });
}

/// A turn in which one of them has a line, and an answer.
#[divan::bench(args = OTHERS, sample_size = 100)]
fn turn(bencher: Bencher<'_, '_>, others: usize) {
    let crowd = Crowd::new(others);
    let peer = crowd.peers.first().expect("there is one");
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        peer.send("hello\r\n");
        let turned = crowd.event_loop.run_once(Duration::ZERO);
        (turned, peer.received())
    });
}

/// One that comes and goes: registered, watched, told of its end, and gone.
#[divan::bench(args = OTHERS, sample_size = 100)]
fn come_and_go(bencher: Bencher<'_, '_>, others: usize) {
    let crowd = Crowd::new(others);
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        let peer = crowd.network.connect(ADDR);
        drop(black_box(peer));
        crowd.network.settle(&crowd.event_loop)
    });
}

const ADDR: &str = "10.0.0.1:7007";

/// So many connections to a server that answers each line.
struct Crowd {
    network: Network,
    event_loop: EventLoop,
    peers: Vec<Peer>,
    ids: Vec<ChannelId>,
}

impl Crowd {
    fn new(count: usize) -> Self {
        let network = Network::new(1);
        let event_loop = network.event_loop().expect("a loop");
        let ids: Rc<RefCell<Vec<ChannelId>>> = Rc::default();
        let seen = Rc::clone(&ids);
        Server::new(ADDR)
            .limits(Limits::default().per_address(Limits::UNLIMITED))
            .listen_on(&event_loop, move |chat: Chat| {
                seen.borrow_mut().push(chat.id());
                move |_: &[u8]| {
                    chat.push("ok\r\n");
                    Ok(())
                }
            })
            .expect("the address is free");
        let peers = (0..count).map(|_| network.connect(ADDR).expect("it listens"));
        let peers = peers.collect();
        network.settle(&event_loop).expect("they are accepted");
        let ids = ids.take();
        Crowd {
            network,
            event_loop,
            peers,
            ids,
        }
    }
}
