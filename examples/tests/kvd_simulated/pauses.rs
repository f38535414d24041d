//! CLIENT PAUSE: whose requests wait, for how long, and what happens meanwhile.

use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Ended;

use crate::long::fill;
use crate::parts::begin;
use crate::scene::{Scene, received, set_clock_forward};

fn advance(scene: &Scene, milliseconds: u64) -> Result {
    let time = Duration::from_millis(milliseconds);
    Ok(scene.network.advance(&scene.event_loop, time)?)
}

/// Also those of the client that has begun the pause. What is no request has its error at once.
#[test]
fn all_requests_wait_until_the_time_is_over_and_are_executed_in_their_order() -> Result {
    let scene = Scene::new()?;
    let (first, second) = (scene.client()?, scene.client()?);
    assert_eq!(scene.ask(&second, "CLIENT PAUSE 1000\n")?, "+OK ");
    assert_eq!(scene.ask(&first, "INCR n\nGET n\nPING\nPING\n")?, "");
    assert_eq!(scene.ask(&second, "CLIENT UNPAUSE\nINCR n\n")?, "");
    let late = scene.client()?;
    let reply = scene.ask(&late, "nosuch\nGET\nINCR n\n")?;
    assert_eq!(reply.matches("-ERR ").count(), 2, "{reply}");
    advance(&scene, 900)?;
    assert_eq!(scene.ask(&first, "PING\n")?, "");
    advance(&scene, 200)?;
    assert_eq!(received(&first), ":1 $1 1 +PONG +PONG +PONG ");
    assert_eq!(received(&second), "+OK :2 ");
    assert_eq!(received(&late), ":3 ");
    assert_eq!(scene.ask(&first, "PING\n")?, "+PONG ");
    Ok(())
}

#[test]
fn a_pause_of_writes_stops_what_may_change_a_key_or_publishes() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    scene.ask(&client, "SET k 1\nMULTI\nSET k 2\n")?;
    assert_eq!(scene.ask(&other, "CLIENT PAUSE 1000 write\n")?, "+OK ");
    assert_eq!(scene.ask(&client, "EXEC\n")?, "");
    let script = "GET k\nMULTI\nGET k\nEXEC\nSUBSCRIBE c\nUNSUBSCRIBE c\nPING\n";
    let replies =
        "$1 1 +OK +QUEUED *1 $1 1 *3 $9 subscribe $1 c :1 *3 $11 unsubscribe $1 c :0 +PONG ";
    assert_eq!(scene.ask(&other, script)?, replies);
    for request in [
        "SET k 3",
        "PUBLISH c x",
        "SORT l",
        "GETEX k",
        "MULTI\nDEL k",
    ] {
        let waiter = scene.client()?;
        let begun = scene.ask(&waiter, &format!("{request}\nPING\n"))?;
        assert!(["", "+OK "].contains(&&*begun), "{request}: {begun}");
        let blocked = scene.ask(&other, "INFO clients\n")?;
        assert!(blocked.contains("blocked_clients:2 "), "{blocked}");
        let listed = scene.ask(&other, "CLIENT LIST\n")?;
        assert_eq!(listed.matches("flags=b").count(), 2, "{listed}");
        assert_eq!(scene.ask(&other, "CLIENT UNBLOCK 3\n")?, ":0 ");
        waiter.finish();
        scene.network.settle(&scene.event_loop)?;
        assert!(waiter.has_ended(), "{request}");
    }
    assert_eq!(scene.ask(&other, "CLIENT UNPAUSE\n")?, "+OK ");
    assert_eq!(received(&client), "*1 +OK ");
    // Those that have left have changed nothing.
    assert_eq!(scene.ask(&other, "GET k\n")?, "$1 2 ");
    Ok(())
}

#[test]
fn a_pause_is_extended_but_not_shortened() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    let script = "CLIENT PAUSE 1000 WRITE\nCLIENT PAUSE 500 WRITE\nCLIENT PAUSE 0 WRITE\n";
    assert_eq!(scene.ask(&other, script)?, "+OK +OK +OK ");
    assert_eq!(scene.ask(&client, "INCR n\n")?, "");
    advance(&scene, 900)?;
    assert_eq!(received(&client), "");
    assert_eq!(scene.ask(&other, "CLIENT PAUSE 1000 WRITE\n")?, "+OK ");
    advance(&scene, 900)?;
    assert_eq!(received(&client), "");
    advance(&scene, 200)?;
    assert_eq!(received(&client), ":1 ");
    // A shorter one for all makes all wait for the rest of the longer one.
    let script = "CLIENT PAUSE 1000 WRITE\nCLIENT PAUSE 1 ALL\nPING\n";
    assert_eq!(scene.ask(&other, script)?, "+OK +OK ");
    advance(&scene, 900)?;
    assert_eq!(received(&other), "");
    advance(&scene, 200)?;
    assert_eq!(received(&other), "+PONG ");
    // One of 0 ends at once, and another one may follow.
    assert_eq!(scene.ask(&other, "CLIENT PAUSE 0\nPING\n")?, "+OK +PONG ");
    Ok(())
}

