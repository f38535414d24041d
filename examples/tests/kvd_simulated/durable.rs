//! What is on disk, and the replies that wait for it.

use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use asynchat::Result;
use asynchat::sim::{Ended, Peer};

use crate::disk;
use crate::disk::writer::{Files, Writer};
use crate::scene::{Scene, options, received};
use crate::server::Options;

type Next = Box<dyn FnMut() -> std::result::Result<(), disk::Error> + Send>;

/// Files that keep nothing.
pub fn files() -> Files {
    Files {
        append: Box::new(|_, _| Ok(1)),
        save: Box::new(|_, _| Ok(false)),
        last: 0,
        interval: Duration::ZERO,
    }
}

fn scene_with(files: Files) -> Result<Scene> {
    let writer = Writer::start(files, || {})?;
    let keyspace = disk::loader::Loader::default().finish()?;
    Scene::with(Options {
        disk: Some((writer, keyspace)),
        ..options()
    })
}

/// A disk that writes when the test says so, and with which outcome.
pub struct Disk {
    pub outcomes: Sender<Result<(), &'static str>>,
    pub scene: Scene,
}

impl Disk {
    /// The log is written when the test says so.
    pub fn log() -> Result<Disk> {
        Disk::new(|mut next| Files {
            append: Box::new(move |_, _| next().map(|()| 1)),
            ..files()
        })
    }

    /// The database is.
    fn database() -> Result<Disk> {
        Disk::new(|mut next| Files {
            save: Box::new(move |_, _| next().map(|()| false)),
            ..files()
        })
    }

    fn new(files: impl FnOnce(Next) -> Files) -> Result<Disk> {
        let (outcomes, next) = mpsc::channel::<Result<(), &'static str>>();
        // A disk that is full stays full.
        let mut is_full = None;
        let files = files(Box::new(move || {
            let outcome = match is_full {
                None => next.recv().unwrap_or(Ok(())),
                Some(error) => match next.try_recv() {
                    Ok(outcome) => outcome,
                    Err(TryRecvError::Empty) => Err(error),
                    Err(TryRecvError::Disconnected) => Ok(()),
                },
            };
            assert_ne!(outcome, Err("panic"), "as the test wants it");
            is_full = outcome.err();
            outcome.map_err(Into::into)
        }));
        let scene = scene_with(files)?;
        Ok(Disk { outcomes, scene })
    }

    /// Files with outcomes of their own.
    pub fn with(files: Files) -> Result<Disk> {
        Disk::new(|_| files)
    }

    /// Every attempt succeeds from now on.
    pub fn works(self) -> Disk {
        Disk {
            outcomes: mpsc::channel().0,
            ..self
        }
    }

