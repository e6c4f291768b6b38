use super::images::Images;
use super::window::{Window, image};
use super::{Keys, MAX_ELEMENTS, Memory, Needs, Passed, Passes, Sizes, Tensor, count};
use crate::extent::Extent;
use crate::fnv1a::Fnv1a;
use crate::kernel::{Axis, Operand, Packing, Target, Update, product};
use crate::lanes::{add, sum};
use crate::scalar::Scalar;
use crate::tensor::{matrix, matrix_mut};
use serde::{Deserialize, Serialize};

/// Convolution (cross-correlation, strictly), like `torch.nn.Conv2d`: Yₙ = W·unfold(Xₙ) + b for each sample n.
///
/// X: (batch, channels, height, width), W: (filters, channels, kernel height, kernel width), b: (filters),
/// Y: (batch, filters, out height, out width), unfold(Xₙ): (fan in, places) with fan in = channels · kernel height ·
/// kernel width and places = out height · out width.
///
/// With groups, each group of filters sees its own group of channels only, as if the groups were convolutions side by side: W is
/// (filters, channels / groups, kernel height, kernel width). As many groups as channels make it depthwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// How many channels come out.
    pub filters: usize,
    /// What a filter sees at once.
    pub kernel: Extent,
    /// How far a filter moves from one output to the next.
    #[serde(default = "one")]
    pub stride: Extent,
    /// How many rows and columns of zeros are put around the image, on each side.
    #[serde(default = "zero")]
    pub padding: Extent,
    /// Into how many groups the channels and the filters are divided.
    #[serde(default = "one_group")]
    pub groups: usize,
    /// How many channels come in, if the run file wants it checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct Conv2dLayer {
    channels: usize,
    filters: usize,
    groups: usize,
    window: Window,
}

fn one_group() -> usize {
    1
}

fn one() -> Extent {
    1.into()
}

fn zero() -> Extent {
    0.into()
}

impl Conv2d {
    /// With what a run file may leave out.
    pub fn new(filters: usize, kernel: impl Into<Extent>) -> Conv2d {
        Conv2d {
            filters,
            kernel: kernel.into(),
            stride: one(),
            padding: zero(),
            groups: one_group(),
            channels: None,
        }
    }
}

impl Keys for Conv2d {
    type Layer = Conv2dLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<Conv2dLayer, String> {
        let Conv2d {
            filters,
            kernel,
            stride,
            padding,
            groups,
            channels,
        } = *self;
        let [given, height, width] = image(incoming, from)?;
        if let Some(expected) = channels.filter(|expected| *expected != given) {
            return Err(format!(
                "expects {expected} channels, but {from} gives {given}; set channels = {given}"
            ));
        }
        if filters == 0 {
            return Err("has filters = 0; set filters to 1 or more".into());
        }
        if groups == 0 {
            return Err("has groups = 0; set groups to 1 or more".into());
        }
        if !given.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
            return Err(format!(
                "has groups = {groups}, but {from} gives {given} channels, and filters = {filters}; set groups to a divisor of \
                 both"
            ));
        }
        let window = Window::new(Extent { height, width }, "kernel", kernel, stride, padding)?;
        let layer = Conv2dLayer {
            channels: given,
            filters,
            groups,
            window,
        };
        let unfolded = count(&[
            given,
            kernel.height,
            kernel.width,
            window.places.height,
            window.places.width,
        ]);
        if unfolded.is_none_or(|unfolded| unfolded > MAX_ELEMENTS) {
            return Err(format!(
                "unfolds a sample to more than {MAX_ELEMENTS} numbers ({given} channels · kernel {kernel} · {} \
                 places); make the kernel or the image smaller, or the stride larger",
                window.places
            ));
        }
        if layer.room().is_none_or(|room| room > MAX_ELEMENTS) {
            return Err(format!(
                "works in more than {MAX_ELEMENTS} numbers for a sample ({filters} filters, kernel {kernel} and padding {padding} on \
                 {}); make one of them smaller",
                window.plane
            ));
        }
        Ok(layer)
    }

    fn hash(&self, hash: &mut Fnv1a) {
        hash.word(self.filters);
        hash.extents([self.kernel, self.stride, self.padding]);
        hash.word(self.groups);
    }
}

impl Sizes for Conv2dLayer {
    fn output_shape(&self) -> Vec<usize> {
        vec![self.filters, self.window.places.height, self.window.places.width]
    }

