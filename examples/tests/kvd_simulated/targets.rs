//! Commands that wait for others that make a value for the same key: their memory, and those of clients that have left.

use std::collections::BTreeMap;
use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Peer;

use crate::allocator::balance;
use crate::long::fill;
use crate::parts::begin;
use crate::scene::{Scene, received};

/// It takes much longer than to receive some requests.
const FIRST: &str = "SETRANGE d 100000000 x";

/// The bytes of a large argument.
const LEN: usize = 100_000;

/// Sends SUNIONSTORE d s with the name of another set, which is long, and INCR n. Returns when the first one waits.
fn send_large(scene: &Scene, client: &Peer) -> Result {
    let key = "k".repeat(LEN);
    let request =
        format!("*4\r\n$11\r\nSUNIONSTORE\r\n$1\r\nd\r\n$1\r\ns\r\n${LEN}\r\n{key}\r\nINCR n\r\n");
    let commands = || scene.shared.lock().stats.commands();
    let before = commands();
    client.send(request);
    while commands() == before {
        scene.event_loop.run_once(Duration::ZERO)?;
    }
    // It may be that a client is ended.
    scene.event_loop.run_once(Duration::ZERO)?;
    Ok(())
}

fn retained(scene: &Scene) -> usize {
    scene.shared.lock().retained
}

fn waiting(scene: &Scene) -> usize {
    let data = scene.shared.lock();
    data.targets.queues.values().map(BTreeMap::len).sum()
}

#[test]
fn the_commands_of_clients_that_have_left_are_not_executed() -> Result {
    let scene = Scene::new()?;
    let (client, first, last) = (scene.client()?, scene.client()?, scene.client()?);
    fill(&scene, &client)?;
    begin(&scene, &first, FIRST)?;
    let before = balance();
    for _ in 0..4 {
        let gone = scene.client()?;
        send_large(&scene, &gone)?;
        assert_eq!(waiting(&scene), 1);
        assert!(retained(&scene) > LEN);
        gone.reset();
        scene.event_loop.run_once(Duration::ZERO)?;
        scene.event_loop.run_once(Duration::ZERO)?;
        assert_eq!(waiting(&scene), 0);
        assert!(retained(&scene) < 1_000, "{}", retained(&scene));
    }
    let added = balance() - before;
    assert!(added < LEN as isize, "{added} bytes");
    assert_eq!(received(&first), "", "the first command has not ended");
    last.send("SUNIONSTORE d s\r\nGET n\r\n");
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(received(&first), ":100000001 ");
    assert_eq!(received(&last), ":20000 $-1 ");
    assert_eq!(retained(&scene), 0);
    Ok(())
}

/// Nobody has acknowledged it, and otherwise clients that leave could make the server execute any number of them at the
/// same time.
#[test]
fn a_command_in_parts_ends_when_its_client_has_left() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    fill(&scene, &client)?;
    for command in ["SUNIONSTORE d s", "SORT l STORE d", "SETRANGE d 9000000 x"] {
        let gone = scene.client()?;
        begin(&scene, &gone, command)?;
        gone.reset();
        for _ in 0..5 {
            scene.event_loop.run_once(Duration::ZERO)?;
        }
        assert!(scene.shared.lock().targets.queues.is_empty(), "{command}");
        assert_eq!(scene.ask(&client, "EXISTS d\n")?, ":0 ", "{command}");
    }
    Ok(())
}

#[test]
fn the_arguments_of_waiting_commands_have_a_limit_together() -> Result {
    let scene = Scene::new()?;
    let (client, first) = (scene.client()?, scene.client()?);
    fill(&scene, &client)?;
    scene.ask(&client, "CONFIG SET maxmemory-clients 500kb\n")?;
    begin(&scene, &first, FIRST)?;
    let mut others = Vec::new();
    for _ in 0..8 {
        let other = scene.client()?;
        send_large(&scene, &other)?;
        others.push(other);
        assert!(retained(&scene) <= 512_000, "{}", retained(&scene));
    }
    assert_eq!(received(&first), "", "the first command has not ended");
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(received(&first), ":100000001 ");
    let ended = others.iter().filter(|it| it.has_ended()).count();
    let executed = others
        .iter()
        .filter(|it| received(it).starts_with(":20000 :"));
    assert!(ended > 0, "none was ended");
    assert_eq!(executed.count(), 8 - ended);
    assert_eq!(retained(&scene), 0);
    Ok(())
}
