//! No command keeps the loop, and what the workers share, for long, whatever its arguments are.

use std::time::Duration;

use asynchat::Result;

use crate::allocator::allocated;
use crate::long::{fill, turns_until_reply};
use crate::scene::{Scene, received};

/// A request.
pub fn request(args: &[&str]) -> String {
    let head = format!("*{}\r\n", args.len());
    let args = args
        .iter()
        .map(|arg| format!("${}\r\n{arg}\r\n", arg.len()));
    head + &args.collect::<String>()
}

/// What is left of the members takes several turns, and nobody waits for that.
#[test]
fn members_of_a_sorted_set_are_removed_in_one_turn_however_many_they_are() -> Result {
    for (command, reply, left) in [
        (
            "ZREMRANGEBYSCORE z (4999 +inf",
            ":15000 ",
            ":5000 $4 4999 $-1 ",
        ),
        ("ZREMRANGEBYRANK z 5000 -1", ":15000 ", ":5000 $4 4999 $-1 "),
        (
            "ZPOPMAX z 15000",
            "*30000 $5 19999 $5 19999 $5 19998 ",
            ":5000 $4 4999 $-1 ",
        ),
        (
            "ZMPOP 1 z MIN COUNT 15000",
            "*2 $1 z *15000 *2 $1 0 $1 0 ",
            ":5001 $4 4999 $5 19999 ",
        ),
    ] {
        let scene = Scene::new()?;
        let (client, other) = (scene.client()?, scene.client()?);
        fill(&scene, &client)?;
        client.send(format!("{command}\r\n"));
        let (mut turns, mut first) = (0, String::new());
        while first.is_empty() {
            // The set never rests.
            other.send("ZADD z 4999 4999\r\nZINCRBY z 0 4999\r\n");
            scene.event_loop.run_once(Duration::ZERO)?;
            first = received(&client);
            turns += 1;
        }
        assert!(turns < 4, "{command}: {turns} turns");
        assert!(first.starts_with(reply), "{command}: {first:.60}");
        let has_stale = || {
            let mut data = scene.shared.lock();
            let set = data.keyspace.database(0).sorted(b"w").ok().flatten();
            set.is_some_and(|set| set.has_stale())
        };
        // Another name makes no difference.
        received(&other);
        other.send("RENAME z w\r\nZCARD w\r\nZSCORE w 4999\r\nZSCORE w 19999\r\n");
        let (_, mut found) = (scene.event_loop.run_once(Duration::ZERO)?, received(&other));
        let mut turns = 0;
        while has_stale() {
            scene
                .network
                .advance(&scene.event_loop, Duration::from_millis(1))?;
            found += &received(&other);
            turns += 1;
        }
        assert!(turns > 10, "{command}: {turns} milliseconds");
        scene.network.settle(&scene.event_loop)?;
        found += &received(&other);
        assert!(
            found.ends_with(&format!("+OK {left}")),
            "{command}: {found}"
        );
        let script = "ZADD w 9 new\nZSCORE w new\n";
        assert_eq!(
            scene.ask(&other, script)?.split_once(' '),
            Some((":1", "$1 9 "))
        );
    }
    Ok(())
}

#[test]
fn what_is_left_of_a_sorted_set_has_its_expiry_and_an_empty_one_is_gone() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    fill(&scene, &client)?;
    let script = "ZREMRANGEBYSCORE z 10 (19990\nZCARD z\nZRANK z 19990\nTTL z\nZREMRANGEBYLEX z - +\nEXISTS z\n";
    assert_eq!(scene.ask(&client, script)?, ":19980 :20 :10 :100 :20 :0 ");
    fill(&scene, &client)?;
    let script = "ZREMRANGEBYRANK z 0 -1\nEXISTS z\nZADD z 1 5\nZCARD z\n";
    assert_eq!(scene.ask(&client, script)?, ":20000 :0 :1 :1 ");
    Ok(())
}

