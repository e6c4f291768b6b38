//! Four numbers side by side: what the matrix product computes with.
//!
//! Each lane is one IEEE number of its own, multiplied and then added, never fused. So the plain arrays, SSE2 and
//! WebAssembly's 128-bit vectors give the same bits, and which of them a machine uses is a matter of speed alone.

use crate::scalar::Scalar;
use std::ops::{Add, Mul};

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
    fn mul(self, other: Self) -> Self;

    /// Takes four rows of a square for its four columns. Numbers only move, so nothing is rounded.
    fn transpose(rows: [Self; LANES]) -> [Self; LANES];
}

/// Lanes as a plain array: right on every machine, and the measure for the others.
#[derive(Clone, Copy, Debug)]
pub struct PlainLanes<S>([S; LANES]);

impl<S: Copy + Add<Output = S> + Mul<Output = S>> Lanes for PlainLanes<S> {
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
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        PlainLanes([a + e, b + f, c + g, d + h])
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        PlainLanes([a * e, b * f, c * g, d * h])
    }

    #[inline(always)]
    fn transpose([a, b, c, d]: [Self; LANES]) -> [Self; LANES] {
        [0, 1, 2, 3].map(|lane| PlainLanes([a.0[lane], b.0[lane], c.0[lane], d.0[lane]]))
    }
}

#[cfg(target_arch = "x86_64")]
pub use sse2::Sse2Lanes as NativeLanes;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use wasm::WasmLanes as NativeLanes;

