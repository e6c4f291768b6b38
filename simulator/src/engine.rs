//! Real gradients, computed by `nn` on a pool of threads while virtual time passes.
//!
//! A gradient is handed to the pool when its minibatch begins, and awaited when it ends. It follows from its name and
//! its model alone. So neither the number of threads nor the choice of a thread changes a bit.

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bsp::ml_module::Outcome;
use bsp::ml_module::working_copy::LocalOptimizer;
use nn::Model;
use nn::data::draw::draw;
use nn::data::minibatch::MinibatchBuffer;
use nn::data::sample_format::SampleFormat;
use nn::data::shard::Shard;
use nn::random::MinibatchKey;
use volunteer::local_steps::{InnerOptimizer, LocalSteps};

use crate::gradients::{GradientName, Gradients};

/// The task of all gradients. All volunteers share it.
#[derive(Clone)]
pub struct Task {
    /// The model.
    pub model: Arc<Model>,
    /// The format of the samples.
    pub format: SampleFormat,
    /// All samples to train on.
    pub shards: Arc<[Shard]>,
    /// The run's seed, a key of the minibatches.
    pub run_seed: u64,
    /// Samples of a minibatch.
    pub minibatch: usize,
    /// How ML modules move along their own gradients, if they do.
    pub local_steps: Option<LocalSteps>,
}

/// The pool. Its threads end when it is dropped.
pub struct Engine {
    run_seed: u64,
    parameters: usize,
    local_steps: Option<LocalSteps>,
    /// `None` once it is being dropped.
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    /// Free memory for gradients.
    spare: Vec<Vec<f32>>,
}

struct Job {
    key: MinibatchKey,
    model: Arc<[f32]>,
    gradient: Vec<f32>,
    done: SyncSender<Done>,
}

struct Done {
    gradient: Vec<f32>,
    outcome: Outcome,
}

/// A gradient that a thread computes, or will compute.
pub struct Pending(Receiver<Done>);

impl Engine {
    /// Starts `threads` threads, at least one.
    ///
    /// # Errors
    /// A thread can't be started.
    pub fn new(task: &Task, threads: usize) -> io::Result<Engine> {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let mut engine = Engine {
            run_seed: task.run_seed,
            parameters: task.model.parameter_count(),
            local_steps: task.local_steps.clone(),
            jobs: Some(jobs),
            threads: Vec::new(),
            spare: Vec::new(),
        };
        for number in 0..threads.max(1) {
            let (task, queue) = (task.clone(), Arc::clone(&queue));
            let thread = thread::Builder::new().name(format!("gradients-{number}"));
            engine.threads.push(thread.spawn(move || work(&task, &queue))?);
        }
        Ok(engine)
    }
}

impl Gradients for Engine {
    type Begun = Pending;

    fn begin(&mut self, name: GradientName, model: Arc<[f32]>) -> Pending {
        let key = MinibatchKey {
            run_seed: self.run_seed,
            session: name.session.0,
            ml_module: u32::from(name.ml_module),
            step: name.step,
        };
        let (done, pending) = sync_channel(1);
        let gradient = self.spare.pop().unwrap_or_else(|| vec![0.0; self.parameters]);
        if let Some(jobs) = &self.jobs {
            // If all threads have died, `finish` says so.
            let _ = jobs.send(Job {
                key,
                model,
                gradient,
                done,
            });
        }
        Pending(pending)
    }

    fn finish<R>(&mut self, begun: Pending, take: impl FnOnce(&mut [f32], Outcome) -> R) -> R {
        let Ok(Done { mut gradient, outcome }) = begun.0.recv() else {
            panic!("a thread that computes gradients has died; it has said above why");
        };
        let taken = take(&mut gradient, outcome);
        self.spare.push(gradient);
        taken
    }

    fn local_optimizer(&self) -> Option<Box<dyn LocalOptimizer>> {
        let inner = |spec| InnerOptimizer::new(spec, self.parameters);
        self.local_steps
            .as_ref()
            .map(|spec| Box::new(inner(spec)) as Box<dyn LocalOptimizer>)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that has died has said why.
            let _ = thread.join();
        }
    }
}

/// Computes gradients until the engine is dropped. It owns all its memory, which is allocated here.
fn work(task: &Task, queue: &Mutex<Receiver<Job>>) {
    let mut scratch = task.model.scratch(task.minibatch);
    let mut buffer = MinibatchBuffer::new(&task.format, task.minibatch);
    loop {
        // The thread that waits for a job holds the lock, and frees it before it computes the gradient.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job {
            key,
            model,
            mut gradient,
            done,
        }) = job
        else {
            return;
        };
        let outcome = match draw(&key, &task.shards, task.minibatch, &mut buffer) {
            Some(minibatch) => {
                let outcome = task.model.gradient(&model, &minibatch, &mut gradient, &mut scratch);
                Outcome {
                    samples: outcome.samples as u32,
                    loss_sum: outcome.loss_sum,
                }
            }
            // As in `volunteer::engine::CpuEngine`: a run without samples has nothing to add.
            None => {
                gradient.fill(0.0);
                Outcome {
                    samples: 0,
                    loss_sum: 0.0,
                }
            }
        };
        // If its tab was closed, the gradient is not awaited any more.
        let _ = done.send(Done { gradient, outcome });
    }
}
