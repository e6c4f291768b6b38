//! The layers: one file for each kind, with its keys in the run file, both passes and the check of its gradient.
//!
//! A further kind is one more file here and one more line in the list below. All of them take a whole minibatch as one
//! view, (batch, channels, height, width) or what stands for it (`shape.rs`), which lies in one piece,
//! row-major. They write every number of their results, so that nothing depends on what a buffer held before.

mod activation;
mod affine;
#[cfg(test)]
pub(crate) mod gradient_check;
mod images;
mod normalization;
mod sequence;
pub(crate) mod sequential;
mod softmax;
mod window;

use crate::fnv1a::Fnv1a;
use crate::kernel::Packing;
use crate::kernel::scalar::Scalar;
pub(crate) use crate::parameters::Tensor;
use crate::random::Generator;
pub(crate) use crate::shape::{count, shape_text};
use ndarray::{ArrayView4, ArrayViewMut4};
use serde::{Deserialize, Serialize};

/// The most numbers that one sample may have between two layers, or that a convolution may unfold it to. As `f32` they
/// are 256 MiB: more does not fit beside the parameters into the 4 GiB that a tab can address.
pub(crate) const MAX_ELEMENTS: usize = 1 << 26;

/// Makes of the list of kinds: their modules, [`LayerSpec`] with their keys, and [`Layer`].
macro_rules! kinds {
    ($($number:literal $kind:literal $file:ident::{$Keys:ident, $Layer:ident};)*) => {
        $(
            mod $file;
            pub use $file::$Keys;
        )*

        /// A layer's description: a table `[[model.layers]]` with its `kind`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum LayerSpec {
            $(
                #[doc = concat!("`kind = \"", $kind, "\"`")]
                #[serde(rename = $kind)]
                $Keys($Keys),
            )*
        }

        /// A layer whose sizes are known to fit.
        #[expect(clippy::enum_variant_names, reason = "layer_norm is the kind's name everywhere")]
        #[derive(Clone, Debug)]
        pub(crate) enum Layer {
            $($Keys($file::$Layer),)*
        }

        impl LayerSpec {
            /// The kind's name as the run file has it.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(LayerSpec::$Keys(_) => $kind,)*
                }
            }

            /// The kind's number, then what its keys mean; a part of the wire protocol.
            pub(crate) fn hash(&self, hash: &mut Fnv1a) {
                match self {
                    $(LayerSpec::$Keys(keys) => {
                        hash.word($number);
                        keys.hash(hash);
                    })*
                }
            }

            fn fit(&self, incoming: &[usize], from: &str) -> Result<Layer, String> {
                Ok(match self {
                    $(LayerSpec::$Keys(keys) => Layer::$Keys(keys.fit(incoming, from)?),)*
                })
            }
        }

        $(
            impl From<$Keys> for LayerSpec {
                fn from(keys: $Keys) -> LayerSpec {
                    LayerSpec::$Keys(keys)
                }
            }

            impl From<$file::$Layer> for Layer {
                fn from(layer: $file::$Layer) -> Layer {
                    Layer::$Keys(layer)
                }
            }
        )*

        impl Layer {
            fn sizes(&self) -> &dyn Sizes {
                match self {
                    $(Layer::$Keys(layer) => layer,)*
                }
            }

            /// The passes, for either kind of number.
            pub(crate) fn passes<S: Scalar>(&self) -> &dyn Passes<S> {
                match self {
                    $(Layer::$Keys(layer) => layer,)*
                }
            }
        }
    };
}

// The kind's number in the hash, never used twice; its name in the run file; its file; its keys and its layer.
kinds! {
    1 "linear" linear::{Linear, LinearLayer};
    2 "conv2d" conv2d::{Conv2d, Conv2dLayer};
    3 "max_pool2d" max_pool2d::{MaxPool2d, MaxPool2dLayer};
    4 "flatten" flatten::{Flatten, FlattenLayer};
    5 "relu" relu::{Relu, ReluLayer};
    6 "gelu" gelu::{Gelu, GeluLayer};
    7 "tanh" tanh::{Tanh, TanhLayer};
    8 "sigmoid" sigmoid::{Sigmoid, SigmoidLayer};
    9 "group_norm" group_norm::{GroupNorm, GroupNormLayer};
    10 "layer_norm" layer_norm::{LayerNorm, LayerNormLayer};
    11 "avg_pool2d" avg_pool2d::{AvgPool2d, AvgPool2dLayer};
    12 "global_avg_pool" global_avg_pool::{GlobalAvgPool, GlobalAvgPoolLayer};
    13 "dropout" dropout::{Dropout, DropoutLayer};
    14 "residual" residual::{Residual, ResidualLayer};
    15 "embedding" embedding::{Embedding, EmbeddingLayer};
    16 "positional_embedding" positional_embedding::{PositionalEmbedding, PositionalEmbeddingLayer};
    17 "causal_self_attention" causal_self_attention::{CausalSelfAttention, CausalSelfAttentionLayer};
    18 "patchify" patchify::{Patchify, PatchifyLayer};
}

