//! What becomes of a transfer at a shutdown, in the simulator.

use std::fs;

use asynchat::Result;
use asynchat::sim::Ended;

use crate::{CLIENT, GRACE, LARGE, Scene, uploads_alone};

#[test]
fn a_shutdown_waits_for_a_download() -> Result {
    let scene = Scene::new()?;
    let data = scene.begin_large_transfer()?;
    scene.ask("USER a", "")?;
    scene.event_loop.shutdown(GRACE);
    scene.settle()?;
    scene.expect("");
    data.start_reading(usize::MAX);
    scene.settle()?;
    assert_eq!(data.received().len() as u64, LARGE);
    assert_eq!(data.ended(), Some(Ended::Finished));
    scene.expect("226 done\r\n421 shutting down\r\n");
    assert_eq!(scene.control.ended(), Some(Ended::Finished));
    Ok(())
}

#[test]
fn a_shutdown_waits_for_an_upload() -> Result {
    uploads_alone(|| {
        let scene = Scene::new()?;
        let data = scene.begin_upload("last")?;
        scene.event_loop.shutdown(GRACE);
        scene.settle()?;
        scene.expect("");
        data.send(" and the rest");
        scene.settle()?;
        assert!(!fs::exists("last")?);
        data.finish();
        scene.settle()?;
        assert_eq!(fs::read("last")?, b"the first half and the rest");
        scene.expect("226 done\r\n421 shutting down\r\n");
        assert_eq!(scene.control.ended(), Some(Ended::Finished));
        Ok(())
    })
}

#[test]
fn abor_during_a_shutdown_is_the_end_of_the_last_transfer() -> Result {
    uploads_alone(|| {
        let scene = Scene::new()?;
        let data = scene.begin_upload("aborted")?;
        scene.event_loop.shutdown(GRACE);
        scene.ask("USER a", "")?;
        let replies = "426 aborted\r\n226 closed\r\n421 shutting down\r\n";
        scene.ask("ABOR", replies)?;
        assert!(data.has_ended() && scene.control.has_ended());
        assert!(!fs::exists("aborted")?);
        Ok(())
    })
}

#[test]
fn an_upload_that_the_grace_cuts_off_leaves_no_file() -> Result {
    uploads_alone(|| {
        let scene = Scene::new()?;
        let data = scene.begin_upload("cut")?;
        scene.event_loop.shutdown(GRACE);
        scene.advance(GRACE)?;
        assert!(data.has_ended() && scene.control.has_ended());
        assert!(!fs::exists("cut")?);
        Ok(())
    })
}

/// The loop is dropped without a shutdown.
#[test]
fn an_upload_at_the_end_of_the_loop_leaves_no_file() -> Result {
    uploads_alone(|| {
        let scene = Scene::new()?;
        scene.begin_upload("dropped")?;
        drop(scene);
        assert!(!fs::exists("dropped")?);
        Ok(())
    })
}

#[test]
fn a_shutdown_does_not_wait_for_a_data_connection() -> Result {
    let scene = Scene::new()?;
    scene.passive_port()?;
    scene.ask("RETR small", "150 the transfer begins\r\n")?;
    scene.event_loop.shutdown(GRACE);
    scene.settle()?;
    scene.expect("425 no data connection\r\n421 shutting down\r\n");
    assert!(scene.control.has_ended());
    Ok(())
}

#[test]
fn a_shutdown_without_a_transfer_closes_both_connections() -> Result {
    let scene = Scene::new()?;
    let data = scene.connect(scene.passive_port()?, CLIENT)?;
    scene.event_loop.shutdown(GRACE);
    scene.settle()?;
    scene.expect("421 shutting down\r\n");
    assert!(scene.control.has_ended() && data.has_ended());
    Ok(())
}
