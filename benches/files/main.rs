//! The CPU time of a server that sends files over HTTP/1.1: user and system time of the loop's thread for each
//! request on a keep-alive connection. Each request opens its file and sends it through a `ReadProducer`.
//!
//! ```text
//! cargo bench --bench files             # 5,000 requests in each row
//! cargo bench --bench files -- 20000
//! ```
//!
//! Most of the time of a large file is the kernel's: it copies each byte from the page cache and into the socket.
//! The row `memory` shows that share. It sends the same bytes from memory, without a file. Linux only, because the
//! CPU time of one thread has no portable clock.

#[cfg(target_os = "linux")]
mod server;

#[cfg(target_os = "linux")]
fn main() -> asynchat::Result {
    use server::Source;

    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let requests = match std::env::args().skip(1).find(|it| !it.starts_with("--")) {
        Some(number) => number.parse()?,
        None if is_measured => 5_000,
        None => 2,
    };
    println!("   bytes  connections  source  us per request");
    for size in [12, 4_000, 100_000, 1_000_000] {
        for connections in [1, 50] {
            for (source, name) in [(Source::File, "file"), (Source::Memory, "memory")] {
                let requests = requests / connections * connections;
                let time = server::measure(source, size, connections, requests)?;
                let micros = time.as_secs_f64() * 1e6 / requests.max(1) as f64;
                println!("{size:>8} {connections:>12}  {name:<8}{micros:>14.1}");
            }
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: this measurement needs Linux");
}
