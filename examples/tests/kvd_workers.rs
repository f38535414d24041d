//! The `kvd` example on several workers: for its clients they are one server.

#![allow(
    clippy::mutable_key_type,
    reason = "a long text remembers its hash, which does not change"
)]
#![allow(
    unreachable_pub,
    dead_code,
    reason = "only the command line of `kvd` uses the rest"
)]

#[path = "../kvd/commands/mod.rs"]
mod commands;
#[path = "../kvd/disk/mod.rs"]
mod disk;
#[path = "../kvd/resp/mod.rs"]
mod resp;
#[path = "../kvd/server/mod.rs"]
mod server;
#[path = "../kvd/store/mod.rs"]
mod store;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use asynchat::{Addr, Remotes, Result, Workers};
use disk::journal::AppendFsync;
use disk::loader::Loader;
use disk::rows::Op;
use disk::writer::{Files, Writer};
use server::config::Config;
use server::shared::Shared;
use server::{Options, Server};

const WORKERS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(60);

/// A server on several workers, until it is dropped.
struct Running {
    addr: SocketAddr,
    remotes: Remotes,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Running {
    fn start(options: Options) -> Result<Running> {
        let (sender, started) = mpsc::channel();
        let shared = Shared::new(options);
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let shared = of_thread;
            let of_workers = Arc::clone(&shared);
            let workers = Workers::new().threads(WORKERS);
            let service = workers.start(move |worker| {
                Server::new(&of_workers)?.serve_with(worker, "127.0.0.1:0")?;
                Ok(())
            });
            let service = service.map_err(|error| error.to_string())?;
            let addr = service.local_addrs().first().and_then(Addr::inet);
            sender
                .send((addr, service.remotes()))
                .map_err(|_| "nobody waits for the server")?;
            asynchat::run().map_err(|error| error.to_string())?;
            service.finish().map_err(|error| error.to_string())?;
            shared.close().map_err(|error| error.to_string())
        });
        let (addr, remotes) = started.recv_timeout(DEADLINE)?;
        Ok(Running {
            addr: addr.ok_or("it does not listen")?,
            remotes,
            shared,
            thread: Some(thread),
        })
    }

    /// Clients on all workers.
    fn clients(&self) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        let mut workers = Vec::new();
        for _ in 0..2 * WORKERS {
            let mut client = Client::connect(self.addr)?;
            let info = client.ask("CLIENT INFO", 3)?;
            let worker = info.rsplit("io-thread=").next().unwrap_or_default();
            workers.push(worker.to_owned());
            clients.push(client);
        }
        workers.sort();
        workers.dedup();
        assert_eq!(workers.len(), WORKERS, "{workers:?}");
        Ok(clients)
    }

    /// Clients of each worker.
    fn clients_by_worker(&self) -> Result<[Vec<Client>; WORKERS]> {
        let mut by_worker = [const { Vec::new() }; WORKERS];
        for mut client in self.clients()? {
            let info = client.ask("CLIENT INFO", 3)?;
            let worker = info.rsplit("io-thread=").next().unwrap_or_default();
            by_worker[worker.trim().parse::<usize>()?].push(client);
        }
        Ok(by_worker)
    }

    /// Makes a worker busy until what this returns is dropped. It runs what is posted meanwhile after it has handled
    /// the events of its sockets.
    fn keep_busy(&self, worker: usize) -> Result<Sender<()>> {
        self.keep_busy_after(worker, || ())
    }

    /// The same after this call on the worker.
    fn keep_busy_after(&self, worker: usize, call: fn()) -> Result<Sender<()>> {
        let (busy, is_busy) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let remote = self.shared.lock().workers[worker].remote.clone();
        remote.post(move || {
            call();
            let _ = busy.send(());
            let _ = ended.recv_timeout(DEADLINE);
        })?;
        is_busy.recv_timeout(DEADLINE)?;
        Ok(end)
    }

    /// Shuts it down, and waits until all is on disk.
    fn end(mut self) -> Result {
        self.remotes.shutdown(DEADLINE)?;
        let thread = self.thread.take().ok_or("it has ended")?;
        let outcome = thread.join().map_err(|_| "it has panicked")?;
        Ok(outcome?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.remotes.shutdown(Duration::ZERO);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(addr: SocketAddr) -> Result<Client> {
        let socket = TcpStream::connect(addr)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        Ok(Client(BufReader::new(socket)))
    }

    fn send(&mut self, commands: &str) -> Result {
        let commands = commands.replace('\n', "\r\n");
        self.0.get_mut().write_all(commands.as_bytes())?;
        Ok(())
    }

    /// So many lines, with spaces in between.
    fn receive(&mut self, lines: usize) -> Result<String> {
        let mut all = Vec::new();
        for _ in 0..lines {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            all.push(line.trim_end().to_owned());
        }
        Ok(all.join(" "))
    }

    fn ask(&mut self, command: &str, lines: usize) -> Result<String> {
        self.send(&format!("{command}\n"))?;
        self.receive(lines)
    }
}

/// Waits until so many clients wait for an element.
fn until_blocked(client: &mut Client, count: usize) -> Result {
    let wanted = format!("blocked_clients:{count} ");
    loop {
        // The length, the title, eight figures, and the line end of the text.
        if client.ask("INFO clients", 11)?.contains(&wanted) {
            return Ok(());
        }
    }
}

#[test]
fn a_transaction_is_atomic_on_whichever_worker_it_is_executed() -> Result {
    let running = Running::start(Options::default())?;
    let mut clients = running.clients()?;
    let count = 200;
    for client in &mut clients {
        client.send(&"MULTI\nINCR a\nINCR b\nGET a\nEXEC\n".repeat(count))?;
    }
    for client in &mut clients {
        for _ in 0..count {
            let reply = client.receive(9)?;
            let mut words = reply.split(' ').skip(5);
            let (a, b, _, again) = (words.next(), words.next(), words.next(), words.next());
            let number = a.and_then(|a| a.strip_prefix(':'));
            assert!(number.is_some() && a == b && number == again, "{reply}");
        }
    }
    let total = (count * clients.len()).to_string();
    assert_eq!(
        clients[0].ask("GET b", 2)?,
        format!("${} {total}", total.len())
    );
    // A change on another worker ends a transaction.
    assert_eq!(
        clients[0].ask("WATCH a\nMULTI\nINCR a", 3)?,
        "+OK +OK +QUEUED"
    );
    assert_eq!(clients[1].ask("SET a 1", 1)?, "+OK");
    assert_eq!(clients[0].ask("EXEC\nGET a", 3)?, "*-1 $1 1");
    drop(clients);
    running.end()
}

#[test]
fn clients_on_all_workers_wait_in_the_order_of_their_arrival() -> Result {
    let running = Running::start(Options::default())?;
    let mut clients = running.clients()?;
    let mut other = clients.pop().ok_or("there are no clients")?;
    for (number, client) in clients.iter_mut().enumerate() {
        client.send("BLPOP l 0\n")?;
        until_blocked(&mut other, number + 1)?;
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert!(
            other
                .ask(&format!("RPUSH l {number}\nLLEN l"), 2)?
                .ends_with(":0")
        );
        assert_eq!(client.receive(5)?, format!("*2 $1 l $1 {number}"));
        assert_eq!(client.ask("PING", 1)?, "+PONG");
    }
    // One wait ends at its timeout, another one by CLIENT UNBLOCK.
    assert_eq!(clients[0].ask("BLPOP l 0.01\nPING", 2)?, "*-1 +PONG");
    let id = clients[1].ask("CLIENT ID", 1)?.replace(':', "");
    clients[1].send("BLPOP l 0\n")?;
    until_blocked(&mut other, 1)?;
    assert_eq!(other.ask(&format!("CLIENT UNBLOCK {id}"), 1)?, ":1");
    assert_eq!(clients[1].receive(1)?, "*-1");
    drop((clients, other));
    running.end()
}

/// A client of any worker ends the pause, or its time does, which the worker of the client that has begun it notices.
#[test]
fn a_pause_is_that_of_all_workers() -> Result {
    let running = Running::start(Options::default())?;
    let mut clients = running.clients()?;
    let mut other = clients.pop().ok_or("there are no clients")?;
    let mut last = 0;
    for end in ["CLIENT UNPAUSE", "CLIENT PAUSE 1 ALL"] {
        let time = if end == "CLIENT UNPAUSE" {
            1_000_000
        } else {
            1
        };
        for beginner in 0..WORKERS {
            let begun = format!("CLIENT PAUSE {time} WRITE");
            assert_eq!(clients[beginner].ask(&begun, 1)?, "+OK");
            for client in &mut clients {
                client.send("INCR n\nGET n\n")?;
            }
            if time > 1 {
                until_blocked(&mut other, clients.len())?;
            }
            assert_eq!(other.ask(end, 1)?, "+OK");
            let mut numbers = Vec::new();
            for client in &mut clients {
                let reply = client.receive(1)?;
                numbers.push(reply.trim_start_matches(':').parse::<usize>()?);
                client.receive(2)?;
            }
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(last + 1..=last + clients.len()));
            last += clients.len();
        }
    }
    // The end of the server ends a pause, too.
    assert_eq!(other.ask("CLIENT PAUSE 1000000", 1)?, "+OK");
    clients[0].send("INCR n\n")?;
    running.end()?;
    assert_eq!(clients[0].receive(1)?, "");
    Ok(())
}

