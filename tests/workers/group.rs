//! A group has members on all workers.

use super::*;
use asynchat::SlowReader;

/// Each connection joins the room, and sends its lines to the others.
fn listen_for_members(worker: &Worker) -> Result {
    let room = worker.group("lobby");
    worker.listen(any_port(), move |chat| {
        room.add(&chat);
        chat.push("joined\r\n");
        let room = room.clone();
        move |line: &[u8]| {
            room.push_except(chat.id(), [line, b"\r\n"].concat());
            Ok(())
        }
    })?;
    Ok(())
}

#[test]
fn what_a_member_sends_reaches_those_of_all_workers_in_order() {
    let running = start(Workers::new().threads(3), listen_for_members).unwrap();
    let mut clients: Vec<_> = (0..9).map(|_| running.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.line(), "joined");
    }
    for number in 0..100 {
        clients[0].send(&format!("line {number}"));
    }
    for client in &mut clients[1..] {
        for number in 0..100 {
            assert_eq!(client.line(), format!("line {number}"));
        }
    }
    running.shutdown().unwrap();
}

/// The cost is one post for each other worker, not one for each member.
#[test]
fn a_push_is_one_call_for_each_other_worker() {
    let running = start(Workers::new().threads(2), listen_for_members).unwrap();
    let mut clients: Vec<_> = (0..40).map(|_| running.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.line(), "joined");
    }
    let before = stats(&running);
    clients[0].send("hello");
    for client in &mut clients[1..] {
        assert_eq!(client.line(), "hello");
    }
    let after = stats(&running);
    let turns: u64 = (0..2).map(|it| after[it].turns - before[it].turns).sum();
    // The turns of the record, the post, the questions for these figures, and their answers.
    assert!(turns <= 12, "{turns} turns for 40 members");
    running.shutdown().unwrap();
}

#[test]
fn a_group_is_found_by_its_name() {
    let running = start(Workers::new().threads(2), |worker| {
        let (a, b) = (worker.group("a"), worker.group("b"));
        assert_eq!(a.name(), "a");
        let worker = worker.clone();
        worker.clone().listen(any_port(), move |chat| {
            chat.push("up\r\n");
            let (worker, a, b) = (worker.clone(), a.clone(), b.clone());
            move |line: &[u8]| {
                match line {
                    b"a" => a.add(&chat),
                    b"b" => b.add(&chat),
                    _ => assert!(worker.group("a").push("for a\r\n")),
                }
                chat.push("done\r\n");
                Ok(())
            }
        })?;
        Ok(())
    });
    let running = running.unwrap();
    let mut clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.line(), "up");
        assert_eq!(client.ask(["a", "a", "b", "b"][number]), "done");
    }
    assert_eq!(clients[3].ask("push"), "done");
    assert_eq!(clients[0].line(), "for a");
    assert_eq!(clients[1].line(), "for a");
    assert_eq!(clients[2].ask("b"), "done", "nothing came before");
    running.shutdown().unwrap();
}

/// Joins the room when it is asked to. Any other line is pushed to the room, and the reply says whether all workers take it.
fn listen_for_joins(worker: &Worker, policy: Option<SlowReader>) -> Result {
    let room = worker.group("lobby");
    if let Some(policy) = policy {
        room.members().set_slow_readers(1 << 20, policy);
    }
    worker.listen(any_port(), move |chat| {
        let room = room.clone();
        move |line: &[u8]| {
            let reply = match line {
                b"JOIN" => {
                    room.add(&chat);
                    "joined\r\n"
                }
                b"LEAVE" => {
                    room.members().remove(chat.id());
                    "left\r\n"
                }
                _ => {
                    if room.push_except(chat.id(), [line, b"\r\n"].concat()) {
                        "for all\r\n"
                    } else {
                        "not for all\r\n"
                    }
                }
            };
            chat.push(reply);
            Ok(())
        }
    })?;
    Ok(())
}

/// How many turns a worker takes while a client of the other worker pushes a hundred times.
fn turns_of_second_worker(running: &Running, sender: &mut Client) -> u64 {
    let before = stats(running)[1].turns;
    for _ in 0..100 {
        assert_eq!(sender.ask("hello"), "for all");
    }
    stats(running)[1].turns - before
}

#[test]
fn only_workers_with_members_are_woken() {
    let running = start(Workers::new().threads(2), |worker| {
        listen_for_joins(worker, None)
    });
    let running = running.unwrap();
    let [mut first, mut second] = [running.connect(), running.connect()];
    assert_eq!(first.ask("JOIN"), "joined");
    // Nobody on the second worker is a member. The questions for the figures take turns there.
    let turns = turns_of_second_worker(&running, &mut first);
    assert!(turns < 10, "{turns} turns without a member");

    assert_eq!(second.ask("JOIN"), "joined");
    assert_eq!(first.ask("one"), "for all");
    assert_eq!(second.line(), "one");
    assert_eq!(second.ask("LEAVE"), "left");
    let turns = turns_of_second_worker(&running, &mut first);
    assert!(turns < 10, "{turns} turns after the last member has left");

    assert_eq!(second.ask("JOIN"), "joined");
    drop(second);
    wait_until(|| stats(&running)[1].closes.eof == 1);
    // The first push finds that the member has gone.
    let turns = turns_of_second_worker(&running, &mut first);
    assert!(turns < 10, "{turns} turns after the last member has closed");
    running.shutdown().unwrap();
}

