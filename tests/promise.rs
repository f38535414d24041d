//! Promises: replies are sent in the order of their requests, whatever order the work for them
//! finishes in.

mod common;

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Close, Result};
use common::{Log, Session, idle, new_loop, run_to_end, run_until, served};

#[test]
fn promises_are_sent_in_the_order_of_their_creation() {
    let event_loop = new_loop();
    let (chat, mut peer) = served(&event_loop, Log::default().session());
    let first = chat.promise();
    chat.push("between\r\n");
    let second = chat.promise();
    chat.push("after\r\n");
    thread::spawn(move || second.fulfill("second\r\n"))
        .join()
        .unwrap();
    idle(&event_loop);
    assert_eq!(peer.look(), b"");
    thread::spawn(move || first.fulfill("first\r\n"))
        .join()
        .unwrap();
    peer.expect(&event_loop, "first\r\nbetween\r\nsecond\r\nafter\r\n");
    // The queue is as before.
    chat.promise().fulfill("fulfilled at once\r\n");
    chat.promise().fulfill("");
    chat.push("the end\r\n");
    peer.expect(&event_loop, "fulfilled at once\r\nthe end\r\n");
}

#[test]
fn a_promise_that_is_dropped_sends_its_other_reply() {
    let event_loop = new_loop();
    let (chat, mut peer) = served(&event_loop, Log::default().session());
    let dropped = chat.promise().otherwise("dropped\r\n");
    let fulfilled = chat.promise().otherwise("not this one\r\n");
    chat.push("after\r\n");
    thread::spawn(move || drop(dropped)).join().unwrap();
    fulfilled.fulfill("fulfilled\r\n");
    peer.expect(&event_loop, "dropped\r\nfulfilled\r\nafter\r\n");
    // A job that panics, and one whose session has left.
    let panicking = chat.promise().otherwise("panicked\r\n");
    let job = thread::spawn(move || {
        let _reply = panicking;
        panic!("a panic of this test");
    });
    assert!(job.join().is_err());
    let (other, _other_peer) = served(&event_loop, Log::default().session());
    other.abort();
    run_until(&event_loop, || !other.is_open());
    let reply = chat.promise().otherwise("has left\r\n");
    let post = event_loop
        .remote()
        .post_to(other.id(), move |_: &mut Session| {
            reply.fulfill("is there\r\n");
            Ok(())
        });
    post.unwrap();
    peer.expect(&event_loop, "panicked\r\nhas left\r\n");
    // Where it fails, the error counts.
    chat.promise()
        .otherwise("not this one\r\n")
        .fail("it has failed");
    run_until(&event_loop, || !chat.is_open());
}

#[test]
fn a_promise_wakes_a_loop_that_sleeps() {
    let event_loop = new_loop();
    let (chat, mut peer) = served(&event_loop, Log::default().session());
    let promise = chat.promise();
    peer.finish(); // the chat closes when the promise has been sent
    let (begin, begun) = std::sync::mpsc::channel();
    let worker = thread::spawn(move || {
        begun.recv().unwrap();
        promise.fulfill("gold\r\n");
    });
    event_loop.call_soon(move || begin.send(()).unwrap());
    run_to_end(&event_loop);
    worker.join().unwrap();
    assert_eq!(peer.receive_all(&event_loop), b"gold\r\n");
}

#[test]
fn a_large_promise_is_sent_in_pieces() {
    let event_loop = new_loop();
    let (chat, mut peer) = served(&event_loop, Log::default().session());
    chat.promise().fulfill(vec![b'x'; 5 << 20]);
    chat.close_when_done();
    let mut most = 0;
    run_until(&event_loop, || {
        most = most.max(chat.queued());
        peer.look().len() == 5 << 20
    });
    assert!(most <= 128 * 1024, "{most} bytes at once");
}

