//! The numbers that layers compute with: `f32` in every run, `f64` where the tests check gradients.
//!
//! Layers, loss and matrix product are written once over this trait, so that what the central differences check in
//! `f64` is the very code that trains in `f32`.

use super::elementary;
use super::lanes::{Lanes, NativeLanes, PlainLanes};
use std::f64::consts::{FRAC_1_SQRT_2, PI};
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

    /// e to the power of each lane: for `f32` `elementary`'s, for `f64` `libm`'s, as of the three that follow.
    fn exp_lanes(x: Self::Lanes) -> Self::Lanes;

    /// The hyperbolic tangent of each lane.
    fn tanh_lanes(x: Self::Lanes) -> Self::Lanes;

    /// 1 / (1 + e^−x) of each lane.
    fn sigmoid_lanes(x: Self::Lanes) -> Self::Lanes;

    /// The normal distribution Φ and its density φ at each lane.
    fn normal_lanes(x: Self::Lanes) -> (Self::Lanes, Self::Lanes);

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

    #[inline(always)]
    fn exp_lanes(x: NativeLanes) -> NativeLanes {
        elementary::exp(x)
    }

    #[inline(always)]
    fn tanh_lanes(x: NativeLanes) -> NativeLanes {
        elementary::tanh(x)
    }

    #[inline(always)]
    fn sigmoid_lanes(x: NativeLanes) -> NativeLanes {
        elementary::sigmoid(x)
    }

    #[inline(always)]
    fn normal_lanes(x: NativeLanes) -> (NativeLanes, NativeLanes) {
        elementary::normal(x)
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

    fn exp_lanes(x: PlainLanes<f64>) -> PlainLanes<f64> {
        x.map(libm::exp)
    }

    fn tanh_lanes(x: PlainLanes<f64>) -> PlainLanes<f64> {
        x.map(libm::tanh)
    }

    fn sigmoid_lanes(x: PlainLanes<f64>) -> PlainLanes<f64> {
        x.map(|x| 1.0 / (1.0 + libm::exp(-x)))
    }

    fn normal_lanes(x: PlainLanes<f64>) -> (PlainLanes<f64>, PlainLanes<f64>) {
        let distribution = x.map(|x| 0.5 * (1.0 + libm::erf(x * FRAC_1_SQRT_2)));
        (distribution, x.map(|x| libm::exp(-0.5 * x * x) / libm::sqrt(2.0 * PI)))
    }

    fn from_f64(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }
}
