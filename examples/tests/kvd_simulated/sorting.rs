//! SORT with patterns, each of which is looked up for each element.

use std::sync::Arc;
use std::time::Duration;

use asynchat::Result;

use crate::allocator::allocated;
use crate::bounded::request;
use crate::long::{numbers, turns_until_reply};
use crate::scene::{Scene, received};

/// The work for an element is as long as there are patterns.
#[test]
fn few_elements_of_sort_with_many_patterns_take_several_turns() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    let value = "x".repeat(10_000);
    let script = format!(
        "RPUSH few{}\nRPUSH more{}\nMSET v_1 {value} v_2 2\n",
        numbers(0..16),
        numbers(0..900)
    );
    scene.ask(&client, &script)?;
    let patterns = " GET v_*".repeat(64);
    let large = format!("$10000 {value} ").repeat(64);
    let sorted = |some: usize| -> String {
        let nothing = "$-1 ".repeat(64);
        let two = "$1 2 ".repeat(64);
        let rest = nothing.repeat(some - 3);
        format!("*{} {nothing}{large}{two}{rest}", 64 * some)
    };
    client.send(format!("SORT few{patterns}\r\n"));
    let (turns, reply) = turns_until_reply(&scene, &client)?;
    assert!(turns > 1, "{turns} turns");
    assert!(reply == sorted(16));
    client.send(format!("SORT more{patterns} STORE d\r\n"));
    let (turns, reply) = turns_until_reply(&scene, &client)?;
    assert_eq!(reply, ":57600 ");
    assert!(turns > 40, "{turns} turns");
    let stored = scene.ask(&other, "LRANGE d 0 -1\n")?;
    assert!(stored == sorted(900).replace("$-1 ", "$0  "));
    Ok(())
}

fn owners(scene: &Scene, key: &[u8]) -> Result<usize> {
    let mut data = scene.shared.lock();
    let found = data.keyspace.database(0).list(key);
    let list = found.map_err(|_| "another type")?.ok_or("no such key")?;
    Ok(Arc::strong_count(list))
}

/// A change of a key copies what a snapshot of the keys shares with the table, and the snapshot keeps the old values.
#[test]
fn a_sort_by_other_keys_has_no_snapshot_while_its_client_does_not_read() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    let mut script = format!("RPUSH l{}\nRPUSH other a\n", numbers(0..200));
    for number in 0..200 {
        // Each is a string that was appended to.
        script += &format!("SETRANGE v_{number} 9998 {}\n", number % 10);
        script += &format!("SET w_{number} {}\n", 200 - number);
    }
    scene.ask(&other, &script)?;
    let value = |number: usize| format!("$9999 {}{} ", "\0".repeat(9_998), number % 10);
    let values: String = (0..200).map(value).collect();
    let backwards: String = (0..200).rev().map(value).collect();
    let elements: String = (0..200)
        .rev()
        .map(|it| format!("${} {it} ", it.to_string().len()))
        .collect();
    for (request, wanted) in [
        ("SORT l GET v_*", format!("*200 {values}")),
        ("SORT l BY w_* GET v_*", format!("*200 {backwards}")),
        (
            "MULTI\nSORT l BY w_*\nSORT l BY w_* GET v_* GET #\nEXEC",
            format!("+OK +QUEUED +QUEUED *2 *200 {elements}*400 "),
        ),
    ] {
        client.stop_reading();
        client.send(format!("{request}\n").replace('\n', "\r\n"));
        scene.network.settle(&scene.event_loop)?;
        let total = scene.shared.results.total();
        assert!((1..200_000).contains(&total), "{request}: {total} bytes");
        scene.ask(&other, "SET v_0 changed\nLPUSH l x\n")?;
        for key in [&b"l"[..], b"other"] {
            let owners = owners(&scene, key)?;
            assert_eq!(owners, 1, "{request}");
        }
        client.start_reading(usize::MAX);
        let reply = scene.ask(&client, "")?;
        assert!(reply.starts_with(&wanted), "{request}: {reply:.100}");
        assert_eq!(scene.shared.results.total(), 0, "{request}");
        scene.ask(&other, "DEL v_0\nSETRANGE v_0 9998 0\nLPOP l\n")?;
    }
    // A client that leaves needs no result any more.
    client.stop_reading();
    client.send("SORT l GET v_*\r\n");
    scene.event_loop.run_once(Duration::ZERO)?;
    client.reset();
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(scene.shared.results.total(), 0);
    // An error is the whole reply.
    let script = "SET w_199 x\nSORT l BY w_* GET v_*\nPING\n";
    let error = "-ERR One or more scores can't be converted into double ";
    assert_eq!(scene.ask(&other, script)?, format!("+OK {error}+PONG "));
    Ok(())
}

