use super::window::{Window, image, planes};
use super::{Keys, Memory, Needs, Passed, Passes, Sizes};
use crate::extent::Extent;
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{flat, flat_mut, tensor, tensor_mut};
use ndarray::{ArrayView4, ArrayViewMut4, Zip};
use serde::{Deserialize, Serialize};
use std::hint::select_unpredictable;

/// The largest number of each window, like `torch.nn.MaxPool2d`.
///
/// X: (batch, channels, height, width), Y: (batch, channels, out height, out width). Of equal numbers the first in
/// row-major order is taken, and what is not a number counts as the largest, as PyTorch does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool2d {
    /// The window.
    pub size: Extent,
    /// How far the window moves; the window's size if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Extent>,
}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct MaxPool2dLayer {
    channels: usize,
    window: Window,
}

impl MaxPool2d {
    /// With what a run file may leave out.
    pub fn new(size: impl Into<Extent>) -> MaxPool2d {
        MaxPool2d {
            size: size.into(),
            stride: None,
        }
    }

    fn stride(&self) -> Extent {
        self.stride.unwrap_or(self.size)
    }
}

impl Keys for MaxPool2d {
    type Layer = MaxPool2dLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<MaxPool2dLayer, String> {
        let [channels, height, width] = image(incoming, from)?;
        let window = Window::new(Extent { height, width }, "size", self.size, self.stride(), 0.into())?;
        Ok(MaxPool2dLayer { channels, window })
    }

    fn hash(&self, hash: &mut Fnv1a) {
        hash.extents([self.size, self.stride()]);
    }
}

impl Sizes for MaxPool2dLayer {
    fn output_shape(&self) -> Vec<usize> {
        vec![self.channels, self.window.positions.height, self.window.positions.width]
    }

    fn needs(&self) -> Needs {
        Needs {
            indices: self.output_shape().iter().product(),
            ..Needs::default()
        }
    }
}

/// Takes a value for the maximum if it is larger, or not a number.
#[inline(always)]
fn take_larger<S: Scalar>(y: &mut S, kept: &mut u32, value: S, index: u32) {
    #[expect(clippy::eq_op, reason = "only what is not a number differs from itself")]
    let is_larger = (value > *y) | (value != value);
    *y = select_unpredictable(is_larger, value, *y);
    *kept = select_unpredictable(is_larger, index, *kept);
}

impl MaxPool2dLayer {
    /// One row of the window for one row of positions, whose windows begin at `x[first]`; x: a plane.
    fn row<S: Scalar>(&self, x: &[S], first: usize, y: &mut [S], kept: &mut [u32]) {
        let Window { size, stride, .. } = self.window;
        match (size.width, stride.width) {
            (2, 2) => row_of_touching_windows::<S, 2>(x, first, y, kept),
            (3, 3) => row_of_touching_windows::<S, 3>(x, first, y, kept),
            _ => {
                for offset in 0..size.width {
                    let values = x[first + offset..].iter().step_by(stride.width);
                    let indices = ((first + offset) as u32..).step_by(stride.width);
                    for (((y, kept), value), index) in y.iter_mut().zip(kept.iter_mut()).zip(values).zip(indices) {
                        take_larger(y, kept, *value, index);
                    }
                }
            }
        }
    }
}

/// The usual case, in which no window overlaps the next and none is left out: known widths let a compiler work on
/// several windows at a time. Never inlined, so that the compiler knows that its slices do not overlap.
#[inline(never)]
fn row_of_touching_windows<S: Scalar, const WIDTH: usize>(x: &[S], first: usize, y: &mut [S], kept: &mut [u32]) {
    let windows = x[first..].as_chunks::<WIDTH>().0;
    for ((place, (y, kept)), window) in y.iter_mut().zip(kept).enumerate().zip(windows) {
        for (offset, value) in window.iter().enumerate() {
            take_larger(y, kept, *value, (first + place * WIDTH + offset) as u32);
        }
    }
}

impl<S: Scalar> Passes<S> for MaxPool2dLayer {
    /// Keeps for each output its maximum's index in the plane.
    fn forward(&self, _: &[S], input: ArrayView4<'_, S>, output: ArrayViewMut4<'_, S>, memory: Memory<'_, S>) {
        let Window {
            plane,
            size,
            stride,
            positions,
            ..
        } = self.window;
        let mut y = planes(output, positions);
        let mut kept = tensor_mut(memory.indices, y.raw_dim());
        let x = planes(input, plane);
        for ((mut y, mut kept), x) in y.outer_iter_mut().zip(kept.outer_iter_mut()).zip(x.outer_iter()) {
            let rows = y.rows_mut().into_iter().zip(kept.rows_mut());
            for (position_y, (y, kept)) in rows.enumerate() {
                let (y, kept) = (flat_mut(y), flat_mut(kept));
                let x = flat(x);
                let first = position_y * stride.height * plane.width;
                for (place, (y, kept)) in y.iter_mut().zip(kept.iter_mut()).enumerate() {
                    let first = first + place * stride.width;
                    (*y, *kept) = (x[first], first as u32);
                }
                for offset in 0..size.height {
                    self.row(x, first + offset * plane.width, y, kept);
                }
            }
        }
    }

    /// Each dY is added to the dX of its window's maximum.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        _: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        memory: Memory<'_, S>,
    ) {
        let Some(input_gradient) = input_gradient else { return };
        let dy = planes(passed.output_gradient, self.window.positions);
        let kept = tensor(memory.indices, dy.raw_dim());
        let mut dx = planes(input_gradient, self.window.plane);
        dx.fill(S::ZERO);
        for ((dx, dy), kept) in dx.outer_iter_mut().zip(dy.outer_iter()).zip(kept.outer_iter()) {
            let dx = flat_mut(dx);
            Zip::from(dy).and(kept).for_each(|dy, index| dx[*index as usize] += *dy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::gradient_check::{Fitted, backward, check, fit, forward};

    fn pool(size: [usize; 2], stride: [usize; 2], incoming: [usize; 3]) -> Fitted {
        let stride = Some(stride.into());
        fit(
            MaxPool2d {
                stride,
                ..MaxPool2d::new(size)
            },
            &incoming,
        )
    }

    #[test]
    fn its_gradient_is_the_central_differences() {
        for (size, stride, incoming) in [
            ([2, 2], [2, 2], [2, 6, 8]),
            ([3, 2], [1, 2], [3, 5, 7]),
            ([2, 3], [3, 1], [1, 7, 4]),
            ([1, 1], [2, 2], [2, 5, 5]),
            ([2, 3], [2, 3], [2, 5, 10]),
        ] {
            check(&pool(size, stride, incoming), incoming.iter().product(), 3);
        }
    }

    #[test]
    fn of_equal_numbers_the_first_gets_the_gradient() {
        let layer = pool([2, 2], [2, 2], [1, 2, 4]);
        let input = [1.0_f32, 1.0, 0.0, 5.0, 1.0, 1.0, 5.0, 5.0];
        assert_eq!(forward(&layer, &[], &input, 1), [1.0, 5.0]);
        assert_eq!(
            backward(&layer, &[], &input, &[2.0, 3.0], 1).1,
            [2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0]
        );
    }

    #[test]
    fn what_is_not_a_number_is_the_maximum() {
        for place in 0..4 {
            let mut input = [1.0_f32, -2.0, 3.0, 4.0];
            input[place] = f32::NAN;
            assert!(forward(&pool([2, 2], [2, 2], [1, 2, 2]), &[], &input, 1)[0].is_nan());
        }
    }
}
