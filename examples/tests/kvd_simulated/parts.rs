//! Values that are made in parts, and what other clients do meanwhile.

use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Peer;

use crate::long::{fill, turns_until_reply};
use crate::scene::{Scene, received};

/// Sends a command that takes several turns, and lets it begin.
pub fn begin(scene: &Scene, client: &Peer, command: &str) -> Result {
    client.send(format!("{command}\r\n"));
    let is_blocked = || {
        let data = scene.shared.lock();
        data.clients.values().any(|it| it.is_blocked())
    };
    for _ in 0..100 {
        scene.event_loop.run_once(Duration::ZERO)?;
        if is_blocked() {
            scene.event_loop.run_once(Duration::ZERO)?;
            scene.event_loop.run_once(Duration::ZERO)?;
            assert!(is_blocked(), "{command} has ended");
            return Ok(());
        }
    }
    Err(format!("{command} does not begin").into())
}

/// Makes a string of 4,000,000 bytes, which a reply contains until the client reads on.
fn make_shared_string(scene: &Scene, reader: &Peer) -> Result {
    reader.start_reading(usize::MAX);
    scene.ask(reader, "DEL k\nSETRANGE k 3999999 x\n")?;
    reader.stop_reading();
    reader.send("GET k\r\n");
    scene.network.settle(&scene.event_loop)?;
    Ok(())
}

#[test]
fn two_appends_in_parts_are_both_in_the_string() -> Result {
    let scene = Scene::new()?;
    let (reader, first, second) = (scene.client()?, scene.client()?, scene.client()?);
    make_shared_string(&scene, &reader)?;
    begin(&scene, &first, "APPEND k abc")?;
    second.send("APPEND k defg\r\n");
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(received(&first), ":4000003 ");
    assert_eq!(received(&second), ":4000007 ");
    let end = scene.ask(&first, "GETRANGE k 3999999 -1\n")?;
    assert_eq!(end, "$8 xabcdefg ");
    Ok(())
}

#[test]
fn an_append_in_parts_is_to_the_string_that_is_there_at_its_end() -> Result {
    let scene = Scene::new()?;
    let (reader, client, other) = (scene.client()?, scene.client()?, scene.client()?);
    let config = "CONFIG SET proto-max-bulk-len 4000005\nSETRANGE long 4000002 x\n";
    assert_eq!(scene.ask(&other, config)?, "+OK :4000003 ");
    for (change, reply, end) in [
        ("DEL k", ":3 ", "$3 abc "),
        ("SET k xy", ":5 ", "$5 xyabc "),
        (
            "RENAME long k",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len) ",
            "$10 \0\0\0\0\0\0\0\0\0x ",
        ),
    ] {
        make_shared_string(&scene, &reader)?;
        begin(&scene, &client, "APPEND k abc")?;
        scene.ask(&other, &format!("{change}\n"))?;
        assert_eq!(received(&client), reply, "{change}");
        let is = scene.ask(&client, "GETRANGE k -10 -1\n")?;
        assert_eq!(is, end, "{change}");
    }
    Ok(())
}

/// The entry of the key is in a snapshot of all keys, and not in a reply.
#[test]
fn a_large_string_of_a_snapshot_of_the_keys_is_changed_in_parts() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    scene.ask(&client, "SETRANGE k 3999999 x\n")?;
    let snapshot = scene.shared.lock().keyspace.database(0).table().clone();
    client.send("APPEND k abc\r\n");
    let (turns, reply) = turns_until_reply(&scene, &client)?;
    assert_eq!(reply, ":4000003 ");
    assert!(turns > 3, "{turns} turns");
    drop(snapshot);
    Ok(())
}

#[test]
fn members_that_are_added_while_others_are_popped_count() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    fill(&scene, &client)?;
    begin(&scene, &client, "SPOP s 30000")?;
    assert_eq!(scene.ask(&other, "SADD s more\n")?, ":1 ");
    let reply = received(&client);
    assert!(reply.starts_with("*20001 "), "{reply:.20}");
    assert!(reply.contains(" more "));
    assert_eq!(scene.ask(&client, "EXISTS s\n")?, ":0 ");
    Ok(())
}

