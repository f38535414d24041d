//! A thread that ends with connections in its default loop, as when `main` returns an error.

mod common;

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use asynchat::{AsyncChat, Chat, Close, Result};

struct Session {
    _chat: Chat,
    reasons: mpsc::Sender<String>,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        // As handlers often do. The subscriber is gone by then.
        tracing::error!(%why, "closed");
        self.reasons.send(why.to_string()).unwrap();
    }
}

/// The thread-locals of tracing-subscriber are destroyed before the loop. Logging aborted the
/// process.
#[test]
fn handle_close_is_called_and_nothing_is_logged_when_a_thread_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (reasons, received) = mpsc::channel();
    let ends = thread::spawn(move || {
        // The loop is created first, so that it is destroyed last.
        asynchat::EventLoop::current().unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(std::io::sink)
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        asynchat::connect(addr, move |chat| Session {
            _chat: chat,
            reasons,
        })
        .unwrap();
        // A connection that lingers: its span would be closed too.
        asynchat::connect(addr, |chat| {
            chat.push("goodbye\r\n");
            chat.close_when_done();
            |_: &[u8]| Ok(())
        })
        .unwrap();
        for _ in 0..3 {
            asynchat::run_once(common::DEADLINE.min(std::time::Duration::from_millis(50))).unwrap();
        }
        assert_eq!(asynchat::EventLoop::current().unwrap().len(), 2);
        let remote = asynchat::remote().unwrap();
        remote.post(|| ()).unwrap();
        std::mem::forget(_guard);
    });
    ends.join().unwrap();
    assert_eq!(received.recv().unwrap(), Close::Shutdown.to_string());
}
