//! What a run file says of a model: its input, its layers, its loss.

use crate::extent::Extent;
use serde::{Deserialize, Deserializer, Serialize};

/// A model's description. Together with a vector of parameters it *is* the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The shape of one sample: `[features]` or `[channels, height, width]`.
    pub input: Vec<usize>,
    /// The layers, from the input to the classes.
    pub layers: Vec<LayerSpec>,
    /// What training makes small.
    #[serde(default)]
    pub loss: LossSpec,
}

/// A layer's description: a table `[[model.layers]]` with its `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerSpec {
    /// Fully connected, as `torch.nn.Linear`.
    Linear {
        /// How many numbers come out.
        outputs: usize,
        /// How many come in, if the run file wants it checked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inputs: Option<usize>,
    },
    /// Convolution over an image, as `torch.nn.Conv2d`.
    Conv2d {
        /// How many channels come out.
        filters: usize,
        /// What a filter sees at once.
        kernel: Extent,
        /// How far a filter moves from one output to the next.
        #[serde(default = "one")]
        stride: Extent,
        /// How many rows and columns of zeros are put around the image, on each side.
        #[serde(default = "zero")]
        padding: Extent,
        /// How many channels come in, if the run file wants it checked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channels: Option<usize>,
    },
    /// The largest number of each window, as `torch.nn.MaxPool2d`.
    MaxPool2d {
        /// The window.
        size: Extent,
        /// How far the window moves; the window's size if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<Extent>,
    },
    /// Takes an image for a vector, as `torch.nn.Flatten`.
    #[serde(deserialize_with = "no_further_keys")]
    Flatten,
    /// What is below zero becomes zero, as `torch.nn.ReLU`.
    #[serde(deserialize_with = "no_further_keys")]
    Relu,
}

/// What training makes small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossSpec {
    /// Minus the logarithm of the probability given to the right class, as `torch.nn.CrossEntropyLoss`.
    #[default]
    SoftmaxCrossEntropy,
}

fn one() -> Extent {
    1.into()
}

fn zero() -> Extent {
    0.into()
}

/// A kind that has no keys of its own; serde would let any pass.
fn no_further_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NoKeys {}
    NoKeys::deserialize(deserializer).map(|NoKeys {}| ())
}

impl LayerSpec {
    /// The kind's name as the run file has it.
    pub fn kind(&self) -> &'static str {
        match self {
            LayerSpec::Linear { .. } => "linear",
            LayerSpec::Conv2d { .. } => "conv2d",
            LayerSpec::MaxPool2d { .. } => "max_pool2d",
            LayerSpec::Flatten => "flatten",
            LayerSpec::Relu => "relu",
        }
    }
}

impl ModelSpec {
    /// A number that two descriptions share if they mean the same model. It is part of the wire protocol: a volunteer
    /// that computes another model is known by it.
    ///
    /// FNV-1a over the description in 64-bit little-endian words: the input's rank and sizes, the number of layers,
    /// for each layer its kind's number and sizes, the loss's number. `inputs` and `channels` only check and are left
    /// out; a pool's stride is written out when it was not given.
    pub fn hash(&self) -> u64 {
        let mut hash = Fnv1a::new();
        hash.word(self.input.len());
        self.input.iter().for_each(|size| hash.word(*size));
        hash.word(self.layers.len());
        for layer in &self.layers {
            match layer {
                LayerSpec::Linear { outputs, inputs: _ } => {
                    hash.word(1);
                    hash.word(*outputs);
                }
                LayerSpec::Conv2d {
                    filters,
                    kernel,
                    stride,
                    padding,
                    channels: _,
                } => {
                    hash.word(2);
                    hash.word(*filters);
                    [kernel, stride, padding]
                        .into_iter()
                        .for_each(|extent| hash.extent(*extent));
                }
                LayerSpec::MaxPool2d { size, stride } => {
                    hash.word(3);
                    [*size, stride.unwrap_or(*size)]
                        .into_iter()
                        .for_each(|extent| hash.extent(extent));
                }
                LayerSpec::Flatten => hash.word(4),
                LayerSpec::Relu => hash.word(5),
            }
        }
        match self.loss {
            LossSpec::SoftmaxCrossEntropy => hash.word(1),
        }
        hash.0
    }
}

/// The hash FNV-1a in 64 bits. It tells descriptions apart, it does not guard against forgers.
struct Fnv1a(u64);

impl Fnv1a {
    fn new() -> Self {
        Fnv1a(0xcbf2_9ce4_8422_2325)
    }

