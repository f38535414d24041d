//! CLIENT TRACKING: which clients learn of a change, when, and how much is kept for that.

use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Peer;

use crate::durable::Disk;
use crate::scene::{Scene, options, received, set_clock_forward};
use crate::server::Options;
use crate::server::config::Config;

/// The invalidation of a key, as a client with version 3 of the protocol gets it.
fn invalid(key: &str) -> String {
    format!(">2 $10 invalidate *1 ${} {key} ", key.len())
}

const ALL: &str = ">2 $10 invalidate _ ";

/// A client with version 3 that tracks keys.
fn tracking(scene: &Scene, options: &str) -> Result<Peer> {
    let client = scene.client()?;
    scene.ask(&client, &format!("HELLO 3\nCLIENT TRACKING ON {options}\n"))?;
    Ok(client)
}

fn scene_with(name: &str, value: &str) -> Result<Scene> {
    let mut config = Config::default();
    config.set(name, value)?;
    Scene::with(Options {
        config,
        ..options()
    })
}

fn info(scene: &Scene, client: &Peer, field: &str) -> Result<usize> {
    let info = scene.ask(client, "INFO\n")?;
    let line = info
        .split(' ')
        .find_map(|it| it.strip_prefix(field)?.strip_prefix(':'));
    Ok(line.ok_or("there is no such field")?.parse()?)
}

#[test]
fn a_client_that_has_read_a_key_learns_of_its_next_change() -> Result {
    for (setup, read, change) in [
        ("SET k 1", "GET k", "SET k 2"),
        ("SET k 1", "GET k", "DEL k"),
        ("SET k 1", "GET k", "EXPIRE k 100"),
        ("SET k 1", "GET k", "APPEND k 2"),
        ("SET k 1", "GET k", "MOVE k 3"),
        ("SET k 1", "GET k", "MULTI\nSET k 2\nSET k 3\nEXEC"),
        ("SET k 1", "MULTI\nGET k\nEXEC", "SET k 2"),
        ("SET k 1", "MGET a k b", "SET k 2"),
        ("SET l 1", "GET k", "RENAME l k"),
        ("SET k 1", "TYPE k", "RENAME k l"),
        ("SET k 1", "OBJECT ENCODING k", "INCR k"),
        ("SADD k 1", "SINTERCARD 2 a k", "SREM k 1"),
        ("SADD a 1 2 3", "SCARD k", "SUNIONSTORE k a"),
        ("RPUSH k 1", "LRANGE k 0 -1", "LREM k 1 1"),
        ("RPUSH k 3 1", "SORT_RO k", "SORT k STORE k"),
        ("ZADD k 1 a", "ZUNION 2 a k", "ZINCRBY k 1 a"),
        ("HSET k f 1", "HGETALL k", "HSET k f 2"),
        ("PING", "EXISTS k", "SETNX k 1"),
        // They have no reply that a client could keep.
        ("RPUSH k 1 2", "LRANGE k 0 0", "BLPOP k 0"),
    ] {
        let scene = Scene::new()?;
        let (reader, other) = (tracking(&scene, "")?, scene.client()?);
        scene.ask(&other, &format!("{setup}\n"))?;
        scene.ask(&reader, &format!("{read}\n"))?;
        scene.ask(&other, &format!("{change}\n"))?;
        assert_eq!(received(&reader), invalid("k"), "{read}, {change}");
        scene.ask(&other, &format!("{change}\n"))?;
        assert_eq!(received(&reader), "", "it learns of one change");
    }
    Ok(())
}

#[test]
fn what_changes_no_key_and_what_only_writes_invalidates_nothing() -> Result {
    for (read, change) in [
        ("GET k", "GET k"),
        ("GET k", "PERSIST k"),
        ("GET k", "SETNX k 1"),
        ("GET other", "SET k 2"),
        ("GETSET k 1", "SET k 2"),
        ("SORT k", "SET k 2"),
        ("KEYS *", "SET k 2"),
        ("PUBSUB CHANNELS k", "SET k 2"),
        ("SINTERCARD x k", "SET k 2"),
        // As in Redis.
        ("GET k", "SWAPDB 0 1"),
    ] {
        let scene = Scene::new()?;
        let (reader, other) = (tracking(&scene, "")?, scene.client()?);
        scene.ask(&other, "SET k 1\n")?;
        scene.ask(&reader, &format!("{read}\n"))?;
        scene.ask(&other, &format!("{change}\n"))?;
        assert_eq!(received(&reader), "", "{read}, {change}");
    }
    Ok(())
}

