//! The parts of one volunteer, made of a run's description.

use std::sync::Arc;

use bsp::local::{self, Local};
use bsp::ml_module::MlModule;
use bsp::ml_module::working_copy::LocalOptimizer;
use bsp::protocol::message::{PROTOCOL, RunId, SessionId};
use bsp::shared_memory::{MlSide, shared_memory};
use bsp::time::Time;
use nn::Model;
use nn::data::samples::{Samples, SamplesError};
use nn::data::shard::{Shard, ShardError};

use crate::description::{MemoryNeed, RunDescription};
use crate::engine::CpuEngine;
use crate::local_steps::{InnerOptimizer, LocalSteps};
use crate::next_shard::NextShard;

/// One volunteer's parts. The local BSP module is handed out at the start and the ML modules when a session is open;
/// the samples fill up in the meantime.
pub(crate) struct Membership {
    description: RunDescription,
    model: Arc<Model>,
    ml_sides: Vec<Option<MlSide>>,
    samples: Option<Arc<Samples>>,
    next_shard: NextShard,
    lost_shards: usize,
}

/// Why a volunteer can't be made of a description, or of what it fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MembershipError {
    /// The description isn't one.
    #[error(
        "the server's description of the run can't be read: {0}; \
         reload the page, or take the volunteer of this server's version"
    )]
    Description(#[from] serde_json::Error),
    /// The server speaks another protocol.
    #[error(
        "the server speaks protocol {theirs}, this volunteer {PROTOCOL}; \
         reload the page, or take the volunteer of this server's version"
    )]
    Protocol {
        /// The server's.
        theirs: u16,
    },
    /// The model can't be built.
    #[error("the run's model: {0}")]
    Model(#[from] nn::SpecError),
    /// The model that was built is not the server's.
    #[error(
        "the model that this volunteer builds is not the one that the server trains; \
         reload the page, or take the volunteer of this server's version"
    )]
    AnotherModel,
    /// A shard can't be read.
    #[error("shard {name}: {error}")]
    Shard {
        /// Its name.
        name: String,
        /// What is wrong with it.
        error: ShardError,
    },
    /// A shard does not fit.
    #[error(transparent)]
    Samples(#[from] SamplesError),
}

impl Membership {
    /// Reads the JSON that describes a run, and makes the parts of a volunteer with `ml_modules` ML modules.
    ///
    /// # Errors
    /// A description that isn't one, or of a server that this volunteer does not fit.
    pub(crate) fn new(
        now: Time,
        description: &[u8],
        ml_modules: usize,
        jitter_seed: u64,
    ) -> Result<(Membership, Local), MembershipError> {
        let description: RunDescription = serde_json::from_slice(description)?;
        if description.protocol != PROTOCOL {
            return Err(MembershipError::Protocol {
                theirs: description.protocol,
            });
        }
        let model = Model::new(&description.model)?;
        if model.spec().hash() != description.spec_hash || model.parameter_count() != description.parameters {
            return Err(MembershipError::AnotherModel);
        }
        let (memory, ml_sides) = shared_memory(model.parameter_count(), ml_modules);
        let config = local::Config {
            run: RunId(description.run),
            spec_hash: description.spec_hash,
            mode: description.mode,
            has_local_steps: description.local_steps.is_some(),
            max_read_out_gradients: description
                .max_read_out_samples
                .div_ceil(description.minibatch.max(1) as u64),
            jitter_seed,
        };
        let local = Local::new(now, config, memory);
        let ml_sides = ml_sides.into_iter().map(Some).collect();
        Ok((
            Membership {
                description,
                model: Arc::new(model),
                ml_sides,
                samples: None,
                next_shard: NextShard::default(),
                lost_shards: 0,
            },
            local,
        ))
    }

    /// The run's description.
    pub(crate) fn description(&self) -> &RunDescription {
        &self.description
    }

    /// A session is open: minibatches are drawn by its number, and shards can be fetched.
    pub(crate) fn on_session_opened(&mut self, session: SessionId) {
        let dataset = &self.description.dataset;
        let samples = Samples::new(
            dataset.format.clone(),
            dataset.shards.len(),
            self.description.seed,
            session.0,
        );
        self.next_shard = NextShard::new(samples.fetch_order(self.ml_sides.len() as u32));
        self.samples = Some(Arc::new(samples));
    }

    /// Starts the fetch of the next shard, if it is time for one; to be called after every event. Until the answer to
    /// it, [`Membership::store_shard`] or [`Membership::give_up_shard`], there is no other.
    pub(crate) fn start_next_fetch(&mut self) -> Option<usize> {
        self.next_shard.start(self.samples.as_ref()?.furthest_window())
    }

