//! The ML module's mathematics.

pub mod kernel;
pub mod lanes;
pub mod scalar;
pub mod tensor;
