//! Squared differences, as `torch.nn.MSELoss(reduction="sum")`.

use crate::kernel::scalar::Scalar;
use ndarray::{ArrayView1, ArrayViewMut1, Zip};

/// The loss's gradient by what the model gave, 2 · (Y − T), and its sum. All: (samples · outputs).
pub(super) fn backward<S: Scalar>(
    given: ArrayView1<'_, S>,
    targets: ArrayView1<'_, S>,
    gradient: ArrayViewMut1<'_, S>,
) -> f64 {
    Zip::from(gradient)
        .and(given)
        .and(targets)
        .fold(0.0, |sum, gradient, y, target| {
            let difference = *y - *target;
            *gradient = difference + difference;
            sum + (difference * difference).to_f64()
        })
}

/// The loss's sum.
pub(super) fn evaluate<S: Scalar>(given: ArrayView1<'_, S>, targets: ArrayView1<'_, S>) -> f64 {
    Zip::from(given).and(targets).fold(0.0, |sum, y, target| {
        let difference = *y - *target;
        sum + (difference * difference).to_f64()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    #[test]
    fn it_is_the_sum_of_the_squares() {
        let (given, targets) = (arr1(&[1.0_f32, 5.0]), arr1(&[3.0, 4.0]));
        let mut gradient = arr1(&[0.0; 2]);
        assert_eq!(backward(given.view(), targets.view(), gradient.view_mut()), 5.0);
        assert_eq!(gradient, arr1(&[-4.0, 2.0]));
        assert_eq!(evaluate(given.view(), targets.view()), 5.0);
    }
}