/// The worker of the client shuts down while another one serves the client.
#[test]
fn a_client_that_was_served_gets_its_element_although_its_worker_shuts_down() -> Result {
    let running = Running::start(Options::default())?;
    let [waiting, others, _] = &mut running.clients_by_worker()?;
    let (served, left) = waiting.split_at_mut(1);
    let (served, left, other) = (&mut served[0], &mut left[0], &mut others[0]);
    served.send("BLPOP l 0\n")?;
    until_blocked(other, 1)?;
    left.send("BLPOP l 0\n")?;
    until_blocked(other, 2)?;
    // The other worker receives the element before it learns of the shutdown.
    let pushing = running.keep_busy(1)?;
    other.send("RPUSH l first\n")?;
    let serving = running.keep_busy_after(0, || asynchat::shutdown(DEADLINE))?;
    drop(pushing);
    assert_eq!(other.receive(1)?, ":1");
    drop(serving);
    assert_eq!(served.receive(5)?, "*2 $1 l $5 first");
    let mut rest = String::new();
    served.0.read_to_string(&mut rest)?;
    left.0.read_to_string(&mut rest)?;
    assert_eq!(rest, "");
    // Nobody waits for what comes later.
    assert_eq!(running.shared.lock().waiting.clients, 0);
    Ok(())
}