#[test]
fn times_and_modes_are_checked() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    for (request, reply) in [
        ("PAUSE x", "ERR timeout is not an integer or out of range"),
        ("PAUSE -1", "ERR timeout is negative"),
        ("PAUSE 9223372036854775807", "ERR timeout is out of range"),
        (
            "PAUSE 9223372036854775808",
            "ERR timeout is not an integer or out of range",
        ),
        ("PAUSE 1 x", "ERR CLIENT PAUSE mode must be WRITE or ALL"),
        (
            "PAUSE",
            "ERR wrong number of arguments for 'client|pause' command",
        ),
        (
            "UNPAUSE x",
            "ERR wrong number of arguments for 'client|unpause' command",
        ),
    ] {
        let found = scene.ask(&client, &format!("CLIENT {request}\n"))?;
        assert_eq!(found, format!("-{reply} "));
    }
    // Longer than any timer, and ended all the same.
    let script = "CLIENT PAUSE 7000000000000000000 WRITE\n";
    assert_eq!(scene.ask(&client, script)?, "+OK ");
    advance(&scene, 100_000)?;
    let other = scene.client()?;
    assert_eq!(scene.ask(&other, "INCR n\n")?, "");
    assert_eq!(scene.ask(&client, "CLIENT UNPAUSE\n")?, "+OK ");
    assert_eq!(received(&other), ":1 ");
    Ok(())
}

/// The clock decides, as it does for keys.
#[test]
fn a_pause_ends_when_the_clock_is_set_forward() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let script = "CLIENT PAUSE 3600000\nPING\n";
    assert_eq!(scene.ask(&client, script)?, "+OK ");
    set_clock_forward(Duration::from_secs(3_600));
    advance(&scene, 6_000)?;
    assert_eq!(received(&client), "+PONG ");
    Ok(())
}

#[test]
fn a_key_expires_behind_the_pause_and_is_not_found_before() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let script = "SET a 1 PX 100\nSET b 1 PX 100\nCLIENT PAUSE 1000 WRITE\n";
    scene.ask(&client, script)?;
    advance(&scene, 500)?;
    let reads = "GET a\nEXISTS a\nTTL a\nKEYS *\nRANDOMKEY\nDBSIZE\n";
    assert_eq!(scene.ask(&client, reads)?, "$-1 :0 :-2 *0 $-1 :2 ");
    let stats = scene.ask(&client, "INFO stats\n")?;
    assert!(stats.contains("expired_keys:0 "), "{stats}");
    advance(&scene, 600)?;
    assert_eq!(scene.ask(&client, "DBSIZE\n")?, ":0 ");
    let stats = scene.ask(&client, "INFO stats\n")?;
    assert!(stats.contains("expired_keys:2 "), "{stats}");
    Ok(())
}

/// It is not there for the client that watches it.
#[test]
fn a_watch_of_a_key_that_is_over_during_a_pause_is_broken_by_a_new_value_only() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    scene.ask(&client, "SET b 2\nSET a 1 PX 300\nSET early 1 PX 300\n")?;
    scene.ask(&other, "WATCH early\nCLIENT PAUSE 3000 WRITE\n")?;
    advance(&scene, 500)?;
    let transaction = "WATCH a\nMULTI\nGET b\nEXEC\n";
    let executed = "+OK +OK +QUEUED *1 $1 2 ";
    assert_eq!(scene.ask(&client, transaction)?, executed);
    assert_eq!(scene.ask(&client, "WATCH a\n")?, "+OK ");
    let failed = "+OK +QUEUED *-1 ";
    assert_eq!(scene.ask(&other, "MULTI\nGET b\nEXEC\n")?, failed);
    assert_eq!(scene.ask(&other, "CLIENT UNPAUSE\n")?, "+OK ");
    let behind = "MULTI\nGET b\nEXEC\n";
    assert_eq!(scene.ask(&client, behind)?, "+OK +QUEUED *1 $1 2 ");
    assert_eq!(scene.ask(&client, "WATCH a\n")?, "+OK ");
    assert_eq!(scene.ask(&other, "SET a 1\n")?, "+OK ");
    assert_eq!(scene.ask(&client, behind)?, failed);
    Ok(())
}

