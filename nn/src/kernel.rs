//! The arithmetic below the layers: numbers, views of them, and what is computed with many of them at once.
//!
//! [`Scalar`](scalar::Scalar) says which operations a number offers, and [`tensor`] sees flat vectors as tensors. All
//! heavy work is one matrix product ([`matmul()`]) over four numbers side by side ([`lanes`]). `elementary` has `exp`
//! and its like, `elementwise` applies them to whole slices, and `sums` adds in one written order.
//!
//! Nothing here knows a layer. Each operation has one order and one rounding, so that it gives the same bits on every
//! machine.

pub mod lanes;
mod matmul;
pub mod scalar;
pub mod tensor;

pub(crate) mod elementary;
pub(crate) mod elementwise;
pub(crate) mod sums;

pub use matmul::{Operand, Packing, Target, Update, matmul};
