//! A dialogue passes each record to the function that was queued for it.

mod common;
#[path = "common/scene.rs"]
mod scene;

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Call, Peer, every_segmentation};
use asynchat::{
    AsyncChat, BoxError, Chat, Close, Dialogue, Error, Limits, Overflow, RecordLimit, Result,
    Terminator,
};
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
        let then = self.dialogue.receive(record)?;
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

    fn handle_overflow(&mut self, _limit: &RecordLimit) -> Result<Overflow> {
        self.note("too long", b"");
        Ok(Overflow::CloseWhenDone)
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
fn an_expected_greeting_precedes_the_replies_to_commands_that_do_not_wait_for_it() -> Result {
    let scene = Scene::new()?;
    let (_, peer, notes) = client(&scene, |client| {
        client.dialogue.expect(Terminator::crlf(), |client, line| {
            client.note("greeting", line);
            Ok(())
        });
        client.ask("HELLO");
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

/// The most that the queue holds while commands wait: the mark, and one chunk that a producer has made ahead.
fn most_queued() -> usize {
    Limits::default().high_water + 4096
}

#[test]
fn a_burst_is_sent_without_a_reply() -> Result {
    const COUNT: usize = 100_000;
    let scene = Scene::new()?;
    let (chat, peer, notes) = client(&scene, |client| {
        for _ in 0..COUNT {
            client.ask("PING 0123456789");
        }
        assert_eq!(client.dialogue.len(), COUNT);
        assert!(client.chat.queued() <= most_queued());
    })?;
    let command = b"PING 0123456789\r\n";
    assert!(peer.take_received() == command.repeat(COUNT));
    assert_eq!(chat.queued(), 0);
    peer.send(b"+PONG\r\n".repeat(COUNT));
    scene.settle()?;
    assert_eq!(notes.borrow().seen.len(), COUNT);
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
    assert!(chat.queued() <= most_queued());
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
        assert!(chat.queued() <= most_queued());
        assert_eq!(notes.borrow().seen.len(), answered);
    }
    assert_eq!(read, COUNT * command);
    Ok(())
}

/// Replies of many short records are more than a turn delivers, so a part of them waits in the client.
#[test]
fn replies_are_read_while_the_kernel_takes_no_commands() -> Result {
    const BURST: usize = 50_000;
    for (length, count) in [(4000, 60), (1, 20_000)] {
        let scene = Scene::new()?;
        let (chat, peer, notes) = client(&scene, |_| {})?;
        peer.stop_reading();
        let in_kernel = scene.network.conditions().buffer / "PING 0123456789\r\n".len();
        for commands in [in_kernel, BURST] {
            chat.post(move |client: &mut Client| {
                (0..commands).for_each(|_| client.ask("PING 0123456789"));
                Ok(())
            })?;
            scene.settle()?;
        }
        assert!(chat.queued() > 60_000, "{}", chat.queued());
        let reply = "x".repeat(length) + "\r\n";
        for round in 1..=2 {
            peer.send(reply.repeat(count));
            scene.settle()?;
            assert_eq!(notes.borrow().seen.len(), round * count);
            assert!((60_000..=most_queued()).contains(&chat.queued()));
        }
    }
    Ok(())
}

#[test]
fn a_command_is_not_delayed_by_other_output() -> Result {
    let scene = Scene::new()?;
    let (_, peer, notes) = client(&scene, |client| {
        client.chat.push(vec![b'x'; 100_000]);
        client.ask("NOOP");
        client.ask("QUIT");
    })?;
    assert!(peer.take_received().ends_with(b"xNOOP\r\nQUIT\r\n"));
    peer.send("250\r\n221\r\n");
    scene.settle()?;
    assert_eq!(seen(&notes), "NOOP=250 QUIT=221");
    Ok(())
}

/// Commands of all sizes, pushes of the session in between, and a producer of its own.
#[test]
fn commands_and_pushes_are_sent_in_the_order_of_the_calls() -> Result {
    for seed in 0..40 {
        let scene = Scene::new()?;
        let mut rng = fastrand::Rng::with_seed(seed);
        let expected = Rc::new(RefCell::new(Vec::new()));
        let pushed = Rc::clone(&expected);
        let (chat, peer, notes) = client(&scene, move |client| {
            for number in 0..300 {
                let most = *rng.choice(&[1, 50, 5_000, 100_000]).unwrap();
                let data = format!("{number} {} ", "x".repeat(rng.usize(..most)));
                pushed.borrow_mut().extend_from_slice(data.as_bytes());
                match rng.u8(..10) {
                    0 => client.chat.push(data),
                    1 => client.chat.push_with_producer(data),
                    _ => client.dialogue.send(data, |client, line| {
                        client.note("reply", line);
                        Ok(())
                    }),
                }
            }
            pushed.borrow_mut().extend_from_slice(b"end");
            client.chat.push("end");
        })?;
        scene.settle()?;
        assert!(peer.take_received() == *expected.borrow(), "seed {seed}");
        assert_eq!(chat.queued(), 0);
        peer.send("250\r\n");
        scene.settle()?;
        assert_eq!(notes.borrow().seen.len(), 1);
    }
    Ok(())
}

#[test]
fn a_command_larger_than_the_high_water_mark_does_not_stop_the_input() -> Result {
    let scene = Scene::new()?;
    let (chat, peer, notes) = client(&scene, |client| {
        client.ask("DATE");
        let put = format!("PUT {}\r\n", "x".repeat(10_000_000));
        client.dialogue.send(put, |client, line| {
            client.note("put", line);
            Ok(())
        });
        client.ask("QUIT");
    })?;
    let before = peer.take_received().len();
    peer.stop_reading();
    peer.send("111\r\n");
    scene.settle()?;
    assert_eq!(seen(&notes), "DATE=111");
    assert!(chat.queued() <= most_queued());
    peer.start_reading(usize::MAX);
    scene.settle()?;
    let all = before + peer.take_received().len();
    assert_eq!(all, "DATE\r\nPUT \r\nQUIT\r\n".len() + 10_000_000);
    peer.send("226\r\n221\r\n");
    scene.settle()?;
    assert_eq!(seen(&notes), "DATE=111 put=226 QUIT=221");
    Ok(())
}

#[test]
fn what_waits_is_sent_before_the_close_and_dropped_with_the_queue() -> Result {
    let scene = Scene::new()?;
    let burst = |client: &mut Client| (0..10_000).for_each(|_| client.ask("PING 0123456789"));
    let (_, peer, _) = client(&scene, move |client| {
        burst(client);
        client.chat.close_when_done();
    })?;
    assert_eq!(peer.take_received().len(), 170_000);
    assert!(peer.has_ended());

    let (chat, peer, notes) = client(&scene, move |client| {
        burst(client);
        client.chat.discard_buffers();
        client.ask("QUIT");
    })?;
    assert_eq!(peer.take_received(), b"QUIT\r\n");
    chat.close();
    scene.settle()?;
    let error = "PING: 10001 replies are missing: closed by this side";
    assert_eq!(ended(&notes), error);
    Ok(())
}

#[test]
fn the_error_at_the_end_has_the_kind_of_its_reason() -> Result {
    let kind_of = |notes: &Rc<RefCell<Notes>>| match &notes.borrow().ended {
        Some(Err(error)) => error.io_kind(),
        other => panic!("{other:?}"),
    };
    type Act = fn(&Scene, &Chat, &Peer);
    let cases: [(Act, Option<ErrorKind>); 6] = [
        (|_, _, peer| peer.reset(), Some(ErrorKind::ConnectionReset)),
        (|_, _, peer| peer.finish(), Some(ErrorKind::UnexpectedEof)),
        (
            |_, chat, _| chat.set_idle_timeout(Duration::from_secs(1)),
            Some(ErrorKind::TimedOut),
        ),
        (
            |scene, _, peer| {
                scene.network.fail(Call::Recv, ErrorKind::HostUnreachable);
                peer.send("250\r\n");
            },
            Some(ErrorKind::HostUnreachable),
        ),
        (
            |_, chat, _| chat.close_with(io::Error::from(ErrorKind::PermissionDenied)),
            Some(ErrorKind::PermissionDenied),
        ),
        (|_, chat, _| chat.close_with("a text"), None),
    ];
    for (n, (act, kind)) in cases.into_iter().enumerate() {
        let scene = Scene::new()?;
        let (chat, peer, notes) = client(&scene, |client| client.ask("DATE"))?;
        act(&scene, &chat, &peer);
        scene.settle()?;
        scene.advance(2)?;
        assert_eq!(kind_of(&notes), kind, "case {n}");
    }

    // A connection that is refused.
    let scene = Scene::new()?;
    let notes = Rc::<RefCell<Notes>>::default();
    let its_notes = Rc::clone(&notes);
    scene.event_loop.connect("10.0.0.9:1", |chat| Client {
        dialogue: Dialogue::new(&chat),
        chat,
        notes: its_notes,
    })?;
    scene.settle()?;
    scene.advance(60)?;
    assert_eq!(kind_of(&notes), Some(ErrorKind::ConnectionRefused));
    assert!(ended(&notes).starts_with("could not connect: "));
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

/// Otherwise the first line of the reply would be taken for the block, and the client would wait for ever.
#[test]
fn a_record_that_is_expected_after_a_command_was_sent_ends_the_connection() -> Result {
    let scene = Scene::new()?;
    let (_, peer, notes) = client(&scene, |client| {
        client.ask("LIST");
        let block = Terminator::dot_block();
        client.dialogue.expect(block, |client, block| {
            client.note("block", block);
            Ok(())
        });
    })?;
    scene.settle()?;
    assert!(peer.has_ended());
    assert_eq!(seen(&notes), "");
    let error = "LIST: `expect` was called after `send`, before the reply has begun";
    assert_eq!(ended(&notes), error);
    Ok(())
}

/// RFC 3207 section 4.1: somebody else could have inserted it (CVE-2011-0411), so the server ends the connection.
#[test]
fn a_command_behind_starttls_ends_the_connection_with_the_reason() -> Result {
    for command in ["STARTTLS", "starttls", "STLS"] {
        let scene = Scene::new()?;
        let (_, peer, notes) = client(&scene, move |client| {
            client.ask(command);
            client.ask("QUIT");
        })?;
        scene.settle()?;
        assert!(peer.has_ended(), "{command}");
        let expected = "QUIT: it was sent behind the command that begins TLS, before the reply";
        assert!(ended(&notes).starts_with(expected), "{}", ended(&notes));
    }
    Ok(())
}
