use super::{Keys, Layer, LayerSpec, Memory, Needs, Passed, Passes, Sizes, Tensor, shape_text};
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{OnePiece, flat, flat_mut, tensor, tensor_mut};
use crate::layer::sequential::{MAX_LAYERS, Misfit, NO_TOKENS, Sequential};
use ndarray::{ArrayView4, ArrayViewMut4, Zip};
use serde::{Deserialize, Serialize};

/// Adds what layers make of the input to the input (He et al., arXiv 1512.03385): Y = P(X) + F(X), where F is the
/// layers one after the other, and P the projection, or nothing: P(X) = X.
///
/// Its parameters are named as those of a PyTorch module with a `Sequential` called `layers` and a module called
/// `projection`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// F, from the input on.
    pub layers: Vec<LayerSpec>,
    /// P, where the layers change the shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<Box<LayerSpec>>,
}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct ResidualLayer {
    layers: Sequential,
    projection: Option<Box<Layer>>,
    projection_needs: Needs,
    /// Those of the layers, then those of the projection.
    tensors: Vec<Tensor>,
}

impl Keys for Residual {
    type Layer = ResidualLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<ResidualLayer, String> {
        if self.layers.is_empty() || self.layers.len() > MAX_LAYERS {
            return Err(format!("has {} layers; give it 1 to {MAX_LAYERS}", self.layers.len()));
        }
        let (layers, tensors) =
            Sequential::new(&self.layers, incoming, from).map_err(|Misfit { place, problem }| {
                format!("in its layer {} ({}): {problem}", place + 1, self.layers[place].kind())
            })?;
        let projection = match &self.projection {
            Some(spec) => Some(
                Layer::new(spec, incoming, from)
                    .map_err(|problem| format!("in its projection ({}): {problem}", spec.kind()))?,
            ),
            None => None,
        };
        for (part, tokens) in [
            ("layer 1", layers.tokens()),
            ("projection", projection.as_ref().and_then(Layer::tokens)),
        ] {
            if tokens.is_some() {
                return Err(format!("in its {part} (embedding): {NO_TOKENS}"));
            }
        }
        let given = shape_text(layers.output_shape());
        match &projection {
            Some(layer) if layer.output_shape() != layers.output_shape() => {
                return Err(format!(
                    "adds what its layers give, {given}, to what its projection gives, {}; let its projection give \
                     {given}, too",
                    shape_text(&layer.output_shape()),
                ));
            }
            None if incoming != layers.output_shape() => {
                let comes_in = shape_text(incoming);
                return Err(format!(
                    "adds what its layers give, {given}, to what {from} gives, {comes_in}; let its layers give \
                     {comes_in}, too, or add a projection to {given}"
                ));
            }
            _ => {}
        }
        let inside = |part: &'static str| {
            move |tensor: Tensor| Tensor {
                name: format!("{part}.{}", tensor.name),
                ..tensor
            }
        };
        let projected = projection.iter().flat_map(Layer::tensors).map(inside("projection"));
        Ok(ResidualLayer {
            tensors: tensors.into_iter().map(inside("layers")).chain(projected).collect(),
            projection_needs: projection.as_ref().map_or(Needs::default(), Layer::needs),
            projection: projection.map(Box::new),
            layers,
        })
    }

    fn hash(&self, hash: &mut Fnv1a) {
        hash.word(self.layers.len());
        self.layers.iter().for_each(|layer| layer.hash(hash));
        hash.word(usize::from(self.projection.is_some()));
        self.projection.iter().for_each(|layer| layer.hash(hash));
    }
}

impl Sizes for ResidualLayer {
    fn output_shape(&self) -> Vec<usize> {
        self.layers.output_shape().to_vec()
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.tensors.clone()
    }

    /// The layers', then the projection's, what it gives, and a second gradient by the input.
    fn needs(&self) -> Needs {
        let (layers, projection) = (self.layers.needs(), self.projection_needs);
        let both = self.layers.inputs().saturating_add(self.projected());
        let beside = self.projection.as_ref().map_or(0, |_| both);
        Needs {
            indices: layers.indices.saturating_add(projection.indices),
            numbers: layers.numbers.saturating_add(projection.numbers).saturating_add(beside),
            room: layers.room.max(projection.room),
        }
    }

    /// The neediest of the two ways, which follow each other.
    fn evaluation_needs(&self) -> Needs {
        let projection = self.projection.as_ref().map(|layer| layer.evaluation_needs());
        let (layers, projection) = (self.layers.evaluation_needs(), projection.unwrap_or_default());
        Needs {
            indices: layers.indices.max(projection.indices),
            numbers: layers.numbers.max(projection.numbers),
            room: layers.room.max(projection.room),
        }
    }
}

/// The memory of each of the two ways, what the projection gives, and the second gradient by the input.
struct Ways<'a, S> {
    layers: Memory<'a, S>,
    projection_indices: &'a mut [u32],
    projection_numbers: &'a mut [S],
    projected: &'a mut [S],
    second: &'a mut [S],
}

