//! Lanes on x86-64.

use super::{HALF_BITS, LANES, Lanes, MANTISSA_BITS, SingleLanes};
use std::arch::x86_64::{
    __m128, _mm_add_epi32, _mm_add_ps, _mm_and_ps, _mm_andnot_ps, _mm_castps_si128, _mm_castsi128_ps, _mm_cmplt_ps,
    _mm_div_ps, _mm_loadu_ps, _mm_max_ps, _mm_min_ps, _mm_movehl_ps, _mm_movelh_ps, _mm_mul_ps, _mm_or_ps,
    _mm_set1_epi32, _mm_set1_ps, _mm_slli_epi32, _mm_storeu_ps, _mm_sub_ps, _mm_unpackhi_ps, _mm_unpacklo_ps,
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
    fn sub(self, other: Self) -> Self {
        // SAFETY: SSE2 belongs to x86-64 itself, and no memory is touched.
        Sse2Lanes(unsafe { _mm_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: SSE2 belongs to x86-64 itself, and no memory is touched.
        Sse2Lanes(unsafe { _mm_div_ps(self.0, other.0) })
    }

    // Where they cannot be compared, and where they are equal, the instruction gives its second operand.
    #[inline(always)]
    fn at_least(self, least: Self) -> Self {
        // SAFETY: SSE2 belongs to x86-64 itself, and no memory is touched.
        Sse2Lanes(unsafe { _mm_max_ps(least.0, self.0) })
    }

    #[inline(always)]
    fn at_most(self, most: Self) -> Self {
        // SAFETY: SSE2 belongs to x86-64 itself, and no memory is touched.
        Sse2Lanes(unsafe { _mm_min_ps(most.0, self.0) })
    }

    #[inline(always)]
    fn if_below(self, bound: Self, then: Self, otherwise: Self) -> Self {
        // SAFETY: SSE2 belongs to x86-64 itself, and no memory is touched.
        Sse2Lanes(unsafe {
            let below = _mm_cmplt_ps(self.0, bound.0);
            _mm_or_ps(_mm_and_ps(below, then.0), _mm_andnot_ps(below, otherwise.0))
        })
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

impl SingleLanes for Sse2Lanes {
    #[inline(always)]
    fn half_the_power_of_two(self) -> Self {
        // SAFETY: SSE2 belongs to x86-64 itself, and no memory is touched.
        Sse2Lanes(unsafe {
            let shifted = _mm_slli_epi32::<{ MANTISSA_BITS as i32 }>(_mm_castps_si128(self.0));
            _mm_castsi128_ps(_mm_add_epi32(shifted, _mm_set1_epi32(HALF_BITS as i32)))
        })
    }
}