/// A command in parts waits for those on other workers that make a value for the same key.
#[test]
fn values_for_one_key_are_made_one_after_another_on_all_workers() -> Result {
    let running = Running::start(Options::default())?;
    let mut clients = running.clients()?;
    let members: String = (0..5_000).map(|number| format!(" {number}")).collect();
    let first = clients[0].ask(&format!("SADD s{members}"), 1)?;
    assert_eq!(first, ":5000");
    for _ in 0..5 {
        for client in &mut clients {
            client.send("SUNIONSTORE d s\nSETRANGE k 9000000 x\n")?;
        }
        // The values of one that has left are made all the same.
        drop(clients.pop());
        clients.push(Client::connect(running.addr)?);
        for client in clients.iter_mut().take(2 * WORKERS - 1) {
            assert_eq!(client.receive(2)?, ":5000 :9000001");
        }
    }
    drop(clients);
    running.end()
}

/// INFO waits for the figures of the others. What follows it is executed, also if the client has finished sending.
#[test]
fn what_follows_info_is_executed_when_the_client_has_finished_sending() -> Result {
    let running = Running::start(Options::default())?;
    let [clients, ..] = &mut running.clients_by_worker()?;
    let mut neighbour = clients.pop().ok_or("there are two")?;
    let client = &mut clients[0];
    let busy = running.keep_busy(1)?;
    client.send("INFO stats\nINCR n\nINFO\nINCR n\n")?;
    client.0.get_ref().shutdown(Shutdown::Write)?;
    // The worker of the client has had its turns.
    assert_eq!(neighbour.ask("PING\nPING", 2)?, "+PONG +PONG");
    drop(busy);
    let mut replies = String::new();
    client.0.read_to_string(&mut replies)?;
    assert_eq!(replies.matches("# Stats").count(), 2);
    assert!(replies.contains("\r\n:1\r\n") && replies.ends_with("\r\n:2\r\n"));
    // What waits for the figures is none of them.
    assert!(replies.contains("\r\nclient_retained_memory:0\r\n"));
    running.end()
}

