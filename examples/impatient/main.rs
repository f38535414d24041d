//! `impatient`: a client that sends a barrage of commands, then counts and checks the responses.
//!
//! ```text
//! cargo run --release -p impatient --example impatient
//! cargo run --release -p impatient --example impatient -- --commands 1000000 --clients 4
//! cargo run --release -p impatient --example impatient -- --connect news.example.org:119
//! cargo run --release -p impatient --example impatient --features tls -- --tls
//! ```
//!
//! Without `-p`, cargo builds the crate with what all programs of the workspace need, TLS included, and the first build
//! takes half as long again. Therefore `--tls` needs a feature here, too.
//!
//! A *patient* client sends a command, waits for the response, and sends the next. An *impatient* client
//! sends all its commands first and reads the responses afterwards. The server must answer every command
//! in order, lose none, limit its output queue, and keep serving the patient clients meanwhile.
//!
//! The server is the one of the `nntp` example, on the same loop, unless `--connect` names another. The
//! program runs in three steps:
//!
//! 1. It sends each command once, alone, and stores the response.
//! 2. Patient clients measure their latency while no impatient client runs.
//! 3. The impatient clients send their barrage. The patient clients keep measuring.
//!
//! Every response must equal the stored one. A missing, surplus or different response is reported, and
//! the exit code is 1. The README explains the columns of the table that is printed.
//!
//! With `--tls` all of this is encrypted: the queue of the server fills at another point, and both ends may have
//! ciphertext that the other does not take. Its own server has a certificate that it makes at the start.
//!
//! Reading order: this file, `impatient.rs`, `plan.rs`, `replies.rs`.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

#[path = "../common/mod.rs"]
mod common;
mod dialogue;
mod endpoint;
mod impatient;
mod patient;
mod plan;
mod progress;
mod replies;
mod report;
#[path = "../nntp/server/mod.rs"]
#[allow(
    dead_code,
    reason = "only the sources and the command line of `nntp` use the rest"
)]
mod server;
mod tally;
#[cfg(feature = "tls")]
#[path = "../common/trust.rs"]
mod trust;
#[cfg(feature = "tls")]
mod with_tls;

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::{Channel, Error, Limits, Result};
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use endpoint::Endpoint;
use impatient::Impatient;
use patient::Patient;
use plan::{Plan, Script};
use progress::Progress;
use report::Report;
use tally::Tally;

/// The connect timeout and the idle timeout of all clients.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long the patient clients run before the impatient ones start.
const BASELINE: Duration = Duration::from_millis(500);

/// How many articles the built-in server has, of two kilobytes each.
const DEMO_ARTICLES: usize = 1000;

/// Sends a barrage of commands to a news server, then counts and checks the responses.
#[derive(Parser)]
#[command(name = "impatient")]
struct Args {
    /// The server to test. Without it, the program starts its own.
    #[arg(long, value_name = "HOST:PORT")]
    connect: Option<String>,

    /// The address that the program's own server listens on; port 0 chooses a free port.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:0",
        conflicts_with = "connect"
    )]
    listen: String,

    /// The newsgroup that the commands name. Default: the largest one.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,

    /// How many of its articles the commands name.
    #[arg(long, value_name = "N", default_value = "50", value_parser = at_least(1))]
    articles: u64,

    /// How many commands each impatient client sends. The first is GROUP, the last QUIT.
    #[arg(long, value_name = "N", default_value = "100000", value_parser = at_least(2))]
    commands: u64,

    /// How many impatient clients to start.
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least(1))]
    clients: u64,

    /// How many patient clients to start, which measure the latency.
    #[arg(long, value_name = "N", default_value = "4", value_parser = at_least(0))]
    patient: u64,

    /// Connect with TLS. The program's own server then has a new certificate, and its clients trust no
    /// other. This needs a program that is built with `--features tls`.
    #[arg(long, help_heading = "TLS")]
    tls: bool,

    /// How the server of --connect is checked.
    #[cfg(feature = "tls")]
    #[command(flatten)]
    trust: trust::TrustOptions,
}

fn at_least(min: u64) -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(min..1 << 32)
}

