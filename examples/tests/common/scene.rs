//! An example program on a simulated network, and its clients.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Network, Peer};
use asynchat::{EventLoop, Result};

pub(crate) struct Scene {
    pub(crate) network: Network,
    pub(crate) event_loop: EventLoop,
}

impl Scene {
    /// Calls `serve` in a new loop of the network. The programs serve on the loop that is running.
    pub(crate) fn new<T, E>(
        network: Network,
        serve: impl FnOnce() -> Result<T, E> + 'static,
    ) -> Result<Scene>
    where
        T: 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let event_loop = network.event_loop()?;
        let outcome = Rc::new(RefCell::new(None));
        let served = Rc::clone(&outcome);
        event_loop.call_soon(move || {
            served.replace(Some(serve()));
        });
        network.settle(&event_loop)?;
        let outcome = outcome.take().ok_or("it was not called")?;
        outcome.map_err(Into::into)?;
        Ok(Scene {
            network,
            event_loop,
        })
    }

    pub(crate) fn settle(&self) -> Result {
        Ok(self.network.settle(&self.event_loop)?)
    }

    pub(crate) fn advance(&self, time: Duration) -> Result {
        Ok(self.network.advance(&self.event_loop, time)?)
    }

    /// Sends input, and returns the replies.
    pub(crate) fn ask(&self, client: &Peer, input: impl AsRef<[u8]>) -> Result<String> {
        client.send(input);
        self.settle()?;
        Ok(String::from_utf8_lossy(&client.take_received()).into_owned())
    }
}