#[test]
fn all_subscribers_get_all_messages_in_the_same_order() -> Result {
    let running = Running::start(Options::default())?;
    let mut clients = running.clients()?;
    let mut publishers = clients.split_off(WORKERS);
    for client in &mut clients {
        assert_eq!(client.ask("SUBSCRIBE c", 6)?, "*3 $9 subscribe $1 c :1");
    }
    let count = 200;
    for (number, publisher) in publishers.iter_mut().enumerate() {
        publisher.send(&format!("PUBLISH c {number}\n").repeat(count))?;
    }
    for publisher in &mut publishers {
        assert_eq!(publisher.receive(count)?, [":3"].repeat(count).join(" "));
    }
    let messages = count * publishers.len();
    let received: Vec<String> = clients
        .iter_mut()
        .map(|client| client.receive(7 * messages))
        .collect::<Result<_>>()?;
    assert!(received.iter().all(|it| *it == received[0]));
    drop((clients, publishers));
    running.end()
}

/// The publisher may have notified the subscriber, by another way, that it has published.
#[test]
fn the_reply_to_a_subscriber_follows_what_was_published_before() -> Result {
    let running = Running::start(Options::default())?;
    let [subscribers, publishers, _] = &mut running.clients_by_worker()?;
    let (subscriber, publisher) = (&mut subscribers[0], &mut publishers[0]);
    assert_eq!(subscriber.ask("SUBSCRIBE c", 6)?, "*3 $9 subscribe $1 c :1");
    let busy = running.keep_busy(0)?;
    assert_eq!(publisher.ask("PUBLISH c hi", 1)?, ":1");
    subscriber.send("PING\n")?;
    drop(busy);
    let (message, pong) = ("*3 $7 message $1 c $2 hi", "*2 $4 pong $0 ");
    assert_eq!(subscriber.receive(12)?, format!("{message} {pong}"));
    running.end()
}

fn on_disk(dir: &Path) -> Result<Options> {
    let disk = Writer::open(dir, AppendFsync::Always, || {
        panic!("a thread has ended by itself")
    })?;
    Ok(Options {
        disk: Some(disk),
        ..Options::default()
    })
}

#[test]
fn what_any_worker_has_acknowledged_is_there_after_a_restart() -> Result {
    let dir = tempfile::tempdir()?;
    let running = Running::start(on_disk(dir.path())?)?;
    let mut clients = running.clients()?;
    let mut other = clients.pop().ok_or("there are no clients")?;
    clients[0].send("BLMOVE from to LEFT LEFT 0\n")?;
    until_blocked(&mut other, 1)?;
    for client in &mut clients[1..] {
        client.send(&"INCR n\n".repeat(20))?;
    }
    assert_eq!(other.ask("RPUSH from x", 1)?, ":1");
    assert_eq!(clients[0].receive(2)?, "$1 x");
    for client in &mut clients[1..] {
        client.receive(20)?;
    }
    drop((clients, other));
    running.end()?;
    let running = Running::start(on_disk(dir.path())?)?;
    let mut client = Client::connect(running.addr)?;
    assert_eq!(client.ask("GET n\nLLEN from\nLPOP to", 5)?, "$2 80 :0 $1 x");
    drop(client);
    running.end()
}

/// Who waits for one of them does not wait for all.
#[test]
fn a_frame_of_the_log_has_one_large_change_however_many_clients_make_them() -> Result {
    const COPIES: usize = 8;
    let (sender, frames) = mpsc::channel();
    let files = Files {
        append: Box::new(move |ops, _| {
            let large = |op: &&Op| matches!(op, Op::PutElements(..));
            Ok(sender.send(ops.iter().filter(large).count()).map(|()| 1)?)
        }),
        save: Box::new(|_, _| Ok(false)),
        last: 0,
        interval: Duration::ZERO,
    };
    let keyspace = Loader::default().finish()?;
    let running = Running::start(Options {
        disk: Some((Writer::start(files, || {})?, keyspace)),
        ..Options::default()
    })?;
    let mut clients = running.clients()?;
    let elements = " x".repeat(20_000);
    assert_eq!(clients[0].ask(&format!("RPUSH l{elements}"), 1)?, ":20000");
    for (number, client) in clients.iter_mut().enumerate() {
        let copies = (0..COPIES).map(|copy| format!("COPY l {number}:{copy}\nINCR n\n"));
        client.send(&copies.collect::<String>())?;
    }
    for client in &mut clients {
        client.receive(2 * COPIES)?;
    }
    let copies = clients.len() * COPIES;
    drop(clients);
    running.end()?;
    let frames: Vec<usize> = frames.iter().collect();
    assert!(frames.iter().all(|large| *large <= 1), "{frames:?}");
    assert_eq!(frames.iter().sum::<usize>(), copies + 1);
    Ok(())
}