#[test]
fn a_promise_is_wanted_until_the_connection_ends_or_its_queue_is_discarded() {
    let event_loop = new_loop();
    let log = Log::default();
    let (chat, peer) = served(&event_loop, log.session());
    let (one, other) = (chat.promise(), chat.promise());
    idle(&event_loop);
    assert!(one.is_wanted() && other.is_wanted());
    peer.reset();
    run_until(&event_loop, || log.has("close"));
    assert!(!one.is_wanted() && !other.is_wanted());
    one.fulfill("too late");
    drop(other);
    // A promise on a connection that has ended is not wanted.
    let late = chat.promise();
    idle(&event_loop);
    assert!(!late.is_wanted());
    late.fulfill("much too late");

    let (chat, mut peer) = served(&event_loop, Log::default().session());
    let promise = chat.promise();
    chat.discard_buffers();
    idle(&event_loop);
    assert!(!promise.is_wanted());
    drop(promise);
    chat.push("nobody minds\r\n");
    peer.expect(&event_loop, "nobody minds\r\n");
}

#[test]
fn a_promise_that_the_queue_does_not_take_is_unwanted_at_once() {
    type End = (&'static str, fn(&Chat));
    let ends: [End; 4] = [
        ("close", Chat::close),
        ("abort", Chat::abort),
        ("close_when_done", Chat::close_when_done),
        ("close_with", |chat| chat.close_with("evicted")),
    ];
    for (name, end) in ends {
        let event_loop = new_loop();
        let (chat, _peer) = served(&event_loop, Log::default().session());
        end(&chat);
        let promise = chat.promise();
        assert!(!promise.is_wanted(), "after {name}");
        promise.fulfill("nobody is there");
        idle(&event_loop);
        drop(event_loop);
        assert!(!chat.promise().is_wanted(), "without a loop");
    }
}

#[test]
fn a_promise_dropped_unfulfilled_closes_its_connection_only() {
    let event_loop = new_loop();
    let (log, others) = (Log::default(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let (bystander, mut witness) = served(&event_loop, others.session());
    chat.push("before\r\n");
    let promise = chat.promise();
    chat.push("behind\r\n");
    peer.expect(&event_loop, "before\r\n");
    let worker = thread::spawn(move || {
        let _promise = promise;
        panic!("on purpose");
    });
    assert!(worker.join().is_err());
    let end = peer.wait_for_end(&event_loop);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(peer.look(), b"");
    assert!(log.has("close Handler"));
    bystander.push("still here\r\n");
    witness.expect(&event_loop, "still here\r\n");
}

#[test]
fn a_promise_that_fails_closes_its_connection_with_the_error() {
    let event_loop = new_loop();
    let ends = Rc::new(RefCell::new(Vec::new()));
    let of_session = Rc::clone(&ends);
    let (chat, mut peer) = served(&event_loop, move |_| Ends(Rc::clone(&of_session)));
    let promise = chat.promise();
    let full = std::io::Error::from(ErrorKind::StorageFull);
    thread::spawn(move || promise.fail(full)).join().unwrap();
    let end = peer.wait_for_end(&event_loop);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(*ends.borrow(), [Some(ErrorKind::StorageFull)]);
}

/// Notes the kind of the error that ended the connection.
struct Ends(Rc<RefCell<Vec<Option<ErrorKind>>>>);

impl AsyncChat for Ends {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        let Close::Handler(error) = why else { return };
        let error = error.downcast_ref::<asynchat::Error>();
        let kind = error.and_then(asynchat::Error::io_kind);
        self.0.borrow_mut().push(kind);
    }
}

#[test]
fn a_shutdown_waits_for_a_promise_at_most_for_its_grace() {
    let event_loop = new_loop();
    let (chat, mut peer) = served(&event_loop, Log::default().session());
    let promise = chat.promise();
    event_loop.shutdown(Duration::from_secs(60));
    idle(&event_loop);
    promise.fulfill("as promised\r\n");
    peer.expect(&event_loop, "as promised\r\n");
    drop(peer);
    run_to_end(&event_loop);

    let log = Log::default();
    let (chat, _peer) = served(&event_loop, log.session());
    let promise = chat.promise();
    event_loop.shutdown(Duration::ZERO);
    run_to_end(&event_loop);
    assert!(!promise.is_wanted());
    assert!(log.has("close Interrupted"));
}

#[test]
fn a_promise_may_outlive_its_loop() {
    let event_loop = new_loop();
    let (chat, _peer) = served(&event_loop, Log::default().session());
    let promise = chat.promise();
    drop((chat, event_loop));
    assert!(!promise.is_wanted());
    promise.fulfill("nobody is there");
}
