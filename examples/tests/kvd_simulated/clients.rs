//! Requests in pieces, clients that wait, expiry, and limits.

use std::time::Duration;

use asynchat::Result;
use asynchat::sim::{self, Ended};

use crate::commands::Command;
use crate::scene::{ADDR, Scene, options, received, set_clock_forward};
use crate::server::config::Config;
use crate::server::session::Session;
use crate::server::shared::{Shared, lock};
use crate::server::{Options, Server};

pub static PANICS: Command = Command {
    name: "panics",
    arity: -1,
    flags: 0,
    keys: (0, 0, 0),
    group: "list",
    summary: "",
    run: |_, _| panic!("as the test wants it"),
    subcommands: &[],
    index: 0,
};

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

/// It is ended by the messages that it does not read, before the element comes.
#[test]
fn a_client_whose_connection_ends_takes_no_element() -> Result {
    let mut options = options();
    options
        .config
        .set("client-output-buffer-limit", "pubsub 10kb 0 0")?;
    let scene = Scene::with(options)?;
    let [slow, next, other] = [scene.client()?, scene.client()?, scene.client()?];
    scene.ask(&slow, "HELLO 3\nSUBSCRIBE c\nBLPOP l 0\n")?;
    assert_eq!(scene.ask(&next, "BLPOP l 0\n")?, "");
    let message = format!("PUBLISH c {}\n", "x".repeat(10_000));
    let replies = scene.ask(&other, &format!("{}RPUSH l x\n", message.repeat(5)))?;
    assert!(replies.ends_with(":1 "), "{replies}");
    assert_eq!(slow.ended(), Some(Ended::Reset));
    assert_eq!(received(&next), "*2 $1 l $1 x ");
    Ok(())
}

/// As in Redis: it is read as far as its input has room.
#[test]
fn a_client_that_waits_and_has_left_is_noticed_behind_much_input() -> Result {
    let scene = Scene::new()?;
    let (waiter, pusher) = (scene.client()?, scene.client()?);
    let requests = "PING\n".repeat(40_000);
    assert_eq!(scene.ask(&waiter, &format!("BLPOP l 0\n{requests}"))?, "");
    waiter.finish();
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(scene.ask(&pusher, "RPUSH l a\nLLEN l\n")?, ":1 :1 ");
    let waiter = scene.client()?;
    assert_eq!(scene.ask(&waiter, &format!("BLPOP m 0\n{requests}"))?, "");
    scene.ask(&pusher, "RPUSH m a\n")?;
    assert_eq!(received(&waiter).matches("+PONG ").count(), 40_000);
    scene.ask(&pusher, "CONFIG SET client-query-buffer-limit 1mb\n")?;
    scene.ask(&waiter, &format!("BLPOP m 0\n{}", requests.repeat(4)))?;
    assert!(!waiter.has_ended());
    scene.ask(&waiter, &requests)?;
    assert!(waiter.has_ended());
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
fn a_long_wait_ends_later_and_a_longer_one_is_an_error() -> Result {
    let scene = Scene::new()?;
    let (client, waiter) = (scene.client()?, scene.client()?);
    for time in ["inf", "1e16", "9223372036854776", "-inf", "-1"] {
        let reply = scene.ask(&client, &format!("BRPOPLPUSH l m {time}\n"))?;
        assert_eq!(reply, "-ERR timeout is negative ", "{time}");
    }
    for time in ["9e15", "9223372036854775", "1e10", "-0.0001"] {
        assert_eq!(scene.ask(&waiter, &format!("BLPOP l {time}\n"))?, "");
        scene
            .network
            .advance(&scene.event_loop, Duration::from_secs(100))?;
        assert_eq!(received(&waiter), "");
        scene.ask(&client, "RPUSH l x\n")?;
        assert_eq!(received(&waiter), "*2 $1 l $1 x ", "{time}");
    }
    Ok(())
}

/// As in Redis.
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

/// The clock may be set, and it goes on while the system is suspended. Timers do neither.
#[test]
fn keys_expire_by_themselves_soon_after_the_clock_was_set_forward() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    scene.ask(&client, "SET a 1 EX 86400\nSET b 1\n")?;
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(1))?;
    set_clock_forward(Duration::from_secs(90_000));
    scene.ask(&client, "SET c 1 PX 500\n")?;
    for wanted in [":3 ", ":1 "] {
        assert_eq!(scene.ask(&client, "DBSIZE\n")?, wanted);
        scene
            .network
            .advance(&scene.event_loop, Duration::from_secs(6))?;
    }
    scene.ask(&client, "SET d 1 PX 500\n")?;
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(1))?;
    assert_eq!(scene.ask(&client, "DBSIZE\n")?, ":1 ");
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

