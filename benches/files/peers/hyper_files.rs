//! Shares a folder with hyper and the `ServeDir` of tower-http, on tokio's current-thread runtime.
//!
//! ```text
//! hyper_files DIR LOG
//! ```
//!
//! `ServeDir` opens and reads files on tokio's blocking threads. What it is asked to do here is what users of hyper
//! ask it to do: its defaults.

mod log;

use std::cell::RefCell;
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use log::AccessLog;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tower_http::services::ServeDir;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [folder, log] = &arguments[..] else {
        return Err("hyper_files DIR LOG".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, listen(folder.as_ref(), log.as_ref()))
}

async fn listen(folder: &Path, log: &Path) -> Outcome {
    let folder = TowerToHyperService::new(ServeDir::new(folder));
    let log = Rc::new(RefCell::new(AccessLog::create(log)?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        spawn_local(serve(stream, peer, folder.clone(), Rc::clone(&log)));
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    folder: TowerToHyperService<ServeDir>,
    log: Rc<RefCell<AccessLog>>,
) {
    // A peer that is gone is no error of the server.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let target = request.uri().path();
        log.borrow_mut()
            .add(Some(peer), request.method().as_str(), target);
        folder.call(request)
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