    fn tensors(&self) -> Vec<Tensor> {
        let size = self.window.size;
        Tensor::weight_and_bias(vec![self.filters, self.channels / self.groups, size.height, size.width])
    }

    fn needs(&self) -> Needs {
        Needs {
            room: self.room().unwrap_or(usize::MAX),
            ..Needs::default()
        }
    }
}

/// How many places a product takes at once, of as many samples as that are: small images share the packing of the weights,
/// and the sum over the places is as long as the product's blocks.
const PLACES_AT_ONCE: usize = 512;

impl Conv2dLayer {
    /// How many numbers of a sample one output is a sum over.
    fn fan_in(&self) -> usize {
        self.channels / self.groups * self.window.size.height * self.window.size.width
    }

    /// How many filters a group has.
    fn group_filters(&self) -> usize {
        self.filters / self.groups
    }

    fn places(&self) -> usize {
        self.window.places.height * self.window.places.width
    }

    /// How many numbers come in and go out for a sample.
    fn elements(&self) -> usize {
        self.channels * self.window.plane.height * self.window.plane.width
    }

    fn outputs(&self) -> usize {
        self.filters * self.places()
    }

    /// How many samples are in one product.
    fn samples_at_once(&self) -> usize {
        (PLACES_AT_ONCE / self.places()).max(1)
    }

    /// The images that go in, with their padding.
    fn incoming(&self) -> Images {
        let Window { plane, padding, .. } = self.window;
        Images {
            channels: self.channels,
            plane,
            padding,
        }
    }

    /// For a stride of 1: the gradient's images, padded so that a kernel sees of them what sees its middle's place.
    fn outgoing(&self) -> Option<Images> {
        let Window {
            size,
            stride,
            padding,
            places,
            ..
        } = self.window;
        let padding = Extent {
            height: (size.height - 1).checked_sub(padding.height)?,
            width: (size.width - 1).checked_sub(padding.width)?,
        };
        (stride == 1.into()).then_some(Images {
            channels: self.filters,
            plane: places,
            padding,
        })
    }

    /// The numbers that the passes work in, if they can be counted.
    fn room(&self) -> Option<usize> {
        let samples = self.samples_at_once();
        let by_input = match self.outgoing() {
            Some(images) => images
                .room(samples)?
                .checked_add(count(&[self.filters, self.fan_in()])?)?,
            None => count(&[samples, self.groups, self.fan_in(), self.places()])?,
        };
        Some(by_input.max(self.incoming().room(samples)?))
    }

