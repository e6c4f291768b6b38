//! Whether a gradient is finite, asked before each add.

/// Whether no value is infinite or not a number.
///
/// It looks at the exponent's bits as integers: integer comparisons and ors may be reordered, so the compiler makes
/// whole vectors of them, which it may not do with floating-point sums. There is no early way out for the same reason.
pub(super) fn all_finite(values: &[f32]) -> bool {
    const WITHOUT_SIGN: u32 = 0x7fff_ffff;
    const LARGEST_FINITE: u32 = f32::MAX.to_bits();
    let not_finite = values.iter().fold(0, |any, value| {
        any | u32::from((value.to_bits() & WITHOUT_SIGN).cast_signed() > LARGEST_FINITE.cast_signed())
    });
    not_finite == 0
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_and_the_smallest_values_are_finite() {
        assert!(all_finite(&[
            f32::MAX,
            f32::MIN,
            f32::MIN_POSITIVE,
            f32::from_bits(1),
            -0.0,
            0.0
        ]));
        assert!(all_finite(&[]));
    }

    proptest! {
        #[test]
        fn one_bad_value_anywhere_is_found(
            mut values in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO, 1..300),
            at: prop::sample::Index,
            bad: bool,
        ) {
            prop_assert!(all_finite(&values));
            let at = at.index(values.len());
            values[at] = if bad { f32::NAN } else { f32::NEG_INFINITY };
            prop_assert!(!all_finite(&values));
        }

        #[test]
        fn every_bit_pattern_is_judged_as_the_standard_library_does(bits: u32) {
            prop_assert_eq!(all_finite(&[f32::from_bits(bits)]), f32::from_bits(bits).is_finite());
        }
    }
}