/// An argument of many bytes is copied once, when it is received.
#[test]
fn a_large_argument_is_stored_and_returned_without_a_copy() -> Result {
    const LEN: usize = 3 << 20;
    let large = "x".repeat(LEN);
    for command in [
        "SET k X",
        "GETSET k X",
        "SETEX k 100 X",
        "MSET k X",
        "APPEND k X",
        "LPUSH l X",
        "RPUSH l X",
        "LPUSHX old X",
        "LSET old 0 X",
        "LINSERT old BEFORE x X",
        "LREM old 1 X",
        "LPOS old X",
        "HSET h f X",
        "HSET h X v",
        "HMSET h f X",
        "HSETNX h f X",
        "SADD s X",
        "SISMEMBER s X",
        "ZADD z 1 X",
        "ZINCRBY z 1 X",
        "ECHO X",
        "PING X",
        "PUBLISH c X",
        "SET k v X",
        "LPOS old x X 1",
        "ZADD z X 1",
        "SCAN 0 X 1",
        "CLIENT KILL X 1",
        "HELLO X",
        "EXPIRE old 1 X",
    ] {
        for begin in ["", "MULTI"] {
            let scene = Scene::new()?;
            let (client, other) = (scene.client()?, scene.client()?);
            scene.ask(&other, "RPUSH old x\n")?;
            scene.ask(&client, &format!("{begin}\n"))?;
            // What it would receive is allocated, too.
            client.stop_reading();
            let words = command
                .split(' ')
                .map(|it| if it == "X" { &large } else { it });
            let request = request(&words.collect::<Vec<_>>());
            let end = request.rfind(&large).map_or(0, |start| start + LEN);
            client.send(&request[..end]);
            scene.network.settle(&scene.event_loop)?;
            client.send(&request[end..]);
            let before = allocated();
            scene.network.settle(&scene.event_loop)?;
            let copied = allocated() - before;
            assert!(copied < LEN / 4, "{begin} {command}: {copied} bytes");
            if !begin.is_empty() {
                client.send("EXEC\r\n");
                let before = allocated();
                scene.network.settle(&scene.event_loop)?;
                let copied = allocated() - before;
                assert!(copied < LEN / 4, "EXEC of {command}: {copied} bytes");
            }
        }
    }
    Ok(())
}

#[test]
fn only_a_value_may_be_very_long() -> Result {
    let long = "x".repeat((8 << 20) + 1);
    let refused = "-ERR an argument is too long (8 MB at most, unless it is a value) ";
    let scene = Scene::new()?;
    let client = scene.client()?;
    client.start_reading(usize::MAX);
    for (command, wanted) in [
        ("SET k X", "+OK "),
        ("SETEX k 100 X", "+OK "),
        ("MSET a 1 b X", "+OK "),
        ("LPUSH l X", ":1 "),
        ("HSET h f 1 g X", ":2 "),
        ("PUBLISH c X", ":0 "),
        ("SET X v", refused),
        ("MSET a 1 X v", refused),
        ("MGET a X", refused),
        ("LPUSH X v", refused),
        ("LMPOP 1 X LEFT", refused),
        ("BLPOP a X 0", refused),
        ("HSET h X v", refused),
        ("HGET h X", refused),
        ("SADD s X", refused),
        ("ZADD z 1 X", refused),
        ("KEYS X", refused),
        ("CLIENT SETNAME X", refused),
        ("PUBLISH X m", refused),
    ] {
        let words = command
            .split(' ')
            .map(|it| if it == "X" { &long } else { it });
        client.send(request(&words.collect::<Vec<_>>()));
        scene.network.settle(&scene.event_loop)?;
        assert_eq!(received(&client), wanted, "{command}");
    }
    Ok(())
}

#[test]
fn a_pattern_has_a_longest_length() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let (most, more) = ("?".repeat(1024), "?".repeat(1025));
    for command in [
        "KEYS @",
        "SCAN 0 MATCH @",
        "SSCAN s 0 MATCH @",
        "PUBSUB CHANNELS @",
        "CONFIG GET @",
        "COMMAND LIST FILTERBY PATTERN @",
        "PSUBSCRIBE @",
    ] {
        scene.ask(&client, "SADD s x\n")?;
        let long = scene.ask(&client, &(command.replace('@', &more) + "\n"))?;
        let wanted = "-ERR the pattern is too long (1024 bytes at most) ";
        assert_eq!(long, wanted, "{command}");
        let short = scene.ask(&client, &(command.replace('@', &most) + "\n"))?;
        assert!(!short.starts_with('-'), "{command}: {short:.60}");
    }
    let args = ["PUBLISH", &"c".repeat(64 * 1024 + 1), "x"];
    let other = scene.client()?;
    other.send(request(&args));
    scene.network.settle(&scene.event_loop)?;
    let wanted = "-ERR the name of the channel is too long (64 KB at most) ";
    assert_eq!(received(&other), wanted);
    Ok(())
}

