//! Names that take long to look up.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use asynchat::Result;
use asynchat::sim::Peer;

use crate::server::resolver::Resolver;
use crate::world::{ESTABLISHED, LISTEN, World, get, resolve, socks, status, text};

/// How long a thread may take to look a name up that is known.
const DEADLINE: Duration = Duration::from_secs(20);

/// How many look-ups of one address wait.
const SHARE: usize = 64;

#[test]
fn slow_names_of_one_address_do_not_stop_the_look_ups_of_others() -> Result {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let (begin, begun) = channel();
    let world = World::with(|options| {
        options.connect = Duration::from_secs(1000);
        options.resolver = Resolver::new(2, move |name, port| {
            if name == "slow.example" {
                let _ = begin.send(());
                // Until the test ends.
                drop(released.lock().map(|it| it.recv()));
            }
            resolve(name, port)
        });
    })?;
    let from = |addr: &str, input: &[u8]| -> Result<Peer> {
        let client = world
            .network
            .connect_from(addr.parse::<SocketAddr>()?, LISTEN)?;
        world.send(&client, input)?;
        Ok(client)
    };
    let slow = get("slow.example").into_bytes();
    // A thread has taken this one. The other thread is not for this address.
    let _first = from("192.0.2.7:0", &slow)?;
    begun.recv_timeout(DEADLINE)?;
    let waiting = (0..SHARE).map(|_| from("192.0.2.7:0", &slow));
    let waiting = waiting.collect::<Result<Vec<_>>>()?;
    let refused = from("192.0.2.7:0", &slow)?;
    assert_eq!(status(&text(&refused)), "503");
    let refused = from("192.0.2.7:0", &socks("slow.example", 80))?;
    assert_eq!(refused.take_received()[..4], [5, 0, 5, 1]);

    let other = from(
        "192.0.2.8:0",
        b"CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    )?;
    let end = Instant::now() + DEADLINE;
    while other.received().is_empty() {
        assert!(Instant::now() < end, "the name is not looked up");
        thread::yield_now();
        world.settle()?;
    }
    assert_eq!(text(&other), ESTABLISHED);
    assert!(waiting.iter().all(|it| it.received().is_empty()));
    drop(release);
    Ok(())
}

/// The time for the response is short then, as it is when the client finishes later.
#[test]
fn a_client_may_finish_before_the_name_is_looked_up() -> Result {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let world = World::with(|options| {
        options.connect = Duration::from_secs(1000);
        options.resolver = Resolver::new(2, move |name, port| {
            drop(released.lock().map(|it| it.recv()));
            resolve(name, port)
        });
    })?;
    let client = world.client()?;
    world.send(&client, get("www.example"))?;
    client.finish();
    world.settle()?;
    assert!(world.is_untouched() && !client.has_ended());
    drop(release);
    let end = Instant::now() + DEADLINE;
    let server = loop {
        match world.accept() {
            Ok(server) => break server,
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => thread::yield_now(),
        }
        world.settle()?;
    };
    world.settle()?;
    world.advance(Duration::from_secs(9))?;
    assert!(!client.has_ended());
    world.advance(Duration::from_secs(2))?;
    assert!(server.has_ended());
    assert_eq!(status(&text(&client)), "504");
    Ok(())
}