    fn word(&mut self, value: usize) {
        for byte in (value as u64).to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn extent(&mut self, extent: Extent) {
        self.word(extent.height);
        self.word(extent.width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> Result<LayerSpec, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    const CNN: &str = r#"
        input = [1, 28, 28]
        [[layers]]
        kind = "conv2d"
        filters = 16
        kernel = 5
        padding = [2, 1]
        [[layers]]
        kind = "relu"
        [[layers]]
        kind = "max_pool2d"
        size = 2
        [[layers]]
        kind = "flatten"
        [[layers]]
        kind = "linear"
        outputs = 10
    "#;

    fn cnn() -> ModelSpec {
        toml::from_str(CNN).unwrap()
    }

    #[test]
    fn a_run_files_layers_are_read_with_their_defaults() {
        let conv = LayerSpec::Conv2d {
            filters: 16,
            kernel: 5.into(),
            stride: 1.into(),
            padding: [2, 1].into(),
            channels: None,
        };
        let pool = LayerSpec::MaxPool2d {
            size: 2.into(),
            stride: None,
        };
        let linear = LayerSpec::Linear {
            outputs: 10,
            inputs: None,
        };
        assert_eq!(
            cnn(),
            ModelSpec {
                input: vec![1, 28, 28],
                layers: vec![conv, LayerSpec::Relu, pool, LayerSpec::Flatten, linear],
                loss: LossSpec::SoftmaxCrossEntropy,
            }
        );
    }

    #[test]
    fn a_description_survives_toml_and_json() {
        let spec = cnn();
        assert_eq!(
            toml::from_str::<ModelSpec>(&toml::to_string(&spec).unwrap()).unwrap(),
            spec
        );
        assert_eq!(
            serde_json::from_str::<ModelSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(),
            spec
        );
    }

    #[test]
    fn an_unknown_key_is_refused_for_every_kind() {
        for (keys, kind) in [
            ("outputs = 3", "linear"),
            ("filters = 3\nkernel = 2", "conv2d"),
            ("size = 2", "max_pool2d"),
            ("", "flatten"),
            ("", "relu"),
        ] {
            let good = format!("kind = \"{kind}\"\n{keys}\n");
            assert_eq!(layer(&good).unwrap().kind(), kind);
            let error = layer(&format!("{good}slope = 1\n")).unwrap_err();
            assert!(error.contains("unknown field `slope`"), "{kind}: {error}");
        }
        let error = toml::from_str::<ModelSpec>(&format!("seed = 1\n{CNN}"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown field `seed`"), "{error}");
    }

    #[test]
    fn an_unknown_kind_is_refused_by_name() {
        let error = layer("kind = \"lstm\"").unwrap_err();
        assert!(
            error.contains("unknown variant `lstm`") && error.contains("`max_pool2d`"),
            "{error}"
        );
    }

    #[test]
    fn an_extent_is_one_integer_or_a_pair() {
        let kernel = |text: &str| layer(&format!("kind = \"max_pool2d\"\nsize = {text}"));
        assert_eq!(
            kernel("3").unwrap(),
            LayerSpec::MaxPool2d {
                size: 3.into(),
                stride: None
            }
        );
        assert_eq!(
            kernel("[3, 4]").unwrap(),
            LayerSpec::MaxPool2d {
                size: [3, 4].into(),
                stride: None
            }
        );
        for bad in ["-1", "[3]", "[3, 4, 5]", "2.5", "\"3\"", "[3, -4]"] {
            let error = kernel(bad).unwrap_err();
            assert!(
                error.contains("height, width") || error.contains("usize"),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn the_hash_is_the_one_that_volunteers_send() {
        // A change here is a change of the wire protocol.
        assert_eq!(cnn().hash(), 0x299f_f18f_2e82_e5db);
    }

    #[test]
    fn only_what_changes_the_model_changes_its_hash() {
        let hash = cnn().hash();
        let mut same = cnn();
        same.layers[2] = LayerSpec::MaxPool2d {
            size: 2.into(),
            stride: Some(2.into()),
        };
        same.layers[4] = LayerSpec::Linear {
            outputs: 10,
            inputs: Some(2912),
        };
        assert_eq!(same.hash(), hash);
        let changes: [fn(&mut ModelSpec); 6] = [
            |spec| spec.input[2] = 27,
            |spec| spec.layers.swap(0, 1),
            |spec| spec.layers[1] = LayerSpec::Flatten,
            |spec| {
                spec.layers[2] = LayerSpec::MaxPool2d {
                    size: 2.into(),
                    stride: Some(1.into()),
                }
            },
            |spec| {
                spec.layers[4] = LayerSpec::Linear {
                    outputs: 11,
                    inputs: None,
                }
            },
            |spec| spec.layers.truncate(4),
        ];
        for change in changes {
            let mut other = cnn();
            change(&mut other);
            assert_ne!(other.hash(), hash, "{other:?}");
        }
    }
}