#[test]
fn a_client_that_waits_for_an_element_has_its_timeout_during_a_pause() -> Result {
    let scene = Scene::new()?;
    let (waiter, client) = (scene.client()?, scene.client()?);
    assert_eq!(scene.ask(&waiter, "BLPOP l 0.5\nPING\n")?, "");
    assert_eq!(scene.ask(&client, "CLIENT PAUSE 1000\n")?, "+OK ");
    advance(&scene, 600)?;
    assert_eq!(received(&waiter), "*-1 ");
    advance(&scene, 500)?;
    assert_eq!(received(&waiter), "+PONG ");
    Ok(())
}

/// SUNIONSTORE has begun before, and takes many turns.
#[test]
fn a_value_that_is_made_in_parts_is_stored_behind_the_pause() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    fill(&scene, &other)?;
    begin(&scene, &client, "SUNIONSTORE d s")?;
    assert_eq!(scene.ask(&other, "CLIENT PAUSE 1000 WRITE\n")?, "+OK ");
    assert_eq!(scene.ask(&other, "EXISTS d\n")?, ":0 ");
    advance(&scene, 900)?;
    assert_eq!(received(&client), "");
    assert_eq!(scene.ask(&other, "EXISTS d\n")?, ":0 ");
    advance(&scene, 200)?;
    assert!(received(&client).starts_with(':'));
    assert_eq!(scene.ask(&other, "EXISTS d\n")?, ":1 ");
    Ok(())
}

#[test]
fn the_input_of_a_client_that_waits_has_its_limit() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    let script = "CONFIG SET client-query-buffer-limit 1mb\nCLIENT PAUSE 1000 WRITE\n";
    assert_eq!(scene.ask(&other, script)?, "+OK +OK ");
    let requests = "PING\n".repeat(40_000);
    assert_eq!(scene.ask(&client, &format!("INCR n\n{requests}"))?, "");
    scene.ask(&client, &requests.repeat(3))?;
    assert!(!client.has_ended());
    scene.ask(&client, &requests)?;
    assert!(client.has_ended());
    advance(&scene, 1_100)?;
    assert_eq!(scene.ask(&other, "GET n\n")?, "$-1 ");
    Ok(())
}

/// The large argument has arrived by itself.
#[test]
fn a_request_with_a_large_argument_waits_as_a_whole() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    assert_eq!(scene.ask(&other, "CLIENT PAUSE 1000 WRITE\n")?, "+OK ");
    let value = "x".repeat(200_000);
    client.send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200000\r\n");
    scene.network.settle(&scene.event_loop)?;
    client.send(format!("{value}\r\nSTRLEN k\r\n"));
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(received(&client), "");
    assert_eq!(scene.ask(&client, "INCR n\n")?, "");
    advance(&scene, 1_100)?;
    assert_eq!(received(&client), "+OK :200000 :1 ");
    Ok(())
}

#[test]
fn a_client_that_waits_is_killed_and_a_skipped_reply_is_that_of_its_request() -> Result {
    let scene = Scene::new()?;
    let (client, skipping, other) = (scene.client()?, scene.client()?, scene.client()?);
    scene.ask(&client, "PING\n")?;
    assert_eq!(scene.ask(&other, "CLIENT PAUSE 1000 WRITE\n")?, "+OK ");
    assert_eq!(scene.ask(&client, "SET a 1\n")?, "");
    let script = "CLIENT REPLY SKIP\nSET b 1\nGET b\n";
    assert_eq!(scene.ask(&skipping, script)?, "");
    assert_eq!(scene.ask(&other, "CLIENT KILL ID 1\n")?, ":1 ");
    assert_eq!(client.ended(), Some(Ended::Finished));
    assert_eq!(scene.ask(&other, "CLIENT UNPAUSE\nEXISTS a\n")?, "+OK :0 ");
    assert_eq!(received(&skipping), "$1 1 ");
    Ok(())
}

#[test]
fn a_shutdown_ends_a_pause() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    assert_eq!(scene.ask(&other, "CLIENT PAUSE 1000000\n")?, "+OK ");
    assert_eq!(scene.ask(&client, "INCR n\n")?, "");
    advance(&scene, 1_000)?;
    scene.event_loop.shutdown(Duration::from_secs(5));
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(client.ended(), Some(Ended::Finished));
    assert_eq!(received(&client), "");
    // Each of them has noticed the end.
    client.finish();
    other.finish();
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(scene.network.sockets(), 0);
    assert!(scene.shared.lock().clients.is_empty());
    Ok(())
}
