//! The `kvd` example on a simulated network: every segmentation, clients that wait, messages, expiry, limits, and
//! replies that wait for the disk.

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

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use asynchat::sim::{self, Ended, Network, Peer};
use asynchat::{EventLoop, Result};
use disk::journal::AppendFsync;
use disk::writer::Writer;
use server::config::Config;
use server::session::Session;
use server::shared::Shared;
use server::{Options, Server};

const ADDR: &str = "127.0.0.1:6379";

thread_local! {
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Virtual time.
fn clock() -> i64 {
    let now = asynchat::now();
    let begun = BEGUN.get().unwrap_or(now);
    1_800_000_000_000 + now.saturating_duration_since(begun).as_millis() as i64
}

fn options() -> Options {
    Options {
        clock,
        ..Options::default()
    }
}

struct Scene {
    network: Network,
    event_loop: EventLoop,
    shared: Arc<Shared>,
}

impl Scene {
    fn new() -> Result<Scene> {
        Scene::with(options())
    }

    fn with(options: Options) -> Result<Scene> {
        let network = Network::new(1);
        let event_loop = network.event_loop()?;
        BEGUN.set(Some(event_loop.now()));
        let shared = Shared::new(options);
        let outcome = Rc::new(RefCell::new(None));
        let (served, serving) = (Rc::clone(&outcome), Arc::clone(&shared));
        // A server uses the loop that is running, so it is made by this loop.
        event_loop.call_soon(move || {
            let server = Server::new(&serving);
            served.replace(Some(server.and_then(|server| server.serve(ADDR))));
        });
        network.settle(&event_loop)?;
        outcome.take().ok_or("it was not called")??;
        Ok(Scene {
            network,
            event_loop,
            shared,
        })
    }

    fn client(&self) -> Result<Peer> {
        Ok(self.network.connect(ADDR)?)
    }

    /// How much output waits for the clients.
    fn queued(&self) -> usize {
        let data = self.shared.lock();
        let channels = data.clients.values().map(|it| it.channel);
        let chats = channels.filter_map(|channel| self.event_loop.chat(channel));
        chats.map(|chat| chat.queued()).sum()
    }

    /// Sends lines, and returns what the client has received.
    fn ask(&self, client: &Peer, lines: &str) -> Result<String> {
        client.send(lines.replace('\n', "\r\n"));
        self.network.settle(&self.event_loop)?;
        Ok(received(client))
    }
}

fn received(client: &Peer) -> String {
    String::from_utf8_lossy(&client.take_received()).replace("\r\n", " ")
}

#[test]
fn a_pipelined_script_has_the_same_outcome_under_every_segmentation() -> Result {
    let value = "x".repeat(100);
    let input = format!(
        "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n41\r\nINCR a\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\nset v {value}\r\nappend v \"y z\"\r\n\
         *4\r\n$5\r\nRPUSH\r\n$1\r\nl\r\n$0\r\n\r\n$2\r\n\r\n\r\nLRANGE l 0 -1\r\nMULTI\r\nLPOP l\r\nHELLO 3\r\nLPOP x\r\nEXEC\r\n\
         get\r\nSUBSCRIBE c\r\nPUBLISH c hi\r\nBLPOP l 0\r\nQUIT\r\n"
    );
    let factory = |chat| {
        let mut options = options();
        options.config.protected = false;
        let server = Server::new(&Shared::new(options));
        Session::new(&server.unwrap(), chat)
    };
    let transcript = sim::drive_every_segmentation(factory, input)?;
    let text = transcript.text().replace("\r\n", " ");
    assert!(
        text.starts_with(
            "+OK :42 $2 42 +OK :103 :2 *2 $0  $2   +OK +QUEUED +QUEUED +QUEUED *3 $0  "
        ),
        "{text}"
    );
    let end = "_ -ERR wrong number of arguments for 'get' command >3 $9 subscribe $1 c :1 >3 $7 message $1 c $2 hi :1 *2 \
               $1 l $2   +OK ";
    assert!(text.ends_with(end), "{text}");
    Ok(())
}

#[test]
fn a_large_value_arrives_in_pieces_and_leaves_as_it_came() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let value: String = (0..300_000)
        .map(|number| char::from(b'a' + (number % 26) as u8))
        .collect();
    client.send(format!(
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n",
        value.len()
    ));
    for piece in value.as_bytes().chunks(70_001) {
        client.send(piece);
        scene.network.settle(&scene.event_loop)?;
    }
    assert_eq!(
        scene.ask(&client, "\nGET k\nPING\n")?,
        format!("+OK $300000 {value} +PONG ")
    );
    Ok(())
}

