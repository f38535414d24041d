//! What is on disk, and the replies that wait for it.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use asynchat::Result;
use asynchat::sim::Peer;

use crate::disk;
use crate::disk::journal::AppendFsync;
use crate::disk::writer::Writer;
use crate::scene::{Scene, options, received};
use crate::server::Options;

fn on_disk(dir: &Path, sync: AppendFsync) -> Result<Options> {
    let (writer, keyspace) = Writer::open(dir, || panic!("the thread has ended by itself"))?;
    Ok(Options {
        disk: Some((writer, sync, keyspace)),
        ..options()
    })
}

#[test]
fn what_was_written_is_there_after_a_restart() -> Result {
    let dir = tempfile::tempdir()?;
    for sync in [AppendFsync::Everysec, AppendFsync::No] {
        let scene = Scene::with(on_disk(dir.path(), sync)?)?;
        let client = scene.client()?;
        scene.ask(
            &client,
            "INCR n\nRPUSH l a b\nHSET h f 1\nSADD s a b\nZADD z 1 a\nDEL gone\nSET t x EX 100\n",
        )?;
        drop(client);
        scene.shared.close()?;
    }
    let scene = Scene::with(on_disk(dir.path(), AppendFsync::Everysec)?)?;
    let client = scene.client()?;
    let reply = scene.ask(
        &client,
        "GET n\nLRANGE l 0 -1\nHGETALL h\nSCARD s\nZSCORE z a\nDBSIZE\nTTL t\n",
    )?;
    assert_eq!(
        reply,
        "$1 2 *4 $1 a $1 b $1 a $1 b *2 $1 f $1 1 :2 $1 1 :6 :100 "
    );
    scene.shared.close()?;
    Ok(())
}

/// A database that writes when the test says so, and with which outcome.
struct Disk {
    outcomes: Sender<Result<(), &'static str>>,
    scene: Scene,
}

impl Disk {
    fn new(sync: AppendFsync) -> Result<Disk> {
        let (outcomes, next) = mpsc::channel::<Result<(), &'static str>>();
        let write = move |_: &[disk::rows::Op]| match next.recv() {
            Ok(Err("panic")) => panic!("as the test wants it"),
            Ok(outcome) => outcome.map_err(Into::into),
            Err(_) => Ok(()),
        };
        let writer = Writer::start(write, || {})?;
        let keyspace = disk::loader::Loader::default().finish();
        let scene = Scene::with(Options {
            disk: Some((writer, sync, keyspace)),
            ..options()
        })?;
        Ok(Disk { outcomes, scene })
    }