/// A kind's keys in the run file.
pub(crate) trait Keys {
    /// What they become.
    type Layer;

    /// Fits the layer to what comes in from the layer (or input) called `from`. An error says what comes in, what is
    /// needed, and the fix.
    fn fit(&self, incoming: &[usize], from: &str) -> Result<Self::Layer, String>;

    /// What changes the model, in words; what only checks is left out, and defaults are written out.
    fn hash(&self, hash: &mut Fnv1a);
}

/// What is known of a layer before any number is.
pub(crate) trait Sizes {
    /// The shape of one sample that comes out.
    fn output_shape(&self) -> Vec<usize>;

    /// The tensors of its parameters, in the order in which they lie in the vector.
    fn tensors(&self) -> Vec<Tensor> {
        Vec::new()
    }

    /// The memory that its passes work in.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// The memory that [`Passes::evaluate`] works in.
    fn evaluation_needs(&self) -> Needs {
        self.needs()
    }

    /// If what comes in has to be tokens, how many there are: whole numbers from 0 to below it.
    fn tokens(&self) -> Option<usize> {
        None
    }
}

/// A layer's two passes.
pub(crate) trait Passes<S: Scalar> {
    /// Overwrites the output.
    fn forward(&self, parameters: &[S], input: ArrayView4<'_, S>, output: ArrayViewMut4<'_, S>, memory: Memory<'_, S>);

    /// The same where no backward pass follows, in less memory where the layer has layers of its own.
    fn evaluate(
        &self,
        parameters: &[S],
        input: ArrayView4<'_, S>,
        output: ArrayViewMut4<'_, S>,
        memory: Memory<'_, S>,
    ) {
        self.forward(parameters, input, output, memory);
    }

    /// Overwrites the gradient by the parameters with the sum over the samples, and that by the input where it is
    /// wanted: nobody needs it of the first layer that has parameters.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        memory: Memory<'_, S>,
    );
}

/// How much memory a layer needs besides what goes in and comes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Indices that it keeps of each sample from the forward to the backward pass.
    pub(crate) indices: usize,
    /// Numbers that it keeps of each sample.
    pub(crate) numbers: usize,
    /// Numbers that it works with during a pass, whatever the batch.
    pub(crate) room: usize,
}

/// Memory that a layer works in, as much as it said that it [`Needs`]. It is flat: a layer takes its tensors from the
/// front.
pub(crate) struct Memory<'a, S> {
    /// What the forward pass keeps for the backward pass.
    pub(crate) indices: &'a mut [u32],
    pub(crate) numbers: &'a mut [S],
    /// Shared by all layers: at least `room` numbers.
    pub(crate) room: &'a mut [S],
    pub(crate) packing: &'a mut Packing<S>,
    /// Of the minibatch, while training; `None` where a model is evaluated. Drawn from in the forward pass only.
    pub(crate) random: Option<&'a mut Generator>,
}

/// What the backward pass may look at.
pub(crate) struct Passed<'a, S> {
    /// The layer's part of the model's vector, from whose front it takes its tensors.
    pub(crate) parameters: &'a [S],
    /// What went in, and what came out of the forward pass.
    pub(crate) input: ArrayView4<'a, S>,
    pub(crate) output: ArrayView4<'a, S>,
    /// The loss's gradient by the output.
    pub(crate) output_gradient: ArrayView4<'a, S>,
}

impl Layer {
    /// Fits a layer to what comes in from the layer (or input) called `from`.
    pub(crate) fn new(spec: &LayerSpec, incoming: &[usize], from: &str) -> Result<Layer, String> {
        let layer = spec.fit(incoming, from)?;
        match count(&layer.output_shape()) {
            Some(elements) if elements <= MAX_ELEMENTS => Ok(layer),
            _ => Err(format!(
                "gives {}, but no layer may give more than {MAX_ELEMENTS} numbers; make it smaller",
                shape_text(&layer.output_shape())
            )),
        }
    }

    /// See [`Sizes::output_shape`].
    pub(crate) fn output_shape(&self) -> Vec<usize> {
        self.sizes().output_shape()
    }

    /// See [`Sizes::tensors`].
    pub(crate) fn tensors(&self) -> Vec<Tensor> {
        self.sizes().tensors()
    }

    /// See [`Sizes::needs`].
    pub(crate) fn needs(&self) -> Needs {
        self.sizes().needs()
    }

    /// See [`Sizes::evaluation_needs`].
    pub(crate) fn evaluation_needs(&self) -> Needs {
        self.sizes().evaluation_needs()
    }

    /// See [`Sizes::tokens`].
    pub(crate) fn tokens(&self) -> Option<usize> {
        self.sizes().tokens()
    }
}
