//! Four numbers side by side: what the matrix product computes with.
//!
//! Each lane is one IEEE number of its own, multiplied and then added, never fused. So the plain arrays, SSE2 and
//! WebAssembly's 128-bit vectors give the same bits, and which of them a machine uses is a matter of speed alone.

use std::ops::{Add, Div, Mul, Sub};

/// How many numbers stand side by side.
pub const LANES: usize = 4;

/// Four numbers on which one operation works at a time.
pub trait Lanes: Copy {
    /// What stands in a lane.
    type Scalar: Copy;

    /// The same number in all lanes.
    fn splat(value: Self::Scalar) -> Self;

    /// The four numbers of an array, in its order.
    fn load(values: &[Self::Scalar; LANES]) -> Self;

    /// Writes the four numbers out, in order.
    fn store(self, values: &mut [Self::Scalar; LANES]);

    /// Lane by lane, rounded once.
    fn add(self, other: Self) -> Self;

    /// Lane by lane, rounded once.
    fn sub(self, other: Self) -> Self;

    /// Lane by lane, rounded once.
    fn mul(self, other: Self) -> Self;

    /// Lane by lane, rounded once.
    fn div(self, other: Self) -> Self;

    /// `least` where a lane is below it. What is not a number stays.
    fn at_least(self, least: Self) -> Self;

    /// `most` where a lane is above it. What is not a number stays.
    fn at_most(self, most: Self) -> Self;

    /// `then` where a lane is below `bound`, `otherwise` where it is not: also where it is not a number.
    fn if_below(self, bound: Self, then: Self, otherwise: Self) -> Self;

    /// Takes four rows of a square for its four columns. Numbers only move, so nothing is rounded.
    fn transpose(rows: [Self; LANES]) -> [Self; LANES];
}

/// Lanes of `f32`, whose bits are known.
pub trait SingleLanes: Lanes<Scalar = f32> {
    /// 2^(n − 1) where a lane holds 3 · 2²² + n, whose lowest bits are those of n, a whole number from −126 to 128; 0
    /// for n = −126.
    fn half_the_power_of_two(self) -> Self;
}

/// Lanes as a plain array: right on every machine, and the measure for the others.
#[derive(Clone, Copy, Debug)]
pub struct PlainLanes<S>([S; LANES]);

impl<S: Copy> PlainLanes<S> {
    /// Each lane's value of a function.
    #[inline(always)]
    pub(crate) fn map(self, function: impl Fn(S) -> S) -> Self {
        PlainLanes(self.0.map(function))
    }

    #[inline(always)]
    fn zip(self, other: Self, function: impl Fn(S, S) -> S) -> Self {
        PlainLanes(std::array::from_fn(|lane| function(self.0[lane], other.0[lane])))
    }
}

