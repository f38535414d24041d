//! FTP in the `files` example, on a simulated network with a real folder.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "only the command line of `files` uses the rest"
)]

mod abor;
#[path = "../../files/access_log.rs"]
mod access_log;
#[path = "../../files/author.rs"]
mod author;
#[path = "../common/captured.rs"]
mod captured;
#[path = "../../files/clock.rs"]
mod clock;
mod commands;
#[path = "../../common/mod.rs"]
mod common;
mod connections;
mod cut_uploads;
#[path = "../../files/date.rs"]
mod date;
#[path = "../../files/digits.rs"]
mod digits;
#[path = "../../files/failure.rs"]
mod failure;
#[path = "../common/folder.rs"]
mod folder;
#[path = "../../files/ftp/mod.rs"]
mod ftp;
#[path = "../common/gate.rs"]
mod gate;
#[path = "../../common/linger.rs"]
mod linger;
mod listings;
mod logged;
mod logins;
#[path = "../../files/names.rs"]
mod names;
mod open_files;
#[cfg(target_os = "linux")]
#[path = "../common/opened.rs"]
mod opened;
mod refused;
#[path = "../common/scene.rs"]
mod scene;
mod site;
mod slow;
#[path = "../../files/sorted.rs"]
mod sorted;
#[path = "../../files/status/mod.rs"]
mod status;
#[path = "../../../tests/common/subscribing.rs"]
mod subscribing;
#[path = "../../../tests/common/tls.rs"]
mod tls;
mod transfers;
#[path = "../../files/tree.rs"]
mod tree;
#[path = "../../common/users/mod.rs"]
mod users;
mod waiting;
mod with_certificate;
#[path = "../common/with_tls.rs"]
mod with_tls;
mod writers;