/// Only a reply that is made while it is sent has to be sent before the next request.
#[test]
fn client_reply_does_not_wait_for_the_output() -> Result {
    let scene = Scene::new()?;
    let [client, other] = [scene.client()?, scene.client()?];
    scene.ask(&client, &format!("SET k {}\n", "x".repeat(10_000)))?;
    client.stop_reading();
    // More than the kernel takes.
    let replies = "GET k\r\n".repeat(20);
    client.send(replies + "CLIENT REPLY OFF\r\nINCR n\r\n");
    scene.network.settle(&scene.event_loop)?;
    assert!(scene.queued() > 0);
    assert_eq!(scene.ask(&other, "GET n\n")?, "$1 1 ");
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

#[test]
fn a_reply_that_is_not_wanted_is_not_sent_in_a_later_turn_either() -> Result {
    let scene = Scene::new()?;
    let [subscriber, client] = [scene.client()?, scene.client()?];
    // More names than are compared at a time.
    let names: Vec<String> = (0..3_000).map(|n| format!("{n:0100}")).collect();
    for names in names.chunks(100) {
        scene.ask(&subscriber, &format!("SUBSCRIBE {}\n", names.join(" ")))?;
    }
    for mode in ["OFF", "SKIP"] {
        let script = format!("CLIENT REPLY {mode}\nPUBSUB CHANNELS\nCLIENT REPLY ON\nPING\n");
        let replies = scene.ask(&client, &script)?;
        assert!(replies == "+OK +PONG ", "{mode}: {} bytes", replies.len());
    }
    let wanted = scene.ask(&client, "PUBSUB CHANNELS\n")?;
    assert!(wanted.starts_with("*3000 "), "{}", wanted.len());
    Ok(())
}

#[test]
fn replies_that_are_off_stay_off_until_they_are_wanted() -> Result {
    for (script, wanted) in [
        (
            "CLIENT REPLY OFF\nCLIENT REPLY SKIP\nPING\nPING\nCLIENT REPLY ON\n",
            "+OK ",
        ),
        ("CLIENT REPLY SKIP\nPING\nECHO x\n", "$1 x "),
        ("CLIENT REPLY SKIP\n*x\n", ""),
        // Confirmations are messages.
        (
            "CLIENT REPLY OFF\nSUBSCRIBE a\nPING\n",
            "*3 $9 subscribe $1 a :1 ",
        ),
        (
            "MULTI\nCLIENT REPLY SKIP\nPING\nEXEC\nPING\nECHO x\n",
            "+OK +QUEUED +QUEUED *2 +PONG $1 x ",
        ),
        // ON within the transaction does not end what SKIP has begun.
        (
            "MULTI\nCLIENT REPLY SKIP\nCLIENT REPLY ON\nEXEC\nECHO x\nECHO y\n",
            "+OK +QUEUED +QUEUED *2 +OK $1 y ",
        ),
    ] {
        for is_cut in [false, true] {
            let scene = Scene::new()?;
            let client = scene.client()?;
            let mut replies = String::new();
            if is_cut {
                for line in script.lines() {
                    replies += &scene.ask(&client, &format!("{line}\n"))?;
                }
            } else {
                replies = scene.ask(&client, script)?;
            }
            assert_eq!(replies, wanted, "{script}");
        }
    }
    Ok(())
}

/// Without a reply, the client would take the next one for it.
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
    // And one that is not complete itself.
    let large = scene.client()?;
    let part = "x".repeat(600_000);
    scene.ask(&large, &format!("*2\n$3\nGET\n$3000000\n{part}"))?;
    assert!(!large.has_ended());
    scene.ask(&large, &part)?;
    assert!(large.has_ended());
    // The limit may change meanwhile.
    let (large, other) = (scene.client()?, scene.client()?);
    scene.ask(&large, &format!("*2\n$3\nGET\n$3000000\n{part}"))?;
    scene.ask(&other, "CONFIG SET client-query-buffer-limit 2mb\n")?;
    scene.ask(&large, &part)?;
    assert!(!large.has_ended());
    scene.ask(&large, &part.repeat(2))?;
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
fn figures_begin_again_after_config_resetstat() -> Result {
    let scene = Scene::with(Options {
        most_clients: 1,
        ..options()
    })?;
    let client = scene.client()?;
    let late = scene.client()?;
    assert_eq!(scene.ask(&late, "")?, "-ERR max number of clients reached ");
    let elements: String = (0..2_000).map(|number| format!(" {number}")).collect();
    scene.ask(&client, &format!("RPUSH l{elements}\nDEL l\n"))?;
    let names = [
        "total_connections_received",
        "rejected_connections",
        "lazyfreed_objects",
    ];
    for (script, expected) in [("INFO stats\n", 1), ("CONFIG RESETSTAT\nINFO stats\n", 0)] {
        let info = scene.ask(&client, script)?;
        for name in names {
            assert!(
                info.contains(&format!("{name}:{expected} ")),
                "{name}: {info}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_samples_of_memory_usage_are_a_number() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    scene.ask(&client, "RPUSH l a\n")?;
    for (options, wanted) in [
        ("", ":"),
        ("SAMPLES 0", ":"),
        ("SAMPLES 3 SAMPLES 4", ":"),
        ("SAMPLES x", "-ERR value is not an integer or out of range "),
        ("SAMPLES -1", "-ERR syntax error "),
        ("SAMPLES", "-ERR syntax error "),
        ("COUNT 1", "-ERR syntax error "),
    ] {
        let reply = scene.ask(&client, &format!("MEMORY USAGE l {options}\n"))?;
        assert!(reply.starts_with(wanted), "{options}: {reply}");
    }
    Ok(())
}

/// It does not look at all elements of a large collection.
#[test]
fn memory_usage_takes_a_thousand_samples_at_most() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    for len in [100, 200] {
        let elements = format!(" {}", "x".repeat(len)).repeat(250);
        let script = format!("RPUSH l{elements}\n").repeat(6);
        scene.ask(&client, &script)?;
    }
    let usage = |samples: &str| -> Result<usize> {
        let reply = scene.ask(&client, &format!("MEMORY USAGE l SAMPLES {samples}\n"))?;
        Ok(reply.trim_start_matches(':').trim().parse()?)
    };
    let some = usage("10")?;
    assert!((300_000..450_000).contains(&some), "{some}");
    for samples in ["1000", "0", "3000", "9223372036854775807"] {
        assert_eq!(usage(samples)?, some, "{samples}");
    }
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

#[test]
fn what_comes_before_a_wrong_option_of_hello_has_its_effect() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let reply = scene.ask(
        &client,
        "HELLO 3 SETNAME me X\nCLIENT GETNAME\nCONFIG SET requirepass secret\nCONFIG SET timeout 01\n",
    )?;
    let expected = "-ERR Syntax error in HELLO option 'X' $2 me +OK -ERR CONFIG SET failed (possibly related to argument \
                    'timeout') - argument couldn't be parsed into an integer ";
    assert_eq!(reply, expected);
    let late = scene.client()?;
    let reply = scene.ask(&late, "HELLO 2 AUTH default wrong X\n")?;
    assert!(reply.starts_with("-WRONGPASS "), "{reply}");
    let reply = scene.ask(&late, "HELLO 2 AUTH default secret X\nPING\n")?;
    assert_eq!(reply, "-ERR Syntax error in HELLO option 'X' +PONG ");
    Ok(())
}

/// As the connections in the pool of a client, which do not react to the end.
#[test]
fn a_shutdown_does_not_wait_for_idle_clients() -> Result {
    let scene = Scene::new()?;
    let clients = [scene.client()?, scene.client()?];
    assert_eq!(scene.ask(&clients[0], "PING\n")?, "+PONG ");
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(1))?;
    scene.event_loop.shutdown(Duration::from_secs(5));
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(scene.network.sockets(), 0);
    assert!(clients.iter().all(|it| it.ended() == Some(Ended::Finished)));
    Ok(())
}

/// A client that still sends would lose the replies that are on their way with a reset.
#[test]
fn a_client_that_is_active_gets_its_replies_before_a_shutdown_closes_its_socket() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    assert_eq!(scene.ask(&client, "PING\n")?, "+PONG ");
    client.stop_reading();
    client.send("PING\r\n");
    scene.event_loop.run_once(Duration::ZERO)?;
    scene.event_loop.shutdown(Duration::from_secs(5));
    scene.event_loop.run_once(Duration::ZERO)?;
    client.send("PING\r\n");
    scene.network.settle(&scene.event_loop)?;
    client.start_reading(usize::MAX);
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(received(&client), "+PONG ");
    assert_eq!(client.ended(), Some(Ended::Finished));
    Ok(())
}

#[test]
fn a_password_has_any_bytes() -> Result {
    let scene = Scene::new()?;
    let (open, late) = (scene.client()?, scene.client()?);
    let password = b"\xff\xc3\r\n\0";
    open.send(b"*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$11\r\nrequirepass\r\n$5\r\n\xff\xc3\r\n\0\r\n");
    assert_eq!(scene.ask(&open, "")?, "+OK ");
    assert_eq!(scene.shared.lock().config.password, password);
    scene.ask(&late, "PING\n")?;
    late.send(b"*2\r\n$4\r\nAUTH\r\n$5\r\n\xff\xc4\r\n\0\r\n");
    assert!(scene.ask(&late, "")?.starts_with("-WRONGPASS "));
    late.send(b"*2\r\n$4\r\nAUTH\r\n$5\r\n\xff\xc3\r\n\0\r\n");
    assert_eq!(scene.ask(&late, "")?, "+OK ");
    scene.ask(&open, "")?;
    open.send("CONFIG GET requirepass\r\n");
    scene.network.settle(&scene.event_loop)?;
    assert!(open.take_received().ends_with(b"$5\r\n\xff\xc3\r\n\0\r\n"));
    Ok(())
}

#[test]
fn a_password_that_is_removed_is_not_needed_any_more() -> Result {
    let scene = Scene::new()?;
    let open = scene.client()?;
    assert_eq!(scene.ask(&open, "CONFIG SET requirepass secret\n")?, "+OK ");
    let late = scene.client()?;
    assert!(scene.ask(&late, "PING\n")?.starts_with("-NOAUTH "));
    scene.ask(&open, "CONFIG SET requirepass \"\"\n")?;
    assert_eq!(scene.ask(&late, "PING\n")?, "+PONG ");
    assert!(scene.ask(&late, "HELLO\n")?.starts_with("*14 $6 server "));
    // It has not logged in.
    scene.ask(&open, "CONFIG SET requirepass other\n")?;
    assert!(scene.ask(&late, "PING\n")?.starts_with("-NOAUTH "));
    assert_eq!(scene.ask(&open, "PING\n")?, "+PONG ");
    Ok(())
}

/// In Redis these are fast, with any count. Here the time is looked at after each one that has a count.
#[test]
fn a_turn_ends_behind_commands_that_take_many_elements() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    let members: String = (0..10_000).map(|it| format!(" {it}")).collect();
    scene.ask(&client, &format!("SADD s{members}\n"))?;
    client.send("SPOP s 1000\r\n".repeat(10));
    let left = scene.ask(&other, "SCARD s\n")?;
    assert_ne!(left, ":0 ", "all members were taken in one turn");
    assert_eq!(received(&client).matches("*1000 ").count(), 10);
    assert_eq!(scene.ask(&other, "SCARD s\n")?, ":0 ");
    Ok(())
}