#[test]
fn a_channel_is_compared_with_many_patterns_in_several_turns() -> Result {
    let scene = Scene::new()?;
    let (subscriber, publisher, other) = (scene.client()?, scene.client()?, scene.client()?);
    for part in 0..30 {
        let names: String = (0..1_000).map(|it| format!(" p{part}.{it}*")).collect();
        scene.ask(&subscriber, &format!("PSUBSCRIBE{names}\n"))?;
    }
    scene.ask(&subscriber, "PSUBSCRIBE ne* p9.7*\nSUBSCRIBE news\n")?;
    publisher.send("PUBLISH news 1\r\nPUBLISH p9.7xy 2\r\nPUBLISH none 3\r\n");
    for _ in 0..4 {
        scene.event_loop.run_once(Duration::ZERO)?;
    }
    assert_eq!(received(&publisher), "", "it is not complete");
    // Others are served meanwhile, and a client that subscribes.
    other.send("PSUBSCRIBE zz*\r\n");
    for _ in 0..2 {
        scene.event_loop.run_once(Duration::ZERO)?;
    }
    assert_eq!(received(&other), "*3 $10 psubscribe $3 zz* :1 ");
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(received(&publisher), ":2 :1 :0 ");
    assert_eq!(
        received(&subscriber),
        "*3 $7 message $4 news $1 1 *4 $8 pmessage $3 ne* $4 news $1 1 \
         *4 $8 pmessage $5 p9.7* $6 p9.7xy $1 2 "
    );
    // A transaction does not wait.
    let script = "MULTI\nPUBLISH news 4\nEXEC\n";
    assert_eq!(scene.ask(&publisher, script)?, "+OK +QUEUED *1 :2 ");
    Ok(())
}

#[test]
fn long_keys_are_searched_in_several_turns() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    for number in 0..200 {
        scene.ask(&client, &format!("SET {number}{} v\n", "x".repeat(20_000)))?;
    }
    client.send("KEYS 7*\r\n");
    let (turns, reply) = turns_until_reply(&scene, &client)?;
    assert!(turns > 10, "{turns} turns");
    assert!(reply.starts_with("*11 $20"), "{reply:.20}");
    let scan = scene.ask(&client, "SCAN 0 MATCH no COUNT 1000\n")?;
    assert!(
        !scan.starts_with("*2 $1 0 "),
        "it has compared all names: {scan}"
    );
    Ok(())
}

/// To compare a name of 8 MB with a long pattern takes more than 100 ms.
#[test]
fn a_long_name_is_compared_in_several_turns() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    let name = "a".repeat(500_000);
    for args in [
        &["SET", &name, "v"][..],
        // SCAN has one key to visit.
        &["SELECT", "1"],
        &["HSET", "h", &name, "1"],
        &["SADD", "s", &name],
        &["ZADD", "z", "2", &name],
    ] {
        client.send(request(args));
        scene.network.settle(&scene.event_loop)?;
        assert!(["+OK ", ":1 "].contains(&&*received(&client)));
    }
    let no = format!("*{}b*", "a".repeat(1_000));
    let yes = format!("*{}", "?".repeat(1_000));
    let (found, with) = (
        format!("*1 $500000 {name} "),
        format!("*2 $500000 {name} $1 "),
    );
    for (database, command, wanted) in [
        (1, "HSCAN h 0 MATCH @", format!("*2 $1 0 {with}1 ")),
        (1, "SSCAN s 0 MATCH @", format!("*2 $1 0 {found}")),
        (1, "ZSCAN z 0 MATCH @", format!("*2 $1 0 {with}2 ")),
        (0, "SCAN 0 MATCH @", format!("*2 $1 0 {found}")),
        (0, "KEYS @", found.clone()),
    ] {
        let selected = scene.ask(&client, &format!("SELECT {database}\n"))?;
        assert_eq!(selected, "+OK ");
        client.send(command.replace('@', &no) + "\r\n");
        let (turns, reply) = turns_until_reply(&scene, &client)?;
        let nothing = ["*0 ", "*2 $1 0 *0 "];
        assert!(nothing.contains(&&*reply), "{command}: {reply:.20}");
        assert!(turns > 10, "{command}: {turns} turns");
        let reply = scene.ask(&client, &(command.replace('@', &yes) + "\n"))?;
        assert!(reply == wanted, "{command}: {reply:.20}");
    }
    // Others are served meanwhile, also if it is in a transaction.
    let script = format!("MULTI\nSCAN 0 MATCH {no}\nDBSIZE\nEXEC\nPING\n");
    client.send(script.replace('\n', "\r\n"));
    for command in ["", "", "DBSIZE\r\n", "", ""] {
        other.send(command);
        scene.event_loop.run_once(Duration::ZERO)?;
    }
    assert_eq!(received(&other), ":1 ");
    let begin = received(&client);
    assert!(!begin.contains("*0"), "{begin}");
    scene.network.settle(&scene.event_loop)?;
    let wanted = "+OK +QUEUED +QUEUED *2 *2 $1 0 *0 :1 +PONG ";
    assert_eq!(begin + &received(&client), wanted);
    Ok(())
}

