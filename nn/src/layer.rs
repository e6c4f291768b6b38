//! The layers: one file for each kind, with forward, backward and the check of its gradient.
//!
//! All of them take a whole minibatch as one slice, sample after sample, and write every number of their results, so
//! that nothing depends on what a buffer held before.

mod conv2d;
mod flatten;
#[cfg(test)]
pub(crate) mod gradient_check;
mod linear;
mod max_pool2d;
mod relu;
mod window;

use crate::kernel::Packing;
use crate::scalar::Scalar;
use crate::spec::LayerSpec;

/// The most numbers that one sample may have between two layers, or that a convolution may unfold it to. As `f32` they
/// are 256 MiB: more does not fit beside the parameters into the 4 GiB that a tab can address.
pub(crate) const MAX_ELEMENTS: usize = 1 << 26;

/// A layer whose sizes are known to fit.
#[derive(Clone, Debug)]
pub(crate) enum Layer {
    Linear(linear::Linear),
    Conv2d(conv2d::Conv2d),
    MaxPool2d(max_pool2d::MaxPool2d),
    Flatten(flatten::Flatten),
    Relu(relu::Relu),
}

/// Memory that a layer works in, besides what goes in and comes out.
pub(crate) struct Memory<'a, S> {
    /// What the forward pass keeps for the backward pass, `kept_per_sample` for each sample.
    pub(crate) kept: &'a mut [u32],
    /// Room for one sample, unfolded: at least `unfolded` numbers.
    pub(crate) unfolded: &'a mut [S],
    pub(crate) packing: &'a mut Packing<S>,
}

/// What the backward pass may look at.
pub(crate) struct Passed<'a, S> {
    pub(crate) parameters: &'a [S],
    /// What went in, and what came out of the forward pass.
    pub(crate) input: &'a [S],
    pub(crate) output: &'a [S],
    /// The loss's gradient by the output.
    pub(crate) output_gradient: &'a [S],
}

/// A layer's two passes.
pub(crate) trait Passes<S: Scalar> {
    /// Overwrites the output.
    fn forward(&self, parameters: &[S], input: &[S], output: &mut [S], memory: Memory<'_, S>);

    /// Overwrites the gradient by the parameters with the sum over the samples, and that by the input where it is
    /// wanted: nobody needs it of the first layer that has parameters.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        input_gradient: Option<&mut [S]>,
        memory: Memory<'_, S>,
    );
}

/// One tensor of a layer's parameters.
pub(crate) struct Tensor {
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<usize>,
}

impl Layer {
    /// Fits a layer to what comes in from the layer (or input) called `from`. An error says what comes in, what is
    /// needed, and the mend.
    pub(crate) fn new(spec: &LayerSpec, incoming: &[usize], from: &str) -> Result<Layer, String> {
        let layer = match spec {
            LayerSpec::Linear { outputs, inputs } => {
                Layer::Linear(linear::Linear::new(*outputs, *inputs, incoming, from)?)
            }
            LayerSpec::Conv2d {
                filters,
                kernel,
                stride,
                padding,
                channels,
            } => Layer::Conv2d(conv2d::Conv2d::new(
                *filters,
                [*kernel, *stride, *padding],
                *channels,
                incoming,
                from,
            )?),
            LayerSpec::MaxPool2d { size, stride } => Layer::MaxPool2d(max_pool2d::MaxPool2d::new(
                *size,
                stride.unwrap_or(*size),
                incoming,
                from,
            )?),
            LayerSpec::Flatten => Layer::Flatten(flatten::Flatten::new(incoming)),
            LayerSpec::Relu => Layer::Relu(relu::Relu::new(incoming)),
        };
        match count(&layer.output_shape()) {
            Some(elements) if elements <= MAX_ELEMENTS => Ok(layer),
            _ => Err(format!(
                "gives {}, but no layer may give more than {MAX_ELEMENTS} numbers; make it smaller",
                shape_text(&layer.output_shape())
            )),
        }
    }

    /// The shape of one sample that comes out.
    pub(crate) fn output_shape(&self) -> Vec<usize> {
        match self {
            Layer::Linear(layer) => vec![layer.outputs],
            Layer::Conv2d(layer) => layer.output_shape(),
            Layer::MaxPool2d(layer) => layer.output_shape(),
            Layer::Flatten(layer) => vec![layer.elements],
            Layer::Relu(layer) => layer.shape.clone(),
        }
    }

    /// How many numbers come out for one sample.
    pub(crate) fn outputs(&self) -> usize {
        match self {
            Layer::Linear(layer) => layer.outputs,
            Layer::Conv2d(layer) => layer.outputs(),
            Layer::MaxPool2d(layer) => layer.outputs(),
            Layer::Flatten(layer) => layer.elements,
            Layer::Relu(layer) => layer.shape.iter().product(),
        }
    }

    /// The tensors of its parameters, in the order in which they lie in the vector.
    pub(crate) fn tensors(&self) -> Vec<Tensor> {
        let weight_and_bias = |shape: Vec<usize>| {
            let bias = Tensor {
                name: "bias",
                shape: vec![shape[0]],
            };
            vec![Tensor { name: "weight", shape }, bias]
        };
        match self {
            Layer::Linear(layer) => weight_and_bias(vec![layer.outputs, layer.inputs]),
            Layer::Conv2d(layer) => weight_and_bias(layer.weight_shape()),
            Layer::MaxPool2d(_) | Layer::Flatten(_) | Layer::Relu(_) => Vec::new(),
        }
    }

    /// How many numbers of a sample one output is a sum over: what initialisation goes by.
    pub(crate) fn fan_in(&self) -> usize {
        match self {
            Layer::Linear(layer) => layer.inputs,
            Layer::Conv2d(layer) => layer.fan_in(),
            Layer::MaxPool2d(_) | Layer::Flatten(_) | Layer::Relu(_) => 0,
        }
    }

    /// How many numbers it keeps of each sample from the forward to the backward pass.
    pub(crate) fn kept_per_sample(&self) -> usize {
        match self {
            Layer::MaxPool2d(layer) => layer.outputs(),
            _ => 0,
        }
    }

    /// How much room it needs to unfold one sample.
    pub(crate) fn unfolded(&self) -> usize {
        match self {
            Layer::Conv2d(layer) => layer.unfolded(),
            _ => 0,
        }
    }

    /// The passes, for either kind of number.
    pub(crate) fn passes<S: Scalar>(&self) -> &dyn Passes<S> {
        match self {
            Layer::Linear(layer) => layer,
            Layer::Conv2d(layer) => layer,
            Layer::MaxPool2d(layer) => layer,
            Layer::Flatten(layer) => layer,
            Layer::Relu(layer) => layer,
        }
    }
}

/// How many numbers a shape holds, if they can be counted.
pub(crate) fn count(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1_usize, |product, size| product.checked_mul(*size))
}

/// A shape as PyTorch prints it, but for a vector's, which is only its number.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    match shape {
        [one] => one.to_string(),
        _ => format!(
            "({})",
            shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
        ),
    }
}
