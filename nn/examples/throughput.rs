//! Prints how fast the matrix product is and how fast whole models train, on one core of this machine. An argument
//! picks the lines that contain it.

use ndarray::ArrayView2;
use nn::LayerSpec;
use nn::kernel::{Packing, Update, product};
use nn::lanes::{LANES, Lanes, NativeLanes};
use nn::layer::{
    CausalSelfAttention, Conv2d, Embedding, Flatten, Gelu, GlobalAvgPool, GroupNorm, LayerNorm, Linear, MaxPool2d,
    PositionalEmbedding, Relu, Residual,
};
use nn::loss::Answers;
use nn::tensor::{matrix, matrix_mut};
use nn::{Minibatch, Model, ModelSpec, SpecError, Targets};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Whether the caller wants this line.
fn is_wanted(name: &str) -> bool {
    std::env::args().nth(1).is_none_or(|wanted| name.contains(&wanted))
}

/// The best of several runs of a second or so: other programs' time does not count.
fn best_seconds(mut work: impl FnMut()) -> f64 {
    work();
    let mut best = Duration::MAX;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        let run = Instant::now();
        work();
        best = best.min(run.elapsed());
    }
    best.as_secs_f64()
}

/// How fast lanes are multiplied and added that never leave their registers: what nothing here can exceed.
fn measure_limit() {
    const SUMS: usize = 12;
    let name = "limit";
    if !is_wanted(name) {
        return;
    }
    let steps = 1 << 18;
    let seconds = best_seconds(|| {
        let (factor, term) = (NativeLanes::splat(black_box(0.5)), NativeLanes::splat(black_box(0.25)));
        let mut sums = [NativeLanes::splat(0.0); SUMS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = sum.mul(factor).add(term);
            }
        }
        black_box(sums.map(|sum| {
            let mut numbers = [0.0; LANES];
            sum.store(&mut numbers);
            numbers
        }));
    });
    let operations = (2 * LANES * SUMS * steps) as f64;
    println!("{name}: {:.1} GFLOP/s", operations / seconds / 1e9);
}

/// One product, repeated until a run is long enough for the clock.
fn measure_product(rows: usize, depth: usize, columns: usize, transposed: [bool; 2]) {
    let letter = |letter, is_transposed| {
        if is_transposed {
            format!("{letter}ᵀ")
        } else {
            format!("{letter}")
        }
    };
    let (a, b) = (letter('A', transposed[0]), letter('B', transposed[1]));
    let name = format!("product {a}·{b} {rows}×{depth}×{columns}");
    if !is_wanted(&name) {
        return;
    }
    let (a, b) = (vec![0.5_f32; rows * depth], vec![0.25_f32; depth * columns]);
    let mut c = vec![0.0_f32; rows * columns];
    let operand = |values, is_transposed, rows, columns| -> ArrayView2<'_, f32> {
        if is_transposed {
            matrix(values, columns, rows).reversed_axes()
        } else {
            matrix(values, rows, columns)
        }
    };
    let mut packing = Packing::new();
    let operations = (2 * rows * depth * columns) as f64;
    let repeats = (1e7 / operations).ceil() as usize;
    let seconds = best_seconds(|| {
        for _ in 0..repeats {
            let (a, b) = (
                operand(&a, transposed[0], rows, depth),
                operand(&b, transposed[1], depth, columns),
            );
            product(a, b, matrix_mut(&mut c, rows, columns), Update::Overwrite, &mut packing);
        }
    });
    println!("{name}: {:.1} GFLOP/s", operations * repeats as f64 / seconds / 1e9);
}

/// Samples per second of gradients, forward and backward.
fn measure_model(name: &str, input: &[usize], layers: &[LayerSpec], samples: usize) -> Result<(), SpecError> {
    if !is_wanted(name) {
        return Ok(());
    }
    let spec = ModelSpec {
        input: input.to_vec(),
        layers: layers.to_vec(),
        loss: Default::default(),
    };
    let model = Model::new(&spec)?;
    let parameters = model.initial_parameters(1);
    let inputs: Vec<f32> = (0..samples * model.inputs())
        .map(|index| match model.tokens() {
            Some(tokens) => (index * 37 % tokens) as f32,
            None => (index * 37 % 256) as f32 / 255.0 - 0.5,
        })
        .collect();
    let Answers::Classes { places, classes } = model.answers() else {
        return Ok(());
    };
    let labels: Vec<u32> = (0..samples * places).map(|index| (index % classes) as u32).collect();
    let batch = Minibatch {
        inputs: &inputs,
        targets: Targets::Classes(&labels),
        key: None,
    };
    let mut gradient = vec![0.0; model.parameter_count()];
    let mut scratch = model.scratch(samples);
    let seconds = best_seconds(|| {
        model.gradient(&parameters, &batch, &mut gradient, &mut scratch);
    });
    println!("{name}, batch {samples}: {:.0} samples/s", samples as f64 / seconds);
    Ok(())
}

