//! Elementary functions of four numbers at once: what activations, softmax and losses spend their time on.
//!
//! Each is a fixed sequence of additions, multiplications, divisions and choices of [`lanes`](super::lanes), so that it
//! gives the same bits on every machine, as `libm` does; but `libm` takes one number at a time. Without branches a
//! function costs the same whatever it is of. The errors named here are the largest that the tests find; 1 ulp is the
//! distance to the next number.

use super::lanes::SingleLanes;

/// Adding it to a number below 2²² in size leaves the nearest whole number in the lowest bits: 3 · 2²².
const ROUNDING: f32 = 12_582_912.0;

/// a₀ + x · (a₁ + x · (a₂ + …)), from the innermost bracket outwards.
#[inline(always)]
fn polynomial<L: SingleLanes, const N: usize>(x: L, coefficients: [f32; N]) -> L {
    let coefficients = coefficients.map(L::splat).into_iter().rev();
    let sum = coefficients.reduce(|sum, coefficient| sum.mul(x).add(coefficient));
    sum.unwrap_or(L::splat(0.0))
}

/// e to the power of x, within 1.1 ulp. Infinite from 88.73 on, where `f32` ends; 0 below −86.99, a little before it
/// would be smaller than the smallest normal number; not a number stays.
///
/// x = n · ln 2 + r; then e^x = 2^n · e^r, the latter by the polynomial of Cephes' `expf` (Moshier, netlib.org/cephes).
#[inline(always)]
pub(crate) fn exp<L: SingleLanes>(x: L) -> L {
    // Beyond these bounds n would not fit into an exponent; at them e^x is 0 and infinite already.
    let x = x.at_least(L::splat(-87.3)).at_most(L::splat(89.0));
    let shifted = x.mul(L::splat(std::f32::consts::LOG2_E)).add(L::splat(ROUNDING));
    let n = shifted.sub(L::splat(ROUNDING));
    // ln 2 in two parts; the first has so few digits that its product with n is exact.
    let r = x
        .sub(n.mul(L::splat(0.693_359_4)))
        .sub(n.mul(L::splat(-2.121_944_4e-4)));
    let coefficients = [
        0.5,
        1.666_666_5e-1,
        4.166_579_6e-2,
        8.333_452e-3,
        1.398_2e-3,
        1.987_569_1e-4,
    ];
    let power = polynomial(r, coefficients).mul(r.mul(r)).add(r).add(L::splat(1.0));
    power.add(power).mul(shifted.half_the_power_of_two())
}

/// The hyperbolic tangent, within 1.6 ulp, by Cephes' `tanhf`: x + x³ · P(x²) near 0, and 1 − 2 / (e^2|x| + 1) with the
/// sign of x beyond.
#[inline(always)]
pub(crate) fn tanh<L: SingleLanes>(x: L) -> L {
    let (zero, one) = (L::splat(0.0), L::splat(1.0));
    let (size, square) = (x.at_least(zero.sub(x)), x.mul(x));
    let coefficients = [
        -3.333_328e-1,
        1.333_144_2e-1,
        -5.373_971_6e-2,
        2.063_909e-2,
        -5.704_988_7e-3,
    ];
    let near = polynomial(square, coefficients).mul(square).mul(x).add(x);
    let beyond = one.sub(L::splat(2.0).div(exp(size.add(size)).add(one)));
    let beyond = x.if_below(zero, zero.sub(beyond), beyond);
    size.if_below(L::splat(0.625), near, beyond)
}

/// 1 / (1 + e^−x), within 2.5 ulp.
#[inline(always)]
pub(crate) fn sigmoid<L: SingleLanes>(x: L) -> L {
    let one = L::splat(1.0);
    one.div(one.add(exp(L::splat(0.0).sub(x))))
}

