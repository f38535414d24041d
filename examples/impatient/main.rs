//! `impatient`: a barrage of commands, and then the responses, counted and checked.
//!
//! ```text
//! cargo run --release --example impatient
//! cargo run --release --example impatient -- --commands 1000000 --clients 4
//! cargo run --release --example impatient -- --connect news.example.org:119
//! ```
//!
//! A patient client asks, waits for the response, and asks again. An impatient one sends all that
//! it will ever ask in one go, reads nothing before that, and only then counts the responses. A
//! server for it has to stay in step, answer in order, lose nothing, bound what it queues, and
//! keep serving the patient ones meanwhile.
//!
//! The server is the one of the `nntp` example, on the same loop, unless `--connect` names
//! another. First every command is asked once, patiently; then a few patient clients alone take
//! their latency, and then beside the impatient ones. What differs from the patient responses in
//! a single byte, or is missing, or out of order, is told, and the exit code is 1.
//!
//! In the table, `outstanding` is the most commands that were sent and not answered at one time.
//!
//! What to look at, in this order: this file, `impatient.rs`, `plan.rs`, `replies.rs`.

// In a program `pub` is what a module offers its neighbours.
#![allow(unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
mod dialogue;
mod impatient;
mod patient;
mod plan;
mod progress;
mod replies;
mod report;
#[path = "../nntp/server/mod.rs"]
#[allow(dead_code)] // the sources and the command line of `nntp` are not here
mod server;
mod tally;

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use asynchat::{Limits, Result, Target};
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use impatient::Impatient;
use patient::Patient;
use plan::{Plan, Script};
use progress::Progress;
use report::Report;
use tally::Tally;

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the patient clients are alone.
const ALONE: Duration = Duration::from_millis(500);

/// Articles that the own server has, of two kilobytes each.
const SPOOL: usize = 1000;

/// Sends a news server a barrage of commands, then counts and checks the responses.
#[derive(Parser)]
#[command(name = "impatient")]
struct Args {
    /// The server to send them to, instead of an own one.
    #[arg(long, value_name = "HOST:PORT")]
    connect: Option<String>,

    /// Where the own server listens; port 0 takes a free one.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:0",
        conflicts_with = "connect"
    )]
    listen: String,

    /// The newsgroup to ask about. Default: the largest one.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,

    /// How many of its articles to ask about.
    #[arg(long, value_name = "N", default_value = "50", value_parser = from(1))]
    articles: u64,

    /// How many commands each impatient client sends; the first is GROUP, the last QUIT.
    #[arg(long, value_name = "N", default_value = "100000", value_parser = from(2))]
    commands: u64,

    /// How many impatient clients there are.
    #[arg(long, value_name = "N", default_value = "1", value_parser = from(1))]
    clients: u64,

    /// How many patient clients measure their latency beside them.
    #[arg(long, value_name = "N", default_value = "4", value_parser = from(0))]
    patient: u64,
}

fn from(least: u64) -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(least..1 << 32)
}

fn main() -> ExitCode {
    let args = Args::parse();
    common::log_to_stderr("error");
    let interrupted = Arc::new(AtomicBool::new(false));
    let outcome = stop_on_ctrl_c(&interrupted).and_then(|()| run(&args, &interrupted));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("impatient: {error}");
            match interrupted.load(Ordering::Relaxed) {
                true => ExitCode::from(130),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// One act after the other. Each runs the loop, until somebody in it stops it.
fn run(args: &Args, interrupted: &AtomicBool) -> Result {
    let target = match &args.connect {
        Some(target) => Target::from(&**target),
        None => serve(&args.listen)?,
    };
    let plan = Plan::learn(target.clone(), args.group.as_deref(), args.articles)?;
    let plan = Rc::new(plan);
    let tally = Rc::new(Tally::default());
    let script = |seed, commands| Script {
        plan: Rc::clone(&plan),
        seed,
        commands,
    };
    let act = || {
        asynchat::run()?;
        match interrupted.load(Ordering::Relaxed) {
            true => Err("interrupted".into()),
            false => tally.verdict(),
        }
    };

    for n in 1..=args.patient {
        let name = format!("patient client {n}");
        let script = script(args.clients + n, u64::MAX);
        Patient::connect(target.clone(), name, script, Rc::clone(&tally))?;
    }
    asynchat::call_later(ALONE, asynchat::stop);
    act()?;
    let before = tally.latencies();

    tally.busy.set(args.clients);
    for n in 1..=args.clients {
        let name = format!("client {n}");
        let script = script(n, args.commands);
        Impatient::connect(target.clone(), name, script, Rc::clone(&tally))?;
    }
    let total = args.commands.saturating_mul(args.clients);
    let progress = Progress::show(total, &tally);
    let start = Instant::now();
    let outcome = act();
    let elapsed = start.elapsed();
    progress.clear();
    let during = tally.latencies();

    // Now those close that have not finished, and count what they got.
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
    print!("{report}");
    outcome
}

/// Starts the server of the `nntp` example, with a generated group, and tells where it is.
fn serve(listen: &str) -> Result<Target> {
    let spool = server::Spool::demo(SPOOL);
    let mut options = server::Options::default();
    // All clients come from one address, and there are as many as were asked for.
    options.limits = options
        .limits
        .connections(Limits::UNLIMITED)
        .per_address(Limits::UNLIMITED);
    let listener = server::serve(listen, spool, options)?;
    let addr = listener.local_addr().ok_or("the listener has no address")?;
    common::announce(&addr);
    Ok(Target::from(addr.to_string()))
}

fn stop_on_ctrl_c(interrupted: &Arc<AtomicBool>) -> Result {
    let remote = asynchat::remote()?;
    let interrupted = Arc::clone(interrupted);
    ctrlc::set_handler(move || {
        interrupted.store(true, Ordering::Relaxed);
        // An error means that the loop is gone: the program is ending as it is.
        let _ = remote.stop();
    })?;
    Ok(())
}
