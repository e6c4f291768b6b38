//! Prints how fast the matrix product is and how fast whole models train, on one core of this machine. An argument
//! picks the lines that contain it.

use ndarray::ArrayView2;
use nn::kernel::lanes::{LANES, Lanes, NativeLanes};
use nn::kernel::tensor::{matrix, matrix_mut};
use nn::kernel::{Packing, Update, matmul};
use nn::loss::Answers;
use nn::{Minibatch, Model, ModelSpec, Targets};
use serde::Deserialize;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
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
            matmul(a, b, matrix_mut(&mut c, rows, columns), Update::Overwrite, &mut packing);
        }
    });
    println!("{name}: {:.1} GFLOP/s", operations * repeats as f64 / seconds / 1e9);
}

/// Models to measure: files of the repository, and the minibatch.
const MODELS: [(&str, usize); 4] = [
    ("runs/mlp.toml", 64),
    ("bench/models/cnn.toml", 32),
    ("runs/resnet-tiny.toml", 32),
    ("runs/char-transformer.toml", 8),
];

/// Depthwise and 1×1 convolutions, which no run file has.
const SEPARABLE: &str = r#"
    [model]
    input = [1, 28, 28]
    layers = [
        { kind = "conv2d", filters = 16, kernel = 3, padding = 1 },
        { kind = "relu" },
        { kind = "conv2d", filters = 16, kernel = 3, padding = 1, groups = 16 },
        { kind = "conv2d", filters = 32, kernel = 1 },
        { kind = "relu" },
        { kind = "conv2d", filters = 32, kernel = 3, padding = 1, stride = 2, groups = 32 },
        { kind = "conv2d", filters = 64, kernel = 1 },
        { kind = "relu" },
        { kind = "global_avg_pool" },
        { kind = "linear", outputs = 10 },
    ]
"#;

/// What of a run file says what the model is.
#[derive(Deserialize)]
struct RunFile {
    model: ModelSpec,
}

/// Samples per second of gradients, forward and backward.
fn measure_model(name: &str, run_file: &str, samples: usize) -> Result<(), Box<dyn Error>> {
    let run_file: RunFile = toml::from_str(run_file)?;
    let model = Model::new(&run_file.model)?;
    let parameters = model.initial_parameters(1);
    let inputs: Vec<f32> = (0..samples * model.inputs())
        .map(|index| match model.tokens() {
            Some(tokens) => (index * 37 % tokens) as f32,
            None => (index * 37 % 256) as f32 / 255.0 - 0.5,
        })
        .collect();
    let Answers::Classes { positions, classes } = model.answers() else {
        return Ok(());
    };
    let labels: Vec<u32> = (0..samples * positions).map(|index| (index % classes) as u32).collect();
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

fn main() -> Result<(), Box<dyn Error>> {
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
    if is_wanted("depthwise") {
        measure_model("depthwise and 1×1 convolutions", SEPARABLE, 32)?;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (file, samples) in MODELS.iter().filter(|(file, _)| is_wanted(file)) {
        measure_model(file, &fs::read_to_string(root.join(file))?, *samples)?;
    }
    Ok(())
}
