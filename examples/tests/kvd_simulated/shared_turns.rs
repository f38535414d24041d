//! Many commands that take several turns do not make a turn long: one part of one of them is executed in a turn.

use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Peer;

use crate::long::{fill, turns_until_reply};
use crate::scene::{Scene, received};

/// How many clients execute a command at the same time.
const CLIENTS: usize = 4;

/// So many of the turns of a command have no part of it: a request arrives, and its reply is sent.
const OTHER_TURNS: usize = 2;

/// Lets the loop run until all clients have received something, and returns how many turns that has taken.
fn turns_until_replies(scene: &Scene, clients: &[Peer]) -> Result<usize> {
    let mut waiting: Vec<&Peer> = clients.iter().collect();
    for turns in 1..100_000 {
        scene.event_loop.run_once(Duration::ZERO)?;
        waiting.retain(|client| client.take_received().is_empty());
        if waiting.is_empty() {
            scene.network.settle(&scene.event_loop)?;
            clients.iter().for_each(|client| drop(received(client)));
            return Ok(turns);
        }
    }
    Err("there are no replies".into())
}

/// The number of turns shows how many parts were executed in each: as many parts as one command has are executed for each
/// client. Each `@` of the command is the number of the client. `turns_of_part`: how many turns a part takes if there are no
/// others.
fn check(scene: &Scene, clients: &[Peer], command: &str, turns_of_part: usize) -> Result {
    let request = |number: usize| command.replace('@', &number.to_string()) + "\r\n";
    let (first, others) = clients.split_first().ok_or("there are no clients")?;
    first.send(request(0));
    let (alone, _) = turns_until_reply(scene, first)?;
    assert!(alone > 2 * OTHER_TURNS, "{command}: {alone} turns");
    for (number, client) in others.iter().enumerate() {
        client.send(request(number + 1));
    }
    let together = turns_until_replies(scene, others)?;
    assert!(
        together >= others.len() * (alone - OTHER_TURNS) / turns_of_part,
        "{command}: {alone} turns alone, and {together} turns together"
    );
    Ok(())
}

#[test]
fn a_turn_has_one_part_of_one_command() -> Result {
    let scene = Scene::new()?;
    let subscriber = scene.client()?;
    let clients: Vec<_> = (0..=CLIENTS)
        .map(|_| scene.client())
        .collect::<Result<_>>()?;
    fill(&scene, &subscriber)?;
    for from in (0..40_000).step_by(1_000) {
        let names: String = (from..from + 1_000).map(|it| format!(" n{it}*")).collect();
        for command in ["RPUSH l", "MSET", "PSUBSCRIBE", "SUBSCRIBE"] {
            let client = match command {
                "RPUSH l" | "MSET" => &clients[0],
                _ => &subscriber,
            };
            scene.ask(client, &format!("{command}{names}\n"))?;
        }
    }
    for number in 0..=CLIENTS {
        let script = format!("COPY l l{number}\nCOPY s s{number}\n");
        scene.ask(&clients[0], &script)?;
    }
    // Each client has keys of its own: the values for one key are made one after another.
    for command in [
        "SORT l ALPHA LIMIT 0 1",
        "SORT l ALPHA LIMIT 40000 1",
        "SORT l ALPHA STORE d@",
        "SUNION s s1",
        "SUNIONSTORE d@ s",
        "SINTERCARD 2 s s1",
        "SPOP s@ 12000",
        "ZUNION 2 z z",
        "ZUNIONSTORE d@ 2 z z",
        "LREM l@ 0 x",
        "LINSERT l@ AFTER x y",
        "LPOS l x",
        "KEYS n*",
        "PUBLISH none x",
    ] {
        check(&scene, &clients, command, 1)?;
    }
    // Its parts are posted to its connection.
    check(&scene, &clients, "PUBSUB CHANNELS none", 2)?;
    let _others: Vec<_> = (0..600).map(|_| scene.client()).collect::<Result<_>>()?;
    scene.network.settle(&scene.event_loop)?;
    check(&scene, &clients, "CLIENT LIST", 1)
}
