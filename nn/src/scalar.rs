//! The numbers that layers compute with: `f32` in every run, `f64` where the tests check gradients.
//!
//! Layers, loss and matrix product are written once over this trait, so that what the central differences check in
//! `f64` is the very code that trains in `f32`.

use crate::lanes::{Lanes, NativeLanes, PlainLanes};
use std::ops::{Add, AddAssign, Div, Mul, Sub};

/// A floating-point number of which only operations with the same bits on every machine are offered.
pub trait Scalar:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
    + Send
    + Sync
    + 'static
{
    /// Four of them side by side, as the matrix product takes them.
    type Lanes: Lanes<Scalar = Self>;

    /// Nought.
    const ZERO: Self;
    /// One.
    const ONE: Self;

    /// e to the power of `self`, from `libm`: the platform's own promises no bits.
    fn exp(self) -> Self;

    /// The natural logarithm, from `libm`.
    fn ln(self) -> Self;

    /// The square root: rounded correctly everywhere, by IEEE 754.
    fn sqrt(self) -> Self;

    /// The hyperbolic tangent, from `libm`.
    fn tanh(self) -> Self;

    /// The error function, from `libm`.
    fn erf(self) -> Self;

    /// The nearest number.
    fn from_f64(value: f64) -> Self;

    /// The same value with at least as many digits: sums over samples are kept in `f64`.
    fn to_f64(self) -> f64;
}

impl Scalar for f32 {
    type Lanes = NativeLanes;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn exp(self) -> Self {
        libm::expf(self)
    }

    fn ln(self) -> Self {
        libm::logf(self)
    }

    fn sqrt(self) -> Self {
        libm::sqrtf(self)
    }

    fn tanh(self) -> Self {
        libm::tanhf(self)
    }

    fn erf(self) -> Self {
        libm::erff(self)
    }

    fn from_f64(value: f64) -> Self {
        value as f32
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Scalar for f64 {
    type Lanes = PlainLanes<f64>;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn exp(self) -> Self {
        libm::exp(self)
    }

    fn ln(self) -> Self {
        libm::log(self)
    }

    fn sqrt(self) -> Self {
        libm::sqrt(self)
    }

    fn tanh(self) -> Self {
        libm::tanh(self)
    }

    fn erf(self) -> Self {
        libm::erf(self)
    }

    fn from_f64(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }
}
