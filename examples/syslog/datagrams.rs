//! Receives messages over UDP and Unix-domain datagrams.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Channel, Close, Dispatcher, Result, TimerId};

use crate::collector::Collector;

/// How many datagrams are received in one turn of the loop.
const BUDGET: usize = 64;

/// How long reading is paused after an error. Without the pause, a persistent error would make the loop
/// spin.
const PAUSE: Duration = Duration::from_secs(1);

/// Each datagram is a message (RFC 5426 section 3.1).
pub(crate) struct Datagrams {
    channel: Channel,
    collector: Rc<Collector>,
    buffer: Vec<u8>,
}

impl Datagrams {
    pub(crate) fn new(channel: Channel, collector: Rc<Collector>) -> Self {
        let buffer = vec![0; 65_536];
        Datagrams {
            channel,
            collector,
            buffer,
        }
    }
}

impl Dispatcher for Datagrams {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Most errors concern a single datagram (an ICMP message, or a datagram that is too long on Windows),
    /// so an error does not close the channel.
    fn handle_read(&mut self) -> Result {
        for _ in 0..BUDGET {
            match self.channel.recv_from(&mut self.buffer) {
                Ok((count, _)) => self.collector.collect(&self.buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "cannot receive a datagram");
                    self.channel.pause_reading();
                    self.channel.call_later(PAUSE);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.channel.resume_reading();
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        if !why.is_local() {
            tracing::error!(%why, "a datagram socket was closed");
        }
    }
}
