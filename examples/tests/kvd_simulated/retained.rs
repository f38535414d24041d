//! The memory that clients retain beside results: what they have subscribed to, watch and are named, what was parsed of
//! their requests, and the replies of transactions.

use asynchat::Result;
use asynchat::sim::Peer;

use crate::scene::{Scene, options, received};
use crate::server::Options;
use crate::server::config::Config;

fn scene_with(name: &str, value: &str) -> Result<Scene> {
    let mut config = Config::default();
    config.set(name, value)?;
    Scene::with(Options {
        config,
        ..options()
    })
}

fn names(range: std::ops::Range<usize>) -> String {
    range.map(|it| format!(" {it}")).collect()
}

fn retained(scene: &Scene) -> usize {
    scene.shared.lock().retained
}

/// The client with the most is ended, and none that is protected.
#[test]
fn what_clients_retain_has_a_limit_together() -> Result {
    let long = "n".repeat(60_000);
    for (command, names, more) in [
        ("WATCH", names(0..2_000), " and"),
        ("SUBSCRIBE", names(0..600), " and"),
        ("PSUBSCRIBE", names(0..600), " and"),
        ("CLIENT SETNAME ", long.repeat(7), "n"),
        ("CLIENT SETINFO LIB-NAME ", long.repeat(7), "n"),
        ("HELLO 3 SETNAME ", long.repeat(7), "n"),
    ] {
        let scene = scene_with("maxmemory-clients", "600000")?;
        let [few, protected, first, second] = [
            scene.client()?,
            scene.client()?,
            scene.client()?,
            scene.client()?,
        ];
        send_long(&scene, &few, &format!("{command} a"))?;
        assert_eq!(scene.ask(&protected, "CLIENT NO-EVICT ON\n")?, "+OK ");
        let info = scene.ask(&protected, "CLIENT INFO\n")?;
        assert!(info.contains(" flags=e "), "{info}");
        let many = format!("{command}{names}");
        send_long(&scene, &protected, &many)?;
        let of_one = retained(&scene);
        assert!(of_one > 300_000, "{command}: {of_one}");
        send_long(&scene, &first, &(many.clone() + more))?;
        send_long(&scene, &second, &many)?;
        let ended = [&few, &protected, &first, &second].map(Peer::has_ended);
        assert_eq!(ended, [false, false, true, false], "{command}");
        assert!(retained(&scene) - scene.shared.lock().protected <= 600_000);
        for client in [few, protected, second] {
            client.reset();
        }
        scene.network.settle(&scene.event_loop)?;
        assert_eq!(retained(&scene), 0, "{command}");
        let info = scene.ask(&scene.client()?, "INFO stats\n")?;
        assert!(info.contains("evicted_clients:1 "), "{info}");
    }
    Ok(())
}

/// It would otherwise end all others, and itself retain as much as before.
#[test]
fn what_a_protected_client_retains_does_not_count_for_the_others() -> Result {
    let scene = scene_with("maxmemory-clients", "1mb")?;
    let (protected, other) = (scene.client()?, scene.client()?);
    send_long(&scene, &other, "WATCH a")?;
    scene.ask(&protected, "CLIENT NO-EVICT ON\nCLIENT NO-EVICT ON\n")?;
    send_long(&scene, &protected, &format!("WATCH{}", names(0..7_000)))?;
    assert!(retained(&scene) > 1 << 20);
    send_long(&scene, &other, "WATCH b")?;
    assert!(!protected.has_ended() && !other.has_ended());
    scene.ask(&protected, "UNWATCH\n")?;
    send_long(&scene, &protected, &format!("WATCH{}", names(0..7_000)))?;
    scene.ask(&protected, "CLIENT NO-EVICT OFF\n")?;
    assert!(protected.has_ended() && !other.has_ended());
    other.reset();
    scene.network.settle(&scene.event_loop)?;
    let data = scene.shared.lock();
    assert_eq!((data.retained, data.protected), (0, 0));
    Ok(())
}

