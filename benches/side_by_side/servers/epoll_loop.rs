//! A hand-written loop on epoll, level-triggered. It does the minimum that a loop on Linux must do.

use std::io::{self, ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use asynchat::Result;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use slab::Slab;

use super::echo::Echo;

const LISTENER: u64 = u64::MAX;

struct Connection {
    /// Closing it removes it from the poller, because no other descriptor refers to the socket.
    stream: TcpStream,
    echo: Echo,
    /// The socket accepts no more output. Until it does, it is not read.
    blocked: bool,
}

pub fn serve() -> Result {
    let poller = epoll::create(CreateFlags::CLOEXEC)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    super::announce(listener.local_addr()?);
    epoll::add(
        &poller,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    let mut connections = Slab::new();
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0; super::READ_SIZE];
    loop {
        events.clear();
        epoll::wait(&poller, spare_capacity(&mut events), None)?;
        for event in &events {
            if event.data.u64() == LISTENER {
                accept(&poller, &listener, &mut connections)?;
                continue;
            }
            let key = event.data.u64() as usize;
            if let Some(connection) = connections.get_mut(key)
                && connection.turn(&poller, event, &mut buffer).is_err()
            {
                connections.remove(key);
            }
        }
    }
}

fn accept(poller: &OwnedFd, listener: &TcpListener, connections: &mut Slab<Connection>) -> Result {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let entry = connections.vacant_entry();
        let key = EventData::new_u64(entry.key() as u64);
        epoll::add(poller, &stream, key, EventFlags::IN)?;
        entry.insert(Connection {
            stream,
            echo: Echo::default(),
            blocked: false,
        });
    }
}

impl Connection {
    /// Reads once, because epoll reports remaining data again. Returns an error when the connection has ended.
    fn turn(
        &mut self,
        poller: &OwnedFd,
        event: &epoll::Event,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let readable = EventFlags::IN | EventFlags::HUP | EventFlags::ERR;
        let flags = event.flags;
        if flags.intersects(readable) {
            match self.stream.read(buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.echo.receive(&buffer[..count])?,
            }
        }
        let blocked = !self.echo.send(&mut self.stream)?;
        if blocked != self.blocked {
            self.blocked = blocked;
            let interest = if blocked {
                EventFlags::OUT
            } else {
                EventFlags::IN
            };
            epoll::modify(poller, &self.stream, event.data, interest)?;
        }
        Ok(())
    }
}
