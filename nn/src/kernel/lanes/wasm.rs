//! Lanes in WebAssembly.

use super::{HALF_BITS, LANES, Lanes, MANTISSA_BITS, SingleLanes};
use std::arch::wasm32::{
    f32x4_add, f32x4_div, f32x4_lt, f32x4_mul, f32x4_pmax, f32x4_pmin, f32x4_splat, f32x4_sub, i32x4_add, i32x4_shl,
    i32x4_shuffle, u32x4_splat, v128, v128_bitselect, v128_load, v128_store,
};

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
    fn sub(self, other: Self) -> Self {
        WasmLanes(f32x4_sub(self.0, other.0))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        WasmLanes(f32x4_div(self.0, other.0))
    }

    // Where they cannot be compared, and where they are equal, the instruction gives its first operand.
    #[inline(always)]
    fn at_least(self, least: Self) -> Self {
        WasmLanes(f32x4_pmax(self.0, least.0))
    }

    #[inline(always)]
    fn at_most(self, most: Self) -> Self {
        WasmLanes(f32x4_pmin(self.0, most.0))
    }

    #[inline(always)]
    fn if_below(self, bound: Self, then: Self, otherwise: Self) -> Self {
        WasmLanes(v128_bitselect(then.0, otherwise.0, f32x4_lt(self.0, bound.0)))
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

impl SingleLanes for WasmLanes {
    #[inline(always)]
    fn half_the_power_of_two(self) -> Self {
        WasmLanes(i32x4_add(i32x4_shl(self.0, MANTISSA_BITS), u32x4_splat(HALF_BITS)))
    }
}
