//! The PROXY protocol through the public API, on the simulated network.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/scene.rs"]
mod scene;
#[cfg(feature = "tls")]
#[path = "../common/tls.rs"]
mod tls;

mod client;
mod headers;
mod layer1;
mod random;
mod refused;
mod server;
mod sockets;
