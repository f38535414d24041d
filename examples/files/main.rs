//! `files`: shares a folder over HTTP/1.1 and FTP.
//!
//! ```text
//! cargo run --release --example files -- .
//! ```
//!
//! Open <http://127.0.0.1:8080/>, or use it from another terminal:
//!
//! ```text
//! curl -O http://127.0.0.1:8080/README.md
//! curl -C - -O http://127.0.0.1:8080/large.iso         # continues where it has stopped
//! wget -r -np http://127.0.0.1:8080/
//! aria2c -x16 http://127.0.0.1:8080/large.iso
//! ```
//!
//! The folder is read-only, unless `--write` is given. Writing needs a user and a password:
//!
//! ```text
//! cargo run --release --example files -- /tmp/shared --write --user ann:secret
//! curl -u ann:secret -T README.md http://127.0.0.1:8080/
//! tar c src | curl -u ann:secret -T - http://127.0.0.1:8080/src.tar
//! curl -u ann:secret -X DELETE http://127.0.0.1:8080/src.tar
//! ```
//!
//! `--passwords` reads users from a file, which has hashes of their passwords (bcrypt or SHA-crypt) and none in clear:
//!
//! ```text
//! htpasswd -cB /tmp/users ann                                     # of Apache; -c creates the file
//! echo "bob:$(openssl passwd -6)" >>/tmp/users
//! files --hash-password carl <password.txt >>/tmp/users           # this program makes one, too
//! cargo run --release --example files -- /tmp/shared --write --passwords /tmp/users
//! ```
//!
//! HTTP with TLS; `test_certificate` makes a certificate for tests:
//!
//! ```text
//! cargo run --release --example test_certificate -- --out /tmp/tls
//! cargo run --release --example files -- . --tls-listen 127.0.0.1:8443 \
//!     --tls-cert /tmp/tls/cert.pem --tls-key /tmp/tls/key.pem
//! curl --cacert /tmp/tls/ca.pem https://localhost:8443/README.md
//! ```
//!
//! FTP, with and without TLS, on 127.0.0.1:2121 or where `--ftp-listen` says:
//!
//! ```text
//! cargo run --release --example files -- . --ftp-ports 50000-50100
//! curl -O ftp://127.0.0.1:2121/README.md
//! lftp -e mirror ftp://127.0.0.1:2121/src
//! ```
//!
//! `http://127.0.0.1:8080/-/` is a status page, for clients on this host.
//!
//! Ctrl-C and SIGTERM end it when the transfers are done, at the latest after `--grace`. On Unix, SIGHUP reopens the access log,
//! and reads the certificate and the users again. README.md, in this folder, says what is shared, what uploads promise, and what
//! each part refuses.
//!
//! Reading order:
//!
//! * this file: the start; `arguments.rs`: options; `site.rs`: what both protocols share, and the listeners; `capacity.rs`: the
//!   limit on descriptors; `../common/signals.rs`: Ctrl-C and SIGHUP; `../common/certificate.rs`: the options of TLS;
//! * `../http1/`: the parser of HTTP/1.1 messages, which refuses what another parser could read in another way;
//! * `http/session.rs`: the handler; `http/get.rs`, `http/put.rs`: the methods; then any other file there;
//! * `status/mod.rs`: the figures; `http/own.rs`, `http/events.rs`: the pages that show them;
//! * `ftp/mod.rs`: two connections in one session;
//! * `../common/users/`: users, and the checks of their passwords;
//! * `names.rs`, `tree.rs`, `sorted.rs`: paths, the folder, and the names in it; `access_log.rs`: the log of both protocols.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

mod access_log;
mod arguments;
mod author;
mod capacity;
#[path = "../common/certificate.rs"]
mod certificate;
mod clock;
#[path = "../common/mod.rs"]
mod common;
mod date;
#[path = "../common/descriptors.rs"]
mod descriptors;
mod digits;
mod failure;
mod ftp;
mod http;
#[path = "../http1/mod.rs"]
mod http1;
#[path = "../common/linger.rs"]
mod linger;
mod names;
#[path = "../common/numbers.rs"]
mod numbers;
mod site;
mod size;
mod sorted;
mod status;
mod tree;
#[path = "../common/users/mod.rs"]
mod users;

use std::rc::Rc;
use std::time::Duration;

use arguments::Arguments;
use asynchat::Result;
use clap::Parser;
use site::{Addresses, Site};
use tracing::{info, warn};

fn main() {
    common::log_events_to_stderr("info");
    let arguments = Arguments::parse();
    let outcome = match &arguments.users.hash_password {
        Some(name) => users::read_entry(name).map(common::say),
        None => run(&arguments),
    };
    if let Err(error) = outcome {
        common::print_to_stderr(format_args!("files: {error}"));
        std::process::exit(1);
    }
}

fn run(arguments: &Arguments) -> Result {
    arguments.check_secrets()?;
    arguments.check_addresses()?;
    let users = arguments.users.read()?;
    if users.is_empty() == (arguments.write || arguments.no_anonymous) {
        return Err(if users.is_empty() {
            "--write and --no-anonymous need --user or --passwords".into()
        } else {
            "--user and --passwords have no effect without --write or --no-anonymous".into()
        });
    }
    let has_users = !users.is_empty();
    let site = Site::new(arguments, users)?;
    let addresses = site.listen()?;
    handle_signals(arguments, &site)?;
    if has_users && addresses.take_passwords_in_clear(arguments.insecure_auth) {
        warn!("everybody on the way of a request can read its password: use TLS");
    }
    if !arguments.proxy_protocol.is_empty() {
        info!(
            "--proxy-protocol: connections without a PROXY header, or from other hosts, are closed. A health check has to send \
             one: curl --haproxy-protocol, HAProxy check-send-proxy"
        );
    }
    announce(&addresses);
    common::run_until_signal()?;
    common::log_stopped()
}

fn handle_signals(arguments: &Arguments, site: &Site) -> Result {
    let (grace, status) = (
        Duration::from_secs(arguments.grace),
        Rc::clone(&site.status),
    );
    common::shutdown_with_report(grace, "transfer", move || status.transfers() as usize)?;
    let has_files = site.access_log.is_some()
        || arguments.users.passwords.is_some()
        || arguments.certificate.is_given();
    common::ignore_sighup_unless(has_files)?;
    #[cfg(unix)]
    if let Some(log) = site.access_log.clone() {
        asynchat::signal::on(asynchat::signal::SIGHUP, move || log.reopen())?;
    }
    #[cfg(unix)]
    arguments.users.reload_on_sighup(&site.logins)?;
    Ok(())
}

fn announce(addresses: &Addresses) {
    if let Some(address) = &addresses.http {
        common::announce(address);
    }
    if let Some(address) = &addresses.https {
        common::say(format_args!("listening with TLS on {address}"));
    }
    if let Some(address) = &addresses.ftp {
        common::say(format_args!("listening for FTP on {address}"));
    }
    if let Some(address) = &addresses.ftps {
        common::say(format_args!("listening for FTP with TLS on {address}"));
    }
}
