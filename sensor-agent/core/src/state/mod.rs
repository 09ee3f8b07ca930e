//! The words and the table that decide the state of every endpoint, as pure functions over closed enums.
//!
//! `words` has the inputs and the states, `table` the table itself: the first row that matches wins, and every
//! combination of inputs gets exactly one state (its test enumerates them all). What is measured (activity,
//! existence, coverage) is reduced to these enums by the inventory; nothing here reads a clock.

mod table;
mod words;

pub use table::{Decision, Inputs, Row, decide};
pub use words::{
    Activity, Confidence, Covered, DeclarationKind, Existence, Lifecycle, Listening,
    MissingEvidence, NotCovered, Observed, Operator, Role, State,
};