impl ResidualLayer {
    /// How many numbers a projection gives for one sample.
    fn projected(&self) -> usize {
        self.layers.output_shape().iter().product()
    }

    fn ways<'a, S>(&self, memory: Memory<'a, S>, batch: usize) -> Ways<'a, S> {
        let layers = self.layers.needs();
        let (indices, projection_indices) = memory.indices.split_at_mut(layers.indices * batch);
        let (numbers, rest) = memory.numbers.split_at_mut(layers.numbers * batch);
        let (projection_numbers, rest) = rest.split_at_mut(self.projection_needs.numbers * batch);
        let beside = self.projection.as_ref().map_or(0, |_| self.projected() * batch);
        let (projected, second) = rest.split_at_mut(beside);
        Ways {
            layers: Memory {
                indices,
                numbers,
                room: memory.room,
                packing: memory.packing,
                random: memory.random,
            },
            projection_indices,
            projection_numbers,
            projected,
            second,
        }
    }
}

/// Adds numbers to others of the same shape.
fn add<S: Scalar>(sums: ArrayViewMut4<'_, S>, values: ArrayView4<'_, S>) {
    Zip::from(sums.line())
        .and(values.line())
        .for_each(|sum, value| *sum += *value);
}

impl<S: Scalar> Passes<S> for ResidualLayer {
    fn forward(
        &self,
        parameters: &[S],
        input: ArrayView4<'_, S>,
        mut output: ArrayViewMut4<'_, S>,
        memory: Memory<'_, S>,
    ) {
        let batch = input.shape()[0];
        let (inner, projection) = parameters.split_at(self.layers.parameter_count());
        let Ways {
            layers:
                Memory {
                    indices,
                    numbers,
                    room,
                    packing,
                    mut random,
                },
            projection_indices,
            projection_numbers,
            projected,
            ..
        } = self.ways(memory, batch);
        match &self.projection {
            Some(layer) => {
                let memory = Memory {
                    indices: projection_indices,
                    numbers: projection_numbers,
                    room: &mut *room,
                    packing: &mut *packing,
                    random: random.as_deref_mut(),
                };
                let mut projected = tensor_mut(projected, output.raw_dim());
                layer
                    .passes()
                    .forward(projection, input.view(), projected.view_mut(), memory);
                flat_mut(output.view_mut()).copy_from_slice(flat(projected.view()));
            }
            None => flat_mut(output.view_mut()).copy_from_slice(flat(input.view())),
        }
        let memory = Memory {
            indices,
            numbers: &mut *numbers,
            room,
            packing,
            random,
        };
        self.layers.forward(inner, input, memory);
        add(output, self.layers.output(numbers, batch));
    }

    fn evaluate(
        &self,
        parameters: &[S],
        input: ArrayView4<'_, S>,
        mut output: ArrayViewMut4<'_, S>,
        memory: Memory<'_, S>,
    ) {
        let batch = input.shape()[0];
        let (inner, projection) = parameters.split_at(self.layers.parameter_count());
        match &self.projection {
            Some(layer) => {
                let needs = layer.evaluation_needs();
                let memory = Memory {
                    indices: &mut memory.indices[..needs.indices * batch],
                    numbers: &mut memory.numbers[..needs.numbers * batch],
                    room: &mut *memory.room,
                    packing: &mut *memory.packing,
                    random: None,
                };
                layer
                    .passes()
                    .evaluate(projection, input.view(), output.view_mut(), memory);
            }
            None => flat_mut(output.view_mut()).copy_from_slice(flat(input.view())),
        }
        add(output, self.layers.evaluate(inner, input, memory));
    }

