//! candle's.

use candle_core::{Device, Result, Tensor, Var};
use candle_nn::loss::cross_entropy;
use wasm_bindgen::prelude::*;

use crate::model::{self, Model};

/// A layer with its parameters.
enum Layer {
    Conv2d {
        /// (filters, channels, height, width)
        weight: Var,
        bias: Var,
        padding: usize,
    },
    Relu,
    MaxPool2d {
        size: usize,
    },
    Flatten,
    Linear {
        /// (outputs, inputs)
        weight: Var,
        bias: Var,
    },
}

/// A model with a minibatch of random numbers.
#[wasm_bindgen]
pub struct CandleStep {
    layers: Vec<Layer>,
    inputs: Tensor,
    /// (batch)
    labels: Tensor,
    batch: usize,
    gradient: Vec<f32>,
}

#[wasm_bindgen]
impl CandleStep {
    /// The model that `spec` describes, in JSON, and a minibatch for it.
    ///
    /// # Errors
    /// A model that this does not know to build.
    #[wasm_bindgen(constructor)]
    pub fn new(spec: &str, batch: usize, seed: u32) -> std::result::Result<CandleStep, String> {
        let model = Model::new(spec, batch, seed)?;
        CandleStep::of_model(model, batch).map_err(|error| error.to_string())
    }

    /// Forward and backward; all gradients lie at `address` afterwards.
    ///
    /// # Errors
    /// A parameter without a gradient.
    pub fn step(&mut self) -> std::result::Result<(), String> {
        self.compute().map_err(|error| error.to_string())
    }

    /// What a step does: samples.
    pub fn units(&self) -> f64 {
        self.batch as f64
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

impl CandleStep {
    fn of_model(model: Model, batch: usize) -> Result<CandleStep> {
        let shape: Vec<usize> = [batch].into_iter().chain(model.input).collect();
        Ok(CandleStep {
            layers: model.layers.into_iter().map(Layer::new).collect::<Result<_>>()?,
            inputs: Tensor::from_vec(model.inputs, shape, &Device::Cpu)?,
            labels: Tensor::new(model.labels, &Device::Cpu)?,
            batch,
            gradient: Vec::new(),
        })
    }

    fn compute(&mut self) -> Result<()> {
        let logits = self
            .layers
            .iter()
            .try_fold(self.inputs.clone(), |activation, layer| layer.forward(&activation))?;
        let gradients = cross_entropy(&logits, &self.labels)?.backward()?;
        self.gradient.clear();
        for layer in &self.layers {
            if let Layer::Conv2d { weight, bias, .. } | Layer::Linear { weight, bias } = layer {
                for parameter in [weight, bias] {
                    let Some(gradient) = gradients.get(parameter) else {
                        candle_core::bail!("a parameter has no gradient");
                    };
                    self.gradient.extend(gradient.flatten_all()?.to_vec1::<f32>()?);
                }
            }
        }
        Ok(())
    }
}

impl Layer {
    fn new(layer: model::Layer) -> Result<Layer> {
        Ok(match layer {
            model::Layer::Conv2d {
                shape,
                weight,
                bias,
                padding,
            } => Layer::Conv2d {
                weight: Var::from_vec(weight, &shape, &Device::Cpu)?,
                bias: Var::from_vec(bias, (1, shape[0], 1, 1), &Device::Cpu)?,
                padding,
            },
            model::Layer::Relu => Layer::Relu,
            model::Layer::MaxPool2d { size } => Layer::MaxPool2d { size },
            model::Layer::Flatten => Layer::Flatten,
            model::Layer::Linear { shape, weight, bias } => Layer::Linear {
                weight: Var::from_vec(weight, &shape, &Device::Cpu)?,
                bias: Var::from_vec(bias, shape[0], &Device::Cpu)?,
            },
        })
    }

    fn forward(&self, activation: &Tensor) -> Result<Tensor> {
        match self {
            Layer::Conv2d { weight, bias, padding } => {
                activation.conv2d(weight, *padding, 1, 1, 1)?.broadcast_add(bias)
            }
            Layer::Relu => activation.relu(),
            Layer::MaxPool2d { size } => activation.max_pool2d(*size),
            Layer::Flatten => activation.flatten_from(1),
            Layer::Linear { weight, bias } => activation.matmul(&weight.t()?)?.broadcast_add(bias),
        }
    }
}
