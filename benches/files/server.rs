//! The server, its client, and the clock.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, EventLoop, ReadProducer, Remote, Result};
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

const REQUEST: &[u8] = b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Rounds that are not measured.
const WARM_UP: usize = 20;

/// Where a body comes from.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    File,
    Memory,
}

/// Returns the CPU time of the loop's thread for this many requests, without those of the warm-up. `requests` is
/// a multiple of `connections`.
pub(crate) fn measure(
    source: Source,
    size: usize,
    connections: usize,
    requests: usize,
) -> Result<Duration> {
    let path = std::env::temp_dir().join(format!("asynchat-bench-{}", std::process::id()));
    fs::write(&path, vec![b'x'; size])?;
    let outcome = serve(source, &path, connections, requests);
    fs::remove_file(&path)?;
    outcome
}

fn serve(source: Source, path: &PathBuf, connections: usize, requests: usize) -> Result<Duration> {
    let event_loop = EventLoop::new()?;
    let (path, body) = (Rc::new(path.clone()), Bytes::from(fs::read(path)?));
    let size = body.len();
    let listener = event_loop.listen("127.0.0.1:0", move |chat| Session {
        chat,
        source,
        path: Rc::clone(&path),
        body: body.clone(),
    })?;
    let addr = listener.local_addr().and_then(|addr| addr.inet());
    let addr = addr.ok_or("it has no address")?;
    let remote = event_loop.remote();
    let client = thread::spawn(move || -> Result {
        let rounds = requests / connections;
        let outcome = request(addr, size, connections, rounds, &remote);
        remote.stop()?;
        outcome
    });
    event_loop.run()?;
    let end = cpu_time();
    client.join().map_err(|_| "the client panicked")??;
    Ok(end - START.get())
}

thread_local! {
    /// The CPU time of the loop's thread after the warm-up.
    static START: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The CPU time of this thread, user and system.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Answers each request with the file, and keeps the connection.
struct Session {
    chat: Chat,
    source: Source,
    path: Rc<PathBuf>,
    body: Bytes,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        if !line.is_empty() {
            return Ok(());
        }
        match self.source {
            Source::File => {
                let file = File::open(&*self.path)?;
                let length = file.metadata()?.len();
                self.push_header(length);
                self.chat
                    .push_with_producer(ReadProducer::new(file).length(length));
            }
            Source::Memory => {
                self.push_header(self.body.len() as u64);
                self.chat.push(self.body.clone());
            }
        }
        Ok(())
    }
}

impl Session {
    fn push_header(&self, length: u64) {
        write!(
            self.chat,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
        );
    }
}

/// A client that sends a request on each connection, reads all responses, and begins again.
fn request(
    addr: SocketAddr,
    size: usize,
    connections: usize,
    rounds: usize,
    remote: &Remote,
) -> Result {
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(TcpStream::connect(addr)?);
    }
    let mut buffer = vec![0; 1 << 18];
    for round in 0..WARM_UP + rounds {
        if round == WARM_UP {
            remote.post(|| START.set(cpu_time()))?;
        }
        for stream in &mut streams {
            stream.write_all(REQUEST)?;
        }
        for stream in &mut streams {
            receive(stream, size, &mut buffer)?;
        }
    }
    Ok(())
}

/// Receives a response with a body of `size` bytes.
fn receive(stream: &mut TcpStream, size: usize, buffer: &mut [u8]) -> Result {
    let mut head = Vec::new();
    let mut left = None;
    while left != Some(0) {
        let count = stream.read(buffer)?;
        if count == 0 {
            return Err("the server has closed".into());
        }
        left = match left {
            Some(left) => Some(left - count),
            None => {
                head.extend_from_slice(&buffer[..count]);
                let end = memchr::memmem::find(&head, b"\r\n\r\n");
                end.map(|end| end + 4 + size - head.len())
            }
        };
    }
    Ok(())
}
