//! Functions of lanes, applied to whole slices.

use super::lanes::{LANES, Lanes};
use super::scalar::Scalar;

/// Overwrites `outputs` with a function's values at `inputs`: slices of one length, taken side by side.
pub(crate) fn map<S: Scalar, const I: usize, const O: usize>(
    inputs: [&[S]; I],
    outputs: [&mut [S]; O],
    function: impl Fn([S::Lanes; I]) -> [S::Lanes; O],
) {
    let mut outputs = outputs.map(|output| output.as_chunks_mut::<LANES>());
    let (whole, rest) = outputs
        .first()
        .map_or((0, 0), |(whole, rest)| (whole.len(), rest.len()));
    let inputs = inputs.map(|input| input.as_chunks::<LANES>());
    for index in 0..whole {
        let values = function(inputs.map(|(whole, _)| S::Lanes::load(&whole[index])));
        for (value, (whole, _)) in values.into_iter().zip(&mut outputs) {
            value.store(&mut whole[index]);
        }
    }
    if rest > 0 {
        let values = function(inputs.map(|(_, rest)| load(rest)));
        for (value, (_, rest)) in values.into_iter().zip(&mut outputs) {
            store(value, rest);
        }
    }
}

/// Replaces numbers with a function's values at them.
pub(crate) fn map_in_place<S: Scalar>(values: &mut [S], function: impl Fn(S::Lanes) -> S::Lanes) {
    let (whole, rest) = values.as_chunks_mut::<LANES>();
    for place in whole {
        function(S::Lanes::load(place)).store(place);
    }
    store(function(load(rest)), rest);
}

/// Fewer than four numbers, and zeros.
fn load<S: Scalar>(rest: &[S]) -> S::Lanes {
    let mut values = [S::ZERO; LANES];
    values[..rest.len()].copy_from_slice(rest);
    S::Lanes::load(&values)
}

/// The first of four numbers, as many as are wanted.
fn store<S: Scalar>(lanes: S::Lanes, rest: &mut [S]) {
    let mut values = [S::ZERO; LANES];
    lanes.store(&mut values);
    rest.copy_from_slice(&values[..rest.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::elementary::{exp, tanh};
    use crate::kernel::lanes::NativeLanes;
    use proptest::prelude::*;

    fn one(function: impl Fn(NativeLanes) -> NativeLanes, x: f32) -> f32 {
        let mut values = [0.0; LANES];
        function(NativeLanes::splat(x)).store(&mut values);
        values[0]
    }

    proptest! {
        #[test]
        fn what_is_left_over_gets_the_bits_of_whole_lanes(values in prop::collection::vec(-20.0..20.0_f32, 0..23)) {
            let (mut first, mut second) = (vec![f32::NAN; values.len()], vec![f32::NAN; values.len()]);
            map([&values], [&mut first, &mut second], |[x]| [exp(x), tanh(x)]);
            let mut in_place = values.clone();
            map_in_place::<f32>(&mut in_place, tanh);
            for (index, x) in values.iter().enumerate() {
                let expected = [one(exp, *x), one(tanh, *x), one(tanh, *x)];
                prop_assert_eq!([first[index], second[index], in_place[index]], expected);
            }
        }
    }
}
