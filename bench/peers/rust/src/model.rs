//! A model as the files in `bench/models` describe it, with numbers in it: what every peer is given.

use serde::Deserialize;

/// A description.
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
pub enum Layer {
    Conv2d {
        /// Filters, channels, height, width.
        shape: [usize; 4],
        /// In this order.
        weight: Vec<f32>,
        /// (filters)
        bias: Vec<f32>,
        /// On each side.
        padding: usize,
    },
    Relu,
    MaxPool2d {
        /// Of a square, and its stride.
        size: usize,
    },
    Flatten,
    Linear {
        /// Outputs, inputs.
        shape: [usize; 2],
        /// In this order.
        weight: Vec<f32>,
        /// (outputs)
        bias: Vec<f32>,
    },
}

/// A model with a minibatch, all of random numbers.
pub struct Model {
    /// In the order in which the minibatch goes through them.
    pub layers: Vec<Layer>,
    /// Of a sample: (features) or (channels, height, width).
    pub input: Vec<usize>,
    /// The minibatch.
    pub inputs: Vec<f32>,
    /// The right class of each sample.
    pub labels: Vec<u32>,
    /// How many classes there are.
    pub classes: usize,
}

impl Model {
    /// The model that `spec` describes, in JSON, and a minibatch for it.
    ///
    /// # Errors
    /// A model that this does not know to build.
    pub fn new(spec: &str, batch: usize, seed: u32) -> Result<Model, String> {
        let ModelSpec { input, layers } = serde_json::from_str(spec).map_err(|error| error.to_string())?;
        let mut numbers = Numbers(seed);
        let mut shape = input.clone();
        let layers = layers
            .iter()
            .map(|layer| layer.build(&mut shape, &mut numbers))
            .collect::<Result<_, _>>()?;
        let [classes] = shape[..] else {
            return Err("the model does not end in a vector".into());
        };
        Ok(Model {
            layers,
            inputs: numbers.take(batch * input.iter().product::<usize>(), 1.0),
            input,
            labels: (0..batch).map(|sample| (sample % classes) as u32).collect(),
            classes,
        })
    }
}

impl LayerSpec {
    /// Gives the layer its parameters; `shape` is what comes in, and afterwards what comes out.
    fn build(&self, shape: &mut Vec<usize>, numbers: &mut Numbers) -> Result<Layer, String> {
        let scale = |fan_in: usize| 1.0 / (fan_in as f32).sqrt();
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
                let fan_in = channels * kernel * kernel;
                Layer::Conv2d {
                    shape: [filters, channels, kernel, kernel],
                    weight: numbers.take(filters * fan_in, scale(fan_in)),
                    bias: numbers.take(filters, scale(fan_in)),
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
                Layer::Linear {
                    shape: [outputs, inputs],
                    weight: numbers.take(outputs * inputs, scale(inputs)),
                    bias: numbers.take(outputs, scale(inputs)),
                }
            }
            (_, sizes) => return Err(format!("a layer that does not fit {sizes:?}")),
        })
    }
}

/// Random numbers of a linear congruential generator: good enough for a stopwatch.
struct Numbers(u32);

impl Numbers {
    /// Numbers between -`scale` and `scale`.
    fn take(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count)
            .map(|_| {
                self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale
            })
            .collect()
    }
}
