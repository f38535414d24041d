//! SORT with patterns, each of which is looked up for each element.

use std::sync::Arc;
use std::time::Duration;

use asynchat::Result;

use crate::long::{numbers, turns_until_reply};
use crate::scene::Scene;

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
