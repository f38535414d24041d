//! A dialogue passes each record to the function that was queued for it.

mod common;
#[path = "common/scene.rs"]
mod scene;

use std::cell::RefCell;
use std::rc::Rc;

use asynchat::sim::{Peer, every_segmentation};
use asynchat::{AsyncChat, BoxError, Chat, Close, Dialogue, Error, Overflow, Result, Terminator};
use scene::Scene;

/// What the client saw, and how its dialogue ended.
#[derive(Default)]
struct Notes {
    seen: Vec<String>,
    ended: Option<Result<(), Error>>,
}

struct Client {
    chat: Chat,
    dialogue: Dialogue<Client>,
    notes: Rc<RefCell<Notes>>,
}

impl Client {
    fn note(&mut self, what: &str, record: &[u8]) {
        let text = format!("{what}={}", record.escape_ascii());
        self.notes.borrow_mut().seen.push(text);
    }

    /// Sends a command and notes its reply.
    fn ask(&mut self, command: &'static str) {
        self.dialogue
            .send(format!("{command}\r\n"), move |client, line| {
                client.note(command, line);
                Ok(())
            });
    }
}

impl AsyncChat for Client {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let then = self.dialogue.next(record)?;
        then(self)
    }

    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        let mut notes = self.notes.borrow_mut();
        match notes.seen.last_mut() {
            Some(last) if last.starts_with("chunks=") => {
                last.push_str(&chunk.escape_ascii().to_string());
            }
            _ => notes.seen.push(format!("chunks={}", chunk.escape_ascii())),
        }
        Ok(())
    }

    fn handle_overflow(&mut self) -> Result<Overflow> {
        self.note("too long", b"");
        Ok(Overflow::Close)
    }

    fn handle_close(&mut self, why: &Close) {
        self.notes.borrow_mut().ended = Some(self.dialogue.outcome(why));
    }
}

/// A client on a simulated network. `begin` is called by its factory.
fn client(
    scene: &Scene,
    begin: impl FnOnce(&mut Client) + 'static,
) -> Result<(Chat, Peer, Rc<RefCell<Notes>>)> {
    let notes = Rc::<RefCell<Notes>>::default();
    let its_notes = Rc::clone(&notes);
    let (chat, peer) = scene.connection(|chat| {
        let mut client = Client {
            dialogue: Dialogue::new(&chat),
            chat,
            notes: its_notes,
        };
        begin(&mut client);
        client
    })?;
    Ok((chat, peer, notes))
}

fn seen(notes: &Rc<RefCell<Notes>>) -> String {
    notes.borrow().seen.join(" ")
}

/// The text of the error with which the dialogue ended, or `ok`.
fn ended(notes: &Rc<RefCell<Notes>>) -> String {
    match &notes.borrow().ended {
        None => "open".to_owned(),
        Some(Ok(())) => "ok".to_owned(),
        Some(Err(error)) => error.to_string(),
    }
}

/// A greeting, a command alone, and then a burst whose replies have records of several kinds.
fn conversation(client: &mut Client) {
    client
        .dialogue
        .expect(Terminator::crlf(), |client, greeting| {
            client.note("greeting", greeting);
            client.dialogue.send("MODE READER\r\n", |client, line| {
                client.note("mode", line);
                client.dialogue.send("HEAD 1\r\n", |client, line| {
                    client.note("head", line);
                    client
                        .dialogue
                        .expect(Terminator::dot_block(), |client, head| {
                            client.note("block", head);
                            Ok(())
                        });
                    Ok(())
                });
                client.ask("STAT 2");
                client.dialogue.send("BODY 3\r\n", |client, line| {
                    client.note("body", line);
                    let block = Terminator::dot_block().streamed();
                    client.dialogue.expect(block, |client, end| {
                        client.note("end", end);
                        Ok(())
                    });
                    Ok(())
                });
                client.dialogue.send("GET\r\n", |client, line| {
                    client.note("get", line);
                    // Two records that follow each other, the first one empty.
                    client
                        .dialogue
                        .expect(Terminator::count(0), |client, body| {
                            client.note("none", body);
                            Ok(())
                        });
                    client
                        .dialogue
                        .expect(Terminator::count(3), |client, body| {
                            client.note("three", body);
                            client.ask("QUIT");
                            Ok(())
                        });
                    Ok(())
                });
                client.ask("DATE");
                Ok(())
            });
            Ok(())
        });
}

