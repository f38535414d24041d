//! A group has members on all workers.

use super::*;

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
                    _ => worker.group("a").push("for a\r\n"),
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

/// Clients may choose the names.
#[test]
fn unused_groups_are_removed() {
    let running = start(Workers::new().threads(2), |worker| {
        for number in 0..10_000 {
            worker.group(&number.to_string()).push("nobody hears it");
        }
        listen(worker, any_port())
    });
    running.unwrap().shutdown().unwrap();
}
