//! The log cannot grow: which commands are refused, and what those get that were executed.

use asynchat::Result;

use crate::disk::rows::Op;
use crate::disk::writer::Files;
use crate::durable::{Disk, files};
use crate::scene::received;

const REFUSAL: &str = "-MISCONF Errors writing to the AOF file: full";

#[test]
fn commands_executed_before_the_disk_was_full_are_answered_with_an_error_and_others_refused()
-> Result {
    let disk = Disk::log()?;
    let clients = [
        disk.scene.client()?,
        disk.scene.client()?,
        disk.scene.client()?,
        disk.scene.client()?,
    ];
    let (other, queued) = (disk.scene.client()?, disk.scene.client()?);
    assert_eq!(disk.scene.ask(&queued, "MULTI\nINCR n\n")?, "+OK +QUEUED ");
    // The number of replies is not that of the requests.
    for (client, script) in clients.iter().zip([
        "INCR n\nINCR n\nGET n\nINCR n\nBLPOP l 0\n",
        "INCR n\nCLIENT REPLY OFF\nINCR n\nCLIENT REPLY ON\n",
        "MULTI\nHELLO 3\nSUBSCRIBE c\nINCR n\nEXEC\n",
        "GET n\n",
    ]) {
        client.send(script.replace('\n', "\r\n"));
    }
    disk.scene.network.settle(&disk.scene.event_loop)?;
    disk.outcomes.send(Err("full"))?;
    let executed = format!(
        "{REFUSAL}. The command was executed: its change is in memory, and is written when that is possible "
    );
    let e = &executed;
    disk.expect(&clients[0], &format!("{e}{e}$1 2 {e}"))?;
    disk.expect(&clients[1], &format!("{e}+OK "))?;
    disk.expect(&clients[2], &format!("+OK +QUEUED +QUEUED +QUEUED {e}"))?;
    disk.expect(&clients[3], "$1 6 ")?;
    assert!(
        disk.scene
            .ask(&other, "INFO persistence\n")?
            .contains("status:err")
    );
    assert_eq!(disk.scene.ask(&other, "INCR n\n")?, format!("{REFUSAL} "));
    assert_eq!(
        disk.scene.ask(&queued, "EXEC\nGET n\n")?,
        REFUSAL.replace("-", "-EXECABORT Transaction discarded because of: ") + " $1 6 "
    );
    let disk = disk.works();
    disk.until_written(&other)?;
    other.send("INCR n\r\n");
    disk.expect(&other, ":7 ")?;
    for client in &clients {
        assert_eq!(received(client), "");
    }
    Ok(())
}

/// The error takes the place of the reply of EXEC: once, whatever CLIENT REPLY says in it, and without the messages.
#[test]
fn a_transaction_that_cannot_be_written_has_one_error_and_its_messages() -> Result {
    let disk = Disk::log()?;
    let clients = [
        disk.scene.client()?,
        disk.scene.client()?,
        disk.scene.client()?,
    ];
    for (client, script) in clients.iter().zip([
        "MULTI\nSET k 1\nCLIENT REPLY OFF\nSET k 2\nCLIENT REPLY ON\nSET k 3\nEXEC\nPING\n",
        "MULTI\nSET k 1\nCLIENT REPLY SKIP\nSET k 2\nEXEC\nPING\nPING\n",
        "HELLO 3\nSUBSCRIBE c\nMULTI\nPUBLISH c a\nSET k 1\nPUBLISH c b\nEXEC\nPING\n",
    ]) {
        client.send(script.replace('\n', "\r\n"));
    }
    disk.scene.network.settle(&disk.scene.event_loop)?;
    disk.outcomes.send(Err("full"))?;
    let error = "-MISCONF Errors writing to the AOF file: full. The command was executed: its change is in memory, and is \
                 written when that is possible ";
    disk.expect(
        &clients[0],
        &format!("+OK {}{error}+PONG ", "+QUEUED ".repeat(5)),
    )?;
    disk.expect(
        &clients[1],
        &format!("+OK {}{error}+PONG ", "+QUEUED ".repeat(3)),
    )?;
    let mut reply = String::new();
    disk.until(|| {
        reply += &received(&clients[2]);
        Ok(reply.ends_with("+PONG "))
    })?;
    let message = |content| format!(">3 $7 message $1 c $1 {content} ");
    let wanted = format!("{error}{}{}+PONG ", message("a"), message("b"));
    assert!(reply.ends_with(&wanted), "{reply}");
    Ok(())
}

