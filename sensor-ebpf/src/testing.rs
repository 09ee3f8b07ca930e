//! Host implementation of [`crate::tables::Tables`] over std collections, so that tests run the same code as the kernel does.
