//! Long commands and large collections, which delay no other client.

use std::sync::Arc;
use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Peer;

use crate::scene::{Scene, received};
use crate::store::list::List;

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

/// The time is looked at after each command that may take long.
#[test]
fn a_turn_ends_behind_one_request_that_takes_long() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    scene.ask(&client, &format!("RPUSH l{}\n", numbers(0..900)))?;
    let commands = "SORT l LIMIT 0 0\r\n".repeat(50);
    // The requests behind the first one are executed in the same turn, when the others have been served.
    let transactions = format!("MULTI\r\n{commands}EXEC\r\n").repeat(2);
    client.send(format!("{transactions}PING\r\n"));
    let mut replies = String::new();
    while replies.matches("*50 ").count() < 2 {
        scene.event_loop.run_once(Duration::ZERO)?;
        replies += &received(&client);
    }
    assert!(replies.ends_with("*0 "), "EXEC and PING had the same turn");
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(received(&client), "+PONG ");
    Ok(())
}

/// A turn that has ended behind a slow command goes on when its replies are sent, and not before.
#[test]
fn slow_commands_of_a_client_that_does_not_read_are_not_executed() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let elements: String = (100..1_000)
        .map(|number| format!(" {number}{:030}", 0))
        .collect();
    scene.ask(&client, &format!("RPUSH l{elements}\n"))?;
    client.stop_reading();
    let slow = "SORT l LIMIT 0 0\r\n".repeat(50);
    let transaction = format!("MULTI\r\n{slow}LRANGE l 0 -1\r\nEXEC\r\n");
    client.send(transaction.repeat(40));
    scene.network.settle(&scene.event_loop)?;
    let queued = scene.queued();
    assert!(queued < 512 << 10, "{queued} bytes");
    client.start_reading(usize::MAX);
    let replies = scene.ask(&client, "")?;
    assert_eq!(replies.matches("*900 ").count(), 40);
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
        "SRANDMEMBER s 500".to_owned(),
        "HRANDFIELD h 500 WITHVALUES".to_owned(),
        "ZRANDMEMBER z -500".to_owned(),
        "ZRANDMEMBER z 500 WITHSCORES".to_owned(),
        "SUNION s s".to_owned(),
        "SSCAN s 0 COUNT 1000".to_owned(),
        "HSCAN h 0 COUNT 1000".to_owned(),
        "ZSCAN z 0 COUNT 1000".to_owned(),
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
        let elements = reply.strip_prefix("*2 $1 0 ").unwrap_or(&reply);
        assert!(
            elements.starts_with("*500 $") || elements.starts_with("*1000 $"),
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

/// Otherwise each change of any key would copy a part of the table, and the old values would stay.
#[test]
fn a_long_mget_shares_its_values_and_not_all_keys() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let other = scene.client()?;
    let values: String = (0..500)
        .map(|number| format!("SET k{number} {number}{}\n", "x".repeat(900)))
        .collect();
    scene.ask(&client, &values)?;
    scene.ask(&client, &format!("APPEND k0 {}\n", "y".repeat(10_000)))?;
    client.stop_reading();
    let keys: String = (0..500).map(|number| format!(" k{number}")).collect();
    client.send(format!("MGET{keys} none list{}\r\n", " k0".repeat(500)));
    scene.network.settle(&scene.event_loop)?;
    let is_table_shared = {
        let mut data = scene.shared.lock();
        data.keyspace.database(0).table().is_shared()
    };
    assert!(!is_table_shared);
    // What is read later is what was there.
    let changes: String = (0..500)
        .map(|number| format!("SET k{number} new\n"))
        .collect();
    scene.ask(&other, &format!("RPUSH list a\n{changes}"))?;
    let counted = scene.shared.results.total();
    assert!((380_000..600_000).contains(&counted), "{counted}");
    client.start_reading(usize::MAX);
    let reply = scene.ask(&client, "PING\n")?;
    assert!(reply.starts_with("*1002 $10901 0xxx") && reply.ends_with("yyy +PONG "));
    for number in 1..500 {
        assert!(reply.contains(&format!(" {number}xxx")), "{number}");
    }
    assert_eq!(
        (reply.matches("yyy ").count(), reply.matches("$-1 ").count()),
        (501, 2)
    );
    assert_eq!(scene.shared.results.total(), 0);
    scene.ask(
        &other,
        &format!("{values}CONFIG SET maxmemory-clients 100kb\n"),
    )?;
    // What follows is not taken for the rest of the reply.
    let transaction = format!("MULTI\nMGET{keys}\nINCR counter\nEXEC\n");
    for (script, client) in [
        (format!("MGET{keys}\nINCR counter\n"), client),
        (transaction, scene.client()?),
    ] {
        let reply = scene.ask(&client, &script)?;
        // The reset follows what was sent.
        scene
            .network
            .advance(&scene.event_loop, Duration::from_secs(1))?;
        assert!(
            client.ended().is_some() && !reply.contains(":1 "),
            "{reply:.80}"
        );
        assert_eq!(scene.shared.results.total(), 0);
    }
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

pub fn numbers(of: std::ops::Range<usize>) -> String {
    of.map(|number| format!(" {number}")).collect()
}

/// Makes a list, a set, a sorted set and a hash of 20,000 elements.
pub fn fill(scene: &Scene, client: &Peer) -> Result {
    for part in 0..10 {
        let range = part * 2_000..(part + 1) * 2_000;
        let pairs: String = range.clone().map(|it| format!(" {it} {it}")).collect();
        let elements = numbers(range);
        let script = format!("RPUSH l{elements}\nSADD s{elements}\nZADD z{pairs}\nHSET h{pairs}\n");
        scene.ask(client, &script)?;
    }
    scene.ask(client, "EXPIRE z 100\n")?;
    Ok(())
}

/// Lets the loop run until a client has received something, and returns how many turns that has taken.
pub fn turns_until_reply(scene: &Scene, client: &Peer) -> Result<(usize, String)> {
    for turns in 1..10_000 {
        scene.event_loop.run_once(Duration::ZERO)?;
        let mut reply = client.take_received();
        if !reply.is_empty() {
            scene.network.settle(&scene.event_loop)?;
            reply.extend(client.take_received());
            return Ok((turns, String::from_utf8(reply)?.replace("\r\n", " ")));
        }
    }
    Err("there is no reply".into())
}

/// A reply that is open shares the elements with the list: a write copies a part of them.
#[test]
fn a_write_to_a_list_that_a_reply_contains_copies_a_part_of_it() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    for part in 0..20 {
        let from = part * 5_000;
        scene.ask(&other, &format!("RPUSH l{}\n", numbers(from..from + 5_000)))?;
    }
    client.stop_reading();
    client.send("LRANGE l 0 -1\r\n");
    scene.network.settle(&scene.event_loop)?;
    let shared = |scene: &Scene| -> Result<Arc<List>> {
        let mut data = scene.shared.lock();
        let found = data.keyspace.database(0).list(b"l");
        let list = found.map_err(|_| "another type")?.ok_or("no such key")?;
        Ok(Arc::clone(list))
    };
    let before = shared(&scene)?;
    let script = "LSET l 50000 x\nRPUSH l x\nLPUSH l x\nLINSERT l BEFORE 70000 x\nLREM l 1 x\n";
    assert_eq!(
        scene.ask(&other, script)?,
        "+OK :100001 :100002 :100003 :1 "
    );
    let after = shared(&scene)?;
    let is_same = |index: &usize| {
        let pair = (before.get(*index), after.get(*index));
        matches!(pair, (Some(a), Some(b)) if std::ptr::eq(a, b))
    };
    let same = (0..100_000).filter(is_same).count();
    assert!(same > 30_000, "{same} elements are where they were");
    client.start_reading(usize::MAX);
    let reply = scene.ask(&client, "PING\n")?;
    assert!(reply.starts_with("*100000 $1 0 $1 1 ") && reply.ends_with(" $5 99999 +PONG "));
    Ok(())
}