#[test]
fn a_lower_limit_ends_the_clients_that_exceed_it() -> Result {
    let scene = Scene::new()?;
    let [few, some, most] = [scene.client()?, scene.client()?, scene.client()?];
    for (client, number) in [(&few, 100), (&some, 6_000), (&most, 7_000)] {
        send_long(&scene, client, &format!("WATCH{}", names(0..number)))?;
    }
    let script = "CONFIG SET maxmemory-clients 1mb\n";
    assert_eq!(scene.ask(&scene.client()?, script)?, "+OK ");
    let ended = [&few, &some, &most].map(Peer::has_ended);
    assert_eq!(ended, [false, true, true]);
    Ok(())
}

/// Its connection may take long to close: its worker is busy.
#[test]
fn a_killed_client_retains_nothing() -> Result {
    let scene = Scene::new()?;
    let (killed, other) = (scene.client()?, scene.client()?);
    let id = scene.ask(&killed, "WATCH a b\nSUBSCRIBE c\nCLIENT NO-EVICT ON\n")?;
    assert!(retained(&scene) > 0, "{id}");
    let client = {
        let data = scene.shared.lock();
        data.clients.values().next().cloned()
    };
    let client = client.ok_or("it is there")?;
    let script = format!("MULTI\nCLIENT KILL ID {}\nINFO clients\nEXEC\n", client.id);
    let replies = scene.ask(&other, &script)?;
    assert!(replies.contains("client_retained_memory:0 "), "{replies}");
    let data = scene.shared.lock();
    assert_eq!((data.retained, data.protected), (0, 0));
    Ok(())
}

/// Inline requests have at most 64 KB.
fn send_long(scene: &Scene, client: &Peer, line: &str) -> Result {
    let words: Vec<&str> = line.split_whitespace().collect();
    let words: Vec<_> = words
        .iter()
        .map(|it| format!("${}\n{it}\n", it.len()))
        .collect();
    let request = format!("*{}\n{}", words.len(), words.concat());
    scene.ask(client, &request).map(drop)
}

#[test]
fn a_client_retains_nothing_that_it_has_given_up() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    for (script, wanted) in [
        ("WATCH a b\nWATCH b c\n", true),
        ("UNWATCH\n", false),
        ("WATCH a\nMULTI\nEXEC\n", false),
        (
            "HELLO 3\nSUBSCRIBE a b\nSUBSCRIBE b\nPSUBSCRIBE c\nUNSUBSCRIBE a\n",
            true,
        ),
        ("UNSUBSCRIBE\nUNSUBSCRIBE a\nPUNSUBSCRIBE\n", false),
        ("CLIENT SETNAME abc\nCLIENT SETNAME abcde\n", true),
        ("CLIENT SETNAME \"\"\n", false),
        ("CLIENT SETNAME abc\nSUBSCRIBE a\nWATCH a\nRESET\n", false),
    ] {
        scene.ask(&client, script)?;
        assert_eq!(retained(&scene) > 0, wanted, "{script}");
    }
    Ok(())
}

/// The place of an argument has more bytes than an empty argument.
#[test]
fn the_places_of_arguments_count_as_input() -> Result {
    let scene = scene_with("client-query-buffer-limit", "1mb")?;
    let (few, many) = (scene.client()?, scene.client()?);
    for (client, count) in [(&few, 20_000), (&many, 120_000)] {
        scene.ask(client, &format!("*2000000\n{}", "$0\n\n".repeat(count)))?;
    }
    assert!(!few.has_ended());
    assert!(many.has_ended());
    Ok(())
}

#[test]
fn the_keys_of_a_blocked_command_count_as_input() -> Result {
    let scene = scene_with("client-query-buffer-limit", "1mb")?;
    let (few, many) = (scene.client()?, scene.client()?);
    for (client, count) in [(&few, 1_000), (&many, 10_000)] {
        send_long(&scene, client, &format!("BLPOP{} 0", names(0..count)))?;
    }
    assert!(!few.has_ended());
    assert!(many.has_ended());
    assert!(scene.shared.lock().keyspace.database(0).awaited.len() <= 1_001);
    Ok(())
}

/// MULTI, so many GETs of 15,000 bytes, INCR and EXEC.
fn transaction(gets: usize) -> String {
    format!("MULTI\n{}INCR n\nEXEC\n", "GET k\n".repeat(gets))
}

