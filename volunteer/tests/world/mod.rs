//! A volunteer's loop with a driver and a server that are played by the test, in virtual time.

// Each test binary uses a part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use bsp::ml_module::{MlModule, Turn};
use bsp::protocol::codec::Codec;
use bsp::protocol::message::{Ack, FromCentral, FromVolunteer, Mode, PROTOCOL, Refusal, SessionId, Token, Welcome};
use bsp::shared_memory::ModelStamp;
use bsp::time::Time;
use bytes::Bytes;
use nn::Model;
use nn::data::sample_format::{ContentFormat, SampleFormat};
use nn::data::shard::Shard;
use nn::spec::ModelSpec;
use volunteer::action::{Action, Ending};
use volunteer::description::{DatasetDescription, MemoryNeed, RunDescription};
use volunteer::engine::CpuEngine;
use volunteer::fetch::{FetchError, Resource};
use volunteer::messages::{State, Told};
use volunteer::settings::Settings;
use volunteer::volunteer_loop::VolunteerLoop;

pub const ML_MODULES: usize = 3;
pub const PERIOD: Duration = Duration::from_millis(100);

/// Two of three ML modules compute.
pub fn settings() -> Settings {
    Settings {
        ml_modules: ML_MODULES,
        active: 2,
        cpu_percent: 100,
        is_paused: false,
        seed: 7,
        vain_starts: 0,
        restarts_here: true,
    }
}

/// Shard `index` of the run: eight samples of four bytes.
pub fn shard(index: u8) -> Shard {
    let inputs = (0..32).map(|byte| byte * 3 + index).collect();
    Shard::bytes(2, 4, inputs, vec![0, 1, 0, 1, 0, 1, 0, 1]).unwrap()
}

/// A run of two shards and a model of ten parameters.
pub fn description() -> RunDescription {
    let model: ModelSpec = serde_json::from_value(serde_json::json!({
        "input": [4],
        "layers": [{ "kind": "linear", "outputs": 2 }],
    }))
    .unwrap();
    let built = Model::new(&model).unwrap();
    RunDescription {
        protocol: PROTOCOL,
        run: 11,
        spec_hash: model.hash(),
        name: "two shards".to_owned(),
        description: String::new(),
        mode: Mode::Decoupled,
        local_steps: None,
        seed: 5,
        minibatch: 4,
        superstep_samples: 64,
        max_read_out_samples: 16,
        target_accuracy: None,
        target_loss: None,
        kiosk: false,
        parameters: built.parameter_count(),
        model,
        dataset: DatasetDescription {
            format: SampleFormat {
                shape: vec![4],
                content: ContentFormat::Bytes {
                    scale: 1.0 / 255.0,
                    shift: 0.0,
                    classes: 2,
                },
            },
            samples: 16,
            test_samples: 0,
            shards: vec![shard(0).name(), shard(1).name()],
        },
        memory: MemoryNeed {
            tab_bytes: 0,
            ml_module_bytes: 0,
        },
    }
}

pub fn description_bytes() -> Vec<u8> {
    serde_json::to_vec(&description()).unwrap()
}

/// The loop, the actions that it has asked for since they were last looked at, and the ML modules that it has started.
pub struct World {
    pub volunteer: VolunteerLoop,
    pub now: Time,
    pub actions: Vec<Action>,
    pub ml_modules: Vec<MlModule<CpuEngine>>,
}

impl World {
    /// A loop that has begun.
    pub fn new(settings: Settings) -> World {
        let mut world = World {
            volunteer: VolunteerLoop::new(settings),
            now: Time::ZERO,
            actions: Vec::new(),
            ml_modules: Vec::new(),
        };
        world.volunteer.start(&mut world.actions);
        world
    }

    /// One that has its description, and opens its socket.
    pub fn connecting(settings: Settings) -> World {
        let mut world = World::new(settings);
        world.answer(Resource::Description, Ok(&description_bytes()));
        world
    }

    /// One that has a session, a model and both shards.
    pub fn training(settings: Settings) -> World {
        let mut world = World::connecting(settings);
        world.welcome();
        world.answer_shards();
        world
    }

    pub fn on<T>(&mut self, event: impl FnOnce(&mut VolunteerLoop, Time, &mut Vec<Action>) -> T) -> T {
        event(&mut self.volunteer, self.now, &mut self.actions)
    }

    pub fn answer(&mut self, resource: Resource, outcome: Result<&[u8], FetchError>) {
        self.on(|volunteer, now, actions| volunteer.on_fetched(now, &resource, outcome, actions));
    }

