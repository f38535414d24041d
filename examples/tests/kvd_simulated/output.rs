//! The limits of the output that waits for a client.

use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Peer;

use crate::scene::{Scene, options, received};
use crate::server::Options;
use crate::server::config::Config;

fn scene_with(limits: &str) -> Result<Scene> {
    let mut config = Config::default();
    config.set("client-output-buffer-limit", limits)?;
    Scene::with(Options {
        config,
        ..options()
    })
}

/// A client that does not read.
fn slow_client(scene: &Scene, script: &str) -> Result<Peer> {
    let client = scene.client()?;
    scene.ask(&client, script)?;
    client.stop_reading();
    Ok(client)
}

/// A request with a long last argument.
fn long_request(name: &str, first: &str, len: usize) -> String {
    let (name_len, first_len) = (name.len(), first.len());
    let last = "x".repeat(len);
    format!("*3\n${name_len}\n{name}\n${first_len}\n{first}\n${len}\n{last}\n")
}

/// What is queued when a turn ends early does not make the replies of the next turn output that others have caused.
#[test]
fn the_limit_of_messages_does_not_count_replies_of_a_later_turn() -> Result {
    let scene = scene_with("pubsub 40kb 0 0")?;
    let subscriber = scene.client()?;
    // So many messages end a turn.
    let patterns: String = (0..10_001).map(|it| format!(" [c{it}]")).collect();
    scene.ask(&subscriber, &format!("PSUBSCRIBE{patterns}\n"))?;
    subscriber.start_reading(usize::MAX);
    let other = scene.client()?;
    scene.ask(&other, &long_request("SET", "first", 220_000))?;
    scene.ask(&other, &long_request("SET", "second", 100_000))?;
    let client = slow_client(&scene, "")?;
    let script = "GET first\nPUBLISH c x\nGET second\nGET second\nGET second\nPING\n";
    scene.ask(&client, script)?;
    client.start_reading(usize::MAX);
    scene.network.settle(&scene.event_loop)?;
    assert!(!client.has_ended());
    let replies = received(&client);
    assert_eq!(replies.matches("$100000 ").count(), 3);
    assert!(replies.ends_with("+PONG "));
    Ok(())
}

#[test]
fn a_subscriber_that_does_not_read_is_ended_and_one_whose_replies_are_long_is_not() -> Result {
    let scene = scene_with("pubsub 200kb 0 0")?;
    let publisher = scene.client()?;
    scene.ask(&publisher, &long_request("SET", "long", 2_000_000))?;
    let slow = slow_client(&scene, "SUBSCRIBE c\n")?;
    let asking = slow_client(&scene, "HELLO 3\nSUBSCRIBE other\n")?;
    scene.ask(&asking, "GET long\n")?;
    scene.ask(&publisher, "PUBLISH other x\n")?;
    let message = long_request("PUBLISH", "c", 100_000);
    for _ in 0..10 {
        scene.ask(&publisher, &message)?;
    }
    assert!(slow.has_ended());
    assert!(!asking.has_ended());
    asking.start_reading(usize::MAX);
    scene.network.settle(&scene.event_loop)?;
    assert!(received(&asking).ends_with(">3 $7 message $5 other $1 x "));
    Ok(())
}

#[test]
fn a_normal_client_has_the_limit_that_is_set() -> Result {
    let scene = Scene::new()?;
    let other = scene.client()?;
    scene.ask(&other, &long_request("SET", "long", 2_000_000))?;
    let slow = slow_client(&scene, "")?;
    scene.ask(&slow, "GET long\n")?;
    assert!(!slow.has_ended());
    let limits = "CONFIG SET client-output-buffer-limit \"normal 1mb 0 0\"\n";
    assert_eq!(scene.ask(&other, limits)?, "+OK ");
    assert!(slow.has_ended());
    assert_eq!(scene.ask(&other, "GET long\n")?, "");
    assert!(other.has_ended());
    Ok(())
}

#[test]
fn a_soft_limit_ends_a_client_that_exceeds_it_for_its_time() -> Result {
    let scene = scene_with("pubsub 0 100kb 10")?;
    let (late, slow) = (
        slow_client(&scene, "SUBSCRIBE c\n")?,
        slow_client(&scene, "SUBSCRIBE c\n")?,
    );
    let publisher = scene.client()?;
    let message = long_request("PUBLISH", "c", 300_000);
    scene.ask(&publisher, &message)?;
    scene.ask(&publisher, &message)?;
    let advance = |seconds| {
        let time = Duration::from_secs(seconds);
        scene.network.advance(&scene.event_loop, time)
    };
    advance(8)?;
    late.start_reading(usize::MAX);
    scene.network.settle(&scene.event_loop)?;
    advance(1)?;
    assert!(!slow.has_ended());
    advance(4)?;
    assert!(slow.has_ended());
    assert!(!late.has_ended());
    // The time begins again.
    late.stop_reading();
    scene.ask(&publisher, &message)?;
    scene.ask(&publisher, &message)?;
    advance(8)?;
    assert!(!late.has_ended());
    advance(4)?;
    assert!(late.has_ended());
    Ok(())
}
