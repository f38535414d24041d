//! The `rooms` example on a simulated network.

#[path = "../rooms/house/mod.rs"]
#[allow(unreachable_pub)]
mod house;
#[path = "common/scene.rs"]
mod scene;

use std::ops::Deref;
use std::time::Duration;

use asynchat::Result;
use asynchat::sim::{Ended, Network, Peer};
use house::Options;
use scene::Scene;

const ADDR: &str = "192.0.2.1:7007";
const BACKLOG: usize = 10_000;

struct House(Scene);

impl Deref for House {
    type Target = Scene;
    fn deref(&self) -> &Scene {
        &self.0
    }
}

impl House {
    fn new() -> Result<Self> {
        let options = Options {
            backlog: BACKLOG,
            max_connections: 10,
            idle: Duration::from_secs(600),
        };
        let serve = move || house::serve(ADDR, options);
        Ok(House(Scene::new(Network::new(1), serve)?))
    }

    /// A client that has sent these lines and received the replies.
    fn member(&self, entry: &str) -> Result<Peer> {
        let peer = self.network.connect(ADDR)?;
        self.send(&peer, entry)?;
        peer.take_received();
        Ok(peer)
    }

    fn send(&self, peer: &Peer, lines: &str) -> Result {
        peer.send(lines);
        self.settle()
    }
}

#[track_caller]
fn expect_received(peer: &Peer, text: &str) {
    assert_eq!(String::from_utf8_lossy(&peer.take_received()), text);
}

#[test]
fn text_is_sent_to_the_members_of_its_room_only() -> Result {
    let scene = House::new()?;
    let ann = scene.member("/nick ann\n/join tea\n")?;
    let bob = scene.member("/nick bob\r\n/join #tea\r\n")?;
    let eve = scene.member("/nick eve\n/join coffee\n")?;
    expect_received(&ann, "* bob has joined #tea\r\n");
    scene.send(&ann, "hello\n\n/join coffee\nand here\n/join tea\nback\n")?;
    expect_received(&bob, "#tea <ann> hello\r\n#tea <ann> back\r\n");
    expect_received(
        &eve,
        "* ann has joined #coffee\r\n#coffee <ann> and here\r\n",
    );
    expect_received(&ann, "* ann has joined #coffee\r\n* you talk in #tea\r\n");
    scene.send(&ann, "/who tea\n/who\n/who gin\n")?;
    expect_received(
        &ann,
        "* #tea: ann, bob\r\n* #coffee: 2\r\n* #tea: 2\r\n* that is all of them\r\n! no such room\r\n",
    );
    Ok(())
}

#[test]
fn members_join_rename_send_private_messages_and_leave() -> Result {
    let scene = House::new()?;
    let ann = scene.member("/nick ann\n/join tea\n")?;
    let bob = scene.member("/nick bob\n/join tea\n")?;
    ann.take_received();
    scene.send(&bob, "/nick ANN\n/nick Bob\n/msg ann psst\n/msg eve psst\n")?;
    expect_received(
        &bob,
        "! somebody else has that name\r\n* you are Bob now\r\n! nobody has that name\r\n",
    );
    expect_received(&ann, "* bob is Bob now\r\n-Bob- psst\r\n");
    scene.send(&bob, "/part\n/part\nanybody?\n")?;
    expect_received(
        &bob,
        "* Bob has left #tea\r\n! you are not in it\r\n! nobody hears you; /join a room\r\n",
    );
    scene.send(&bob, "/join tea\n/quit see you\n")?;
    expect_received(&bob, "* Bob has joined #tea\r\n* good-bye\r\n");
    assert_eq!(bob.ended(), Some(Ended::Finished));
    expect_received(
        &ann,
        "* Bob has left #tea\r\n* Bob has joined #tea\r\n* Bob has left the house (see you)\r\n",
    );
    // The nick is free again. The empty room is removed.
    let bob = scene.member("/nick bob\n")?;
    scene.send(&ann, "/quit\n")?;
    scene.send(&bob, "/who\n")?;
    expect_received(&bob, "* that is all of them\r\n");
    Ok(())
}

#[test]
fn a_client_without_a_nick_and_malformed_lines_get_errors() -> Result {
    let scene = House::new()?;
    let ann = scene.member("")?;
    scene.send(
        &ann,
        "hello\n/join tea\n/nick a b\n/nick\n/dance\n/msg bob\n",
    )?;
    expect_received(
        &ann,
        "! your /nick first\r\n! your /nick first\r\n\
         ! a name has up to 24 letters, digits, - and _\r\n\
         ! a name has up to 24 letters, digits, - and _\r\n\
         ! no such command; /help lists them\r\n! /msg NICK TEXT\r\n",
    );
    scene.send(&ann, &("x".repeat(2000) + "\n/nick ann\n"))?;
    expect_received(
        &ann,
        "! the line is too long\r\n* hello, ann; /join a room\r\n",
    );
    Ok(())
}

#[test]
fn control_characters_are_replaced_in_text_for_others() -> Result {
    let scene = House::new()?;
    let ann = scene.member("/nick ann\n/join tea\n")?;
    let bob = scene.member("/nick bob\n/join tea\n")?;
    scene.send(&ann, "\u{1b}[2Jx\r#tea <bob> I never said this\n")?;
    expect_received(
        &bob,
        "#tea <ann> \u{fffd}[2Jx\u{fffd}#tea <bob> I never said this\r\n",
    );
    Ok(())
}

#[test]
fn a_member_who_does_not_read_is_disconnected_and_others_are_not_affected() -> Result {
    let scene = House::new()?;
    let ann = scene.member("/nick ann\n/join tea\n")?;
    let bob = scene.member("/nick bob\n/join tea\n")?;
    let eve = scene.member("/nick eve\n/join tea\n")?;
    bob.take_received();
    eve.stop_reading();
    let line = "x".repeat(1000);
    let mut left = false;
    for _ in 0..200 {
        scene.send(&ann, &format!("{line}\n"))?;
        let received = String::from_utf8(bob.take_received())?;
        assert!(
            received.starts_with(&format!("#tea <ann> {line}\r\n")),
            "{received}"
        );
        left |=
            received.contains("* eve has left the house (the peer does not read what it is sent)");
    }
    assert!(left);
    assert_eq!(scene.event_loop.stats().closes.output_limit, 1);
    scene.send(&bob, "/who tea\n")?;
    expect_received(&bob, "* #tea: ann, bob\r\n");
    Ok(())
}

#[test]
fn a_connection_above_the_limit_is_refused_with_a_message() -> Result {
    let scene = House::new()?;
    let people: Result<Vec<_>> = (0..10).map(|_| scene.member("")).collect();
    let late = scene.network.connect(ADDR)?;
    scene.send(&late, "")?;
    expect_received(&late, "! the house is full\r\n");
    assert!(people?.iter().all(|peer| !peer.has_ended()));
    Ok(())
}
