//! The crate under a simulated network: random sessions, random peers, random kernels, and the
//! rules checked after every turn.
//!
//! `ASYNCHAT_SEEDS` says how many seeds to run (2,000 unless set). A seed that fails is printed with
//! the line that runs it again, and then tells all that happened in it:
//!
//! ```text
//! ASYNCHAT_SEED=123 cargo test --features sim --test simulation
//! ```

mod actor;
mod oracle;
mod outsider;
mod plain;
mod rng;
mod track;
mod world;

use std::env;
use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={value} is no number")),
    )
}

/// Panics on purpose are nobody's business.
fn hush() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&world::SILENT) {
            report(info);
        }
    }));
}

/// Runs one seed; says what was wrong.
fn run(seed: u64, logs: bool) -> (Vec<String>, Vec<String>, u64, u64) {
    match panic::catch_unwind(|| world::run(seed, logs)) {
        Ok(Ok(it)) => (it.wrong, it.log, it.calls, it.turns),
        Ok(Err(error)) => (vec![format!("the loop failed: {error}")], Vec::new(), 0, 0),
        Err(_) => (vec!["it panicked".to_owned()], Vec::new(), 0, 0),
    }
}

#[test]
fn the_rules_hold_whatever_happens() {
    hush();
    if let Some(seed) = number("ASYNCHAT_SEED") {
        let (wrong, log, ..) = run(seed, true);
        for line in log {
            println!("{line}");
        }
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
        return;
    }
    let seeds = number("ASYNCHAT_SEEDS").unwrap_or(2_000);
    let (next, calls, turns) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let (wrong, _, called, turned) = run(seed, false);
            calls.fetch_add(called, Ordering::Relaxed);
            turns.fetch_add(turned, Ordering::Relaxed);
            if !wrong.is_empty() {
                let mut failed = failed.lock().expect("nobody panics with it");
                failed.push((seed, wrong));
                if failed.len() >= 20 {
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
        "{seeds} seeds, {} turns, {} callbacks",
        turns.into_inner(),
        calls.into_inner()
    );
    let failed = failed.into_inner().expect("nobody panicked with it");
    for (seed, wrong) in &failed {
        println!("ASYNCHAT_SEED={seed} cargo test --features sim --test simulation");
        println!("  {}", wrong[0]);
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}
