use super::window::{Window, image, planes};
use super::{Keys, Memory, Passed, Passes, Sizes};
use crate::extent::Extent;
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use ndarray::{ArrayView4, ArrayViewMut4, Zip};
use serde::{Deserialize, Serialize};

/// The mean of each window, like `torch.nn.AvgPool2d`.
///
/// X: (batch, channels, height, width), Y: (batch, channels, out height, out width).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool2d {
    /// The window.
    pub size: Extent,
    /// How far the window moves; the window's size if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Extent>,
}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct AvgPool2dLayer {
    channels: usize,
    window: Window,
}

impl AvgPool2d {
    fn stride(&self) -> Extent {
        self.stride.unwrap_or(self.size)
    }
}

impl Keys for AvgPool2d {
    type Layer = AvgPool2dLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<AvgPool2dLayer, String> {
        let [channels, height, width] = image(incoming, from)?;
        let window = Window::new(Extent { height, width }, "size", self.size, self.stride(), 0.into())?;
        Ok(AvgPool2dLayer { channels, window })
    }

    fn hash(&self, hash: &mut Fnv1a) {
        hash.extents([self.size, self.stride()]);
    }
}

impl Sizes for AvgPool2dLayer {
    fn output_shape(&self) -> Vec<usize> {
        vec![self.channels, self.window.positions.height, self.window.positions.width]
    }
}

impl AvgPool2dLayer {
    /// The share of each number of a window in its mean.
    fn share<S: Scalar>(&self) -> S {
        let Extent { height, width } = self.window.size;
        S::ONE / S::from_f64((height * width) as f64)
    }
}

impl<S: Scalar> Passes<S> for AvgPool2dLayer {
    fn forward(&self, _: &[S], input: ArrayView4<'_, S>, output: ArrayViewMut4<'_, S>, _: Memory<'_, S>) {
        let share = self.share();
        let mut y = planes(output, self.window.positions);
        for (mut y, x) in y.outer_iter_mut().zip(planes(input, self.window.plane).outer_iter()) {
            y.fill(S::ZERO);
            for (position_y, mut y) in y.rows_mut().into_iter().enumerate() {
                for (row, column) in self.window.corners() {
                    y += &self.window.seen(x, position_y, row, column);
                }
                y.map_inplace(|sum| *sum = *sum * share);
            }
        }
    }

    /// Each dY is shared out to the dX of its window.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        _: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        _: Memory<'_, S>,
    ) {
        let Some(input_gradient) = input_gradient else { return };
        let share = self.share();
        let (mut dx, dy) = (
            planes(input_gradient, self.window.plane),
            planes(passed.output_gradient, self.window.positions),
        );
        dx.fill(S::ZERO);
        for (mut dx, dy) in dx.outer_iter_mut().zip(dy.outer_iter()) {
            for (position_y, dy) in dy.rows().into_iter().enumerate() {
                for (row, column) in self.window.corners() {
                    let sums = self.window.seen(dx.view_mut(), position_y, row, column);
                    Zip::from(sums).and(dy).for_each(|sum, dy| *sum += *dy * share);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::gradient_check::{check, fit, forward};

    fn pool(size: [usize; 2], stride: Option<[usize; 2]>) -> AvgPool2d {
        AvgPool2d {
            size: size.into(),
            stride: stride.map(Extent::from),
        }
    }

    #[test]
    fn its_gradient_is_the_central_differences() {
        for (size, stride, incoming) in [
            ([2, 2], None, [2, 6, 8]),
            ([3, 2], Some([1, 2]), [3, 5, 7]),
            ([2, 3], Some([3, 1]), [1, 7, 4]),
            ([1, 1], Some([2, 2]), [2, 5, 5]),
        ] {
            check(&fit(pool(size, stride), &incoming), incoming.iter().product(), 3);
        }
    }

    #[test]
    fn it_gives_each_windows_mean() {
        let input = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let layer = fit(pool([2, 2], None), &[1, 2, 4]);
        assert_eq!(forward(&layer, &[], &input, 1), [3.5, 5.5]);
    }
}
