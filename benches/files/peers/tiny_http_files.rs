//! Shares a folder with tiny_http. It has a thread for each connection that is open, and here four threads that reply.
//!
//! ```text
//! tiny_http_files DIR LOG
//! ```

mod log;

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::{Component, Path};
use std::sync::Mutex;
use std::thread;

use log::AccessLog;
use tiny_http::{Request, Response, Server, StatusCode};

/// As many as there are large downloads at a time: a thread is busy until its client has received the file.
const THREADS: usize = 4;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [folder, log] = &arguments[..] else {
        return Err("tiny_http_files DIR LOG".into());
    };
    let log = Mutex::new(AccessLog::create(log.as_ref())?);
    let server = Server::http("127.0.0.1:0")?;
    println!("listening on {}", server.server_addr());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for request in server.incoming_requests() {
                    let peer = request.remote_addr().copied();
                    if let Ok(mut log) = log.lock() {
                        log.add(peer, request.method().as_str(), request.url());
                    }
                    // A client that is gone is no error of the server.
                    let _ = reply(request, folder.as_ref());
                }
            });
        }
    });
    Ok(())
}

fn reply(request: Request, folder: &Path) -> io::Result<()> {
    let path = Path::new(request.url().trim_start_matches('/')).to_owned();
    let is_below = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    match File::open(folder.join(path)) {
        // With its length, as the other servers send a large file, and not in chunks.
        Ok(file) if is_below => {
            request.respond(Response::from_file(file).with_chunked_threshold(usize::MAX))
        }
        _ => request.respond(Response::empty(StatusCode(404))),
    }
}
