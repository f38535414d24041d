//! A layer-1 echo, with checks like those of the sessions.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use asynchat::{Addr, Channel, Close, Dispatcher, Result, Socket, TimerId};

use crate::world::World;

/// Echoes the data of an outsider.
pub(crate) struct PlainEcho {
    channel: Channel,
    queue: Vec<u8>,
    received: usize,
    closes: Cell<u32>,
    over: Cell<bool>,
    world: Rc<World>,
}

impl PlainEcho {
    fn called(&self, what: &str) {
        if self.closes.get() > 0 || self.over.get() {
            self.world
                .wrong(format!("plain: {what} after handle_close"));
        }
        self.world.calls.set(self.world.calls.get() + 1);
    }

    fn act(&self) -> Result {
        let rng = &self.world.rng;
        match rng.below(60) {
            0 => {
                self.channel.close();
                self.over.set(true);
            }
            1 => self.channel.pause_reading(),
            2..6 => self.channel.resume_reading(),
            6 => drop(self.channel.call_later(std::time::Duration::from_secs(1))),
            7 if rng.one_in(4) => {
                self.over.set(true);
                return Err("tired".into());
            }
            8 if rng.one_in(4) => {
                self.over.set(true);
                std::panic::panic_any(crate::seeds::SILENT);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Dispatcher for PlainEcho {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn writable(&self) -> bool {
        !self.queue.is_empty()
    }

    fn readable(&self) -> bool {
        self.queue.len() < 10_000
    }

    fn handle_read(&mut self) -> Result {
        self.called("handle_read");
        let mut buffer = [0; 4096];
        let count = self.channel.recv(&mut buffer)?;
        self.queue.extend_from_slice(&buffer[..count]);
        self.received += count;
        self.act()
    }

    fn handle_write(&mut self) -> Result {
        self.called("handle_write");
        let count = self.channel.send(&self.queue)?;
        self.queue.drain(..count);
        self.act()
    }

    fn handle_expt(&mut self) -> Result {
        self.called("handle_expt");
        self.act()
    }

    fn handle_timer(&mut self, _timer: TimerId) -> Result {
        self.called("handle_timer");
        self.act()
    }

    fn handle_error(&mut self, _error: &(dyn std::error::Error + Send + Sync + 'static)) {}

    fn handle_close(&mut self, _why: &Close) {
        self.closes.set(self.closes.get() + 1);
    }
}

impl Drop for PlainEcho {
    fn drop(&mut self) {
        self.world.actors.set(self.world.actors.get() - 1);
        if self.closes.get() != 1 {
            self.world
                .wrong("plain: dropped without handle_close".to_owned());
        }
    }
}

/// Accepts connections for `PlainEcho`.
pub(crate) struct PlainListener {
    pub(crate) channel: Channel,
    pub(crate) world: Rc<World>,
}

impl Dispatcher for PlainListener {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn handle_accepted(&mut self, socket: Socket, _peer: Addr) -> Result {
        if self.world.rng.one_in(20) {
            return Err(io::Error::other("a failure on purpose").into());
        }
        let world = Rc::clone(&self.world);
        world.actors.set(world.actors.get() + 1);
        let echo = PlainEcho {
            channel: Channel::adopt(socket)?,
            queue: Vec::new(),
            received: 0,
            closes: Cell::new(0),
            over: Cell::new(false),
            world,
        };
        if let Err(error) = self.world.event_loop.register(echo) {
            // Only a shutdown makes registration fail. The dispatcher has had no callback.
            if !self.world.shutting_down.get() {
                self.world.wrong(format!("plain: not registered: {error}"));
            }
        }
        Ok(())
    }

    fn handle_error(&mut self, _error: &(dyn std::error::Error + Send + Sync + 'static)) {}
}