#[test]
fn clients_that_wait_are_served_in_order_and_one_that_has_left_is_not() -> Result {
    let scene = Scene::new()?;
    let clients = [scene.client()?, scene.client()?, scene.client()?];
    for client in &clients {
        assert_eq!(scene.ask(client, "BLPOP l 0\nPING\n")?, "");
    }
    let pusher = scene.client()?;
    clients[0].finish();
    assert_eq!(scene.ask(&pusher, "RPUSH l a b c\n")?, ":3 ");
    assert_eq!(received(&clients[1]), "*2 $1 l $1 a +PONG ");
    assert_eq!(received(&clients[2]), "*2 $1 l $1 b +PONG ");
    assert_eq!(scene.ask(&pusher, "LRANGE l 0 -1\n")?, "*1 $1 c ");
    assert!(clients[0].has_ended());
    Ok(())
}

#[test]
fn a_wait_ends_at_its_timeout_and_a_moved_element_serves_the_next() -> Result {
    let scene = Scene::new()?;
    let (first, second, pusher) = (scene.client()?, scene.client()?, scene.client()?);
    assert_eq!(scene.ask(&first, "BLPOP l 1.5\nPING\n")?, "");
    scene
        .network
        .advance(&scene.event_loop, Duration::from_millis(1_400))?;
    assert_eq!(received(&first), "");
    scene
        .network
        .advance(&scene.event_loop, Duration::from_millis(200))?;
    assert_eq!(received(&first), "*-1 +PONG ");
    assert_eq!(scene.ask(&first, "BLMOVE a b LEFT RIGHT 0\n")?, "");
    assert_eq!(scene.ask(&second, "BLPOP b 0\n")?, "");
    // Nobody is served within a transaction, nor if the element is gone at its end.
    assert_eq!(
        scene.ask(&pusher, "MULTI\nRPUSH a x\nDEL a\nEXEC\n")?,
        "+OK +QUEUED +QUEUED *2 :1 :1 "
    );
    assert_eq!(scene.ask(&pusher, "RPUSH a x\n")?, ":1 ");
    assert_eq!(
        (received(&first), received(&second)),
        ("$1 x ".into(), "*2 $1 b $1 x ".into())
    );
    Ok(())
}

#[test]
fn a_client_that_waits_is_served_before_the_next_command_of_a_pipeline() -> Result {
    let scene = Scene::new()?;
    let (waiter, pusher) = (scene.client()?, scene.client()?);
    assert_eq!(scene.ask(&waiter, "BLPOP q 0\n")?, "");
    assert_eq!(scene.ask(&pusher, "LPUSH q 1\nLPOP q\n")?, ":1 $-1 ");
    assert_eq!(received(&waiter), "*2 $1 q $1 1 ");
    Ok(())
}

#[test]
fn a_client_that_waits_is_served_from_the_key_that_was_written_first() -> Result {
    let scene = Scene::new()?;
    let (waiter, other, pusher) = (scene.client()?, scene.client()?, scene.client()?);
    assert_eq!(scene.ask(&waiter, "BLPOP a b b 0\n")?, "");
    assert_eq!(scene.ask(&other, "BZPOPMIN y x 0\n")?, "");
    // A key of another type ends no wait.
    let script = "SET y 1\nRPUSH x 1\nDEL x\nMULTI\nRPUSH b 1\nRPUSH a 2\nZADD x 1 m\nEXEC\n";
    assert_eq!(
        scene.ask(&pusher, script)?,
        "+OK :1 :1 +OK +QUEUED +QUEUED +QUEUED *3 :1 :1 :1 "
    );
    assert_eq!(received(&waiter), "*2 $1 b $1 1 ");
    assert_eq!(received(&other), "*3 $1 x $1 m $1 1 ");
    assert_eq!(scene.ask(&pusher, "EXISTS a b x\n")?, ":1 ");
    Ok(())
}

#[test]
fn a_target_of_another_type_ends_the_wait_of_a_move() -> Result {
    let scene = Scene::new()?;
    let (waiter, pusher) = (scene.client()?, scene.client()?);
    assert_eq!(scene.ask(&pusher, "SET s x\n")?, "+OK ");
    assert_eq!(scene.ask(&waiter, "BLMOVE l s LEFT LEFT 0\n")?, "");
    assert_eq!(scene.ask(&pusher, "RPUSH l v\nLLEN l\n")?, ":1 :1 ");
    assert!(received(&waiter).starts_with("-WRONGTYPE "));
    Ok(())
}

#[test]
fn a_watched_key_that_changes_or_expires_ends_the_transaction() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    assert_eq!(
        scene.ask(&client, "SET k 1 PX 500\nWATCH k\nMULTI\nGET k\n")?,
        "+OK +OK +OK +QUEUED "
    );
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(1))?;
    assert_eq!(scene.ask(&client, "EXEC\nWATCH k\n")?, "*-1 +OK ");
    assert_eq!(scene.ask(&other, "SET k 2\n")?, "+OK ");
    assert_eq!(
        scene.ask(&client, "MULTI\nGET k\nEXEC\nMULTI\nGET k\nEXEC\n")?,
        "+OK +QUEUED *-1 +OK +QUEUED *1 $1 2 "
    );
    Ok(())
}