/// While each of these commands works, another client is served.
#[test]
fn long_commands_take_several_turns_and_have_the_outcome_of_short_ones() -> Result {
    for (command, then, wanted) in [
        ("LREM l 0 7", "LLEN l\nLINDEX l 7", ":1 :19999 $1 8 "),
        ("LREM l -1 3", "LLEN l\nLINDEX l -1", ":1 :19999 $5 19999 "),
        ("LREM l 1 x", "LLEN l", ":0 :20000 "),
        (
            "LINSERT l AFTER 15000 x",
            "LINDEX l 15001\nLINDEX l 15002",
            ":20001 $1 x $5 15001 ",
        ),
        ("LINSERT l BEFORE x y", "LLEN l", ":-1 :20000 "),
        ("LPOS l 19000", "LLEN l", ":19000 :20000 "),
        ("LPOS l 900 RANK -1 COUNT 0", "LLEN l", "*1 :900 :20000 "),
        ("LPOS l 19000 MAXLEN 18000", "LLEN l", "$-1 :20000 "),
        (
            "ZRANGESTORE z2 z 0 14999",
            "ZCARD z2\nZSCORE z2 14999",
            ":15000 :15000 $5 14999 ",
        ),
    ] {
        let scene = Scene::new()?;
        let (client, other) = (scene.client()?, scene.client()?);
        fill(&scene, &client)?;
        client.send(format!("{command}\r\n"));
        let (turns, mut reply) = turns_until_reply(&scene, &client)?;
        assert!(turns > 3, "{command}: {turns} turns");
        reply += &scene.ask(&client, &format!("{then}\n"))?;
        assert_eq!(reply, wanted, "{command}");
        assert_eq!(scene.ask(&other, "PING\n")?, "+PONG ");
    }
    Ok(())
}