/// The normal distribution Φ(x) and its density φ(x) = e^(−x²/2) / √2π. Φ is within 2.4 · 10⁻⁷, and far below 0, where
/// it is small itself, within a hundred-thousandth of itself.
///
/// Φ(−|x|) = φ(x) · t · P(t) with t = 1 / (1 + 0.3 · |x|), after Abramowitz and Stegun, 26.2.17; with three
/// coefficients more, fitted for the smallest largest error relative to Φ(−|x|) + 0.03, for |x| up to 13.2, where φ
/// becomes 0.
#[inline(always)]
pub(crate) fn normal<L: SingleLanes>(x: L) -> (L, L) {
    let (zero, one) = (L::splat(0.0), L::splat(1.0));
    let size = x.at_least(zero.sub(x));
    let density = exp(x.mul(x).mul(L::splat(-0.5))).mul(L::splat(0.398_942_3));
    let t = one.div(one.add(size.mul(L::splat(0.3))));
    let coefficients = [
        0.299_877_3,
        0.302_548_35,
        0.251_063_14,
        0.321_058_33,
        -0.133_914_99,
        0.518_262_4,
        -0.395_585_24,
        0.090_004_89,
    ];
    let tail = polynomial(t, coefficients).mul(t).mul(density);
    (x.if_below(zero, tail, one.sub(tail)), density)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::lanes::{LANES, Lanes, NativeLanes, PlainLanes};
    use proptest::prelude::*;

    const SPECIAL: [f32; 8] = [
        0.0,
        -0.0,
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];

    fn values<L: Lanes<Scalar = f32>>(lanes: L) -> [f32; LANES] {
        let mut values = [0.0; LANES];
        lanes.store(&mut values);
        values
    }

    /// The bits, but of all that is not a number the same ones.
    fn bits<L: Lanes<Scalar = f32>>(lanes: L) -> [u32; LANES] {
        values(lanes).map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() })
    }

    fn all<L: SingleLanes>(x: [f32; LANES]) -> [[u32; LANES]; 5] {
        let x = L::load(&x);
        let (distribution, density) = normal(x);
        [
            bits(exp(x)),
            bits(tanh(x)),
            bits(sigmoid(x)),
            bits(distribution),
            bits(density),
        ]
    }

    fn one(function: impl Fn(NativeLanes) -> NativeLanes, x: f32) -> f32 {
        values(function(NativeLanes::splat(x)))[0]
    }

    /// Numbers from one to another, closer to each other near 0.
    fn sweep(from: f32, to: f32) -> impl Iterator<Item = f32> {
        const STEPS: i32 = 400_000;
        (0..=STEPS).map(move |step| {
            let place = f64::from(step) / f64::from(STEPS);
            let x = f64::from(from) + (f64::from(to) - f64::from(from)) * place;
            (if step % 2 == 0 { x } else { x * x * x / 1e4 }) as f32
        })
    }

    /// The largest error in units of the last place, with where it is.
    fn largest_error(
        function: impl Fn(NativeLanes) -> NativeLanes,
        exact: impl Fn(f64) -> f64,
        from: f32,
        to: f32,
    ) -> (f64, f32) {
        let errors = sweep(from, to).map(|x| {
            let exact = exact(f64::from(x));
            let nearest = (exact as f32).abs();
            let unit = f64::from(nearest.next_up()) - f64::from(nearest);
            ((f64::from(one(&function, x)) - exact).abs() / unit, x)
        });
        errors.fold((0.0, 0.0), |worst, error| if error.0 > worst.0 { error } else { worst })
    }

    proptest! {
        #[test]
        fn native_lanes_give_the_bits_of_plain_lanes(
            x in any::<[f32; LANES]>(), y in prop::array::uniform4(-100.0..100.0_f32)) {
            for x in [x, y] {
                prop_assert_eq!(all::<NativeLanes>(x), all::<PlainLanes<f32>>(x));
            }
        }
    }

    #[test]
    fn special_numbers_give_the_same_bits_too() {
        for x in SPECIAL {
            assert_eq!(
                all::<NativeLanes>([x; LANES]),
                all::<PlainLanes<f32>>([x; LANES]),
                "{x}"
            );
        }
    }

    #[test]
    fn errors_are_as_small_as_promised() {
        let within = |name, worst: (f64, f32), ulp: f64| assert!(worst.0 <= ulp, "{name}: {worst:?}");
        within("exp", largest_error(exp, libm::exp, -86.98, 88.72), 1.1);
        within("tanh", largest_error(tanh, libm::tanh, -12.0, 12.0), 1.6);
        let logistic = |x: f64| 1.0 / (1.0 + libm::exp(-x));
        within("sigmoid", largest_error(sigmoid, logistic, -86.0, 40.0), 2.5);
    }

    #[test]
    fn the_normal_distribution_is_as_exact_as_promised() {
        let (mut absolute, mut relative, mut in_density) = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
        for x in sweep(-13.0, 13.0) {
            let exact = 0.5 * libm::erfc(-f64::from(x) * std::f64::consts::FRAC_1_SQRT_2);
            let density = libm::exp(-0.5 * f64::from(x) * f64::from(x)) / libm::sqrt(2.0 * std::f64::consts::PI);
            let error = (f64::from(one(|x| normal(x).0, x)) - exact).abs();
            let density_error = (f64::from(one(|x| normal(x).1, x)) - density).abs();
            let worse = |worst: &mut (f64, f32), error: f64| {
                if error > worst.0 {
                    *worst = (error, x)
                }
            };
            worse(&mut absolute, error);
            worse(&mut relative, error / exact);
            worse(&mut in_density, density_error);
        }
        assert!(absolute.0 < 2.4e-7, "{absolute:?}");
        assert!(relative.0 < 1e-5, "{relative:?}");
        assert!(in_density.0 < 6e-8, "{in_density:?}");
    }

    #[test]
    fn what_is_larger_gives_no_less() {
        let names = ["exp", "tanh", "sigmoid", "normal"];
        let functions: [fn(NativeLanes) -> NativeLanes; 4] = [exp, tanh, sigmoid, |x| normal(x).0];
        for (name, function) in names.into_iter().zip(functions) {
            let mut last = f32::NEG_INFINITY;
            for step in -10_000..=10_000_i16 {
                let value = one(function, f32::from(step) * 0.01);
                assert!(value >= last, "{name} at {}", f32::from(step) * 0.01);
                last = value;
            }
        }
    }

    #[test]
    fn at_their_ends_they_are_what_they_tend_to() {
        let ends = |function: fn(NativeLanes) -> NativeLanes| {
            [f32::NEG_INFINITY, -300.0, 0.0, 300.0, f32::INFINITY].map(|x| one(function, x))
        };
        assert_eq!(ends(exp), [0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY]);
        assert_eq!(ends(tanh), [-1.0, -1.0, 0.0, 1.0, 1.0]);
        assert_eq!(ends(sigmoid), [0.0, 0.0, 0.5, 1.0, 1.0]);
        let [low, lower, half, upper, high] = ends(|x| normal(x).0);
        assert_eq!([low, lower, upper, high], [0.0, 0.0, 1.0, 1.0]);
        assert!((half - 0.5).abs() < 1e-7);
        assert_eq!(ends(|x| normal(x).1)[..2], [0.0, 0.0]);
        assert_eq!((one(exp, -87.0), one(exp, 88.73)), (0.0, f32::INFINITY));
        assert!(one(exp, -86.98) > f32::MIN_POSITIVE && one(exp, 88.72) < f32::INFINITY);
        for function in [exp, tanh, sigmoid, |x| normal(x).0, |x| normal(x).1] {
            assert!(one(function, f32::NAN).is_nan());
        }
    }
}
