//! Clients that finish sending, and go on reading: all their requests are executed and answered.

use asynchat::Result;
use asynchat::sim::{Ended, Peer};

use crate::long::{fill, numbers};
use crate::parts::begin;
use crate::scene::{Scene, received};

fn send_and_finish(scene: &Scene, client: &Peer, script: &str) -> Result<String> {
    client.send(script.replace('\n', "\r\n"));
    client.finish();
    scene.network.settle(&scene.event_loop)?;
    Ok(received(client))
}

#[test]
fn what_follows_a_command_that_takes_several_turns_is_executed() -> Result {
    let scene = Scene::new()?;
    let (client, subscriber) = (scene.client()?, scene.client()?);
    fill(&scene, &client)?;
    scene.ask(&client, "SETRANGE k 3999999 x\n")?;
    for part in 0..20 {
        let from = part * 1_000;
        let patterns = numbers(from..from + 1_000).replace(' ', " a*");
        scene.ask(&subscriber, &format!("PSUBSCRIBE{patterns}\n"))?;
    }
    for (command, reply) in [
        ("SUNIONSTORE d s", ":20000 "),
        ("SDIFFSTORE d s s", ":0 "),
        ("SORT l STORE d", ":20000 "),
        ("LREM l 0 nosuch", ":0 "),
        ("LINSERT l BEFORE nosuch x", ":-1 "),
        ("ZRANGESTORE d z 0 -1", ":20000 "),
        ("ZUNIONSTORE d 1 z", ":20000 "),
        ("SPOP s 0", "*0 "),
        ("SETRANGE new 9000000 x", ":9000001 "),
        ("PUBLISH bbbbbbbbbb x", ":0 "),
        ("INFO nosuch", "$0  "),
    ] {
        scene.ask(&client, "DEL n new\n")?;
        // Twice, and with requests behind that are waiting when the connection has nothing more to read.
        let script = format!("{command}\nINCR n\n{command}\nINCR n\nGET n\n");
        let other = scene.client()?;
        let replies = send_and_finish(&scene, &other, &script)?;
        assert_eq!(replies, format!("{reply}:1 {reply}:2 $1 2 "), "{command}");
        assert_eq!(other.ended(), Some(Ended::Finished), "{command}");
    }
    Ok(())
}

/// It may be that its end is not read before all others have been served.
#[test]
fn a_command_that_waits_for_others_is_executed() -> Result {
    let scene = Scene::new()?;
    let (client, first) = (scene.client()?, scene.client()?);
    fill(&scene, &client)?;
    begin(&scene, &first, "SUNIONSTORE d s")?;
    let mut others = Vec::new();
    for _ in 0..3 {
        let other = scene.client()?;
        other.send("SUNIONSTORE d s\r\nINCR n\r\n");
        other.finish();
        others.push(other);
    }
    scene.network.settle(&scene.event_loop)?;
    for (number, other) in others.iter().enumerate() {
        assert_eq!(received(other), format!(":20000 :{} ", number + 1));
        assert_eq!(other.ended(), Some(Ended::Finished));
    }
    Ok(())
}

/// The output for a client that does not read on is no reason to read its input while its command is executed.
#[test]
fn output_that_is_sent_meanwhile_does_not_end_the_wait() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    fill(&scene, &client)?;
    scene.ask(&client, "SETRANGE k 999999 x\n")?;
    other.start_reading(0);
    other.send("GET k\r\nSUNIONSTORE d s\r\nINCR n\r\nSUNIONSTORE d s\r\nGET k\r\nINCR n\r\n");
    other.finish();
    scene.network.settle(&scene.event_loop)?;
    other.start_reading(usize::MAX);
    scene.network.settle(&scene.event_loop)?;
    let replies = received(&other);
    assert!(replies.ends_with("x :2 "), "{}", replies.len());
    assert!(replies.contains("x :20000 :1 :20000 $1000000 "));
    assert_eq!(other.ended(), Some(Ended::Finished));
    Ok(())
}
