//! Wire format of the sensor: the generated code of `sensor/v1`, checked in.
#![forbid(unsafe_code)]