fn main() -> ExitCode {
    let args = Args::parse();
    common::log_to_stderr("error");
    let interrupted = Rc::new(Cell::new(false));
    let outcome = stop_on_ctrl_c(&interrupted).and_then(|()| run(&args, &interrupted));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            common::print_to_stderr(format_args!("impatient: {error}"));
            if interrupted.get() {
                ExitCode::from(130)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Runs the three steps. Each step runs the loop until a client, a timer or Ctrl-C stops it.
fn run(args: &Args, interrupted: &Cell<bool>) -> Result {
    let endpoint = endpoint(args)?;
    let plan = Plan::learn(&endpoint, args.group.as_deref(), args.articles)?;
    let plan = Rc::new(plan);
    let tally = Rc::new(Tally::default());
    let script = |seed, commands| Script {
        plan: Rc::clone(&plan),
        seed,
        commands,
    };
    let run_loop = || {
        asynchat::run()?;
        if interrupted.get() {
            Err("interrupted".into())
        } else {
            tally.result()
        }
    };

    for n in 1..=args.patient {
        let name = format!("patient client {n}");
        let script = script(args.clients + n, u64::MAX);
        Patient::connect(&endpoint, name, script, Rc::clone(&tally))?;
    }
    asynchat::call_later(BASELINE, asynchat::stop);
    run_loop()?;
    let before = tally.latencies();

    tally.running.set(args.clients);
    for n in 1..=args.clients {
        let name = format!("client {n}");
        let script = script(n, args.commands);
        Impatient::connect(&endpoint, name, script, Rc::clone(&tally))?;
    }
    let total = args.commands.saturating_mul(args.clients);
    let progress = Progress::show(total, &tally);
    let start = Instant::now();
    let outcome = run_loop();
    let elapsed = start.elapsed();
    progress.clear();
    let during = tally.latencies();

    // Clients that have not finished add their bytes to the tally when they close.
    asynchat::close_all();
    asynchat::run()?;
    let report = Report {
        tally,
        impatient: args.clients,
        patient: args.patient,
        elapsed,
        before,
        during,
    };
    let printed = common::print(report);
    outcome?;
    printed.map_err(|error| Error::from(error).context("write the report").into())
}

/// The server under test, which is started unless the command line names one.
#[cfg(feature = "tls")]
fn endpoint(args: &Args) -> Result<Endpoint> {
    if !args.tls {
        return plaintext(args);
    }
    if let Some(target) = &args.connect {
        return Ok(Endpoint::tls(&**target, args.trust.client()?));
    }
    let (listener, client) = with_tls::serve(&service()?, &args.listen)?;
    Ok(Endpoint::tls(announced(&listener)?, client))
}

#[cfg(not(feature = "tls"))]
fn endpoint(args: &Args) -> Result<Endpoint> {
    if args.tls {
        Err(
            "this program is built without TLS, which needs `--features tls`: \
                     cargo run --release -p impatient --example impatient --features tls -- --tls"
                .into(),
        )
    } else {
        plaintext(args)
    }
}

fn plaintext(args: &Args) -> Result<Endpoint> {
    match &args.connect {
        Some(target) => Ok(Endpoint::plaintext(&**target)),
        None => {
            let listener = service()?.serve(&*args.listen)?;
            Ok(Endpoint::plaintext(announced(&listener)?))
        }
    }
}

/// The server of the `nntp` example, with a generated group.
fn service() -> Result<Rc<server::Service>> {
    let spool = server::Spool::demo(DEMO_ARTICLES);
    let mut options = server::Options::default();
    // All clients have the same address, and their number is an option of this program.
    options.limits = options
        .limits
        .connections(Limits::UNLIMITED)
        .per_address(Limits::UNLIMITED);
    Ok(server::Service::new(spool, options)?)
}

/// Prints the address of the server, and returns it.
fn announced(listener: &Channel) -> Result<String> {
    let addr = listener.local_addr().ok_or("the listener has no address")?;
    common::announce(&addr);
    Ok(addr.to_string())
}

fn stop_on_ctrl_c(interrupted: &Rc<Cell<bool>>) -> Result {
    for &number in common::ENDING {
        let interrupted = Rc::clone(interrupted);
        asynchat::signal::on(number, move || {
            interrupted.set(true);
            asynchat::stop();
        })?;
    }
    Ok(())
}
