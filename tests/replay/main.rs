//! Replay tier (no root): captures of real servers and clients, generated ones with known contents, and hostile ones.
#![expect(clippy::unwrap_used, reason = "tests")]

mod captures;
#[cfg(target_os = "linux")]
mod commands;
mod documents;
mod explained;
mod generated;
mod hostile;
#[cfg(target_os = "linux")]
mod hostile_lists;
mod large_list;
mod memory;
mod model;
mod odd_paths;
mod privacy;
mod score;
mod segmentation;
mod support;