    /// Every shard that is asked for is there.
    pub fn answer_shards(&mut self) {
        while let Some(resource) = self.take_fetches().pop() {
            let Resource::Shard { index, .. } = resource else {
                panic!("{resource:?}")
            };
            let bytes = shard(index as u8).encode();
            self.answer(resource, Ok(&bytes));
        }
    }

    pub fn frame(&mut self, message: &FromCentral) {
        self.bytes(&message.encode());
    }

    pub fn bytes(&mut self, frame: &Bytes) {
        self.on(|volunteer, now, actions| volunteer.on_frame(now, frame, actions));
    }

    /// The socket opens, the server says welcome and sends a model.
    pub fn welcome(&mut self) {
        self.on(|volunteer, now, actions| volunteer.on_open(now, actions));
        self.frame(&FromCentral::Welcome(Welcome {
            session: SessionId(21),
            token: Token(22),
            period_us: PERIOD.as_micros() as u64,
            settled: 0,
            durable: 0,
            is_last_refused: false,
            codec: Codec::F32,
        }));
        let stamp = ModelStamp {
            incarnation: 1,
            version: 1,
        };
        self.bytes(&FromCentral::encode_model(stamp, &[0.1; 10]));
    }

    pub fn refuse(&mut self, refusal: Refusal) {
        self.frame(&FromCentral::Refused(refusal));
    }

    /// The first contribution is accepted.
    pub fn accept(&mut self) {
        self.frame(&FromCentral::Ack(Ack {
            through: 1,
            durable: 1,
            refused: None,
        }));
    }

    /// Each started ML module computes a gradient.
    pub fn compute(&mut self) {
        self.take_ml_modules();
        for ml_module in &mut self.ml_modules {
            assert_eq!(ml_module.turn(&mut || Time::ZERO), Turn::Computed);
        }
    }

    /// Goes to the next time-out, if one is asked for.
    pub fn next_timeout(&mut self) -> Option<Time> {
        let due = self.volunteer.next_timeout(self.now)?;
        self.now = self.now.max(due);
        self.on(|volunteer, now, actions| volunteer.on_timeout(now, actions));
        Some(due)
    }

    /// Goes on by this time, with all time-outs on the way.
    pub fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.volunteer.next_timeout(self.now).is_some_and(|due| due <= until) {
            self.next_timeout();
        }
        self.now = until;
    }

    fn take<T>(&mut self, mut pick: impl FnMut(Action) -> Result<T, Action>) -> Vec<T> {
        let mut taken = Vec::new();
        let mut rest = Vec::with_capacity(self.actions.capacity());
        for action in self.actions.drain(..) {
            match pick(action) {
                Ok(found) => taken.push(found),
                Err(action) => rest.push(action),
            }
        }
        self.actions = rest;
        taken
    }

    pub fn take_fetches(&mut self) -> Vec<Resource> {
        self.take(|action| match action {
            Action::Fetch(resource) => Ok(resource),
            other => Err(other),
        })
    }

    pub fn take_ml_modules(&mut self) -> Vec<usize> {
        let started = self.take(|action| match action {
            Action::StartMlModule { number, ml_module } => Ok((number, ml_module)),
            other => Err(other),
        });
        let (numbers, ml_modules): (Vec<_>, Vec<_>) = started.into_iter().unzip();
        self.ml_modules
            .extend(ml_modules.into_iter().map(|ml_module| *ml_module));
        numbers
    }

    pub fn take_told(&mut self) -> Vec<Told> {
        self.take(|action| match action {
            Action::Tell(told) => Ok(told),
            other => Err(other),
        })
    }

    pub fn take_states(&mut self) -> Vec<State> {
        self.take_told().into_iter().map(|told| told.state).collect()
    }

    pub fn take_log(&mut self) -> Vec<String> {
        self.take(|action| match action {
            Action::Log(_, line) => Ok(line.into_owned()),
            other => Err(other),
        })
    }

    pub fn take_endings(&mut self) -> Vec<Ending> {
        self.take(|action| match action {
            Action::End(ending) => Ok(ending),
            other => Err(other),
        })
    }

    pub fn take_connects(&mut self) -> usize {
        self.take(|action| match action {
            Action::Connect { .. } => Ok(()),
            other => Err(other),
        })
        .len()
    }

    pub fn take_sent(&mut self) -> Vec<FromVolunteer> {
        self.take(|action| match action {
            Action::Send(frame) => Ok(FromVolunteer::decode(&frame).unwrap().message),
            other => Err(other),
        })
    }

    pub fn take_contributions(&mut self) -> Vec<u64> {
        self.take(|action| match action {
            Action::SendContribution { sequence } => Ok(sequence),
            other => Err(other),
        })
    }
}