#[test]
fn a_message_to_oneself_follows_the_reply_of_a_transaction() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let script = "MULTI\nSUBSCRIBE c\nPUBLISH c hi\nPING\nEXEC\n";
    assert_eq!(
        scene.ask(&client, script)?,
        "+OK +QUEUED +QUEUED +QUEUED *3 *3 $9 subscribe $1 c :1 :1 *2 $4 pong $0  *3 $7 message $1 c $2 hi "
    );
    Ok(())
}

#[test]
fn an_idle_client_is_closed_after_the_timeout_unless_it_waits() -> Result {
    let scene = Scene::new()?;
    let (idle, waiter) = (scene.client()?, scene.client()?);
    assert_eq!(scene.ask(&idle, "CONFIG SET timeout 100\n")?, "+OK ");
    let (subscriber, former) = (scene.client()?, scene.client()?);
    scene.ask(&waiter, "BLPOP l 0\n")?;
    scene.ask(&subscriber, "SUBSCRIBE c\n")?;
    scene.ask(&former, "SUBSCRIBE c\nRESET\n")?;
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(90))?;
    assert!(!idle.has_ended() && !former.has_ended());
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(20))?;
    assert!(idle.has_ended() && former.has_ended());
    assert!(!waiter.has_ended() && !subscriber.has_ended());
    assert_eq!(
        scene.ask(&subscriber, "UNSUBSCRIBE\nCONFIG SET timeout 0\n")?,
        "*3 $11 unsubscribe $1 c :0 +OK "
    );
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(200))?;
    assert!(!subscriber.has_ended());
    Ok(())
}

#[test]
fn keys_expire_by_themselves() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    assert_eq!(
        scene.ask(&client, "SET a 1 EX 10\nSET b 1 EX 20\nSET c 1\nDBSIZE\n")?,
        "+OK +OK +OK :3 "
    );
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(11))?;
    assert_eq!(
        scene.ask(&client, "DBSIZE\nTTL b\nEXISTS a\n")?,
        ":2 :9 :0 "
    );
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(10))?;
    assert_eq!(scene.ask(&client, "DBSIZE\n")?, ":1 ");
    Ok(())
}

#[test]
fn the_reply_to_a_long_command_is_in_order_and_is_a_snapshot() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    for number in 0..3_000 {
        client.send(format!(
            "SET key:{number} {number}\r\nSADD set {number}\r\n"
        ));
    }
    scene.ask(&client, "")?;
    let reply = scene.ask(
        &client,
        "KEYS *\nDEL key:7\nSMEMBERS set\nDEL set\nDBSIZE\n",
    )?;
    assert!(
        reply.starts_with("*3001 ") && reply.ends_with(" :1 :2999 "),
        "{}",
        reply.len()
    );
    assert!(reply.contains(" key:7 ") && reply.contains(" :1 *3000 "));
    Ok(())
}

#[test]
fn a_client_that_does_not_read_waits_and_gets_everything_later() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    scene.ask(&client, &format!("SET k {}\n", "x".repeat(10_000)))?;
    client.stop_reading();
    for _ in 0..500 {
        client.send("GET k\r\n");
    }
    scene.network.settle(&scene.event_loop)?;
    let queued = scene.queued();
    assert!(queued < 1 << 20, "{queued}");
    client.start_reading(usize::MAX);
    let reply = scene.ask(&client, "PING\n")?;
    assert_eq!(reply.matches("$10000 ").count(), 500);
    assert!(reply.ends_with(" +PONG "));
    Ok(())
}

/// The requests of one read make many long replies. One of them is queued at a time, also while the client reads.
#[test]
fn a_client_that_asks_for_many_large_values_gets_one_after_another() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    scene.ask(&client, "SETRANGE k 1048575 x\n")?;
    let (mut received, mut most) = (0, 0);
    client.send("GET k\r\n".repeat(100));
    client.start_reading(64 * 1024);
    loop {
        scene.network.settle(&scene.event_loop)?;
        most = most.max(scene.queued());
        let taken = client.take_received().len();
        if taken == 0 {
            break;
        }
        received += taken;
        client.start_reading(64 * 1024);
    }
    assert_eq!(received, 100 * "$1048576\r\n\r\n".len() + (100 << 20));
    assert!(most < 2 << 20, "{most} bytes");
    Ok(())
}

