//! Many subscriptions and watched keys, which end a part at a time while others are served.

use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Peer;

use crate::scene::{Scene, received};

const MANY: usize = 20_000;

/// A request with so many names.
fn request(command: &str, names: usize) -> String {
    let names: String = (0..names).map(|it| format!("$6\n{it:06}\n")).collect();
    format!("*{}\n${}\n{command}\n{names}", MANY + 1, command.len())
}

fn ask_for_many(scene: &Scene, command: &str) -> Result<Peer> {
    let client = scene.client()?;
    client.start_reading(usize::MAX);
    scene.ask(&client, &request(command, MANY))?;
    Ok(client)
}

/// How many channels, patterns and keys clients have subscribed to or watch.
fn left(scene: &Scene) -> usize {
    let data = &mut *scene.shared.lock();
    let watched: usize = data.keyspace.databases().map(|it| it.watched()).sum();
    data.subscribers.channels.len() + data.subscribers.patterns.len() + watched
}

/// Turns until a neighbour has its reply. Others are left by then, and none in the end.
fn is_served_meanwhile(scene: &Scene, neighbour: &Peer, what: &str) -> Result {
    assert_eq!(left(scene), MANY, "{what}");
    neighbour.send("PING\r\n");
    while received(neighbour).is_empty() {
        scene.event_loop.run_once(Duration::ZERO)?;
    }
    assert!(left(scene) > MANY / 2, "{what}: {} are left", left(scene));
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(left(scene), 0, "{what}");
    Ok(())
}

#[test]
fn a_client_that_disconnects_with_many_gives_others_their_turn() -> Result {
    let scene = Scene::new()?;
    let neighbour = scene.client()?;
    for command in ["SUBSCRIBE", "PSUBSCRIBE", "WATCH"] {
        ask_for_many(&scene, command)?.reset();
        is_served_meanwhile(&scene, &neighbour, command)?;
    }
    Ok(())
}

#[test]
fn commands_that_end_many_give_others_their_turn() -> Result {
    let scene = Scene::new()?;
    let neighbour = scene.client()?;
    for (command, end, reply) in [
        ("SUBSCRIBE", "UNSUBSCRIBE\nPING\n", ":0 +PONG "),
        ("SUBSCRIBE", &request("UNSUBSCRIBE", MANY), ":0 "),
        ("PSUBSCRIBE", "PUNSUBSCRIBE\nPING\n", ":0 +PONG "),
        ("SUBSCRIBE", "RESET\nPING\n", "+RESET +PONG "),
        ("PSUBSCRIBE", "HELLO 3\nRESET\nLPOP x\n", "+RESET $-1 "),
        ("WATCH", "UNWATCH\nPING\n", "+OK +PONG "),
        ("WATCH", "MULTI\nEXEC\nPING\n", "+OK *0 +PONG "),
        ("WATCH", "MULTI\nDISCARD\nPING\n", "+OK +OK +PONG "),
        ("WATCH", "RESET\nPING\n", "+RESET +PONG "),
    ] {
        let client = ask_for_many(&scene, command)?;
        client.take_received();
        client.send(end.replace('\n', "\r\n"));
        is_served_meanwhile(&scene, &neighbour, end.lines().last().unwrap_or(end))?;
        let replies = received(&client);
        assert!(replies.ends_with(reply), "{end:.40}: {replies:.40}");
        let confirmations = replies.matches("unsubscribe ").count();
        let is_confirmed = end.contains("UNSUBSCRIBE");
        let wanted = if is_confirmed { MANY } else { 0 };
        assert_eq!(confirmations, wanted, "{end:.40}");
    }
    Ok(())
}

/// As before, they are all gone when its reply is sent.
#[test]
fn a_client_that_unsubscribes_gets_no_message_behind_the_last_confirmation() -> Result {
    let scene = Scene::new()?;
    let publisher = scene.client()?;
    let client = ask_for_many(&scene, "SUBSCRIBE")?;
    client.take_received();
    let last = MANY - 1;
    client.send("UNSUBSCRIBE\r\n");
    scene.event_loop.run_once(Duration::ZERO)?;
    let count = scene.ask(
        &publisher,
        &format!("PUBLISH {last:06} x\nPUBLISH {last:06} y\n"),
    )?;
    assert!(count.ends_with(":0 ") || count == ":1 :1 ", "{count}");
    scene.network.settle(&scene.event_loop)?;
    let replies = received(&client);
    assert!(replies.ends_with(&format!("unsubscribe $6 {last:06} :0 ")));
    assert_eq!(
        scene.ask(&publisher, &format!("PUBLISH {last:06} z\n"))?,
        ":0 "
    );
    assert_eq!(received(&client), "");
    Ok(())
}

/// A client that does not read does not make the server queue all confirmations.
#[test]
fn confirmations_wait_for_a_client_that_does_not_read() -> Result {
    let scene = Scene::new()?;
    let client = ask_for_many(&scene, "SUBSCRIBE")?;
    client.stop_reading();
    client.take_received();
    client.send("UNSUBSCRIBE\r\nPING\r\n");
    scene.network.settle(&scene.event_loop)?;
    let queued = scene.queued();
    assert!(queued < 512 * 1024, "{queued} bytes");
    client.start_reading(usize::MAX);
    scene.network.settle(&scene.event_loop)?;
    let replies = received(&client);
    assert_eq!(replies.matches("unsubscribe ").count(), MANY);
    assert!(replies.ends_with(":0 +PONG "));
    Ok(())
}

/// Who watches many keys again and again removes those that it has left.
#[test]
fn watches_that_have_ended_do_not_accumulate() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    for round in 0..20 {
        let keys: String = (0..5_000).map(|it| format!(" {round}-{it}")).collect();
        client.send(format!("WATCH{keys}\r\nUNWATCH\r\n"));
    }
    let mut most = 0;
    while !scene.network.is_at_rest(&scene.event_loop)? {
        scene.event_loop.run_once(Duration::ZERO)?;
        most = most.max(left(&scene));
    }
    assert!(most <= 10_000, "{most} keys");
    assert_eq!(received(&client), "+OK ".repeat(40));
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(left(&scene), 0);
    Ok(())
}

#[test]
fn a_transaction_fails_when_one_of_many_watched_keys_has_changed() -> Result {
    let scene = Scene::new()?;
    let other = scene.client()?;
    let client = ask_for_many(&scene, "WATCH")?;
    client.take_received();
    scene.ask(&other, "SET 000777 1\n")?;
    assert_eq!(
        scene.ask(&client, "MULTI\nPING\nEXEC\n")?,
        "+OK +QUEUED *-1 "
    );
    // The watches have ended with it.
    scene.ask(&other, "SET 000778 1\n")?;
    assert_eq!(
        scene.ask(&client, "MULTI\nPING\nEXEC\n")?,
        "+OK +QUEUED *1 +PONG "
    );
    Ok(())
}