    /// Lets the loop run until this is the case.
    fn until(&self, mut is_so: impl FnMut() -> Result<bool>) -> Result {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so()? {
            assert!(Instant::now() < deadline, "it does not happen");
            self.scene.network.settle(&self.scene.event_loop)?;
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Waits until a client has received exactly this.
    fn expect(&self, client: &Peer, wanted: &str) -> Result {
        let mut all = String::new();
        self.until(|| {
            all += &received(client);
            Ok(all.len() >= wanted.len())
        })?;
        assert_eq!(all, wanted);
        Ok(())
    }
}

#[test]
fn a_transaction_is_acknowledged_when_it_is_on_disk_even_if_it_ends_a_wait() -> Result {
    let disk = Disk::new(AppendFsync::Always)?;
    let (waiter, client) = (disk.scene.client()?, disk.scene.client()?);
    assert_eq!(disk.scene.ask(&waiter, "CLIENT ID\nBLPOP l 0\n")?, ":1 ");
    let script = "MULTI\nSET k 1\nCLIENT UNBLOCK 1\nEXEC\n";
    assert_eq!(disk.scene.ask(&client, script)?, "+OK +QUEUED +QUEUED ");
    assert_eq!(received(&waiter), "*-1 ", "this has not written");
    disk.outcomes.send(Ok(()))?;
    disk.expect(&client, "*2 +OK :1 ")
}

#[test]
fn commands_executed_before_the_disk_was_full_are_acknowledged_later_and_others_refused() -> Result
{
    let disk = Disk::new(AppendFsync::Always)?;
    let clients = [
        disk.scene.client()?,
        disk.scene.client()?,
        disk.scene.client()?,
    ];
    // The number of replies is not that of the requests.
    for (client, script) in clients.iter().zip([
        "INCR n\nBLPOP l 0\n",
        "INCR n\nCLIENT REPLY OFF\nINCR n\nCLIENT REPLY ON\n",
        "MULTI\nHELLO 3\nSUBSCRIBE c\nINCR n\nEXEC\n",
    ]) {
        client.send(script.replace('\n', "\r\n"));
    }
    let (other, queued) = (disk.scene.client()?, disk.scene.client()?);
    assert_eq!(disk.scene.ask(&queued, "MULTI\nINCR n\n")?, "+OK +QUEUED ");
    disk.outcomes.send(Err("full"))?;
    let refusal = "-MISCONF Errors writing to the AOF file: full ";
    disk.until(|| {
        Ok(disk
            .scene
            .ask(&other, "INFO persistence\n")?
            .contains("status:err"))
    })?;
    assert_eq!(disk.scene.ask(&other, "INCR n\n")?, refusal);
    assert_eq!(
        disk.scene.ask(&queued, "EXEC\nGET n\n")?,
        refusal.replace("-", "-EXECABORT Transaction discarded because of: ") + "$1 4 "
    );
    assert_eq!(disk.scene.ask(&other, "GET n\n")?, "$1 4 ");
    assert_eq!(received(&clients[0]), "");
    drop(disk.outcomes);
    let disk = Disk {
        outcomes: mpsc::channel().0,
        ..disk
    };
    disk.expect(&clients[0], ":1 ")?;
    disk.expect(&clients[1], ":2 +OK ")?;
    let text = "+OK +QUEUED +QUEUED +QUEUED *3 %7 ";
    let mut third = String::new();
    disk.until(|| {
        third += &received(&clients[2]);
        Ok(third.ends_with(":4 "))
    })?;
    assert!(
        third.starts_with(text) && !third.contains("MISCONF"),
        "{third}"
    );
    disk.until(|| {
        Ok(disk
            .scene
            .ask(&other, "INFO persistence\n")?
            .contains("status:ok"))
    })?;
    assert_eq!(disk.scene.ask(&clients[0], "")?, "");
    Ok(())
}

#[test]
fn many_removed_elements_are_sent_when_their_removal_is_on_disk() -> Result {
    let disk = Disk::new(AppendFsync::Always)?;
    let (client, other) = (disk.scene.client()?, disk.scene.client()?);
    let elements: String = (0..3_000).map(|number| format!(" {number}")).collect();
    disk.outcomes.send(Ok(()))?;
    disk.scene.ask(&client, &format!("RPUSH l{elements}\n"))?;
    disk.until(|| Ok(disk.scene.ask(&client, "PING\n")?.contains("PONG")))?;
    let script = "LPOP l 2000\nPING\nMULTI\nLPOP l 1000\nSET k v\nEXEC\n";
    assert_eq!(disk.scene.ask(&client, script)?, "");
    assert_eq!(disk.scene.ask(&other, "LLEN l\n")?, ":1000 ");
    for _ in 0..2 {
        disk.outcomes.send(Ok(()))?;
    }
    let mut reply = String::new();
    disk.until(|| {
        reply += &received(&client);
        Ok(reply.ends_with(" +OK "))
    })?;
    assert!(reply.starts_with("*2000 $1 0 $1 1 "), "{reply:.60}");
    let end = "+PONG +OK +QUEUED +QUEUED *2 *1000 $4 2000 ";
    assert!(reply.contains(&format!("$4 1999 {end}")), "{reply}");
    assert!(reply.ends_with(" $4 2999 +OK "), "{reply}");
    Ok(())
}

#[test]
fn a_sort_that_stores_nothing_does_not_wait_for_the_disk() -> Result {
    let disk = Disk::new(AppendFsync::Always)?;
    let client = disk.scene.client()?;
    disk.outcomes.send(Ok(()))?;
    disk.scene.ask(&client, "RPUSH l 2 1\n")?;
    disk.until(|| Ok(disk.scene.ask(&client, "PING\n")?.contains("PONG")))?;
    assert_eq!(disk.scene.ask(&client, "SORT l\n")?, "*2 $1 1 $1 2 ");
    assert_eq!(disk.scene.ask(&client, "SORT l STORE s\n")?, "");
    Ok(())
}

#[test]
fn nothing_is_acknowledged_after_the_thread_that_writes_has_died() -> Result {
    let disk = Disk::new(AppendFsync::Everysec)?;
    let client = disk.scene.client()?;
    assert_eq!(disk.scene.ask(&client, "SET k 1\n")?, "+OK ");
    disk.outcomes.send(Err("panic"))?;
    disk.scene
        .network
        .advance(&disk.scene.event_loop, Duration::from_secs(2))?;
    disk.until(|| {
        Ok(disk
            .scene
            .ask(&client, "SET k 2\n")?
            .starts_with("-MISCONF"))
    })?;
    assert!(disk.scene.shared.close().is_err());
    Ok(())
}

#[test]
fn clients_that_write_wait_while_much_is_not_on_disk() -> Result {
    for sync in [AppendFsync::Everysec, AppendFsync::No, AppendFsync::Always] {
        let disk = Disk::new(sync)?;
        let client = disk.scene.client()?;
        let value = "x".repeat(8 << 20);
        for number in 0..9 {
            let request = format!("*3\n$3\nSET\n$1\n{number}\n${}\n{value}\n", value.len());
            disk.scene.ask(&client, &request)?;
        }
        disk.scene
            .network
            .advance(&disk.scene.event_loop, Duration::from_secs(31))?;
        // Each of them waits, and what is behind it is not read any more.
        let other = disk.scene.client()?;
        assert_eq!(disk.scene.ask(&other, "INCR n\nINCR n\n")?, "");
        let third = disk.scene.client()?;
        assert_eq!(disk.scene.ask(&third, "GET n\n")?, "$1 1 ");
        let silent = "CLIENT REPLY OFF\nINCR s\nINCR s\n";
        assert_eq!(disk.scene.ask(&third, silent)?, "");
        let fourth = disk.scene.client()?;
        assert_eq!(disk.scene.ask(&fourth, "GET s\n")?, "$1 1 ");
        for _ in 0..3 {
            disk.outcomes.send(Ok(()))?;
        }
        drop(disk.outcomes);
        let disk = Disk {
            outcomes: mpsc::channel().0,
            ..disk
        };
        disk.expect(&other, ":1 :2 ")?;
        disk.until(|| Ok(disk.scene.ask(&fourth, "GET s\n")?.ends_with("$1 2 ")))?;
    }
    Ok(())
}

/// Replies to commands that have waited do not come from a read, so nothing else may be sent to the disk in that turn.
#[test]
fn commands_that_have_waited_do_not_wait_for_the_next_timer_while_much_is_not_on_disk() -> Result {
    let disk = Disk::new(AppendFsync::No)?;
    let (waiter, client) = (disk.scene.client()?, disk.scene.client()?);
    assert_eq!(disk.scene.ask(&waiter, "BLPOP l 0\n")?, "");
    let elements: String = (0..3_000).map(|number| format!(" {number}")).collect();
    let value = "x".repeat(70 << 20);
    let set = format!("*3\n$3\nSET\n$1\nk\n${}\n{value}\n", value.len());
    let script = format!("SADD s{elements}\n{set}");
    assert_eq!(disk.scene.ask(&client, &script)?, ":3000 +OK ");
    disk.scene
        .network
        .advance(&disk.scene.event_loop, Duration::from_secs(31))?;
    assert_eq!(disk.scene.ask(&client, "SORT s STORE l\n")?, "");
    assert_eq!(received(&waiter), "");
    drop(disk.outcomes);
    let disk = Disk {
        outcomes: mpsc::channel().0,
        ..disk
    };
    disk.expect(&waiter, "*2 $1 l $1 0 ")?;
    disk.expect(&client, ":3000 ")
}

#[test]
fn many_changes_are_collected_in_parts_and_written_once() -> Result {
    let written = Arc::new(Mutex::new(Vec::new()));
    let batches = Arc::clone(&written);
    let write = move |ops: &[disk::rows::Op]| {
        batches
            .lock()
            .map_err(|error| error.to_string())?
            .push(ops.len());
        Ok(())
    };
    let keyspace = disk::loader::Loader::default().finish();
    let scene = Scene::with(Options {
        disk: Some((
            Writer::start(write, || {})?,
            AppendFsync::Everysec,
            keyspace,
        )),
        ..options()
    })?;
    let client = scene.client()?;
    for number in 0..5_000 {
        client.send(format!("SET k{number} v\r\n"));
    }
    scene.network.settle(&scene.event_loop)?;
    let left = scene.shared.lock().keyspace.change_count();
    assert!(left < 2_000, "{left}");
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(2))?;
    scene.shared.close()?;
    // Each key has two rows: one is cleared, and the other one is written.
    assert_eq!(
        *written.lock().map_err(|error| error.to_string())?,
        [10_000]
    );
    Ok(())
}

#[test]
fn elements_that_were_removed_at_once_are_not_on_disk() -> Result {
    let dir = tempfile::tempdir()?;
    let elements: String = (0..6_000).map(|number| format!(" {number}")).collect();
    for script in [
        format!("RPUSH l{elements}\n"),
        "LPOP l 1200\nRPOP l 1100\n".to_owned(),
        "LTRIM l 1300 2399\n".to_owned(),
    ] {
        let scene = Scene::with(on_disk(dir.path(), AppendFsync::Everysec)?)?;
        let client = scene.client()?;
        scene.ask(&client, &script)?;
        scene.shared.close()?;
    }
    let scene = Scene::with(on_disk(dir.path(), AppendFsync::Everysec)?)?;
    let client = scene.client()?;
    let reply = scene.ask(&client, "LLEN l\nLINDEX l 0\nLINDEX l -1\n")?;
    assert_eq!(reply, ":1100 $4 2500 $4 3599 ");
    scene.shared.close()?;
    Ok(())
}

/// SWAPDB changes the order of the databases, and no row of a key.
#[test]
fn exchanged_databases_are_exchanged_after_a_restart() -> Result {
    let dir = tempfile::tempdir()?;
    let first =
        "SET a 0\nSELECT 1\nSET a 1\nSWAPDB 0 1\nSET b 1\nSWAPDB 1 2\nSWAPDB 2 3\nSET c 1\n";
    let second = "SWAPDB 0 3\nSELECT 3\nFLUSHDB\nSET d 3\n";
    for script in [first, second] {
        let scene = Scene::with(on_disk(dir.path(), AppendFsync::Everysec)?)?;
        let client = scene.client()?;
        scene.ask(&client, script)?;
        drop(client);
        scene.shared.close()?;
    }
    let scene = Scene::with(on_disk(dir.path(), AppendFsync::Everysec)?)?;
    let client = scene.client()?;
    let script = "MGET a b c d\nSELECT 1\nMGET a b c d\nSELECT 3\nMGET a b c d\n";
    assert_eq!(
        scene.ask(&client, script)?,
        "*4 $1 0 $1 1 $-1 $-1 +OK *4 $-1 $-1 $1 1 $-1 +OK *4 $-1 $-1 $-1 $1 3 "
    );
    scene.shared.close()?;
    Ok(())
}

/// A database that sends how much it has to do.
fn counting() -> Result<(Scene, Receiver<usize>)> {
    let (sender, rows) = mpsc::channel();
    let write = move |ops: &[disk::rows::Op]| Ok(sender.send(ops.len())?);
    let scene = Scene::with(Options {
        disk: Some((
            Writer::start(write, || {})?,
            AppendFsync::Everysec,
            disk::loader::Loader::default().finish(),
        )),
        ..options()
    })?;
    Ok((scene, rows))
}

#[test]
fn many_removed_elements_are_few_rows() -> Result {
    let (scene, rows) = counting()?;
    let client = scene.client()?;
    let elements: String = (0..6_000).map(|number| format!(" {number}")).collect();
    for script in [
        format!("RPUSH l{elements}\n"),
        "LPOP l 1500\nRPOP l 1500\nLTRIM l 1100 1600\n".to_owned(),
    ] {
        scene.ask(&client, &script)?;
        scene
            .network
            .advance(&scene.event_loop, Duration::from_secs(2))?;
        let count = rows.recv_timeout(Duration::from_secs(60))?;
        assert!(count < 10, "{count} rows: {script:.10}");
    }
    scene.shared.close()?;
    Ok(())
}

#[test]
fn many_exchanged_keys_are_few_rows() -> Result {
    let (scene, rows) = counting()?;
    let client = scene.client()?;
    let pairs: String = (0..5_000).map(|number| format!(" {number} x")).collect();
    scene.ask(&client, &format!("MSET{pairs}\n"))?;
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(2))?;
    let first = rows.recv_timeout(Duration::from_secs(60))?;
    assert_eq!(first, 10_000);
    scene.ask(&client, "SWAPDB 0 5\n")?;
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(2))?;
    assert_eq!(rows.recv_timeout(Duration::from_secs(60))?, 1);
    scene.shared.close()?;
    Ok(())
}
