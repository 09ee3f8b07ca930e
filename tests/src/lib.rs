//! Shared parts of the test tiers.
