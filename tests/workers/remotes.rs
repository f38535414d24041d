//! Sessions of other workers are reached by their id.

use super::*;
use asynchat::ChannelId;
use std::sync::{Arc, Mutex};

/// Names itself in a table, and sends a line to any session of the table.
struct Member {
    chat: Chat,
    remotes: Remotes,
    table: Table,
}

type Table = Arc<Mutex<Vec<(String, ChannelId)>>>;

impl AsyncChat for Member {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let line = String::from_utf8(line.to_vec())?;
        match line.split_once(' ').ok_or("no argument")? {
            ("NAME", name) => {
                let entry = (name.to_owned(), self.chat.id());
                self.table.lock().unwrap().push(entry);
                self.chat.push("named\r\n");
            }
            (name, text) => {
                let known = self.table.lock().unwrap().clone();
                let (_, id) = known.iter().find(|it| it.0 == name).ok_or("nobody")?;
                let text = format!("{text}\r\n");
                self.remotes.post_to(*id, move |other: &mut Member| {
                    other.chat.push(text);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

/// Starts workers whose sessions share this table.
fn start_members(threads: usize, table: Table) -> Running {
    let running = start(Workers::new().threads(threads), move |worker| {
        let (remotes, table) = (worker.remotes(), table.clone());
        worker.listen(any_port(), move |chat| Member {
            chat,
            remotes: remotes.clone(),
            table: table.clone(),
        })?;
        Ok(())
    });
    running.unwrap()
}

/// The call was dropped without a word, and a session that waited for it waited for ever.
#[test]
fn the_remote_of_another_loop_refuses_the_id_of_a_session() {
    let main_loop = asynchat::EventLoop::new().unwrap();
    let remote = main_loop.remote();
    let table = Table::default();
    let running = start_members(2, table.clone());
    let mut client = running.connect();
    assert_eq!(client.ask("NAME a"), "named");
    let id = table.lock().unwrap()[0].1;
    let refused = remote.post_to(id, |_: &mut Member| Ok(()));
    assert!(refused.is_err_and(|it| it.to_string().contains("is not one of this loop")));
}

#[test]
fn a_session_sends_to_one_of_another_worker() {
    let running = start_members(3, Table::default());
    let mut clients: Vec<_> = (0..6).map(|_| running.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ask(&format!("NAME n{number}")), "named");
    }
    for from in 0..6 {
        for to in 0..6 {
            clients[from].send(&format!("n{to} from {from}"));
            assert_eq!(clients[to].line(), format!("from {from}"));
        }
    }
    running.shutdown().unwrap();
}

#[test]
fn an_id_tells_its_worker() {
    let running = start_serving(2, any_port);
    for _ in 0..4 {
        let mut client = running.connect();
        let worker = client.worker();
        let id = client.ask("ID");
        assert!(id.starts_with(&format!("Some({worker}) #")), "{id}");
    }
    running.shutdown().unwrap();
}

#[test]
fn a_channel_that_is_not_of_a_worker_cannot_be_reached() {
    let running = start_serving(2, any_port);
    let channel = asynchat::Channel::bind("127.0.0.1:0").unwrap();
    assert_eq!(channel.id().worker(), None);
    let posted = running
        .remotes
        .post_to(channel.id(), |_: &mut Session| Ok(()));
    let error = posted.unwrap_err().to_string();
    assert!(error.contains("has no worker"), "{error}");
    running.shutdown().unwrap();
}

#[test]
fn a_call_for_all_is_made_by_each_worker() {
    let running = start_serving(4, any_port);
    let (sender, numbers) = mpsc::channel();
    let call = move || {
        let worker = Worker::current().expect("on a worker");
        sender.send(worker.number()).unwrap();
    };
    running.remotes.post_to_all(call).unwrap();
    let mut got: Vec<_> = (0..4)
        .map(|_| numbers.recv_timeout(DEADLINE).unwrap())
        .collect();
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3]);
    running.shutdown().unwrap();
    assert!(running.remotes.post_to_all(|| ()).is_err(), "they are gone");
}

/// Asks the workers, with this function that passes the answers to the call, and runs the loop of this thread until then.
fn answers<T: Send + 'static>(ask: impl FnOnce(Box<dyn FnOnce(T) + Send>)) -> T {
    let (sender, answer) = mpsc::channel();
    let event_loop = asynchat::EventLoop::current().unwrap();
    ask(Box::new(move |answers| {
        sender.send(answers).unwrap();
        asynchat::stop();
    }));
    event_loop.run_forever().unwrap();
    answer.try_recv().expect("they have answered")
}

fn gathered<T: Send + 'static>(
    remotes: &Remotes,
    ask: impl Fn(&Worker) -> T + Send + Sync + 'static,
) -> Vec<Option<T>> {
    let ask = move || ask(&Worker::current().expect("on a worker"));
    answers(|call| remotes.gather(ask, call).unwrap())
}

#[test]
fn each_worker_is_asked_and_the_answers_are_in_their_order() {
    let running = start_serving(3, any_port);
    let numbers = gathered(&running.remotes, Worker::number);
    assert_eq!(numbers, [Some(0), Some(1), Some(2)]);
    let without_one = gathered(&running.remotes, |worker| {
        assert_ne!(worker.number(), 1);
        worker.count()
    });
    assert_eq!(without_one, [Some(3), None, Some(3)]);
    running.shutdown().unwrap();
    let of_nobody = gathered(&running.remotes, Worker::number);
    assert_eq!(of_nobody, [None, None, None]);
}

/// The answers would go to a loop that nobody runs.
#[test]
fn a_thread_without_a_loop_cannot_ask() {
    let running = start_serving(2, any_port);
    let remotes = running.remotes.clone();
    let asks = move || [remotes.gather(|| (), |_| ()), remotes.stats(|_| ())];
    for refused in thread::spawn(asks).join().unwrap() {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("this thread has no event loop"), "{error}");
    }
    running.shutdown().unwrap();
}

/// Their sum went back when the first worker had ended.
#[test]
fn the_figures_of_a_worker_that_has_ended_stay() {
    let running = start_serving(2, any_port);
    let mut clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.ask("hello");
    }
    running.shutdown().unwrap();
    let stats = answers(|call| running.remotes.stats(call).unwrap());
    assert!(stats.iter().all(|it| it.records_in == 2), "{stats:?}");
}