/// An error would lose it: nobody else has it any more.
#[test]
fn what_a_command_has_removed_is_sent_when_there_is_room() -> Result {
    let disk = Disk::log()?;
    let scripts = [
        ("LPOP q\nRPOP q\nGET missing\n", "$1 a $1 b $-1 "),
        ("LMPOP 1 q2 LEFT\n", "*2 $2 q2 *1 $1 c "),
        ("GETDEL t1\n", "$2 t1 "),
        ("GETSET t2 new\n", "$2 t2 "),
        ("SET t3 new GET\n", "$2 t3 "),
        ("SPOP s1\nSPOP s2 1\n", "$1 m *1 $1 m "),
        ("ZPOPMIN z1\nZPOPMAX z2\n", "*2 $1 m $1 1 *2 $1 m $1 1 "),
        ("ZMPOP 1 z3 MIN\n", "*2 $2 z3 *1 *2 $1 m $1 1 "),
        ("MULTI\nLPOP q3\nEXEC\nPING\n", "+OK +QUEUED *1 $1 d +PONG "),
        ("BLPOP l 0\n", "*2 $1 l $1 x "),
    ];
    let clients: Vec<_> = scripts
        .iter()
        .map(|_| disk.scene.client())
        .collect::<Result<_>>()?;
    let (pusher, other) = (disk.scene.client()?, disk.scene.client()?);
    for script in [
        "RPUSH q a b",
        "RPUSH q2 c",
        "RPUSH q3 d",
        "MSET t1 t1 t2 t2 t3 t3",
        "SADD s1 m",
        "SADD s2 m",
        "ZADD z1 1 m",
        "ZADD z2 1 m",
        "ZADD z3 1 m",
    ] {
        disk.outcomes.send(Ok(()))?;
        pusher.send(format!("{script}\r\n"));
        disk.until(|| Ok(!received(&pusher).is_empty()))?;
        disk.until_logged()?;
    }
    pusher.send("INCR n\r\n");
    for (client, (script, _)) in clients.iter().zip(scripts) {
        client.send(script.replace('\n', "\r\n"));
    }
    disk.scene.network.settle(&disk.scene.event_loop)?;
    pusher.send("RPUSH l x\r\n");
    disk.scene.network.settle(&disk.scene.event_loop)?;
    disk.outcomes.send(Err("full"))?;
    let executed = format!(
        "{REFUSAL}. The command was executed: its change is in memory, and is written when that is possible "
    );
    disk.expect(&pusher, &executed.repeat(2))?;
    assert_eq!(disk.scene.ask(&other, "INCR n\n")?, format!("{REFUSAL} "));
    assert_eq!(disk.scene.ask(&other, "LLEN q\n")?, ":0 ");
    for client in &clients {
        assert_eq!((received(client).as_str(), client.ended()), ("", None));
    }
    let disk = disk.works();
    for (client, (_, wanted)) in clients.iter().zip(scripts) {
        disk.expect(client, wanted)?;
    }
    Ok(())
}

/// SPOP of many members is made a part at a time, and its reply, too.
#[test]
fn many_removed_elements_are_sent_when_there_is_room() -> Result {
    let disk = Disk::log()?;
    let client = disk.scene.client()?;
    let members: String = (0..5_000).map(|number| format!(" {number}")).collect();
    let scores: String = (0..5_000).map(|number| format!(" 1 {number}")).collect();
    disk.outcomes.send(Ok(()))?;
    client.send(format!("SADD s{members}\r\n"));
    disk.expect(&client, ":5000 ")?;
    disk.until_logged()?;
    disk.outcomes.send(Ok(()))?;
    client.send(format!("ZADD z{scores}\r\n"));
    disk.expect(&client, ":5000 ")?;
    disk.until_logged()?;
    for (script, wanted) in [
        ("SPOP s 4000\n", "*4000 $"),
        ("ZPOPMIN z 4000\n", "*8000 $"),
    ] {
        assert_eq!(disk.scene.ask(&client, script)?, "");
        let is_pending = || {
            disk.scene
                .shared
                .disk
                .as_ref()
                .is_some_and(|it| it.status.is_pending())
        };
        disk.until(|| Ok(is_pending()))?;
        disk.outcomes.send(Err("full"))?;
        let other = disk.scene.client()?;
        other.send("GET missing\r\n");
        disk.expect(&other, "$-1 ")?;
        assert_eq!(received(&client), "");
        disk.outcomes.send(Ok(()))?;
        let mut reply = String::new();
        disk.until(|| {
            reply += &received(&client);
            Ok(reply.ends_with(' ') && reply.matches('$').count() >= 4_000)
        })?;
        assert!(reply.starts_with(wanted), "{reply:.20}");
        disk.until_logged()?;
    }
    Ok(())
}

/// Otherwise a value that needs more room than there is could not be removed without a restart.
#[test]
fn what_only_removes_keys_is_executed_while_the_disk_is_full() -> Result {
    const MOST: usize = 100_000;
    for script in [
        "DEL k\n",
        "UNLINK k none\n",
        "FLUSHDB\n",
        "FLUSHALL ASYNC\n",
        "MULTI\nDEL k\nEXEC\n",
    ] {
        // A disk that has no room for a large frame.
        let append = |ops: &[Op], last| {
            if ops.iter().map(Op::size).sum::<usize>() > MOST {
                Err("full".into())
            } else {
                Ok(last + 1)
            }
        };
        let disk = Disk::with(Files {
            append: Box::new(append),
            ..files()
        })?;
        let (client, other) = (disk.scene.client()?, disk.scene.client()?);
        client.send("SET other 1\r\n");
        disk.expect(&client, "+OK ")?;
        client.send(format!("SETRANGE k {MOST} x\r\n"));
        let executed = format!(
            "{REFUSAL}. The command was executed: its change is in memory, and is written when that is possible "
        );
        disk.expect(&client, &executed)?;
        let refused = format!("{REFUSAL} ");
        disk.until(|| Ok(disk.scene.ask(&other, "APPEND other 2\n")? == refused))?;
        let transaction = "MULTI\nDEL k\nSET k 1\nEXEC\n";
        let aborted = "-EXECABORT Transaction discarded because of previous errors. ";
        assert_eq!(
            disk.scene.ask(&other, transaction)?,
            format!("+OK +QUEUED {refused}{aborted}")
        );
        assert_eq!(
            disk.scene.ask(&other, "STRLEN k\n")?,
            format!(":{} ", MOST + 1)
        );
        let reply = disk.scene.ask(&client, script)?;
        assert!(!reply.contains(&refused), "{script}: {reply}");
        disk.until_written(&other)?;
        disk.until_logged()?;
        client.send("SET k 1\r\n");
        disk.until(|| Ok(received(&client).ends_with("+OK ")))?;
    }
    Ok(())
}