/// Keeps a worker busy until the sender is dropped.
fn block(running: &Running, worker: usize) -> mpsc::Sender<()> {
    let (release, blocked) = mpsc::channel::<()>();
    let (entered, is_blocked) = mpsc::channel();
    let block = move || {
        entered.send(()).unwrap();
        let _ = blocked.recv_timeout(DEADLINE);
    };
    running.remotes.get(worker).unwrap().post(block).unwrap();
    is_blocked.recv_timeout(DEADLINE).unwrap();
    release
}

/// Makes pushes on the first worker that no session makes, and which therefore nothing slows down. Returns how many of them
/// all workers take.
fn push_from_outside(running: &Running, count: usize, line: fn(usize) -> String) -> usize {
    let (sender, taken) = mpsc::channel();
    let push = move || {
        let room = Worker::current().unwrap().group("lobby");
        let taken = (0..count).filter(|number| room.push(line(*number)));
        sender.send(taken.count()).unwrap();
    };
    running.remotes.get(0).unwrap().post(push).unwrap();
    taken.recv_timeout(DEADLINE).unwrap()
}

/// Pushes lines of a kilobyte while the second worker is blocked. Returns how many it takes of two hundred, with a limit of
/// 64 KiB.
fn push_to_a_blocked_worker(running: &Running) -> usize {
    let release = block(running, 1);
    let taken = push_from_outside(running, 200, |number| format!("{number:01000}\r\n"));
    assert!((1..=64).contains(&taken), "{taken} of a kilobyte wait");
    drop(release);
    taken
}

/// On one loop its next records wait, too, because the output of the members takes its time.
#[test]
fn a_session_that_floods_a_worker_waits_until_it_has_caught_up() {
    let running = start_with_backlog(None);
    let [mut sender, mut member, mut neighbour] =
        [running.connect(), running.connect(), running.connect()];
    assert_eq!(member.ask("JOIN"), "joined");
    let release = block(&running, 1);
    for number in 0..200 {
        sender.send(&format!("{number:01000}"));
    }
    assert_eq!(sender.line(), "for all");
    // The others on the worker of the sender are served.
    for _ in 0..100 {
        assert_eq!(neighbour.ask("LEAVE"), "left");
    }
    drop(release);
    for number in 0..200 {
        assert_eq!(member.line(), format!("{number:01000}"));
    }
    for _ in 1..200 {
        assert_eq!(sender.line(), "for all");
    }
    assert_eq!(stats(&running)[1].pushes_missed, 0);
    running.shutdown().unwrap();
}

fn start_with_backlog(policy: Option<SlowReader>) -> Running {
    let workers = Workers::new().threads(2).group_backlog(64 << 10);
    start(workers, move |worker| listen_for_joins(worker, policy)).unwrap()
}

/// A stream with a gap would be wrong. On one loop the output limit of the member would have been exceeded.
#[test]
fn members_of_a_worker_that_is_busy_for_too_long_are_closed() {
    let running = start_with_backlog(None);
    let mut clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("JOIN"), "joined");
    }
    let [mut sender, mut late, mut neighbour, another] = clients.try_into().ok().unwrap();
    push_to_a_blocked_worker(&running);
    wait_until(|| stats(&running)[1].closes.output_limit == 2);
    assert!(stats(&running)[1].pushes_missed >= 136);
    while late.try_line().is_ok_and(|line| !line.is_empty()) {}
    drop(another);
    // Nobody else is concerned, and the worker takes pushes again.
    for client in [&mut sender, &mut neighbour] {
        for number in 0..200 {
            assert_eq!(client.line(), format!("{number:01000}"));
        }
    }
    let mut newcomers = [running.connect(), running.connect()];
    for client in &mut newcomers {
        assert_eq!(client.ask("JOIN"), "joined");
    }
    assert_eq!(sender.ask("hello"), "for all");
    for client in &mut newcomers {
        assert_eq!(client.line(), "hello");
    }
    running.shutdown().unwrap();
}

#[test]
fn members_that_may_be_skipped_stay_when_their_worker_was_too_busy() {
    let running = start_with_backlog(Some(SlowReader::Skip));
    let [mut sender, mut late] = [running.connect(), running.connect()];
    assert_eq!(late.ask("JOIN"), "joined");
    let taken = push_to_a_blocked_worker(&running);
    for number in 0..taken {
        assert_eq!(late.line(), format!("{number:01000}"));
    }
    wait_until(|| stats(&running)[1].pushes_missed == 200 - taken as u64);
    assert_eq!(sender.ask("hello"), "for all");
    assert_eq!(late.line(), "hello");
    running.shutdown().unwrap();
}

/// Pushes without bytes take memory, too.
#[test]
fn the_number_of_waiting_pushes_is_limited() {
    let running = start_with_backlog(Some(SlowReader::Skip));
    let [_first, mut late] = [running.connect(), running.connect()];
    assert_eq!(late.ask("JOIN"), "joined");
    let release = block(&running, 1);
    let taken = push_from_outside(&running, 400, |_| String::new());
    assert!((200..=256).contains(&taken), "{taken}");
    drop(release);
    running.shutdown().unwrap();
}
