//! Which ends of a chat are announced to the peer (`close_notify`): docs/tls.md has the same table.

use std::time::Duration;

use asynchat::{Chat, Deadlines, Result, Server};

use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, server_config};

/// What the session does when it gets a record.
fn act(chat: &Chat, line: &[u8]) -> Result {
    match line {
        b"close" => chat.close(),
        b"drop" => {
            chat.push("a reply\r\n");
            chat.close();
        }
        b"done" => {
            chat.push("a reply\r\n");
            chat.close_when_done();
        }
        b"fail" => {
            chat.push("a reply\r\n");
            return Err("on purpose".into());
        }
        b"panic" => {
            chat.push("a reply\r\n");
            panic!("on purpose");
        }
        b"abort" => chat.abort(),
        _ => {}
    }
    Ok(())
}

/// A connection that is up, whose peer sends `input`.
fn after(input: &str, deadlines: Deadlines) -> Result<(Scene, TlsPeer)> {
    let scene = Scene::new()?;
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .deadlines(deadlines)
        .listen_on(&scene.event_loop, scene.log.session_with(act))?;
    let peer = scene.network.connect("127.0.0.1:563")?;
    let mut peer = TlsPeer::client(peer, client_config());
    peer.exchange(|| scene.settle().unwrap());
    peer.send(input);
    peer.exchange(|| scene.settle().unwrap());
    Ok((scene, peer))
}

#[test]
fn the_end_of_a_complete_output_is_announced() -> Result {
    for (input, is_announced, text) in [
        ("close\r\n", true, ""),
        ("done\r\n", true, "a reply\r\n"),
        ("drop\r\n", false, ""),
        ("abort\r\n", false, ""),
        ("fail\r\n", true, "a reply\r\n"),
        ("panic\r\n", true, "a reply\r\n"),
    ] {
        let (scene, mut peer) = after(input, Deadlines::default())?;
        assert!(scene.event_loop.stats().closed == 1, "{input}");
        assert_eq!(peer.text(), text, "{input}");
        assert_eq!(peer.is_closed(), is_announced, "{input}");
    }
    Ok(())
}

#[test]
fn a_shutdown_is_announced() -> Result {
    let (scene, mut peer) = after("", Deadlines::default())?;
    scene.event_loop.shutdown(Duration::from_secs(5));
    peer.exchange(|| scene.settle().unwrap());
    assert!(peer.is_closed());
    Ok(())
}

#[test]
fn a_deadline_is_announced_unless_output_is_left() -> Result {
    let minute = Duration::from_secs(60);
    let idle = Deadlines::default().idle(minute);
    let record = Deadlines::default().record(minute);
    for (input, deadlines) in [("", idle), ("a part of a line", record)] {
        let (scene, mut peer) = after(input, deadlines)?;
        scene.advance(60)?;
        peer.exchange(|| scene.settle().unwrap());
        assert!(scene.log.has("close Timeout"), "{input}");
        assert!(peer.is_closed(), "{input}");
    }
    Ok(())
}