/// Only one value uses memory at a time, and no value is made for nothing.
#[test]
fn values_for_one_key_are_made_one_after_another() -> Result {
    let scene = Scene::new()?;
    let first = scene.client()?;
    let (gone, last) = (scene.client()?, scene.client()?);
    begin(&scene, &first, "SETRANGE k 40000000 x")?;
    gone.send("SETRANGE k 9000000 y\r\n");
    last.send("SETRANGE k 50000000 z\r\n");
    for _ in 0..3 {
        scene.event_loop.run_once(Duration::ZERO)?;
    }
    gone.finish();
    // The value for another key does not wait.
    let other = scene.client()?;
    other.send("SETRANGE o 9000000 y\r\n");
    let mut reply = String::new();
    while reply.is_empty() {
        scene.event_loop.run_once(Duration::ZERO)?;
        reply = received(&other);
    }
    assert_eq!(reply, ":9000001 ");
    let is_stored = scene.shared.lock().keyspace.database(0).contains(b"k");
    assert!(!is_stored, "the second value was made beside the first one");
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(received(&first), ":40000001 ");
    assert_eq!(received(&last), ":50000001 ");
    let script = "GETRANGE k 9000000 9000000\nGETRANGE k 40000000 40000000\nSTRLEN k\n";
    assert_eq!(scene.ask(&last, script)?, "$1 y $1 x :50000001 ");
    Ok(())
}

#[test]
fn nothing_is_stored_for_a_client_that_was_killed() -> Result {
    let scene = Scene::new()?;
    let (client, waiting, other) = (scene.client()?, scene.client()?, scene.client()?);
    fill(&scene, &client)?;
    begin(&scene, &client, "SUNIONSTORE d s")?;
    waiting.send("SUNIONSTORE d s s\r\n");
    assert_eq!(scene.ask(&other, "CLIENT KILL ID 1\nEXISTS d\n")?, ":1 :0 ");
    assert_eq!(received(&waiting), ":20000 ");
    begin(&scene, &waiting, "SUNIONSTORE e s")?;
    assert_eq!(scene.ask(&other, "CLIENT KILL ID 2\n")?, ":1 ");
    assert_eq!(scene.ask(&other, "EXISTS d e\n")?, ":1 ");
    Ok(())
}

#[test]
fn many_members_of_sorted_sets_are_combined_in_several_turns() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    fill(&scene, &client)?;
    let turns = |command: &str, begins: &str, ends: &str| -> Result {
        client.send(format!("{command}\r\n"));
        let (turns, reply) = turns_until_reply(&scene, &client)?;
        assert!(turns > 5, "{command}: {turns} turns");
        assert!(reply.starts_with(begins), "{command}: {reply:.60}");
        assert!(
            reply.ends_with(ends),
            "{command}: {}",
            &reply[reply.len() - 60..]
        );
        Ok(())
    };
    let card = scene.ask(&client, "ZCARD z\n")?;
    let count: usize = card.trim_matches([':', ' ']).parse()?;
    let last = scene.ask(&client, "ZRANGE z -1 -1\n")?;
    let last = last.strip_prefix("*1 ").unwrap_or_default();
    turns("ZUNION 2 z z", &format!("*{count} "), last)?;
    turns("ZINTERCARD 2 z s", "", " ")?;
    turns("ZUNIONSTORE d 2 z z WEIGHTS 1 0", &card, &card)?;
    assert_eq!(
        scene.ask(&client, "ZRANGE d -1 -1\n")?,
        format!("*1 {last}")
    );
    let popped = scene.ask(&client, "ZMPOP 2 nokey d MIN COUNT 99999\n")?;
    let head = format!("*2 $1 d *{count} *2 ");
    assert!(popped.starts_with(&head), "{popped:.60}");
    assert_eq!(scene.ask(&client, "EXISTS d\n")?, ":0 ");
    let list = scene.ask(&client, "LLEN l\nLMPOP 1 l RIGHT COUNT 99999\n")?;
    assert!(list.starts_with(":20000 *2 $1 l *20000 "), "{list:.60}");
    Ok(())
}

