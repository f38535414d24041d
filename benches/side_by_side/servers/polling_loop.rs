//! A hand-written loop on `polling`, level-triggered. It does the minimum that a portable loop must do. The
//! other servers are compared with it.

use std::io::{self, ErrorKind, Read};
use std::net::{TcpListener, TcpStream};

use asynchat::Result;
use polling::{AsRawSource, AsSource, Event, Events, PollMode, Poller};
use slab::Slab;

use super::echo::Echo;

const LISTENER: usize = usize::MAX - 1;

struct Connection<'p> {
    socket: Watched<'p, TcpStream>,
    echo: Echo,
    /// The socket accepts no more output. Until it does, it is not read.
    blocked: bool,
}

pub fn serve() -> Result {
    let poller = Poller::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    super::announce(listener.local_addr()?);
    let listener = Watched::new(&poller, listener, LISTENER)?;
    let mut connections = Slab::new();
    let mut events = Events::new();
    let mut buffer = vec![0; super::READ_SIZE];
    loop {
        events.clear();
        poller.wait(&mut events, None)?;
        for event in events.iter() {
            if event.key == LISTENER {
                accept(&listener, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(event.key)
                && connection.turn(event, &mut buffer).is_err()
            {
                connections.remove(event.key);
            }
        }
    }
}

fn accept<'p>(
    listener: &Watched<'p, TcpListener>,
    connections: &mut Slab<Connection<'p>>,
) -> Result {
    loop {
        let stream = match listener.source.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let entry = connections.vacant_entry();
        let socket = Watched::new(listener.poller, stream, entry.key())?;
        entry.insert(Connection {
            socket,
            echo: Echo::default(),
            blocked: false,
        });
    }
}

impl Connection<'_> {
    /// Reads once, because the poller reports remaining data again. Returns an error when the connection has
    /// ended.
    fn turn(&mut self, event: Event, buffer: &mut [u8]) -> io::Result<()> {
        let stream = &mut self.socket.source;
        if event.readable {
            match stream.read(buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.echo.receive(&buffer[..count])?,
            }
        }
        let blocked = !self.echo.send(stream)?;
        if blocked != self.blocked {
            self.blocked = blocked;
            self.socket
                .set_interest(Event::new(event.key, !blocked, blocked))?;
        }
        Ok(())
    }
}

/// A socket that is registered with the poller.
struct Watched<'p, S: AsSource> {
    poller: &'p Poller,
    source: S,
}

impl<'p, S: AsSource> Watched<'p, S>
where
    for<'s> &'s S: AsRawSource,
{
    #[expect(unsafe_code, reason = "`polling` has no other way to register")]
    fn new(poller: &'p Poller, source: S, key: usize) -> io::Result<Self> {
        // SAFETY: the source must be deleted from the poller before it is closed. `Drop` deletes it, and
        // nothing in this file moves the source out or replaces it.
        unsafe {
            poller.add_with_mode(&source, Event::readable(key), PollMode::Level)?;
        }
        Ok(Watched { poller, source })
    }

    fn set_interest(&self, interest: Event) -> io::Result<()> {
        self.poller
            .modify_with_mode(&self.source, interest, PollMode::Level)
    }
}

impl<S: AsSource> Drop for Watched<'_, S> {
    fn drop(&mut self) {
        let _ = self.poller.delete(&self.source);
    }
}