#[test]
fn a_key_that_expires_has_changed() -> Result {
    let scene = Scene::new()?;
    let (reader, broadcast) = (tracking(&scene, "")?, tracking(&scene, "BCAST PREFIX l")?);
    scene.ask(&scene.client()?, "SET k 1 PX 100\nSET l 1 PX 100\n")?;
    received(&broadcast);
    scene.ask(&reader, "GET k\n")?;
    scene
        .network
        .advance(&scene.event_loop, Duration::from_millis(200))?;
    assert_eq!(received(&reader), invalid("k"));
    assert_eq!(received(&broadcast), invalid("l"));
    Ok(())
}

#[test]
fn all_keys_change_when_they_are_removed_together() -> Result {
    let scene = Scene::new()?;
    let readers = [
        tracking(&scene, "")?,
        tracking(&scene, "OPTIN")?,
        tracking(&scene, "BCAST PREFIX a NOLOOP")?,
    ];
    let other = scene.client()?;
    for command in ["FLUSHALL", "FLUSHDB ASYNC"] {
        scene.ask(&readers[0], "GET k\n")?;
        scene.ask(&other, &format!("SET b 1\n{command}\nSET k 1\n"))?;
        for reader in &readers {
            assert_eq!(received(reader), ALL);
        }
    }
    let reply = scene.ask(&readers[0], "MULTI\nFLUSHALL\nPING\nEXEC\nPING\n")?;
    assert_eq!(
        reply,
        format!("+OK +QUEUED +QUEUED *2 +OK +PONG {ALL}+PONG ")
    );
    Ok(())
}

/// Between its replies, as in Redis: a client that has its reply has the invalidation, too.
#[test]
fn an_invalidation_of_the_client_itself_follows_its_reply() -> Result {
    let scene = Scene::new()?;
    let client = tracking(&scene, "")?;
    let k = invalid("k");
    for (script, wanted) in [
        ("GET k\nSET k 1\nGET k\n", format!("_ +OK {k}$1 1 ")),
        (
            "GET k\nMULTI\nSET k 2\nGET k\nSET k 3\nEXEC\nPING\n",
            format!("$1 1 +OK +QUEUED +QUEUED +QUEUED *3 +OK $1 2 +OK {k}{k}+PONG "),
        ),
        (
            "GET k\nCLIENT REPLY OFF\nDEL k\nCLIENT REPLY ON\n",
            format!("$1 3 {k}+OK "),
        ),
    ] {
        assert_eq!(scene.ask(&client, script)?, wanted, "{script}");
    }
    let client = tracking(&scene, "NOLOOP")?;
    let reply = scene.ask(&client, "GET k\nSET k 1\nGET k\n")?;
    assert_eq!(reply, "_ +OK $1 1 ");
    scene.ask(&scene.client()?, "SET k 2\n")?;
    assert_eq!(received(&client), k);
    Ok(())
}

