//! The registry: finding a channel among others, as each event and each post to an id does. Turns of the loop
//! are not measured, because the simulated network examines all its sockets in each turn.

use std::cell::RefCell;
use std::rc::Rc;

use asynchat::sim::{Network, Peer};
use asynchat::{ChannelId, Chat, EventLoop, Limits, Server};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

const OTHERS: [usize; 2] = [10, 1_000];

/// Finds a chat by its id.
#[divan::bench(args = OTHERS, sample_size = 1000)]
fn find(bencher: Bencher<'_, '_>, others: usize) {
    let crowd = Crowd::new(others);
    let mut ids = crowd.ids.iter().cycle();
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        let id = ids.next().expect("the iterator cycles");
        black_box(crowd.event_loop.chat(*id).is_some())
    });
}

const ADDR: &str = "10.0.0.1:7007";

/// A loop with a number of connections.
struct Crowd {
    event_loop: EventLoop,
    ids: Vec<ChannelId>,
    /// Dropping the peers would close the connections.
    _peers: Vec<Peer>,
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
                |_: &[u8]| Ok(())
            })
            .expect("the address is free");
        let mut peers = Vec::new();
        for _ in 0..count {
            peers.push(network.connect(ADDR).expect("it listens"));
        }
        network.settle(&event_loop).expect("they are accepted");
        assert_eq!(event_loop.len(), count + 1);
        Crowd {
            event_loop,
            ids: ids.take(),
            _peers: peers,
        }
    }
}