/// The quickest lanes of `f32` that this machine has.
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128"))))]
pub type NativeLanes = PlainLanes<f32>;

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use super::{LANES, Lanes};
    use std::arch::x86_64::{
        __m128, _mm_add_ps, _mm_loadu_ps, _mm_movehl_ps, _mm_movelh_ps, _mm_mul_ps, _mm_set1_ps, _mm_storeu_ps,
        _mm_unpackhi_ps, _mm_unpacklo_ps,
    };

    /// Lanes in one SSE register. Every x86-64 processor has SSE2, so there is nothing to detect.
    #[derive(Clone, Copy, Debug)]
    pub struct Sse2Lanes(__m128);

    impl Lanes for Sse2Lanes {
        type Scalar = f32;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: SSE2 belongs to x86-64 itself, and no memory is touched.
            Sse2Lanes(unsafe { _mm_set1_ps(value) })
        }

        #[inline(always)]
        fn load(values: &[f32; LANES]) -> Self {
            // SAFETY: the reference is to four readable floats, and this load asks for no alignment.
            Sse2Lanes(unsafe { _mm_loadu_ps(values.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, values: &mut [f32; LANES]) {
            // SAFETY: the reference is to four writable floats of ours alone, and this store asks for no alignment.
            unsafe { _mm_storeu_ps(values.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: SSE2 belongs to x86-64 itself, and no memory is touched.
            Sse2Lanes(unsafe { _mm_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: SSE2 belongs to x86-64 itself, and no memory is touched.
            Sse2Lanes(unsafe { _mm_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn transpose([a, b, c, d]: [Self; LANES]) -> [Self; LANES] {
            // SAFETY: SSE2 belongs to x86-64 itself, and no memory is touched.
            unsafe {
                let (ab_low, ab_high) = (_mm_unpacklo_ps(a.0, b.0), _mm_unpackhi_ps(a.0, b.0));
                let (cd_low, cd_high) = (_mm_unpacklo_ps(c.0, d.0), _mm_unpackhi_ps(c.0, d.0));
                [
                    Sse2Lanes(_mm_movelh_ps(ab_low, cd_low)),
                    Sse2Lanes(_mm_movehl_ps(cd_low, ab_low)),
                    Sse2Lanes(_mm_movelh_ps(ab_high, cd_high)),
                    Sse2Lanes(_mm_movehl_ps(cd_high, ab_high)),
                ]
            }
        }
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use super::{LANES, Lanes};
    use std::arch::wasm32::{f32x4_add, f32x4_mul, f32x4_splat, i32x4_shuffle, v128, v128_load, v128_store};

    /// Lanes in one vector of WebAssembly.
    #[derive(Clone, Copy, Debug)]
    pub struct WasmLanes(v128);

    impl Lanes for WasmLanes {
        type Scalar = f32;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            WasmLanes(f32x4_splat(value))
        }

        #[inline(always)]
        fn load(values: &[f32; LANES]) -> Self {
            // SAFETY: the reference is to four readable floats, and WebAssembly's loads ask for no alignment.
            WasmLanes(unsafe { v128_load(values.as_ptr().cast()) })
        }

        #[inline(always)]
        fn store(self, values: &mut [f32; LANES]) {
            // SAFETY: the reference is to four writable floats of ours alone; WebAssembly asks for no alignment.
            unsafe { v128_store(values.as_mut_ptr().cast(), self.0) }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            WasmLanes(f32x4_add(self.0, other.0))
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            WasmLanes(f32x4_mul(self.0, other.0))
        }

        #[inline(always)]
        fn transpose([a, b, c, d]: [Self; LANES]) -> [Self; LANES] {
            let (ab_low, ab_high) = (
                i32x4_shuffle::<0, 4, 1, 5>(a.0, b.0),
                i32x4_shuffle::<2, 6, 3, 7>(a.0, b.0),
            );
            let (cd_low, cd_high) = (
                i32x4_shuffle::<0, 4, 1, 5>(c.0, d.0),
                i32x4_shuffle::<2, 6, 3, 7>(c.0, d.0),
            );
            [
                WasmLanes(i32x4_shuffle::<0, 1, 4, 5>(ab_low, cd_low)),
                WasmLanes(i32x4_shuffle::<2, 3, 6, 7>(ab_low, cd_low)),
                WasmLanes(i32x4_shuffle::<0, 1, 4, 5>(ab_high, cd_high)),
                WasmLanes(i32x4_shuffle::<2, 3, 6, 7>(ab_high, cd_high)),
            ]
        }
    }
}

/// The sum of a slice in its one written order: number i goes to column i mod 8, the columns are then added in pairs.
///
/// Eight columns instead of one, because additions wait for each other: a compiler may not reorder them, so the order
/// that vectors like has to be written.
pub fn sum<S: Scalar>(values: &[S]) -> S {
    let mut columns = [S::ZERO; 8];
    let (rows, rest) = values.as_chunks::<8>();
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row) {
            *column += *value;
        }
    }
    for (column, value) in columns.iter_mut().zip(rest) {
        *column += *value;
    }
    let [a, b, c, d, e, f, g, h] = columns;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The sum of the products of two vectors' elements, in the order of [`sum`].
pub fn dot<S: Scalar>(left: &[S], right: &[S]) -> S {
    let mut columns = [S::ZERO; 8];
    let (left_rows, left_rest) = left.as_chunks::<8>();
    let (right_rows, right_rest) = right.as_chunks::<8>();
    for (left, right) in left_rows.iter().zip(right_rows) {
        for ((column, left), right) in columns.iter_mut().zip(left).zip(right) {
            *column += *left * *right;
        }
    }
    for ((column, left), right) in columns.iter_mut().zip(left_rest).zip(right_rest) {
        *column += *left * *right;
    }
    sum(&columns)
}

/// Adds `values` to `sums`, element by element.
pub fn add<S: Scalar>(sums: &mut [S], values: &[S]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += *value;
    }
}

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
            let plain = PlainLanes::transpose([plain_a, plain_b, plain_b, plain_a]).map(bits);
            let native = NativeLanes::transpose([native_a, native_b, native_b, native_a]).map(bits);
            prop_assert_eq!(plain, native);
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

    #[test]
    fn a_dot_product_takes_every_pair_once() {
        for length in 0..40_u16 {
            let values: Vec<f64> = (1..=length).map(f64::from).collect();
            let ones = vec![2.0; values.len()];
            assert_eq!(dot(&values, &ones), f64::from(length) * f64::from(length + 1));
        }
    }

    #[test]
    fn a_sum_adds_every_element_once() {
        for length in 0..40_u16 {
            let values: Vec<f64> = (1..=length).map(f64::from).collect();
            assert_eq!(sum(&values), f64::from(length) * f64::from(length + 1) / 2.0);
        }
    }
}
