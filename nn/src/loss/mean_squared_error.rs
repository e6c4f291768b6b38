//! Squared differences, as `torch.nn.MSELoss(reduction="sum")`.

use crate::scalar::Scalar;

/// The loss's gradient by what the model gave, 2 · (Y − T), and its sum. All: (samples · outputs).
pub(super) fn backward<S: Scalar>(given: &[S], targets: &[S], gradient: &mut [S]) -> f64 {
    let mut sum = 0.0;
    for ((gradient, y), target) in gradient.iter_mut().zip(given).zip(targets) {
        let difference = *y - *target;
        *gradient = difference + difference;
        sum += (difference * difference).to_f64();
    }
    sum
}

/// The loss's sum.
pub(super) fn evaluate<S: Scalar>(given: &[S], targets: &[S]) -> f64 {
    let pairs = given.iter().zip(targets);
    pairs.fold(0.0, |sum, (y, target)| {
        let difference = *y - *target;
        sum + (difference * difference).to_f64()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sum_of_the_squares() {
        let mut gradient = [0.0_f32; 2];
        assert_eq!(backward(&[1.0, 5.0], &[3.0, 4.0], &mut gradient), 5.0);
        assert_eq!(gradient, [-4.0, 2.0]);
        assert_eq!(evaluate(&[1.0_f32, 5.0], &[3.0, 4.0]), 5.0);
    }
}