/// In memory the elements share the strings of the keys. On disk each has its own.
#[test]
fn what_sort_stores_of_other_keys_has_a_limit() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let script =
        "CONFIG SET proto-max-bulk-len 1mb\nSETRANGE k1 299999 x\nRPUSH l 1\nRPUSH l2 1 1\n";
    assert_eq!(scene.ask(&client, script)?, "+OK :300000 :1 :2 ");
    let error = "-ERR the result of GET exceeds the maximum allowed size (proto-max-bulk-len) ";
    for (request, wanted) in [
        (
            format!("SORT l BY nosort{} STORE d", " GET k*".repeat(3)),
            ":3 ",
        ),
        (
            format!("SORT l BY nosort{} STORE e", " GET k*".repeat(4)),
            error,
        ),
        (
            format!("SORT l2 BY nosort{} STORE e", " GET k*".repeat(2)),
            error,
        ),
        (format!("SORT d ALPHA{} STORE e", " GET #".repeat(2)), error),
        ("SORT d ALPHA STORE d2".to_owned(), ":3 "),
        ("EXISTS e d d2".to_owned(), ":2 "),
    ] {
        assert_eq!(
            scene.ask(&client, &format!("{request}\n"))?,
            wanted,
            "{request}"
        );
    }
    let request = format!(
        "MULTI\nSORT l BY nosort{} STORE e\nEXEC\n",
        " GET k*".repeat(4)
    );
    let wanted = format!("+OK +QUEUED *1 {error}");
    assert_eq!(scene.ask(&client, &request)?, wanted);
    // A reply has no limit: it is made while it is read.
    let reply = scene.ask(
        &client,
        &format!("SORT l BY nosort{}\n", " GET k*".repeat(4)),
    )?;
    assert_eq!(reply.len(), "*4 ".len() + 4 * "$300000  ".len() + 1_200_000);
    Ok(())
}

#[test]
fn no_name_is_made_that_is_longer_than_that_of_any_key() -> Result {
    const LEN: usize = 16 << 20;
    let scene = Scene::new()?;
    let client = scene.client()?;
    // The string becomes an element.
    let script = format!("SETRANGE v1 {LEN} x\nRPUSH one 1\nSORT one BY nosort GET v* STORE l\n");
    assert_eq!(scene.ask(&client, &script)?, format!(":{} :1 :1 ", LEN + 1));
    let before = allocated();
    let patterns = " GET k_*".repeat(20);
    let reply = scene.ask(&client, &format!("SORT l BY w_* ALPHA{patterns}\n"))?;
    assert_eq!(reply, format!("*20 {}", "$-1 ".repeat(20)));
    let made = allocated() - before;
    assert!(made < LEN / 4, "{made} bytes");
    Ok(())
}

/// Elements that are equal up to their ends are compared a few at a time, when they are sorted and when they are merged.
#[test]
fn large_elements_are_sorted_and_merged_in_many_turns() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let beginning = "x".repeat(200_000);
    for number in (10..100).rev() {
        let element = format!("{beginning}{number}");
        client.send(request(&["RPUSH", "l", &element]) + &request(&["SADD", "s", &element]));
    }
    scene.ask(&client, "")?;
    for key in ["l", "s"] {
        client.send(format!("SORT {key} ALPHA LIMIT 80 1\r\n"));
        let wanted = format!("*1 $200002 {beginning}90 ");
        let (mut turns, mut reply) = (0, String::new());
        while reply.len() < wanted.len() {
            scene.event_loop.run_once(Duration::ZERO)?;
            reply += &received(&client);
            turns += 1;
        }
        assert!(reply == wanted, "{reply:.20}");
        assert!(turns > 60, "{turns} turns");
    }
    Ok(())
}
