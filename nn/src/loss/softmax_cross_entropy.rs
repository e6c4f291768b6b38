//! Softmax and cross-entropy in one, as `torch.nn.CrossEntropyLoss(reduction="sum")` over all answers.

use crate::scalar::Scalar;

/// The loss's gradient by the logits, and its sum.
///
/// logits: (answers, classes), labels: (answers), gradient: (answers, classes), overwritten with softmax(logits) − one-hot.
/// The row's maximum is subtracted first, so that no exponential overflows.
pub(super) fn backward<S: Scalar>(logits: &[S], labels: &[u32], classes: usize, gradient: &mut [S]) -> f64 {
    let mut sum = 0.0;
    for ((logits, label), gradient) in logits
        .chunks_exact(classes)
        .zip(labels)
        .zip(gradient.chunks_exact_mut(classes))
    {
        let maximum = maximum(logits);
        let mut total = S::ZERO;
        for (place, logit) in gradient.iter_mut().zip(logits) {
            *place = (*logit - maximum).exp();
            total += *place;
        }
        for place in gradient.iter_mut() {
            *place = *place / total;
        }
        let right = *label as usize;
        gradient[right] = gradient[right] - S::ONE;
        sum += (total.ln() - (logits[right] - maximum)).to_f64();
    }
    sum
}

/// The loss's sum, and how many answers have their largest logit, the first if several are equal, at their label.
pub(super) fn evaluate<S: Scalar>(logits: &[S], labels: &[u32], classes: usize) -> (f64, usize) {
    let (mut sum, mut correct) = (0.0, 0);
    for (logits, label) in logits.chunks_exact(classes).zip(labels) {
        let maximum = maximum(logits);
        let mut total = S::ZERO;
        for logit in logits {
            total += (*logit - maximum).exp();
        }
        let right = *label as usize;
        sum += (total.ln() - (logits[right] - maximum)).to_f64();
        let is_first = logits[..right].iter().all(|logit| *logit < maximum);
        // Where a logit is not a number no comparison holds, and the sample is not counted as right.
        correct += usize::from(is_first && logits[right] == maximum && logits[right..].iter().all(|x| *x <= maximum));
    }
    (sum, correct)
}

fn maximum<S: Scalar>(logits: &[S]) -> S {
    logits
        .iter()
        .copied()
        .reduce(|best, logit| if logit > best { logit } else { best })
        .unwrap_or(S::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_of_large_logits_is_finite() {
        let mut gradient = [0.0_f32; 3];
        let loss = backward(&[1e4, -1e4, 0.0], &[1], 3, &mut gradient);
        assert_eq!((loss, gradient), (2e4, [1.0, -1.0, 0.0]));
    }

    #[test]
    fn of_equal_logits_the_first_is_the_answer() {
        assert_eq!(evaluate(&[0.0_f32, 1.0, 1.0], &[1], 3).1, 1);
        assert_eq!(evaluate(&[0.0_f32, 1.0, 1.0], &[2], 3).1, 0);
        assert_eq!(evaluate(&[0.0_f32, 1.0, 1.0], &[0], 3).1, 0);
    }

    #[test]
    fn an_answer_that_is_not_a_number_is_never_right() {
        for logits in [[f32::NAN, 1.0, 0.0], [0.0, 1.0, f32::NAN], [f32::NAN; 3]] {
            assert_eq!(evaluate(&logits, &[1], 3).1, 0, "{logits:?}");
            assert!(evaluate(&logits, &[1], 3).0.is_nan());
        }
    }

    #[test]
    fn no_samples_have_no_loss() {
        assert_eq!(backward::<f32>(&[], &[], 3, &mut []), 0.0);
        assert_eq!(evaluate::<f32>(&[], &[], 3), (0.0, 0));
    }
}