#[test]
fn a_reply_that_is_switched_off_is_not_sent_after_a_wait_either() -> Result {
    let scene = Scene::new()?;
    let [client, other] = [scene.client()?, scene.client()?];
    let replies = scene.ask(&client, "CLIENT REPLY SKIP\nBLPOP l 0\n")?;
    assert_eq!(replies, "");
    scene.ask(&other, "RPUSH l a\n")?;
    assert_eq!(scene.ask(&client, "PING\n")?, "+PONG ");
    assert_eq!(scene.ask(&client, "CLIENT REPLY OFF\nBLPOP l 0\n")?, "");
    scene.ask(&other, "RPUSH l a\n")?;
    assert_eq!(scene.ask(&client, "PING\nCLIENT REPLY ON\n")?, "+OK ");
    Ok(())
}

/// Requests that take long and have short replies do not keep what the workers share, and other clients are served.
#[test]
fn a_turn_ends_before_the_requests_of_a_long_pipeline() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let members: String = (0..900).map(|number| format!(" {number}")).collect();
    scene.ask(&client, &format!("RPUSH l{members}\n"))?;
    client.send("SORT l LIMIT 0 0\r\n".repeat(400));
    let mut replies = 0;
    while replies == 0 {
        scene.event_loop.run_once(Duration::ZERO)?;
        replies = received(&client).matches("*0 ").count();
    }
    assert!(replies < 400, "all requests were executed in one turn");
    scene.network.settle(&scene.event_loop)?;
    replies += received(&client).matches("*0 ").count();
    assert_eq!(replies, 400);
    Ok(())
}

#[test]
fn a_small_request_with_a_large_reply_takes_little_memory() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let value = "x".repeat(10_000);
    let mut setup = format!("SET k {value}\n");
    for number in 0..500 {
        setup += &format!(
            "RPUSH l {value}\nSADD s {number}{value}\nHSET h {number} {value}\nZADD z 1 {number}{value}\n"
        );
    }
    scene.ask(&client, &setup)?;
    let keys = " k".repeat(500);
    let fields = " 7".repeat(500);
    for request in [
        format!("MGET{keys}"),
        format!("HMGET h{fields}"),
        "LRANGE l 0 -1".to_owned(),
        "SMEMBERS s".to_owned(),
        "HVALS h".to_owned(),
        "ZRANGE z 0 -1".to_owned(),
        "ZRANGE z 0 -1 REV".to_owned(),
        "SRANDMEMBER s -500".to_owned(),
        "HRANDFIELD h -500 WITHVALUES".to_owned(),
    ] {
        client.stop_reading();
        client.send(format!("{request}\r\n"));
        scene.network.settle(&scene.event_loop)?;
        let queued = scene.queued();
        assert!(
            queued < 4 << 20,
            "{queued} bytes: {}",
            request.get(..10).unwrap_or(&request)
        );
        client.start_reading(usize::MAX);
        let reply = scene.ask(&client, "PING\n")?;
        let name = request.get(..10).unwrap_or(&request);
        assert!(
            reply.starts_with("*500 $") || reply.starts_with("*1000 $"),
            "{name}"
        );
        assert_eq!(reply.matches("xxx ").count(), 500, "{name}");
        assert!(reply.ends_with(" +PONG "), "{name}");
    }
    // This would be terabytes.
    client.stop_reading();
    scene.ask(&client, "SRANDMEMBER s -1000000000\n")?;
    Ok(())
}