#[test]
fn the_elements_that_a_limit_leaves_out_take_several_turns() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    fill(&scene, &client)?;
    let turns = |command: &str, wanted: &str| -> Result<usize> {
        client.send(format!("{command}\r\n"));
        let (turns, reply) = turns_until_reply(&scene, &client)?;
        assert_eq!(reply, wanted, "{command}");
        Ok(turns)
    };
    turns("SORT l LIMIT 0 1 STORE d", ":1 ")?;
    let few = turns("SORT l LIMIT 0 1 STORE d", ":1 ")?;
    let many = turns("SORT l LIMIT 19990 1 STORE d", ":1 ")?;
    assert!(many > few + 10, "{many} and {few} turns");
    turns("LRANGE d 0 -1", "*1 $5 19990 ")?;
    turns("SORT l LIMIT 19998 5", "*2 $5 19998 $5 19999 ")?;
    turns("SORT s LIMIT 19999 1", "*1 $5 19999 ")?;
    turns("SORT l LIMIT 19998 0", "*0 ")?;
    Ok(())
}

#[test]
fn many_positions_are_in_the_reply_in_their_order() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    scene.ask(&client, &format!("RPUSH l{}\n", " x".repeat(5_000)))?;
    let positions: String = (0..5_000).map(|number| format!(":{number} ")).collect();
    for (command, wanted) in [
        ("LPOS l x COUNT 0", format!("*5000 {positions}")),
        ("LPOS l y COUNT 0", "*0 ".to_owned()),
        ("LPOS l x RANK -1", ":4999 ".to_owned()),
        ("LPOS l y", "$-1 ".to_owned()),
    ] {
        assert_eq!(scene.ask(&client, &format!("{command}\n"))?, wanted);
    }
    Ok(())
}

/// As in Redis.
#[test]
fn what_is_stored_of_a_set_without_an_order_is_sorted_by_its_bytes() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    scene.ask(&client, "SADD s b 10 9 a\nRPUSH l b 10 9 a\n")?;
    let script =
        "SORT s BY nosort STORE d\nLRANGE d 0 -1\nSORT l BY nosort STORE d\nLRANGE d 0 -1\n";
    assert_eq!(
        scene.ask(&client, script)?,
        ":4 *4 $2 10 $1 9 $1 a $1 b :4 *4 $1 b $2 10 $1 9 $1 a "
    );
    Ok(())
}

/// The elements are few and small, and so are those of a reply that is made at once.
#[test]
fn what_the_elements_of_sort_refer_to_is_sent_as_the_client_reads() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    for number in 0..40 {
        let script = format!(
            "RPUSH l {number}\nSETRANGE v_{number} 199999 {}\n",
            number % 10
        );
        scene.ask(&client, &script)?;
    }
    client.stop_reading();
    client.send("SORT l GET v_* GET nosuch_* GET #\r\n");
    scene.network.settle(&scene.event_loop)?;
    let queued = scene.queued();
    assert!(queued < 1 << 20, "{queued}");
    client.start_reading(usize::MAX);
    let zeros = "\0".repeat(199_999);
    let elements: String = (0..40)
        .map(|it| {
            format!(
                "$200000 {zeros}{} $-1 ${} {it} ",
                it % 10,
                it.to_string().len()
            )
        })
        .collect();
    let reply = scene.ask(&client, "SORT l BY v_* ALPHA LIMIT 0 2\n")?;
    assert!(reply == format!("*120 {elements}*2 $1 0 $2 10 "));
    Ok(())
}