    /// unfold(Xₙ) of one group, for several samples side by side: (fan in, samples · places).
    fn unfolded<'a, S>(&self, padded: &'a [S], samples: usize, group: usize) -> Operand<'a, S> {
        let channels = self.channels / self.groups;
        let window = (self.window.size, self.window.stride, self.window.places);
        let channels = group * channels..(group + 1) * channels;
        self.incoming().unfolded(padded, samples, channels, window)
    }

    /// The axis of several samples' places in the output.
    fn places_axis(&self, samples: usize) -> Axis {
        Axis::levels([(1, 0), (samples, self.outputs()), (self.places(), 1)])
    }

    /// The reverse of unfolding: adds each number of an unfolded sample to where it came from. What came from the padding is
    /// dropped.
    fn fold<S: Scalar>(&self, unfolded: &[S], sample: &mut [S]) {
        let Window {
            plane,
            size,
            stride,
            padding,
            places,
        } = self.window;
        sample.fill(S::ZERO);
        let mut rows = unfolded.chunks_exact(self.places());
        for x in sample.chunks_exact_mut(plane.height * plane.width) {
            for (ky, kx) in (0..size.height).flat_map(|ky| (0..size.width).map(move |kx| (ky, kx))) {
                let Some(row) = rows.next() else { return };
                let inside_x = self.window.columns(kx);
                if inside_x.is_empty() {
                    continue;
                }
                let first_x = inside_x.start * stride.width + kx - padding.width;
                for y in self.window.rows(ky) {
                    let row = &row[y * places.width..][inside_x.clone()];
                    let x = &mut x[(y * stride.height + ky - padding.height) * plane.width + first_x..];
                    if stride.width == 1 {
                        add(&mut x[..row.len()], row);
                    } else {
                        for (place, value) in x.iter_mut().step_by(stride.width).zip(row) {
                            *place += *value;
                        }
                    }
                }
            }
        }
    }

    /// Adds to the gradient by the input, of a few samples: dXₙ = fold(Wᵀ·dYₙ).
    fn input_gradient_by_folding<S: Scalar>(
        &self,
        weight: &[S],
        dy: &[S],
        dx: &mut [S],
        room: &mut [S],
        packing: &mut Packing<S>,
    ) {
        let (samples, fan_in, places) = (dx.len() / self.elements(), self.fan_in(), self.places());
        let filters = self.group_filters();
        let unfolded = self.groups * fan_in * places;
        let room = &mut room[..samples * unfolded];
        for group in 0..self.groups {
            let w = matrix(&weight[group * filters * fan_in..][..filters * fan_in], filters, fan_in);
            let dy = &dy[group * filters * places..];
            let dy = Operand::new(dy, Axis::new(filters, places), self.places_axis(samples));
            let columns = Axis::levels([(1, 0), (samples, unfolded), (places, 1)]);
            let u = Target::new(&mut room[group * fan_in * places..], fan_in, places, columns);
            product(w.reversed_axes(), dy, u, Update::Overwrite, packing);
        }
        for (unfolded, dx) in room.chunks_exact(unfolded).zip(dx.chunks_exact_mut(self.elements())) {
            self.fold(unfolded, dx);
        }
    }

    /// Overwrites the gradient by the input, of a few samples, for a stride of 1: the convolution of dY with the kernels turned
    /// around, filters and channels exchanged.
    fn input_gradient_by_convolution<S: Scalar>(
        &self,
        images: &Images,
        turned: &[S],
        dy: &[S],
        dx: &mut [S],
        room: &mut [S],
        packing: &mut Packing<S>,
    ) {
        let Window { plane, size, .. } = self.window;
        let (samples, area) = (dx.len() / self.elements(), plane.height * plane.width);
        let (channels, filters) = (self.channels / self.groups, self.group_filters());
        let dy = images.padded(dy, samples, room);
        let depth = filters * size.height * size.width;
        for group in 0..self.groups {
            let w = matrix(&turned[group * channels * depth..][..channels * depth], channels, depth);
            let seen = group * filters..(group + 1) * filters;
            let u = images.unfolded(dy, samples, seen, (size, 1.into(), plane));
            let places = Axis::levels([(1, 0), (samples, self.elements()), (area, 1)]);
            let dx = Target::new(&mut dx[group * channels * area..], channels, area, places);
            product(w, u, dx, Update::Overwrite, packing);
        }
    }

    /// The kernels turned around, filters and channels exchanged: (groups, channels, filters, kernel height, kernel width).
    fn turn<S: Scalar>(&self, weight: &[S], turned: &mut [S]) {
        let area = self.window.size.height * self.window.size.width;
        let (channels, filters) = (self.channels / self.groups, self.group_filters());
        for (place, kernel) in weight.chunks_exact(area).enumerate() {
            let (filter, channel) = (place / channels, place % channels);
            let (group, filter) = (filter / filters, filter % filters);
            let turned = &mut turned[((group * channels + channel) * filters + filter) * area..][..area];
            for (turned, weight) in turned.iter_mut().zip(kernel.iter().rev()) {
                *turned = *weight;
            }
        }
    }
}

impl<S: Scalar> Passes<S> for Conv2dLayer {
    fn forward(&self, parameters: &[S], input: &[S], output: &mut [S], memory: Memory<'_, S>) {
        let (fan_in, places, filters) = (self.fan_in(), self.places(), self.group_filters());
        let (weight, bias) = parameters.split_at(self.filters * fan_in);
        for (plane, bias) in output.chunks_exact_mut(places).zip(bias.iter().cycle()) {
            plane.fill(*bias);
        }
        let at_once = self.samples_at_once();
        let inputs = input.chunks(at_once * self.elements());
        for (x, y) in inputs.zip(output.chunks_mut(at_once * self.outputs())) {
            let samples = x.len() / self.elements();
            let x = self.incoming().padded(x, samples, memory.room);
            for (group, w) in weight.chunks_exact(filters * fan_in).enumerate() {
                let y = &mut y[group * filters * places..];
                let y = Target::new(y, filters, places, self.places_axis(samples));
                let u = self.unfolded(x, samples, group);
                product(matrix(w, filters, fan_in), u, y, Update::Add, memory.packing);
            }
        }
    }