#[test]
fn each_reply_reaches_its_function_under_every_segmentation() -> Result {
    let replies = b"200 hi\r\n201 no\r\n221 1\r\na: b\r\n..c\r\n.\r\n223 2\r\n222 3\r\nx\r\ny\r\n.\r\n250\r\n\
        \r\n!111\r\n205\r\n";
    every_segmentation(replies, |pieces| {
        let scene = Scene::new()?;
        let (_, peer, notes) = client(&scene, conversation)?;
        for piece in pieces {
            peer.send(piece);
            scene.settle()?;
        }
        assert_eq!(
            seen(&notes),
            "greeting=200 hi mode=201 no head=221 1 block=a: b\\r\\n.c\\r\\n STAT 2=223 2 body=222 3 \
             chunks=x\\r\\ny\\r\\n end= get=250 none= three=\\r\\n! DATE=111 QUIT=205"
        );
        peer.finish();
        scene.settle()?;
        assert_eq!(ended(&notes), "ok");
        Ok(())
    })
}

#[test]
fn commands_do_not_wait_for_replies_unless_a_reply_sends_them() -> Result {
    let scene = Scene::new()?;
    let (_, peer, _) = client(&scene, conversation)?;
    assert_eq!(peer.take_received(), b"");
    peer.send("200 hi\r\n");
    scene.settle()?;
    assert_eq!(peer.take_received(), b"MODE READER\r\n");
    peer.send("200 ok\r\n");
    scene.settle()?;
    let burst = b"HEAD 1\r\nSTAT 2\r\nBODY 3\r\nGET\r\nDATE\r\n";
    assert_eq!(peer.take_received(), burst);
    Ok(())
}

#[test]
fn an_expected_greeting_precedes_the_replies_to_commands_that_were_sent_before_it() -> Result {
    let scene = Scene::new()?;
    let (_, peer, notes) = client(&scene, |client| {
        client.ask("HELLO");
        client.dialogue.expect(Terminator::crlf(), |client, line| {
            client.note("greeting", line);
            Ok(())
        });
    })?;
    peer.send("200\r\n250\r\n");
    scene.settle()?;
    assert_eq!(seen(&notes), "greeting=200 HELLO=250");
    Ok(())
}

#[test]
fn the_first_lines_have_the_terminator_of_the_chat() -> Result {
    let scene = Scene::new()?;
    let notes = Rc::<RefCell<Notes>>::default();
    let its_notes = Rc::clone(&notes);
    let (_, peer) = scene.connection(|chat| {
        chat.set_terminator(Terminator::line());
        let mut client = Client {
            dialogue: Dialogue::new(&chat),
            chat,
            notes: its_notes,
        };
        client.dialogue.send("A\n", |client, line| {
            client.note("a", line);
            client
                .dialogue
                .expect(Terminator::count(2), |client, body| {
                    client.note("body", body);
                    client.ask("C");
                    Ok(())
                });
            Ok(())
        });
        client.ask("B");
        client
    })?;
    peer.send("1\n\n\n2\n3\n");
    scene.settle()?;
    assert_eq!(seen(&notes), "a=1 body=\\n\\n B=2 C=3");
    Ok(())
}

#[test]
fn a_missing_reply_is_an_error_that_names_its_command() -> Result {
    let scene = Scene::new()?;
    let (_, peer, notes) = client(&scene, |client| {
        client.ask("HELO me");
        client.ask("MAIL FROM:<a@b>");
        client.ask("QUIT");
    })?;
    peer.send("250\r\n25");
    peer.finish();
    scene.settle()?;
    assert_eq!(seen(&notes), "HELO me=250");
    let error = "MAIL: 2 replies are missing: the peer closed the connection";
    assert_eq!(ended(&notes), error);

    // The end comes inside the second record of a reply.
    let (_, peer, notes) = client(&scene, |client| {
        client.dialogue.send("HEAD\r\n", |client, _| {
            client
                .dialogue
                .expect(Terminator::dot_block(), |_, _| Ok(()));
            Ok(())
        });
    })?;
    peer.send("221\r\na: b\r\n");
    peer.reset();
    scene.settle()?;
    let error = "HEAD: the reply is missing: the peer reset the connection";
    assert_eq!(ended(&notes), error);
    Ok(())
}

#[test]
fn a_record_that_nobody_expects_is_an_error_that_shows_it() -> Result {
    let scene = Scene::new()?;
    let (_, peer, notes) = client(&scene, |client| client.ask("DATE"))?;
    peer.send(format!("111\r\n400 idle\t{}\r\n", "x".repeat(100)));
    scene.settle()?;
    let shown = format!("unexpected: `400 idle\\t{}...`", "x".repeat(51));
    assert_eq!(ended(&notes), shown);
    assert!(peer.has_ended());
    Ok(())
}

