//! How right learned templates are: traffic drawn from API descriptions, and what became of each operation.
//!
//! An operation is **recovered** when all its requests got one template whose literals are exactly the description's and
//! which no other operation shares; it is **swallowed** when a literal of its template became a parameter, or when it
//! shares a template. Same seeds, same figures.

mod description;
mod learn;
mod naive;
pub mod states;
mod tally;
mod traffic;
mod values;

pub use description::{Description, descriptions};
pub use learn::{Knowledge, Order, learned};
pub use naive::naive;
pub use tally::{Tally, mistakes};
pub use traffic::{Request, popular, traffic};
pub use values::Draw;
