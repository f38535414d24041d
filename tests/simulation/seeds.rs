//! Runs a random program for many seeds, on all cores, and reports the seeds that fail.

use std::collections::BTreeMap;
use std::env;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::thread;

/// The payload of a panic on purpose.
pub(crate) const SILENT: &str = "a panic on purpose";

/// The result of one seed.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Broken invariants. Each message begins with the name of the invariant and a colon.
    pub(crate) wrong: Vec<String>,
    pub(crate) log: Vec<String>,
    pub(crate) calls: u64,
    pub(crate) turns: u64,
}

/// A random program: all its choices derive from the seed. It writes a log if the second argument
/// is true.
pub(crate) type Program = fn(u64, bool) -> asynchat::Result<Outcome>;

/// The run stops after this many failing seeds.
const ENOUGH: usize = 1_000;

/// How many seeds are printed for each invariant.
const PRINTED: usize = 5;

/// Runs the program for every seed, or for the one in `ASYNCHAT_SEED`. `test` is the name of the
/// calling test.
///
/// An expensive program runs for a part of the seeds: one in `share`.
pub(crate) fn check(test: &str, share: u64, program: Program) {
    ignore_panics_on_purpose();
    if let Some(seed) = number("ASYNCHAT_SEED") {
        let outcome = run(program, seed, true);
        for line in outcome.log {
            println!("{line}");
        }
        let wrong = outcome.wrong;
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
        return;
    }
    let seeds = number("ASYNCHAT_SEEDS").unwrap_or(2_000).div_ceil(share);
    let (next, calls, turns) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let outcome = run(program, seed, false);
            calls.fetch_add(outcome.calls, Ordering::Relaxed);
            turns.fetch_add(outcome.turns, Ordering::Relaxed);
            if !outcome.wrong.is_empty() {
                let mut failed = failed.lock().expect("no thread panics with the lock");
                failed.push((seed, outcome.wrong));
                if failed.len() >= ENOUGH {
                    next.store(seeds, Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    println!(
        "{test}: {seeds} seeds, {} turns, {} callbacks",
        turns.into_inner(),
        calls.into_inner()
    );
    let mut failed = failed.into_inner().expect("no thread panicked with it");
    failed.sort();
    report(test, &failed);
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}

/// Prints the first seeds of each broken invariant.
fn report(test: &str, failed: &[(u64, Vec<String>)]) {
    let mut by_invariant: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
    for (seed, wrong) in failed {
        for what in wrong {
            let seeds = by_invariant.entry(invariant(what)).or_default();
            if seeds.last().is_none_or(|(last, _)| last != seed) {
                seeds.push((*seed, what));
            }
        }
    }
    for (invariant, seeds) in by_invariant {
        println!("{invariant}: {} seeds", seeds.len());
        for (seed, wrong) in seeds.iter().take(PRINTED) {
            println!("  ASYNCHAT_SEED={seed} cargo test --features sim --test simulation {test}");
            println!("    {wrong}");
        }
    }
}

/// The name of an invariant: the text before the colon, or, after the number of a connection, the
/// text before the first digit.
fn invariant(wrong: &str) -> &str {
    match wrong.strip_prefix('#') {
        Some(text) => {
            let text =
                text.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == ' ');
            let figure = text.find(|c: char| c.is_ascii_digit());
            text[..figure.unwrap_or(text.len())].trim_end()
        }
        None => wrong.split(':').next().unwrap_or_default(),
    }
}

fn run(program: Program, seed: u64, logs: bool) -> Outcome {
    let failed = |wrong: String| Outcome {
        wrong: vec![wrong],
        ..Outcome::default()
    };
    match panic::catch_unwind(|| program(seed, logs)) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => failed(format!("loop: the run failed: {error}")),
        Err(_) => failed("panic: the program panicked".to_owned()),
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={value} is not a number")),
    )
}

fn ignore_panics_on_purpose() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&SILENT) {
                report(info);
            }
        }));
    });
}
