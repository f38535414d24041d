//! `nntp`: a news server for newsreaders (RFC 3977).
//!
//! ```text
//! cargo run --release --example nntp
//! ```
//!
//! serves this crate's documentation as the articles of one group. Inside a clone
//! of the repository, it also serves the git history as another group. Connect a
//! newsreader from another terminal:
//!
//! ```text
//! slrn -h 127.0.0.1 -p 1119 -n -f ~/.newsrc-asynchat --create
//! tin -r -g 127.0.0.1 -p 1119
//! python3.11 -c 'import nntplib; print(nntplib.NNTP("127.0.0.1", 1119).list())'
//! ```
//!
//! Options serve a mailbox as a group and store posts in an embedded database:
//!
//! ```text
//! cargo run --release --example nntp -- --mbox mail.inbox=/var/mail/$USER --store posts.redb
//! ```
//!
//! Reading order:
//!
//! * this file: options, groups, start and Ctrl-C; `bounds.rs`: the options that
//!   limit resources; `../common/certificate.rs`: those of TLS;
//! * `server/session.rs`: the handler, its two states, its terminators;
//!   `server/client_errors.rs`: when the server closes a connection;
//! * `server/commands/mod.rs`: the table of commands; then any other file there.
//!   `rows.rs` is a producer of long replies, `posting.rs` passes an article to
//!   another thread and replies when that has stored it;
//! * `server/spool.rs`, `server/article.rs`: groups and articles;
//!   `store/`: the database and its thread;
//! * `sources/`: documentation, git history and mailboxes as articles.
//!
//! With a certificate, clients can use TLS: with STARTTLS (RFC 4642), or from the
//! beginning (RFC 8143, port 563). Passwords need TLS (RFC 4643), unless
//! `--insecure-auth` is given. Make a certificate for tests, and try both:
//!
//! ```text
//! cargo run --release --example test_certificate -- --out /tmp/tls
//! echo "ann:$(openssl passwd -6 secret)" >/tmp/passwords
//! cargo run --release --example nntp -- --passwords /tmp/passwords \
//!     --tls-cert /tmp/tls/cert.pem --tls-key /tmp/tls/key.pem --tls-listen 127.0.0.1:5630
//!
//! openssl s_client -starttls nntp -connect 127.0.0.1:1119 -CAfile /tmp/tls/ca.pem -crlf
//! gnutls-cli --crlf --starttls-proto=nntp --x509cafile /tmp/tls/ca.pem -p 1119 localhost
//! openssl s_client -connect 127.0.0.1:5630 -CAfile /tmp/tls/ca.pem -crlf
//! tin -r -T -k -A -g localhost -p 5630
//! slrn -h snews://localhost:5630 -n -f ~/.newsrc-asynchat --create
//! ```
//!
//! The file has hashes of passwords (bcrypt or SHA-crypt), as `htpasswd -B` makes them, too. They are checked on threads.
//!
//! On Unix, SIGHUP reads a renewed certificate, and the file of passwords; without them it does nothing. Connections that
//! are up continue. At Ctrl-C or SIGTERM the server ends when its connections have finished, at the latest after
//! `--grace`. A second signal ends it at once.

mod bounds;
#[path = "../common/certificate.rs"]
mod certificate;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/descriptors.rs"]
mod descriptors;
#[path = "../common/numbers.rs"]
mod numbers;
mod server;
mod sources;
mod store;
#[path = "../common/users/mod.rs"]
#[allow(unreachable_pub, reason = "other programs use it, too")]
mod users;

use std::path::PathBuf;
use std::time::Duration;

use asynchat::{Error, Result};
use bounds::Bounds;
use certificate::CertificateOptions;
use clap::Parser;
use server::head::is_newsgroup;
use server::passwords::{CheckPassword, Checked};
use server::store::Store;
use server::{Options, Service, Session, Spool, StartTls, date};
use sources::{docs, git, mbox};
use store::DiskStore;
use tracing::info;
use users::{Login, Logins, UserOptions};

/// A news server (RFC 3977) for the documentation and the history of asynchat,
/// for mailboxes, and for posts.
///
/// The log goes to standard error. RUST_LOG=debug adds connections, posts and refusals.
///
/// At Ctrl-C or SIGTERM the program accepts no more, and ends when its connections have finished, at the latest after
/// --grace. A second signal ends it at once. SIGHUP reads the certificate and the file of --passwords again,
/// if there are any.
#[derive(Parser)]
#[command(version, name = "nntp")]
struct Arguments {
    /// The address to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1119")]
    listen: String,

