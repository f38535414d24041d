//! What a client sends, how that is segmented, and what the client receives.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// How long a client waits for the server. Far longer than it takes.
const DEADLINE: Duration = Duration::from_secs(30);

/// Connections, one after another.
#[derive(Clone, Default)]
pub(crate) struct Session(Vec<Vec<Step>>);

/// What is sent, and what the client waits for after it.
#[derive(Clone)]
struct Step(Vec<u8>, Then);

#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// This many bytes, or the end.
    Receive(usize),
    /// The end.
    End,
    /// The end, after shutting down the sending side.
    Finish,
    /// Nothing: the client resets the connection.
    Reset,
}

/// How the input is segmented.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    Whole,
    Bytes,
    Random(u64),
}

impl Session {
    pub(crate) fn new() -> Self {
        Session(vec![vec![]])
    }

    /// Sends `say`, and receives `count` bytes.
    pub(crate) fn receive(mut self, say: impl AsRef<[u8]>, count: usize) -> Self {
        self.step(say.as_ref(), Then::Receive(count));
        self
    }

    /// Sends `say`, and receives until the server ends the connection.
    pub(crate) fn end(mut self, say: impl AsRef<[u8]>) -> Self {
        self.step(say.as_ref(), Then::End);
        self.0.push(vec![]);
        self
    }

    /// Sends `say`, shuts down the sending side, and receives until the end.
    pub(crate) fn finish(mut self, say: impl AsRef<[u8]>) -> Self {
        self.step(say.as_ref(), Then::Finish);
        self.0.push(vec![]);
        self
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(mut self) -> Self {
        self.step(b"", Then::Reset);
        self.0.push(vec![]);
        self
    }

    fn step(&mut self, say: &[u8], then: Then) {
        let connection = self.0.last_mut().expect("there is always one");
        connection.push(Step(say.to_vec(), then));
    }

    /// Runs the session. Returns all that the client receives.
    pub(crate) fn run(&self, addr: SocketAddr, cut: Cut) -> Vec<u8> {
        let mut received = Vec::new();
        for steps in self.0.iter().filter(|steps| !steps.is_empty()) {
            let stream = TcpStream::connect(addr).expect("it listens");
            stream.set_nodelay(true).expect("an option of the socket");
            let timeout = stream.set_read_timeout(Some(DEADLINE));
            timeout.expect("it is not zero");
            for step in steps {
                step.run(&stream, cut, &mut received);
            }
        }
        received
    }
}

impl Step {
    fn run(&self, stream: &TcpStream, cut: Cut, received: &mut Vec<u8>) {
        let Step(say, then) = self;
        if *then == Then::Reset {
            // With a linger time of zero, a close is a reset.
            let set = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            return set.expect("an option of the socket");
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                // This fails if the server has closed already, which is no error.
                let _ = cut.send(stream, say);
                if *then == Then::Finish {
                    let _ = stream.shutdown(Shutdown::Write);
                }
            });
            let limit = match then {
                Then::Receive(count) => *count as u64,
                _ => u64::MAX,
            };
            let received_all = stream.take(limit).read_to_end(received);
            let ends = [ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted];
            if let Err(error) = received_all
                && !ends.contains(&error.kind())
            {
                panic!("{error}, after {} bytes", received.len());
            }
        });
    }
}

impl Cut {
    fn send(self, mut stream: &TcpStream, mut data: &[u8]) -> std::io::Result<()> {
        let mut random = match self {
            Cut::Random(seed) => fastrand::Rng::with_seed(seed),
            _ => fastrand::Rng::with_seed(0),
        };
        while !data.is_empty() {
            let size = match self {
                Cut::Whole => data.len(),
                Cut::Bytes => 1,
                Cut::Random(_) => random.usize(1..=40).min(data.len()),
            };
            let (piece, rest) = data.split_at(size);
            stream.write_all(piece)?;
            data = rest;
        }
        Ok(())
    }
}
