//! Stage 8, finding: an exchange at its endpoint to findings. No detector exists yet; the stage keeps its place
//! between inventory and event, so that events do not change their order when the first one comes.