fn linear(outputs: usize) -> LayerSpec {
    Linear::new(outputs).into()
}

/// A kernel of 3×3 with padding 1.
fn conv_3(filters: usize, stride: usize, groups: usize) -> LayerSpec {
    Conv2d {
        stride: stride.into(),
        padding: 1.into(),
        groups,
        ..Conv2d::new(filters, 3)
    }
    .into()
}

/// A block of runs/resnet-tiny.toml: normalised and rectified before each convolution.
fn block(incoming: usize, filters: usize, stride: usize, groups: usize) -> LayerSpec {
    let projection = Conv2d {
        stride: stride.into(),
        ..Conv2d::new(filters, 1)
    };
    Residual {
        layers: vec![
            GroupNorm { groups: 4 }.into(),
            relu(),
            conv_3(filters, stride, 1),
            GroupNorm { groups }.into(),
            relu(),
            conv_3(filters, 1, 1),
        ],
        projection: (incoming != filters).then(|| Box::new(projection.into())),
    }
    .into()
}

fn conv(filters: usize, padding: usize) -> LayerSpec {
    let padding = padding.into();
    Conv2d {
        padding,
        ..Conv2d::new(filters, 5)
    }
    .into()
}

fn pool() -> LayerSpec {
    MaxPool2d::new(2).into()
}

fn relu() -> LayerSpec {
    Relu {}.into()
}

/// The model of `runs/char-transformer.toml`.
fn transformer() -> Vec<LayerSpec> {
    let residual = |layers: Vec<LayerSpec>| {
        Residual {
            layers,
            projection: None,
        }
        .into()
    };
    let attention = || residual(vec![LayerNorm {}.into(), CausalSelfAttention { heads: 4 }.into()]);
    let perceptron = || residual(vec![LayerNorm {}.into(), linear(512), Gelu {}.into(), linear(128)]);
    let embeddings = [
        Embedding { tokens: 73, width: 128 }.into(),
        PositionalEmbedding {}.into(),
    ];
    let blocks = (0..4).flat_map(|_| [attention(), perceptron()]);
    embeddings
        .into_iter()
        .chain(blocks)
        .chain([LayerNorm {}.into(), linear(73)])
        .collect()
}

fn main() -> Result<(), SpecError> {
    measure_limit();
    measure_product(256, 256, 256, [false, false]);
    measure_product(512, 512, 512, [false, false]);
    measure_product(64, 784, 256, [false, true]);
    measure_product(256, 64, 784, [true, false]);
    measure_product(32, 400, 196, [false, false]);
    measure_product(32, 196, 400, [false, true]);
    measure_product(400, 32, 196, [true, false]);
    measure_product(16, 25, 784, [false, false]);
    measure_product(16, 784, 25, [false, true]);
    measure_limit();
    measure_model(
        "MLP 784-256-128-10",
        &[784],
        &[linear(256), relu(), linear(128), relu(), linear(10)],
        64,
    )?;
    let cnn = |padding| {
        let images = [conv(16, padding), relu(), pool(), conv(32, padding), relu(), pool()];
        images
            .into_iter()
            .chain([Flatten {}.into(), linear(128), relu(), linear(10)])
            .collect::<Vec<_>>()
    };
    measure_model("CNN 16 and 32 filters 5×5, padding 2", &[1, 28, 28], &cnn(2), 32)?;
    measure_model("CNN 16 and 32 filters 5×5, no padding", &[1, 28, 28], &cnn(0), 32)?;
    let resnet = [
        conv_3(16, 2, 1),
        block(16, 16, 1, 4),
        block(16, 32, 2, 4),
        block(32, 64, 2, 8),
        GroupNorm { groups: 8 }.into(),
        relu(),
        GlobalAvgPool {}.into(),
        linear(10),
    ];
    measure_model("ResNet of runs/resnet-tiny.toml", &[1, 28, 28], &resnet, 32)?;
    let pointwise = |filters| LayerSpec::from(Conv2d::new(filters, 1));
    let separable = [
        conv_3(16, 1, 1),
        relu(),
        conv_3(16, 1, 16),
        pointwise(32),
        relu(),
        conv_3(32, 2, 32),
        pointwise(64),
        relu(),
        GlobalAvgPool {}.into(),
        linear(10),
    ];
    measure_model("depthwise and 1×1 convolutions", &[1, 28, 28], &separable, 32)?;
    measure_model(
        "Transformer of 4 layers, width 128, 128 positions",
        &[128],
        &transformer(),
        8,
    )
}