#[test]
fn commands_that_can_do_harm_are_dangerous() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let names = [
        "keys",
        "flushall",
        "flushdb",
        "sort",
        "swapdb",
        "info",
        "client|list",
        "config",
    ];
    for name in names {
        let reply = scene.ask(&client, &format!("COMMAND INFO {name}\n"))?;
        assert!(reply.contains("+@dangerous "), "{name}: {reply}");
    }
    for name in ["get", "scan", "randomkey", "ping", "client|id"] {
        let reply = scene.ask(&client, &format!("COMMAND INFO {name}\n"))?;
        assert!(!reply.contains("+@dangerous "), "{name}: {reply}");
    }
    Ok(())
}

#[test]
fn commands_are_listed_by_category_and_keys_have_flags() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    for (request, reply) in [
        (
            "LIST FILTERBY ACLCAT Transaction",
            "*5 $7 discard $4 exec $5 multi $7 unwatch $5 watch ",
        ),
        ("LIST FILTERBY ACLCAT nosuch", "*0 "),
        ("LIST FILTERBY MODULE x", "*0 "),
        (
            "LIST FILTERBY PATTERN cl*name",
            "*2 $14 client|getname $14 client|setname ",
        ),
        ("LIST FILTERBY x y", "-ERR syntax error "),
        (
            "GETKEYSANDFLAGS SET get get",
            "*1 *2 $3 get *2 +OW +update ",
        ),
        (
            "GETKEYSANDFLAGS SET a b GET",
            "*1 *2 $1 a *3 +RW +access +update ",
        ),
        (
            "GETKEYSANDFLAGS COPY a b",
            "*2 *2 $1 a *2 +RO +access *2 $1 b *2 +OW +update ",
        ),
        (
            "GETKEYSANDFLAGS PING x",
            "-ERR The command has no key arguments ",
        ),
    ] {
        assert_eq!(scene.ask(&client, &format!("COMMAND {request}\n"))?, reply);
    }
    Ok(())
}

