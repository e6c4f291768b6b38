use super::window::image;
use super::{Keys, Memory, Passed, Passes, Sizes};
use crate::extent::Extent;
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{OnePiece, reshaped};
use ndarray::{ArrayBase, ArrayView4, ArrayView6, ArrayViewMut4, ArrayViewMut6, Ix1, Ix6, RawData, Zip};
use serde::{Deserialize, Serialize};

/// Cuts an image into patches, which become a sequence, row by row (Dosovitskiy et al., arXiv 2010.11929). Each patch's
/// numbers are in the order (channel, row, column), like `torch.nn.functional.unfold` with kernel = stride = size, its
/// last two axes exchanged.
///
/// X: (batch, channels, height, width), Y: (batch, patches, channels · patch height · patch width).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patchify {
    /// Of a patch.
    pub size: Extent,
}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct PatchifyLayer {
    channels: usize,
    /// Of a patch.
    size: Extent,
    /// How many patches lie above and beside each other.
    positions: Extent,
}

impl Keys for Patchify {
    type Layer = PatchifyLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<PatchifyLayer, String> {
        let Patchify { size } = *self;
        let [channels, height, width] = image(incoming, from)?;
        if size.height == 0 || size.width == 0 {
            return Err(format!("has size = {size}; set size to 1 or more"));
        }
        let plane = Extent { height, width };
        if !height.is_multiple_of(size.height) || !width.is_multiple_of(size.width) {
            return Err(format!(
                "has size = {size}, but {from} gives images of {plane}; set size to divisors of both"
            ));
        }
        let positions = Extent {
            height: height / size.height,
            width: width / size.width,
        };
        Ok(PatchifyLayer {
            channels,
            size,
            positions,
        })
    }

    fn hash(&self, hash: &mut Fnv1a) {
        hash.extents([self.size]);
    }
}

impl Sizes for PatchifyLayer {
    fn output_shape(&self) -> Vec<usize> {
        let Extent { height, width } = self.size;
        vec![
            self.positions.height * self.positions.width,
            self.channels * height * width,
        ]
    }
}

impl PatchifyLayer {
    /// Images in six axes: (batch, channels, patch row, row in it, patch column, column in it).
    fn of_images<R: RawData>(
        &self,
        images: impl OnePiece<Line = ArrayBase<R, Ix1>>,
        batch: usize,
    ) -> ArrayBase<R, Ix6> {
        let PatchifyLayer {
            channels,
            size,
            positions,
        } = *self;
        reshaped(
            images,
            [
                batch,
                channels,
                positions.height,
                size.height,
                positions.width,
                size.width,
            ],
        )
    }

    /// Patches in the axes of the images that they come from.
    fn of_patches<R: RawData>(
        &self,
        patches: impl OnePiece<Line = ArrayBase<R, Ix1>>,
        batch: usize,
    ) -> ArrayBase<R, Ix6> {
        let PatchifyLayer {
            channels,
            size,
            positions,
        } = *self;
        let patches = reshaped(
            patches,
            [
                batch,
                positions.height,
                positions.width,
                channels,
                size.height,
                size.width,
            ],
        );
        patches.permuted_axes([0, 3, 1, 4, 2, 5])
    }
}

/// Copies numbers from where they lie to where they belong.
fn copy<S: Scalar>(to: ArrayViewMut6<'_, S>, from: ArrayView6<'_, S>) {
    Zip::from(to).and(from).for_each(|to, from| *to = *from);
}

impl<S: Scalar> Passes<S> for PatchifyLayer {
    fn forward(&self, _: &[S], input: ArrayView4<'_, S>, output: ArrayViewMut4<'_, S>, _: Memory<'_, S>) {
        let batch = input.shape()[0];
        copy(self.of_patches(output, batch), self.of_images(input, batch));
    }

    /// Each dY goes back to where its number came from.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        _: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        _: Memory<'_, S>,
    ) {
        let Some(input_gradient) = input_gradient else { return };
        let batch = passed.input.shape()[0];
        copy(
            self.of_images(input_gradient, batch),
            self.of_patches(passed.output_gradient, batch),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use crate::layer::gradient_check::{check, fit, forward};

    fn patchify(size: impl Into<Extent>) -> Patchify {
        Patchify { size: size.into() }
    }

    #[test]
    fn its_gradient_is_the_central_differences() {
        for (size, incoming) in [([2, 3], [2, 4, 9]), ([1, 1], [3, 2, 2]), ([4, 6], [1, 4, 6])] {
            check(&fit(patchify(size), &incoming), incoming.iter().product(), 2);
        }
    }

    #[test]
    fn patches_follow_each_other_row_by_row_and_hold_channels_rows_and_columns() {
        let layer = fit(patchify([1, 2]), &[2, 2, 4]);
        let image: Vec<f32> = (0..16_u8).map(f32::from).collect();
        let patches = [[0, 1, 8, 9], [2, 3, 10, 11], [4, 5, 12, 13], [6, 7, 14, 15]];
        assert_eq!(
            forward(&layer, &[], &image, 1),
            patches.concat().iter().map(|x| *x as f32).collect::<Vec<_>>()
        );
        assert_eq!(layer.output_shape(), [4, 4]);
    }

    #[test]
    fn a_size_that_does_not_divide_the_image_is_refused() {
        let misfit = |size: Extent| Layer::new(&patchify(size).into(), &[3, 8, 6], "relu").unwrap_err();
        assert_eq!(
            misfit(4.into()),
            "has size = 4×4, but relu gives images of 8×6; set size to divisors of both"
        );
        assert!(misfit(0.into()).contains("set size to 1"));
        assert!(misfit([16, 6].into()).contains("divisors of both"));
    }
}
