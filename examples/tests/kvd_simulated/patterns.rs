//! A long pattern makes each comparison longer, so fewer names are compared at a time.

use std::time::Duration;

use asynchat::Result;

use crate::long::turns_until_reply;
use crate::scene::{Scene, received};

/// It is compared with each byte of a name, and never fits.
fn class(last: &str) -> String {
    format!("*[{}]{last}", "x".repeat(1_000))
}

fn names(prefix: &str, count: usize) -> String {
    let names = (0..count).map(|it| format!(" {prefix}{it}"));
    names.collect()
}

/// How many calls of a scan there are until its end.
fn calls(scene: &Scene, command: &str) -> Result<usize> {
    let client = scene.client()?;
    let mut cursor = "0".to_owned();
    for calls in 1..10_000 {
        let call = command.replacen('@', &cursor, 1);
        let reply = scene.ask(&client, &(call + "\n"))?;
        let next = reply.split(' ').nth(2);
        cursor = next.ok_or("there is no cursor")?.to_owned();
        if cursor == "0" {
            return Ok(calls);
        }
    }
    Err("the scan does not end".into())
}

#[test]
fn fewer_names_are_scanned_at_a_time_with_a_long_pattern() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    for part in 0..5 {
        let keys = names(&format!("{part}."), 1_000);
        scene.ask(&client, &format!("SADD s{keys}\n"))?;
        let pairs: Vec<_> = keys
            .split_whitespace()
            .map(|it| format!("{it} v"))
            .collect();
        scene.ask(&client, &format!("MSET {}\n", pairs.join(" ")))?;
    }
    for command in ["SCAN @", "SSCAN s @"] {
        let short = calls(&scene, &format!("{command} MATCH *q COUNT 10000"))?;
        let long = calls(
            &scene,
            &format!("{command} MATCH {} COUNT 10000", class("q")),
        )?;
        assert!(short <= 2 && long > 20, "{command}: {short} {long}");
    }
    for (pattern, least, most) in [("*q", 1, 9), (&class("q"), 25, 200)] {
        client.send(format!("KEYS {pattern}\r\n"));
        let (turns, reply) = turns_until_reply(&scene, &client)?;
        assert!((least..most).contains(&turns), "{turns} turns");
        assert_eq!(reply, "*0 ");
    }
    Ok(())
}

/// They are made one after another, a part in each turn.
#[test]
fn many_searches_of_a_transaction_do_not_make_a_turn_long() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let pairs: String = (0..2_000).map(|it| format!(" key{it} v")).collect();
    scene.ask(&client, &format!("MSET{pairs}\n"))?;
    let mut turns = Vec::new();
    for number in [1, 8] {
        let searches = format!("KEYS {}\n", class("q")).repeat(number);
        scene.ask(&client, &format!("MULTI\n{searches}"))?;
        client.send("EXEC\r\n");
        let wanted = format!("*{number} {}", "*0 ".repeat(number));
        let (mut reply, mut count) = (String::new(), 0);
        while reply.len() < wanted.len() && count < 10_000 {
            scene.event_loop.run_once(Duration::ZERO)?;
            reply += &received(&client);
            count += 1;
        }
        assert_eq!(reply, wanted);
        turns.push(count);
    }
    assert!(turns[1] > 6 * turns[0], "{turns:?} turns");
    Ok(())
}

#[test]
fn a_channel_is_compared_with_fewer_long_patterns_at_a_time() -> Result {
    let scene = Scene::new()?;
    let (subscriber, publisher) = (scene.client()?, scene.client()?);
    for number in 0..1_000 {
        let pattern = class(&number.to_string());
        scene.ask(&subscriber, &format!("PSUBSCRIBE {pattern}\n"))?;
    }
    publisher.send(format!("PUBLISH {} 1\r\n", "x".repeat(100)));
    let (turns, reply) = turns_until_reply(&scene, &publisher)?;
    assert!(turns > 40, "{turns} turns");
    assert_eq!(reply, ":0 ");
    Ok(())
}

