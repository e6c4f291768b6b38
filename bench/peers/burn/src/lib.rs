//! burn's gradient steps in WebAssembly: the same models, and the same exports, as `bench/engine-wasm`.

#![cfg(target_arch = "wasm32")]

use burn::tensor::activation::relu;
use burn::tensor::loss::cross_entropy_with_logits;
use burn::tensor::module::{conv2d, linear, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use serde::Deserialize;
use wasm_bindgen::prelude::*;

/// A model as the files in `bench/models` describe it.
#[derive(Deserialize)]
struct ModelSpec {
    input: Vec<usize>,
    layers: Vec<LayerSpec>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum LayerSpec {
    Conv2d {
        filters: usize,
        kernel: usize,
        #[serde(default)]
        padding: usize,
    },
    Relu,
    MaxPool2d {
        size: usize,
    },
    Flatten,
    Linear {
        outputs: usize,
    },
}

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
pub struct GradientStep {
    layers: Vec<Layer>,
    inputs: Activation,
    /// (batch, classes), one 1 in each row
    targets: Tensor<2>,
    gradient: Vec<f32>,
}

#[wasm_bindgen]
impl GradientStep {
    /// The model that `spec` describes, in JSON, and a minibatch for it.
    ///
    /// # Errors
    /// A model that this does not know to build.
    #[wasm_bindgen(constructor)]
    pub fn new(spec: &str, batch: usize, seed: u32) -> Result<GradientStep, String> {
        let spec: ModelSpec = serde_json::from_str(spec).map_err(|error| error.to_string())?;
        let device = Device::flex().autodiff();
        let mut numbers = Numbers(seed);
        let mut shape = spec.input.clone();
        let mut layers = Vec::new();
        for layer in &spec.layers {
            layers.push(layer.build(&mut shape, &mut numbers, &device)?);
        }
        let inputs = match spec.input[..] {
            [features] => Activation::Vectors(numbers.tensor([batch, features], 1.0, &device)),
            [channels, height, width] => {
                Activation::Images(numbers.tensor([batch, channels, height, width], 1.0, &device))
            }
            ref other => return Err(format!("an input of {} sizes", other.len())),
        };
        let [classes] = shape[..] else {
            return Err("the model does not end in a vector".into());
        };
        let targets =
            (0..batch * classes).map(|place| f32::from(u8::from(place % classes == place / classes % classes)));
        let targets = TensorData::new(targets.collect::<Vec<_>>(), [batch, classes]);
        Ok(GradientStep {
            layers,
            inputs,
            targets: Tensor::from_data(targets, &device),
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

impl LayerSpec {
    /// Gives the layer its parameters; `shape` is what comes in, and afterwards what comes out.
    fn build(&self, shape: &mut Vec<usize>, numbers: &mut Numbers, device: &Device) -> Result<Layer, String> {
        Ok(match (self, &shape[..]) {
            (
                &LayerSpec::Conv2d {
                    filters,
                    kernel,
                    padding,
                },
                &[channels, height, width],
            ) => {
                *shape = vec![
                    filters,
                    height + 2 * padding + 1 - kernel,
                    width + 2 * padding + 1 - kernel,
                ];
                let scale = 1.0 / ((channels * kernel * kernel) as f32).sqrt();
                Layer::Conv2d {
                    weight: numbers
                        .tensor([filters, channels, kernel, kernel], scale, device)
                        .require_grad(),
                    bias: numbers.tensor([filters], scale, device).require_grad(),
                    padding,
                }
            }
            (LayerSpec::Relu, _) => Layer::Relu,
            (&LayerSpec::MaxPool2d { size }, &[channels, height, width]) => {
                *shape = vec![channels, height / size, width / size];
                Layer::MaxPool2d { size }
            }
            (LayerSpec::Flatten, sizes) => {
                *shape = vec![sizes.iter().product()];
                Layer::Flatten
            }
            (&LayerSpec::Linear { outputs }, &[inputs]) => {
                *shape = vec![outputs];
                let scale = 1.0 / (inputs as f32).sqrt();
                Layer::Linear {
                    weight: numbers.tensor([inputs, outputs], scale, device).require_grad(),
                    bias: numbers.tensor([outputs], scale, device).require_grad(),
                }
            }
            (_, sizes) => return Err(format!("a layer that does not fit {sizes:?}")),
        })
    }
}

impl Layer {
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

/// Appends a parameter's gradient to `all`.
fn read<const D: usize>(parameter: &Tensor<D>, gradients: &mut Gradients, all: &mut Vec<f32>) -> Result<(), String> {
    let gradient = parameter.grad_remove(gradients).ok_or("a parameter has no gradient")?;
    let data = gradient.into_data();
    all.extend_from_slice(data.as_slice::<f32>().map_err(|error| format!("{error:?}"))?);
    Ok(())
}

/// Random numbers of a linear congruential generator: good enough for a stopwatch.
struct Numbers(u32);

impl Numbers {
    /// Numbers between -`scale` and `scale`.
    fn tensor<const D: usize>(&mut self, shape: [usize; D], scale: f32, device: &Device) -> Tensor<D> {
        let numbers = (0..shape.iter().product()).map(|_| {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale
        });
        Tensor::from_data(TensorData::new(numbers.collect::<Vec<_>>(), shape), device)
    }
}
