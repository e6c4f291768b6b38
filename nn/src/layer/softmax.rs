//! Softmax of a row: what attention weighs positions with.

use crate::kernel::elementwise::map_in_place;
use crate::kernel::lanes::Lanes;
use crate::kernel::scalar::Scalar;
use crate::kernel::sums::{dot, largest, sum};
use crate::kernel::tensor::{flat, flat_mut};
use ndarray::{ArrayView1, ArrayViewMut1};

/// Turns scores s into probabilities p = exp(scale · s) / Σ exp(scale · s). The largest score is subtracted first, so
/// that no exponential overflows; scale is above 0.
pub(crate) fn softmax<S: Scalar>(row: ArrayViewMut1<'_, S>, scale: S) {
    let row = flat_mut(row);
    let Some(largest) = largest(row) else { return };
    let (largest, scale) = (S::Lanes::splat(largest), S::Lanes::splat(scale));
    map_in_place(row, |score| S::exp_lanes(scale.mul(score.sub(largest))));
    let share = S::ONE / sum(row);
    for place in row {
        *place = *place * share;
    }
}

/// Turns the gradient by the probabilities, dP, into that by the scores: scale · P · (dP − Σ P · dP).
pub(crate) fn backward<S: Scalar>(probabilities: ArrayView1<'_, S>, gradient: ArrayViewMut1<'_, S>, scale: S) {
    let (probabilities, gradient) = (flat(probabilities), flat_mut(gradient));
    let mean = dot(probabilities, gradient);
    for (gradient, probability) in gradient.iter_mut().zip(probabilities) {
        *gradient = scale * *probability * (*gradient - mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::gradient_check::{central_differences, numbers};
    use ndarray::{aview_mut1, aview1};

    #[test]
    fn its_gradient_is_the_central_differences() {
        for length in [1, 2, 13] {
            let (scores, weights) = (numbers(length, 3), numbers(length, 40));
            let probabilities = |scores: &[f64]| {
                let mut row = scores.to_vec();
                softmax(aview_mut1(&mut row), 0.7);
                row
            };
            let mut gradient = weights.clone();
            let p = probabilities(&scores);
            backward(aview1(&p), aview_mut1(&mut gradient), 0.7);
            central_differences(&scores, &gradient, |scores| dot(&probabilities(scores), &weights));
        }
    }

    #[test]
    fn large_scores_give_finite_probabilities_and_what_is_not_a_number_stays() {
        let mut row = [1e30_f32, -1e30, 1e30];
        softmax(aview_mut1(&mut row), 0.5);
        assert_eq!(row, [0.5, 0.0, 0.5]);
        let mut row = [0.0, f32::NAN, 1.0];
        softmax(aview_mut1(&mut row), 1.0);
        assert!(row.iter().all(|x| x.is_nan()));
        softmax::<f32>(aview_mut1(&mut []), 1.0);
    }
}
