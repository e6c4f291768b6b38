use super::window::{Window, image};
use super::{MAX_ELEMENTS, Memory, Passed, Passes, count};
use crate::extent::Extent;
use crate::kernel::{Update, product};
use crate::lanes::{add, sum};
use crate::scalar::Scalar;
use crate::tensor::{matrix, matrix_mut};

/// Convolution (cross-correlation, strictly), like `torch.nn.Conv2d`: Yₙ = W·unfold(Xₙ) + b for each sample n.
///
/// X: (batch, channels, height, width), W: (filters, channels, kernel height, kernel width), b: (filters),
/// Y: (batch, filters, out height, out width), unfold(Xₙ): (fan in, places) with fan in = channels · kernel height ·
/// kernel width and places = out height · out width.
#[derive(Clone, Debug)]
pub(crate) struct Conv2d {
    channels: usize,
    filters: usize,
    window: Window,
}

impl Conv2d {
    pub(crate) fn new(
        filters: usize,
        [kernel, stride, padding]: [Extent; 3],
        channels: Option<usize>,
        incoming: &[usize],
        from: &str,
    ) -> Result<Conv2d, String> {
        let [given, height, width] = image(incoming, from)?;
        if let Some(expected) = channels.filter(|expected| *expected != given) {
            return Err(format!(
                "expects {expected} channels, but {from} gives {given}; set channels = {given}"
            ));
        }
        if filters == 0 {
            return Err("has filters = 0; set filters to 1 or more".into());
        }
        let window = Window::new(Extent { height, width }, "kernel", kernel, stride, padding)?;
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
        Ok(Conv2d {
            channels: given,
            filters,
            window,
        })
    }

    pub(crate) fn outputs(&self) -> usize {
        self.filters * self.places()
    }

    pub(crate) fn output_shape(&self) -> Vec<usize> {
        vec![self.filters, self.window.places.height, self.window.places.width]
    }

    pub(crate) fn weight_shape(&self) -> Vec<usize> {
        vec![
            self.filters,
            self.channels,
            self.window.size.height,
            self.window.size.width,
        ]
    }

    pub(crate) fn fan_in(&self) -> usize {
        self.channels * self.window.size.height * self.window.size.width
    }

    pub(crate) fn unfolded(&self) -> usize {
        self.fan_in() * self.places()
    }

    fn places(&self) -> usize {
        self.window.places.height * self.window.places.width
    }

    fn elements(&self) -> usize {
        self.channels * self.window.plane.height * self.window.plane.width
    }

    /// Row (channel, kernel row, kernel column) of the unfolded sample is what that corner of the kernel sees at each
    /// of its places: the channel's plane, shifted.
    fn unfold<S: Scalar>(&self, sample: &[S], unfolded: &mut [S]) {
        let Window {
            plane,
            size,
            stride,
            padding,
            places,
        } = self.window;
        let mut rows = unfolded.chunks_exact_mut(self.places());
        for x in sample.chunks_exact(plane.height * plane.width) {
            for (ky, kx) in (0..size.height).flat_map(|ky| (0..size.width).map(move |kx| (ky, kx))) {
                let Some(row) = rows.next() else { return };
                let (inside_y, inside_x) = (self.window.rows(ky), self.window.columns(kx));
                if inside_y.is_empty() || inside_x.is_empty() {
                    row.fill(S::ZERO);
                    continue;
                }
                let first_x = inside_x.start * stride.width + kx - padding.width;
                row[..inside_y.start * places.width].fill(S::ZERO);
                row[inside_y.end * places.width..].fill(S::ZERO);
                if self.keeps_rows_apart() {
                    // One copy instead of one for each row; what wraps around is then set to zero.
                    let from = (inside_y.start + ky - padding.height) * plane.width + first_x;
                    let place = inside_y.start * places.width + inside_x.start;
                    let length = (inside_y.len() - 1) * places.width + inside_x.len();
                    row[place..place + length].copy_from_slice(&x[from..from + length]);
                    for row in row[inside_y.start * places.width..]
                        .chunks_exact_mut(places.width)
                        .take(inside_y.len())
                    {
                        row[..inside_x.start].fill(S::ZERO);
                        row[inside_x.end..].fill(S::ZERO);
                    }
                    continue;
                }
                for y in inside_y {
                    let row = &mut row[y * places.width..][..places.width];
                    row[..inside_x.start].fill(S::ZERO);
                    row[inside_x.end..].fill(S::ZERO);
                    let x = &x[(y * stride.height + ky - padding.height) * plane.width + first_x..];
                    let row = &mut row[inside_x.clone()];
                    if stride.width == 1 {
                        row.copy_from_slice(&x[..row.len()]);
                    } else {
                        for (place, value) in row.iter_mut().zip(x.iter().step_by(stride.width)) {
                            *place = *value;
                        }
                    }
                }
            }
        }
    }