/// INFO adds up what the workers have counted until then.
#[test]
fn info_has_the_figures_of_all_workers() -> Result {
    let running = Running::start(Options::default())?;
    let mut clients = running.clients()?;
    let elements = " x".repeat(3_000);
    let count = clients.len();
    for (number, client) in clients.iter_mut().enumerate() {
        let script = format!("RPUSH {number}{elements}\nDEL {number}");
        assert_eq!(client.ask(&script, 2)?, ":3000 :1");
    }
    // The length, the title, fourteen figures, and the line end of the text.
    let info = clients[0].ask("INFO stats", 17)?;
    assert!(
        info.contains(&format!("lazyfreed_objects:{count} ")),
        "{info}"
    );
    // A transaction does not wait.
    let info = clients[1].ask("MULTI\nINFO stats\nEXEC\nPING", 21)?;
    assert!(
        info.contains("lazyfreed_objects:") && info.ends_with("+PONG"),
        "{info}"
    );
    drop(clients);
    running.end()
}

/// INFO of a worker may come before what CONFIG RESETSTAT has left for it to do.
#[test]
fn info_after_config_resetstat_has_no_older_figures() -> Result {
    let running = Running::start(Options::default())?;
    let [clients, others, _] = &mut running.clients_by_worker()?;
    let (client, other) = (&mut clients[0], &mut others[0]);
    let elements = " x".repeat(3_000);
    let script = format!("RPUSH k{elements}\nDEL k");
    assert_eq!(client.ask(&script, 2)?, ":3000 :1");
    let busy = running.keep_busy(0)?;
    assert_eq!(other.ask("CONFIG RESETSTAT", 1)?, "+OK");
    client.send("INFO stats\n")?;
    drop(busy);
    let info = client.receive(17)?;
    assert!(info.contains("lazyfreed_objects:0 "), "{info}");
    // A transaction has what was reported last.
    let info = other.ask("MULTI\nINFO stats\nEXEC", 20)?;
    assert!(info.contains("lazyfreed_objects:0 "), "{info}");
    running.end()
}

/// What a busy worker has to deliver has a limit. Those who lose a message are disconnected, and the others are not.
#[test]
fn messages_for_a_worker_that_is_busy_are_limited() -> Result {
    let mut config = Config::default();
    config.set("client-output-buffer-limit", "pubsub 1mb 0 0")?;
    let running = Running::start(Options {
        config,
        ..Options::default()
    })?;
    let mut by_worker = running.clients_by_worker()?;
    let mut publisher = by_worker[1].pop().ok_or("there is no client")?;
    let [loud, quiet, ..] = by_worker[0].as_mut_slice() else {
        return Err("there are too few clients".into());
    };
    assert_eq!(
        loud.ask("PSUBSCRIBE lo*", 6)?,
        "*3 $10 psubscribe $3 lo* :1"
    );
    assert_eq!(
        quiet.ask("SUBSCRIBE quiet", 6)?,
        "*3 $9 subscribe $5 quiet :1"
    );
    let busy = running.keep_busy(0)?;
    assert_eq!(publisher.ask("PUBLISH quiet 1", 1)?, ":1");
    let message = format!("PUBLISH loud {}", "x".repeat(10_000));
    for _ in 0..300 {
        assert_eq!(publisher.ask(&message, 1)?, ":1");
    }
    let size: usize = {
        let data = running.shared.lock();
        let messages = data.workers[0].mailbox.messages.iter();
        messages.map(|it| it.content.len()).sum()
    };
    assert!(size <= 1 << 20, "{size} bytes");
    drop(busy);
    assert_eq!(quiet.receive(7)?, "*3 $7 message $5 quiet $1 1");
    // It gets no message: the first ones are as old as the lost ones.
    let mut rest = Vec::new();
    if let Err(error) = loud.0.read_to_end(&mut rest) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert!(rest.is_empty(), "{} bytes", rest.len());
    assert_eq!(
        publisher.ask("PUBLISH loud x\nPUBLISH quiet 2", 2)?,
        ":0 :1"
    );
    assert_eq!(quiet.receive(7)?, "*3 $7 message $5 quiet $1 2");
    drop((publisher, by_worker));
    running.end()
}