#[test]
fn what_takes_long_to_store_is_made_in_parts_and_is_that_of_its_end() -> Result {
    let scene = Scene::new()?;
    let (client, other, waiter) = (scene.client()?, scene.client()?, scene.client()?);
    let numbers =
        |of: std::ops::Range<usize>| -> String { of.map(|number| format!(" {number}")).collect() };
    scene.ask(
        &client,
        &format!(
            "SADD s{}\nSADD t{}\nRPUSH l{}\n",
            numbers(0..9_000),
            numbers(8_000..10_000),
            numbers(0..9_000)
        ),
    )?;
    // The requests behind it wait. Others are served, and their changes are in the result.
    client.send("SUNIONSTORE d s t\r\nSCARD d\r\n");
    assert_eq!(scene.ask(&other, "SADD s more\nEXISTS d\n")?, ":1 :0 ");
    assert_eq!(received(&client), ":10001 :10001 ");
    assert_eq!(
        scene.ask(&client, "SINTERSTORE d s t\nSDIFFSTORE s s t\n")?,
        ":1000 :8001 "
    );
    let counts = "SADD u 1\nSADD u 2\nSUNIONSTORE v t t\nSINTERCARD 2 t v\nSINTERCARD 2 t v LIMIT 700\nSINTERCARD 2 u u LIMIT 1\n";
    assert_eq!(scene.ask(&client, counts)?, ":1 :1 :2000 :2000 :700 :1 ");
    // Who waits for the key is served.
    scene.ask(&waiter, "BLPOP d2 0\n")?;
    client.send("SORT l DESC STORE d2\r\nLLEN d2\r\n");
    assert_eq!(scene.ask(&other, "RPUSH l 9000\n")?, ":9001 ");
    assert_eq!(received(&waiter), "*2 $2 d2 $4 9000 ");
    assert_eq!(received(&client), ":9001 :9000 ");
    assert_eq!(
        scene.ask(&client, "LRANGE d2 0 1\n")?,
        "*2 $4 8999 $4 8998 "
    );
    // A transaction does not wait.
    let script = "MULTI\nSUNIONSTORE d t t\nSCARD d\nEXEC\n";
    assert!(scene.ask(&client, script)?.ends_with("*2 :2000 :2000 "));
    // Errors, and a source that is gone at the end.
    scene.ask(&client, "RPUSH l x\n")?;
    let error = "-ERR One or more scores can't be converted into double ";
    assert_eq!(
        scene.ask(&client, "SORT l STORE d2\nLLEN d2\n")?,
        format!("{error}:9000 ")
    );
    client.send("SORT l ALPHA STORE d2\r\nEXISTS d2\r\n");
    assert_eq!(scene.ask(&other, "DEL l\n")?, ":1 ");
    assert_eq!(received(&client), ":0 :0 ");
    Ok(())
}

#[test]
fn what_is_made_of_a_key_that_never_rests_is_stored_all_the_same() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    let members: String = (0..9_000).map(|number| format!(" {number}")).collect();
    scene.ask(&client, &format!("SADD s{members}\n"))?;
    client.send("SUNIONSTORE d s\r\n");
    let mut turns = 0;
    while received(&client).is_empty() {
        other.send(format!("SADD s more{turns}\r\n"));
        scene.event_loop.run_once(Duration::ZERO)?;
        turns += 1;
        assert!(turns < 1_000, "it is never stored");
    }
    assert!(turns > 20, "{turns}");
    // A client that leaves is not waited for, but what it has asked for is done.
    client.send("SUNIONSTORE e s\r\n");
    client.finish();
    scene.network.settle(&scene.event_loop)?;
    received(&other);
    assert_eq!(scene.ask(&other, "SDIFF s e\n")?, "*0 ");
    Ok(())
}

#[test]
fn many_elements_are_popped_at_once_and_large_values_dropped_elsewhere() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let elements: String = (0..3_000).map(|number| format!(" {number}")).collect();
    let freed = "INFO stats\n";
    for end in ["LPOP l 1500", "RPOP l 1500", "LPOP l 3000", "RPOP l 9999"] {
        scene.ask(&client, &format!("DEL l\nRPUSH l{elements}\n"))?;
        client.stop_reading();
        client.send(format!("{end}\r\n"));
        scene.network.settle(&scene.event_loop)?;
        client.start_reading(usize::MAX);
        let reply = scene.ask(&client, "LLEN l\nEXISTS l\nLINDEX l 0\n")?;
        let wanted = match end {
            "LPOP l 1500" => ("*1500 $1 0 ", " $4 1499 :1500 :1 $4 1500 "),
            "RPOP l 1500" => ("*1500 $4 2999 ", " $4 1500 :1500 :1 $1 0 "),
            "LPOP l 3000" => ("*3000 $1 0 ", " $4 2999 :0 :0 $-1 "),
            _ => ("*3000 $4 2999 ", " $1 0 :0 :0 $-1 "),
        };
        assert!(
            reply.starts_with(wanted.0) && reply.ends_with(wanted.1),
            "{end}"
        );
    }
    for script in [
        "SET l x\n",
        "SET k x\nRENAME k l\n",
        "LTRIM l 1500 1600\n",
        "PEXPIREAT l 1\n",
        "PEXPIRE l 1\n",
    ] {
        scene.ask(&client, &format!("DEL l\nRPUSH l{elements}\n"))?;
        let before = freed_by(&scene.ask(&client, freed)?)?;
        scene.ask(&client, script)?;
        scene
            .network
            .advance(&scene.event_loop, Duration::from_millis(10))?;
        let after = freed_by(&scene.ask(&client, freed)?)?;
        assert!(after > before, "{script}");
    }
    Ok(())
}

fn freed_by(info: &str) -> Result<u64> {
    let (_, rest) = info
        .split_once("lazyfreed_objects:")
        .ok_or("no such field")?;
    Ok(rest.split(' ').next().unwrap_or_default().parse()?)
}

