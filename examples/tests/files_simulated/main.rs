//! The `files` example on a simulated network with a real folder: every segmentation, requests that are smuggled,
//! pipelining, parts, conditions, uploads, paths, and time.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "only the command line of `files` uses the rest"
)]

mod access;
#[path = "../../files/access_log.rs"]
mod access_log;
#[path = "../../files/author.rs"]
mod author;
#[path = "../common/captured.rs"]
mod captured;
#[path = "../../files/clock.rs"]
mod clock;
#[path = "../../files/date.rs"]
mod date;
#[path = "../../files/digits.rs"]
mod digits;
#[path = "../../files/failure.rs"]
mod failure;
mod failures;
#[path = "../common/folder.rs"]
mod folder;
#[path = "../common/gate.rs"]
mod gate;
#[path = "../../files/http/mod.rs"]
mod http;
#[path = "../../http1/mod.rs"]
mod http1;
#[path = "../../common/linger.rs"]
mod linger;
mod messages;
#[path = "../../files/names.rs"]
mod names;
mod open_files;
#[cfg(target_os = "linux")]
#[path = "../common/opened.rs"]
mod opened;
mod reading;
#[path = "../common/scene.rs"]
mod scene;
mod site;
#[path = "../../files/sorted.rs"]
mod sorted;
#[path = "../../files/status/mod.rs"]
mod status;
mod status_page;
#[path = "../../../tests/common/subscribing.rs"]
mod subscribing;
#[path = "../../../tests/common/tls.rs"]
mod tls;
#[path = "../../files/tree.rs"]
mod tree;
#[path = "../../common/users/mod.rs"]
mod users;
mod viewers;
#[path = "../common/with_tls.rs"]
mod with_tls;
mod writing;