#[test]
fn an_error_of_a_function_names_the_command_and_the_reply() -> Result {
    let fail = |_: &mut Client, _: &[u8]| Err::<(), BoxError>("refused".into());
    let secret = "MTIzNDU2Nzg5MDEy\r\n";
    type Begin = Box<dyn FnOnce(&mut Client)>;
    let cases: [(&str, Begin); 5] = [
        (
            "greeting: `4\\xff`: refused",
            Box::new(move |it| it.dialogue.expect(Terminator::crlf(), fail)),
        ),
        (
            "PASS: `4\\xff`: refused",
            Box::new(move |it| it.dialogue.send("PASS sesame\r\n", fail)),
        ),
        (
            "secret: `4\\xff`: refused",
            Box::new(move |it| it.dialogue.send_secret("sesame\r\n", fail)),
        ),
        // Not a word of letters.
        (
            "command: `4\\xff`: refused",
            Box::new(move |it| it.dialogue.send(secret, fail)),
        ),
        (
            "command: `4\\xff`: refused",
            Box::new(move |it| it.dialogue.send("sesameopensesamex\r\n", fail)),
        ),
    ];
    for (error, begin) in cases {
        let scene = Scene::new()?;
        let (_, peer, notes) = client(&scene, begin)?;
        peer.send(b"4\xff\r\n");
        scene.settle()?;
        assert_eq!(ended(&notes), error);
    }
    Ok(())
}

#[test]
fn a_dialogue_without_missing_replies_ends_well_if_one_side_chose_to_close() -> Result {
    let scene = Scene::new()?;
    let (chat, _peer, notes) = client(&scene, |_| {})?;
    chat.close();
    scene.settle()?;
    assert_eq!(ended(&notes), "ok");

    let (_, peer, notes) = client(&scene, |_| {})?;
    peer.reset();
    scene.settle()?;
    assert_eq!(ended(&notes), "the peer reset the connection");
    Ok(())
}

#[test]
fn a_large_burst_waits_in_the_dialogue_and_input_is_still_read() -> Result {
    const COUNT: usize = 20_000;
    let scene = Scene::new()?;
    let (chat, peer, notes) = client(&scene, |client| {
        for _ in 0..COUNT {
            client.ask("PING 0123456789");
        }
        assert_eq!(client.dialogue.len(), COUNT);
    })?;
    let command = "PING 0123456789\r\n".len();
    // The server reads nothing until the client has read all that it sends.
    peer.stop_reading();
    assert!(chat.queued() <= 4096);
    let (mut read, mut answered) = (0, 0);
    while answered < COUNT {
        peer.start_reading(30_000);
        scene.settle()?;
        read += peer.take_received().len();
        let replies = read / command - answered;
        assert!(replies > 0, "both sides wait, after {answered} replies");
        peer.send("+PONG\r\n".repeat(replies));
        scene.settle()?;
        answered += replies;
        assert!(chat.queued() <= 4096);
        assert_eq!(notes.borrow().seen.len(), answered);
    }
    assert_eq!(read, COUNT * command);
    Ok(())
}

#[test]
fn large_replies_are_read_while_the_kernel_takes_no_commands() -> Result {
    let scene = Scene::new()?;
    let (chat, peer, notes) = client(&scene, |client| {
        client.dialogue.expect(Terminator::crlf(), |client, _| {
            for _ in 0..100_000 {
                client.ask("PING 0123456789");
            }
            Ok(())
        });
    })?;
    peer.stop_reading();
    peer.send("200\r\n");
    let reply = "x".repeat(4000) + "\r\n";
    for round in 1..=20 {
        peer.send(reply.repeat(60));
        scene.settle()?;
        assert_eq!(notes.borrow().seen.len(), round * 60);
    }
    assert!(chat.queued() > 0, "the kernel has taken all commands");
    Ok(())
}

#[test]
fn a_command_is_not_delayed_by_other_output_if_no_reply_is_outstanding() -> Result {
    let scene = Scene::new()?;
    let (_, peer, notes) = client(&scene, |client| {
        client.chat.push(vec![b'x'; 100_000]);
        client.ask("NOOP");
        client.ask("QUIT");
    })?;
    assert!(peer.take_received().ends_with(b"xNOOP\r\n"));
    peer.send("250\r\n");
    scene.settle()?;
    assert_eq!(peer.take_received(), b"QUIT\r\n");
    peer.send("221\r\n");
    scene.settle()?;
    assert_eq!(seen(&notes), "NOOP=250 QUIT=221");
    Ok(())
}

#[test]
fn destructors_of_functions_may_panic_one_by_one() -> Result {
    struct Loud(Rc<RefCell<u32>>);
    impl Drop for Loud {
        fn drop(&mut self) {
            *self.0.borrow_mut() += 1;
            panic!("dropped");
        }
    }
    let scene = Scene::new()?;
    let dropped = Rc::<RefCell<u32>>::default();
    let counter = Rc::clone(&dropped);
    let (chat, _peer, notes) = client(&scene, move |client| {
        for _ in 0..3 {
            let loud = Loud(Rc::clone(&counter));
            client.dialogue.send("X\r\n", move |_, _| {
                drop(loud);
                Ok(())
            });
        }
    })?;
    chat.close();
    scene.settle()?;
    assert_eq!(*dropped.borrow(), 3);
    let error = "X: 3 replies are missing: closed by this side";
    assert_eq!(ended(&notes), error);
    assert!(scene.event_loop.is_empty());
    Ok(())
}