    /// The reverse of `unfold`: adds each number of the unfolded sample to where it came from. What came from the
    /// padding is dropped, and may be set to zero on the way.
    fn fold<S: Scalar>(&self, unfolded: &mut [S], sample: &mut [S]) {
        let Window {
            plane,
            size,
            stride,
            padding,
            places,
        } = self.window;
        sample.fill(S::ZERO);
        let mut rows = unfolded.chunks_exact_mut(self.places());
        for x in sample.chunks_exact_mut(plane.height * plane.width) {
            for (ky, kx) in (0..size.height).flat_map(|ky| (0..size.width).map(move |kx| (ky, kx))) {
                let Some(row) = rows.next() else { return };
                let (inside_y, inside_x) = (self.window.rows(ky), self.window.columns(kx));
                if inside_y.is_empty() || inside_x.is_empty() {
                    continue;
                }
                let first_x = inside_x.start * stride.width + kx - padding.width;
                if self.keeps_rows_apart() {
                    for row in row[inside_y.start * places.width..]
                        .chunks_exact_mut(places.width)
                        .take(inside_y.len())
                    {
                        row[..inside_x.start].fill(S::ZERO);
                        row[inside_x.end..].fill(S::ZERO);
                    }
                    let from = inside_y.start * places.width + inside_x.start;
                    let place = (inside_y.start + ky - padding.height) * plane.width + first_x;
                    let length = (inside_y.len() - 1) * places.width + inside_x.len();
                    add(&mut x[place..place + length], &row[from..from + length]);
                    continue;
                }
                for y in inside_y {
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

    /// Whether the output's rows are as long as the input's and one window's step is one number: then a whole plane is
    /// shifted in one piece.
    fn keeps_rows_apart(&self) -> bool {
        self.window.stride == 1.into() && self.window.places.width == self.window.plane.width
    }
}

impl<S: Scalar> Passes<S> for Conv2d {
    fn forward(&self, parameters: &[S], input: &[S], output: &mut [S], memory: Memory<'_, S>) {
        let (fan_in, places) = (self.fan_in(), self.places());
        let (weight, bias) = parameters.split_at(self.filters * fan_in);
        let unfolded = &mut memory.unfolded[..self.unfolded()];
        let samples = input.chunks_exact(self.elements());
        for (x, y) in samples.zip(output.chunks_exact_mut(self.filters * places)) {
            self.unfold(x, unfolded);
            for (plane, bias) in y.chunks_exact_mut(places).zip(bias) {
                plane.fill(*bias);
            }
            let (w, u) = (matrix(weight, self.filters, fan_in), matrix(unfolded, fan_in, places));
            product(w, u, matrix_mut(y, self.filters, places), Update::Add, memory.packing);
        }
    }

    /// dW = Σₙ dYₙ·unfold(Xₙ)ᵀ, db = Σₙ Σ over the places of dYₙ, dXₙ = fold(Wᵀ·dYₙ).
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        mut input_gradient: Option<&mut [S]>,
        memory: Memory<'_, S>,
    ) {
        let (fan_in, places, elements) = (self.fan_in(), self.places(), self.elements());
        let (weight, _) = passed.parameters.split_at(self.filters * fan_in);
        let unfolded = &mut memory.unfolded[..self.unfolded()];
        parameter_gradient.fill(S::ZERO);
        let (weight_gradient, bias_gradient) = parameter_gradient.split_at_mut(self.filters * fan_in);
        let samples = passed.input.chunks_exact(elements);
        for (sample, (x, dy)) in samples
            .zip(passed.output_gradient.chunks_exact(self.filters * places))
            .enumerate()
        {
            for (bias_gradient, plane) in bias_gradient.iter_mut().zip(dy.chunks_exact(places)) {
                *bias_gradient += sum(plane);
            }
            self.unfold(x, unfolded);
            let (dy, u) = (matrix(dy, self.filters, places), matrix(unfolded, fan_in, places));
            let dw = matrix_mut(weight_gradient, self.filters, fan_in);
            product(dy, u.reversed_axes(), dw, Update::Add, memory.packing);
            if let Some(input_gradient) = &mut input_gradient {
                let w = matrix(weight, self.filters, fan_in);
                let du = matrix_mut(unfolded, fan_in, places);
                product(w.reversed_axes(), dy, du, Update::Overwrite, memory.packing);
                self.fold(unfolded, &mut input_gradient[sample * elements..][..elements]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use crate::layer::gradient_check::check;

    #[test]
    fn its_gradients_are_the_central_differences() {
        for (filters, kernel, stride, padding, incoming) in [
            (1, [1, 1], [1, 1], [0, 0], [1, 1, 1]),
            (3, [3, 3], [1, 1], [1, 1], [2, 5, 6]),
            (2, [5, 3], [1, 1], [0, 1], [2, 7, 5]),
            (2, [3, 5], [1, 1], [4, 2], [1, 4, 6]),
            (4, [2, 3], [2, 3], [1, 2], [3, 6, 7]),
            (2, [3, 3], [1, 2], [0, 0], [1, 5, 8]),
            (2, [1, 1], [3, 2], [3, 4], [1, 2, 2]),
        ] {
            let sizes = [kernel.into(), stride.into(), padding.into()];
            let layer = Conv2d::new(filters, sizes, None, &incoming, "the input").unwrap();
            check(&Layer::Conv2d(layer), incoming.iter().product(), 3);
        }
    }
}
