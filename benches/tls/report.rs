//! The table.

use crate::servers::NAMES;
use crate::workload::{self, Workload};

/// The CPU time of a server in one round.
pub struct Figure {
    pub round: usize,
    pub server: &'static str,
    pub workload: Workload,
    pub micros: f64,
}

/// For each server the median, and in brackets the median of the ratios to the first server within a round. Within a
/// round the load of the machine is similar for all.
pub fn print(figures: &[Figure], machine: &str) {
    println!(
        "CPU time of the server, in µs (ratio to `{}`). {machine}.\n",
        NAMES[0]
    );
    print!("| server |");
    for workload in workload::ALL {
        print!(" {} |", workload.name());
    }
    println!("\n|---|{}", "--:|".repeat(workload::ALL.len()));
    for name in NAMES {
        if !figures.iter().any(|it| it.server == name) {
            continue;
        }
        print!("| {name} |");
        for &workload in workload::ALL {
            let of = |server| {
                let of_server = move |it: &&Figure| it.server == server && it.workload == workload;
                figures.iter().filter(of_server)
            };
            let ratios = of(name).filter_map(|figure| {
                let first = of(NAMES[0]).find(|it| it.round == figure.round)?;
                Some(figure.micros / first.micros)
            });
            let time = median(of(name).map(|it| it.micros));
            print!(" {time:.1} ({:.2}) |", median(ratios));
        }
        println!();
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
