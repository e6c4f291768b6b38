use super::window::image;
use super::{Keys, Memory, Passed, Passes, Sizes};
use crate::fnv1a::Fnv1a;
use crate::lanes::sum;
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};

/// The mean of each channel, like `torch.nn.AdaptiveAvgPool2d(1)` with a `Flatten` after it.
///
/// X: (batch, channels, height, width), Y: (batch, channels).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalAvgPool {}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct GlobalAvgPoolLayer {
    channels: usize,
    places: usize,
}

impl Keys for GlobalAvgPool {
    type Layer = GlobalAvgPoolLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<GlobalAvgPoolLayer, String> {
        let [channels, height, width] = image(incoming, from)?;
        let places = height * width;
        Ok(GlobalAvgPoolLayer { channels, places })
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
        S::ONE / S::from_f64(self.places as f64)
    }
}

impl<S: Scalar> Passes<S> for GlobalAvgPoolLayer {
    fn forward(&self, _: &[S], input: &[S], output: &mut [S], _: Memory<'_, S>) {
        for (y, plane) in output.iter_mut().zip(input.chunks_exact(self.places)) {
            *y = sum(plane) * self.share();
        }
    }

    /// Each dY is shared out to its channel's dX.
    fn backward(&self, passed: Passed<'_, S>, _: &mut [S], input_gradient: Option<&mut [S]>, _: Memory<'_, S>) {
        let Some(input_gradient) = input_gradient else { return };
        for (plane, dy) in input_gradient.chunks_exact_mut(self.places).zip(passed.output_gradient) {
            plane.fill(*dy * self.share());
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
    }

    #[test]
    fn it_gives_each_channels_mean() {
        let input = [1.0_f32, 2.0, 3.0, 6.0, -1.0, 0.0, 0.0, 3.0];
        assert_eq!(forward(&fit(GlobalAvgPool {}, &[2, 2, 2]), &[], &input, 1), [3.0, 0.5]);
    }
}
