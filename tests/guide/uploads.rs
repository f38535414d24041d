//! STOR, in the simulator.

use std::fs;
use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Ended;

use crate::{CLIENT, Scene, uploads_alone};

#[test]
fn a_file_is_stored_whatever_comes_first() -> Result {
    uploads_alone(|| {
        let scene = Scene::new()?;
        let data = scene.begin_upload("stored")?;
        assert!(!fs::exists("stored")?, "it is not complete");
        data.send(" and the rest");
        data.finish();
        scene.settle()?;
        scene.expect("226 done\r\n");
        assert_eq!(fs::read("stored")?, b"the first half and the rest");

        // The command first. The file replaces the earlier one.
        let port = scene.passive_port()?;
        scene.ask("STOR stored", "150 the transfer begins\r\n")?;
        let data = scene.connect(port, CLIENT)?;
        data.send("short");
        data.finish();
        scene.settle()?;
        scene.expect("226 done\r\n");
        assert_eq!(fs::read("stored")?, b"short");

        // All of the data first, and more of it than one turn reads.
        let data = scene.connect(scene.passive_port()?, CLIENT)?;
        data.send(vec![b'x'; 1_000_000]);
        data.finish();
        scene.settle()?;
        scene.ask("STOR stored", "150 the transfer begins\r\n226 done\r\n")?;
        assert_eq!(fs::read("stored")?, vec![b'x'; 1_000_000]);

        // An empty file.
        let data = scene.connect(scene.passive_port()?, CLIENT)?;
        data.finish();
        scene.ask("STOR empty", "150 the transfer begins\r\n226 done\r\n")?;
        assert_eq!(fs::read("empty")?, b"");

        scene.ask("STOR empty", "425 use EPSV first\r\n")?;
        scene.ask("STOR ../outside", "550 file unavailable\r\n")?;
        assert!(!fs::exists("../outside")?);
        Ok(())
    })
}

#[test]
fn an_upload_that_is_not_completed_leaves_no_file() -> Result {
    uploads_alone(|| {
        let scene = Scene::new()?;
        let data = scene.begin_upload("partial")?;
        scene.ask("ABOR", "426 aborted\r\n226 closed\r\n")?;
        assert_eq!(data.ended(), Some(Ended::Reset));

        let data = scene.begin_upload("partial")?;
        data.reset();
        scene.settle()?;
        scene.expect("426 the data connection has failed\r\n");

        // The client's host has disappeared.
        let data = scene.begin_upload("partial")?;
        scene.advance(Duration::from_secs(61))?;
        scene.expect("426 the data connection has failed\r\n");
        assert!(data.has_ended());

        let data = scene.begin_upload("partial")?;
        scene.control.reset();
        scene.settle()?;
        assert!(data.has_ended());
        assert_eq!(scene.event_loop.len(), 1, "the listener");
        assert!(!fs::exists("partial")?);
        Ok(())
    })
}

#[test]
fn a_data_connection_without_a_command_is_closed() -> Result {
    let scene = Scene::new()?;
    let data = scene.connect(scene.passive_port()?, CLIENT)?;
    scene.advance(Duration::from_secs(61))?;
    assert!(data.has_ended());
    scene.expect("");
    scene.ask("RETR small", "425 use EPSV first\r\n")
}

#[test]
fn a_file_that_cannot_be_stored_is_reported() -> Result {
    uploads_alone(|| {
        fs::create_dir_all("folder")?;
        let scene = Scene::new()?;
        let data = scene.begin_upload("folder")?;
        data.finish();
        scene.settle()?;
        scene.expect("451 the file cannot be read or written\r\n");
        scene.ask("USER a", "230 welcome\r\n")
    })
}
