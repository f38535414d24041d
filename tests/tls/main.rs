//! TLS through the public API, mostly on the simulated network.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/scene.rs"]
mod scene;
#[path = "../common/tls.rs"]
mod tls;

mod announcement;
mod client;
mod client_certificates;
mod deadlines;
mod end;
mod files;
mod flow;
mod handshakes;
mod injection;
mod layer1;
mod layer1_handshake;
mod layer1_output;
mod logging;
mod once;
mod progress;
mod random;
mod separate_output;
mod server;
mod shutdown;
mod starttls;
mod user_code;
