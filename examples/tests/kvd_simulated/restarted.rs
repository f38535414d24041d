//! What is there when a server starts with the files of another one.

use std::path::Path;
use std::time::{Duration, Instant};

use asynchat::Result;

use crate::disk::journal::AppendFsync;
use crate::disk::writer::Writer;
use crate::scene::{Scene, options};
use crate::server::Options;

fn on_disk(dir: &Path, sync: AppendFsync) -> Result<Options> {
    let disk = Writer::open(dir, sync, || panic!("a thread has ended by itself"))?;
    Ok(Options {
        disk: Some(disk),
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

/// As after kill -9: the log is read, and what is in it is saved.
#[test]
fn what_is_in_the_log_only_is_there_after_a_restart() -> Result {
    let dir = tempfile::tempdir()?;
    for round in 1..=3 {
        let copy = tempfile::tempdir()?;
        let scene = Scene::with(on_disk(dir.path(), AppendFsync::No)?)?;
        let client = scene.client()?;
        let elements = " x".repeat(2_000);
        let script = format!("INCR n\nRPUSH l{elements}\nLPOP l 1500\nSWAPDB 0 1\nSWAPDB 1 0\n");
        scene.ask(&client, &script)?;
        while scene
            .shared
            .disk
            .as_ref()
            .is_some_and(|it| it.status.is_pending())
        {
            scene.network.settle(&scene.event_loop)?;
        }
        for entry in std::fs::read_dir(dir.path())? {
            let name = entry?.file_name();
            // On Windows nobody else can open the file of the lock.
            if name != "kvd.lock" {
                std::fs::copy(dir.path().join(&name), copy.path().join(&name))?;
            }
        }
        let after = Scene::with(on_disk(copy.path(), AppendFsync::No)?)?;
        let client = after.client()?;
        let reply = after.ask(&client, "GET n\nLLEN l\n")?;
        assert_eq!(reply, format!("$1 {round} :{} ", 500 * round));
        after.shared.close()?;
        scene.shared.close()?;
    }
    Ok(())
}

#[test]
fn a_damaged_file_is_named() -> Result {
    let dir = tempfile::tempdir()?;
    // The threads have ended, and nobody has the folder.
    Scene::with(on_disk(dir.path(), AppendFsync::Always)?)?
        .shared
        .close()?;
    std::fs::write(dir.path().join("kvd.redb"), [7; 10_000])?;
    let error = on_disk(dir.path(), AppendFsync::Always).err();
    let text = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("kvd.redb: "), "{text}");
    Ok(())
}

#[test]
fn elements_that_were_removed_at_once_are_not_on_disk() -> Result {
    let dir = tempfile::tempdir()?;
    let elements: String = (0..6_000).map(|number| format!(" {number}")).collect();
    let members: String = (0..6_000)
        .map(|number| format!(" {number} {number}"))
        .collect();
    for script in [
        format!("RPUSH l{elements}\nZADD z{members}\n"),
        "LPOP l 1200\nRPOP l 1100\nZPOPMIN z 1200\nZPOPMAX z 1100\n".to_owned(),
        "LTRIM l 1300 2399\nZREMRANGEBYRANK z 0 1299\nZADD z 9999 3599\n".to_owned(),
    ] {
        let scene = Scene::with(on_disk(dir.path(), AppendFsync::Everysec)?)?;
        let client = scene.client()?;
        let status = &scene.shared.disk.as_ref().ok_or("it has no disk")?.status;
        let wanted = status.executed() + script.lines().count() as u64;
        client.send(script.replace('\n', "\r\n"));
        // A command may wait until the long reply before it is sent.
        let deadline = Instant::now() + Duration::from_secs(60);
        while status.executed() < wanted {
            assert!(Instant::now() < deadline, "a command is not executed");
            scene.network.settle(&scene.event_loop)?;
            client.take_received();
        }
        scene.shared.close()?;
    }
    let scene = Scene::with(on_disk(dir.path(), AppendFsync::Everysec)?)?;
    let client = scene.client()?;
    let reply = scene.ask(&client, "LLEN l\nLINDEX l 0\nLINDEX l -1\n")?;
    assert_eq!(reply, ":1100 $4 2500 $4 3599 ");
    let reply = scene.ask(&client, "ZCARD z\nZRANGE z 0 0\nZRANGE z -1 -1\n")?;
    assert_eq!(reply, ":2400 *1 $4 2500 *1 $4 3599 ");
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