    /// Lets the loop run until this is the case.
    pub fn until(&self, mut is_so: impl FnMut() -> Result<bool>) -> Result {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so()? {
            assert!(Instant::now() < deadline, "it does not happen");
            self.scene.network.settle(&self.scene.event_loop)?;
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Lets the loop run until INFO, which this client asks for, says that the disk can be written.
    pub fn until_written(&self, client: &Peer) -> Result {
        self.until(|| {
            let info = self.scene.ask(client, "INFO persistence\n")?;
            Ok(info.contains("status:ok"))
        })
    }

    /// Lets the loop run until all changes are in the log.
    pub fn until_logged(&self) -> Result {
        let disk = self.scene.shared.disk.as_ref();
        self.until(|| Ok(disk.is_some_and(|writer| !writer.status.is_pending())))
    }

    /// Waits until a client has received exactly this.
    pub fn expect(&self, client: &Peer, wanted: &str) -> Result {
        let mut all = String::new();
        self.until(|| {
            all += &received(client);
            Ok(all.len() >= wanted.len())
        })?;
        assert_eq!(all, wanted);
        Ok(())
    }
}

#[test]
fn a_transaction_is_acknowledged_when_it_is_on_disk_even_if_it_ends_a_wait() -> Result {
    let disk = Disk::log()?;
    let (waiter, client) = (disk.scene.client()?, disk.scene.client()?);
    assert_eq!(disk.scene.ask(&waiter, "CLIENT ID\nBLPOP l 0\n")?, ":1 ");
    disk.until_logged()?;
    let script = "MULTI\nSET k 1\nCLIENT UNBLOCK 1\nEXEC\n";
    assert_eq!(disk.scene.ask(&client, script)?, "+OK +QUEUED +QUEUED ");
    assert_eq!(
        received(&waiter),
        "",
        "it would show that the transaction was executed"
    );
    disk.outcomes.send(Ok(()))?;
    disk.expect(&client, "*2 +OK :1 ")?;
    disk.expect(&waiter, "*-1 ")
}

#[test]
fn what_is_not_in_the_log_is_shown_to_nobody() -> Result {
    let disk = Disk::log()?;
    let (writer, reader, third) = (
        disk.scene.client()?,
        disk.scene.client()?,
        disk.scene.client()?,
    );
    assert_eq!(disk.scene.ask(&reader, "GET k\n")?, "$-1 ");
    assert_eq!(disk.scene.ask(&writer, "GET k\nSET k 1\nGET k\n")?, "$-1 ");
    assert_eq!(disk.scene.ask(&reader, "GET k\nGET k\n")?, "");
    assert_eq!(disk.scene.ask(&third, "KEYS *\nPING\n")?, "");
    disk.outcomes.send(Ok(()))?;
    disk.expect(&writer, "+OK $1 1 ")?;
    disk.expect(&reader, "$1 1 $1 1 ")?;
    disk.expect(&third, "*1 $1 k +PONG ")?;
    disk.until_logged()?;
    assert_eq!(
        disk.scene.ask(&reader, "GET k\n")?,
        "$1 1 ",
        "nothing is pending"
    );
    Ok(())
}

/// It is not made in memory as a whole.
#[test]
fn a_long_reply_that_waits_is_sent_in_parts() -> Result {
    let disk = Disk::log()?;
    let (client, reader) = (disk.scene.client()?, disk.scene.client()?);
    let value = "x".repeat(100_000);
    disk.outcomes.send(Ok(()))?;
    client.send(format!(
        "*23\r\n$5\r\nRPUSH\r\n$1\r\nl\r\n{}",
        format!("$100000\r\n{value}\r\n").repeat(21)
    ));
    disk.expect(&client, ":21 ")?;
    disk.until_logged()?;
    reader.stop_reading();
    assert_eq!(disk.scene.ask(&client, "SET k 1\n")?, "");
    reader.send("LRANGE l 0 -1\r\nGET k\r\n");
    disk.scene.network.settle(&disk.scene.event_loop)?;
    assert!(disk.scene.queued() < 1 << 20, "{}", disk.scene.queued());
    reader.start_reading(usize::MAX);
    disk.scene.network.settle(&disk.scene.event_loop)?;
    assert_eq!(received(&reader), "");
    disk.outcomes.send(Ok(()))?;
    disk.expect(&client, "+OK ")?;
    let element = format!("$100000 {value} ");
    disk.expect(&reader, &format!("*21 {}$1 1 ", element.repeat(21)))
}

#[test]
fn many_removed_elements_are_sent_when_their_removal_is_on_disk() -> Result {
    let disk = Disk::log()?;
    let (client, other) = (disk.scene.client()?, disk.scene.client()?);
    let elements: String = (0..3_000).map(|number| format!(" {number}")).collect();
    disk.outcomes.send(Ok(()))?;
    client.send(format!("RPUSH l{elements}\r\n"));
    disk.expect(&client, ":3000 ")?;
    disk.until_logged()?;
    let script = "LPOP l 2000\nPING\nMULTI\nLPOP l 1000\nSET k v\nEXEC\n";
    assert_eq!(disk.scene.ask(&client, script)?, "");
    assert_eq!(disk.scene.ask(&other, "LLEN l\n")?, "");
    for _ in 0..2 {
        disk.outcomes.send(Ok(()))?;
    }
    disk.expect(&other, ":1000 ")?;
    let mut reply = String::new();
    disk.until(|| {
        reply += &received(&client);
        Ok(reply.ends_with(" +OK "))
    })?;
    assert!(reply.starts_with("*2000 $1 0 $1 1 "), "{reply:.60}");
    let end = "+PONG +OK +QUEUED +QUEUED *2 *1000 $4 2000 ";
    assert!(reply.contains(&format!("$4 1999 {end}")), "{reply}");
    assert!(reply.ends_with(" $4 2999 +OK "), "{reply}");
    Ok(())
}

/// A small transaction may ask for a large string many times.
#[test]
fn a_long_reply_to_a_transaction_that_has_written_contains_no_copies() -> Result {
    let disk = Disk::log()?;
    let client = disk.scene.client()?;
    disk.outcomes.send(Ok(()))?;
    client.send("SETRANGE k 3999999 x\r\n");
    disk.expect(&client, ":4000000 ")?;
    disk.until_logged()?;
    client.stop_reading();
    let script = format!("MULTI\nSET n 1\n{}EXEC\nINCR n\n", "GET k\n".repeat(9));
    assert_eq!(disk.scene.ask(&client, &script)?, "");
    disk.outcomes.send(Ok(()))?;
    disk.until_logged()?;
    disk.scene.network.settle(&disk.scene.event_loop)?;
    let queued = disk.scene.queued();
    assert!(queued < 8 << 20, "{queued} bytes");
    client.start_reading(usize::MAX);
    disk.outcomes.send(Ok(()))?;
    let mut reply = String::new();
    disk.until(|| {
        reply += &received(&client);
        Ok(reply.ends_with("x :2 "))
    })?;
    let begin = format!("+OK {}*10 +OK $4000000 \0", "+QUEUED ".repeat(10));
    assert!(reply.starts_with(&begin), "{reply:.200}");
    assert_eq!(reply.matches("x $4000000 \0").count(), 8);
    assert_eq!(reply.matches('\0').count(), 9 * 3_999_999);
    Ok(())
}

#[test]
fn a_sort_that_stores_nothing_does_not_wait_for_the_disk() -> Result {
    let disk = Disk::log()?;
    let client = disk.scene.client()?;
    disk.outcomes.send(Ok(()))?;
    client.send("RPUSH l 2 1\r\n");
    disk.expect(&client, ":2 ")?;
    disk.until_logged()?;
    assert_eq!(disk.scene.ask(&client, "SORT l\n")?, "*2 $1 1 $1 2 ");
    assert_eq!(disk.scene.ask(&client, "SORT l STORE s\n")?, "");
    Ok(())
}

#[test]
fn nothing_is_acknowledged_after_the_thread_that_writes_has_died() -> Result {
    let disk = Disk::log()?;
    let client = disk.scene.client()?;
    assert_eq!(disk.scene.ask(&client, "SET k 1\n")?, "");
    disk.outcomes.send(Err("panic"))?;
    disk.until(|| Ok(client.ended().is_some()))?;
    assert_eq!(received(&client), "");
    disk.until(|| {
        let other = disk.scene.client()?;
        let reply = disk.scene.ask(&other, "SET k 2\n")?;
        assert!(!reply.starts_with('+'), "{reply}");
        Ok(reply.starts_with("-MISCONF"))
    })?;
    assert!(disk.scene.shared.close().is_err());
    Ok(())
}

/// A request of RESP.
fn request(args: &[&str]) -> String {
    let args = args.iter().map(|it| format!("${}\r\n{it}\r\n", it.len()));
    let args: Vec<String> = args.collect();
    format!("*{}\r\n{}", args.len(), args.concat())
}

/// Writes small values until as much of them waits for the database as may.
fn fill_with_small_values(disk: &Disk, client: &Peer) -> Result {
    let value = "x".repeat(1_000);
    let keys: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let mut args = vec!["MSET"];
    for key in &keys {
        args.extend([key.as_str(), value.as_str()]);
    }
    let mset = request(&args);
    let writer = disk.scene.shared.disk.as_ref();
    let status = &writer.ok_or("it has no disk")?.status;
    while !status.is_behind(false) {
        client.send(mset.as_str());
        disk.expect(client, "+OK ")?;
    }
    Ok(())
}

#[test]
fn clients_that_write_wait_while_many_small_changes_are_not_in_the_database() -> Result {
    let disk = Disk::database()?;
    let client = disk.scene.client()?;
    fill_with_small_values(&disk, &client)?;
    // Each of them waits, and what is behind it is not read any more.
    let other = disk.scene.client()?;
    assert_eq!(disk.scene.ask(&other, "INCR n\nINCR n\n")?, "");
    let third = disk.scene.client()?;
    third.send("GET n\r\n");
    disk.expect(&third, "$1 1 ")?;
    let silent = "CLIENT REPLY OFF\nINCR s\nINCR s\n";
    assert_eq!(disk.scene.ask(&third, silent)?, "");
    let fourth = disk.scene.client()?;
    fourth.send("GET s\r\n");
    disk.expect(&fourth, "$1 1 ")?;
    assert_eq!(received(&other), "");
    let disk = disk.works();
    disk.expect(&other, ":1 :2 ")?;
    disk.until(|| Ok(disk.scene.ask(&fourth, "GET s\n")?.ends_with("$1 2 ")))
}

#[test]
fn while_large_changes_are_not_in_the_database_only_clients_that_write_such_wait() -> Result {
    let disk = Disk::database()?;
    let (client, author, other) = (
        disk.scene.client()?,
        disk.scene.client()?,
        disk.scene.client()?,
    );
    let value = "x".repeat(8 << 20);
    for number in 0..8 {
        client.send(request(&["SET", &number.to_string(), &value]));
    }
    disk.expect(&client, &"+OK ".repeat(8))?;
    // A large argument, a copy of a large value, and a transaction with one.
    client.send(request(&["APPEND", "a", &"x".repeat(100_000)]) + "INCR n\r\n");
    author.send("COPY 1 b\r\nINCR n\r\n");
    let third = disk.scene.client()?;
    third.send("MULTI\r\nCOPY 1 c\r\nEXEC\r\nINCR n\r\n");
    for number in 1..=100 {
        other.send("INCR m\r\n");
        disk.expect(&other, &format!(":{number} "))?;
    }
    other.send("GET n\r\nEXISTS a b c\r\n");
    disk.expect(&other, "$-1 :3 ")?;
    let mut replies = [&client, &author, &third].map(|it| (it, received(it)));
    for (_, reply) in &replies {
        assert!(!reply.contains(':'), "{reply}");
    }
    let disk = disk.works();
    disk.until(|| {
        for (client, reply) in &mut replies {
            *reply += &received(client);
        }
        Ok(replies
            .iter()
            .all(|(_, reply)| reply.matches(':').count() >= 2))
    })?;
    assert!(replies[0].1.starts_with(":100000 :"), "{}", replies[0].1);
    assert!(replies[1].1.starts_with(":1 :"), "{}", replies[1].1);
    assert!(replies[2].1.contains("*1 :1 :"), "{}", replies[2].1);
    Ok(())
}

/// However little a client sends, it has to wait if the disk gets much for that.
#[test]
fn who_lets_much_be_written_with_a_small_request_waits_while_large_changes_do() -> Result {
    let disk = Disk::database()?;
    let client = disk.scene.client()?;
    let (large, element) = ("x".repeat(200_000), "e".repeat(100_000));
    let members: Vec<String> = (0..8_000).map(|it| it.to_string()).collect();
    let scored: Vec<&str> = members.iter().flat_map(|it| [it.as_str(); 2]).collect();
    for key in ["z1", "z2", "z3"] {
        client.send(request(&[&["ZADD", key][..], &scored].concat()));
        disk.expect(&client, ":8000 ")?;
    }
    let items: Vec<&str> = members.iter().map(String::as_str).collect();
    client.send(request(&[&["RPUSH", "l"][..], &items].concat()));
    disk.expect(&client, ":8000 ")?;
    client.send(request(&["SET", "s", &large]));
    disk.expect(&client, "+OK ")?;
    for key in ["e1", "e2", "e3"] {
        client.send(request(&["RPUSH", key, &element]));
        disk.expect(&client, ":1 ")?;
    }
    let waiter = disk.scene.client()?;
    assert_eq!(disk.scene.ask(&waiter, "BLMOVE none e4 LEFT LEFT 0\n")?, "");
    let value = "x".repeat(8 << 20);
    for number in 0..9 {
        client.send(request(&["SET", &number.to_string(), &value]));
    }
    let writer = disk.scene.shared.disk.as_ref();
    let status = Arc::clone(&writer.ok_or("it has no disk")?.status);
    disk.until(|| Ok(status.is_behind(true)))?;
    let small = disk.scene.client()?;
    small.send("INCR m\r\n");
    disk.expect(&small, ":1 ")?;
    let mut replies = Vec::new();
    for (command, wanted) in [
        // Few members are left, or few were removed.
        ("ZREMRANGEBYRANK z1 0 4999", ":5000 "),
        ("ZPOPMIN z2 3000", "*6000 "),
        ("ZMPOP 1 z3 MIN COUNT 3000", "*2 "),
        ("LINSERT l BEFORE 7 new", ":8001 "),
        ("SETRANGE s 70000 y", ":200000 "),
        ("LMOVE e1 e4 LEFT LEFT", "$100000 "),
        ("RPOPLPUSH e2 e4", "$100000 "),
        ("BLMOVE e3 e4 LEFT LEFT 1", "$100000 "),
    ] {
        let author = disk.scene.client()?;
        author.send(format!("{command}\r\nINCR n\r\n"));
        replies.push((author, String::new(), command, wanted));
    }
    // The element is pushed by another client, which waits because it has sent it.
    let pusher = disk.scene.client()?;
    pusher.send(request(&["RPUSH", "none", &element]) + "INCR n\r\n");
    waiter.send("INCR n\r\n");
    replies.push((pusher, String::new(), "RPUSH", ":1 "));
    replies.push((waiter, String::new(), "served BLMOVE", "$100000 "));
    for number in 2..=100 {
        small.send("INCR m\r\n");
        disk.expect(&small, &format!(":{number} "))?;
    }
    small.send("GET n\r\n");
    disk.expect(&small, "$-1 ")?;
    let disk = disk.works();
    disk.until(|| {
        for (author, reply, ..) in &mut replies {
            *reply += &received(author);
        }
        small.send("GET n\r\n");
        disk.scene.network.settle(&disk.scene.event_loop)?;
        Ok(received(&small).contains(&format!("$2 {} ", replies.len())))
    })?;
    for (author, reply, command, wanted) in &mut replies {
        *reply += &received(author);
        assert!(reply.starts_with(*wanted), "{command}: {reply:.99}");
    }
    Ok(())
}

/// Its connection stays until its reply is in the log. It has ended its input, so it does not wait for the element.
#[test]
fn a_client_whose_input_has_ended_takes_no_element_while_its_reply_waits_for_the_log() -> Result {
    let disk = Disk::log()?;
    let [leaving, next, other] = [
        disk.scene.client()?,
        disk.scene.client()?,
        disk.scene.client()?,
    ];
    leaving.send("SET a 1\r\nBLPOP l 0\r\n");
    leaving.finish();
    disk.scene.network.settle(&disk.scene.event_loop)?;
    assert_eq!(disk.scene.ask(&next, "BLPOP l 0\n")?, "");
    assert_eq!(disk.scene.ask(&other, "RPUSH l x\n")?, "");
    let disk = disk.works();
    disk.expect(&leaving, "+OK ")?;
    disk.expect(&next, "*2 $1 l $1 x ")
}

/// What it sends meanwhile must not destroy the reply.
#[test]
fn a_reply_that_waits_for_the_log_survives_a_shutdown() -> Result {
    let disk = Disk::log()?;
    let client = disk.scene.client()?;
    client.send("SET a 1\r\n");
    disk.scene.network.settle(&disk.scene.event_loop)?;
    disk.scene
        .network
        .advance(&disk.scene.event_loop, Duration::from_secs(2))?;
    disk.scene.event_loop.shutdown(Duration::from_secs(60));
    disk.scene.event_loop.run_once(Duration::ZERO)?;
    client.send("SET b 1\r\n");
    let disk = disk.works();
    disk.until(|| Ok(client.has_ended()))?;
    assert_eq!(received(&client), "+OK ");
    assert_eq!(client.ended(), Some(Ended::Finished));
    Ok(())
}

/// Every reply waits behind the changes that are not in the log.
#[test]
fn clients_that_write_wait_while_many_bytes_of_small_changes_are_not_in_the_log() -> Result {
    for first in ["PING\r\n", "CLIENT REPLY OFF\r\n"] {
        let disk = Disk::log()?;
        let client = disk.scene.client()?;
        let value = "x".repeat(10_000);
        let sets = (0..500).map(|key| format!("SET {key} {value}\r\n"));
        client.send(first.to_owned() + &sets.collect::<String>());
        disk.scene.network.settle(&disk.scene.event_loop)?;
        let count = disk.scene.shared.lock().keyspace.database(0).len();
        assert!((100..250).contains(&count), "{count}");
        let disk = disk.works();
        disk.until(|| Ok(disk.scene.shared.lock().keyspace.database(0).len() == 500))?;
    }
    Ok(())
}

/// Otherwise the frame with a neighbour's change would come behind those of all requests of a pipeline.
#[test]
fn the_next_request_of_a_client_waits_until_its_large_change_is_in_the_log() -> Result {
    let (frames, written) = mpsc::channel();
    let disk = Disk::new(|mut next| Files {
        append: Box::new(move |ops, _| {
            frames.send(ops.len())?;
            next().map(|()| 1)
        }),
        ..files()
    })?;
    let (client, other) = (disk.scene.client()?, disk.scene.client()?);
    let members: Vec<String> = (0..20_000).map(|it| it.to_string()).collect();
    let mut sadd = vec!["SADD", "s"];
    sadd.extend(members.iter().map(String::as_str));
    disk.outcomes.send(Ok(()))?;
    client.send(request(&sadd));
    disk.expect(&client, ":20000 ")?;
    disk.until_logged()?;
    while written.try_recv().is_ok() {}
    let copies: String = (0..8).map(|it| format!("COPY s {it}\r\n")).collect();
    client.send(copies);
    disk.scene.network.settle(&disk.scene.event_loop)?;
    for number in 1..=8 {
        let copied = written.recv_timeout(Duration::from_secs(60))?;
        assert_eq!(copied, 2, "the row of one key, and its elements");
        assert_eq!(
            disk.scene.ask(&other, "EXISTS 0 1 2 3 4 5 6 7\nINCR n\n")?,
            ""
        );
        assert_eq!(
            disk.scene.shared.lock().keyspace.database(0).len(),
            2 + number
        );
        // That of the copy, and that of the other client.
        disk.outcomes.send(Ok(()))?;
        let small = written.recv_timeout(Duration::from_secs(60))?;
        assert_eq!(small, 1, "it is not behind the next copy");
        disk.outcomes.send(Ok(()))?;
        disk.expect(&client, ":1 ")?;
        disk.expect(&other, &format!(":{number} :{number} "))?;
    }
    Ok(())
}

/// Replies to commands that have waited do not come from a read, so nothing else may be sent to the disk in that turn.
#[test]
fn commands_that_have_waited_do_not_wait_for_the_next_timer_while_much_is_not_on_disk() -> Result {
    let disk = Disk::database()?;
    let (waiter, client) = (disk.scene.client()?, disk.scene.client()?);
    assert_eq!(disk.scene.ask(&waiter, "BLPOP l 0\n")?, "");
    let elements: String = (0..3_000).map(|number| format!(" {number}")).collect();
    client.send(format!("SADD s{elements}\r\n"));
    disk.expect(&client, ":3000 ")?;
    fill_with_small_values(&disk, &client)?;
    assert_eq!(disk.scene.ask(&client, "SORT s STORE l\n")?, "");
    assert_eq!(received(&waiter), "");
    let disk = disk.works();
    disk.expect(&waiter, "*2 $1 l $1 0 ")?;
    disk.expect(&client, ":3000 ")
}

#[test]
fn many_changes_are_collected_in_parts_and_written_once() -> Result {
    let written = Arc::new(Mutex::new(Vec::new()));
    let saves = Arc::clone(&written);
    let scene = scene_with(Files {
        save: Box::new(move |_, unsaved| {
            let mut saves = saves.lock().map_err(|error| error.to_string())?;
            let count = unsaved.cleared.len() + unsaved.rows.len();
            saves.extend((count > 0).then_some(count));
            Ok(false)
        }),
        interval: Duration::from_secs(1_000),
        ..files()
    })?;
    let client = scene.client()?;
    for number in 0..5_000 {
        client.send(format!("SET k{number} v\r\n"));
    }
    scene.network.settle(&scene.event_loop)?;
    let left = scene.shared.lock().keyspace.change_count();
    assert!(left < 2_000, "{left}");
    scene.shared.close()?;
    assert_eq!(*written.lock().map_err(|error| error.to_string())?, [5_000]);
    Ok(())
}

#[test]
fn rows_of_removed_values_are_removed_while_changes_wait() -> Result {
    let (sender, saves) = mpsc::channel();
    let mut left = 3;
    let scene = scene_with(Files {
        save: Box::new(move |number, unsaved| {
            sender.send((number, unsaved.is_empty()))?;
            left -= 1;
            Ok(left > 0)
        }),
        interval: Duration::from_secs(1_000),
        ..files()
    })?;
    let client = scene.client()?;
    client.send("SET k v\r\n");
    scene.network.settle(&scene.event_loop)?;
    for _ in 0..3 {
        let save = saves.recv_timeout(Duration::from_secs(60))?;
        assert_eq!(
            save,
            (0, true),
            "this does not put the change into the database"
        );
    }
    scene.shared.close()?;
    assert_eq!(saves.iter().collect::<Vec<_>>(), [(1, false)]);
    Ok(())
}

/// The replies of each turn are a promise of their own, and they have a limit together.
#[test]
fn a_client_whose_replies_wait_for_the_disk_is_not_served_any_more() -> Result {
    let disk = Disk::log()?;
    let (client, reader) = (disk.scene.client()?, disk.scene.client()?);
    let value = "x".repeat(1_000);
    disk.scene.ask(&client, &format!("SET k {value}\n"))?;
    let executed = || disk.scene.shared.lock().stats.commands();
    let before = executed();
    for _ in 0..100 {
        let replies = disk.scene.ask(&reader, &"GET k\n".repeat(20))?;
        assert_eq!(replies, "");
    }
    let number = executed() - before;
    assert!((60..70).contains(&number), "{number} commands");
    disk.outcomes.send(Ok(()))?;
    disk.expect(&client, "+OK ")?;
    disk.expect(&reader, &format!("$1000 {value} ").repeat(2_000))
}

/// A client that waits for the disk is not idle.
#[test]
fn timeout_does_not_end_a_client_whose_replies_wait_for_the_disk() -> Result {
    let disk = Disk::log()?;
    let scene = &disk.scene;
    let (client, late, other) = (scene.client()?, scene.client()?, scene.client()?);
    scene.ask(&client, "CONFIG SET timeout 5\n")?;
    assert_eq!(scene.ask(&client, "SET k 1\n")?, "");
    scene.ask(&late, "GET k\nCONFIG SET timeout 7\n")?;
    scene.ask(&client, "GET k\n")?;
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(100))?;
    assert_eq!((client.ended(), late.ended()), (None, None));
    assert!(other.ended().is_some(), "it waits for nothing");
    disk.outcomes.send(Ok(()))?;
    disk.expect(&client, "+OK $1 1 ")?;
    disk.expect(&late, "$1 1 +OK ")?;
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(6))?;
    assert_eq!((client.ended(), late.ended()), (None, None));
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(2))?;
    assert!(client.ended().is_some() && late.ended().is_some());
    Ok(())
}

