//! Softmax and cross-entropy in one, as `torch.nn.CrossEntropyLoss(reduction="sum")`.

use crate::scalar::Scalar;

/// The loss's gradient by the logits, and its sum over the samples.
///
/// logits: (batch, classes), labels: (batch), gradient: (batch, classes), overwritten with softmax(logits) − one-hot.
/// The row's maximum is subtracted first, so that no exponential overflows.
pub(crate) fn backward<S: Scalar>(logits: &[S], labels: &[u32], gradient: &mut [S]) -> f64 {
    let classes = logits.len() / labels.len().max(1);
    if classes == 0 {
        return 0.0;
    }
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

/// The loss's sum over the samples, and how many of them have their largest logit, the first if several are equal, at
/// their label.
pub(crate) fn evaluate<S: Scalar>(logits: &[S], labels: &[u32]) -> (f64, usize) {
    let classes = logits.len() / labels.len().max(1);
    if classes == 0 {
        return (0.0, 0);
    }
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
    use crate::layer::gradient_check::{central_differences, numbers};

    #[test]
    fn the_gradient_by_the_logits_is_the_central_differences() {
        let (classes, labels) = (5, [0, 4, 2]);
        let logits = numbers(classes * labels.len(), 3);
        let mut gradient = vec![f64::NAN; logits.len()];
        let loss = backward(&logits, &labels, &mut gradient);
        assert_eq!(loss, evaluate(&logits, &labels).0);
        central_differences(&logits, &gradient, |logits| evaluate(logits, &labels).0);
    }

    #[test]
    fn a_loss_of_large_logits_is_finite() {
        let mut gradient = [0.0_f32; 3];
        let loss = backward(&[1e4, -1e4, 0.0], &[1], &mut gradient);
        assert_eq!((loss, gradient), (2e4, [1.0, -1.0, 0.0]));
    }

    #[test]
    fn of_equal_logits_the_first_is_the_answer() {
        assert_eq!(evaluate(&[0.0_f32, 1.0, 1.0], &[1]).1, 1);
        assert_eq!(evaluate(&[0.0_f32, 1.0, 1.0], &[2]).1, 0);
        assert_eq!(evaluate(&[0.0_f32, 1.0, 1.0], &[0]).1, 0);
    }

    #[test]
    fn an_answer_that_is_not_a_number_is_never_right() {
        for logits in [[f32::NAN, 1.0, 0.0], [0.0, 1.0, f32::NAN], [f32::NAN; 3]] {
            assert_eq!(evaluate(&logits, &[1]).1, 0, "{logits:?}");
            assert!(evaluate(&logits, &[1]).0.is_nan());
        }
    }

    #[test]
    fn no_samples_have_no_loss() {
        assert_eq!(backward::<f32>(&[], &[], &mut []), 0.0);
        assert_eq!(evaluate::<f32>(&[], &[]), (0.0, 0));
    }
}