    /// Also listen on this address, with TLS from the beginning; [::]:563 is the usual one.
    /// Connections to --listen can begin TLS with STARTTLS.
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "tls_cert",
        help_heading = "TLS"
    )]
    tls_listen: Option<String>,

    /// The clone whose history to serve. The default is the clone that contains
    /// the current directory, if there is one.
    #[arg(long, value_name = "DIR")]
    git: Option<PathBuf>,

    /// The maximum number of commits to serve.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    git_max: usize,

    /// A mailbox to serve as a group (repeatable).
    #[arg(long, value_name = "GROUP=FILE", value_parser = mailbox)]
    mbox: Vec<(String, PathBuf)>,

    /// A group that accepts posts (repeatable).
    #[arg(long, value_name = "GROUP", value_parser = newsgroup,
          default_values = ["asynchat.talk", "asynchat.test"])]
    group: Vec<String>,

    /// Store posts in this database, which is created if it does not exist.
    /// Without it, posts are lost when the server stops.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,

    /// Accept passwords also without TLS, where everybody on the way can read them. Without this option, the
    /// users of --user and --passwords need TLS, on this server or on the proxy in front of it.
    #[arg(long, help_heading = "Users")]
    insecure_auth: bool,

    /// The name of this server in Path, Xref and generated Message-IDs.
    #[arg(long, value_name = "NAME", default_value = "news.asynchat.invalid", value_parser = server_name)]
    name: String,

    /// Serve N generated articles in the group misc.test, for measurements.
    #[arg(long, value_name = "N", conflicts_with = "store")]
    demo: Option<usize>,

    #[command(flatten)]
    users: UserOptions,

    #[command(flatten)]
    bounds: Bounds,

    #[command(flatten)]
    certificate: CertificateOptions,
}

fn main() {
    common::log_to_stderr("info");
    let arguments = Arguments::parse();
    let outcome = match &arguments.users.hash_password {
        Some(name) => users::read_entry(name).map(common::say),
        None => run(arguments),
    };
    if let Err(error) = outcome {
        common::print_to_stderr(format_args!("nntp: {error}"));
        std::process::exit(1);
    }
}

fn run(arguments: Arguments) -> Result {
    descriptors::raise_limit();
    let acceptor = arguments.certificate.acceptor(&["nntp"])?;
    let has_tls = acceptor.is_some() || !arguments.bounds.proxy_protocol.is_empty();
    let users = arguments.users.read()?;
    if !users.is_empty() && !has_tls && !arguments.insecure_auth {
        let needs = "TLS (--tls-cert and --tls-key, or a proxy that ends it), or --insecure-auth";
        return Err(format!("--passwords and --user need {needs}").into());
    }
    let logins = Logins::new(users);
    let mut spool = arguments.demo.map(Spool::demo).unwrap_or_default();
    let store = add_groups(&mut spool, &arguments)?;
    let groups: Vec<String> = spool
        .groups()
        .map(|g| format!("  {:24} {:6}  {}", g.name, g.count(), g.description))
        .collect();
    let volatile = store.is_none();
    let mut options = Options {
        name: arguments.name,
        check_password: (!logins.is_empty()).then(|| check_with(logins.clone())),
        insecure_auth: arguments.insecure_auth,
        start_tls: acceptor
            .clone()
            .map(|acceptor| -> Box<StartTls> { Box::new(move |chat| chat.start_tls(&acceptor)) }),
        store,
        ..Options::default()
    };
    arguments.bounds.apply(&mut options);
    let service = Service::new(spool, options)?;
    let listener = service
        .serve(arguments.listen.as_str())
        .map_err(|error| error.context(format_args!("--listen {}", arguments.listen)))?;
    let with_tls = match (&arguments.tls_listen, acceptor) {
        (Some(address), Some(acceptor)) => {
            let listener = service.serve_tls(address.as_str(), |server| server.tls(acceptor));
            Some(listener.map_err(|e| e.context(format_args!("--tls-listen {address}")))?)
        }
        _ => None,
    };

    let grace = arguments.bounds.grace();
    common::shutdown_but_not_at_sighup(grace)?;
    let has_files = arguments.users.passwords.is_some() || arguments.certificate.is_given();
    common::ignore_sighup_unless(has_files)?;
    #[cfg(unix)]
    arguments.users.reload_on_sighup(&logins)?;

    let address = listener.local_addr().ok_or("the listener has no address")?;
    common::announce(&address);
    if let Some(address) = with_tls.and_then(|listener| listener.local_addr()) {
        common::say(format_args!("listening with TLS on {address}"));
    }
    if let Some(ip) = address.ip() {
        let text = address.to_string();
        let port = text.rsplit(':').next().unwrap_or_default();
        common::say("read it with one of");
        common::say(format_args!(
            "  slrn -h {ip} -p {port} -n -f /tmp/newsrc-asynchat --create"
        ));
        common::say(format_args!("  tin -r -g {ip} -p {port}"));
        common::say(format_args!(
            "  python3.11 -c 'import nntplib; print(nntplib.NNTP(\"{ip}\", {port}).list())'"
        ));
    }
    common::say("groups, and how many articles each has:");
    common::say(format_args!("{}", groups.join("\n")));
    if volatile {
        common::say("posts are in memory only; --store FILE stores them permanently");
    }
    common::run_until_signal()?;
    common::log_stopped()
}

