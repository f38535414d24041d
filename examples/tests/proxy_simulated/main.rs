//! The `proxy` example on a simulated network: tunnels, forwarded requests in every segmentation, request smuggling, the
//! access list, look-ups, random SOCKS input, deadlines, slow peers and cut responses.

mod access;
#[path = "../common/captured.rs"]
mod captured;
mod ends;
mod failures;
mod forwarding;
#[path = "../common/gate.rs"]
mod gate;
#[path = "../../http1/mod.rs"]
mod http1;
mod logins;
mod lookups;
#[path = "../common/scene.rs"]
mod scene;
#[path = "../../proxy/server/mod.rs"]
#[allow(unreachable_pub)]
mod server;
mod slow;
mod smuggling;
mod socks_random;
#[path = "../../../tests/common/subscribing.rs"]
mod subscribing;
mod tunnels;
mod world;

use server::users;