#[test]
fn many_clients_are_listed_in_several_turns() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let others: Vec<_> = (0..500).map(|_| scene.client()).collect::<Result<_>>()?;
    scene.network.settle(&scene.event_loop)?;
    client.send("CLIENT LIST\r\nPING\r\n");
    let (turns, reply) = turns_until_reply(&scene, &client)?;
    assert!(turns > 3, "{turns} turns");
    assert_eq!(reply.matches("id=").count(), others.len() + 1);
    assert!(reply.ends_with(" +PONG "));
    let few = scene.ask(&client, "CLIENT LIST ID 1 2 99999 2\n")?;
    assert_eq!(few.matches("addr=").count() / 2, 2);
    Ok(())
}

#[test]
fn what_a_request_may_name_at_once_has_a_limit() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let reply = |head: &[&str], number: usize, tail: &[&str]| -> Result<String> {
        let names: Vec<String> = (1..=number).map(|it| it.to_string()).collect();
        let names = names.iter().map(String::as_str);
        let args: Vec<&str> = head
            .iter()
            .copied()
            .chain(names)
            .chain(tail.iter().copied())
            .collect();
        client.send(request(&args));
        scene.network.settle(&scene.event_loop)?;
        Ok(received(&client))
    };
    let keys = "-ERR too many keys for a command that waits (10000 at most) ";
    for (head, tail) in [
        (&["BLPOP"][..], &["0.001"][..]),
        (&["BRPOP"], &["0.001"]),
        (&["BZPOPMIN"], &["0.001"]),
        (&["BZPOPMAX"], &["0.001"]),
        (&["BLMPOP", "0.001", "10001"], &["LEFT"]),
        (&["BZMPOP", "0.001", "10001"], &["MIN"]),
    ] {
        assert_eq!(reply(head, 10_001, tail)?, keys, "{head:?}");
    }
    assert_eq!(reply(&["LMPOP", "10001"], 10_001, &["LEFT"])?, "*-1 ");
    let ids = "-ERR too many client IDs (10000 at most) ";
    assert_eq!(reply(&["CLIENT", "LIST", "ID"], 10_001, &[])?, ids);
    assert_eq!(reply(&["CLIENT", "KILL", "ID"], 10_001, &[])?, ids);
    assert!(reply(&["CLIENT", "LIST", "ID"], 10_000, &[])?.contains("id=1 "));
    let filters = "SKIPME yes ".repeat(33);
    let reply = scene.ask(&client, &format!("CLIENT KILL {filters}\n"))?;
    assert_eq!(reply, "-ERR too many filters (32 at most) ");
    Ok(())
}

/// As in Redis 7.0.
#[test]
fn the_lowest_rank_of_lpos_is_the_last_element_that_matches() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    scene.ask(&client, "RPUSH l x y x\n")?;
    let script = "LPOS l x RANK -9223372036854775808\nLPOS l x RANK -9223372036854775808 COUNT 0\n\
                  LPOS l x RANK -9223372036854775807\n";
    assert_eq!(scene.ask(&client, script)?, ":2 *2 :2 :0 $-1 ");
    Ok(())
}

/// EXEC searches the keys whose time is over, or those of the client, whichever are fewer.
#[test]
fn exec_notices_that_a_watched_key_has_expired_among_few_and_many() -> Result {
    for due in [1, 3_000] {
        let scene = Scene::new()?;
        let other = scene.client()?;
        let script: String = (0..due)
            .map(|it| format!("SET d{it} v PX 1000\n"))
            .collect();
        // The last ones are not removed yet when EXEC comes.
        scene.ask(&other, &(script + "SET z v PX 1000\nSET y v\n"))?;
        let mut clients = Vec::new();
        for (key, reply) in [("z", "*-1 "), ("y", "*1 +PONG ")] {
            for count in [0, 20] {
                let client = scene.client()?;
                let more: String = (0..count).map(|it| format!(" more{it}")).collect();
                let script = format!("WATCH {key}{more}\nMULTI\nPING\n");
                scene.ask(&client, &script)?;
                clients.push((client, reply));
            }
        }
        for (client, _) in &clients {
            client.send("EXEC\r\n");
        }
        scene.network.spend(Duration::from_secs(2));
        scene.network.settle(&scene.event_loop)?;
        for (client, reply) in clients {
            assert_eq!(received(&client), reply, "{due}");
        }
    }
    Ok(())
}