#[test]
fn a_transaction_counts_as_input() -> Result {
    let mut config = Config::default();
    config.set("client-query-buffer-limit", "1mb")?;
    let scene = Scene::with(Options {
        config,
        ..options()
    })?;
    let (client, large) = (scene.client()?, scene.client()?);
    let request = format!("SET k {}\n", "x".repeat(60_000));
    scene.ask(&client, "MULTI\n")?;
    assert_eq!(
        scene.ask(&client, &request.repeat(10))?,
        "+QUEUED ".repeat(10)
    );
    scene.ask(&client, &request.repeat(10))?;
    assert!(client.has_ended());
    // So do large arguments of a request that is not complete.
    let argument = format!("$300000\n{}\n", "x".repeat(300_000));
    scene.ask(&large, &format!("*9\n{}", argument.repeat(2)))?;
    assert!(!large.has_ended());
    scene.ask(&large, &argument.repeat(2))?;
    assert!(large.has_ended());
    Ok(())
}

#[test]
fn browsers_strangers_and_too_many_clients_are_refused() -> Result {
    let scene = Scene::with(Options {
        most_clients: 2,
        ..options()
    })?;
    let browser = scene.client()?;
    assert_eq!(
        scene.ask(&browser, "POST / HTTP/1.1\nHost: x\n\nFLUSHALL\n")?,
        ""
    );
    assert_eq!(browser.ended(), Some(Ended::Finished));
    let stranger = scene
        .network
        .connect_from("192.0.2.7:1000".parse::<std::net::SocketAddr>()?, ADDR)?;
    assert!(
        scene
            .ask(&stranger, "PING\n")?
            .starts_with("-DENIED Redis is running in protected mode")
    );
    let _clients = [scene.client()?, scene.client()?];
    let late = scene.client()?;
    assert_eq!(scene.ask(&late, "")?, "-ERR max number of clients reached ");
    Ok(())
}

#[test]
fn a_password_is_needed_before_anything_else() -> Result {
    let mut config = Config::default();
    config.set("requirepass", "secret")?;
    let scene = Scene::with(Options {
        config,
        ..options()
    })?;
    let client = scene.client()?;
    let reply = scene.ask(
        &client,
        "GET a\nAUTH x\nMULTI\nAUTH secret\nGET a\nRESET\nGET a\n",
    )?;
    let expected = "-NOAUTH Authentication required. -WRONGPASS invalid username-password pair or user is disabled. \
                    -NOAUTH Authentication required. +OK $-1 +RESET -NOAUTH Authentication required. ";
    assert_eq!(reply, expected);
    Ok(())
}

fn on_disk(dir: &Path, sync: AppendFsync) -> Result<Options> {
    let (writer, keyspace) = Writer::open(dir, || panic!("the thread has ended by itself"))?;
    Ok(Options {
        disk: Some((writer, sync, keyspace)),
        ..options()
    })
}

#[test]
fn what_was_written_is_there_after_a_restart() -> Result {
    let dir = tempfile::tempdir()?;
    for sync in [AppendFsync::Everysec, AppendFsync::No] {
        let scene = Scene::with(on_disk(dir.path(), sync)?)?;
        let client = scene.client()?;
        scene.ask(
            &client,
            "INCR n\nRPUSH l a b\nHSET h f 1\nSADD s a b\nZADD z 1 a\nDEL gone\nSET t x EX 100\n",
        )?;
        drop(client);
        scene.shared.close()?;
    }
    let scene = Scene::with(on_disk(dir.path(), AppendFsync::Everysec)?)?;
    let client = scene.client()?;
    let reply = scene.ask(
        &client,
        "GET n\nLRANGE l 0 -1\nHGETALL h\nSCARD s\nZSCORE z a\nDBSIZE\nTTL t\n",
    )?;
    assert_eq!(
        reply,
        "$1 2 *4 $1 a $1 b $1 a $1 b *2 $1 f $1 1 :2 $1 1 :6 :100 "
    );
    scene.shared.close()?;
    Ok(())
}

/// A database that writes when the test says so, and with which outcome.
struct Disk {
    outcomes: Sender<Result<(), &'static str>>,
    scene: Scene,
}

impl Disk {
    fn new(sync: AppendFsync) -> Result<Disk> {
        let (outcomes, next) = mpsc::channel::<Result<(), &'static str>>();
        let write = move |_: &[disk::rows::Op]| match next.recv() {
            Ok(Err("panic")) => panic!("as the test wants it"),
            Ok(outcome) => outcome.map_err(Into::into),
            Err(_) => Ok(()),
        };
        let writer = Writer::start(write, || {})?;
        let keyspace = disk::rows::Loader::default().finish();
        let scene = Scene::with(Options {
            disk: Some((writer, sync, keyspace)),
            ..options()
        })?;
        Ok(Disk { outcomes, scene })
    }