#[test]
fn whether_a_client_touches_keys_is_listed_until_it_is_reset() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    assert_eq!(scene.ask(&client, "CLIENT NO-TOUCH on\n")?, "+OK ");
    assert!(scene.ask(&client, "CLIENT INFO\n")?.contains(" flags=T "));
    assert_eq!(scene.ask(&client, "RESET\n")?, "+RESET ");
    assert!(scene.ask(&client, "CLIENT INFO\n")?.contains(" flags=N "));
    assert_eq!(
        scene.ask(&client, "CLIENT NO-TOUCH x\n")?,
        "-ERR syntax error "
    );
    Ok(())
}

#[test]
fn the_time_has_microseconds() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let time = Duration::from_micros(2_000_345);
    scene.network.advance(&scene.event_loop, time)?;
    let reply = scene.ask(&client, "TIME\n")?;
    let (seconds, micros) = reply
        .strip_prefix("*2 $10 ")
        .and_then(|it| it.trim_end().split_once(" $3 "))
        .ok_or(reply.clone())?;
    assert_eq!((seconds, micros), ("1800000002", "345"));
    Ok(())
}

/// The command of a client that waits is executed for the one that has sent the element.
#[test]
fn a_panic_while_a_waiting_client_is_served_ends_that_client() -> Result {
    let scene = Scene::new()?;
    let (first, second, pusher) = (scene.client()?, scene.client()?, scene.client()?);
    assert_eq!(scene.ask(&first, "BLPOP l 0\nPING\n")?, "");
    assert_eq!(scene.ask(&second, "BLPOP l 0\n")?, "");
    {
        let data = scene.shared.lock();
        let client = data.clients.values().next().ok_or("there is no client")?;
        let mut blocked = lock(&client.blocked);
        blocked.as_mut().ok_or("it does not wait")?.command = &PANICS;
    }
    assert_eq!(scene.ask(&pusher, "RPUSH l a\nPING\n")?, ":1 +PONG ");
    assert_eq!(received(&first), "-ERR the command has failed ");
    assert_eq!(first.ended(), Some(Ended::Finished));
    assert_eq!(received(&second), "*2 $1 l $1 a ");
    Ok(())
}

