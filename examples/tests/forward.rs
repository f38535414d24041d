//! The `forward` example on a simulated network: forwarding, limits and rates.

#[path = "../forward/proxy/mod.rs"]
#[allow(unreachable_pub)]
mod proxy;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Ended, Network, Peer, Service};
use asynchat::{EventLoop, Result};
use proxy::Options;

const LISTEN: &str = "192.0.2.1:8080";
const TARGET: &str = "192.0.2.2:80";
const MINUTE: Duration = Duration::from_secs(60);

struct Scene {
    network: Network,
    event_loop: EventLoop,
    target: Option<Service>,
}

impl Scene {
    fn new(rate: Option<u64>) -> Result<Self> {
        let network = Network::new(1);
        network.add_host("target.example.org", ["192.0.2.2".parse()?]);
        let event_loop = network.event_loop()?;
        let target = Some(network.listen(TARGET)?);
        let clock = network.clone();
        let options = Options {
            to: "target.example.org:80".to_owned(),
            rate,
            send_proxy: None,
            max_connections: 2,
            idle: MINUTE,
            clock: Rc::new(move || clock.elapsed()),
        };
        let outcome = Rc::new(RefCell::new(None));
        let served = Rc::clone(&outcome);
        // `serve` uses the loop that is running, so it is called from this loop.
        event_loop.call_soon(move || {
            served.replace(Some(proxy::serve(LISTEN, options)));
        });
        network.settle(&event_loop)?;
        outcome.take().ok_or("it was not called")??;
        Ok(Scene {
            network,
            event_loop,
            target,
        })
    }

    fn settle(&self) -> Result {
        Ok(self.network.settle(&self.event_loop)?)
    }

    fn pass(&self, time: Duration) -> Result {
        Ok(self.network.advance(&self.event_loop, time)?)
    }

    fn connect(&self) -> Result<(Peer, Peer)> {
        let client = self.network.connect(LISTEN)?;
        self.settle()?;
        let target = self.target.as_ref().and_then(Service::accept);
        Ok((client, target.ok_or("it was not connected to")?))
    }
}

#[test]
fn bytes_and_half_closes_are_forwarded_in_both_directions() -> Result {
    let scene = Scene::new(None)?;
    let (client, target) = scene.connect()?;
    client.send("a question");
    client.finish();
    scene.settle()?;
    assert_eq!(target.received(), b"a question");
    assert_eq!(target.ended(), Some(Ended::Finished));
    target.send("an answer");
    target.finish();
    scene.settle()?;
    assert_eq!(client.received(), b"an answer");
    assert_eq!(client.ended(), Some(Ended::Finished));
    assert_eq!(scene.network.sockets(), 1);
    Ok(())
}

#[test]
fn the_rate_limits_each_direction_of_each_connection() -> Result {
    const RATE: usize = 10_000;
    let scene = Scene::new(Some(RATE as u64))?;
    let (first, second) = (scene.connect()?, scene.connect()?);
    let ways = [
        (&first.0, &first.1),
        (&first.1, &first.0),
        (&second.0, &second.1),
    ];
    for (from, _) in ways {
        from.send(vec![b'x'; 10 * RATE]);
        from.finish();
    }
    for seconds in 1..10 {
        scene.pass(Duration::from_secs(1))?;
        for (_, to) in ways {
            let (received, expected) = (to.received().len(), seconds * RATE);
            let tenth = RATE / 10;
            assert!(
                (expected..=expected + 2 * tenth).contains(&received),
                "{received} after {seconds} s"
            );
            assert!(!to.has_ended());
        }
    }
    scene.pass(Duration::from_secs(1))?;
    for (_, to) in ways {
        assert_eq!(to.received().len(), 10 * RATE);
        assert_eq!(to.ended(), Some(Ended::Finished));
    }
    Ok(())
}

#[test]
fn a_connection_above_the_limit_is_closed_and_others_continue() -> Result {
    let scene = Scene::new(None)?;
    let (_one, _two) = (scene.connect()?, scene.connect()?);
    let three = scene.network.connect(LISTEN)?;
    scene.settle()?;
    assert_eq!(three.ended(), Some(Ended::Finished));
    assert_eq!(scene.event_loop.stats().refused, 1);
    Ok(())
}

#[test]
fn an_unreachable_target_closes_the_client() -> Result {
    let mut scene = Scene::new(None)?;
    scene.target = None;
    let client = scene.network.connect(LISTEN)?;
    client.send("hello?");
    scene.pass(MINUTE)?;
    assert_eq!(client.ended(), Some(Ended::Finished));
    assert_eq!(scene.event_loop.len(), 1, "the listener");
    Ok(())
}

#[test]
fn an_idle_connection_is_closed_at_both_ends() -> Result {
    let scene = Scene::new(None)?;
    let (client, target) = scene.connect()?;
    scene.pass(MINUTE / 2)?;
    client.send("x");
    scene.pass(MINUTE / 2)?;
    assert!(!client.has_ended() && !target.has_ended());
    scene.pass(MINUTE / 2)?;
    assert!(client.has_ended() && target.has_ended());
    Ok(())
}
