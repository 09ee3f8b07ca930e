//! Path templates that traffic teaches: paths of one service to a tree of literals and parameters.
//!
//! A [`trie`](trie) counts what was asked, bounded, the same in whatever order it was asked, and two of them are merged
//! into that of all traffic. Templates are a pure function of it: from the root down, the evidence of each position
//! (`position`, `sibling`) decides which segments are literals (`decide`); what is no literal is one parameter, whose
//! values are looked at together from there on. So nothing that was decided is ever in the way of later evidence.

mod common;
mod decide;
mod evidence;
mod position;
mod seed;
mod segments;
mod service;
mod sibling;
mod templates;
#[cfg(test)]
mod tests;
mod trie;
mod weights;
mod words;

pub(super) use seed::Values;
pub(super) use segments::{SEGMENT_BYTES_MAX, Segments};
pub(super) use service::{Leaf, Learned};
pub(super) use templates::Templates;