/// Adds the groups that the options name to the spool, and opens the store.
fn add_groups(spool: &mut Spool, arguments: &Arguments) -> Result<Option<Box<dyn Store>>> {
    let now = date::now();
    let talk = arguments.group.first().map_or("poster", String::as_str);
    let postable: Vec<(String, String)> = arguments
        .group
        .iter()
        .map(|name| (name.clone(), "For posts".to_owned()))
        .collect();
    let store: Option<Box<dyn Store>> = match &arguments.store {
        Some(path) => {
            let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
                Error::new(error).context(format_args!("--store {}", path.display()))
            };
            let store = DiskStore::open(path, arguments.bounds.max_store).map_err(failed)?;
            store.load(spool, &postable, now).map_err(failed)?;
            Some(Box::new(store))
        }
        None => {
            for (name, description) in &postable {
                spool.add_group(name, description, now, true);
            }
            None
        }
    };
    check_not_postable(spool, docs::GROUP)?;
    docs::add(spool, talk);
    check_not_postable(spool, git::GROUP)?;
    let directory = arguments.git.clone().unwrap_or_else(|| ".".into());
    if let Err(why) = git::add(spool, &directory, arguments.git_max, talk) {
        let directory = directory.display();
        match arguments.git {
            Some(_) => return Err(format!("--git {directory}: {why}").into()),
            None => info!("no group of commits: {why}"),
        }
    }
    for (name, path) in &arguments.mbox {
        check_not_postable(spool, name)?;
        mbox::add(spool, name, path).map_err(|error| {
            Error::new(error).context(format_args!("--mbox {}", path.display()))
        })?;
    }
    Ok(store)
}

/// A group that has another source of articles cannot accept posts: the numbers
/// of its articles would collide with those of the posts in the store.
fn check_not_postable(spool: &Spool, name: &str) -> Result {
    if spool.group(name).is_some_and(|group| group.postable) {
        return Err(format!("{name} is a group for posts and cannot have another source").into());
    }
    Ok(())
}

/// The delay of the reply to the first wrong password of an address. Each further one doubles it.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// Checks passwords on threads.
fn check_with(logins: Logins) -> Box<CheckPassword> {
    Box::new(move |chat, name, password| {
        let (peer, user) = (chat.peer_addr(), name.to_owned());
        let shared = logins.clone();
        let checked = move |login| match login {
            Login::Right => Checked::Right,
            Login::Busy => Checked::Busy,
            Login::Wrong | Login::TooMany(_) => {
                if login == Login::Wrong {
                    users::log_wrong_password(user.as_bytes(), peer.as_ref());
                }
                Checked::Wrong(shared.reply_delay(peer.as_ref(), FIRST_DELAY))
            }
        };
        let later = checked.clone();
        let then = move |session: &mut Session, login| {
            session.password_checked(later(login));
            Ok(())
        };
        let known = logins.check(chat, name.into(), password.into(), then);
        known.map(checked)
    })
}

/// `GROUP=FILE`.
fn mailbox(text: &str) -> Result<(String, PathBuf), String> {
    let (group, file) = text.split_once('=').ok_or("expected GROUP=FILE")?;
    Ok((newsgroup(group)?, file.into()))
}

/// The name of a group: RFC 5536, section 3.1.4.
fn newsgroup(text: &str) -> Result<String, String> {
    if !is_newsgroup(text) {
        return Err(format!("{text:?} is not a newsgroup name"));
    }
    Ok(text.to_owned())
}

/// A name that is valid in Path, in Xref and on the right side of a Message-ID
/// (RFC 5536, sections 3.1.3, 3.1.5 and 3.2.14).
fn server_name(text: &str) -> Result<String, String> {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let is_label = |label: &str| !label.is_empty() && label.chars().all(is_valid);
    if text.len() > 100 || !text.split('.').all(is_label) {
        return Err(format!(
            "{text:?} is not a name of letters, digits, dots, hyphens and underscores"
        ));
    }
    Ok(text.to_owned())
}
