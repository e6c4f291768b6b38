//! Whole runs of Superstep in virtual time.
//!
//! All that decides is real: the central and local BSP modules, the shared memory between them and the ML modules, the
//! model, its gradients and its optimizer. Made up, from a seed, are the machines, their links and their owners. The same
//! seed gives the same bits, on every machine and on any number of threads: nothing here reads a clock, and nothing depends
//! on a hash map's order or the platform's mathematics.
//!
//! - [`world`]: the virtual clock, the events, and what can be asked of a run; [`driving`](self): what each event does.
//! - [`tab`], [`ml_module`]: a volunteer's tab, on a machine of its own speed.
//! - [`faults`](self): what can befall tabs and links.
//! - [`gradients`]: what computes gradients; [`engine`]: `nn` does, on a pool of threads.
//! - [`volunteers`]: whole populations, drawn from a seed: how fast, how far away, when they come and go.
//! - [`books`]: what was computed, what became of it, what it took.
//! - [`run`]: a run to its end, with its evaluations.
//! - [`observer`]: who looks on; `bsp`'s own tests do, and check with every event what must always be so.

mod alarm;
pub mod books;
mod driving;
pub mod engine;
mod faults;
pub mod gradients;
mod link;
pub mod ml_module;
pub mod observer;
mod queue;
pub mod random;
pub mod run;
pub mod tab;
pub mod volunteers;
pub mod world;

pub use books::Books;
pub use gradients::{GradientName, Gradients};
pub use observer::{Nobody, Observer};
pub use tab::Machine;
pub use world::World;
