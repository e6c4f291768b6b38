//! Whole runs of Superstep in virtual time.
//!
//! All that decides is real: the central and local BSP modules, the shared memory between them and the ML modules, the
//! model, its gradients and its optimizer. The machines, their links and their owners are made up from a seed. The same
//! seed gives the same bits, on every machine and on any number of threads: nothing here reads a clock, and nothing
//! depends on a hash map's order or the platform's mathematics.
//!
//! - [`world`]: the virtual clock, the events, and a run's queries; [`driving`](self): the effect of each event.
//! - [`tab`], [`ml_module`]: a volunteer's tab, on a machine of its own speed.
//! - [`faults`](self): faults of tabs and links.
//! - [`fault_run`]: a run with all of these, drawn from its seed, whose invariants are checked after each event.
//! - [`server`]: the server's process, which crashes and starts again; [`disk`]: what it keeps its run on, and that
//!   disk's faults.
//! - [`gradients`]: the computing of gradients; [`engine`]: by `nn`, on a pool of threads.
//! - [`small_model`]: a model of a few parameters whose gradients follow from their names.
//! - [`volunteers`]: whole populations, drawn from a seed: their speeds, their links, their comings and goings.
//! - [`run_stats`]: the statistics of a run.
//! - [`run`]: a run to its end, with its evaluations.
//! - [`observer`]: tests look on, and check with every event what must always hold.
//!
//! # Example
//!
//! A whole run: two volunteers pull a model of two parameters to (3, 3), and one of them crashes.
//!
//! ```
//! # use std::sync::Arc;
//! # use std::time::Duration;
//! # use bsp::central::{Config, OptimizerMemory, RecordError, ServerOptimizer};
//! # use bsp::ml_module::Outcome;
//! # use bsp::protocol::message::RunId;
//! # use simulator::{GradientName, Gradients, Machine, Nobody, World};
//! # struct Sgd;
//! # impl ServerOptimizer for Sgd {
//! #     fn step(&mut self, model: &mut [f32], gradient: &[f32], _: u64, factor: f32) {
//! #         model.iter_mut().zip(gradient).for_each(|(parameter, slope)| *parameter -= 0.3 * factor * slope);
//! #     }
//! #     fn record(&self) -> OptimizerMemory { OptimizerMemory::default() }
//! #     fn load(&mut self, _: OptimizerMemory) -> Result<(), RecordError> { Ok(()) }
//! # }
//! /// Gradients of |x − 3|² / 2, each of 8 samples.
//! struct Quadratic;
//! impl Gradients for Quadratic {
//!     type Begun = Arc<[f32]>;
//!     fn begin(&mut self, _: GradientName, model: Arc<[f32]>) -> Arc<[f32]> { model }
//!     fn finish<R>(&mut self, model: Arc<[f32]>, take: impl FnOnce(&mut [f32], Outcome) -> R) -> R {
//!         let mut sum: Vec<f32> = model.iter().map(|x| 8.0 * (x - 3.0)).collect();
//!         take(&mut sum, Outcome { samples: 8, loss_sum: 0.0 })
//!     }
//! }
//! let mut world = World::new(1, Config::new(RunId(1), 2), vec![0.0; 2], Box::new(Sgd), Quadratic, Nobody);
//! let [_stays, crashes] = [world.join(Machine::default()), world.join(Machine::default())];
//! world.run_for(Duration::from_secs(10));
//! world.crash(crashes);
//! world.run_for(Duration::from_secs(10));
//! assert!(world.central.model().iter().all(|x| (x - 3.0).abs() < 0.01));
//! let stats = world.stats();
//! assert_eq!(stats.computed, stats.accepted + stats.refused + stats.lost + stats.still_there);
//! ```

pub mod damage;
pub mod disk;
mod driving;
#[cfg(feature = "engine")]
pub mod engine;
pub mod fault_run;
mod faults;
pub mod gradients;
mod link;
pub mod ml_module;
pub mod observer;
mod queue;
pub mod random;
pub mod run;
pub mod run_stats;
pub mod server;
pub mod small_model;
pub mod tab;
mod timer;
pub mod volunteers;
pub mod world;

pub use gradients::{GradientName, Gradients};
pub use observer::{Nobody, Observer};
pub use run_stats::RunStats;
pub use tab::Machine;
pub use world::World;