    /// dW = Σₙ dYₙ·unfold(Xₙ)ᵀ, db = Σₙ Σ over the places of dYₙ, dXₙ = fold(Wᵀ·dYₙ).
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        input_gradient: Option<&mut [S]>,
        memory: Memory<'_, S>,
    ) {
        let (fan_in, places, filters) = (self.fan_in(), self.places(), self.group_filters());
        let (weight, _) = passed.parameters.split_at(self.filters * fan_in);
        parameter_gradient.fill(S::ZERO);
        let (weight_gradient, bias_gradient) = parameter_gradient.split_at_mut(self.filters * fan_in);
        for (place, plane) in passed.output_gradient.chunks_exact(places).enumerate() {
            bias_gradient[place % self.filters] += sum(plane);
        }
        let at_once = self.samples_at_once();
        let inputs = passed.input.chunks(at_once * self.elements());
        for (x, dy) in inputs.zip(passed.output_gradient.chunks(at_once * self.outputs())) {
            let samples = x.len() / self.elements();
            let x = self.incoming().padded(x, samples, memory.room);
            for (group, dw) in weight_gradient.chunks_exact_mut(filters * fan_in).enumerate() {
                let dy = &dy[group * filters * places..];
                let dy = Operand::new(dy, Axis::new(filters, places), self.places_axis(samples));
                let u = self.unfolded(x, samples, group);
                let dw = matrix_mut(dw, filters, fan_in);
                product(dy, u.transposed(), dw, Update::Add, memory.packing);
            }
        }
        let Some(input_gradient) = input_gradient else { return };
        let outgoing = self.outgoing();
        let (turned, room) = match outgoing {
            Some(_) => memory.room.split_at_mut(weight.len()),
            None => memory.room.split_at_mut(0),
        };
        if outgoing.is_some() {
            self.turn(weight, turned);
        }
        let gradients = passed.output_gradient.chunks(at_once * self.outputs());
        for (dx, dy) in input_gradient.chunks_mut(at_once * self.elements()).zip(gradients) {
            match &outgoing {
                Some(images) => self.input_gradient_by_convolution(images, turned, dy, dx, room, memory.packing),
                None => self.input_gradient_by_folding(weight, dy, dx, room, memory.packing),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use crate::layer::gradient_check::{check, fit};

    #[test]
    fn its_gradients_are_the_central_differences() {
        for (filters, groups, kernel, stride, padding, incoming) in [
            (1, 1, [1, 1], [1, 1], [0, 0], [1, 1, 1]),
            (3, 1, [3, 3], [1, 1], [1, 1], [2, 5, 6]),
            (2, 1, [5, 3], [1, 1], [0, 1], [2, 7, 5]),
            (2, 1, [3, 5], [1, 1], [4, 2], [1, 4, 6]),
            (4, 1, [2, 3], [2, 3], [1, 2], [3, 6, 7]),
            (2, 1, [3, 3], [1, 2], [0, 0], [1, 5, 8]),
            (2, 1, [1, 1], [3, 2], [3, 4], [1, 2, 2]),
            (4, 2, [3, 2], [1, 2], [1, 0], [6, 5, 6]),
            (6, 3, [3, 3], [2, 1], [1, 1], [3, 5, 6]),
            (3, 3, [1, 1], [1, 1], [0, 0], [3, 2, 3]),
        ] {
            let keys = Conv2d {
                stride: stride.into(),
                padding: padding.into(),
                groups,
                ..Conv2d::new(filters, kernel)
            };
            check(&fit(keys, &incoming), incoming.iter().product(), 3);
        }
    }

    #[test]
    fn groups_that_do_not_divide_channels_and_filters_are_refused() {
        let misfit = |filters, groups| {
            let keys = Conv2d {
                groups,
                ..Conv2d::new(filters, 1)
            };
            Layer::new(&keys.into(), &[4, 3, 3], "relu").unwrap_err()
        };
        assert_eq!(
            misfit(6, 4),
            "has groups = 4, but relu gives 4 channels, and filters = 6; set groups to a divisor of both"
        );
        assert!(misfit(6, 3).contains("a divisor of both"));
        assert!(misfit(4, 0).contains("set groups to 1"));
    }
}
