//! TLS through the public API, mostly on the simulated network.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/scene.rs"]
mod scene;
#[path = "../common/tls.rs"]
mod tls;

mod client;
mod deadlines;
mod end;
mod files;
mod flow;
mod handshakes;
mod injection;
mod layer1;
mod logging;
mod once;
mod random;
mod server;
mod starttls;
mod user_code;
