//! Network namespaces, veth pairs, servers and a sensor, made for one test and removed with it.
//!
//! Traffic stays between namespaces made here. Everything is removed on drop, also when a test panics.

mod client;
mod namespace;
mod nginx;
mod process;
mod redirect;
mod sensor;
mod wait;

pub use client::KeepAlive;
pub use namespace::{Lab, Namespace};
pub use nginx::Nginx;
pub use process::Child;
pub use redirect::RedirectPeer;
pub use sensor::{Sensor, SensorOptions, binary as agent_binary};
pub use wait::wait;