#[test]
fn many_channels_are_listed_in_several_turns() -> Result {
    let scene = Scene::new()?;
    let (subscriber, client, other) = (scene.client()?, scene.client()?, scene.client()?);
    for part in 0..10 {
        let names = names(&format!("c{part}."), 1_000);
        scene.ask(&subscriber, &format!("SUBSCRIBE{names}\n"))?;
    }
    client.send(format!("PUBSUB CHANNELS {}\r\nPING\r\n", class("q")));
    for _ in 0..10 {
        scene.event_loop.run_once(Duration::ZERO)?;
    }
    assert_eq!(received(&client), "", "it is not complete");
    other.send("PING\r\n");
    let (turns, _) = turns_until_reply(&scene, &other)?;
    assert!(turns < 4, "others are served meanwhile");
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(received(&client), "*0 +PONG ");
    let all = scene.ask(&client, "PUBSUB CHANNELS\n")?;
    assert!(all.starts_with("*10000 $4 c0.0 $4 c0.1 "), "{all:.40}");
    assert_eq!(all.matches('$').count(), 10_000);
    let some = scene.ask(&client, "MULTI\nPUBSUB CHANNELS c9.99?\nEXEC\n")?;
    assert!(some.starts_with("+OK +QUEUED *1 *10 $6 c9.990 "), "{some}");
    Ok(())
}

#[test]
fn the_patterns_of_config_get_have_a_limit_together() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let wanted = "-ERR the patterns are too long (4096 bytes together at most) ";
    for (patterns, is_refused) in [
        (" port".repeat(819), false),
        (" port".repeat(820), true),
        (format!(" {}", "?".repeat(1_023)).repeat(4), false),
        (format!(" {}", "?".repeat(1_023)).repeat(5), true),
    ] {
        let reply = scene.ask(&client, &format!("CONFIG GET{patterns}\n"))?;
        assert_eq!(reply == wanted, is_refused, "{reply}");
    }
    Ok(())
}

/// Each of them is looked up for each element.
#[test]
fn the_patterns_of_sort_have_a_limit() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let long = "x".repeat(1_023) + "*";
    scene.ask(&client, &format!("RPUSH l 2 1\nSET {long} 1\n"))?;
    let too_long = "-ERR the pattern is too long (1024 bytes at most) ";
    let too_many = "-ERR too many GET patterns (64 at most) ";
    for (options, wanted) in [
        (format!("BY {long}"), "*2 $1 1 $1 2 "),
        (format!("BY {long}x"), too_long),
        (format!("GET {long} LIMIT 0 1"), "*1 $-1 "),
        (format!("GET # GET {long}x"), too_long),
        (
            format!("{}BY x", "GET # ".repeat(64)),
            &("*128 ".to_owned() + &"$1 2 ".repeat(64) + &"$1 1 ".repeat(64)),
        ),
        ("GET # ".repeat(65), too_many),
        ("GET # ".repeat(65) + "STORE l", too_many),
    ] {
        let reply = scene.ask(&client, &format!("SORT l {}\n", options.trim_end()))?;
        assert_eq!(reply, wanted, "{options}");
    }
    Ok(())
}

/// As what a killed client makes is not stored, what it publishes is not delivered.
#[test]
fn a_killed_client_does_not_publish() -> Result {
    let scene = Scene::new()?;
    let (subscriber, publisher, other) = (scene.client()?, scene.client()?, scene.client()?);
    let id = scene.ask(&publisher, "CLIENT ID\n")?;
    for part in 0..30 {
        let names = names(&format!("p{part}."), 1_000);
        scene.ask(&subscriber, &format!("PSUBSCRIBE{names}\n"))?;
    }
    scene.ask(&subscriber, "SUBSCRIBE news\n")?;
    publisher.send("PUBLISH news 1\r\n");
    scene.event_loop.run_once(Duration::ZERO)?;
    let id = id.trim_start_matches(':');
    let killed = scene.ask(&other, &format!("CLIENT KILL ID {id}\n"))?;
    assert_eq!(killed, ":1 ");
    assert!(publisher.has_ended());
    assert_eq!(received(&subscriber), "");
    let count = scene.ask(&other, "PUBLISH news 2\n")?;
    assert_eq!(count, ":1 ");
    assert_eq!(received(&subscriber), "*3 $7 message $4 news $1 2 ");
    Ok(())
}