#[test]
fn many_arbitrary_members_are_different_and_popped_ones_are_gone() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let elements = |reply: &str| -> (String, Vec<String>) {
        let (head, rest) = reply.split_once(' ').unwrap_or((reply, ""));
        let texts = rest.split(' ').skip(1).step_by(2);
        (head.to_owned(), texts.map(str::to_owned).collect())
    };
    let distinct = |mut all: Vec<String>| {
        all.sort();
        all.dedup();
        all.len()
    };
    fill(&scene, &client)?;
    for (command, number) in [
        ("SRANDMEMBER s 19000", 19_000),
        ("SRANDMEMBER s 5000", 5_000),
        ("SRANDMEMBER s 30000", 20_000),
        ("HRANDFIELD h 15000", 15_000),
        ("HRANDFIELD h 10", 10),
        ("ZRANDMEMBER z 15000", 15_000),
        ("ZRANDMEMBER z 30000", 20_000),
        ("ZRANDMEMBER z 10", 10),
    ] {
        let (head, found) = elements(&scene.ask(&client, &format!("{command}\n"))?);
        assert_eq!(
            (head, found.len()),
            (format!("*{number}"), number),
            "{command}"
        );
        assert_eq!(distinct(found), number, "{command}");
    }
    client.send("SPOP s 12000\r\n");
    let (turns, reply) = turns_until_reply(&scene, &client)?;
    assert!(turns > 3, "{turns}");
    let (head, popped) = elements(&reply);
    let (_, left) = elements(&scene.ask(&client, "SMEMBERS s\n")?);
    assert_eq!((head.as_str(), left.len()), ("*12000", 8_000));
    assert_eq!(distinct([popped, left].concat()), 20_000);
    // The highest scores, as pairs with version 3.
    scene.ask(&client, "HELLO 3\n")?;
    let reply = scene.ask(&client, "ZPOPMAX z 18000\nZCARD z\n")?;
    assert!(reply.starts_with("*18000 *2 $5 19999 ,19999 *2 $5 19998 "));
    assert!(reply.ends_with(" *2 $4 2000 ,2000 :2000 "));
    Ok(())
}

