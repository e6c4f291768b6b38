//! Softmax and cross-entropy in one, as `torch.nn.CrossEntropyLoss(reduction="sum")` over all answers.

use crate::kernel::elementwise::map;
use crate::kernel::lanes::Lanes;
use crate::kernel::scalar::Scalar;
use crate::kernel::sums::{add, largest, sum};
use crate::kernel::tensor::{flat, flat_mut};
use ndarray::{ArrayView2, ArrayViewMut2};

/// The loss's gradient by the logits, and its sum.
///
/// logits: (answers, classes), labels: (answers), gradient: (answers, classes), overwritten with softmax(logits) −
/// one-hot. The row's maximum is subtracted first, so that no exponential overflows.
pub(super) fn backward<S: Scalar>(
    logits: ArrayView2<'_, S>,
    labels: &[u32],
    mut gradient: ArrayViewMut2<'_, S>,
) -> f64 {
    let mut loss = 0.0;
    for ((logits, label), gradient) in logits.rows().into_iter().zip(labels).zip(gradient.rows_mut()) {
        let (logits, gradient) = (flat(logits), flat_mut(gradient));
        let maximum = largest(logits).unwrap_or(S::ZERO);
        let subtracted = S::Lanes::splat(maximum);
        map([logits], [gradient], |[logit]| [S::exp_lanes(logit.sub(subtracted))]);
        let total = sum(gradient);
        for place in gradient.iter_mut() {
            *place = *place / total;
        }
        let right = *label as usize;
        gradient[right] = gradient[right] - S::ONE;
        loss += (total.ln() - (logits[right] - maximum)).to_f64();
    }
    loss
}

/// The loss's sum, and how many answers have their largest logit, the first if several are equal, at their label.
pub(super) fn evaluate<S: Scalar>(logits: ArrayView2<'_, S>, labels: &[u32]) -> (f64, usize) {
    let (mut loss, mut correct) = (0.0, 0);
    for (logits, label) in logits.rows().into_iter().zip(labels) {
        let logits = flat(logits);
        let maximum = largest(logits).unwrap_or(S::ZERO);
        let total = sum_of_powers(logits, maximum);
        let right = *label as usize;
        loss += (total.ln() - (logits[right] - maximum)).to_f64();
        let is_first = logits[..right].iter().all(|logit| *logit < maximum);
        // Where a logit is not a number no comparison holds, and the sample is not counted as right.
        correct += usize::from(is_first && logits[right] == maximum && logits[right..].iter().all(|x| *x <= maximum));
    }
    (loss, correct)
}

/// Σ e^(logit − maximum), in the order in which [`sum`] adds them, without a place for them.
fn sum_of_powers<S: Scalar>(logits: &[S], maximum: S) -> S {
    let subtracted = S::Lanes::splat(maximum);
    let mut columns = [S::ZERO; 8];
    for logits in logits.chunks(columns.len()) {
        let mut powers = [S::ZERO; 8];
        map([logits], [&mut powers[..logits.len()]], |[logit]| {
            [S::exp_lanes(logit.sub(subtracted))]
        });
        add(&mut columns, &powers);
    }
    sum(&columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tensor::{matrix, matrix_mut};
    use ndarray::{Array2, arr2, aview2};

    #[test]
    fn a_loss_of_large_logits_is_finite() {
        let mut gradient = arr2(&[[f32::NAN; 3]]);
        let loss = backward(aview2(&[[1e4, -1e4, 0.0]]), &[1], gradient.view_mut());
        assert_eq!((loss, gradient), (2e4, arr2(&[[1.0, -1.0, 0.0]])));
    }

    #[test]
    fn training_and_evaluation_find_the_same_loss() {
        for classes in [2, 3, 8, 9, 73] {
            let logits: Vec<f32> = (0..classes).map(|class| (class * 7 % 11) as f32 - 3.0).collect();
            let (logits, mut gradient) = (matrix(&logits, 1, classes), vec![f32::NAN; classes]);
            let loss = backward(logits, &[1], matrix_mut(&mut gradient, 1, classes));
            assert_eq!(evaluate(logits, &[1]).0, loss);
        }
    }

    #[test]
    fn of_equal_logits_the_first_is_the_answer() {
        let logits = aview2(&[[0.0_f32, 1.0, 1.0]]);
        assert_eq!([0, 1, 2].map(|label| evaluate(logits, &[label]).1), [0, 1, 0]);
    }

    #[test]
    fn an_answer_that_is_not_a_number_is_never_right() {
        for logits in [[f32::NAN, 1.0, 0.0], [0.0, 1.0, f32::NAN], [f32::NAN; 3]] {
            let (loss, right) = evaluate(aview2(&[logits]), &[1]);
            assert!(loss.is_nan() && right == 0, "{logits:?}");
        }
    }

    #[test]
    fn no_samples_have_no_loss() {
        let mut gradient = Array2::<f32>::zeros((0, 3));
        assert_eq!(backward(gradient.clone().view(), &[], gradient.view_mut()), 0.0);
        assert_eq!(evaluate(gradient.view(), &[]), (0.0, 0));
    }
}