    /// dX = P′(dY) + F′(dY).
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        memory: Memory<'_, S>,
    ) {
        let batch = passed.input.shape()[0];
        let (inner, projection) = passed.parameters.split_at(self.layers.parameter_count());
        let (inner_gradient, projection_gradient) = parameter_gradient.split_at_mut(self.layers.parameter_count());
        let Ways {
            layers:
                Memory {
                    indices,
                    numbers,
                    room,
                    packing,
                    mut random,
                },
            projection_indices,
            projection_numbers,
            projected,
            second,
        } = self.ways(memory, batch);
        let mut input_gradient = input_gradient;
        let (_, output_gradient) = self.layers.output_and_its_gradient(numbers, batch);
        flat_mut(output_gradient).copy_from_slice(flat(passed.output_gradient.view()));
        let memory = Memory {
            indices,
            numbers,
            room: &mut *room,
            packing: &mut *packing,
            random: random.as_deref_mut(),
        };
        let wanted = input_gradient.as_mut().map(|gradient| gradient.view_mut());
        self.layers
            .backward(inner, passed.input.view(), inner_gradient, wanted, memory);
        let Some(layer) = &self.projection else {
            if let Some(input_gradient) = input_gradient {
                add(input_gradient, passed.output_gradient);
            }
            return;
        };
        let memory = Memory {
            indices: projection_indices,
            numbers: projection_numbers,
            room,
            packing,
            random,
        };
        let shape = passed.input.raw_dim();
        let wanted = input_gradient.is_some().then(|| tensor_mut(&mut *second, shape));
        let passed = Passed {
            parameters: projection,
            output: tensor(projected, passed.output.raw_dim()),
            ..passed
        };
        layer.passes().backward(passed, projection_gradient, wanted, memory);
        if let Some(input_gradient) = input_gradient {
            add(input_gradient, tensor(second, shape));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::gradient_check::{check, fit};
    use crate::layer::{Conv2d, Embedding, Gelu, GroupNorm, Linear, MaxPool2d, Tanh};

    fn residual(layers: &[LayerSpec], projection: Option<LayerSpec>) -> Residual {
        Residual {
            layers: layers.to_vec(),
            projection: projection.map(Box::new),
        }
    }

    fn conv(filters: usize, kernel: usize, stride: usize, padding: usize) -> LayerSpec {
        let (stride, padding) = (stride.into(), padding.into());
        Conv2d {
            stride,
            padding,
            ..Conv2d::new(filters, kernel)
        }
        .into()
    }

    #[test]
    fn its_gradients_are_the_central_differences() {
        let linear = |outputs| Linear::new(outputs).into();
        check(
            &fit(residual(&[linear(7), Tanh {}.into(), linear(5)], None), &[5]),
            5,
            3,
        );
        let convolutions = [
            conv(4, 3, 2, 1),
            GroupNorm { groups: 2 }.into(),
            Gelu {}.into(),
            conv(4, 3, 1, 1),
        ];
        let projected = residual(&convolutions, Some(conv(4, 1, 2, 0)));
        check(&fit(projected, &[2, 5, 6]), 60, 2);
        let nested = residual(&[residual(&[linear(5)], None).into(), linear(5)], None);
        check(&fit(nested, &[5]), 5, 2);
        check(&fit(residual(&[linear(5)], Some(Tanh {}.into())), &[5]), 5, 2);
        let pooled = residual(&[MaxPool2d::new(2).into()], Some(conv(2, 2, 2, 0)));
        check(&fit(pooled, &[2, 4, 4]), 32, 2);
    }

    #[test]
    fn its_tensors_are_named_by_where_they_are() {
        let layer = fit(
            residual(&[Tanh {}.into(), Linear::new(5).into()], Some(Linear::new(5).into())),
            &[3],
        );
        let names: Vec<_> = layer.tensors().into_iter().map(|tensor| tensor.name).collect();
        assert_eq!(
            names,
            [
                "layers.1.weight",
                "layers.1.bias",
                "projection.weight",
                "projection.bias"
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_named_by_where_it_is() {
        let misfit = |keys: Residual, incoming: &[usize]| Layer::new(&keys.into(), incoming, "flatten").unwrap_err();
        let inside = misfit(residual(&[Tanh {}.into(), conv(2, 3, 1, 1)], None), &[8]);
        assert!(
            inside
                .starts_with("in its layer 2 (conv2d): expects an image (channels, height, width), but tanh gives 8;"),
            "{inside}"
        );
        assert_eq!(
            misfit(residual(&[Linear::new(5).into()], None), &[8]),
            "adds what its layers give, 5, to what flatten gives, 8; let its layers give 8, too, or add a projection \
             to 5"
        );
        assert_eq!(
            misfit(residual(&[Linear::new(5).into()], Some(Linear::new(6).into())), &[8]),
            "adds what its layers give, 5, to what its projection gives, 6; let its projection give 5, too"
        );
        // Either fix of the first, and that of the second, fits.
        let fits = |keys: Residual| Layer::new(&keys.into(), &[8], "flatten").is_ok();
        assert!(fits(residual(&[Linear::new(8).into()], None)));
        assert!(fits(residual(&[Linear::new(5).into()], Some(Linear::new(5).into()))));
        assert!(misfit(residual(&[], None), &[8]).contains("has 0 layers"));
    }

    #[test]
    fn an_embedding_has_no_place_in_it() {
        let embedding: LayerSpec = Embedding { tokens: 5, width: 3 }.into();
        for (layers, projection, place) in [
            (&[embedding.clone()][..], Some(embedding.clone()), "layer 1"),
            (&[Tanh {}.into(), embedding.clone()], None, "layer 2"),
            (&[Tanh {}.into()], Some(embedding.clone()), "projection"),
        ] {
            let spec = residual(layers, projection).into();
            let error = Layer::new(&spec, &[8], "the model's input").unwrap_err();
            assert_eq!(error, format!("in its {place} (embedding): {NO_TOKENS}"));
        }
    }
}