#[test]
fn the_reply_of_a_transaction_counts_until_it_is_sent() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    scene.ask(&client, &format!("SET k {}\n", "x".repeat(15_000)))?;
    scene.ask(&client, &transaction(10))?;
    assert_eq!(scene.shared.results.total(), 0);
    client.start_reading(0);
    scene.ask(&client, &transaction(300))?;
    assert!(scene.shared.results.total() > 3 << 20);
    client.start_reading(3 << 20);
    scene.network.settle(&scene.event_loop)?;
    let total = scene.shared.results.total();
    assert!((1..3 << 20).contains(&total), "{total}");
    client.start_reading(usize::MAX);
    let replies = scene.ask(&client, "PING\n")?;
    assert!(replies.ends_with(":2 +PONG "), "{}", replies.len());
    assert_eq!(scene.shared.results.total(), 0);
    Ok(())
}

/// As in Redis, all of its commands are executed.
#[test]
fn a_transaction_whose_reply_is_too_long_ends_its_connection() -> Result {
    for (name, value) in [
        ("maxmemory-clients", "4mb"),
        ("client-output-buffer-limit", "normal 4mb 0 0"),
    ] {
        let scene = scene_with(name, value)?;
        let (client, other) = (scene.client()?, scene.client()?);
        scene.ask(&other, &format!("SET k {}\n", "x".repeat(15_000)))?;
        scene.ask(&client, &transaction(100))?;
        assert!(!client.has_ended());
        scene.ask(&client, &transaction(1_000))?;
        assert!(client.has_ended(), "{name}");
        assert_eq!(scene.ask(&other, "GET n\n")?, "$1 2 ");
        assert_eq!(scene.shared.results.total(), 0);
    }
    Ok(())
}

#[test]
fn a_protected_client_may_have_a_large_result() -> Result {
    let scene = scene_with("maxmemory-clients", "1mb")?;
    let client = scene.client()?;
    scene.ask(
        &client,
        &format!("SET k {}\nCLIENT NO-EVICT ON\n", "x".repeat(15_000)),
    )?;
    let replies = scene.ask(&client, &transaction(200))?;
    assert_eq!(replies.matches("$15000 ").count(), 200);
    let info = scene.ask(&client, "CLIENT NO-EVICT OFF\nCLIENT INFO\n")?;
    assert!(info.contains(" flags=N "), "{info}");
    scene.ask(&client, &transaction(200))?;
    assert!(client.has_ended());
    Ok(())
}

/// The search does not wait until its reply is sent.
#[test]
fn keys_searches_while_earlier_output_waits() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    for part in 0..20 {
        let keys: String = (0..1_000).map(|it| format!(" key-{part}-{it} x")).collect();
        scene.ask(&client, &format!("MSET{keys}\n"))?;
    }
    scene.ask(&client, "SETRANGE long 200000 x\n")?;
    client.stop_reading();
    client.send("GET long\r\nKEYS *\r\n");
    scene.network.settle(&scene.event_loop)?;
    assert!(scene.queued() > 0);
    let total = scene.shared.results.total();
    assert!(total > 20_000 * "$7\r\nkey-0-0\r\n".len(), "{total} bytes");
    client.start_reading(usize::MAX);
    scene.network.settle(&scene.event_loop)?;
    let replies = received(&client);
    assert_eq!(replies.matches(" key-").count(), 20_000);
    Ok(())
}

#[test]
fn a_small_part_of_a_string_does_not_keep_the_whole_string() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    scene.ask(&client, "SETRANGE k 999999 x\n")?;
    for (last, is_shared) in [(99_999, false), (999_998, true)] {
        let reader = scene.client()?;
        reader.stop_reading();
        scene.ask(&reader, &format!("GETRANGE k 0 {last}\n"))?;
        {
            let data = &mut *scene.shared.lock();
            let value = data.keyspace.database(0).find_mut(b"k");
            let value = value.ok_or("the key is there")?;
            assert_eq!(value.is_shared(), is_shared, "{last}");
        }
        reader.start_reading(usize::MAX);
        scene.network.settle(&scene.event_loop)?;
        let head = format!("${} ", last + 1);
        let reply = received(&reader);
        assert!(reply.starts_with(&head), "{reply:.20}");
        assert_eq!(reply.len(), head.len() + last + 2);
    }
    Ok(())
}