    /// The name under which the server has this shard.
    pub(crate) fn shard_name(&self, index: usize) -> Option<&str> {
        self.description.dataset.shards.get(index).map(String::as_str)
    }

    /// A shard has arrived. ML modules draw from it from now on.
    ///
    /// # Errors
    /// Bytes that are no shard, or none of this run: then it is to be given up.
    pub(crate) fn store_shard(&mut self, index: usize, bytes: &[u8]) -> Result<(), MembershipError> {
        let name = || self.shard_name(index).unwrap_or_default().to_owned();
        let shard = Shard::decode(bytes).map_err(|error| MembershipError::Shard { name: name(), error })?;
        if let Some(samples) = &self.samples {
            samples.set(index, shard)?;
        }
        self.next_shard.on_ended();
        Ok(())
    }

    /// A shard could not be fetched, or not be used. The volunteer goes on without it, if there are others.
    pub(crate) fn give_up_shard(&mut self) {
        self.next_shard.on_ended();
        self.lost_shards += 1;
    }

    /// Whether every shard was given up: nothing can be computed.
    pub(crate) fn has_lost_all_shards(&self) -> bool {
        self.lost_shards >= self.description.dataset.shards.len()
    }

    /// The ML module `ml_module`, ready to run on a thread of its own. There is one of each, once a session is open.
    pub(crate) fn ml_module(&mut self, ml_module: usize) -> Option<MlModule<CpuEngine>> {
        let samples = Arc::clone(self.samples.as_ref()?);
        let memory = self.ml_sides.get_mut(ml_module)?.take()?;
        let engine = CpuEngine::new(
            Arc::clone(&self.model),
            samples,
            u32::try_from(ml_module).ok()?,
            self.description.minibatch,
            self.description.mode,
        );
        let local_steps = self.description.local_steps.as_ref().map(|spec| {
            let inner = InnerOptimizer::new(spec, self.description.parameters);
            Box::new(inner) as Box<dyn LocalOptimizer>
        });
        Some(MlModule::new(memory, self.description.mode, local_steps, engine))
    }
}

/// What a tab needs for a model and `sample_bytes` of samples; docs/internals/shared-memory.md counts the vectors.
pub fn memory_need(model: &Model, minibatch: usize, sample_bytes: u64, local_steps: Option<&LocalSteps>) -> MemoryNeed {
    /// Code, its data and stack, and what the allocator loses; measured at a fraction of this.
    const TAB: u64 = 16 << 20;
    /// An ML worker's stack and thread-local storage.
    const ML_MODULE: u64 = 2 << 20;
    const FLOAT: u64 = 4;
    let parameters = model.parameter_count() as u64 * FLOAT;
    let inputs = (minibatch * (model.inputs() + 1)) as u64 * FLOAT;
    MemoryNeed {
        tab_bytes: TAB
            + sample_bytes
            + sample_bytes / 8
            + parameters * (7 + local::kept_contributions(model.parameter_count()) as u64),
        ml_module_bytes: ML_MODULE
            + (4 + local_steps.map_or(0, LocalSteps::vectors)) * parameters
            + inputs
            + model.scratch_bytes(minibatch) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tab_asks_for_as_much_memory_as_its_shared_memory_and_all_that_it_can_keep_take() {
        for outputs in [2, 100, 10_000, 1_000_000] {
            let spec = serde_json::json!({ "input": [4], "layers": [{ "kind": "linear", "outputs": outputs }] });
            let model = Model::new(&serde_json::from_value(spec).unwrap()).unwrap();
            let (parameters, ml_modules) = (model.parameter_count() as u64, 3);
            let need = memory_need(&model, 16, 0, None);
            let kept = local::kept_contributions(parameters as usize) as u64;
            // Slots, aggregates, a gradient for each; the contributions, their sum, and what its encoding loses.
            let vectors = (ml_modules + 2) + 2 * ml_modules + ml_modules + kept + 2;
            let asked = need.tab_bytes + ml_modules * need.ml_module_bytes;
            assert!(asked >= vectors * parameters * 4, "{outputs} outputs");
            let kept_bytes = kept * parameters * 4;
            assert!(
                kept == 4 || kept_bytes <= 8 << 20,
                "{kept} contributions of {parameters} parameters"
            );
            assert!(
                asked < 50 << 20 || kept == 4,
                "a small model asks for little: {asked} bytes"
            );
        }
    }
}
