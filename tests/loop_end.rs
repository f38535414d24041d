//! What is left of a loop when its last handle is dropped. A single test, because it counts the
//! descriptors of the process.

#![cfg(target_os = "linux")]

use asynchat::{EventLoop, Result};

fn descriptors() -> usize {
    let list = std::fs::read_dir("/proc/self/fd").expect("it can be listed");
    list.count()
}

#[test]
fn a_handle_that_outlives_its_loop_keeps_no_descriptor_of_it() -> Result {
    let before = descriptors();
    let mut handles = Vec::new();
    for _ in 0..10 {
        let event_loop = EventLoop::new()?;
        let chat = event_loop.connect("127.0.0.1:9", |_| |_: &[u8]| Ok(()))?;
        event_loop.close_all();
        event_loop.run()?;
        handles.push((chat, event_loop.remote()));
    }
    assert_eq!(descriptors(), before);
    assert!(handles.iter().all(|(_, remote)| remote.stop().is_err()));
    Ok(())
}