#[test]
fn a_watch_of_the_target_of_smove_counts_new_members_only() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    scene.ask(&client, "SADD s x y\nSADD t x\n")?;
    for (member, outcome) in [("x", "*1 +PONG "), ("y", "*-1 ")] {
        scene.ask(&client, "WATCH t\nMULTI\nPING\n")?;
        assert_eq!(scene.ask(&other, &format!("SMOVE s t {member}\n"))?, ":1 ");
        assert_eq!(scene.ask(&client, "EXEC\n")?, outcome, "{member}");
    }
    assert_eq!(scene.ask(&client, "EXISTS s\nSCARD t\n")?, ":0 :2 ");
    Ok(())
}

#[test]
fn a_client_that_goes_on_to_send_after_a_protocol_error_is_not_read_for_long() -> Result {
    let scene = Scene::new()?;
    let without = scene.network.sockets();
    let client = scene.client()?;
    let answer = scene.ask(&client, "*x\n")?;
    assert_eq!(answer, "-ERR Protocol error: invalid multibulk length ");
    let advance = |seconds| {
        client.send("payload");
        let time = Duration::from_secs_f32(seconds);
        scene.network.advance(&scene.event_loop, time)
    };
    for _ in 0..20 {
        advance(0.5)?;
    }
    assert!(scene.network.sockets() > without);
    for _ in 0..20 {
        advance(0.5)?;
    }
    assert_eq!(scene.network.sockets(), without);
    Ok(())
}

/// The fields of Redis 7.0, and those of 7.2 behind them.
#[test]
fn the_list_of_clients_shows_what_they_retain() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    scene.ask(&other, "MULTI\nSET key value\n")?;
    let info = scene.ask(&client, "CLIENT INFO\n")?;
    let fields = info.split_whitespace().filter_map(|it| it.split_once('='));
    let names: Vec<&str> = fields.map(|(name, _)| name).collect();
    assert_eq!(
        names.join(" "),
        "id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem multi-mem rbs rbp obl oll omem \
         tot-mem events cmd user redir resp lib-name lib-ver io-thread"
    );
    assert!(info.contains(" multi-mem=0 ") && info.contains(" tot-mem=0 "));
    let list = scene.ask(&client, "CLIENT LIST ID 2\n")?;
    assert!(list.contains(" multi=1 ") && !list.contains(" multi-mem=0 "));
    assert!(!list.contains(" tot-mem=0 "));
    Ok(())
}