/// The result of SORT with BY depends on the keys that the pattern may name.
#[test]
fn a_sort_by_other_keys_is_stored_in_parts_unless_one_of_them_changes() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    fill(&scene, &client)?;
    scene.ask(&client, "MSET w1 -1 w2 -3 w3 -2\n")?;
    let mut expected = "$1 2 $1 3 $1 1 ";
    let mut alone = 0;
    for (change, is_repeated) in [
        ("", false),
        ("MSET other 1 v3 2\r\n", false),
        ("SET w3 -4\r\n", true),
        ("FLUSHALL\r\n", true),
    ] {
        client.send("SORT l BY w* STORE d\r\n");
        scene.event_loop.run_once(Duration::ZERO)?;
        other.send(change);
        let (turns, reply) = turns_until_reply(&scene, &client)?;
        if change.starts_with("FLUSHALL") {
            assert_eq!(reply, ":0 ");
            continue;
        }
        assert_eq!(reply, ":20000 ");
        match change {
            "" => alone = turns,
            _ => assert_eq!(
                turns > alone + 20,
                is_repeated,
                "{change}: {turns}, {alone}"
            ),
        }
        if is_repeated {
            expected = "$1 3 $1 2 $1 1 ";
        }
        let reply = scene.ask(&client, "LRANGE d 0 2\n")?;
        assert_eq!(reply, format!("*3 {expected}"));
    }
    Ok(())
}

/// A string that a reply contains is copied before it is changed.
#[test]
fn a_large_string_that_a_reply_contains_is_changed_in_parts() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    scene.ask(&client, "SETRANGE k 3999999 x\nEXPIRE k 100\n")?;
    client.stop_reading();
    client.send("GET k\r\n");
    scene.network.settle(&scene.event_loop)?;
    for (command, wanted) in [
        ("APPEND k abc", ":4000003 "),
        ("SETRANGE k 13000000 y", ":13000001 "),
        ("SETRANGE new 9000000 y", ":9000001 "),
    ] {
        other.send(format!("{command}\r\n"));
        let (turns, reply) = turns_until_reply(&scene, &other)?;
        assert_eq!(reply, wanted);
        assert!(turns > 3, "{command}: {turns} turns");
    }
    let script = "GETRANGE k 3999998 4000003\nGETRANGE k -2 -1\nSTRLEN new\nTTL k\n";
    assert_eq!(
        scene.ask(&other, script)?,
        "$6 \0xabc\0 $2 \0y :9000001 :100 "
    );
    client.start_reading(usize::MAX);
    let reply = scene.ask(&client, "")?;
    assert!(reply.starts_with("$4000000 ") && reply.ends_with("\0x "));
    Ok(())
}

/// The description of a command is long, and a request may name the command very often.
#[test]
fn descriptions_of_commands_are_made_while_they_are_sent() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    for (request, missing) in [("COMMAND DOCS", ""), ("COMMAND INFO", "$-1 ")] {
        let once = scene.ask(&client, &format!("{request} config\n"))?;
        let description = once.split_once(' ').map_or("", |(_, rest)| rest);
        client.stop_reading();
        client.send(format!("{request}{}\r\n", " config x".repeat(3_000)));
        scene.network.settle(&scene.event_loop)?;
        let queued = scene.queued();
        assert!(queued < 512 * 1024, "{request}: {queued} bytes");
        client.start_reading(usize::MAX);
        let reply = scene.ask(&client, "")?;
        let wanted = format!("{description}{missing}").repeat(3_000);
        // A map has two elements for each, and there is none for a command that is missing.
        assert!(reply == format!("*6000 {wanted}"), "{request}");
    }
    Ok(())
}