/// It waits for the disk only until that answers.
#[test]
fn timeout_ends_a_client_that_does_not_read_its_delayed_replies() -> Result {
    let disk = Disk::log()?;
    let scene = &disk.scene;
    let (client, reader) = (scene.client()?, scene.client()?);
    scene.ask(&reader, "CONFIG SET timeout 5\n")?;
    assert_eq!(scene.ask(&client, "SETRANGE k 299999 x\n")?, "");
    reader.stop_reading();
    // More than the kernel takes.
    scene.ask(&reader, "GET k\n")?;
    disk.outcomes.send(Ok(()))?;
    disk.expect(&client, ":300000 ")?;
    disk.until(|| {
        scene
            .network
            .advance(&scene.event_loop, Duration::from_secs(6))?;
        Ok(reader.ended().is_some())
    })
}

/// What the disk has answered counts until it is sent.
#[test]
fn a_client_that_does_not_read_its_delayed_replies_is_not_served_any_more() -> Result {
    let disk = Disk::log()?;
    let scene = &disk.scene;
    let (client, reader) = (scene.client()?, scene.client()?);
    let value = "x".repeat(1_000);
    disk.outcomes.send(Ok(()))?;
    client.send(format!("SET k {value}\r\n"));
    disk.expect(&client, "+OK ")?;
    reader.stop_reading();
    let executed = || scene.shared.lock().stats.commands();
    let before = executed();
    for _ in 0..100 {
        disk.until_logged()?;
        assert_eq!(scene.ask(&client, "INCR n\n")?, "");
        scene.ask(&reader, &"GET k\n".repeat(40))?;
        disk.outcomes.send(Ok(()))?;
        disk.until_logged()?;
        let mut reply = String::new();
        disk.until(|| {
            reply += &received(&client);
            Ok(reply.ends_with(' '))
        })?;
    }
    let number = executed() - before - 100;
    assert!(number < 500, "{number} commands");
    reader.start_reading(usize::MAX);
    disk.expect(&reader, &format!("$1000 {value} ").repeat(4_000))
}

