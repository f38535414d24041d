//! A loop and connections to it on a simulated network.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::time::Duration;

use asynchat::sim::{Network, Peer};
use asynchat::{AsyncChat, Chat, Connector, EventLoop, Result};

use crate::common::Log;

pub(crate) struct Scene {
    pub(crate) network: Network,
    pub(crate) event_loop: EventLoop,
    pub(crate) log: Log,
}

impl Scene {
    pub(crate) fn new() -> Result<Self> {
        Scene::with_seed(1)
    }

    pub(crate) fn with_seed(seed: u64) -> Result<Self> {
        let network = Network::new(seed);
        let event_loop = network.event_loop()?;
        Ok(Scene {
            network,
            event_loop,
            log: Log::default(),
        })
    }

    pub(crate) fn connection<S: AsyncChat>(
        &self,
        factory: impl FnOnce(Chat) -> S + 'static,
    ) -> Result<(Chat, Peer)> {
        let (socket, peer) = self.network.pair();
        let chat = Connector::adopt(socket).connect_on(&self.event_loop, factory)?;
        self.settle()?;
        Ok((chat, peer))
    }

    pub(crate) fn settle(&self) -> Result {
        Ok(self.network.settle(&self.event_loop)?)
    }

    pub(crate) fn advance(&self, seconds: u64) -> Result {
        Ok(self
            .network
            .advance(&self.event_loop, Duration::from_secs(seconds))?)
    }

    /// Whether no connection and no socket is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.event_loop.is_empty() && self.network.sockets() == 0
    }
}
