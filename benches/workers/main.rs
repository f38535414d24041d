//! What several workers gain, and what they cost.
//!
//! ```text
//! cargo bench --bench workers
//! ```
//!
//! Work: each line is hashed 20,000 times, as a server that derives keys or compresses would compute. The clients are on
//! one thread, which has little to do. Connections: each sends one line and closes. Lines: 50 clients send lines of 32
//! bytes, which are sent back. The CPU time is that of the threads of the server alone, the one that accepts included.
//! Rounds are interleaved, and the figures are medians. The least of all rounds is beside them where differences are
//! small, because other programs only ever add to it.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use asynchat::{EventLoop, LoopStats, Remote, Result, Server, Workers};

/// How long a round takes.
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 7;
/// The connections whose lines are hashed, each of which waits for its reply.
const CLIENTS: usize = 16;
/// The connections whose lines are sent back, and how many lines each has in flight.
const ECHO_CLIENTS: usize = 50;
const DEPTHS: [usize; 2] = [1, 1000];
const SHORT_CONNECTIONS: usize = 3000;

fn main() -> Result {
    // `cargo test --all-targets` starts benches too.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (rounds, round, connections) = if is_bench {
        (ROUNDS, ROUND, SHORT_CONNECTIONS)
    } else {
        (1, Duration::from_millis(50), 50)
    };
    let mut rates = [const { Vec::new() }; 2];
    let mut costs = [const { Vec::new() }; 3];
    let mut line_costs = [const { [const { Vec::new() }; 3] }; 2];
    for _ in 0..rounds {
        for workers in [1, 2] {
            let server = Running::start(Kind::Acceptor(workers), 20_000)?;
            let lines = exchange_lines(server.addr, CLIENTS, 1, round)?;
            rates[workers - 1].push(f64::from(lines) / round.as_secs_f64());
            server.stop()?;
        }
        for (depth, costs) in DEPTHS.into_iter().zip(&mut line_costs) {
            for (kind, costs) in KINDS_OF_ECHO.into_iter().zip(costs) {
                let server = Running::start(kind, 0)?;
                let before = server.cpu_time()?;
                let lines = exchange_lines(server.addr, ECHO_CLIENTS, depth, round)?;
                let spent = server.cpu_time()?.saturating_sub(before);
                let per_line = spent.as_secs_f64() * 1e6 / f64::from(lines);
                costs.push((per_line, server.events_of_a_turn()?));
                server.stop()?;
            }
        }
        for (kind, costs) in [Kind::OneLoop, Kind::Acceptor(1), Kind::ReusePort(1)]
            .into_iter()
            .zip(&mut costs)
        {
            let server = Running::start(kind, 0)?;
            let before = server.cpu_time()?;
            short_connections(server.addr, connections)?;
            let spent = server.cpu_time()?.saturating_sub(before);
            costs.push(spent.as_secs_f64() * 1e6 / connections as f64);
            server.stop()?;
        }
    }
    let [one, two] = rates.map(median);
    println!("lines that are hashed 20,000 times, {CLIENTS} clients:");
    println!("  1 worker   {one:>8.0} lines/s");
    println!(
        "  2 workers  {two:>8.0} lines/s, {:.2} times as many",
        two / one
    );
    for (depth, costs) in DEPTHS.into_iter().zip(line_costs) {
        println!(
            "CPU time of the server for a line, {ECHO_CLIENTS} clients, {depth} in flight each:"
        );
        let [alone, ..] = costs.clone().map(Cost::of);
        for (name, cost) in NAMES_OF_ECHO.iter().zip(costs.map(Cost::of)) {
            let (median, least) = (cost.median / alone.median, cost.least / alone.least);
            println!(
                "  {name:9} {:>7.4} us, {median:.2}; least {:>7.4} us, {least:.2}; {:.1} events in a turn",
                cost.median, cost.least, cost.events
            );
        }
    }
    let [alone, handed, listening] = costs.map(median);
    println!("CPU time of the server for a connection with one line:");
    println!("  one loop              {alone:>6.1} us");
    println!(
        "  acceptor and worker   {handed:>6.1} us, {:+.1} us",
        handed - alone
    );
    println!(
        "  reuse_port            {listening:>6.1} us, {:+.1} us",
        listening - alone
    );
    Ok(())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The figures of all rounds.
#[derive(Clone, Copy)]
struct Cost {
    median: f64,
    least: f64,
    /// How many events a turn has.
    events: f64,
}

impl Cost {
    fn of(figures: Vec<(f64, f64)>) -> Self {
        let (costs, events): (Vec<_>, Vec<_>) = figures.into_iter().unzip();
        Cost {
            least: costs.iter().copied().fold(f64::INFINITY, f64::min),
            median: median(costs),
            events: median(events),
        }
    }
}

const NAMES_OF_ECHO: [&str; 3] = ["one loop", "1 worker", "2 workers"];
const KINDS_OF_ECHO: [Kind; 3] = [Kind::OneLoop, Kind::Acceptor(1), Kind::Acceptor(2)];

