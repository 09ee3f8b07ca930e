//! Wire format of the sensor (`sensor/v1`) and values of its store (`sensor/store/v1`).
//!
//! The code in `generated/` is made by `cargo xtask codegen` from the .proto files and checked in; the lint verb
//! fails when it is not current.

pub mod json;

/// Events, batches, and the ingest service.
pub mod v1 {
    include!("generated/sensor.v1.rs");
}

/// Values of the embedded store.
pub mod store {
    /// The only layout so far.
    pub mod v1 {
        include!("generated/sensor.store.v1.rs");
    }
}
