//! A client that hits a `reset` rule sees the error within 100 ms and the server's socket is gone too, wherever the server is.

mod bound;
mod ends;
mod scene;
mod tags;
mod verdicts;
mod waiting;
mod witness;
