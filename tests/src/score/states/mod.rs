//! How right states are: generated scenarios of documents, traffic, clock and coverage, through the real pipeline, against an
//! oracle that was written from the table of the documentation and knows nothing of the code that it judges.
//!
//! `world` says what is true of a scenario, `generate` draws one, `oracle` says what the states must be, `run` what they are,
//! `confusion` counts both. Templates are not what is judged here: values are numbers.

mod confusion;
mod date;
mod documents;
mod generate;
mod oracle;
mod run;
mod world;

pub use confusion::{Confusion, Share};
pub use run::judge;