/// A database that sends how much it has to do.
fn counting() -> Result<(Scene, Receiver<usize>)> {
    let (sender, rows) = mpsc::channel();
    let scene = scene_with(Files {
        append: Box::new(move |ops, _| Ok(sender.send(ops.len()).map(|()| 1)?)),
        ..files()
    })?;
    Ok((scene, rows))
}

#[test]
fn many_removed_elements_are_few_rows() -> Result {
    let (scene, rows) = counting()?;
    let client = scene.client()?;
    let elements: String = (0..6_000).map(|number| format!(" {number}")).collect();
    for script in [
        format!("RPUSH l{elements}\n"),
        "LPOP l 1500\nRPOP l 1500\nLTRIM l 1100 1600\n".to_owned(),
    ] {
        scene.ask(&client, &script)?;
        let count = rows.recv_timeout(Duration::from_secs(60))?;
        assert!(count < 10, "{count} rows: {script:.10}");
    }
    scene.shared.close()?;
    Ok(())
}

#[test]
fn many_exchanged_keys_are_few_rows() -> Result {
    let (scene, rows) = counting()?;
    let client = scene.client()?;
    let pairs: String = (0..5_000).map(|number| format!(" {number} x")).collect();
    scene.ask(&client, &format!("MSET{pairs}\n"))?;
    let first = rows.recv_timeout(Duration::from_secs(60))?;
    assert_eq!(first, 5_000);
    scene.ask(&client, "SWAPDB 0 5\n")?;
    assert_eq!(rows.recv_timeout(Duration::from_secs(60))?, 1);
    scene.shared.close()?;
    Ok(())
}
