//! What a checkpoint costs: `cargo run --release -p state --example checkpoint_cost FOLDER [PARAMETERS …]` writes
//! checkpoints of models with Adam's memory into the folder, synced, reads them, and prints bytes and seconds.

use std::time::Instant;

use bsp::central::{Checkpoint, OpenRecord, OptimizerMemory, Record, SessionRecord, SessionsRecord, Setbacks, Totals};
use bsp::combine::Usual;
use bsp::protocol::message::SessionId;
use state::newest::Newest;
use state::writing::write_checkpoint;
use state::{About, FileSystem, Snapshot, checkpoint};

/// Checkpoints that are written; the last few stay, as in a run.
const TIMES: u64 = 7;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = std::path::PathBuf::from(arguments.next().unwrap_or_else(|| ".".to_owned()));
    let mut sizes = arguments.map(|text| text.parse()).collect::<Result<Vec<usize>, _>>()?;
    if sizes.is_empty() {
        sizes = vec![80_000, 20_000_000];
    }
    println!("parameters   bytes        write median (least to most)    encode     read file   decode");
    for parameters in sizes {
        measure(&folder.join(format!("checkpoint-cost-{parameters}")), parameters)?;
    }
    Ok(())
}

fn measure(folder: &std::path::Path, parameters: usize) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut disk = FileSystem::new(folder);
    let mut checkpoint = made(parameters);
    let about = About {
        run_id: 1,
        run: "cost".to_owned(),
        spec_hash: 1,
        data_hash: 1,
        seed: 1,
        parameters: parameters as u64,
        incarnation: 1,
    };
    let mut seconds = Vec::new();
    let mut bytes = 0;
    for number in 1..=TIMES {
        checkpoint.number = number;
        let mut newest = Newest::new(1, 0);
        newest.point_to(&checkpoint);
        let start = Instant::now();
        bytes = write_checkpoint(&mut disk, &about, &checkpoint, &newest, 3)?.bytes;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let start = Instant::now();
    checkpoint::encode(&about, &checkpoint, &mut std::io::sink())?;
    let encoding = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let file = std::fs::read(folder.join(Snapshot::of(&checkpoint).checkpoint_file()))?;
    let reading = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let (_, read) = checkpoint::decode(&file)?;
    let decoding = start.elapsed().as_secs_f64();
    anyhow::ensure!(read == checkpoint, "what is read is what was written");
    seconds.sort_by(f64::total_cmp);
    let ms = |seconds: f64| format!("{:.1} ms", seconds * 1e3);
    let [least, median, most] = [0, seconds.len() / 2, seconds.len() - 1].map(|index| ms(seconds[index]));
    println!(
        "{parameters:<12} {bytes:<12} {median:<12} ({least} to {most})   {:<10} {:<11} {}",
        ms(encoding),
        ms(reading),
        ms(decoding)
    );
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// A checkpoint of a run with Adam, a replica for differences, and two hundred sessions.
fn made(parameters: usize) -> Checkpoint {
    let vector = |offset: usize| {
        (0..parameters)
            .map(|index| (index + offset) as f32 * 1e-6)
            .collect::<Vec<f32>>()
    };
    let session = |session| SessionRecord {
        session: SessionId(session),
        settled: 1000,
        settled_before: 999,
        since: 12_345,
        is_last_refused: false,
        samples: 320_000,
        accepted: 1000,
        refused: 0,
    };
    Checkpoint {
        number: 1,
        trainer: Record {
            incarnation: 1,
            version: 12_345,
            model: vector(0),
            samples_in_model: 1 << 30,
            optimizer: OptimizerMemory {
                kind: "moments".to_owned(),
                vectors: vec![vector(1), vector(2)],
                numbers: vec![0.5, 0.5],
            },
            usual: Usual::default(),
            setbacks: Setbacks::default(),
        },
        last_versions: Vec::new(),
        diverged: Vec::new(),
        replica: Vec::new(),
        open: OpenRecord::default(),
        sessions: SessionsRecord {
            last_known: Vec::new(),
            last_session: 200,
            sessions: (1..=200).map(session).collect(),
        },
        awaited: Vec::new(),
        totals: Totals::default(),
    }
}
