//! What operators said of endpoints, kept beside the store: `overlay/accepted.csv` and `overlay/ignored.csv`.
//!
//! The running agent writes them by command and reads them again when somebody else does. Lines of `accepted.csv` are those of a
//! list of endpoints: copied into the catalogue's folder, they declare the same for good.

mod book;
mod file;

pub use book::{Book, folder_of};
