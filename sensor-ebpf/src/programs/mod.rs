//! Attach points, one file each: glue only.

mod empty;
mod socket;
mod tc;