#[test]
fn client_caching_is_for_the_next_request_or_transaction() -> Result {
    for (options, answer, is_tracked_without) in [("OPTIN", "YES", false), ("OPTOUT", "NO", true)] {
        for (script, is_next) in [
            ("GET k", true),
            ("CLIENT GETNAME\nCLIENT ID\nGET k", true),
            ("MULTI\nPING\nGET k\nEXEC", true),
            ("PING\nGET k", false),
            ("NOSUCH\nGET k", false),
            ("MULTI\nEXEC\nGET k", false),
        ] {
            let scene = Scene::new()?;
            let client = tracking(&scene, options)?;
            scene.ask(&client, &format!("CLIENT CACHING {answer}\n{script}\n"))?;
            scene.ask(&scene.client()?, "SET k 1\n")?;
            let is_tracked = received(&client) == invalid("k");
            assert_eq!(
                is_tracked,
                is_next != is_tracked_without,
                "{options}, {script}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_client_in_broadcasting_mode_learns_of_the_keys_with_its_prefixes() -> Result {
    let scene = Scene::new()?;
    let all = tracking(&scene, "BCAST")?;
    let some = tracking(&scene, "BCAST PREFIX user: PREFIX x")?;
    let own = tracking(&scene, "BCAST PREFIX user: NOLOOP")?;
    let other = scene.client()?;
    // All of a turn are one message, in no order.
    scene.ask(
        &other,
        "SET user:1 1\nSET user:1 2\nSET z 1\nSET use 1\nSET x 1\n",
    )?;
    let message = received(&all);
    assert!(message.starts_with(">2 $10 invalidate *4 "), "{message}");
    let message = received(&some);
    let (user, x) = (invalid("user:1"), invalid("x"));
    assert_eq!(message, user.clone() + &x);
    assert_eq!(received(&own), user);
    // It has written one of two.
    own.send("SET user:1 3\r\n");
    other.send("SET user:2 3\r\n");
    scene.network.settle(&scene.event_loop)?;
    let message = received(&own);
    assert!(
        message.ends_with(&invalid("user:2")) && !message.contains("user:1"),
        "{message}"
    );
    received(&some);
    // It has no more than its new prefixes.
    scene.ask(&some, "CLIENT TRACKING ON BCAST PREFIX y\n")?;
    scene.ask(&other, "SET y 1\n")?;
    assert_eq!(received(&some), invalid("y"));
    scene.ask(&some, "CLIENT TRACKING OFF\n")?;
    scene.ask(&other, "SET y 1\nSET user:3 1\n")?;
    assert_eq!(received(&some), "");
    Ok(())
}

#[test]
fn another_client_gets_the_invalidations_with_either_version_of_the_protocol() -> Result {
    let scene = Scene::new()?;
    let (two, three, other) = (scene.client()?, scene.client()?, scene.client()?);
    scene.ask(&two, "SUBSCRIBE __redis__:invalidate\n")?;
    scene.ask(&three, "HELLO 3\n")?;
    let message = "*3 $7 message $20 __redis__:invalidate ";
    for (id, receiver, key, all) in [
        (
            1,
            &two,
            format!("{message}*1 $1 k "),
            format!("{message}$-1 "),
        ),
        (2, &three, invalid("k"), ALL.to_owned()),
    ] {
        for version in [2, 3] {
            let client = scene.client()?;
            scene.ask(
                &client,
                &format!("HELLO {version}\nCLIENT TRACKING ON REDIRECT {id}\n"),
            )?;
            let redirect = scene.ask(&client, "CLIENT GETREDIR\n")?;
            assert_eq!(redirect, format!(":{id} "));
            scene.ask(&client, "GET k\n")?;
            scene.ask(&other, "SET k 1\n")?;
            assert_eq!(received(receiver), key);
            scene.ask(&client, "GET k\nSET k 1\n")?;
            assert_eq!(received(receiver), key);
            scene.ask(&other, "FLUSHALL\n")?;
            assert_eq!(received(receiver), all);
            assert_eq!(received(&client), "");
            let line = scene.ask(&client, "CLIENT INFO\n")?;
            assert!(
                line.contains(" flags=t ") && line.contains(&format!(" redir={id} ")),
                "{line}"
            );
            client.finish();
        }
    }
    // Without another client, one with version 2 gets none.
    let client = scene.client()?;
    scene.ask(&client, "CLIENT TRACKING ON\nGET k\n")?;
    scene.ask(&other, "SET k 1\n")?;
    assert_eq!(received(&client), "");
    Ok(())
}

#[test]
fn a_client_learns_that_the_other_one_has_left() -> Result {
    let scene = Scene::new()?;
    let (receiver, other) = (scene.client()?, scene.client()?);
    let client = tracking(&scene, "REDIRECT 1")?;
    scene.ask(&client, "GET a\nGET b\nGET c\n")?;
    receiver.reset();
    for key in ["a", "b"] {
        scene.ask(&other, &format!("SET {key} 1\n"))?;
        assert_eq!(received(&client), ">2 $21 tracking-redir-broken :1 ");
    }
    let reply = scene.ask(&client, "CLIENT TRACKINGINFO\nCLIENT INFO\n")?;
    assert!(
        reply
            .starts_with("%3 $5 flags ~2 $2 on $15 broken_redirect $8 redirect :1 $8 prefixes *0 "),
        "{reply}"
    );
    assert!(
        reply.contains(" flags=tR ") && reply.contains(" redir=1 "),
        "{reply}"
    );
    scene.ask(&client, "CLIENT TRACKING ON\n")?;
    scene.ask(&other, "SET c 1\n")?;
    assert_eq!(received(&client), invalid("c"));
    Ok(())
}

/// A reply that waits for the disk is not overtaken, also on another connection.
#[test]
fn an_invalidation_follows_the_reply_with_the_old_value() -> Result {
    let disk = Disk::log()?;
    let scene = &disk.scene;
    let (receiver, other) = (scene.client()?, scene.client()?);
    scene.ask(&receiver, "SUBSCRIBE __redis__:invalidate\n")?;
    let (client, redirecting) = (tracking(scene, "")?, tracking(scene, "REDIRECT 1")?);
    assert_eq!(scene.ask(&other, "SET a 1\n")?, "");
    for reader in [&client, &redirecting] {
        assert_eq!(scene.ask(reader, "GET a\n")?, "", "it waits");
    }
    assert_eq!(scene.ask(&other, "SET a 2\n")?, "");
    for peer in [&client, &redirecting, &receiver] {
        assert_eq!(received(peer), "");
    }
    let disk = disk.works();
    disk.expect(&client, &format!("$1 1 {}", invalid("a")))?;
    disk.expect(&redirecting, "$1 1 ")?;
    disk.expect(&receiver, "*3 $7 message $20 __redis__:invalidate *1 $1 a ")?;
    disk.expect(&other, "+OK +OK ")
}

/// It does not read the reply that is sent before.
#[test]
fn an_invalidation_for_another_connection_waits_for_a_client_that_does_not_read() -> Result {
    let scene = Scene::new()?;
    let (receiver, other) = (scene.client()?, scene.client()?);
    scene.ask(&receiver, "HELLO 3\n")?;
    let client = tracking(&scene, "REDIRECT 1")?;
    let long = "x".repeat(60_000);
    scene.ask(&other, &format!("SET long {long}\nSET k 1\n"))?;
    client.stop_reading();
    client.send("GET long\r\nGET long\r\nGET long\r\nGET k\r\n");
    scene.network.settle(&scene.event_loop)?;
    scene.ask(&other, "SET k 2\n")?;
    scene.ask(&other, "SET long 1\n")?;
    assert_eq!(received(&receiver), "");
    client.start_reading(usize::MAX);
    scene.network.settle(&scene.event_loop)?;
    assert!(received(&client).ends_with("$1 1 "));
    assert_eq!(received(&receiver), invalid("k") + &invalid("long"));
    Ok(())
}

#[test]
fn what_is_made_in_parts_invalidates_when_it_is_stored() -> Result {
    let scene = Scene::new()?;
    let (reader, writer) = (tracking(&scene, "")?, tracking(&scene, "")?);
    let members: String = (0..5_000).map(|it| format!(" {it}")).collect();
    scene.ask(&writer, &format!("SADD a{members}\nGET k\n"))?;
    scene.ask(&reader, "SCARD k\n")?;
    let reply = scene.ask(&writer, "SUNIONSTORE k a\n")?;
    assert!(
        reply == format!("{}:5000 ", invalid("k")) || reply == format!(":5000 {}", invalid("k")),
        "{reply}"
    );
    assert_eq!(received(&reader), invalid("k"));
    Ok(())
}

/// A client that waits for an element changes the key, too.
#[test]
fn an_element_for_a_client_that_waits_invalidates_its_key() -> Result {
    let scene = Scene::new()?;
    let (waiting, other) = (scene.client()?, scene.client()?);
    let reader = tracking(&scene, "")?;
    scene.ask(&waiting, "BLMOVE k l LEFT LEFT 0\n")?;
    scene.ask(&reader, "LLEN k\nLLEN l\n")?;
    scene.ask(&other, "RPUSH k 1\n")?;
    assert_eq!(received(&reader), invalid("k") + &invalid("l"));
    Ok(())
}

/// Each part of the deliveries is short.
#[test]
fn very_many_readers_learn_of_a_change_in_several_turns() -> Result {
    const READERS: usize = 1_000;
    let scene = Scene::new()?;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let reader = scene.client()?;
        reader.send("HELLO 3\r\nCLIENT TRACKING ON\r\nGET k\r\n");
        readers.push(reader);
    }
    scene.network.settle(&scene.event_loop)?;
    readers.iter().for_each(|it| drop(it.take_received()));
    let (writer, other) = (scene.client()?, scene.client()?);
    assert_eq!(info(&scene, &other, "tracking_clients")?, READERS);
    assert_eq!(info(&scene, &other, "tracking_total_keys")?, 1);
    assert_eq!(info(&scene, &other, "tracking_total_items")?, READERS);
    for (script, wanted) in [("SET k 1\r\n", &*invalid("k")), ("FLUSHALL\r\n", ALL)] {
        writer.send(script);
        while received(&writer).is_empty() {
            scene.event_loop.run_once(Duration::ZERO)?;
        }
        other.send("PING\r\n");
        while received(&other).is_empty() {
            scene.event_loop.run_once(Duration::ZERO)?;
        }
        let messages: Vec<String> = readers.iter().map(received).collect();
        let waiting = messages.iter().filter(|it| it.is_empty()).count();
        assert!(waiting > 0, "the other client has waited for all");
        scene.network.settle(&scene.event_loop)?;
        for (message, reader) in messages.into_iter().zip(&readers) {
            assert_eq!(message + &received(reader), wanted);
        }
    }
    Ok(())
}

#[test]
fn the_table_gives_up_keys_with_an_invalidation() -> Result {
    let scene = scene_with("tracking-table-max-keys", "10")?;
    let (reader, other) = (tracking(&scene, "")?, scene.client()?);
    let mut known = 0;
    for number in 0..500 {
        let reply = scene.ask(&reader, &format!("GET k{number}\n"))?;
        known += 1;
        known -= reply.matches("invalidate").count();
        assert_eq!(known, (number + 1).min(10), "{reply}");
        assert_eq!(info(&scene, &other, "tracking_total_keys")?, known);
    }
    // A lower limit applies at once, and a higher one later.
    scene.ask(&other, "CONFIG SET tracking-table-max-keys 3\n")?;
    assert_eq!(received(&reader).matches("invalidate").count(), 7);
    scene.ask(&other, "CONFIG SET tracking-table-max-keys 0\n")?;
    let keys: String = (0..2_000).map(|it| format!(" {it}")).collect();
    scene.ask(&reader, &format!("EXISTS{keys}\n"))?;
    assert_eq!(info(&scene, &other, "tracking_total_keys")?, 2_003);
    Ok(())
}

#[test]
fn the_memory_of_the_table_has_a_limit() -> Result {
    let scene = scene_with("maxmemory-clients", "200kb")?;
    let (reader, other) = (tracking(&scene, "")?, scene.client()?);
    for begun in (0..30_000).step_by(1_000) {
        let keys: String = (begun..begun + 1_000).map(|it| format!(" {it}")).collect();
        scene.ask(&reader, &format!("EXISTS{keys}\n"))?;
        let keys = info(&scene, &other, "tracking_total_keys")?;
        assert!(keys <= 3_000, "{keys} keys");
    }
    assert!(!reader.has_ended());
    // Clients that come and go leave nothing but that.
    for _ in 0..100 {
        let client = tracking(&scene, "")?;
        let keys: String = (0..500).map(|it| format!(" {it}")).collect();
        scene.ask(&client, &format!("EXISTS{keys}\n"))?;
        client.reset();
    }
    let items = info(&scene, &other, "tracking_total_items")?;
    assert!(items < 20_000, "{items} items");
    reader.reset();
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(info(&scene, &other, "tracking_total_items")?, 0);
    Ok(())
}

#[test]
fn the_prefixes_of_a_client_count_as_what_it_retains() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    scene.ask(&client, "CLIENT TRACKING ON BCAST PREFIX a PREFIX b\n")?;
    let retained = || scene.shared.lock().retained;
    assert!(retained() > 0);
    assert_eq!(info(&scene, &client, "tracking_total_prefixes")?, 2);
    let reply = scene.ask(&client, "CLIENT TRACKINGINFO\n")?;
    assert_eq!(
        reply,
        "*6 $5 flags *2 $2 on $5 bcast $8 redirect :0 $8 prefixes *2 $1 a $1 b "
    );
    assert!(scene.ask(&client, "CLIENT INFO\n")?.contains(" flags=tB "));
    assert_eq!(scene.ask(&client, "RESET\n")?, "+RESET ");
    assert_eq!(retained(), 0);
    let reply = scene.ask(&client, "CLIENT TRACKINGINFO\n")?;
    assert_eq!(
        reply,
        "*6 $5 flags *1 $3 off $8 redirect :-1 $8 prefixes *0 "
    );
    // A client has 1000 of them at most.
    let prefixes = |range: std::ops::Range<usize>| -> String {
        range.map(|it| format!(" PREFIX {it:04}")).collect()
    };
    let track = |range| format!("CLIENT TRACKING ON BCAST{}\n", prefixes(range));
    assert_eq!(scene.ask(&client, &track(0..1_000))?, "+OK ");
    let refused = "-ERR too many prefixes (1000 at most, with 64 KB together) ";
    assert_eq!(scene.ask(&client, &track(1_000..1_001))?, refused);
    assert_eq!(scene.ask(&client, "CLIENT TRACKING OFF\n")?, "+OK ");
    let long = format!("CLIENT TRACKING ON BCAST PREFIX {}\n", "x".repeat(65_000));
    assert_eq!(
        scene.ask(&client, &format!("{long}CLIENT TRACKING OFF\n"))?,
        "+OK +OK "
    );
    // A prefix with 1000 others.
    scene.ask(&client, &track(0..1_000))?;
    scene.ask(&scene.client()?, "SET 0777:x 1\nSET 077 1\n")?;
    scene.ask(&client, "HELLO 3\n")?;
    scene.ask(&scene.client()?, "SET 0777:x 1\nSET 077 1\n")?;
    assert_eq!(received(&client), invalid("0777:x"));
    Ok(())
}

/// More keys than are noted.
#[test]
fn very_many_changed_keys_are_all_keys() -> Result {
    let scene = Scene::new()?;
    let client = tracking(&scene, "BCAST")?;
    let other = scene.client()?;
    for (number, wanted) in [(1_000, ">2 $10 invalidate *1000 "), (80_000, ALL)] {
        let pairs = (0..number).map(|it| {
            let key = format!("k{it}");
            format!("${}\n{key}\n$1\nx\n", key.len())
        });
        let pairs: String = pairs.collect();
        scene.ask(&other, &format!("*{}\n$4\nMSET\n{pairs}", 2 * number + 1))?;
        let message = received(&client);
        assert!(message.starts_with(wanted), "{:?}", message.get(..60));
    }
    Ok(())
}

/// It gets what it has not asked for.
#[test]
fn the_invalidations_of_a_client_that_does_not_read_have_the_limit_of_messages() -> Result {
    let scene = scene_with("client-output-buffer-limit", "pubsub 100kb 0 0")?;
    let (client, other) = (tracking(&scene, "BCAST")?, scene.client()?);
    client.stop_reading();
    for number in 0..10_000 {
        if client.has_ended() {
            break;
        }
        scene.ask(&other, &format!("SET {number}:{} 1\n", "k".repeat(1_000)))?;
    }
    assert!(client.has_ended() && !other.has_ended());
    Ok(())
}

#[test]
fn a_key_that_waits_for_its_readers_is_tracked_again_meanwhile() -> Result {
    let scene = Scene::new()?;
    let readers: Vec<Peer> = (0..300)
        .map(|_| tracking(&scene, ""))
        .collect::<Result<_>>()?;
    let other = scene.client()?;
    for round in 0..5 {
        for reader in &readers {
            reader.send("GET k\r\n");
        }
        other.send("SET k 1\r\n".repeat(3));
        scene.network.settle(&scene.event_loop)?;
        for reader in &readers {
            let all = received(reader);
            let is_last = |it: &str| all.ends_with(it);
            // Who has read the last value may keep it.
            let may_keep = is_last("$1 1 ") || is_last("_ ") && round == 0;
            assert!(may_keep || is_last(&invalid("k")), "{all}");
        }
        scene.ask(&other, "DEL k\n")?;
        for reader in &readers {
            received(reader);
        }
        assert_eq!(info(&scene, &other, "tracking_total_items")?, 0);
        scene.ask(&other, "SET k 1\n")?;
    }
    Ok(())
}

/// The client has changed nothing: the time of the key was over when it looked.
#[test]
fn a_client_that_finds_a_key_expired_does_not_count_as_the_one_that_has_changed_it() -> Result {
    for options in ["NOLOOP", "BCAST NOLOOP"] {
        let scene = Scene::new()?;
        let (client, other) = (tracking(&scene, options)?, scene.client()?);
        for find in ["GET k\n", "SUNIONSTORE d k\n"] {
            scene.ask(&other, "DEL k\nSADD k 1\nPEXPIRE k 100\n")?;
            scene.ask(&client, "SMEMBERS k\n")?;
            received(&client);
            // Nobody has removed it before the client looks for it.
            set_clock_forward(Duration::from_millis(200));
            let reply = scene.ask(&client, find)?;
            assert!(reply.contains(&invalid("k")), "{options}, {find}: {reply}");
        }
        // Also if it changes the key itself, and what it adds is not all that has changed.
        scene.ask(&other, "DEL k\nHSET k a 1 b 2\nPEXPIRE k 100\n")?;
        scene.ask(&client, "HGETALL k\n")?;
        received(&client);
        set_clock_forward(Duration::from_millis(200));
        let reply = scene.ask(&client, "HSET k a 5\n")?;
        assert!(reply.contains(&invalid("k")), "{options}: {reply}");
        scene.ask(&other, "DEL k\n")?;
        received(&client);
        // What it has found instead is a copy, too.
        scene.ask(&client, "GET k\n")?;
        scene.ask(&other, "SET k 2\n")?;
        assert_eq!(received(&client), invalid("k"), "{options}");
    }
    Ok(())
}

#[test]
fn what_a_client_that_has_waited_changes_is_not_changed_by_the_one_that_has_pushed() -> Result {
    for options in ["NOLOOP", "BCAST NOLOOP"] {
        let scene = Scene::new()?;
        let (client, waiting) = (tracking(&scene, options)?, scene.client()?);
        scene.ask(&client, "LRANGE dst 0 -1\n")?;
        scene.ask(&waiting, "BLMOVE src dst LEFT LEFT 0\n")?;
        let reply = scene.ask(&client, "LPUSH src x\n")?;
        let has_learned = reply.contains("invalidate") && reply.contains(" dst ");
        assert!(has_learned, "{options}: {reply}");
        assert_eq!(received(&waiting), "$1 x ");
    }
    Ok(())
}

/// Each time begins where the last one has come to.
#[test]
fn all_clients_learn_of_a_change_although_all_keys_are_removed_again_and_again() -> Result {
    const READERS: usize = 500;
    let scene = Scene::new()?;
    let other = scene.client()?;
    let readers: Vec<_> = (0..READERS)
        .map(|_| tracking(&scene, ""))
        .collect::<Result<_>>()?;
    let mut unaware: Vec<_> = readers.iter().collect();
    // A turn delivers fewer than all, and the next time begins at once.
    for _ in 0..2 * READERS / 100 {
        other.send("FLUSHALL\r\n");
        while received(&other).is_empty() {
            scene.event_loop.run_once(Duration::ZERO)?;
        }
    }
    unaware.retain(|reader| received(reader).is_empty());
    assert_eq!(unaware.len(), 0);
    Ok(())
}

#[test]
fn invalidations_for_another_connection_wait_for_a_second_at_most() -> Result {
    for leaves in [false, true] {
        let scene = Scene::new()?;
        let (receiver, other) = (scene.client()?, scene.client()?);
        scene.ask(&receiver, "HELLO 3\n")?;
        let client = tracking(&scene, "REDIRECT 1")?;
        let long = "x".repeat(60_000);
        scene.ask(&other, &format!("SET long {long}\nSET k 1\nSET l 1\n"))?;
        client.stop_reading();
        client.send("GET long\r\nGET long\r\nGET long\r\nGET k\r\nGET l\r\n");
        scene.network.settle(&scene.event_loop)?;
        scene.ask(&other, "SET k 2\n")?;
        assert_eq!(received(&receiver), "");
        if leaves {
            scene.ask(&other, "SET l 2\n")?;
            client.reset();
        }
        let second = Duration::from_secs(1);
        scene.network.advance(&scene.event_loop, second)?;
        let mut wanted = [invalid("k"), invalid("l")];
        if !leaves {
            assert_eq!(received(&receiver), wanted[0]);
            scene.ask(&other, "SET l 2\n")?;
            scene.network.advance(&scene.event_loop, second)?;
            wanted[0].clear();
        }
        let messages = received(&receiver);
        assert_eq!(messages.len(), wanted.concat().len(), "{messages}");
        assert!(wanted.iter().all(|it| messages.contains(&**it)));
    }
    Ok(())
}

#[test]
fn a_request_with_very_many_keys_gives_up_all_keys_at_once() -> Result {
    let scene = scene_with("tracking-table-max-keys", "10")?;
    let client = tracking(&scene, "")?;
    let keys: String = (0..20_000).map(|number| format!(" k{number}")).collect();
    let reply = scene.ask(&client, &format!("MGET{keys}\n"))?;
    assert!(reply.matches("invalidate").count() <= 10_000);
    assert!(reply.ends_with(ALL) || reply.contains(ALL));
    Ok(())
}