/// A client that keeps the value of `k`, as its replies and the invalidations say, in the order in which they arrive.
struct Keeping {
    client: Client,
    /// The connection that gets the invalidations, if it is another one.
    invalidations: Option<Client>,
    kept: Option<i64>,
    replies: usize,
}

impl Keeping {
    fn new(mut client: Client, invalidations: Option<Client>) -> Result<Keeping> {
        let mut invalidations = invalidations;
        let track = match &mut invalidations {
            None => {
                client.ask("HELLO 3", 26)?;
                "CLIENT TRACKING ON".to_owned()
            }
            Some(other) => {
                let id = other.ask("CLIENT ID", 1)?;
                other.ask("SUBSCRIBE __redis__:invalidate", 6)?;
                format!("CLIENT TRACKING ON REDIRECT {}", &id[1..])
            }
        };
        assert_eq!(client.ask(&track, 1)?, "+OK");
        Ok(Keeping {
            client,
            invalidations,
            kept: None,
            replies: 0,
        })
    }

    /// Takes one reply, or one invalidation on the same connection.
    fn take(&mut self) -> Result {
        let head = self.client.receive(1)?;
        if head == ">2" {
            assert_eq!(self.client.receive(5)?, "$10 invalidate *1 $1 k");
            self.kept = None;
        } else {
            self.kept = Some(self.client.receive(1)?.parse()?);
            self.replies += 1;
        }
        Ok(())
    }

    /// Takes the next invalidation. What the other connection has received before is taken first.
    fn take_invalidation(&mut self) -> Result {
        let Some(other) = &mut self.invalidations else {
            return self.take();
        };
        assert_eq!(
            other.receive(8)?,
            "*3 $7 message $20 __redis__:invalidate *1 $1 k"
        );
        self.client.0.get_ref().set_nonblocking(true)?;
        while self.client.0.fill_buf().is_ok_and(|it| !it.is_empty()) {
            self.client.0.get_ref().set_nonblocking(false)?;
            self.take()?;
            self.client.0.get_ref().set_nonblocking(true)?;
        }
        self.client.0.get_ref().set_nonblocking(false)?;
        self.kept = None;
        Ok(())
    }
}

/// A reply with an old value is followed by an invalidation, on the other connection, too, and whether it waits for the disk
/// or not.
#[test]
fn no_client_keeps_an_old_value() -> Result {
    const READS: usize = 3;
    let dir = tempfile::tempdir()?;
    for options in [Options::default(), on_disk(dir.path())?] {
        let running = Running::start(options)?;
        let mut all: Vec<Keeping> = Vec::new();
        for client in running.clients()? {
            all.push(Keeping::new(client, None)?);
        }
        // The two connections are on one worker, or on two.
        let [first, second, third] = running.clients_by_worker()?;
        let clients = first.into_iter().chain(second).chain(third);
        let mut clients: Vec<Client> = clients.collect();
        let mut others = running.clients()?;
        while let (Some(client), Some(other)) = (clients.pop(), others.pop()) {
            all.push(Keeping::new(client, Some(other))?);
        }
        let mut writers = running.clients()?;
        assert_eq!(writers[0].ask("SET k 0", 1)?, "+OK");
        for _ in 0..100 {
            for (number, it) in all.iter_mut().enumerate() {
                let writer = number % writers.len();
                it.client.send(&"GET k\n".repeat(READS))?;
                writers[writer].send("INCR k\n")?;
                it.replies = 0;
            }
            let mut last = 0;
            for number in 0..all.len() {
                let writer = number % writers.len();
                let value = writers[writer].receive(1)?;
                last = last.max(value[1..].parse()?);
            }
            for it in &mut all {
                while it.replies < READS {
                    it.take()?;
                }
                while it.kept.is_some_and(|kept| kept != last) {
                    it.take_invalidation()?;
                }
            }
        }
        running.end()?;
    }
    Ok(())
}