impl<S> Lanes for PlainLanes<S>
where
    S: Copy + PartialOrd + Add<Output = S> + Sub<Output = S> + Mul<Output = S> + Div<Output = S>,
{
    type Scalar = S;

    #[inline(always)]
    fn splat(value: S) -> Self {
        PlainLanes([value; LANES])
    }

    #[inline(always)]
    fn load(values: &[S; LANES]) -> Self {
        PlainLanes(*values)
    }

    #[inline(always)]
    fn store(self, values: &mut [S; LANES]) {
        *values = self.0;
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn at_least(self, least: Self) -> Self {
        self.zip(least, |a, b| if a < b { b } else { a })
    }

    #[inline(always)]
    fn at_most(self, most: Self) -> Self {
        self.zip(most, |a, b| if a > b { b } else { a })
    }

    #[inline(always)]
    fn if_below(self, bound: Self, then: Self, otherwise: Self) -> Self {
        PlainLanes(std::array::from_fn(|lane| {
            if self.0[lane] < bound.0[lane] {
                then.0[lane]
            } else {
                otherwise.0[lane]
            }
        }))
    }

    #[inline(always)]
    fn transpose([a, b, c, d]: [Self; LANES]) -> [Self; LANES] {
        [0, 1, 2, 3].map(|lane| PlainLanes([a.0[lane], b.0[lane], c.0[lane], d.0[lane]]))
    }
}

impl SingleLanes for PlainLanes<f32> {
    #[inline(always)]
    fn half_the_power_of_two(self) -> Self {
        self.map(|x| f32::from_bits((x.to_bits() << MANTISSA_BITS).wrapping_add(HALF_BITS)))
    }
}

/// How many bits of an `f32` stand behind its exponent.
const MANTISSA_BITS: u32 = 23;
/// ½ as bits: to which n times the lowest bit of the exponent is added for 2^(n − 1).
const HALF_BITS: u32 = 0x3f00_0000;

#[cfg(target_arch = "x86_64")]
mod sse2;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

#[cfg(target_arch = "x86_64")]
pub use sse2::Sse2Lanes as NativeLanes;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use wasm::WasmLanes as NativeLanes;

/// The quickest lanes of `f32` that this machine has.
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128"))))]
pub type NativeLanes = PlainLanes<f32>;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(lanes: impl Lanes<Scalar = f32>) -> [u32; LANES] {
        let mut values = [0.0; LANES];
        lanes.store(&mut values);
        values.map(f32::to_bits)
    }

    proptest! {
        #[test]
        fn native_lanes_give_the_bits_of_plain_lanes(
            a in any::<[i32; LANES]>(), b in any::<[i32; LANES]>(), exponent in -70..70_i32,
        ) {
            let scale = f32::from_bits(((127 + exponent) as u32) << 23);
            let (a, b) = (a.map(|x| x as f32 * scale), b.map(|x| x as f32 * scale));
            let (plain_a, plain_b) = (PlainLanes::load(&a), PlainLanes::load(&b));
            let (native_a, native_b) = (NativeLanes::load(&a), NativeLanes::load(&b));
            prop_assert_eq!(bits(plain_a.add(plain_b)), bits(native_a.add(native_b)));
            prop_assert_eq!(bits(plain_a.mul(plain_b)), bits(native_a.mul(native_b)));
            prop_assert_eq!(bits(PlainLanes::splat(a[1])), bits(NativeLanes::splat(a[1])));
            prop_assert_eq!(bits(plain_a.sub(plain_b)), bits(native_a.sub(native_b)));
            prop_assert_eq!(bits(plain_a.div(plain_b)), bits(native_a.div(native_b)));
            let plain = PlainLanes::transpose([plain_a, plain_b, plain_b, plain_a]).map(bits);
            let native = NativeLanes::transpose([native_a, native_b, native_b, native_a]).map(bits);
            prop_assert_eq!(plain, native);
        }
    }

    #[test]
    fn native_lanes_choose_as_plain_lanes_do() {
        let special = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            f32::MIN_POSITIVE,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
        ];
        for (a, b) in special.iter().flat_map(|a| special.map(|b| (*a, b))) {
            let (plain_a, plain_b) = (PlainLanes::splat(a), PlainLanes::splat(b));
            let (native_a, native_b) = (NativeLanes::splat(a), NativeLanes::splat(b));
            let (plain, native) = (plain_a.at_least(plain_b), native_a.at_least(native_b));
            assert_eq!(bits(plain), bits(native), "{a} at least {b}");
            let (plain, native) = (plain_a.at_most(plain_b), native_a.at_most(native_b));
            assert_eq!(bits(plain), bits(native), "{a} at most {b}");
            let plain = plain_a.if_below(plain_b, plain_a, PlainLanes::splat(7.0));
            let native = native_a.if_below(native_b, native_a, NativeLanes::splat(7.0));
            assert_eq!(bits(plain), bits(native), "if {a} is below {b}");
        }
        for n in -126..=128 {
            let lanes = NativeLanes::splat((3 << 22) as f32 + n as f32);
            let power = if n == -126 {
                0.0
            } else {
                libm::exp2(f64::from(n - 1)) as f32
            };
            assert_eq!(
                bits(lanes.half_the_power_of_two()),
                [power.to_bits(); LANES],
                "2^{}",
                n - 1
            );
        }
    }

    #[test]
    fn transposing_takes_rows_for_columns() {
        let rows = [0.0_f32, 4.0, 8.0, 12.0].map(|first| [first, first + 1.0, first + 2.0, first + 3.0]);
        let columns = NativeLanes::transpose(rows.map(|row| NativeLanes::load(&row))).map(|lanes| {
            let mut values = [0.0; LANES];
            lanes.store(&mut values);
            values
        });
        for (row, values) in rows.iter().enumerate() {
            for (column, value) in values.iter().enumerate() {
                assert_eq!(columns[column][row], *value);
            }
        }
    }
}
