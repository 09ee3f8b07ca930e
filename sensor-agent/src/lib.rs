//! Userspace agent of the API sensor: the I/O shell around `sensor-core`.
