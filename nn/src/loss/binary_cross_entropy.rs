//! Sigmoid and binary cross-entropy in one, as `torch.nn.BCEWithLogitsLoss(reduction="sum")`.

use crate::kernel::scalar::Scalar;
use ndarray::{ArrayView1, ArrayViewMut1, Zip};

/// The loss's gradient by the logits, σ(Y) − T, and its sum. All: (samples · outputs); targets from 0 to 1.
pub(super) fn backward<S: Scalar>(
    logits: ArrayView1<'_, S>,
    targets: ArrayView1<'_, S>,
    gradient: ArrayViewMut1<'_, S>,
) -> f64 {
    Zip::from(gradient)
        .and(logits)
        .and(targets)
        .fold(0.0, |sum, gradient, y, target| {
            let (falling, loss) = one(*y, *target);
            // σ(y) from e^−|y|, which never overflows.
            let probability = if *y < S::ZERO { falling } else { S::ONE } / (S::ONE + falling);
            *gradient = probability - *target;
            sum + loss
        })
}

/// The loss's sum, and how many logits are on their target's side: above 0 where it is above ½.
pub(super) fn evaluate<S: Scalar>(logits: ArrayView1<'_, S>, targets: ArrayView1<'_, S>) -> (f64, usize) {
    let half = S::from_f64(0.5);
    Zip::from(logits)
        .and(targets)
        .fold((0.0, 0), |(sum, right), y, target| {
            // Not a number is on no side.
            let is_right = if *target > half { *y > S::ZERO } else { *y <= S::ZERO };
            (sum + one(*y, *target).1, right + usize::from(is_right))
        })
}

/// e^−|y|, and the loss max(y, 0) − y·t + ln(1 + e^−|y|).
fn one<S: Scalar>(y: S, target: S) -> (S, f64) {
    let (positive, size) = if y < S::ZERO { (S::ZERO, S::ZERO - y) } else { (y, y) };
    let falling = (S::ZERO - size).exp();
    let loss = positive - y * target + (S::ONE + falling).ln();
    (falling, loss.to_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, arr1};

    fn vector<S: Scalar>(values: &[S]) -> Array1<S> {
        arr1(values)
    }

    #[test]
    fn a_loss_of_large_logits_is_finite() {
        let (logits, targets) = (vector(&[1e4_f32, -1e4, 1e4, -1e4]), vector(&[1.0, 1.0, 0.0, 0.0]));
        let mut gradient = vector(&[f32::NAN; 4]);
        let loss = backward(logits.view(), targets.view(), gradient.view_mut());
        assert_eq!((loss, gradient), (2e4, vector(&[0.0, -1.0, 1.0, 0.0])));
    }

    #[test]
    fn answers_are_right_on_their_targets_side() {
        let right = |logits: &[f32], targets| evaluate(vector(logits).view(), vector(targets).view()).1;
        assert_eq!(right(&[0.1, -0.1, 0.1, -0.1], &[1.0, 0.0, 0.0, 1.0]), 2);
        assert_eq!(right(&[f32::NAN, f32::NAN], &[1.0, 0.0]), 0);
    }

    #[test]
    fn an_even_chance_costs_a_bit() {
        assert!((evaluate(vector(&[0.0_f64]).view(), vector(&[1.0]).view()).0 - std::f64::consts::LN_2).abs() < 1e-15);
    }
}