    /// Lets the loop run until this is the case.
    fn until(&self, mut is_so: impl FnMut() -> Result<bool>) -> Result {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so()? {
            assert!(Instant::now() < deadline, "it does not happen");
            self.scene.network.settle(&self.scene.event_loop)?;
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Waits until a client has received exactly this.
    fn expect(&self, client: &Peer, wanted: &str) -> Result {
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
    let disk = Disk::new(AppendFsync::Always)?;
    let (waiter, client) = (disk.scene.client()?, disk.scene.client()?);
    assert_eq!(disk.scene.ask(&waiter, "CLIENT ID\nBLPOP l 0\n")?, ":1 ");
    let script = "MULTI\nSET k 1\nCLIENT UNBLOCK 1\nEXEC\n";
    assert_eq!(disk.scene.ask(&client, script)?, "+OK +QUEUED +QUEUED ");
    assert_eq!(received(&waiter), "*-1 ", "this has not written");
    disk.outcomes.send(Ok(()))?;
    disk.expect(&client, "*2 +OK :1 ")
}

#[test]
fn commands_executed_before_the_disk_was_full_are_acknowledged_later_and_others_refused() -> Result
{
    let disk = Disk::new(AppendFsync::Always)?;
    let clients = [
        disk.scene.client()?,
        disk.scene.client()?,
        disk.scene.client()?,
    ];
    // The number of replies is not that of the requests.
    for (client, script) in clients.iter().zip([
        "INCR n\nBLPOP l 0\n",
        "INCR n\nCLIENT REPLY OFF\nINCR n\nCLIENT REPLY ON\n",
        "MULTI\nHELLO 3\nSUBSCRIBE c\nINCR n\nEXEC\n",
    ]) {
        client.send(script.replace('\n', "\r\n"));
    }
    let (other, queued) = (disk.scene.client()?, disk.scene.client()?);
    assert_eq!(disk.scene.ask(&queued, "MULTI\nINCR n\n")?, "+OK +QUEUED ");
    disk.outcomes.send(Err("full"))?;
    let refusal = "-MISCONF Errors writing to the AOF file: full ";
    disk.until(|| {
        Ok(disk
            .scene
            .ask(&other, "INFO persistence\n")?
            .contains("status:err"))
    })?;
    assert_eq!(disk.scene.ask(&other, "INCR n\n")?, refusal);
    assert_eq!(
        disk.scene.ask(&queued, "EXEC\nGET n\n")?,
        refusal.replace("-", "-EXECABORT Transaction discarded because of: ") + "$1 4 "
    );
    assert_eq!(disk.scene.ask(&other, "GET n\n")?, "$1 4 ");
    assert_eq!(received(&clients[0]), "");
    drop(disk.outcomes);
    let disk = Disk {
        outcomes: mpsc::channel().0,
        ..disk
    };
    disk.expect(&clients[0], ":1 ")?;
    disk.expect(&clients[1], ":2 +OK ")?;
    let text = "+OK +QUEUED +QUEUED +QUEUED *3 %7 ";
    let mut third = String::new();
    disk.until(|| {
        third += &received(&clients[2]);
        Ok(third.ends_with(":4 "))
    })?;
    assert!(
        third.starts_with(text) && !third.contains("MISCONF"),
        "{third}"
    );
    disk.until(|| {
        Ok(disk
            .scene
            .ask(&other, "INFO persistence\n")?
            .contains("status:ok"))
    })?;
    assert_eq!(disk.scene.ask(&clients[0], "")?, "");
    Ok(())
}

#[test]
fn many_removed_elements_are_sent_when_their_removal_is_on_disk() -> Result {
    let disk = Disk::new(AppendFsync::Always)?;
    let (client, other) = (disk.scene.client()?, disk.scene.client()?);
    let elements: String = (0..3_000).map(|number| format!(" {number}")).collect();
    disk.outcomes.send(Ok(()))?;
    disk.scene.ask(&client, &format!("RPUSH l{elements}\n"))?;
    disk.until(|| Ok(disk.scene.ask(&client, "PING\n")?.contains("PONG")))?;
    let script = "LPOP l 2000\nPING\nMULTI\nLPOP l 1000\nSET k v\nEXEC\n";
    assert_eq!(disk.scene.ask(&client, script)?, "");
    assert_eq!(disk.scene.ask(&other, "LLEN l\n")?, ":1000 ");
    for _ in 0..2 {
        disk.outcomes.send(Ok(()))?;
    }
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

#[test]
fn a_sort_that_stores_nothing_does_not_wait_for_the_disk() -> Result {
    let disk = Disk::new(AppendFsync::Always)?;
    let client = disk.scene.client()?;
    disk.outcomes.send(Ok(()))?;
    disk.scene.ask(&client, "RPUSH l 2 1\n")?;
    disk.until(|| Ok(disk.scene.ask(&client, "PING\n")?.contains("PONG")))?;
    assert_eq!(disk.scene.ask(&client, "SORT l\n")?, "*2 $1 1 $1 2 ");
    assert_eq!(disk.scene.ask(&client, "SORT l STORE s\n")?, "");
    Ok(())
}

#[test]
fn nothing_is_acknowledged_after_the_thread_that_writes_has_died() -> Result {
    let disk = Disk::new(AppendFsync::Everysec)?;
    let client = disk.scene.client()?;
    assert_eq!(disk.scene.ask(&client, "SET k 1\n")?, "+OK ");
    disk.outcomes.send(Err("panic"))?;
    disk.scene
        .network
        .advance(&disk.scene.event_loop, Duration::from_secs(2))?;
    disk.until(|| {
        Ok(disk
            .scene
            .ask(&client, "SET k 2\n")?
            .starts_with("-MISCONF"))
    })?;
    assert!(disk.scene.shared.close().is_err());
    Ok(())
}

#[test]
fn clients_that_write_wait_while_much_is_not_on_disk() -> Result {
    for sync in [AppendFsync::Everysec, AppendFsync::No, AppendFsync::Always] {
        let disk = Disk::new(sync)?;
        let client = disk.scene.client()?;
        let value = "x".repeat(8 << 20);
        for number in 0..9 {
            let request = format!("*3\n$3\nSET\n$1\n{number}\n${}\n{value}\n", value.len());
            disk.scene.ask(&client, &request)?;
        }
        disk.scene
            .network
            .advance(&disk.scene.event_loop, Duration::from_secs(31))?;
        // Each of them waits, and what is behind it is not read any more.
        let other = disk.scene.client()?;
        assert_eq!(disk.scene.ask(&other, "INCR n\nINCR n\n")?, "");
        let third = disk.scene.client()?;
        assert_eq!(disk.scene.ask(&third, "GET n\n")?, "$1 1 ");
        let silent = "CLIENT REPLY OFF\nINCR s\nINCR s\n";
        assert_eq!(disk.scene.ask(&third, silent)?, "");
        let fourth = disk.scene.client()?;
        assert_eq!(disk.scene.ask(&fourth, "GET s\n")?, "$1 1 ");
        for _ in 0..3 {
            disk.outcomes.send(Ok(()))?;
        }
        drop(disk.outcomes);
        let disk = Disk {
            outcomes: mpsc::channel().0,
            ..disk
        };
        disk.expect(&other, ":1 :2 ")?;
        disk.until(|| Ok(disk.scene.ask(&fourth, "GET s\n")?.ends_with("$1 2 ")))?;
    }
    Ok(())
}

#[test]
fn many_changes_are_collected_in_parts_and_written_once() -> Result {
    let written = Arc::new(Mutex::new(Vec::new()));
    let batches = Arc::clone(&written);
    let write = move |ops: &[disk::rows::Op]| {
        batches
            .lock()
            .map_err(|error| error.to_string())?
            .push(ops.len());
        Ok(())
    };
    let keyspace = disk::rows::Loader::default().finish();
    let scene = Scene::with(Options {
        disk: Some((
            Writer::start(write, || {})?,
            AppendFsync::Everysec,
            keyspace,
        )),
        ..options()
    })?;
    let client = scene.client()?;
    for number in 0..5_000 {
        client.send(format!("SET k{number} v\r\n"));
    }
    scene.network.settle(&scene.event_loop)?;
    let left = scene.shared.lock().keyspace.change_count();
    assert!(left < 2_000, "{left}");
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(2))?;
    scene.shared.close()?;
    // Each key has two rows: one is cleared, and the other one is written.
    assert_eq!(
        *written.lock().map_err(|error| error.to_string())?,
        [10_000]
    );
    Ok(())
}

#[test]
fn elements_that_were_removed_at_once_are_not_on_disk() -> Result {
    let dir = tempfile::tempdir()?;
    let elements: String = (0..6_000).map(|number| format!(" {number}")).collect();
    for script in [
        format!("RPUSH l{elements}\n"),
        "LPOP l 1200\nRPOP l 1100\n".to_owned(),
        "LTRIM l 1300 2399\n".to_owned(),
    ] {
        let scene = Scene::with(on_disk(dir.path(), AppendFsync::Everysec)?)?;
        let client = scene.client()?;
        scene.ask(&client, &script)?;
        scene.shared.close()?;
    }
    let scene = Scene::with(on_disk(dir.path(), AppendFsync::Everysec)?)?;
    let client = scene.client()?;
    let reply = scene.ask(&client, "LLEN l\nLINDEX l 0\nLINDEX l -1\n")?;
    assert_eq!(reply, ":1100 $4 2500 $4 3599 ");
    scene.shared.close()?;
    Ok(())
}
