//! Sigmoid and binary cross-entropy in one, as `torch.nn.BCEWithLogitsLoss(reduction="sum")`.

use crate::scalar::Scalar;

/// The loss's gradient by the logits, σ(Y) − T, and its sum. All: (samples · outputs); targets from 0 to 1.
pub(super) fn backward<S: Scalar>(logits: &[S], targets: &[S], gradient: &mut [S]) -> f64 {
    let mut sum = 0.0;
    for ((gradient, y), target) in gradient.iter_mut().zip(logits).zip(targets) {
        let (falling, loss) = one(*y, *target);
        // σ(y) from e^−|y|, which never overflows.
        let probability = if *y < S::ZERO { falling } else { S::ONE } / (S::ONE + falling);
        *gradient = probability - *target;
        sum += loss;
    }
    sum
}

/// The loss's sum, and how many logits are on their target's side: above 0 where it is above ½.
pub(super) fn evaluate<S: Scalar>(logits: &[S], targets: &[S]) -> (f64, usize) {
    let half = S::from_f64(0.5);
    let pairs = logits.iter().zip(targets);
    pairs.fold((0.0, 0), |(sum, right), (y, target)| {
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

    #[test]
    fn a_loss_of_large_logits_is_finite() {
        let mut gradient = [0.0_f32; 4];
        let loss = backward(&[1e4, -1e4, 1e4, -1e4], &[1.0, 1.0, 0.0, 0.0], &mut gradient);
        assert_eq!((loss, gradient), (2e4, [0.0, -1.0, 1.0, 0.0]));
    }

    #[test]
    fn answers_are_right_on_their_targets_side() {
        assert_eq!(evaluate(&[0.1_f32, -0.1, 0.1, -0.1], &[1.0, 0.0, 0.0, 1.0]).1, 2);
        assert_eq!(evaluate(&[f32::NAN, f32::NAN], &[1.0, 0.0]).1, 0);
    }

    #[test]
    fn an_even_chance_costs_a_bit() {
        assert!((evaluate(&[0.0_f64], &[1.0]).0 - std::f64::consts::LN_2).abs() < 1e-15);
    }
}
