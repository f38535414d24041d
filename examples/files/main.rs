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
//! bcrypt uses the first 72 bytes of a password only.
//!
//! Hashes are checked on threads, one for each address at a time. A password that was right is known for five minutes. Ten
//! wrong passwords of an address are checked, and then two a minute. While an address is above this limit, right passwords
//! from it are refused, too, with the time to wait (429 and `Retry-After`; 530 or 421 over FTP). `--no-anonymous` demands a
//! user for reading, too. Each wrong password is a line of the log, at most ten a second, which this filter of fail2ban finds:
//!
//! ```text
//! 2026-06-15T12:00:00.000000Z  WARN files::users: wrong password peer=192.0.2.7 user="ann"
//!
//! failregex = ^\s*WARN \S+ wrong password peer=<ADDR> user=
//! ```
//!
//! It listens on 127.0.0.1, where only `localhost` and addresses are accepted as names of the server. `--host NAME` adds
//! one. Without this check a site could let a name of its own lead here, and read the folder with a browser's help.
//!
//! After Ctrl-C, transfers may go on for `--grace`. At nine tenths of it, uploads that are incomplete are cut with a 503 over HTTP,
//! and all transfers with a 426 over FTP.
//!
//! SIGTERM is like Ctrl-C. On Unix, SIGHUP opens the access log by its name once more, after logrotate has renamed it, and
//! reads a renewed certificate, and the file of `--passwords` again; elsewhere a change needs a restart. Whoever is logged in
//! over FTP stays so.
//!
//! With a certificate and `--tls-listen` it serves HTTP with TLS, and without TLS only where `--listen` says. Make one for tests:
//!
//! ```text
//! cargo run --release --example test_certificate -- --out /tmp/tls
//! cargo run --release --example files -- . --tls-listen 127.0.0.1:8443 \
//!     --tls-cert /tmp/tls/cert.pem --tls-key /tmp/tls/key.pem
//! curl --cacert /tmp/tls/ca.pem https://localhost:8443/README.md
//! ```
//!
//! With TLS, passwords are refused without it, unless `--insecure-auth` is given.
//!
//! It also speaks FTP, on 127.0.0.1:2121 or where `--ftp-listen` says. With `--listen`, `--tls-listen` or `--proxy-protocol`
//! it speaks FTP only where an option says; `--no-ftp` leaves FTP out. If there is a certificate, clients can use AUTH TLS. Users then have to, and PROT P for their data
//! connections. With `--ftps-require-reuse` these have to resume the TLS session of their control connection. With
//! `--ftps-listen` there is also a port with TLS from the beginning (`ftps://`, with wget `--ftps-implicit`):
//!
//! ```text
//! cargo run --release --example files -- . --ftp-ports 50000-50100
//! curl -O ftp://127.0.0.1:2121/README.md
//! lftp -e mirror ftp://127.0.0.1:2121/src
//! ```
//!
//! All of the folder is shared, also names that begin with a dot. With `--write` every user may change every file. Folders
//! are made and removed over FTP only. There is no quota in total: use a file system of its own.
//!
//! Nothing outside the folder can be reached, also not through symbolic links (unless `--follow-symlinks` is given). Clients do
//! not see a link then, and an upload with its name is refused (403, 550).
//! An upload is complete before its file appears. One that was cut, or whose client of FTP has left without QUIT, leaves
//! nothing: the old file stays, and the client has to send the whole file again. Until then APPE is refused, because the client
//! would continue the old file. What APPE has added to a file stays when it is cut, and the same user can continue it with REST
//! and STOR. Any other REST with STOR is refused (550), also when the file is one that the client has sent itself: nothing
//! tells it from a file of another client. So `lftp put -c` and `reput` send the whole file when there is one. `curl -C -`
//! uses APPE, which adds to whatever file there is. A file whose folder is renamed while it is sent is refused at its end (409,
//! 451), and so is APPE to a file that is renamed or replaced meanwhile.
//!
//! The server does not wait until an upload is on the disk: that would stall the loop. After a power failure the files of
//! the last half minute or so, which were confirmed with 201, 204 or 226, may be missing, empty or the old ones.
//!
//! `page.html.br`, `.zst` and `.gz` are sent for `page.html` to clients
//! that accept them, unless they are older than it: then they are of an earlier content. `gzip -k`, `brotli`, `zstd` and `pigz -k`
//! give them its time, some of them in whole seconds, which are compared then. To change `page.html` on a condition
//! (If-Match), a client may use the tag of any of these. Only files and folders are served: a pipe or a device is not opened. Files are opened, read and written on the loop, so a slow disk delays all clients; large files that
//! are removed are closed on a thread.
//!
//! Paths below `/-/` belong to the server (a folder of the name `-` is reached as `/%2D/`): `/-/` is its status page, with
//! live connections, rates and the counters of the loop; `/-/metrics` has the figures for Prometheus; `/-/health` is
//! `200 ok` until the server shuts down. The first two show who requests what, so only clients with a loopback address
//! may see them, and those of `--status-from 192.0.2.7` or `--status-from 10.0.0.0/8`, under an address of the server,
//! `localhost` or a name of `--host`.
//!
//! Behind a reverse proxy each client has the address of the proxy. Requests with one of the fields `Forwarded`, `Via`,
//! `X-Forwarded-For` and `X-Real-IP` do not get these pages. But a proxy on this host that adds none of them makes every
//! client one on this host: nginx with `proxy_pass` alone, HAProxy without `option forwardfor`, stunnel, `ssh -R`. Then the
//! proxy has to refuse paths below `/-/`, or the server needs `--no-status`. For the limits of log-ins and of connections,
//! too, all clients of a proxy have one address. A proxy that sends their addresses with the PROXY protocol avoids both: see
//! `--proxy-protocol`.
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
