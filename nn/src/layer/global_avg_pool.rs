use super::window::image;
use super::{Keys, Memory, Passed, Passes, Sizes};
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::sums::sum;
use crate::kernel::tensor::{flat, flat_mut, rows};
use ndarray::{ArrayView4, ArrayViewMut4, Axis, Zip};
use serde::{Deserialize, Serialize};

/// The mean of each channel, like `torch.nn.AdaptiveAvgPool2d(1)` with a `Flatten` after it; of a sequence, the mean of
/// its positions.
///
/// X: (batch, channels, height, width), Y: (batch, channels); or X: (batch, positions, width), Y: (batch, width).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalAvgPool {}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct GlobalAvgPoolLayer {
    /// The order in which a sample's numbers come in.
    axes: Axes,
    /// How many means come out.
    channels: usize,
    /// How many numbers each is the mean of.
    positions: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axes {
    ChannelsThenPositions,
    PositionsThenChannels,
}

impl Keys for GlobalAvgPool {
    type Layer = GlobalAvgPoolLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<GlobalAvgPoolLayer, String> {
        let (axes, channels, positions) = match *incoming {
            [positions, width] => (Axes::PositionsThenChannels, width, positions),
            _ => {
                let [channels, height, width] = image(incoming, from)?;
                (Axes::ChannelsThenPositions, channels, height * width)
            }
        };
        Ok(GlobalAvgPoolLayer {
            axes,
            channels,
            positions,
        })
    }

    fn hash(&self, _: &mut Fnv1a) {}
}

impl Sizes for GlobalAvgPoolLayer {
    fn output_shape(&self) -> Vec<usize> {
        vec![self.channels]
    }
}

impl GlobalAvgPoolLayer {
    fn share<S: Scalar>(&self) -> S {
        S::ONE / S::from_f64(self.positions as f64)
    }
}

impl<S: Scalar> Passes<S> for GlobalAvgPoolLayer {
    fn forward(&self, _: &[S], input: ArrayView4<'_, S>, output: ArrayViewMut4<'_, S>, _: Memory<'_, S>) {
        let share = self.share();
        if self.axes == Axes::ChannelsThenPositions {
            for (y, plane) in flat_mut(output).iter_mut().zip(rows(input, self.positions).rows()) {
                *y = sum(flat(plane)) * share;
            }
            return;
        }
        let x = input.index_axis_move(Axis(1), 0);
        for (mut y, sequence) in rows(output, self.channels).rows_mut().into_iter().zip(x.outer_iter()) {
            y.fill(S::ZERO);
            sequence.rows().into_iter().for_each(|x| y += &x);
            y.map_inplace(|y| *y = *y * share);
        }
    }

    /// Each dY is shared out to its channel's dX.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        _: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        _: Memory<'_, S>,
    ) {
        let Some(input_gradient) = input_gradient else { return };
        let share = self.share();
        if self.axes == Axes::ChannelsThenPositions {
            let mut planes = rows(input_gradient, self.positions);
            for (mut plane, dy) in planes.rows_mut().into_iter().zip(flat(passed.output_gradient)) {
                plane.fill(*dy * share);
            }
            return;
        }
        let mut dx = input_gradient.index_axis_move(Axis(1), 0);
        let dy = rows(passed.output_gradient, self.channels);
        for (mut sequence, dy) in dx.outer_iter_mut().zip(dy.rows()) {
            for dx in sequence.rows_mut() {
                Zip::from(dx).and(dy).for_each(|dx, dy| *dx = *dy * share);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::gradient_check::{check, fit, forward};

    #[test]
    fn its_gradient_is_the_central_differences() {
        check(&fit(GlobalAvgPool {}, &[3, 4, 5]), 60, 2);
        check(&fit(GlobalAvgPool {}, &[5, 3]), 15, 2);
    }

    #[test]
    fn it_gives_each_channels_mean() {
        let input = [1.0_f32, 2.0, 3.0, 6.0, -1.0, 0.0, 0.0, 3.0];
        assert_eq!(forward(&fit(GlobalAvgPool {}, &[2, 2, 2]), &[], &input, 1), [3.0, 0.5]);
    }

    #[test]
    fn of_a_sequence_it_gives_the_positions_mean() {
        let input = [1.0_f32, 2.0, 3.0, 6.0, -1.0, 0.0, 0.0, 3.0];
        let layer = fit(GlobalAvgPool {}, &[2, 2]);
        assert_eq!(forward(&layer, &[], &input, 2), [2.0, 4.0, -0.5, 1.5]);
        assert_eq!(layer.output_shape(), [2]);
    }
}