#[derive(Clone, Copy)]
enum Kind {
    OneLoop,
    Acceptor(usize),
    ReusePort(usize),
}

/// A server on threads of its own.
struct Running {
    addr: SocketAddr,
    /// The loops of all its threads, that which accepts first.
    remotes: Vec<Remote>,
    thread: thread::JoinHandle<Result>,
}

impl Running {
    fn start(kind: Kind, hashes: u32) -> Result<Self> {
        let (sender, started) = mpsc::channel();
        let thread = thread::spawn(move || serve(kind, hashes, &sender));
        let (addr, remotes) = started.recv()?;
        Ok(Running {
            addr,
            remotes,
            thread,
        })
    }

    /// The CPU time of all its threads.
    fn cpu_time(&self) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for remote in &self.remotes {
            let (sender, time) = mpsc::channel();
            remote.post(move || sender.send(thread_cpu_time()).unwrap_or_default())?;
            total += time.recv()?;
        }
        Ok(total)
    }

    /// How many events a turn of its loops had. The more it has, the less the wait costs for each.
    fn events_of_a_turn(&self) -> Result<f64> {
        let mut total = LoopStats::default();
        for remote in &self.remotes {
            let (sender, answer) = mpsc::channel();
            remote.post(move || {
                let stats = EventLoop::current().map(|it| it.stats());
                sender.send(stats.unwrap_or_default()).unwrap_or_default();
            })?;
            total = [total, answer.recv()?].into_iter().sum();
        }
        Ok(total.events as f64 / total.turns as f64)
    }

    fn stop(self) -> Result {
        self.remotes[0].stop()?;
        self.thread.join().map_err(|_| "the server panicked")?
    }
}

fn serve(kind: Kind, hashes: u32, started: &mpsc::Sender<(SocketAddr, Vec<Remote>)>) -> Result {
    let server = |reuse_port| Server::new("127.0.0.1:0").reuse_port(reuse_port);
    let session = move |chat: asynchat::Chat| {
        move |line: &[u8]| {
            if hashes == 0 {
                chat.push_slices(&[line, b"\r\n"]);
                return Ok(());
            }
            let hash = (0..hashes).fold(0, |hash, _| {
                BuildHasherDefault::<DefaultHasher>::default().hash_one((hash, line))
            });
            write!(chat, "{hash}\r\n");
            Ok(())
        }
    };
    let (workers, reuse_port) = match kind {
        Kind::OneLoop => {
            let listener = server(false).listen(session)?;
            let addr = listener.local_addr().and_then(|addr| addr.inet());
            started.send((addr.ok_or("no address")?, vec![asynchat::remote()?]))?;
            return Ok(asynchat::run()?);
        }
        Kind::Acceptor(workers) => (workers, false),
        Kind::ReusePort(workers) => (workers, true),
    };
    let service = Workers::new().threads(workers).start(move |worker| {
        worker.listen(server(reuse_port), session)?;
        Ok(())
    })?;
    let addr = service.local_addrs()[0].inet().ok_or("no address")?;
    let mut remotes = vec![EventLoop::current()?.remote()];
    remotes.extend(service.remotes().iter().cloned());
    started.send((addr, remotes))?;
    asynchat::run()?;
    service.finish()?;
    Ok(())
}

/// How many replies clients on one loop get in this time. Each has `depth` lines in flight.
fn exchange_lines(addr: SocketAddr, clients: usize, depth: usize, time: Duration) -> Result<u32> {
    const LINE: &[u8] = b"a line has thirty-two bytes...\r\n";
    let event_loop = EventLoop::new()?;
    let count = std::rc::Rc::new(std::cell::Cell::new(0u32));
    let limits = asynchat::Limits::default().high_water(depth * LINE.len() * 2);
    for _ in 0..clients {
        let count = count.clone();
        let session = move |chat: asynchat::Chat| {
            (0..depth).for_each(|_| chat.push_slice(LINE));
            move |_: &[u8]| {
                count.set(count.get() + 1);
                chat.push_slice(LINE);
                Ok(())
            }
        };
        let connector = asynchat::Connector::new(addr).limits(limits);
        connector.connect_on(&event_loop, session)?;
    }
    let stopping = event_loop.clone();
    event_loop.call_later(time, move || stopping.stop());
    event_loop.run()?;
    Ok(count.get())
}

fn short_connections(addr: SocketAddr, count: usize) -> Result {
    for _ in 0..count {
        let mut stream = BufReader::new(TcpStream::connect(addr)?);
        stream.get_mut().write_all(b"hello\r\n")?;
        stream.read_line(&mut String::new())?;
    }
    Ok(())
}

#[cfg(unix)]
fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or(0),
        time.tv_nsec.try_into().unwrap_or(0),
    )
}

/// It cannot be asked without `unsafe` code here.
#[cfg(not(unix))]
fn thread_cpu_time() -> Duration {
    Duration::ZERO
}
