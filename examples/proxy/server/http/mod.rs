//! The proxy for HTTP/1.1: CONNECT, and requests that are forwarded.

mod client;
mod exchange;
mod request;
mod response;
mod upstream;

pub use client::Client;
