//! burn's.

use burn::tensor::activation::relu;
use burn::tensor::loss::cross_entropy_with_logits;
use burn::tensor::module::{conv2d, linear, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use wasm_bindgen::prelude::*;

use crate::model::{self, Model};

/// A layer with its parameters.
enum Layer {
    Conv2d {
        /// (filters, channels, height, width)
        weight: Tensor<4>,
        bias: Tensor<1>,
        padding: usize,
    },
    Relu,
    MaxPool2d {
        size: usize,
    },
    Flatten,
    Linear {
        /// (inputs, outputs), as burn has it
        weight: Tensor<2>,
        bias: Tensor<1>,
    },
}

/// What goes from layer to layer.
#[derive(Clone)]
enum Activation {
    Images(Tensor<4>),
    Vectors(Tensor<2>),
}

/// A model with a minibatch of random numbers.
#[wasm_bindgen]
pub struct BurnStep {
    layers: Vec<Layer>,
    inputs: Activation,
    /// (batch, classes), one 1 in each row
    targets: Tensor<2>,
    gradient: Vec<f32>,
}

#[wasm_bindgen]
impl BurnStep {
    /// The model that `spec` describes, in JSON, and a minibatch for it.
    ///
    /// # Errors
    /// A model that this does not know to build.
    #[wasm_bindgen(constructor)]
    pub fn new(spec: &str, batch: usize, seed: u32) -> Result<BurnStep, String> {
        let model = Model::new(spec, batch, seed)?;
        let device = Device::flex().autodiff();
        let inputs = match model.input[..] {
            [features] => Activation::Vectors(tensor(model.inputs, [batch, features], &device)),
            [channels, height, width] => {
                Activation::Images(tensor(model.inputs, [batch, channels, height, width], &device))
            }
            ref other => return Err(format!("an input of {} sizes", other.len())),
        };
        let mut targets = vec![0.0; batch * model.classes];
        for (row, label) in targets.chunks_exact_mut(model.classes).zip(model.labels) {
            row[label as usize] = 1.0;
        }
        Ok(BurnStep {
            layers: model
                .layers
                .into_iter()
                .map(|layer| Layer::new(layer, &device))
                .collect(),
            inputs,
            targets: tensor(targets, [batch, model.classes], &device),
            gradient: Vec::new(),
        })
    }

    /// Forward and backward; all gradients lie at `address` afterwards.
    ///
    /// # Errors
    /// A parameter without a gradient.
    pub fn step(&mut self) -> Result<(), String> {
        let output = self
            .layers
            .iter()
            .try_fold(self.inputs.clone(), |activation, layer| layer.forward(activation))?;
        let Activation::Vectors(logits) = output else {
            return Err("the model does not end in a vector".into());
        };
        let mut gradients = cross_entropy_with_logits(logits, self.targets.clone()).backward();
        self.gradient.clear();
        for layer in &self.layers {
            match layer {
                Layer::Conv2d { weight, bias, .. } => {
                    read(weight, &mut gradients, &mut self.gradient)?;
                    read(bias, &mut gradients, &mut self.gradient)?;
                }
                Layer::Linear { weight, bias } => {
                    read(weight, &mut gradients, &mut self.gradient)?;
                    read(bias, &mut gradients, &mut self.gradient)?;
                }
                Layer::Relu | Layer::MaxPool2d { .. } | Layer::Flatten => {}
            }
        }
        Ok(())
    }

    /// What a step does: samples.
    pub fn units(&self) -> f64 {
        self.targets.dims()[0] as f64
    }

    /// Where the gradients lie in the module's memory.
    pub fn address(&self) -> *const f32 {
        self.gradient.as_ptr()
    }

    /// How many floats they are.
    pub fn length(&self) -> usize {
        self.gradient.len()
    }
}

impl Layer {
    fn new(layer: model::Layer, device: &Device) -> Layer {
        match layer {
            model::Layer::Conv2d {
                shape,
                weight,
                bias,
                padding,
            } => Layer::Conv2d {
                weight: tensor(weight, shape, device).require_grad(),
                bias: tensor(bias, [shape[0]], device).require_grad(),
                padding,
            },
            model::Layer::Relu => Layer::Relu,
            model::Layer::MaxPool2d { size } => Layer::MaxPool2d { size },
            model::Layer::Flatten => Layer::Flatten,
            // Random numbers may as well lie the other way round.
            model::Layer::Linear {
                shape: [outputs, inputs],
                weight,
                bias,
            } => Layer::Linear {
                weight: tensor(weight, [inputs, outputs], device).require_grad(),
                bias: tensor(bias, [outputs], device).require_grad(),
            },
        }
    }

    fn forward(&self, activation: Activation) -> Result<Activation, String> {
        use Activation::{Images, Vectors};
        Ok(match (self, activation) {
            (Layer::Conv2d { weight, bias, padding }, Images(images)) => {
                let options = ConvOptions::new([1, 1], [*padding, *padding], [1, 1], 1);
                Images(conv2d(images, weight.clone(), Some(bias.clone()), options))
            }
            (Layer::Relu, Images(images)) => Images(relu(images)),
            (Layer::Relu, Vectors(vectors)) => Vectors(relu(vectors)),
            (Layer::MaxPool2d { size }, Images(images)) => {
                Images(max_pool2d(images, MaxPoolOptions::new([*size, *size])))
            }
            (Layer::Flatten, Images(images)) => Vectors(images.flatten(1, 3)),
            (Layer::Linear { weight, bias }, Vectors(vectors)) => {
                Vectors(linear(vectors, weight.clone(), Some(bias.clone())))
            }
            _ => return Err("a layer that does not fit the one before it".into()),
        })
    }
}

fn tensor<const D: usize>(numbers: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

/// Appends a parameter's gradient to `all`.
fn read<const D: usize>(parameter: &Tensor<D>, gradients: &mut Gradients, all: &mut Vec<f32>) -> Result<(), String> {
    let gradient = parameter.grad_remove(gradients).ok_or("a parameter has no gradient")?;
    let data = gradient.into_data();
    all.extend_from_slice(data.as_slice::<f32>().map_err(|error| format!("{error:?}"))?);
    Ok(())
}
