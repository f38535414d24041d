//! A hand-written loop on mio. mio is edge-triggered, so a socket is read until it would block.

use std::io::{self, ErrorKind, Read};

use asynchat::Result;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::echo::Echo;

const LISTENER: Token = Token(usize::MAX);

struct Connection {
    stream: TcpStream,
    echo: Echo,
}

pub fn serve() -> Result {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    let registry = poll.registry();
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    super::announce(listener.local_addr()?);
    let mut connections = Slab::new();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; super::READ_SIZE];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut connections)?;
                continue;
            }
            let Token(key) = event.token();
            let Some(connection) = connections.get_mut(key) else {
                continue;
            };
            if turn(connection, &mut buffer).is_err() {
                // Dropping the stream removes it from the poller.
                connections.remove(key);
            }
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, connections: &mut Slab<Connection>) -> Result {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        stream.set_nodelay(true)?;
        let entry = connections.vacant_entry();
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut stream, Token(entry.key()), both)?;
        entry.insert(Connection {
            stream,
            echo: Echo::default(),
        });
    }
}

/// Reads and writes until the socket would block. Returns an error when the connection has ended.
fn turn(connection: &mut Connection, buffer: &mut [u8]) -> io::Result<()> {
    let Connection { stream, echo } = connection;
    while echo.send(stream)? {
        match stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => echo.receive(&buffer[..count])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
